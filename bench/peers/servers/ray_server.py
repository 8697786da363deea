"""Ray Serve with one replica."""

from __future__ import annotations

import os
import signal
from typing import Any

# Its workers are processes that import the model by its module's name.
os.environ |= {
    "PYTHONPATH": os.path.dirname(os.path.abspath(__file__)),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
}

import ray
from onnx_model import BATCH, BATCH_ROWS, PORT, OnnxModel, named, row_of
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Model:
    def __init__(self) -> None:
        self.model = OnnxModel()

    @serve.batch(max_batch_size=BATCH_ROWS, batch_wait_timeout_s=0.001)
    async def many(self, rows: list[list[float]]) -> list[Any]:
        outputs = self.model.run(rows)
        return [named(outputs, index) for index in range(len(rows))]

    async def __call__(self, request: Request) -> Any:
        row = row_of((await request.json())["features"])
        return await self.many(row) if BATCH else named(self.model.run([row]))


if __name__ == "__main__":
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, logging_level="warning",
        object_store_memory=100 << 20, _temp_dir=os.path.join(os.environ["BENCH_SCRATCH"], "ray"),
    )  # fmt: skip
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config={"enable_access_log": False})
    serve.run(Model.bind(), route_prefix="/predict")
    signal.pause()
