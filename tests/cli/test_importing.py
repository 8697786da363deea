"""Outcomes from a file: read line by line, sent in portions, resumed where they stopped."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairlead.cli.importing import PORTION, read_outcomes
from fairlead.cli.main import fairlead
from fairlead.errors import MalformedRequest
from tests.client.listening import Answer, Asked, listening, problem


def accepting(asked: Asked) -> Answer:
    return Answer(200, {"accepted": len(asked.document)})


def test_json_lines_and_csv_give_the_same_outcomes(tmp_path: Path) -> None:
    events = [
        {"request_id": "r-1", "metric": "conversion", "value": 1.0, "row": 2},
        {"unit": "Zoë", "metric": "label", "value": "churned", "at": "2026-01-02T03:04:05Z"},
        {"unit": "u,\n2", "metric": "revenue", "value": -0.5, "mode": "add", "outcome_id": "o-1"},
    ]
    lines = tmp_path / "outcomes.jsonl"
    lines.write_text("\n".join(json.dumps(event) for event in events) + "\n\n", "utf-8")
    table = tmp_path / "outcomes.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(
            stream, ["request_id", "unit", "row", "metric", "value", "at", "mode", "outcome_id"]
        )
        writer.writeheader()
        writer.writerows(events)
    assert [line.event for line in read_outcomes(lines)] == events
    assert [line.event for line in read_outcomes(table)] == events
    assert list(read_outcomes(lines))[-1].number == 3
    assert list(read_outcomes(table))[-1].end == table.stat().st_size


def test_numbers_may_be_names_of_requests(tmp_path: Path) -> None:
    table = tmp_path / "outcomes.csv"
    table.write_text("﻿request_id,metric,value,at\n007,label,1,1700000000\n", "utf-8")
    (line,) = read_outcomes(table)
    assert line.event == {"request_id": "007", "metric": "label", "value": 1.0, "at": 1.7e9}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"metric": "m"}\nnonsense\n'),
        ("a.jsonl", b"{}\n[1, 2]\n"),
        ("a.jsonl", b'{}\n{"a": \xff}\n'),
        ("a.csv", b"metric,value\nm,1\nm\n"),
        ("a.csv", b"metric,value\nm,1\nm,1,2\n"),
        ("a.csv", b'metric,value\nm,1\n"m,1\n'),
        ("a.csv", b"metric,value\nm,1\n\xff,1\n"),
    ],
)
def test_a_broken_line_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MalformedRequest):
        list(read_outcomes(tmp_path / name))


def test_a_long_file_goes_in_portions_per_model(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.jsonl"
    lines = [
        {"model": "a" if n < PORTION + 5 else "b", "unit": "u", "metric": "m", "value": n}
        for n in range(PORTION + 9)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    with listening(accepting) as server:
        result = CliRunner().invoke(
            fairlead, ["outcomes", "import", str(file), "--url", server.url, "--json"]
        )
    assert json.loads(result.stdout) == {"accepted": PORTION + 9}
    assert [(asked.path, len(asked.document)) for asked in server.asked] == [
        ("/v1/models/a/outcomes", PORTION),
        ("/v1/models/a/outcomes", 5),
        ("/v1/models/b/outcomes", 4),
    ]
    assert "model" not in server.asked[0].document[0]


def test_a_refused_portion_says_from_which_line_to_go_on(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.jsonl"
    file.write_text(
        "\n".join(json.dumps({"unit": "u", "metric": "m", "value": n}) for n in range(PORTION + 3))
    )

    def refuse_second(asked: Asked) -> Answer:
        if asked.document[0]["value"] == PORTION:
            return problem(400, "malformed_request", "Outcome 1 has no value.", remedy="Give one.")
        return accepting(asked)

    arguments = ["outcomes", "import", str(file), "--model", "shop"]
    with listening(refuse_second) as server:
        result = CliRunner().invoke(fairlead, [*arguments, "--url", server.url])
    assert result.exit_code == 1
    assert f"Lines {PORTION + 1} to {PORTION + 3}: Outcome 1 has no value." in result.stderr
    assert f"{PORTION} outcomes before it were accepted" in result.stderr
    assert f"--from-line {PORTION + 1}" in result.stderr
    with listening(accepting) as server:
        again = [*arguments, "--url", server.url, "--from-line", str(PORTION + 1)]
        result = CliRunner().invoke(fairlead, again)
    assert "3 outcomes accepted" in result.stdout
    assert len(server.asked) == 1


def test_a_line_without_a_model_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.jsonl"
    file.write_text('{"unit": "u", "metric": "m", "value": 1}\n')
    with listening(accepting) as server:
        result = CliRunner().invoke(fairlead, ["outcomes", "import", str(file), "--url", server.url])
    assert result.exit_code == 1
    assert "--model" in result.stderr
    assert server.asked == []
