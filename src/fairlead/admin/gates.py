"""Gates: run one for a version, and see what came of it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Query
from fastapi.responses import HTMLResponse, Response

from fairlead.admin.callers import Who
from fairlead.admin.problems import refusals
from fairlead.admin.schemas import Why
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    BlobNotFound,
    GateNotFound,
    InvalidGate,
    ModelNotFound,
    Overloaded,
    VersionNotFound,
)
from fairlead.gate.junit import junit
from fairlead.gate.ledger import GateRun
from fairlead.gate.page import page
from fairlead.gate.reading import read_gate
from fairlead.gate.report import Report
from fairlead.gate.runs import Data, Gates

__all__ = ["GateStart", "gate_routes"]


class GateStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to ask of a version before it gets traffic: the content of a gate.toml, and the held-out rows that
    it names. It is compared with `against`, else with the version in production."""

    gate: dict[str, Any]
    data: Data | None = None
    against: str | None = None
    why: Why = ""


_RUN = refusals(ModelNotFound, GateNotFound)


def gate_routes(gates: Gates) -> APIRouter:
    """The routes below `/models/{model}` that are about gates."""
    routes = APIRouter(prefix="/models/{model}", tags=["gates"], route_class=StrictRoute)

    @routes.post(
        "/versions/{version}/gate",
        status_code=202,
        summary="Run a gate",
        responses=refusals(ModelNotFound, VersionNotFound, InvalidGate, BlobNotFound, Overloaded),
    )
    def run_gate(
        model: str, version: str, body: Annotated[GateStart, WIRE, Body()], who: Who
    ) -> Annotated[GateRun, WIRE]:
        """Begins to judge the version. It goes on by itself; ask for it by its id until it is over. The rows
        are uploaded to `/blobs` before."""
        spec = read_gate(body.gate)
        return gates.run(model, version, spec, body.data, against=body.against, who=who, why=body.why)

    @routes.get(
        "/versions/{version}/gate",
        summary="A version's latest gate run",
        responses=refusals(ModelNotFound, VersionNotFound, GateNotFound),
    )
    def get_version_gate(model: str, version: str) -> Annotated[GateRun, WIRE]:
        """The latest run, whatever came of it, with its report."""
        return gates.of_version(model, version)

    @routes.get("/gates", summary="A model's gate runs", responses=refusals(ModelNotFound, VersionNotFound))
    def list_gates(
        model: str, version: str | None = None, limit: Annotated[int, Query(ge=1, le=1_000)] = 20
    ) -> list[Annotated[GateRun, WIRE]]:
        """The runs of all versions, or of one, newest first."""
        return gates.of_model(model, version=version, limit=limit)

    @routes.get("/gates/{gate}", summary="One gate run", responses=_RUN)
    def get_gate(model: str, gate: str) -> Annotated[GateRun, WIRE]:
        """How the run stands, and its report once it is over."""
        return gates.get(model, gate)

    @routes.get(
        "/gates/{gate}/page", summary="The report as a page", response_class=HTMLResponse, responses=_RUN
    )
    def get_gate_page(model: str, gate: str) -> HTMLResponse:
        """The report as one HTML document that needs nothing else."""
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(
            page(_report(gates.get(model, gate))), headers={"Content-Security-Policy": policy}
        )

    @routes.get(
        "/gates/{gate}/junit", summary="The report as JUnit XML", response_class=Response, responses=_RUN
    )
    def get_gate_junit(model: str, gate: str) -> Response:
        """One test case for each check, as build servers read them."""
        return Response(junit(_report(gates.get(model, gate))), media_type="application/xml")

    return routes


def _report(run: GateRun) -> Report:
    if run.report is None:
        raise GateNotFound(
            f"Gate run {run.id} has no report: it is {run.state}.",
            remedy=run.reason or "Wait until it is over.",
        )
    return run.report
