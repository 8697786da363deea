"""Percents as people write them: 5, 5% and 5 %."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["PERCENT", "percent_of"]


class _Percent(click.ParamType[float]):
    """A number of percent; the server says which numbers it takes."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return percent_of(str(value))
        except ValueError:
            self.fail(f"{value!r} is no number of percent, such as 5.", param, ctx)


PERCENT = _Percent()
"""The type of an option or argument in percent."""


def percent_of(text: str) -> float:
    """The number in a text such as "5 %". Raises ValueError where there is none."""
    return float(text.strip().removesuffix("%"))
