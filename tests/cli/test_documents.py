"""Files that people write: the same plan in YAML, TOML and JSON, and what is refused of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.cli.documents import read_document
from fairlead.rollouts.reading import read_spec

YAML = """
strategy: canary
bake: 30m
steps:
  - weight: 5            # percent of the units
    minimum: 10m
    deadline: 1d
    inconclusive: pause
  - {weight: 50, minimum: 1h, approval: true}
  - weight: 100
limits: {error_rate: 0.01, p99_ms: null}
metrics:
  - name: conversion
    margin: 1e-2
    higher_is: better
    window: 30m
"""
TOML = """
strategy = "canary"
bake = "30m"
steps = [
  {weight = 5, minimum = "10m", deadline = "1d", inconclusive = "pause"},
  {weight = 50, minimum = "1h", approval = true},
  {weight = 100},
]
[limits]
error_rate = 0.01
p99_ms = 0.1
[[metrics]]
name = "conversion"
margin = 0.01
higher_is = "better"
window = "30m"
"""


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, "utf-8")
    return str(path)


def test_yaml_toml_and_json_say_the_same(tmp_path: Path) -> None:
    import json

    yaml = read_document(written(tmp_path, "plan.yaml", YAML))
    assert read_spec(yaml).steps[1].approval
    toml = read_document(written(tmp_path, "plan.toml", TOML))
    assert yaml == toml | {"limits": {"error_rate": 0.01, "p99_ms": None}}
    for name in ("plan.json", "PLAN.JSON"):
        assert read_document(written(tmp_path, name, json.dumps(yaml))) == yaml
    assert read_document(written(tmp_path, "plan.yml", YAML)) == yaml


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "bake: 1\nbake: 2", "'bake' stands there twice in line 2"),
        ("a.yaml", "steps:\n  - {weight: 5, weight: 6}", "'weight' stands there twice in line 2"),
        ("a.json", '{"bake": 1, "bake": 2}', "'bake' stands there twice"),
        ("a.toml", "bake = 1\nbake = 2", "overwrite"),
        ("a.yaml", "bake: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a.yaml", "a: &x [1]\nb: *x", "aliases are not read"),
        ("a.yaml", "a: &x [*x]", "aliases are not read"),
        ("a.yaml", "1: 2", "a key is no text"),
        ("a.yaml", "bake: [", "in line 1"),
        ("a.yaml", "bake: 1\n--- \nbake: 2", "in line 2"),
        ("a.yaml", "", "no table"),
        ("a.yaml", "- weight: 5", "no table"),
        ("a.yaml", "[" * 100_000, "nested too deeply"),
        ("a.json", "[]", "no table"),
        ("a.json", "{", "line 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_place(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    with pytest.raises(ValueError) as refused:
        read_document(written(tmp_path, name, text))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("1:30", "1:30"), ("2026-11-27", "2026-11-27"),
        ("10m", "10m"),
        ("010", "010"), ("0x1f", "0x1f"), ("1_000", "1_000"), (".nan", ".nan"), ("true", True),
        ("null", None),
        ("-5", -5), ("0.5", 0.5), ("1e3", 1000.0), ("'5'", "5"), ("☃", "☃"), ("", None),
    ],
)  # fmt: skip
def test_a_value_is_what_it_looks_like(tmp_path: Path, text: str, value: object) -> None:
    found = read_document(written(tmp_path, "a.yaml", f"key: {text}"))["key"]
    assert (found, type(found)) == (value, type(value))


texts = st.text(st.characters(max_codepoint=0xD7FF), max_size=9)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts, plain, max_size=4))
def test_what_json_says_is_read_as_yaml_alike(
    tmp_path_factory: pytest.TempPathFactory, document: dict
) -> None:
    import json

    folder = tmp_path_factory.getbasetemp()
    text = json.dumps(document)
    assert read_document(written(folder, "one.yaml", text)) == document
