"""`fairlead.register`: one line from a fitted model to a registered version."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fairlead.client.admin import Admin
from fairlead.client.lineage import code_revision, fingerprint, retraining
from fairlead.client.packing import packed
from fairlead.client.registered import Version
from fairlead.contracts.contract import Contract
from fairlead.contracts.profile import ReferenceProfile
from fairlead.contracts.table import read_table
from fairlead.errors import AdminUnreachable

__all__ = ["register"]


def register(
    model: Any,
    name: str,
    version: str,
    *,
    reference: Any = None,
    target: Any = None,
    calibration: Any = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    contract: Contract | Path | str | None = None,
    training_data: str | None = None,
    run: str | None = None,
    tolerance: float = 1e-5,
    set_production: bool = False,
    trust_pickle: bool = False,
    description: str | None = None,
    why: str = "",
    admin_url: str | None = None,
    api_key: str | None = None,
    user: str | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Version:
    """Registers a model as `version` of the model called `name`, and answers what was registered.

    `model` is one of

    - a fitted scikit-learn estimator or pipeline: it is converted to ONNX here, and the conversion is proven
      on every row of `reference` to within `tolerance`; no pickle leaves this process;
    - an ONNX model: a `ModelProto`, its bytes, or the path of an `.onnx` file;
    - the path of a `.pkl` or `.joblib` file: it is unpickled here, which runs its code, and converted;
    - the path of a folder with one ONNX model and whatever files belong to it;
    - with `trust_pickle`, any object that can be pickled, a file or a folder with a pickle: it is uploaded as
      it is, and the server runs it in an isolated process if its settings allow that.

    `reference` holds rows of the training data: a pandas or Polars frame, a pyarrow table or a numpy matrix.
    It names the features, proves the conversion and becomes the profile that live traffic is compared with,
    on the bins of the first version under the same contract that had one; what an ONNX model goes by is found
    on some of them. The rows themselves are not sent.
    `target` names its column that is the answer, or holds the answers.
    `calibration` holds further rows, which the model was not trained on: a table with the column `target`, or
    rows and their answers (or the name of their column). They say how sure its answers are. Without it the
    reference says so where it has a target, which is optimistic when the model was trained on it.
    `contract` (a `Contract`, a path, or TOML or JSON text) takes the place of the one inferred from it.
    `metrics`, `tags`, `training_data` (a tag of the data) and `run` (the address of the training run) are
    noted, together with the revision of the code in the working folder and a fingerprint of `reference`. In a
    trainer that Fairlead has begun, so is which retraining it is, and its rows are the `training_data`.
    `set_production` gives the version all traffic; `description` says what the model is for, `why` stands in
    the audit log. `advance` hears how many bytes of how many are sent.

    Nothing is printed. Raises `VersionExists`, `MissingExtra` with the pip line that helps, `TrustRequired`,
    `InvalidReference`, `InvalidContract`, `InvalidModelFile`, `ConversionRefused`, `AdminUnreachable`.
    """
    with (
        Admin(admin_url, api_key=api_key, user=user) as server,
        packed(
            model,
            reference=reference,
            target=target,
            calibration=calibration,
            contract=contract,
            tolerance=tolerance,
            trust_pickle=trust_pickle,
            lent=partial(_lent, server, name),
        ) as package,
    ):
        lineage = {
            "run": run,
            "training_data": training_data,
            "training_data_fingerprint": _fingerprint(reference, package.contract),
            "code_revision": code_revision(Path.cwd()),
            **retraining(os.environ),
        }
        done = server.register_files(
            name,
            version,
            package.files,
            runtime=package.runtime,
            contract=package.contract,
            framework=package.framework,
            metrics={key: float(value) for key, value in (metrics or {}).items()},
            tags={key: str(value) for key, value in (tags or {}).items()},
            lineage={key: value for key, value in lineage.items() if value is not None},
            proof=package.proof,
            uncertainty=package.uncertainty,
            scores=package.scores,
            trust_pickle=trust_pickle,
            set_production=set_production,
            why=why,
            advance=advance,
        )
        if description is not None and description != server.model(name).description:
            server.describe(name, description, why=why)
        return done.version


def _lent(server: Admin, model: str, contract: Contract) -> ReferenceProfile | None:
    """The reference that lends its bins; a server that is away says so when the version is sent."""
    try:
        return server.reference(model, contract.id)
    except AdminUnreachable:
        return None


def _fingerprint(reference: Any, contract: Contract) -> str | None:
    """Of the columns that the model takes; a reference table may hold others, of any type."""
    if reference is None:
        return None
    named = getattr(reference, "ndim", 0) != 2 or hasattr(reference, "columns")
    return fingerprint(read_table(reference, columns=contract.names if named else None))
