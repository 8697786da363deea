"""Versions whose files were damaged in the store: whoever wants them is refused before any traffic moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fairlead
from fairlead.client.admin import Admin
from fairlead.errors import PrepareFailed
from tests.models import SAMPLE, iris_contract, iris_onnx
from tests.servers import Servers

pytestmark = pytest.mark.drill


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with Servers(tmp_path / "data", workers=1) as running:
        yield running


def damage(folder: Path, content: bytes) -> int:
    """Changes a byte in every copy of the file, in the store and on the gateways' disk; how many."""
    copies = [path for path in folder.rglob("*") if path.is_file() and path.read_bytes() == content]
    for path in copies:
        path.chmod(0o600)
        path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    return len(copies)


def test_a_damaged_target_is_refused_and_the_present_version_goes_on(
    servers: Servers,
) -> None:
    files = {version: iris_onnx(seed) for seed, version in enumerate(("v1", "v2", "v3"))}
    with Admin(servers.admin_url) as admin, fairlead.Client(servers.url) as client:
        for version, content in files.items():
            fairlead.register(
                content, "iris", version, contract=iris_contract(), set_production=version == "v1",
                admin_url=servers.admin_url,
            )  # fmt: skip
        for version in ("v2", "v3"):
            admin.deploy("iris", version, strategy="direct")
        before = admin.model("iris")
        assert damage(servers.folder.root, files["v1"]) >= 1

        with pytest.raises(PrepareFailed) as refused:
            admin.rollback("iris", to="v1")
        assert "Traffic did not move" in str(refused.value)
        assert refused.value.details["reason"]

        back = admin.start_rollout("iris", "v1")
        assert (back.state, back.weights) == ("rolled_back", {"v3": 100.0})
        assert (back.note or "").endswith("so the steps are skipped.")
        assert any("Traffic did not move" in event.reason for event in back.journal)

        assert admin.production_at("iris") == "v3"
        assert {client.predict("iris", SAMPLE, unit=f"u{n}").model_version for n in range(20)} == {"v3"}
        assert admin.model("iris").production == before.production
        assert admin.rollback("iris").weights == {"v2": 100.0}, "what is whole can still be gone back to"
