"""What a person reads of a rollout: each metric by its name, and what is the same only once."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from io import StringIO

from rich.console import Console

from fairlead.cli.rollouts import shown
from fairlead.client.registered import Rollout, RolloutEvent

NOTHING = "The candidate has answered no request yet."
NOW = datetime(2026, 11, 21, 19, 21, 56, tzinfo=UTC)


def verdict(metric: str, result: str, sentence: str) -> dict[str, str]:
    return {"metric": metric, "result": result, "sentence": sentence}


def rollout(*verdicts: dict[str, str], waiting: tuple[str, ...] = ()) -> Rollout:
    return Rollout(
        id="2b4e8cdc0065", model="shop", stable="v1", candidate="v2", state="canary", strategy="canary",
        step=0, steps=({"weight": 5.0, "mirror": 0.0},), started_at=NOW, entered_at=NOW, updated_at=NOW,
        weights={"v1": 95.0, "v2": 5.0}, judgement={"verdicts": list(verdicts), "waiting": list(waiting)},
        journal=(
            RolloutEvent(
                revision=1, at=NOW, from_state="canary", to_state="rolled_back", step=0, generation=3,
                who="control-vm-1", reason="error_rate is [worse].",
            ),
        ),
    )  # fmt: skip


def read(one: Rollout, width: int = 100) -> list[str]:
    console = Console(file=StringIO(), width=width, highlight=False)
    for line in shown(one):
        console.print(line)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_metrics_of_which_the_same_is_said_stand_together_under_their_names() -> None:
    lines = read(rollout(verdict("error_rate", "no-data", NOTHING), verdict("p99", "no-data", NOTHING)))
    assert [line for line in lines if NOTHING in line] == [f"  … error_rate, p99: {NOTHING}"]


def test_a_sign_tells_what_passes_fails_and_cannot_be_told() -> None:
    lines = read(
        rollout(
            verdict("error_rate", "fail", "error_rate is 5 %."),
            verdict("p99", "pass", "p99 is 3 ms."),
            verdict("bought", "inconclusive", "bought is 0.1."),
            waiting=("The step has been watched for 4 s of at least 600.",),
        )
    )
    assert "  ✗ error_rate is 5 %." in lines
    assert "  ✓ p99 is 3 ms." in lines
    assert "  ? bought is 0.1." in lines
    assert "  … The step has been watched for 4 s of at least 600." in lines


def test_a_long_sentence_stays_behind_its_sign_in_a_narrow_terminal() -> None:
    lines = read(rollout(verdict("p99", "pass", "p99 is much better than control's, and that is sure")), 30)
    begun = next(number for number, line in enumerate(lines) if "✓" in line)
    assert lines[begun + 1].startswith("    ")
    assert all(len(line) <= 30 for line in lines)


def test_the_journal_says_states_in_words_and_reasons_as_they_were_written() -> None:
    last = read(rollout())[-1]
    assert re.split(" {3,}", last) == [
        "2026-11-21 19:21:56",
        "rolled back",
        "1",
        "control-vm-1",
        "error_rate is [worse].",
    ]
