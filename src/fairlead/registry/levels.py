"""What labels have taught about how far a version's intervals or sets must reach, and where it began.

A version never changes; this is beside it, and holds while the setting `adaptive_coverage` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from fairlead.contracts.uncertainty import Uncertainty
from fairlead.registry.versions import VersionSpec
from fairlead.stores.monitoring_tables import conformal_levels

__all__ = ["Level", "add", "as_taught", "level_of", "quantiles", "revisions", "teach"]

_c = conformal_levels.c


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version stands: a share `outside` of labels may lie outside of what `quantile` says, so that as
    many lie within as was promised.

    `labels` have taught it, those of answers before `through`. `scores` are kept from calibration.
    """

    scores: tuple[float, ...]
    outside: float
    quantile: float
    labels: int
    through: datetime | None
    revision: int


def add(
    connection: sa.Connection, spec: VersionSpec, said: Uncertainty, scores: Sequence[float], at: datetime
) -> None:
    """Adds a version's level as it begins."""
    connection.execute(
        conformal_levels.insert().values(
            model=spec.model, version=spec.version, scores=list(scores), outside=1.0 - said.coverage,
            quantile=said.quantile, labels=0, through=None, revision=0, updated_at=at,
        )
    )  # fmt: skip


def level_of(connection: sa.Connection, model: str, version: str) -> Level | None:
    """Where the version stands; None where the scores of its calibration were not kept."""
    columns = [_c[name] for name in Level.__struct_fields__]
    query = sa.select(*columns).where(_c.model == model, _c.version == version)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Level(**{**row, "scores": tuple(row["scores"])})


def teach(
    connection: sa.Connection,
    model: str,
    version: str,
    before: Level,
    *,
    outside: float,
    quantile: float,
    labels: int,
    through: datetime,
    at: datetime,
) -> bool:
    """Moves the level by more labels; False, and nothing is changed, when somebody else has done so since
    `before` was read. `labels` are in addition."""
    changed = connection.execute(
        conformal_levels.update()
        .where(_c.model == model, _c.version == version, _c.revision == before.revision)
        .values(
            outside=outside, quantile=quantile, labels=before.labels + labels, through=through,
            revision=before.revision + 1, updated_at=at,
        )
    )  # fmt: skip
    return changed.rowcount == 1


def quantiles(connection: sa.Connection, model: str) -> dict[str, float]:
    """The quantile of each version that labels have taught."""
    query = sa.select(_c.version, _c.quantile).where(_c.model == model, _c.labels > 0)
    return dict(connection.execute(query).all())


def revisions(connection: sa.Connection) -> dict[str, int]:
    """Per model a number that grows whenever a level of its versions moves."""
    query = sa.select(_c.model, sa.func.sum(_c.revision)).group_by(_c.model)
    return {model: int(total) for model, total in connection.execute(query)}


def as_taught(spec: VersionSpec, taught: dict[str, float]) -> VersionSpec:
    """The spec with the quantile that holds now."""
    quantile = taught.get(spec.version)
    if spec.uncertainty is None or quantile is None or not spec.settings.adaptive_coverage:
        return spec
    uncertainty = msgspec.structs.replace(spec.uncertainty, quantile=quantile)
    return msgspec.structs.replace(spec, uncertainty=uncertainty)
