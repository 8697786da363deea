"""The request index finds every row of a request, and only claims what it can."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.predictions.index import candidate_rows, hash_requests, write_index


@settings(max_examples=50)
@given(st.lists(st.text(max_size=4), min_size=1, max_size=50), st.text(max_size=4))
def test_the_rows_of_a_request_are_found_in_order(request_ids: list[str], wanted: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.index.npy"
        with path.open("wb") as file:
            write_index(file, hash_requests(request_ids))
        expected = [row for row, request_id in enumerate(request_ids) if request_id == wanted]
        assert candidate_rows(path, wanted) == expected
