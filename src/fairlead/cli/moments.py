"""Points in time that people write as options."""

from __future__ import annotations

from datetime import UTC, datetime

import click

__all__ = ["moment"]


def moment(ctx: click.Context, parameter: click.Parameter, value: str | None) -> datetime:
    """A time with its zone, or in this machine's zone; now when none is given."""
    if value is None:
        return datetime.now(UTC)
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        example = "2026-11-20T14:30, or 2026-11-20T14:30:00Z"
        raise click.BadParameter(f"{value!r} is no time, as in {example}.") from error
