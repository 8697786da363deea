"""A version that was in production lately comes back without steps; one that failed does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import InvalidRollout
from fairlead.rollouts import ledger
from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.ledger import Entry
from fairlead.rollouts.reading import preset
from tests.rollouts.running import ANN, STEPS, Shop

AGAIN = preset("blue-green", bake="2m")


@pytest.fixture
def shop(shop: Shop) -> Shop:
    shop.now = datetime.now(UTC)  # plans are dated by the true clock
    shop.rollouts = Rollouts(
        shop.database, shop.counters, shop.clock, registry=shop.registry, recent=timedelta(days=7)
    )
    return shop


def deployed(shop: Shop, version: str) -> None:
    shop.traffic().deploy("shop", version, ANN, strategy="direct")


def first_reason(shop: Shop, entry: Entry) -> str:
    with shop.database.read() as connection:
        return ledger.events(connection, entry.rollout.id)[0].reason


def test_a_version_that_was_in_production_lately_gets_everything_and_is_watched(shop: Shop) -> None:
    deployed(shop, "v2")
    entry = shop.start("v1", STEPS, again=AGAIN)
    assert (entry.rollout.state, shop.weights()) == ("baking", {"v1": 100.0})
    note = entry.rollout.note or ""
    assert note.startswith(f"'v1' was in production until {datetime.now(UTC):%Y-%m-%d}")
    assert note.endswith("so the steps are skipped.")
    assert first_reason(shop, entry) == note
    shop.serve(1_000, canary_errors=0, seconds=121)
    shop.first.look()
    assert shop.entry(entry.rollout.id).rollout.state == "succeeded"


@pytest.mark.parametrize(
    ("before", "more"),
    [
        (("v2", "back", "v3"), {"version": "v2"}),  # it was rolled back
        (("v2",), {"version": "v3"}),  # it never was in production
        (("v2",), {"version": "v1", "again": None}),  # somebody said how it begins
        (("v2",), {"version": "v1", "days": 8}),  # it was too long ago
    ],
    ids=["rolled back", "never there", "told how", "long ago"],
)
def test_every_other_version_takes_the_steps(shop: Shop, before: tuple[str, ...], more: Any) -> None:
    for version in before:
        if version == "back":
            shop.traffic().rollback("shop", ANN)
        else:
            deployed(shop, version)
    asked = {"again": AGAIN, "days": 0, **more}
    shop.now += timedelta(days=asked.pop("days"))
    entry = shop.start(spec=STEPS, **asked)
    assert (entry.rollout.state, entry.rollout.note) == ("canary", None)
    assert first_reason(shop, entry) == "It begins."


def test_a_candidate_that_comes_back_and_fails_is_rolled_back(shop: Shop) -> None:
    deployed(shop, "v2")
    deployed(shop, "v3")
    entry = shop.start("v2", STEPS, again=AGAIN)
    assert shop.weights() == {"v2": 100.0}
    shop.serve(1_000, canary_errors=100, seconds=5)
    shop.first.look()
    assert shop.entry(entry.rollout.id).rollout.state == "rolled_back"
    assert shop.weights() == {"v3": 100.0}
    assert shop.start("v2", STEPS, again=AGAIN).rollout.state == "canary", "it has failed since"


def test_a_rollout_without_a_way_back_is_refused_and_leaves_nothing_behind(
    shop: Shop, tmp_path: Path
) -> None:
    digest = shop.registry.spec("shop", "v1").manifest.files[0].sha256
    (stored,) = [path for path in (tmp_path / "artifacts").rglob("*") if path.name == digest]
    stored.write_bytes(b"cut")
    with pytest.raises(InvalidRollout, match=r"no way back: 'v1' of 'shop' .*'model.onnx' is missing"):
        shop.rollouts.start("shop", "v2", STEPS, ANN)
    stored.unlink()
    with pytest.raises(InvalidRollout, match="no way back"):
        shop.rollouts.start("shop", "v2", STEPS, ANN)
    assert shop.rollouts.of_model("shop") == []
