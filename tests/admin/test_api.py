"""The OpenAPI document is the API: its routes, and only those; what it allows is answered, nothing breaks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.admin.conftest import Api

EXAMPLES = settings(
    max_examples=6,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API on SQLite with a model in it, without gateways and without ingest."""
    root = tmp_path_factory.mktemp("api")
    chosen = Settings(data=str(root), confirm_seconds=0.2, prepare_seconds=0.2)
    database = Database(chosen.database)
    database.migrate()
    api = Api(database, Blobs(chosen.artifacts), chosen)
    api.versions("v1", "v2")
    api.call("POST", "/models/shop/deploy", {"version": "v1", "strategy": "direct"})
    yield api
    database.close()


def document(api: Api) -> Any:
    return api.http.get("/openapi.json").json()


def test_the_document_describes_exactly_the_routes_there_are(served: Api) -> None:
    described = {
        (path, method.upper()) for path, methods in document(served)["paths"].items() for method in methods
    }
    assert len(described) > 30
    # The records of requests that are called "sql" and "replay".
    answered = described | {(f"/api/v1/predictions/{name}", "GET") for name in ("sql", "replay")}
    for path in {path for path, _ in described}:
        filled = path.format(
            model="none",
            version="v1",
            alias="a",
            request_id="r",
            name="n",
            sha256="0" * 64,
            rollout="r",
            experiment="e",
            gate="g",
            replay="r",
            command="pause",
            freeze="f",
            alert="a",
            silence="s",
            channel="c",
            retraining="r",
            bins="b",
            contract_id="c",
        )
        for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"):
            status = served.http.request(method, filled).status_code
            assert (status != 405) == ((path, method) in answered), (method, path)
    # A parameter that takes slashes is described as any other.
    routed = {context.path.replace(":path", "") for context in iter_route_contexts(served.app.routes)}
    hidden = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/health/live", "/health/ready"}
    assert routed - hidden - {"/static-offline-docs"} == {path for path, _ in described}


def test_the_documentation_page_asks_no_other_server(served: Api) -> None:
    page = served.http.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert any(source.endswith("swagger-ui-bundle.js") for source in sources)
    for source in sources:
        assert source.startswith("/"), source
        assert served.http.get(source).status_code == 200


def test_every_operation_has_a_name_a_summary_and_says_how_it_refuses(served: Api) -> None:
    names = []
    for methods in document(served)["paths"].values():
        for operation in methods.values():
            names.append(operation["operationId"])
            assert operation["summary"]
            assert operation["description"]
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            assert "422" not in operation["responses"]
    assert len(set(names)) == len(names)


def test_every_reference_in_the_document_leads_somewhere(served: Api) -> None:
    found = document(served)
    known = {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}
    assert _references(found) <= known
    assert all(schema.get("description") for schema in found["components"]["schemas"].values())


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
def test_nothing_that_can_be_sent_breaks_the_server(served: Api, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", served.app)
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
            continue  # nothing about it can be wrong

        @EXAMPLES
        @given(case=operation.as_strategy(generation_mode=mode))
        def fuzz(case: Any) -> None:
            response = case.call()
            away = response.status_code == 503 and response.json()["code"] == "store_unavailable"
            assert response.status_code < 500 or away, response.text
            if not away:
                case.validate_response(
                    response, checks=[content_type_conformance, response_schema_conformance]
                )

        fuzz()


def _references(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_references, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return own.union(*map(_references, node.values()))
