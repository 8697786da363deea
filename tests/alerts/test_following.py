"""alerts.toml while control runs: taken when it changes, and left when it cannot be followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.alerts.following import Following
from fairlead.alerts.reading import Config
from fairlead.errors import InvalidAlerts
from tests.waiting import wait_until

STRICT = "[limits]\nerror_rate = 0.5\n"
BROKEN = "[limits]\neror_rate = 0.5\n"


class Desk:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "größe.toml"
        self.file.write_text("", "utf-8")
        self.following = Following(str(self.file))
        self.taken: list[Config] = []
        self.following._taken = (self.taken.append,)

    def write(self, text: str) -> None:
        """Replaces the file, as editors do."""
        other = self.file.with_suffix(".new")
        other.write_text(text, "utf-8")
        other.replace(self.file)

    @property
    def limit(self) -> float:
        return self.following.config.limits_for("shop").error_rate


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_change_is_taken_once_the_file_stands_still(desk: Desk) -> None:
    before = desk.limit
    desk.write(STRICT)
    desk.following.look()
    assert desk.limit == before, "somebody may be in the middle of writing it"
    for _ in range(3):
        desk.following.look()
    assert desk.limit == 0.5
    assert desk.taken == [desk.following.config], "once, and told of"
    assert desk.following.source.problem is None


def test_a_broken_file_keeps_what_was_in_force_and_says_what_is_wrong_until_it_is_mended(desk: Desk) -> None:
    desk.write(STRICT)
    desk.following.look(asked=True)
    since = desk.following.source.taken_at
    desk.write(BROKEN)
    for _ in range(3):
        desk.following.look()
    source = desk.following.source
    assert source.problem is not None
    assert "Did you mean 'error_rate'" in source.problem
    assert (desk.limit, source.taken_at, source.path) == (0.5, since, str(desk.file))
    assert len(desk.taken) == 1
    desk.write("")
    desk.following.look(asked=True)
    assert desk.following.source.problem is None
    assert desk.limit != 0.5


def test_a_file_that_is_gone_or_no_text_keeps_what_was_in_force(desk: Desk) -> None:
    desk.write(STRICT)
    desk.following.look(asked=True)
    desk.file.unlink()
    desk.following.look()
    desk.following.look()
    assert "cannot be read" in (desk.following.source.problem or "")
    desk.file.write_bytes(b"\xff\xfe\x00")
    desk.following.look(asked=True)
    assert "not valid TOML" in (desk.following.source.problem or "")
    assert desk.limit == 0.5


def test_one_that_is_broken_from_the_beginning_is_refused(desk: Desk) -> None:
    desk.write(BROKEN)
    with pytest.raises(InvalidAlerts, match="eror_rate"):
        Following(str(desk.file))


def test_without_a_name_a_file_that_appears_in_the_working_folder_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    following = Following("")
    following.look()
    Path("alerts.toml").write_text(STRICT)
    following.look()
    following.look()
    assert following.config.limits.error_rate == 0.5


def test_it_looks_by_itself_and_at_once_when_asked(desk: Desk) -> None:
    taken: list[Config] = []
    desk.write(STRICT)
    desk.following.start(taken.append)
    try:
        desk.following.ask()
        wait_until(lambda: taken, 20)
        desk.following.ask()  # the same once more
        wait_until(lambda: len(taken) == 2, 20)
    finally:
        desk.following.stop()
    assert [one.limits.error_rate for one in taken] == [0.5, 0.5]
