"""The model that Triton's Python back end runs; it joins the requests that Triton hands over together."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as triton
from onnx_model import INPUT, OUTPUTS, OnnxModel


class TritonPythonModel:
    def initialize(self, args: Any) -> None:
        self.model = OnnxModel()

    def execute(self, requests: list[Any]) -> list[Any]:
        inputs = [triton.get_input_tensor_by_name(request, INPUT).as_numpy() for request in requests]
        outputs = self.model.run(np.concatenate(inputs) if len(inputs) > 1 else inputs[0])
        answers, first = [], 0
        for rows in inputs:
            part = slice(first, first + len(rows))
            tensors = [
                triton.Tensor(name, np.ascontiguousarray(tensor[part]))
                for name, tensor in zip(OUTPUTS, outputs, strict=True)
            ]
            answers.append(triton.InferenceResponse(tensors))
            first = part.stop
        return answers
