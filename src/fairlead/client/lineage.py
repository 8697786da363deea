"""Where a version comes from, as far as the place where it is registered knows: code revision, data."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from fairlead.contracts.table import Table
from fairlead.errors import MalformedRequest

__all__ = ["JOB_VARIABLE", "code_revision", "fingerprint", "retraining"]

JOB_VARIABLE = "FAIRLEAD_JOB"
"""Where a trainer finds the file that says what it is to do."""

_GIT_SECONDS = 5.0
_BLOCK = 65_536


def code_revision(folder: Path) -> str | None:
    """The commit that the folder's repository is at, with `-dirty` when tracked files were changed since.

    None where there is no repository, no commit or no git.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit if changed == "" else f"{commit}-dirty"


def fingerprint(table: Table) -> str:
    """`sha256:` and the digest of the table's names, types and values, in its order of columns and rows.

    It says whether two versions saw the same data, and nothing about the data.
    """
    digest = hashlib.sha256()
    for column in table.columns:
        digest.update(msgspec.msgpack.encode([column.name, column.type, column.shape, table.rows]))
        if column.type == "string" or column.shape:
            for start in range(0, table.rows, _BLOCK):
                digest.update(msgspec.msgpack.encode(column.to_list(start, start + _BLOCK)))
        else:
            # What stands under a null means nothing and must not count.
            digest.update(np.where(column.null, np.zeros_like(column.values), column.values).tobytes())
            digest.update(column.null.tobytes())
    return f"sha256:{digest.hexdigest()}"


def retraining(environment: Mapping[str, str]) -> dict[str, str]:
    """What is noted of a version that is registered within a retraining: its id, the version that it was
    trained beside, why, and which rows were given; nothing outside of one."""
    path = environment.get(JOB_VARIABLE)
    if not path:
        return {}
    try:
        task = msgspec.json.decode(Path(path).read_bytes())
        return {str(name): str(value) for name, value in task["lineage"].items()}
    except (OSError, msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise MalformedRequest(
            f"{JOB_VARIABLE} names no job of a retraining: {path!r}.",
            remedy="Leave the variable as the trainer got it, or unset it.",
        ) from error


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
