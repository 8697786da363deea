"""A contract as a person edits it: what is written can be read, and what is wrong is named."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.document import json_schema, read_contract, to_json, to_toml
from fairlead.errors import InvalidContract

CONTRACT = Contract(
    inputs=(
        Field(
            name="age",
            type="int",
            minimum=18.0,
            maximum=90.0,
            on_range="flag",
            inferred=("range",),
            slice=True,
        ),
        Field(name="income", type="float", nullable=True, required=False, minimum=0.0),
        Field(name="country", type="string", categories=("DE", "FR"), default="DE", on_category="impute"),
        Field(name="vector", type="float", shape=(3,), maximum=1.0),
        Field(name="member", type="bool", sensitivity="personal", description='Says "yes"\nor no.'),
    ),
    output=Output(kind="class", classes=(0, 1)),
).verify()

MINIMAL = '[output]\nkind = "number"\n\n[[inputs]]\nname = "a"\ntype = "float"\n'

# Any text that UTF-8 can carry: quotes, backslashes, control characters, DEL, other planes.
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
_NAMES = _TEXTS.filter(
    lambda name: bool(name) and name == name.strip() and not any(c in '"\\' or c < " " for c in name)
)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
_OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "float": _FLOATS,
    "int": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "string": _TEXTS,
}


@st.composite
def _fields(draw: st.DrawFn, name: str) -> Field:
    kind = draw(st.sampled_from(["float", "int", "bool", "string"]))
    given_default = draw(st.none() | _OF_TYPE[kind])
    nullable = draw(st.booleans())
    bounds = sorted(draw(st.lists(_FLOATS, min_size=2, max_size=2))) if kind in ("float", "int") else None
    categories = draw(st.none() | st.lists(_OF_TYPE[kind], min_size=1, max_size=4, unique=True))
    return Field(
        name=name,
        type=kind,
        nullable=nullable,
        required=not (nullable or given_default is not None) or draw(st.booleans()),
        minimum=bounds and bounds[0],
        maximum=bounds and bounds[1],
        categories=tuple(categories) if categories and kind != "float" else None,
        default=given_default,
        on_type="impute" if given_default is not None else "reject",
        on_range=draw(st.sampled_from(["reject", "flag"])),
        inferred=draw(st.sampled_from([(), ("range",), ("range", "categories")])),
        sensitivity=draw(st.sampled_from(["none", "personal", "sensitive"])),
        entity=draw(st.booleans()),
        description=draw(_TEXTS),
    )


@st.composite
def _contracts(draw: st.DrawFn) -> Contract:
    names = draw(st.lists(_NAMES, min_size=1, max_size=4, unique=True))
    output = draw(
        st.sampled_from(
            [
                Output(kind="class", classes=("a", "b")),
                Output(kind="class", classes=(False, True)),
                Output(kind="number", minimum=0.0, maximum=1e300),
                Output(kind="vector", length=3),
                Output(kind="ranking", length=5, items=(10, 20)),
            ]
        )
    )
    return Contract(inputs=tuple(draw(_fields(name)) for name in names), output=output).verify()


@given(_contracts())
def test_toml_and_json_come_back_as_the_same_contract_with_the_same_id(contract: Contract) -> None:
    for text in (to_toml(contract), to_json(contract)):
        again = read_contract(text)
        assert again == contract
        assert again.id == contract.id


@pytest.mark.parametrize("kind", ["int", "float"])
@pytest.mark.parametrize(("minimum", "maximum"), [(0, 120), (-(2**53), 2**53), (0, 2**60), (0, 1.0)])
def test_bounds_that_a_program_wrote_as_integers_are_bounds(kind: Any, minimum: int, maximum: float) -> None:
    field = Field(name="age", type=kind, minimum=minimum, maximum=maximum)
    contract = Contract(inputs=(field,), output=Output(kind="number")).verify()
    for text in (to_toml(contract), to_json(contract)):
        assert read_contract(text) == contract
    schema = json_schema(contract)["properties"]["age"]
    assert (schema["minimum"], schema["maximum"]) == (minimum, maximum)


def test_the_document_is_short_and_explains_the_actions() -> None:
    text = to_toml(CONTRACT)
    assert tomllib.loads(text)["inputs"][0] == {
        "name": "age",
        "type": "int",
        "minimum": 18,
        "maximum": 90,
        "on_range": "flag",
        "inferred": ["range"],
        "slice": True,
    }
    assert '"reject"' in text.partition("[output]")[0]
    assert "on_missing" not in text.partition("[output]")[2]
    assert "minimum = 18\n" in text
    assert "minimum = 0.0\n" in text


def test_a_file_is_read_by_its_suffix_or_by_how_it_begins(tmp_path: Path) -> None:
    for name, text in [
        ("c.toml", to_toml(CONTRACT)),
        ("c.json", to_json(CONTRACT)),
        ("toml", to_toml(CONTRACT)),
        ("json", to_json(CONTRACT)),
    ]:
        (tmp_path / name).write_text(text, "utf-8")
        assert read_contract(tmp_path / name) == CONTRACT
        assert read_contract(str(tmp_path / name)) == CONTRACT


def test_one_number_written_in_two_ways_is_one_contract() -> None:
    for one, other in [("1", "1.0"), ("0.0", "-0.0")]:
        ids = {
            read_contract(MINIMAL + f"default = {value}\nminimum = {value}\n").id for value in (one, other)
        }
        assert len(ids) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MINIMAL + "minimun = 3\n", "'minimun' in field 'a'. Did you mean 'minimum'"),
        (MINIMAL + "ontype = 'reject'\n", "Did you mean 'on_type'"),
        (MINIMAL.replace("kind", "knd"), "'knd' in the output. Did you mean 'kind'"),
        ("input = []\n" + MINIMAL, "'input' in the contract. Did you mean 'inputs'"),
        (
            MINIMAL.replace('"float"', '"flot"'),
            "Field 'a', type: .*'flot'.*Use one of float, int, bool, string",
        ),
        (MINIMAL + 'on_range = "warn"\n', "Field 'a', on_range: .*Use one of reject, flag, impute"),
        (MINIMAL + 'minimum = "low"\n', "Field 'a', minimum: Expected `float"),
        (MINIMAL + "minimum = nan\n", "Field 'a': a bound is not finite"),
        (MINIMAL.replace('"a"', '"A.b"') + "shape = ['n']\n", r"Field 'A.b', shape\[0\]: Expected `int`"),
        (MINIMAL + "maximum = inf\n", "Field 'a': a bound is not finite"),
        (MINIMAL + "default = nan\n", "Field 'a': the default is not finite"),
        (MINIMAL + f"default = 1{'0' * 400}\n", "Field 'a': the default is not finite"),
        (MINIMAL + f"minimum = 1{'0' * 400}\n", "Field 'a'"),
        (MINIMAL + "default = 'x'\n", "Field 'a': default 'x' is no float"),
        (MINIMAL + "default = true\n", "Field 'a': default True is no float"),
        (MINIMAL + "minimum = 2\nmaximum = 1\n", "Field 'a': minimum 2.0 is above maximum 1.0"),
        (MINIMAL + '[[inputs]]\nname = "a"\ntype = "int"\n', "'a' is declared twice"),
        (MINIMAL + '[[inputs]]\ntype = "int"\n', "Field 1: .*missing required field `name`"),
        ('[output]\nkind = "number"\n', "missing required field `inputs`"),
        (MINIMAL + "a = \n", r"is not TOML: .*line 7"),
        ("inputs = 3\noutput = 4\n", "The output is no table"),
        ("inputs = [3]\n", "Field 0 is no table"),
        ('{"inputs": [}', "is not JSON: .*line 1"),
        ('{"inputs": [], "output": {"kind": "number", "minimum": NaN}}', "The output: a bound is not finite"),
        ("[" * 100_000 + "\n", "is not TOML"),
        ("{" + '"a":[' * 100_000, "is not JSON"),
    ],
)
def test_what_is_wrong_is_named_with_its_field_and_the_nearest_known_key(text: str, says: str) -> None:
    with pytest.raises(InvalidContract) as caught:
        read_contract(text)
    assert re.search(says, str(caught.value), re.DOTALL), str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'name = "gr\xf6\xdfe"\n')
    for path in (tmp_path / "latin.toml", tmp_path / "absent.toml", tmp_path):
        with pytest.raises(InvalidContract, match=path.name):
            read_contract(path)


def test_the_schema_holds_only_the_rules_that_reject() -> None:
    schema = json_schema(CONTRACT)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["age", "country", "vector", "member"]
    assert schema["additionalProperties"] is False
    assert schema["x-fairlead"] == {"contract_id": CONTRACT.id}
    properties = schema["properties"]
    assert properties["age"] == {
        "type": "integer",
        "format": "int64",
        "x-fairlead": {"on_range": "flag", "minimum": 18, "maximum": 90, "inferred": ["range"]},
    }
    assert properties["income"] == {"type": ["number", "null"], "format": "double", "minimum": 0.0}
    assert "enum" not in properties["country"]
    assert properties["country"]["x-fairlead"] == {"on_category": "impute", "categories": ["DE", "FR"]}
    assert properties["vector"] == {
        "type": "array",
        "items": {"type": "number", "format": "double", "maximum": 1.0},
        "minItems": 3,
        "maxItems": 3,
    }
    assert properties["member"]["description"] == 'Says "yes"\nor no.'
    assert properties["member"]["x-fairlead"] == {"sensitivity": "personal"}


def test_a_nullable_field_with_stated_categories_lets_null_through_its_enum() -> None:
    field = Field(name="c", type="string", categories=("a",), nullable=True, required=False)
    schema = json_schema(Contract(inputs=(field,), output=Output(kind="number")))
    assert schema["properties"]["c"] == {"type": ["string", "null"], "enum": ["a", None]}
    assert schema["required"] == []


def test_the_schema_is_plain_json() -> None:
    schema = json_schema(CONTRACT)
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
