"""A pickled model in its worker: it may crash, hang or eat memory, and nobody else notices."""

import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fairlead
from fairlead.client.admin import Admin
from fairlead.errors import DeadlineExceeded, NotReady, RuntimeFailed, TrustRequired
from tests.drills.load import Load
from tests.drills.shop_model import Moody
from tests.models import SAMPLE, iris_contract, iris_onnx
from tests.servers import Servers
from tests.waiting import wait_until

pytestmark = pytest.mark.drill

ROOT = str(Path(__file__).parent.parent.parent)
REFERENCE = {"x": np.arange(20, dtype=float)}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("pickles") / "data"
    # The worker must be able to import the class, as it could import a team's package.
    with Servers(folder, "--trust-pickle", workers=1, PYTHONPATH=ROOT) as running:
        fairlead.register(
            iris_onnx(), "iris", "v1", contract=iris_contract(), set_production=True,
            admin_url=running.admin_url,
        )  # fmt: skip
        fairlead.register(
            Moody(), "moody", "v1", reference=REFERENCE, trust_pickle=True, set_production=True,
            admin_url=running.admin_url,
        )  # fmt: skip
        with Admin(running.admin_url) as admin:
            admin.configure("moody", None, {"timeout_ms": 1000.0, "memory_limit_mb": 300})
        yield running


def doubled(client: fairlead.Client, x: float) -> float | None:
    try:
        return float(client.predict("moody", {"x": x}).prediction)
    except (NotReady, RuntimeFailed):
        return None


def test_a_pickle_answers_from_its_worker(servers: Servers):
    with fairlead.Client(servers.url) as client:
        wait_until(lambda: doubled(client, 3.5) == 7.0, 20)


def test_a_table_over_v2_is_answered_from_its_worker(servers: Servers):
    import tritonclient.http as triton

    rows = np.arange(1_000, 3_500, dtype=np.float64)  # in three pieces
    given = triton.InferInput("x", [2_500], "FP64")
    given.set_data_from_numpy(rows)
    with fairlead.Client(servers.url) as client:
        wait_until(lambda: doubled(client, 3.5) == 7.0, 20)
    with triton.InferenceServerClient(servers.url.removeprefix("http://")) as client:
        metadata = client.get_model_metadata("moody")
        assert [part["datatype"] for part in metadata["inputs"]] == ["FP64"]
        (name,) = [part["name"] for part in metadata["outputs"]]
        answered = client.infer("moody", [given]).as_numpy(name)
    np.testing.assert_array_equal(answered.reshape(-1), 2 * rows)


@pytest.mark.parametrize(
    ("trouble", "errors"),
    [(666.0, (RuntimeFailed,)), (777.0, (DeadlineExceeded,)), (888.0, (RuntimeFailed, DeadlineExceeded))],
    ids=["it crashes", "it hangs", "it eats memory"],
)
def test_a_worker_in_trouble_is_replaced_and_other_models_do_not_notice(servers: Servers, trouble, errors):
    with fairlead.Client(servers.url) as client:
        wait_until(lambda: doubled(client, 1.0) == 2.0, 30)
        with Load(servers.port, "/v1/models/iris/predict", SAMPLE, callers=2) as load:
            with pytest.raises(errors):
                client.predict("moody", {"x": trouble})
            wait_until(lambda: doubled(client, 2.0 + time.time() % 1) is not None, 30)
        assert load.failed == []
        assert len(load.answered) > 20


def test_a_pickle_needs_the_servers_setting_and_the_callers_flag_together(servers: Servers, tmp_path: Path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Moody()))
    with pytest.raises(fairlead.FairleadError) as caught:
        fairlead.register(Moody(), "moody", "v2", reference=REFERENCE, admin_url=servers.admin_url)
    assert "trust_pickle" in str(caught.value)
    with Servers(tmp_path / "careful", workers=1) as careful, pytest.raises(TrustRequired):
        fairlead.register(
            Moody(), "moody", "v1", reference=REFERENCE, trust_pickle=True, admin_url=careful.admin_url
        )
