"""The rows of a retraining: from the log into its folder for the trainer, and into the artifact store for the
gate."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from fairlead.contracts.contract import Contract
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.exports import LabelledRows
from fairlead.retraining.data import Split, split
from fairlead.retraining.folders import folder_of, remove
from fairlead.retraining.job import Job, Rows
from fairlead.retraining.policy import Policy
from fairlead.retraining.task import Task
from fairlead.serving.folder import DataFolder
from fairlead.stores.blobs import Blobs

__all__ = ["Prepared", "prepare"]


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What a trainer is told, and what is noted of its rows."""

    task: Task
    rows: Rows


def prepare(
    job: Job,
    policy: Policy,
    contract: Contract,
    ingest: IngestClient,
    blobs: Blobs,
    folder: DataFolder,
    now: datetime,
    admin_url: str,
) -> Prepared:
    """Writes `data.parquet` into the job's folder, and stores the rows that are held out. Whatever an earlier
    attempt left there is gone.

    Raises `InvalidRetraining` without enough labelled rows, `StoreUnavailable` when the log cannot be asked.
    """
    place = folder_of(folder, job.id)
    remove(folder, job.id)
    place.mkdir(parents=True, mode=0o700)
    until = now - timedelta(seconds=policy.mature)
    since = now - timedelta(seconds=policy.window)
    export = place / "rows.parquet"
    answer = ingest.call(
        "labelled_rows",
        model=job.model, since=since.isoformat(), until=until.isoformat(), path=str(export.absolute()),
        limit=policy.most,
    )  # fmt: skip
    written = msgspec.convert(answer, LabelledRows)
    table = pq.read_table(export)
    export.unlink()
    parts = split(
        table, contract, job.model, share=policy.held_out, least=policy.least, after=job.cause.since,
        least_held=policy.held_rows,
    )  # fmt: skip
    held = place / "held-out.parquet"
    pq.write_table(parts.held, held)
    digest = hashlib.sha256(held.read_bytes()).hexdigest()
    blobs.put(held, digest)
    held.unlink()  # no trainer gets it
    rows = Rows(
        since=parts.since,
        until=until,
        answered=written.answered,
        labelled=parts.train.num_rows + parts.held.num_rows,
        trained=parts.train.num_rows,
        held=parts.held.num_rows,
        held_digest=digest,
        left_out=parts.left_out,
        unknown_labels=parts.unknown,
    )
    return Prepared(task=_task(job, contract, parts, rows, place, admin_url), rows=rows)


def _task(job: Job, contract: Contract, parts: Split, rows: Rows, place: Path, admin_url: str) -> Task:
    data = place / "data.parquet"
    pq.write_table(parts.train, data)
    features = tuple(name for name in parts.train.column_names if name != parts.target)
    fields = tuple(field for field in contract.inputs if field.name in features)
    champions = place / "contract.json"
    champions.write_bytes(msgspec.json.encode(msgspec.structs.replace(contract, inputs=fields)))
    return Task(
        id=job.id,
        model=job.model,
        version=job.version,
        champion=job.champion,
        cause=job.cause.sentence,
        since=rows.since,
        until=rows.until,
        rows=rows.trained,
        features=features,
        target=parts.target,
        left_out=rows.left_out,
        data=str(data.absolute()),
        folder=str(place.absolute()),
        contract=str(champions.absolute()),
        admin_url=admin_url,
        lineage={
            "retraining": job.id,
            "parent": job.champion,
            "cause": job.cause.sentence,
            "training_data": f"log {rows.since:%Y-%m-%dT%H:%MZ} to {rows.until:%Y-%m-%dT%H:%MZ}",
        },
    )
