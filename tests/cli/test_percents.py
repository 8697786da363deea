"""Percents are read as people write them."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from fairlead.cli.main import fairlead
from fairlead.cli.percents import percent_of


@pytest.mark.parametrize("text", ["5", "5%", " 5 % ", "5.0"])
def test_a_percent_may_have_its_sign(text: str) -> None:
    assert percent_of(text) == 5.0


@pytest.mark.parametrize("text", ["five", "", "5%%"])
def test_what_is_no_number_is_wrong_usage(text: str) -> None:
    refused = CliRunner().invoke(fairlead, ["deploy", "shop", "v2", "--weight", text])
    assert refused.exit_code == 2
    assert "is no number of percent, such as 5" in refused.stderr
