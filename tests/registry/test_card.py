"""The model card tells what is recorded, says what is missing, and invents nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.registry.card import model_card
from fairlead.registry.stages import StageChange
from fairlead.registry.versions import Lineage, ModelSettings, Version
from tests.registry.samples import new_version

AT = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def version_of(**changes: object) -> Version:
    new = new_version(**changes)  # type: ignore[arg-type]
    return Version(
        model=new.spec.model,
        version=new.spec.version,
        digest=new.spec.manifest.digest,
        framework=new.framework,
        stage="production",
        spec=new.spec,
        metrics=new.metrics,
        tags=new.tags,
        created_by=new.created_by,
        created_at=AT,
        proof=new.proof,
    )


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


def test_the_features_that_a_version_goes_by_are_on_the_card_the_leading_ones_first() -> None:
    many = {f"f{number}": (0.01 * number, 0.01) for number in range(15)} | {"größe | x": (0.4, 0.02)}
    told = section(model_card(version_of(), importance=many, leading="log_odds"), "Features that it goes by")
    lines = told.split("\n")
    assert lines[2].startswith("| größe \\| x | 40.0% | ± 3.9% |")
    assert lines[3].startswith("| f14 | 14.0% |")
    assert "The first 12 of 16." in told
    assert told.endswith("Leading features beside answers: log\\_odds")


def test_a_card_without_importance_says_that_it_is_missing() -> None:
    assert section(model_card(version_of()), "Features that it goes by") == "*not recorded*"
    nothing = {"a": (0.0, 0.0)}
    assert (
        section(model_card(version_of(), importance=nothing), "Features that it goes by") == "*not recorded*"
    )


def test_what_is_recorded_is_on_the_card() -> None:
    version = version_of(metrics={"accuracy": 0.9134}, proof={"rows": 2000, "worst": 4.2e-7})
    change = StageChange(
        model="churn",
        version="1",
        from_stage="none",
        to_stage="production",
        generation=7,
        at=AT,
        who="ada",
        why="go",
    )
    card = model_card(
        version,
        description="Will she buy again?",
        aliases=["champion"],
        stages=[change],
        reference={"rows": 12_000, "null rate of age": 0.25},
    )
    assert card.startswith("# churn 1\n")
    assert version.digest in section(card, "Identity")
    assert "| Aliases | champion |" in section(card, "Identity")
    assert section(card, "Intended use") == "Will she buy again?"
    assert "| Training run | mlflow://runs/7 |" in card
    assert "| accuracy | 0.9134 |" in section(card, "Training metrics")
    assert "| worst | 4.2e-07 |" in section(card, "Conversion proof")
    assert "| null rate of age | 0.25 |" in section(card, "Reference data")
    assert "| cache\\_seconds | 300 |" in section(card, "Serving settings")
    assert "| 2026-11-20 09:30:00 UTC | none | production | 7 | ada | go |" in section(card, "Stage history")
    assert version.spec.manifest.files[0].sha256 in section(card, "Files")
    assert version.spec.contract.id in section(card, "Data contract")


def test_what_is_missing_is_said_to_be_missing() -> None:
    version = version_of(metrics={})
    bare = Version(
        **{
            **{name: getattr(version, name) for name in version.__struct_fields__},
            "spec": type(version.spec)(
                **{
                    **{name: getattr(version.spec, name) for name in version.spec.__struct_fields__},
                    "lineage": Lineage(),
                }
            ),
        }
    )
    card = model_card(bare)
    for title in ("Intended use", "Training metrics", "Tags", "Reference data", "Conversion proof"):
        assert section(card, title) == "*not recorded*"
    assert section(card, "Lineage").count("*not recorded*") == 7
    assert section(card, "Stage history") == "It never left the stage `none`."


def test_the_contract_is_a_table_of_features() -> None:
    contract = Contract(
        inputs=(
            Field(
                name="age",
                type="float",
                minimum=0.0,
                inferred=("range",),
                on_range="flag",
                description="years",
            ),
            Field(name="country", type="string", categories=tuple(f"C{i}" for i in range(40)), nullable=True),
            Field(
                name="basket", type="int", shape=(-1,), required=False, nullable=True, sensitivity="personal"
            ),
        ),
        output=Output(kind="class", classes=("no", "yes")),
    )
    text = section(model_card(version_of(contract=contract)), "Data contract")
    assert "| age | float | yes | no | 0 to any (inferred: range) | range: flag | none | years |" in text
    assert "C11 and 28 more" in text
    assert "| basket | list of int | no | yes | any | reject | personal |" in text
    assert "Answer: one of no, yes." in text


def test_text_from_people_is_no_markup() -> None:
    hostile = "a|b\n# Heading <script>alert(1)</script> [x](y) `code` &amp;"
    card = model_card(version_of(tags={"note": hostile}), description=hostile)
    shown = "a\\|b \\# Heading &lt;script>alert(1)&lt;/script> \\[x\\](y) \\`code\\` &amp;amp;"
    assert section(card, "Intended use") == shown
    assert f"| note | {shown} |" in section(card, "Tags")


def test_every_kind_of_answer_is_described() -> None:
    answers = {
        Output(kind="number", minimum=0.0, maximum=1.0): "a number from 0 to 1",
        Output(kind="number"): "a number",
        Output(kind="vector", length=3): "a list of 3 numbers",
        Output(kind="ranking", length=10): "up to 10 ids with scores",
        Output(kind="ranking"): "ids with scores",
    }
    field = Field(name="age", type="float")
    for output, words in answers.items():
        card = model_card(version_of(contract=Contract(inputs=(field,), output=output)))
        assert f"Answer: {words}." in card


def test_how_sure_answers_are_is_on_the_card_with_what_it_rests_on() -> None:
    version = version_of()
    assert section(model_card(version), "Uncertainty") == "*not recorded*"
    said = Uncertainty(kind="interval", quantile=2.5, n=1_200, optimistic=True)
    settings = ModelSettings(adaptive_coverage=0.005)
    spec = msgspec.structs.replace(version.spec, uncertainty=said, settings=settings)
    told = section(model_card(msgspec.structs.replace(version, spec=spec)), "Uncertainty")
    assert "| Answers carry | an interval |" in told
    assert "| Shall hold | 90% of labels |" in told
    assert "| Found on | 1,200 rows of the training data: too narrow |" in told
    assert "| Reaches to both sides | 2.5 |" in told
    assert "| Follows labels | by 0.005 with each |" in told
