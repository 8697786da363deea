"""FastAPI as its tutorial shows it: a pydantic body, the model called in the handler, uvicorn with uvloop."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI
from onnx_model import NAME, PORT, OnnxModel, named, row_of
from pydantic import BaseModel

app = FastAPI()
model = OnnxModel()

if NAME == "forest":

    class Request(BaseModel):
        features: dict[str, float]

elif NAME == "recommender":

    class Request(BaseModel):  # type: ignore[no-redef]
        features: dict[str, int]

else:

    class Request(BaseModel):  # type: ignore[no-redef]
        features: dict[str, list[float]]


# `async def` runs in the event loop: quicker here than a thread per request, as everything shares one core.
@app.post("/predict")
async def predict(request: Request) -> dict[str, list[float]]:
    return named(model.run([row_of(request.features)]))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", access_log=False)
