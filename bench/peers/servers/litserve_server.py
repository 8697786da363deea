"""LitServe with one API server and one worker."""

from __future__ import annotations

from typing import Any

import litserve
import numpy as np
from onnx_model import BATCH, BATCH_ROWS, DTYPE, PORT, OnnxModel, named, row_of


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = OnnxModel()

    # LitServe reads an annotation here as FastAPI would, so there is none.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return np.array(row_of(request["features"]), DTYPE)

    def batch(self, inputs: list[Any]) -> Any:
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        outputs = self.model.run(x if BATCH else x[None])
        return [named(outputs, index) for index in range(len(x))] if BATCH else named(outputs)

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any) -> Any:
        return output


if __name__ == "__main__":
    batching = {"max_batch_size": BATCH_ROWS, "batch_timeout": 0.001} if BATCH else {}
    server = litserve.LitServer(Api(**batching), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="warning",
        access_log=False,
    )  # fmt: skip
