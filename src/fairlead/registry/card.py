"""The model card: what is recorded about a version, in Markdown. What is missing is said to be missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.registry.stages import StageChange
from fairlead.registry.versions import ModelSettings, Version, VersionSpec

__all__ = ["model_card"]

_MISSING = "*not recorded*"
_LISTED = 12
_NORMAL_95 = 1.959964


def model_card(
    version: Version,
    *,
    description: str = "",
    aliases: Sequence[str] = (),
    stages: Sequence[StageChange] = (),
    reference: Mapping[str, Any] | None = None,
    importance: Mapping[str, tuple[float, float]] | None = None,
    leading: str = "",
) -> str:
    """The version's card in Markdown.

    `description` is the model's, `aliases` those that mean this version, `stages` its history, `reference` a
    summary of the training data's profile (label to value), `importance` the share of each feature in what
    moves the answers with its standard error, `leading` what the leading features beside answers are
    measured in, or why there are none. Text from people is shown as text: none of it
    becomes markup.
    """
    spec = version.spec
    sections = [
        ("Identity", _identity(version, aliases)),
        ("Intended use", _text(description) or _MISSING),
        ("Lineage", _facts(_lineage(version))),
        ("Training metrics", _facts(version.metrics.items()) if version.metrics else _MISSING),
        ("Tags", _facts(version.tags.items()) if version.tags else _MISSING),
        ("Data contract", _contract(spec.contract)),
        ("Reference data", _facts(reference.items()) if reference else _MISSING),
        ("Uncertainty", _facts(_sureness(spec)) if spec.uncertainty else _MISSING),
        ("Features that it goes by", _importance(importance or {}, leading)),
        ("Conversion proof", _facts(version.proof.items()) if version.proof else _MISSING),
        ("Measured at registration", _facts(_measured(version.probe)) if version.probe else _MISSING),
        ("Serving settings", _facts(_settings(spec.settings))),
        ("Stage history", _stages(stages)),
        ("Files", _files(version)),
    ]
    body = "\n\n".join(f"## {title}\n\n{content}" for title, content in sections)
    return f"# {_text(version.model)} {_text(version.version)}\n\n{body}\n"


def _importance(importance: Mapping[str, tuple[float, float]], leading: str) -> str:
    """The features that move most, those that move nothing left out."""
    ranked = sorted(importance.items(), key=lambda item: -item[1][0])
    rows = [
        (name, f"{share:.1%}", f"± {_NORMAL_95 * error:.1%}")
        for name, (share, error) in ranked[:_LISTED]
        if share
    ]
    table = _table(("Feature", "Share of what moves answers", "95 %"), rows) if rows else _MISSING
    if len(ranked) > _LISTED and rows:
        table += f"\n\nThe first {len(rows)} of {len(ranked)}."
    return f"{table}\n\nLeading features beside answers: {_text(leading)}" if leading else table


def _measured(probe: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What it took to load and run the model, without its tensors."""
    return [(name, value) for name, value in probe.items() if name not in ("inputs", "outputs")]


def _sureness(spec: VersionSpec) -> list[tuple[str, Any]]:
    said = spec.uncertainty
    assert said is not None
    interval = said.kind == "interval"
    follows = spec.settings.adaptive_coverage
    return [
        ("Answers carry", "an interval" if interval else "a set of classes"),
        ("Shall hold", f"{said.coverage:.0%} of labels"),
        ("Found on", f"{said.n:,} rows" + (" of the training data: too narrow" if said.optimistic else "")),
        ("Reaches to both sides" if interval else "Leaves out classes less likely than",
         said.quantile if interval else 1.0 - said.quantile),
        ("Follows labels", f"by {follows:g} with each" if follows else "no"),
    ]  # fmt: skip


def _identity(version: Version, aliases: Sequence[str]) -> str:
    return _facts(
        [
            ("Model", version.model),
            ("Version", version.version),
            ("Aliases", ", ".join(aliases) or "none"),
            ("Stage", version.stage),
            ("Digest", version.digest),
            ("Framework", version.framework),
            ("Runtime", version.spec.runtime.kind),
            ("Registered", f"{_time(version.created_at)} by {version.created_by}"),
        ]
    )


def _lineage(version: Version) -> list[tuple[str, Any]]:
    lineage = version.spec.lineage
    return [
        ("Training run", lineage.run),
        ("Training data", lineage.training_data),
        ("Fingerprint of the training data", lineage.training_data_fingerprint),
        ("Code revision", lineage.code_revision),
        ("Retraining", lineage.retraining),
        ("Retrained beside", lineage.parent),
        ("Retrained because", lineage.cause),
    ]


def _contract(contract: Contract) -> str:
    columns = ("Feature", "Type", "Required", "Null", "Allowed", "When broken", "Sensitivity", "Meaning")
    rows = [_field(field) for field in contract.inputs]
    return f"Contract `{contract.id}`.\n\n{_table(columns, rows)}\n\nAnswer: {_output(contract.output)}."


def _field(field: Field) -> tuple[Any, ...]:
    kind = field.type if not field.shape else f"list of {field.type}"
    allowed = []
    if field.minimum is not None or field.maximum is not None:
        low = "any" if field.minimum is None else _value(field.minimum)
        high = "any" if field.maximum is None else _value(field.maximum)
        allowed.append(f"{low} to {high}")
    if field.categories is not None:
        allowed.append(_some(field.categories))
    if field.inferred:
        allowed.append(f"(inferred: {', '.join(field.inferred)})")
    actions = {
        "missing": field.on_missing,
        "type": field.on_type,
        "range": field.on_range,
        "category": field.on_category,
    }
    broken = ", ".join(f"{rule}: {action}" for rule, action in actions.items() if action != "reject")
    return (
        field.name,
        kind,
        "yes" if field.required else "no",
        "yes" if field.nullable else "no",
        " ".join(allowed) or "any",
        broken or "reject",
        field.sensitivity,
        field.description,
    )


def _output(output: Output) -> str:
    match output.kind:
        case "class":
            return f"one of {_text(_some(output.classes))}" if output.classes else "a class"
        case "number":
            bounds = [
                f"{word} {_value(bound)}"
                for word, bound in (("from", output.minimum), ("to", output.maximum))
                if bound is not None
            ]
            return " ".join(["a number", *bounds])
        case "vector":
            return f"a list of {output.length} numbers" if output.length else "a list of numbers"
        case "ranking":
            return f"up to {output.length} ids with scores" if output.length else "ids with scores"


def _settings(settings: ModelSettings) -> Iterable[tuple[str, Any]]:
    values = msgspec.structs.asdict(settings)
    return [(name, "none" if value is None else value) for name, value in values.items()]


def _stages(stages: Sequence[StageChange]) -> str:
    if not stages:
        return "It never left the stage `none`."
    columns = ("When", "From", "To", "Generation", "Who", "Why")
    rows = [
        (
            _time(change.at),
            change.from_stage,
            change.to_stage,
            "by hand" if change.generation is None else change.generation,
            change.who,
            change.why,
        )
        for change in stages
    ]
    return _table(columns, rows)


def _files(version: Version) -> str:
    rows = [(file.path, file.size, file.sha256) for file in version.spec.manifest.files]
    return _table(("Path", "Bytes", "SHA-256"), rows)


# --- Markdown -----------------------------------------------------------------------------------------------


def _facts(facts: Iterable[tuple[str, Any]]) -> str:
    return _table(("", ""), [(name, value) for name, value in facts])


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [_line(columns), _line(["---"] * len(columns))]
    lines += [_line([_MISSING if cell is None else _text(_value(cell)) for cell in row]) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return msgspec.json.encode(value).decode()


def _some(values: Sequence[Any]) -> str:
    shown = ", ".join(_value(value) for value in values[:_LISTED])
    rest = len(values) - _LISTED
    return f"{shown} and {rest} more" if rest > 0 else shown


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _text(text: str) -> str:
    """The text on one line, without its power over Markdown and HTML."""
    for mark in "\\`*_[]|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
