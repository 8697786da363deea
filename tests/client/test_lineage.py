"""Where a version comes from: the commit it was made at, and the rows it was trained on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.client.lineage import code_revision, fingerprint
from fairlead.contracts.table import read_table


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_revision_is_the_commit_and_says_when_files_were_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert code_revision(tmp_path) is None
    (tmp_path / "train.py").write_text("1")
    git(tmp_path, "add", "train.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("not tracked")
    assert code_revision(tmp_path) == commit
    (tmp_path / "train.py").write_text("2")
    assert code_revision(tmp_path) == f"{commit}-dirty"


def test_outside_of_a_repository_there_is_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_revision(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert code_revision(tmp_path) is None


def test_the_same_rows_have_the_same_fingerprint_whichever_library_holds_them() -> None:
    columns = {"age": [31, 40, 22], "income": [1.5, None, 3.0], "country": ["DE", None, "日本"]}
    pandas = fingerprint(read_table(pd.DataFrame(columns)))
    assert pandas == fingerprint(read_table(pl.DataFrame(columns)))
    assert pandas.startswith("sha256:")


_CELLS = st.lists(st.integers(-5, 5) | st.none(), min_size=3, max_size=3).filter(
    lambda cells: any(cell is not None for cell in cells)
)
_COLUMNS = st.dictionaries(st.text("abc", min_size=1, max_size=2), _CELLS, min_size=1, max_size=4)


@given(_COLUMNS, _COLUMNS)
def test_only_the_same_rows_have_the_same_fingerprint(
    first: dict[str, list[int]], second: dict[str, list[int]]
) -> None:
    same = list(first.items()) == list(second.items())
    assert (fingerprint(read_table(first)) == fingerprint(read_table(second))) == same


def test_what_lies_under_a_null_does_not_count() -> None:
    masked = pd.DataFrame({"a": pd.array([1, None], dtype="Int64")})
    assert fingerprint(read_table(masked)) == fingerprint(read_table({"a": [1, None]}))


def test_a_matrix_has_one_too() -> None:
    assert fingerprint(read_table(np.eye(3))) != fingerprint(read_table(np.ones((3, 3))))
