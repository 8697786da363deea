"""What a person reads of a rollout: each metric by its name, and what is the same only once."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from rich.console import Console

from fairlead.cli.rollouts import shown
from fairlead.client.registered import Rollout, RolloutEvent

NOTHING = "The candidate has answered no request yet."
NOW = datetime(2026, 11, 21, 19, 21, 56, tzinfo=UTC)


def verdict(metric: str, result: str, sentence: str, **numbers: Any) -> dict[str, Any]:
    return {"metric": metric, "result": result, "sentence": sentence, **numbers}


def rollout(*verdicts: dict[str, Any], waiting: tuple[str, ...] = ()) -> Rollout:
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


def test_each_metric_is_a_row_of_numbers_in_its_unit() -> None:
    lines = read(
        rollout(
            verdict(
                "error_rate", "inconclusive", "…", unit="share", canary=0.05, control=0.01, estimate=0.04,
                low=-0.02, high=0.1, margin=0.005, limit=0.01,
            ),
            verdict(
                "p50", "pass", "…", unit="seconds", relative=True, canary=0.0125, control=0.0125,
                estimate=0.0, low=-0.1, high=0.25, margin=0.5,
            ),
            verdict("revenue", "pass", "…", kind="goal", canary=12.5, control=11.0, estimate=1.5, high=4.0),
            verdict("agreement", "pass", "…", unit="share", canary=0.97, low=0.96, high=0.98, margin=0.05),
            verdict("output_shift", "pass", "…", unit="share", estimate=0.03, low=0.01, margin=0.25),
        ),
        80,
    )  # fmt: skip
    rows = [re.split(" {2,}", line.strip()) for line in lines if line.strip()[:1] in ("✓", "?")]
    assert rows == [
        ["?", "error_rate", "5 %", "1 %", "+4 (-2 … +10) pp", "0.5 pp", "1 %"],
        ["✓", "p50", "12.5 ms", "12.5 ms", "+0 (-10 … +25) %", "50 %"],
        ["✓", "revenue", "12.5", "11", "+1.5 (−∞ … +4)", "0"],
        ["✓", "agreement", "97 %", "96 … 98 %", "5 pp"],
        ["✓", "output_shift", "+3 (+1 … ∞) pp", "25 pp"],
    ]


def test_what_fails_and_what_has_no_numbers_is_said_in_words() -> None:
    lines = read(
        rollout(
            verdict("error_rate", "fail", "error_rate is 5 %.", unit="share", canary=0.05),
            verdict("bought", "error", "bought could not be measured: the log is away."),
            waiting=("The step has been watched for 4 s of at least 600.",),
        )
    )
    assert "  ✗ error_rate is 5 %." in lines
    assert "  · bought could not be measured: the log is away." in lines
    assert "  … The step has been watched for 4 s of at least 600." in lines


def test_a_long_sentence_stays_behind_its_sign_in_a_narrow_terminal() -> None:
    lines = read(
        rollout(verdict("p99", "no-data", "p99 is not known yet, since nobody was asked so far")), 30
    )
    begun = next(number for number, line in enumerate(lines) if "…" in line)
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
