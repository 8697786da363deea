"""Serving settings: the version's value wins, nonsense is refused, every change is kept."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fairlead.errors import InvalidSetting, ModelNotFound, UnknownSetting, VersionNotFound
from fairlead.registry.registry import Registry
from fairlead.registry.versions import ModelSettings
from fairlead.stores.blobs import Blobs
from tests.registry.samples import new_version


def test_a_version_serves_with_its_own_values_over_its_models(three: Registry) -> None:
    three.configure("churn", None, {"cache_seconds": 60, "timeout_ms": 500}, who="ada")
    three.configure("churn", "2", {"cache_seconds": 0, "max_batch_rows": 7}, who="ada")
    assert three.spec("churn", "1").settings == ModelSettings(cache_seconds=60, timeout_ms=500)
    assert three.spec("churn", "2").settings == ModelSettings(
        cache_seconds=0, timeout_ms=500, max_batch_rows=7
    )
    assert three.version("churn", "2").spec == three.spec("churn", "2") == three.versions("churn")[1].spec


def test_without_any_change_the_defaults_hold(three: Registry) -> None:
    assert three.spec("churn", "1").settings == ModelSettings()
    assert three.configure("churn", None, {}, who="ada") == ModelSettings()
    assert three.settings_history("churn") == []


def test_a_model_change_made_later_reaches_versions_that_say_nothing(three: Registry) -> None:
    three.configure("churn", "2", {"timeout_ms": 900}, who="ada")
    three.configure("churn", None, {"timeout_ms": 100, "max_batch_rows": 5}, who="ada")
    assert three.spec("churn", "1").settings.timeout_ms == 100
    assert three.spec("churn", "2").settings.timeout_ms == 900
    assert three.spec("churn", "2").settings.max_batch_rows == 5


def test_null_takes_a_value_back_to_what_is_inherited(three: Registry) -> None:
    three.configure("churn", None, {"cache_seconds": 60}, who="ada")
    three.configure("churn", "2", {"cache_seconds": 5, "timeout_ms": 7}, who="ada")
    now = three.configure("churn", "2", {"cache_seconds": None}, who="ada")
    assert (now.cache_seconds, now.timeout_ms) == (60, 7)


def test_every_change_is_a_revision(three: Registry) -> None:
    three.configure("churn", None, {"cache_seconds": 60}, who="ada", why="recommendations age")
    three.configure("churn", "1", {"cache_seconds": 1}, who="bob")
    three.configure("churn", None, {"timeout_ms": 50}, who="eve", why="page budget")
    three.configure("churn", None, {"timeout_ms": 50}, who="eve", why="again")
    assert [
        (revision.revision, revision.body, revision.who, revision.why)
        for revision in three.settings_history("churn")
    ] == [
        (1, {"cache_seconds": 60}, "ada", "recommendations age"),
        (2, {"cache_seconds": 60, "timeout_ms": 50}, "eve", "page budget"),
    ]
    assert [revision.body for revision in three.settings_history("churn", "1")] == [{"cache_seconds": 1}]


def test_what_a_version_brings_along_is_its_first_revision(registry: Registry, blobs: Blobs) -> None:
    brought = ModelSettings(cache_seconds=5, timeout_ms=250)
    version = registry.register(new_version(blobs=blobs, settings=brought))
    assert version.spec.settings == brought
    (revision,) = registry.settings_history("churn", "1")
    assert revision.body == {"cache_seconds": 5, "timeout_ms": 250}
    assert registry.configure("churn", "1", {"cache_seconds": None}, who="ada") == ModelSettings(
        timeout_ms=250
    )


def test_an_unknown_setting_names_the_nearest(three: Registry) -> None:
    with pytest.raises(UnknownSetting, match="Did you mean 'cache_seconds'"):
        three.configure("churn", None, {"cache_second": 5}, who="ada")
    with pytest.raises(UnknownSetting, match="Known: cache_seconds"):
        three.configure("churn", None, {"zzz": 5}, who="ada")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cache_seconds", -1),
        ("cache_seconds", math.nan),
        ("cache_seconds", math.inf),
        ("cache_seconds", "60"),
        ("cache_seconds", True),
        ("timeout_ms", 0),
        ("timeout_ms", 1e12),
        ("max_batch_rows", 0),
        ("max_batch_rows", 2.5),
        ("max_batch_rows", 10**9),
        ("memory_limit_mb", 1),
    ],
)
def test_a_wrong_value_is_refused_and_changes_nothing(three: Registry, name: str, value: Any) -> None:
    before = three.audit()
    with pytest.raises(InvalidSetting, match=name):
        three.configure("churn", "2", {"timeout_ms": 5, name: value}, who="ada")
    assert three.spec("churn", "2").settings == ModelSettings()
    assert three.audit() == before


def test_what_is_not_there_cannot_be_configured(three: Registry) -> None:
    with pytest.raises(ModelNotFound):
        three.configure("nothing", None, {"cache_seconds": 1}, who="ada")
    with pytest.raises(VersionNotFound):
        three.configure("churn", "9", {"cache_seconds": 1}, who="ada")


def test_of_concurrent_changes_none_is_lost(three: Registry) -> None:
    changes: list[dict[str, Any]] = [
        {"cache_seconds": 1},
        {"timeout_ms": 2},
        {"max_batch_rows": 3},
        {"memory_limit_mb": 16},
    ]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda change: three.configure("churn", None, change, who="ada"), changes))
    assert three.spec("churn", "3").settings == ModelSettings(
        cache_seconds=1, timeout_ms=2, max_batch_rows=3, memory_limit_mb=16
    )
    assert [revision.revision for revision in three.settings_history("churn")] == [1, 2, 3, 4]
