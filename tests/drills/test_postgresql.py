"""A whole Fairlead over PostgreSQL: the same commands, the same answers, and predictions when it is away."""

from pathlib import Path

import pytest

import fairlead
from fairlead.client.admin import Admin
from tests.models import SAMPLE, iris_contract, iris_onnx
from tests.servers import Servers

pytestmark = pytest.mark.drill


def test_register_canary_promote_and_roll_back_over_postgresql(tmp_path: Path, postgres_url: str):
    with Servers(tmp_path / "data", FAIRLEAD_DATABASE_URL=postgres_url) as servers:
        for seed, version in enumerate(("v1", "v2")):
            fairlead.register(
                iris_onnx(seed), "iris", version, contract=iris_contract(), set_production=seed == 0,
                admin_url=servers.admin_url,
            )  # fmt: skip
        with fairlead.Client(servers.url) as client, Admin(servers.admin_url) as admin:
            for command, weights in (
                (lambda: admin.deploy("iris", "v2", weight=5), {"v1": 95.0, "v2": 5.0}),
                (lambda: admin.promote("iris"), {"v2": 100.0}),
                (lambda: admin.rollback("iris"), {"v1": 100.0}),
            ):
                done = command()
                assert done.weights == weights
                assert len(done.confirmed) == 2
                assert done.unconfirmed == ()
                answers = {client.predict("iris", SAMPLE, unit=f"u{n}").model_version for n in range(100)}
                assert answers <= set(weights)
            assert admin.production_at("iris") == "v1"
        assert not (servers.folder.root / "fairlead.db").exists()
