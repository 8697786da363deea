"""One row that came as an array walks the way of every other single row, and its answer becomes arrays again.

So it shares a run with the rows of its turn, is looked up in the caches, and something may stand in for its
version. That needs a row that keeps its contract at first sight; any other goes the way of tables.
"""

from __future__ import annotations

from fairlead.contracts.arrays import Table
from fairlead.contracts.compile import RowReading
from fairlead.runtimes.base import Array
from fairlead.serving.asks import Ask
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.live import LiveArm, LiveModel
from fairlead.serving.table_records import TableAsk

__all__ = ["infer_single", "single_reading"]


def single_reading(table: Table, arm: LiveArm) -> RowReading | None:
    """The one row of a table; None when it has several, or needs the slower check."""
    if table.rows != 1 or table.matrix is None or not arm.version.tables.knows_outputs:
        return None
    row = arm.compiled.positional(table.matrix[0].tolist())
    return None if row is None else RowReading(arm.compiled, row)


async def infer_single(
    plane: DataPlane, model: LiveModel, ask: TableAsk, reading: RowReading, asked: LiveArm
) -> tuple[LiveArm, dict[str, Array]]:
    """The arm that answered and its output tensors; raises what `DataPlane.infer` raises."""
    single = Ask.of(
        reading,
        received=ask.received,
        request_id=ask.request_id,
        unit=ask.unit if ask.unit_kind == "given" else None,
        pin=ask.pin,
        use_case=ask.use_case,
        trace_id=ask.trace_id,
        deadline=ask.deadline,
        priority=ask.priority,
    )
    single.headers = ask.headers
    _, arm = await plane.infer(model, single)
    assert single.prediction is not None
    ask.degraded = single.degraded
    # In the form of the version that was asked, whoever answered.
    return arm, asked.version.tables.outputs_of(single.prediction)
