"""Every route of the data plane, once: the router and the OpenAPI documents are both made from this table."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.errors import MethodNotAllowed, RouteNotFound

__all__ = ["ROUTES", "Match", "Route", "Router"]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation: `template` has `{model}` and `{version}` where a name stands; `handler` names the method
    of `rest.RestApp` or of the face that answers. `request` and `answer` name schemas of `openapi.py`. `face`
    is whose protocol it is; only our own describes a model by its contract."""

    method: Literal["GET", "POST"]
    template: str
    handler: str
    summary: str
    answer: str
    request: str | None = None
    default_model: bool = False
    media_type: str = "application/json"
    face: Literal["fairlead", "v2", "tensorflow", "sagemaker"] = "fairlead"


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        template="/v1/models/{model}/predict",
        handler="predict",
        summary="One prediction with its envelope.",
        request="PredictRequest",
        answer="Envelope",
    ),
    Route(
        method="POST",
        template="/v1/models/{model}/predict/batch",
        handler="predict_batch",
        summary="Predictions for a batch of rows; a bad row fails alone.",
        request="BatchRequest",
        answer="BatchEnvelope",
    ),
    Route(
        method="POST",
        template="/v1/models/{model}/outcomes",
        handler="outcomes",
        summary="Reports what became of predictions: business events, or true labels.",
        request="Outcomes",
        answer="Accepted",
    ),
    Route(
        method="GET",
        template="/v1/predictions/{request_id}/explanation",
        handler="explanation",
        summary="Why a request was answered as it was; 202 while that is being found out.",
        answer="Explanation",
    ),
    Route(
        method="GET",
        template="/v1/models",
        handler="models",
        summary="The models that take traffic here.",
        answer="Models",
    ),
    Route(
        method="GET",
        template="/v1/models/{model}",
        handler="model",
        summary="One model: its generation, and its arms with version, role, stage and share.",
        answer="Model",
    ),
    Route(
        method="GET",
        template="/v1/models/{model}/versions/{version}",
        handler="version",
        summary="One live version: digest, lineage and contract id.",
        answer="Version",
    ),
    Route(
        method="GET",
        template="/v1/models/{model}/contract",
        handler="contract",
        summary="The data contract of the version in production, as JSON Schema.",
        answer="Object",
    ),
    Route(
        method="GET",
        template="/v1/models/{model}/openapi.json",
        handler="model_openapi",
        summary="This model's routes with its own contract.",
        answer="Object",
    ),
    Route(
        method="POST",
        template="/predict",
        handler="predict",
        summary="One prediction by the default model.",
        request="PredictRequest",
        answer="Envelope",
        default_model=True,
    ),
    Route(
        method="POST",
        template="/predict/batch",
        handler="predict_batch",
        summary="Predictions for a batch by the default model.",
        request="BatchRequest",
        answer="BatchEnvelope",
        default_model=True,
    ),
    Route(
        method="GET",
        template="/health/live",
        handler="health_live",
        summary="The process answers.",
        answer="Live",
    ),
    Route(
        method="GET",
        template="/health/ready",
        handler="health_ready",
        summary="A warmed model can answer; 503 when none can.",
        answer="Ready",
    ),
    Route(
        method="GET",
        template="/health",
        handler="health",
        summary="Status, models, versions, uptime.",
        answer="Health",
    ),
    Route(
        method="GET",
        template="/metrics",
        handler="metrics",
        summary="Prometheus metrics, summed over all gateway workers of this machine.",
        answer="Text",
        media_type="text/plain; version=0.0.4; charset=utf-8",
    ),
    Route(
        method="GET",
        template="/openapi.json",
        handler="openapi",
        summary="This document.",
        answer="Object",
    ),
    Route(
        method="POST",
        template="/v2/models/{model}/infer",
        handler="v2_infer",
        summary="Predictions for tensors, in JSON or as binary data.",
        request="InferenceRequest",
        answer="InferenceAnswer",
        face="v2",
    ),
    Route(
        method="POST",
        template="/v2/models/{model}/versions/{version}/infer",
        handler="v2_infer",
        summary="The same from one version.",
        request="InferenceRequest",
        answer="InferenceAnswer",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2",
        handler="v2_server",
        summary="Name, version and extensions of the server.",
        answer="ServerMetadata",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/health/live",
        handler="v2_live",
        summary="The process answers.",
        answer="Live",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/health/ready",
        handler="v2_ready",
        summary="A warmed model can answer; 503 when none can.",
        answer="Ready",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/models/stats",
        handler="v2_statistics",
        summary="Counts and times of all models, summed over all gateway workers.",
        answer="Statistics",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/models/{model}",
        handler="v2_model",
        summary="Inputs and outputs of a model.",
        answer="ModelMetadata",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/models/{model}/versions/{version}",
        handler="v2_model",
        summary="Inputs and outputs of one version.",
        answer="ModelMetadata",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/models/{model}/ready",
        handler="v2_model_ready",
        summary="The model can answer; 503 when it cannot.",
        answer="ModelReady",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/models/{model}/versions/{version}/ready",
        handler="v2_model_ready",
        summary="The version can answer; 503 when it cannot.",
        answer="ModelReady",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/models/{model}/config",
        handler="v2_config",
        summary="The model's configuration, as Triton has it.",
        answer="Object",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/models/{model}/versions/{version}/config",
        handler="v2_config",
        summary="The version's configuration, as Triton has it.",
        answer="Object",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/models/{model}/stats",
        handler="v2_statistics",
        summary="Counts and times of a model's live versions.",
        answer="Statistics",
        face="v2",
    ),
    Route(
        method="GET",
        template="/v2/models/{model}/versions/{version}/stats",
        handler="v2_statistics",
        summary="Counts and times of one version.",
        answer="Statistics",
        face="v2",
    ),
    Route(
        method="POST",
        template="/v2/repository/index",
        handler="v2_index",
        summary="The versions that lie on this machine, and their state.",
        answer="RepositoryIndex",
        face="v2",
    ),
    Route(
        method="POST",
        template="/v2/repository/models/{model}/load",
        handler="v2_load",
        summary="Warms what lies on this machine; needs `repository_control`.",
        answer="Empty",
        face="v2",
    ),
    Route(
        method="POST",
        template="/v2/repository/models/{model}/unload",
        handler="v2_unload",
        summary="Refuses to unload what is in use; needs `repository_control`.",
        answer="Empty",
        face="v2",
    ),
    Route(
        method="POST",
        template="/v1/models/{model}:predict",
        handler="tf_predict",
        summary="Predictions, as TensorFlow Serving takes and answers them.",
        request="TensorFlowRequest",
        answer="TensorFlowAnswer",
        face="tensorflow",
    ),
    Route(
        method="POST",
        template="/v1/models/{model}/versions/{version}:predict",
        handler="tf_predict",
        summary="The same from one version.",
        request="TensorFlowRequest",
        answer="TensorFlowAnswer",
        face="tensorflow",
    ),
    Route(
        method="POST",
        template="/invocations",
        handler="invocations",
        summary="Predictions of the default model, as MLflow and SageMaker take them: JSON or CSV.",
        request="InvocationRequest",
        answer="Invocation",
        default_model=True,
        face="sagemaker",
    ),
    Route(
        method="GET",
        template="/ping",
        handler="ping",
        summary="The default model can answer; 503 when it cannot.",
        answer="Ready",
        default_model=True,
        face="sagemaker",
    ),
)

Match = tuple[Route, str, str]
"""The route, the model's name (or the default model's, or empty) and the version's name (or empty)."""

_REMEMBERED = 4_096
_PREDICTING = ("predict", "predict_batch")


class Router:
    """Finds the route of a method and a raw path, and remembers it."""

    def __init__(self, default_model: str) -> None:
        self._default_model = default_model
        self.routes = tuple(route for route in ROUTES if default_model or not route.default_model)
        self._known: dict[tuple[bytes, bytes], Match] = {}

    def find(self, method: bytes, path: bytes) -> Match:
        """The match; raises `RouteNotFound`, or `MethodNotAllowed` when the path takes other methods."""
        found = self._known.get((method, path))
        if found is None:
            found = self._search(method.decode("ascii", "replace"), path.decode("ascii", "replace"))
            # Paths are the callers' choice: what is remembered must be bounded, and asked for again.
            if len(self._known) < _REMEMBERED and "{request_id}" not in found[0].template:
                self._known[method, path] = found
        return found

    def predicts(self, method: bytes, path: bytes) -> str | None:
        """The model that a request wants predictions of by a path that was found before; None for others."""
        found = self._known.get((method, path))
        return found[1] if found is not None and found[0].handler in _PREDICTING else None

    def _search(self, method: str, path: str) -> Match:
        parts = path.split("/")
        allowed = []
        for route in self.routes:
            names = _fit(route.template.split("/"), parts)
            if names is None:
                continue
            if route.method == method or (method == "HEAD" and route.method == "GET"):
                model = self._default_model if route.default_model else names.get("{model}", "")
                return route, model, names.get("{version}", "")
            if route.method not in allowed:
                allowed.append(route.method)
        if allowed:
            raise MethodNotAllowed(
                f"{path} does not take {method}.", remedy=f"Use {' or '.join(allowed)}.", allowed=allowed
            )
        raise RouteNotFound(f"There is no {path[:200]!r}.", remedy="See /openapi.json for every route.")


def _fit(template: list[str], parts: list[str]) -> dict[str, str] | None:
    if len(template) != len(parts):
        return None
    names = {}
    for wanted, given in zip(template, parts, strict=True):
        if wanted.startswith("{"):
            name, _, suffix = wanted.partition("}")
            value = given.removesuffix(suffix)
            if not value or not given.endswith(suffix):
                return None
            names[name + "}"] = value
        elif wanted != given:
            return None
    return names
