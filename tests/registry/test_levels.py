"""What labels have taught of a version stands beside it, moves once for each look, and holds while wanted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from fairlead.contracts.uncertainty import Uncertainty
from fairlead.errors import InvalidSetting, MalformedRequest, VersionExists
from fairlead.registry import levels, registration, settings
from fairlead.registry.registration import NewVersion
from fairlead.registry.registry import Registry
from fairlead.stores.blobs import Blobs
from tests.registry.samples import Clock, new_version

SAID = Uncertainty(kind="interval", quantile=2.0, n=30)
SCORES = tuple(float(one) / 10 for one in range(30))


def sure(blobs: Blobs, scores: tuple[float, ...] = SCORES, said: Uncertainty | None = SAID) -> NewVersion:
    new = new_version(blobs=blobs)
    return msgspec.structs.replace(
        new, spec=msgspec.structs.replace(new.spec, uncertainty=said), scores=scores
    )


def taught(registry: Registry, clock: Clock, quantile: float, **changes: Any) -> bool:
    with registry.database.write() as connection:
        before = levels.level_of(connection, "churn", "1")
        assert before is not None
        before = msgspec.structs.replace(before, **changes)
        return levels.teach(
            connection, "churn", "1", before, outside=0.05, quantile=quantile, labels=10,
            through=clock.now - timedelta(hours=1), at=clock.now,
        )  # fmt: skip


def quantile(registry: Registry) -> float:
    said = registry.spec("churn", "1").uncertainty
    assert said is not None
    return said.quantile


def test_a_version_begins_where_its_calibration_put_it(registry: Registry, blobs: Blobs) -> None:
    registry.register(sure(blobs))
    with registry.database.read() as connection:
        held = levels.level_of(connection, "churn", "1")
        assert levels.revisions(connection) == {"churn": 0}
    assert held is not None
    assert (held.scores, held.quantile, held.labels, held.through) == (SCORES, 2.0, 0, None)
    assert held.outside == pytest.approx(0.1)


def test_a_version_without_scores_has_no_level(registry: Registry, blobs: Blobs) -> None:
    registry.register(sure(blobs, scores=()))
    with registry.database.read() as connection:
        assert levels.level_of(connection, "churn", "1") is None
        assert levels.level_of(connection, "nobody", "9") is None


def test_what_labels_teach_holds_only_while_the_setting_says_so(
    registry: Registry, blobs: Blobs, clock: Clock
) -> None:
    registry.register(sure(blobs))
    assert taught(registry, clock, 3.5)
    assert quantile(registry) == 2.0
    registry.configure("churn", None, {"adaptive_coverage": 0.01}, who="ann")
    assert quantile(registry) == 3.5
    registry.configure("churn", "1", {"adaptive_coverage": 0.0}, who="ann")
    assert quantile(registry) == 2.0


def test_of_two_who_saw_the_same_level_one_moves_it(registry: Registry, blobs: Blobs, clock: Clock) -> None:
    registry.register(sure(blobs))
    assert taught(registry, clock, 3.0)
    assert not taught(registry, clock, 4.0, revision=0)
    with registry.database.read() as connection:
        held = levels.level_of(connection, "churn", "1")
        assert levels.revisions(connection) == {"churn": 1}
    assert held is not None
    assert (held.quantile, held.labels, held.scores) == (3.0, 10, SCORES)


def test_the_same_content_is_the_same_though_labels_have_moved_it(
    registry: Registry, blobs: Blobs, clock: Clock
) -> None:
    registry.register(sure(blobs))
    taught(registry, clock, 3.0)
    registry.configure("churn", None, {"adaptive_coverage": 0.01}, who="ann")
    with pytest.raises(VersionExists, match="with the same content"):
        registry.register(sure(blobs))


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ((2.0, 1.0), SAID),
        ((-1.0, 1.0), SAID),
        ((1.0, float("inf")), SAID),
        ((1.0, float("nan"), 2.0), SAID),
        ((1.0,) * 31, SAID),
        (SCORES, None),
    ],
)
def test_scores_that_are_none_are_refused_by_name(
    scores: tuple[float, ...], said: Uncertainty | None
) -> None:
    new = new_version()
    spec = msgspec.structs.replace(new.spec, uncertainty=said)
    with pytest.raises(MalformedRequest, match="scores of calibration"):
        registration.verify(msgspec.structs.replace(new, spec=spec, scores=scores))


def test_how_fast_it_may_follow_has_bounds() -> None:
    settings.verify({"adaptive_coverage": 0.1}, None)
    for value in (-0.01, 0.11, float("nan")):
        with pytest.raises(InvalidSetting, match="adaptive_coverage"):
            settings.verify({"adaptive_coverage": value}, "v1")
