"""The status page: what a person sees of the data, in 80 columns, with and without colours."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fairlead.cli.screen import Bar, status_page
from fairlead.client.registered import (
    ArmShare,
    Gateway,
    GatewayModel,
    ModelStatus,
    Override,
    PlanRecord,
    Rollout,
    Status,
    VersionStatus,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def page(status: Status, width: int = 80, model: str | None = None, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, **options)
    console.print(status_page(status, model))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def gateway(name: str, active: int = 7, *, live: bool = True, **more: Any) -> Gateway:
    state = GatewayModel(prepared=active, active=active, **more)
    return Gateway(
        name=name, host="h", address="127.0.0.1:8000", live=live, started_at=NOW, heartbeat_at=NOW,
        models={"product-recommendations": state},
    )  # fmt: skip


def version(name: str, stage: str, weight: float, *arms: tuple[str, float], **more: Any) -> VersionStatus:
    held = tuple(ArmShare(name=role, version=name, role=role, share=share) for role, share in arms)
    return VersionStatus(version=name, stage=stage, weight=weight, arms=held, **more)


SHOP = ModelStatus(
    name="product-recommendations",
    generation=7,
    production="v2.3.0",
    versions=(
        version("v2.2.0", "none", 0.0),
        version(
            "v2.3.0", "production", 90.0, ("stable", 0.8), ("control", 0.1),
            rate_10s=1123.4, rate_60s=1100.0, p50_ms=0.41, p99_ms=12.34, error_rate=0.0, cache_hit_rate=0.414,
        ),
        version(
            "v2.4.0-rc.1", "canary", 10.0, ("canary", 0.1),
            rate_10s=12.34, rate_60s=12.0, p50_ms=1.2, p99_ms=512.0, error_rate=0.021, cache_hit_rate=0.05,
        ),
        version("v2.5.0", "staging", 0.0),
    ),
)  # fmt: skip


def status(*models: ModelStatus, gateways: tuple[Gateway, ...] | None = None, **more: Any) -> Status:
    known = (gateway("vm-0"), gateway("vm-1")) if gateways is None else gateways
    return Status(at=NOW, fairlead="0.1.0", models=models, gateways=known, **more)


def test_everything_at_a_glance_in_80_columns() -> None:
    text = page(status(SHOP))
    assert all(len(line) <= 80 for line in text.splitlines())
    first = text.splitlines()[0]
    assert "1 model " in first
    assert "4 versions" in first
    assert "2 gateways live" in first
    assert "1,136/s" in first
    production = next(line for line in text.splitlines() if "v2.3.0" in line)
    for shown in ("production", "90 %", "1,123", "0.41", "12.3", "0 %", "41 %"):
        assert shown in production
    canary = next(line for line in text.splitlines() if "v2.4.0-rc.1" in line)
    for shown in ("canary", "10 %", "12.3", "1.20", "512", "2.1 %", "5.0 %"):
        assert shown in canary
    assert "without traffic: v2.5.0 staging, v2.2.0" in text
    assert "generation 7  ✓ served by vm-0, vm-1" in text


def test_a_rollout_that_is_under_way_is_told_of() -> None:
    under_way = Rollout(
        id="2b4e", model="product-recommendations", stable="v2.3.0", candidate="v2.4.0-rc.1", state="canary",
        strategy="canary", step=1, steps=({"weight": 1.0}, {"weight": 10.0}), started_at=NOW, entered_at=NOW,
        updated_at=NOW,
    )  # fmt: skip
    text = page(status(msgspec.structs.replace(SHOP, rollout=under_way)))
    line = next(line for line in text.splitlines() if "→" in line)
    assert "v2.4.0-rc.1: canary 10 % (step 2 of 2)" in line
    held = msgspec.structs.replace(under_way, state="paused", paused_because="sample-ratio")
    assert "paused (sample-ratio)" in page(status(msgspec.structs.replace(SHOP, rollout=held)))
    assert "fairlead rollouts" not in page(status(SHOP))


def test_a_wide_terminal_gives_the_bars_more_room() -> None:
    assert page(status(SHOP), width=140).count("█") > 1.5 * page(status(SHOP), width=80).count("█")


def test_colours_are_used_only_where_there_are_colours() -> None:
    assert "\x1b[" not in page(status(SHOP))
    assert "\x1b[" in page(status(SHOP), force_terminal=True, color_system="standard")


def test_arms_are_drawn_in_the_colour_of_their_role() -> None:
    bar = Bar([(0.5, "green"), (0.25, "cyan")]).text(20)
    assert bar.plain == "█" * 15 + "·" * 5
    assert [(span.style, span.end - span.start) for span in bar.spans][:2] == [("green", 10), ("cyan", 5)]


@given(
    st.lists(st.floats(0.0001, 1.0), min_size=1, max_size=4).map(
        lambda parts: [part / sum(parts) for part in parts]
    ),
    st.floats(0.0001, 1.0),
    st.integers(1, 200),
)
def test_a_bar_fills_exactly_its_width_and_tells_nothing_all_and_almost_apart(
    shares: list[float], whole: float, width: int
) -> None:
    bar = Bar([(share * whole, "green") for share in shares]).text(width).plain
    assert len(bar) == width
    assert bar[0] != "·"
    assert (Bar([(1.0, "green")]).text(width).plain == bar) == (sum(share * whole for share in shares) >= 1)


def test_no_share_is_an_empty_bar() -> None:
    assert Bar([]).text(5).plain == Bar([(0.0, "green")]).text(5).plain == "·····"


def test_an_empty_registry_says_what_to_do_next() -> None:
    text = page(status())
    assert "fairlead.register(" in text
    assert "fairlead deploy" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_model_without_traffic_says_how_to_give_it_some() -> None:
    fresh = ModelStatus(name="fresh", generation=0, versions=(version("v1", "none", 0.0),))
    assert "fairlead deploy fresh v1 --strategy direct" in page(status(fresh))
    declared = ModelStatus(name="declared", generation=0)
    assert "No traffic yet" in page(status(declared))


def test_one_model_alone_can_be_shown() -> None:
    other = ModelStatus(name="other", generation=0)
    text = page(status(SHOP, other), model="other")
    assert "other" in text
    assert "v2.3.0" not in text


def test_a_gateway_that_lags_or_is_silent_is_named_with_what_it_serves() -> None:
    lagging = gateway("vm-1", 6, failed=7, error="The file is damaged.")
    text = page(status(SHOP, gateways=(gateway("vm-0"), lagging, gateway("vm-2", 5, live=False))), width=120)
    assert "vm-1 serves generation 6: The file is damaged." in text
    assert "vm-2 serves generation 5 and is silent" in text
    assert "○ vm-2 silent" in text
    assert "✓ served by" not in text


def test_a_local_rollback_and_a_plan_under_way_are_shown() -> None:
    waiting = PlanRecord(generation=8, state="preparing", command="deploy", who="zoë", why="")
    overridden = ModelStatus(
        name="shop",
        generation=7,
        preparing=waiting,
        overrides=(Override(gateway="vm-0", version="v1"), Override(gateway="vm-1", version="v1")),
        versions=(version("v2", "production", 100.0, ("stable", 1.0)),),
    )
    text = page(status(overridden))
    assert "local rollback: vm-0, vm-1 on v1, past the plan" in text
    assert "generation 8 is being prepared (deploy by zoë)" in text


def test_many_idle_versions_are_counted() -> None:
    versions = tuple(version(f"v{number}", "none", 0.0) for number in range(40))
    text = page(status(ModelStatus(name="old", generation=0, versions=versions)))
    assert "v39, v38, v37 and 37 more" in text


def test_no_gateway_and_what_is_lacking_are_said() -> None:
    text = page(status(SHOP, gateways=(), lacking=("The prediction log cannot be asked.",)))
    assert "No gateway is known" in text
    assert "! The prediction log cannot be asked." in text


def test_names_are_never_read_as_markup() -> None:
    strange = ModelStatus(
        name="a",
        generation=1,
        preparing=PlanRecord(generation=2, state="preparing", command="deploy", who="[red]x[/]", why=""),
    )
    assert "[red]x[/]" in page(status(strange, gateways=(gateway("[bold]"),)))


def test_a_version_with_a_long_name_is_cut_and_numbers_stay() -> None:
    named = version("v" * 100, "production", 100.0, ("stable", 1.0), rate_10s=5.0)
    long = ModelStatus(name="m", generation=1, versions=(named,))
    text = page(status(long))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "100 %" in text
    assert "…" in text


@pytest.mark.parametrize("weight", [0.01, 5.0, 12.5, 33.33, 99.99, 100.0])
def test_weights_are_shown_with_the_digits_they_need(weight: float) -> None:
    canary = version("v1", "canary", weight, ("canary", weight / 100))
    one = ModelStatus(name="m", generation=1, versions=(canary,))
    assert f" {weight:g} %" in page(status(one))
