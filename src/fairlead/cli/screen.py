"""The status page: what serves, how well, and who has confirmed it. From data to something to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fairlead.cli.rollouts import standing
from fairlead.cli.tables import percent, stage_text
from fairlead.client.alerts import FiringAlert
from fairlead.client.registered import Gateway, ModelStatus, Rollout, Status, VersionStatus

__all__ = ["Bar", "status_page"]

_ROLE_STYLES = {
    "stable": "green",
    "control": "cyan",
    "canary": "yellow",
    "variant": "magenta",
    "shadow": "blue",
}
_BLOCKS = " ▏▎▍▌▋▊▉█"
_SHOWN_IDLE = 3
"""Versions without traffic that are listed; the others are counted."""


def status_page(status: Status, model: str | None = None) -> RenderableType:
    """The whole page, or only one model's part of it. Fits 80 columns, and uses more where there are more."""
    shown = [found for found in status.models if model in (None, found.name)]
    parts: list[RenderableType] = [_headline(status)]
    fires = [alert for alert in status.alerts if model is None or alert.model in ("", model)]
    if fires:
        parts.append(_alerts(fires))
    if not shown:
        parts.append(_welcome())
    for found in shown:
        parts += [Text(), *_model(found, status.gateways)]
    parts += [Text(), *_gateways(status.gateways)]
    parts += [Text(f"! {lack}", style="yellow") for lack in status.lacking]
    return Group(*parts)


class Bar:
    """A bar over the width that is there; `segments` are shares from 0 to 1, each with its style."""

    def __init__(self, segments: list[tuple[float, str]]) -> None:
        self._segments = segments

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text(options.max_width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(8, options.max_width)

    def text(self, width: int) -> Text:
        """The bar in that many characters. A share above zero always shows, and one below one never fills."""
        drawn = Text()
        eighths = width * 8
        whole = sum(share for share, _ in self._segments)
        total = round(whole * eighths)
        if whole > 0:
            total = max(1, total)
        if whole < 1:
            total = min(total, eighths - 1)
        edge, begun = 0.0, 0
        for index, (share, style) in enumerate(self._segments):
            edge += share
            # Inner edges fall on whole characters, so that two colours never share one.
            last = index == len(self._segments) - 1
            end = total if last else min(total, round(edge * width) * 8)
            full, part = divmod(max(0, end - begun), 8)
            drawn.append("█" * full + (_BLOCKS[part] if part else ""), style)
            begun = max(begun, end)
        drawn.append("·" * (width - len(drawn)), "bright_black")
        return drawn


# --- the top ------------------------------------------------------------------------------------------------


def _headline(status: Status) -> Text:
    live = sum(gateway.live for gateway in status.gateways)
    versions = sum(len(model.versions) for model in status.models)
    rate = sum(version.rate_10s for model in status.models for version in model.versions)
    line = Text.assemble((f"Fairlead {status.fairlead}", "bold"))
    facts = [
        _count(len(status.models), "model"),
        _count(versions, "version"),
        f"{_count(live, 'gateway')} live",
        f"{_rate(rate)}/s",
        f"{status.at:%H:%M:%S} UTC",
    ]
    for fact in facts:
        line.append(" · ", "dim").append(fact)
    return line


def _alerts(fires: Sequence[FiringAlert]) -> Text:
    """One line: how many alerts fire, and what the latest says."""
    first = fires[0]
    whose = f"{first.model}: " if first.model else ""
    count = f"{len(fires)} alerts fire" if len(fires) > 1 else "1 alert fires"
    line = Text.assemble(
        (f"! {count}", "bold red"), (" · ", "dim"), f"{whose}{first.sentence}", (" · fairlead alerts", "dim")
    )
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _welcome() -> RenderableType:
    lines = [
        "No model is registered yet. In Python:",
        "",
        '  [bold]fairlead.register(model, "shop", "v1", reference=X_train)[/]',
        "",
        "or from a file, and then give it traffic:",
        "",
        "  [bold]fairlead register model.onnx --model shop --version v1[/]",
        "  [bold]fairlead deploy shop v1 --strategy direct[/]",
    ]
    return Padding(
        Panel("\n".join(lines), title="What next?", title_align="left", expand=False), (1, 0, 0, 0)
    )


# --- a model ------------------------------------------------------------------------------------------------


def _model(model: ModelStatus, gateways: tuple[Gateway, ...]) -> Iterator[RenderableType]:
    title = Text.assemble((model.name, "bold underline"))
    if model.generation:
        serving = [name for name, active in _live(model, gateways) if active >= model.generation]
        title.append(f"  generation {model.generation}", "dim")
        if len(serving) == len(_live(model, gateways)) and serving:
            title.append("  ✓ served by ", "green").append(", ".join(serving), "dim")
    yield title
    busy = [version for version in model.versions if version.weight or version.rate_60s or version.arms]
    idle = [version for version in reversed(model.versions) if version not in busy]
    if busy:
        yield Padding(_numbers(busy, model), (0, 0, 0, 2))
    else:
        newest = model.versions[-1].version if model.versions else "V"
        yield Text(f"  No traffic yet: fairlead deploy {model.name} {newest} --strategy direct", "yellow")
    if idle:
        yield _idle(idle)
    if model.rollout is not None:
        yield _rollout(model.rollout)
    yield from _warnings(model, gateways)


def _live(model: ModelStatus, gateways: tuple[Gateway, ...]) -> list[tuple[str, int]]:
    """The live gateways with the generation of the model that each serves."""
    return [
        (gateway.name, gateway.models[model.name].active if model.name in gateway.models else 0)
        for gateway in gateways
        if gateway.live
    ]


def _numbers(versions: list[VersionStatus], model: ModelStatus) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, min_width=8)
    for _ in range(6):
        table.add_column(justify="right", no_wrap=True)
    table.add_row(
        "",
        "",
        "",
        *(Text(name, "dim") for name in ("share", "rate/s", "p50 ms", "p99 ms", "errors", "cache")),
    )
    for version in sorted(versions, key=lambda version: -version.weight):
        table.add_row(
            Text(version.version, "bold"),
            _stage(version),
            Bar([(arm.share, _ROLE_STYLES.get(arm.role, "white")) for arm in version.arms]),
            percent(version.weight),
            _rate(version.rate_10s),
            _milliseconds(version.p50_ms),
            _milliseconds(version.p99_ms),
            _errors(version.error_rate),
            _share(version.cache_hit_rate),
        )
    return table


def _stage(version: VersionStatus) -> Text:
    """The stage; for a version whose arms say more, the role that splits the traffic."""
    roles = {arm.role for arm in version.arms}
    if roles == {"variant"}:
        return Text("variant", _ROLE_STYLES["variant"])
    return stage_text(version.stage)


def _idle(idle: list[VersionStatus]) -> Text:
    line = Text("  without traffic: ", "dim")
    for index, version in enumerate(idle[:_SHOWN_IDLE]):
        line.append(", " if index else "", "dim").append(version.version)
        if version.stage != "none":
            line.append(" ").append_text(stage_text(version.stage))
    if len(idle) > _SHOWN_IDLE:
        line.append(f" and {len(idle) - _SHOWN_IDLE} more", "dim")
    return line


def _rollout(rollout: Rollout) -> Text:
    """Where the rollout that is under way stands."""
    line = Text("  → ", "cyan").append(rollout.candidate, "bold").append(": ")
    line.append_text(Text.from_markup(standing(rollout)))
    return line.append(f"  fairlead rollouts {rollout.model} present", "dim")


def _warnings(model: ModelStatus, gateways: tuple[Gateway, ...]) -> Iterator[Text]:
    if model.preparing is not None:
        waiting = model.preparing
        yield Text(
            f"  … generation {waiting.generation} is being prepared ({waiting.command} by {waiting.who})",
            "cyan",
        )
    overridden: dict[str, list[str]] = {}
    for override in model.overrides:
        overridden.setdefault(override.version, []).append(override.gateway)
    for version, names in overridden.items():
        yield Text(f"  ! local rollback: {', '.join(names)} on {version}, past the plan", "bold yellow")
    for gateway in gateways:
        state = gateway.models.get(model.name)
        active = state.active if state is not None else 0
        if model.generation and active < model.generation:
            silent = "" if gateway.live else " and is silent"
            why = f": {state.error}" if state is not None and state.error else ""
            yield Text(f"  ! {gateway.name} serves generation {active}{silent}{why}", "yellow")


# --- the gateways -------------------------------------------------------------------------------------------


def _gateways(gateways: tuple[Gateway, ...]) -> Iterator[Text]:
    if not gateways:
        yield Text("! No gateway is known: nobody answers predictions.", "yellow")
        return
    line = Text("gateways", "dim")
    for gateway in gateways:
        mark, style = ("●", "green") if gateway.live else ("○", "yellow")
        line.append(f"  {mark} ", style).append(gateway.name)
        line.append(f" {gateway.address}" if gateway.live else " silent", "dim")
    yield line


# --- numbers ------------------------------------------------------------------------------------------------


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 or rate == 0 else f"{rate:.1f}"


def _milliseconds(value: float | None) -> Text:
    if value is None:
        return Text("–", "dim")
    return Text(f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}")


def _share(value: float | None) -> Text:
    if value is None:
        return Text("–", "dim")
    return Text("0 %" if value == 0 else f"{value * 100:.0f} %" if value >= 0.1 else f"{value * 100:.1f} %")


def _errors(value: float | None) -> Text:
    shown = _share(value)
    if value:
        shown.stylize("bold red" if value >= 0.01 else "yellow")
    return shown
