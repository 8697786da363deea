"""What a trainer is told: the content of `job.json` in its folder, and of a webhook's call."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Task", "read_task", "write_task"]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Train a model on the rows in `data` (Parquet), and register it as `version` of `model`.

    `features` are the columns that the champion takes and the log keeps, `target` the column with the
    answers; `left_out` are sensitive features of the champion, which the log does not keep. The labelled
    rows are of [since, until); some of their units are held out, and not in `data`. `folder` is the job's
    own: a command may write the name of the version that it registered into the file `version` there.
    `contract` is a file with the champion's contract as far as the columns go. A webhook has no folder: it
    fetches the rows from `data_url`, may post text to `log_url`, and posts `{"version": …}` or
    `{"error": …}` to `result_url` when it has ended, each with the job's own `token` as bearer.
    """

    id: str
    model: str
    version: str
    champion: str
    cause: str
    since: datetime
    until: datetime
    rows: int
    features: tuple[str, ...]
    target: str
    left_out: tuple[str, ...] = ()
    data: str = ""
    data_url: str = ""
    log_url: str = ""
    result_url: str = ""
    token: str = ""
    folder: str = ""
    contract: str = ""
    admin_url: str = ""
    lineage: dict[str, str] = {}

    def table(self) -> pa.Table:
        """The rows, features and target."""
        import pyarrow.parquet as pq

        return pq.read_table(self.data)


def write_task(task: Task, folder: Path) -> Path:
    """Writes `job.json`; answers where it lies."""
    path = folder / "job.json"
    path.write_bytes(msgspec.json.encode(task))
    return path


def read_task(path: Path) -> Task:
    """The task in that file."""
    return msgspec.json.decode(path.read_bytes(), type=Task)
