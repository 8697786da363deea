"""Tables fit the terminal: names and words stay whole, long texts are folded, narrow terminals get lists."""

from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from fairlead.cli.tables import sureness_text, table


def printed(shown: RenderableType, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(shown)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


ROWS = [
    ["2b4e8cdc0065", "2026-11-21 19:21:56", "control-vm-16173", "Its traffic is v1 95 %, v2 5 % from now on."]
]
COLUMNS = ["rollout", "when (UTC)", "by", "why"]


def test_a_table_that_fits_has_a_line_for_each_row() -> None:
    shown = printed(table(COLUMNS, ROWS), 120)
    assert len(shown) == 3
    assert shown[2].split("   ") == ROWS[0]


def test_the_longest_text_is_folded_between_words_and_names_stay_whole() -> None:
    shown = printed(table(COLUMNS, ROWS), 80)
    assert all(len(line) <= 80 for line in shown)
    words = " ".join(shown).split()
    assert all(word in words for cell in ROWS[0] for word in cell.split())


def test_a_terminal_too_narrow_for_the_words_gets_a_list_of_each_row() -> None:
    shown = printed(table(COLUMNS, [*ROWS, ["a", "b", "c", "d"]]), 40)
    assert all(len(line) <= 40 for line in shown)
    assert shown[0] == "rollout     2b4e8cdc0065"
    assert "" in shown
    assert shown[-1] == "why         d"


def test_a_long_digest_in_a_long_text_is_folded_and_does_not_cost_the_table() -> None:
    shown = printed(table(["run", "found"], [["7a16", "the digest " + "f" * 64]]), 40)
    assert shown[0].split() == ["run", "found"]
    assert "".join(shown).count("f") == 64 + 1  # "found"


def test_a_table_without_rows_has_its_head() -> None:
    assert printed(table(["version", "stage"], []), 30)[0].split() == ["version", "stage"]
    assert printed(table(["version", "stage"], []), 5)


def test_numbers_are_aligned_to_the_right() -> None:
    shown = printed(table(["arm", "n"], [["a", "1"], ["b", "1,000"]], right=["n"]), 40)
    assert shown[2].endswith("    1")
    assert shown[3].endswith("1,000")


@pytest.mark.parametrize("width", [12, 30, 60, 100])
@given(st.lists(st.lists(st.text("ab 1", max_size=60), min_size=3, max_size=3), max_size=4))
def test_nothing_that_a_cell_says_is_lost_at_any_width(width: int, rows: list[list[str]]) -> None:
    shown = "".join("".join(printed(table(["x", "y", "z"], rows), width)).split())
    for letter in "ab1":
        assert shown.count(letter) == sum(cell.count(letter) for row in rows for cell in row)


def test_how_sure_a_version_is_is_one_line_and_nothing_where_it_says_nothing() -> None:
    said = {"kind": "set", "quantile": 0.8, "n": 1_500, "coverage": 0.9, "optimistic": False}
    assert sureness_text({"uncertainty": None}) is None
    assert sureness_text({"uncertainty": said}) == (
        "sets of classes from 20.00% on, to hold 90% of labels, on 1,500 rows"
    )
    wide = {**said, "kind": "interval", "quantile": 3.0, "optimistic": True}
    assert sureness_text({"uncertainty": wide, "settings": {"adaptive_coverage": 0.01}}) == (
        "intervals ± 3, to hold 90% of labels, on 1,500 rows that the model may have learnt; "
        "they follow the labels"
    )
