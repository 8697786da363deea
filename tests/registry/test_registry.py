"""Versions go in whole, once, and come out as they went in."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.errors import (
    BlobNotFound,
    FairleadError,
    InvalidContract,
    InvalidModelFile,
    InvalidName,
    InvalidSetting,
    MalformedRequest,
    ModelNotFound,
    VersionExists,
    VersionNotFound,
)
from fairlead.registry.registration import NewVersion
from fairlead.registry.registry import Registry
from fairlead.registry.versions import Lineage, ModelSettings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.registry.samples import RUNTIME, Clock, contract_of, new_version


def replace_spec(new: NewVersion, **changes: object) -> NewVersion:
    return msgspec.structs.replace(new, spec=msgspec.structs.replace(new.spec, **changes))


def test_a_version_comes_out_as_it_went_in(registry: Registry, blobs: Blobs) -> None:
    new = new_version(
        "v2.3.1",
        blobs=blobs,
        metrics={"accuracy": 0.91, "rows": 1e6},
        tags={"équipe": "推荐 🚢"},
        proof={"rows": 2000, "worst": 4e-7},
        probe={"rows": [[1.0, None]], "answers": [0.5]},
    )
    version = registry.register(new)
    assert version == registry.version("churn", "v2.3.1")
    assert version.spec == new.spec == registry.spec("churn", "v2.3.1")
    assert (version.metrics, version.tags, version.proof, version.probe) == (
        new.metrics,
        new.tags,
        new.proof,
        new.probe,
    )
    assert (version.digest, version.framework, version.created_by, version.stage) == (
        new.spec.manifest.digest,
        "sklearn",
        "ada",
        "none",
    )
    assert version.created_at.tzinfo is not None


def test_what_was_not_given_stays_none(registry: Registry, blobs: Blobs) -> None:
    version = registry.register(new_version(blobs=blobs, metrics={}))
    assert (version.proof, version.probe, version.metrics, version.tags) == (None, None, {}, {})


def test_models_and_versions_are_listed_oldest_version_first(registry: Registry, blobs: Blobs) -> None:
    registry.register(new_version("10", blobs=blobs))
    registry.register(new_version("9", blobs=blobs))
    registry.register(new_version("1", model="basket", blobs=blobs))
    registry.describe("churn", "Will she buy again?", who="ada")
    registry.set_alias("churn", "champion", "9", who="ada")
    assert [model.name for model in registry.models()] == ["basket", "churn"]
    churn = registry.model("churn")
    assert churn == registry.models()[1]
    assert (churn.versions, churn.production, churn.aliases) == (("10", "9"), None, {"champion": "9"})
    assert churn.description == "Will she buy again?"
    assert [version.version for version in registry.versions("churn")] == ["10", "9"]


def test_an_empty_registry_has_no_models(registry: Registry) -> None:
    assert registry.models() == []
    assert registry.audit() == []


# --- names --------------------------------------------------------------------------------------------------


def test_registering_the_same_again_says_that_there_is_nothing_to_do(
    registry: Registry, blobs: Blobs
) -> None:
    registry.register(new_version(blobs=blobs))
    with pytest.raises(VersionExists, match=r"same content\. There is nothing to do"):
        registry.register(new_version(metrics={"accuracy": 0.92}))


@pytest.mark.parametrize(
    ("changed", "other"),
    [
        ("manifest", new_version(content=b"other weights")),
        ("contract", new_version(contract=contract_of(minimum=0.0))),
        ("lineage", replace_spec(new_version(), lineage=Lineage(run="another"))),
    ],
)
def test_registering_other_content_under_a_taken_name_says_what_differs(
    registry: Registry, blobs: Blobs, changed: str, other: NewVersion
) -> None:
    first = registry.register(new_version(blobs=blobs))
    with pytest.raises(VersionExists, match=f"another {changed}.*new name") as caught:
        registry.register(other)
    assert caught.value.details["changed"] == [changed]
    assert registry.version("churn", "1") == first


def test_of_many_who_register_the_same_name_one_wins(registry: Registry, blobs: Blobs) -> None:
    def attempt(index: int) -> str | None:
        content = str(index).encode()
        try:
            return registry.register(new_version(content=content, blobs=blobs)).digest
        except VersionExists:
            return None

    with ThreadPoolExecutor(6) as threads:
        winners = [digest for digest in threads.map(attempt, range(6)) if digest]
    assert winners == [registry.version("churn", "1").digest]
    assert len(registry.audit()) == 1


@pytest.mark.parametrize("name", ["", ".", "../x", "a b", "größe", "x" * 101, "a\n", "a/b", "-a"])
def test_a_name_that_breaks_the_rule_is_refused(registry: Registry, blobs: Blobs, name: str) -> None:
    with pytest.raises(InvalidName):
        registry.register(new_version(name, blobs=blobs))
    with pytest.raises(InvalidName):
        registry.register(new_version(model=name, blobs=blobs))


def test_a_model_that_is_not_there_is_named_with_the_nearest(three: Registry) -> None:
    with pytest.raises(ModelNotFound, match=r"'chrun'\. Did you mean 'churn'"):
        three.model("chrun")
    with pytest.raises(ModelNotFound, match="Known: churn"):
        three.versions("zzz")


def test_a_version_that_is_not_there_is_named_with_the_known_ones(three: Registry) -> None:
    with pytest.raises(VersionNotFound, match="Known: 1, 2, 3"):
        three.version("churn", "nine")


def test_in_an_empty_registry_there_is_nothing_to_suggest(registry: Registry) -> None:
    with pytest.raises(ModelNotFound, match="none yet"):
        registry.spec("churn", "1")


# --- nothing half done --------------------------------------------------------------------------------------


def refused(registry: Registry, new: NewVersion, error: type[FairleadError], match: str) -> None:
    """The version is refused and nothing of it was added."""
    with pytest.raises(error, match=match):
        registry.register(new)
    assert registry.models() == []
    assert registry.audit() == []


def test_a_file_that_is_not_in_the_store_is_named(registry: Registry) -> None:
    refused(registry, new_version(), BlobNotFound, "model.onnx.*is not in the artifact store.*Upload")


def test_a_blob_of_another_size_does_not_count(registry: Registry, blobs: Blobs) -> None:
    new = new_version(blobs=blobs)
    file = msgspec.structs.replace(new.spec.manifest.files[0], size=1)
    manifest = msgspec.structs.replace(new.spec.manifest, files=(file,))
    refused(registry, replace_spec(new, manifest=manifest), BlobNotFound, "has 7 bytes there")


def test_a_main_file_outside_of_the_manifest_is_refused(registry: Registry, blobs: Blobs) -> None:
    runtime = msgspec.structs.replace(RUNTIME, entry="other.onnx")
    refused(registry, replace_spec(new_version(blobs=blobs), runtime=runtime), InvalidModelFile, "other.onnx")


def test_a_path_out_of_the_folder_is_refused(registry: Registry, blobs: Blobs) -> None:
    new = new_version(blobs=blobs)
    file = msgspec.structs.replace(new.spec.manifest.files[0], path="../model.onnx")
    manifest = msgspec.structs.replace(new.spec.manifest, files=(file,))
    refused(registry, replace_spec(new, manifest=manifest), InvalidModelFile, "not allowed")


def test_a_contract_that_does_not_fit_the_model_is_refused(registry: Registry, blobs: Blobs) -> None:
    contract = Contract(inputs=(Field(name="years", type="float"),), output=Output(kind="number"))
    refused(registry, new_version(blobs=blobs, contract=contract), InvalidContract, "years")


def test_a_contract_that_contradicts_itself_is_refused(registry: Registry, blobs: Blobs) -> None:
    contract = contract_of(minimum=2.0, maximum=1.0)
    refused(registry, new_version(blobs=blobs, contract=contract), InvalidContract, "minimum")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_is_refused(registry: Registry, blobs: Blobs, value: float) -> None:
    refused(registry, new_version(blobs=blobs, metrics={"auc": value}), MalformedRequest, "auc")


def test_settings_that_break_a_rule_are_refused(registry: Registry, blobs: Blobs) -> None:
    new = new_version(blobs=blobs, settings=ModelSettings(cache_seconds=-1))
    refused(registry, new, InvalidSetting, "cache_seconds")


# --- contracts ----------------------------------------------------------------------------------------------


def test_a_model_has_its_contract_before_any_version(registry: Registry, database: Database) -> None:
    contract = contract_of(minimum=0.0, description="in Jahren, 歳")
    registry.declare_contract("churn", contract, who="ada", why="the shop builds against it")
    assert registry.contract("churn") == contract
    assert registry.model("churn").versions == ()
    assert [entry.action for entry in registry.audit("churn")] == ["contract"]


def test_the_latest_declaration_counts_and_the_same_again_is_no_change(registry: Registry) -> None:
    registry.declare_contract("churn", contract_of(), who="ada")
    registry.declare_contract("churn", contract_of(nullable=True), who="ada")
    registry.declare_contract("churn", contract_of(nullable=True), who="ada")
    assert registry.contract("churn") == contract_of(nullable=True)
    assert len(registry.audit("churn")) == 2
    registry.declare_contract("churn", contract_of(), who="ada", why="back")
    assert registry.contract("churn") == contract_of()


def test_a_contract_that_makes_no_sense_is_not_declared(registry: Registry) -> None:
    with pytest.raises(InvalidContract):
        registry.declare_contract("churn", Contract(inputs=(), output=Output(kind="number")), who="ada")
    assert registry.models() == []


@pytest.mark.parametrize(
    ("promised", "broken"),
    [
        (contract_of(), None),
        (contract_of(minimum=0.0, maximum=9.0), None),
        (contract_of(nullable=True), "refuses null"),
        (Contract(inputs=(Field(name="age", type="int"),), output=Output(kind="number")), "as float"),
        (
            Contract(inputs=(Field(name="years", type="float"),), output=Output(kind="number")),
            "requires 'age'",
        ),
        (Contract(inputs=contract_of().inputs, output=Output(kind="class")), "answers a number"),
    ],
)
def test_a_version_must_fit_what_was_declared(
    registry: Registry, blobs: Blobs, promised: Contract, broken: str | None
) -> None:
    registry.declare_contract("churn", promised, who="ada")
    if broken is None:
        registry.register(new_version(blobs=blobs))
        assert registry.model("churn").versions == ("1",)
    else:
        with pytest.raises(InvalidContract, match=broken):
            registry.register(new_version(blobs=blobs))
        assert registry.model("churn").versions == ()


def test_the_contract_of_the_version_in_production_wins(registry: Registry, blobs: Blobs) -> None:
    for version, low in (("1", 1.0), ("2", 2.0), ("3", 3.0)):
        registry.register(new_version(version, blobs=blobs, contract=contract_of(minimum=low)))
    assert registry.contract("churn") == contract_of(minimum=3.0)
    registry.declare_contract("churn", contract_of(minimum=0.0), who="ada")
    assert registry.contract("churn") == contract_of(minimum=0.0)
    with registry.database.write() as connection:
        registry.record_stages(connection, "churn", {"2": "production"}, 1, "ada")
    assert registry.contract("churn") == contract_of(minimum=2.0)
    assert registry.contract("churn", "1") == contract_of(minimum=1.0)


def test_equal_contracts_are_kept_once(three: Registry) -> None:
    assert three.contract("churn", "1").id == three.contract("churn", "3").id


# --- audit --------------------------------------------------------------------------------------------------


def test_every_change_is_in_the_audit_log_newest_first(three: Registry, clock: Clock) -> None:
    three.set_alias("churn", "champion", "1", who="bob", why="best so far")
    three.configure("churn", "2", {"cache_seconds": 0}, who="eve", why="prices change")
    three.archive("churn", "3", who="ada", why="broken")
    newest = three.audit("churn", limit=3)
    assert [(entry.action, entry.version, entry.who, entry.why) for entry in newest] == [
        ("stage", "3", "ada", "broken"),
        ("configure", "2", "eve", "prices change"),
        ("alias", "1", "bob", "best so far"),
    ]
    assert newest[0].at == clock.now
    assert newest[1].details == {"from": {}, "to": {"cache_seconds": 0}}
    assert [entry.action for entry in three.audit()[3:]] == ["register"] * 3
    assert three.audit("other") == []


def test_a_change_that_fails_leaves_no_entry(three: Registry) -> None:
    before = three.audit()
    with pytest.raises(VersionNotFound):
        three.set_alias("churn", "champion", "9", who="bob")
    assert three.audit() == before


def test_others_may_add_entries_in_their_own_transactions(three: Registry) -> None:
    with three.database.write() as connection:
        three.audit_entry(connection, who="ada", action="promote", model="churn", details={"generation": 4})
    entry = three.audit(limit=1)[0]
    assert (entry.action, entry.version, entry.details) == ("promote", None, {"generation": 4})
