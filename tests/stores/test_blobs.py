"""A blob is there whole, under its own digest, or not there: in a folder and on S3 alike."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairlead.errors import BlobNotFound, DigestMismatch, InvalidSetting, StorageFull, StoreUnavailable
from fairlead.stores.blobs import Blobs
from tests.stores.bucket import Bucket, serve_bucket

SMALL = "Modell №1 🚢".encode()
LARGE = bytes(range(256)) * 50_000  # more than two chunks
SIZES = pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
KEYS = {"AWS_ACCESS_KEY_ID": "ada", "AWS_SECRET_ACCESS_KEY": "geheim"}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serve_bucket() as served:
        yield served


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """An empty artifact store of each kind."""
    if request.param == "file":
        return Blobs(f"file://{tmp_path}/Ärte%20fakte")
    served = request.getfixturevalue("bucket")
    return Blobs("s3://shop/fairlead/artifacts", {**KEYS, "AWS_ENDPOINT_URL": served.url})


@SIZES
def test_bytes_come_back_as_they_went_in(store: Blobs, content: bytes, tmp_path: Path) -> None:
    store.put(content, digest(content))
    store.get_to(digest(content), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert store.has(digest(content))
    assert store.size(digest(content)) == len(content)


@SIZES
def test_a_file_comes_back_as_it_went_in(store: Blobs, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(content)
    store.put(tmp_path / "model", digest(content))
    store.get_to(digest(content), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


@SIZES
def test_storing_again_does_nothing(store: Blobs, content: bytes) -> None:
    store.put(content, digest(content))
    store.put(content, digest(content))
    assert store.size(digest(content)) == len(content)


@SIZES
def test_bytes_of_another_digest_are_refused_and_leave_nothing(store: Blobs, content: bytes) -> None:
    other = digest(b"something else")
    with pytest.raises(DigestMismatch, match=other):
        store.put(content, other)
    assert not store.has(other)
    assert store.size(other) is None


def test_what_is_removed_is_gone_and_removing_it_again_does_nothing(store: Blobs) -> None:
    store.put(SMALL, digest(SMALL))
    store.put(LARGE, digest(LARGE))
    for _ in range(2):
        store.remove(digest(SMALL))
        assert not store.has(digest(SMALL))
    assert store.has(digest(LARGE))
    store.put(SMALL, digest(SMALL))
    assert store.has(digest(SMALL))


def test_an_aborted_upload_leaves_no_parts_behind(bucket: Bucket) -> None:
    store = Blobs("s3://shop", {**KEYS, "AWS_ENDPOINT_URL": bucket.url})
    with pytest.raises(DigestMismatch):
        store.put(LARGE, digest(b"other"))
    assert bucket.uploads == {}
    assert bucket.objects == {}


def test_the_prefix_and_the_given_keys_are_used(bucket: Bucket) -> None:
    Blobs("s3://shop/a/b", {**KEYS, "AWS_ENDPOINT_URL": bucket.url}).put(SMALL, digest(SMALL))
    assert list(bucket.objects) == [f"/shop/a/b/{digest(SMALL)}"]
    assert bucket.keys_seen == {"AWS4-HMAC-SHA256 Credential=ada"}


def test_a_present_blob_does_not_excuse_wrong_bytes(store: Blobs) -> None:
    store.put(SMALL, digest(SMALL))
    with pytest.raises(DigestMismatch):
        store.put(bytes(len(SMALL)), digest(SMALL))


def test_many_may_store_the_same_blob_at_once(store: Blobs, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: store.put(content, digest(content)), [SMALL, LARGE] * 4))
    for content in (SMALL, LARGE):
        store.get_to(digest(content), tmp_path / "copy")


def test_a_missing_blob_is_named_and_leaves_no_file(store: Blobs, tmp_path: Path) -> None:
    with pytest.raises(BlobNotFound, match=digest(SMALL)):
        store.get_to(digest(SMALL), tmp_path / "new" / "copy")
    (tmp_path / "new").mkdir()
    with pytest.raises(BlobNotFound):
        store.get_to(digest(SMALL), tmp_path / "new" / "copy")
    assert list((tmp_path / "new").iterdir()) == []


def damage(store: Blobs, request: pytest.FixtureRequest, content: bytes) -> None:
    if store.url.startswith("file:"):
        folder = request.getfixturevalue("tmp_path") / "Ärte fakte"
        (folder / digest(SMALL)).write_bytes(content)
    else:
        bucket = request.getfixturevalue("bucket")
        bucket.objects[f"/shop/fairlead/artifacts/{digest(SMALL)}"] = content


def test_a_damaged_blob_never_becomes_a_file(
    store: Blobs, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store.put(SMALL, digest(SMALL))
    damage(store, request, SMALL[::-1])
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "model").write_bytes(b"what stood here before")
    with pytest.raises(DigestMismatch, match="restore it"):
        store.get_to(digest(SMALL), tmp_path / "target" / "model")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["model"]
    assert (tmp_path / "target" / "model").read_bytes() == b"what stood here before"


def test_a_truncated_blob_is_healed_by_storing_it_again(
    store: Blobs, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store.put(SMALL, digest(SMALL))
    damage(store, request, SMALL[:3])
    store.put(SMALL, digest(SMALL))
    store.get_to(digest(SMALL), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == SMALL


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_a_name_that_is_no_digest_reaches_no_store(store: Blobs, name: str, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch, match="no SHA-256"):
        store.get_to(name, tmp_path / "copy")
    with pytest.raises(DigestMismatch, match="no SHA-256"):
        store.put(SMALL, name)


# A limit on the size of files stands in for a full disk: the kernel refuses the write in the middle.
FULL = """
    import hashlib, resource, signal, sys
    from pathlib import Path
    from fairlead.errors import StorageFull
    from fairlead.stores.blobs import Blobs

    folder, length = Path(sys.argv[1]), int(sys.argv[2])
    content = bytes(length)
    sha256 = hashlib.sha256(content).hexdigest()
    store = Blobs(f"file://{folder}/artifacts")
    if sys.argv[3] == "get":
        store.put(content, sha256)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        store.put(content, sha256) if sys.argv[3] == "put" else store.get_to(sha256, folder / "copy")
    except StorageFull as error:
        print(error.code)
"""


@pytest.mark.parametrize("length", [1_000_000, 12_000_000])
@pytest.mark.parametrize("way", ["put", "get"])
def test_a_full_disk_is_storage_full_and_shows_no_part(length: int, way: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path), str(length), way],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [StorageFull.code]
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]
    assert len(list((tmp_path / "artifacts").iterdir())) == (way == "get")


def test_a_dead_store_says_so(free_port: int) -> None:
    store = Blobs("s3://shop", {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port}"})
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.has(digest(SMALL))


def test_s3_without_explicit_keys_is_refused_at_once() -> None:
    with pytest.raises(InvalidSetting, match="AWS_SECRET_ACCESS_KEY"):
        Blobs("s3://shop", {"AWS_ACCESS_KEY_ID": "ada"})


@pytest.mark.parametrize("url", ["", "artifacts", "file://host/path", "file:relative", "gs://b", "s3://"])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="file:///"):
        Blobs(url, KEYS)


def test_the_folder_of_artifacts_holds_nothing_but_blobs(blobs: Blobs, tmp_path: Path) -> None:
    blobs.put(SMALL, digest(SMALL))
    blobs.put(LARGE, digest(LARGE))
    assert sorted(os.listdir(tmp_path / "artifacts")) == sorted([digest(SMALL), digest(LARGE)])
