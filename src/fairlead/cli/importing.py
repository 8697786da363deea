"""Outcomes from a file, sent in portions: a broken line costs little, and a long file shows progress."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fairlead.client.http import Client
from fairlead.errors import FairleadError, MalformedRequest

__all__ = ["import_outcomes", "read_outcomes"]

PORTION = 1_000
_NUMBERS = ("value", "at")


class Line(NamedTuple):
    """An outcome with the place where it stands; `end` is the position in bytes behind it."""

    number: int
    end: int
    event: dict[str, Any]


def import_outcomes(
    client: Client,
    file: Path,
    *,
    model: str | None,
    from_line: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Sends the file's outcomes, and answers how many were accepted.

    `advance` hears how many bytes of how many are done. Raises what the server says about the portion that it
    refused, with the lines that this is about and the line from which to go on.
    """
    accepted, resume, size = 0, from_line, file.stat().st_size
    lines = (line for line in read_outcomes(file) if line.number >= from_line)
    try:
        for (about, _), portion in itertools.groupby(_addressed(lines, model), key=lambda item: item[0]):
            sent = [line for _, line in portion]
            first, last = sent[0].number, sent[-1].number
            try:
                accepted += client.outcomes(about, [line.event for line in sent])
            except FairleadError as error:
                error.message = f"Lines {first} to {last}: {error.message}"
                raise
            resume = last + 1
            advance(sent[-1].end, size)
    except FairleadError as error:
        if accepted:
            error.message += f" The {accepted} outcomes before it were accepted."
            error.remedy = f"{error.remedy} Then go on with --from-line {resume}.".strip()
        raise
    return accepted


def _addressed(lines: Iterator[Line], model: str | None) -> Iterator[tuple[tuple[str, int], Line]]:
    """Each line under its model and the number of its portion; neighbours that share both go together."""
    last, count = "", 0
    for line in lines:
        about = line.event.pop("model", None) or model
        if not isinstance(about, str):
            raise MalformedRequest(
                f"Line {line.number} names no model.",
                remedy="Add a field `model` to each line, or use --model.",
            )
        count = count + 1 if about == last else 0
        last = about
        yield (about, count // PORTION), line


def read_outcomes(file: Path) -> Iterator[Line]:
    """The outcomes of a `.csv` file with a header, or else of a file with one JSON object per line."""
    return _csv(file) if file.suffix.lower() == ".csv" else _json_lines(file)


def _json_lines(file: Path) -> Iterator[Line]:
    position = 0
    with file.open("rb") as stream:
        for number, text in enumerate(stream, 1):
            position += len(text)
            if not text.strip():
                continue
            try:
                event = msgspec.json.decode(text, type=dict[str, Any])
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
                raise MalformedRequest(
                    f"Line {number} of {file.name!r} is no JSON object: {error}.",
                    remedy='Write one per line: {"request_id": "…", "metric": "conversion", "value": 1}.',
                ) from error
            yield Line(number, position, event)


def _csv(file: Path) -> Iterator[Line]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            position = 0

            def counted() -> Iterator[str]:
                nonlocal position
                for text in stream:
                    position += len(text.encode())
                    yield text

            reader = csv.DictReader(counted(), strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise MalformedRequest(
                        f"Line {reader.line_num} of {file.name!r} has not as many cells as the header.",
                        remedy="Correct that line.",
                    )
                yield Line(reader.line_num, position, _event(row))
    except (csv.Error, UnicodeDecodeError) as error:
        raise MalformedRequest(
            f"{file.name!r} is no CSV: {error}.", remedy="Save it as UTF-8 CSV."
        ) from error


def _event(row: dict[str, str]) -> dict[str, Any]:
    """The cells as an outcome: empty ones are absent, numbers are numbers where the field has them."""
    event: dict[str, Any] = {name: text for name, text in row.items() if text != ""}
    for name in _NUMBERS:
        if name in event:
            event[name] = _number(event[name])
    if "row" in event and event["row"].isdecimal():
        event["row"] = int(event["row"])
    return event


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
