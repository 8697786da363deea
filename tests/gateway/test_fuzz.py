"""The HTTP API fuzzed from its own OpenAPI documents: nothing is ever a 5xx, and what is valid is a 2xx."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from fairlead.gateway.routes import ROUTES

EXAMPLES = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
OF_A_MODEL = [route for route in ROUTES if "{model}" in route.template and route.face == "fairlead"]


def operation(gateway, path: str, document: str, method: str):
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{gateway.port}{document}")
    return schema[path][method.lower()]


@pytest.mark.parametrize("route", OF_A_MODEL, ids=lambda route: f"{route.method} {route.template}")
def test_whatever_a_models_document_allows_is_answered_with_2xx(gateway, route):
    path = route.template.replace("{model}", "iris")
    found = operation(gateway, path, "/v1/models/iris/openapi.json", route.method)

    @EXAMPLES
    @given(case=found.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def fuzz(case):
        response = case.call()
        assert 200 <= response.status_code < 300, (response.status_code, response.json().get("detail"))
        checks = [not_a_server_error, content_type_conformance, response_schema_conformance]
        case.validate_response(response, checks=checks)

    fuzz()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.template}")
def test_nothing_that_can_be_sent_is_a_server_error(gateway, route, mode):
    found = operation(gateway, route.template, "/openapi.json", route.method)
    if mode is GenerationMode.NEGATIVE and not found.body:
        mode = GenerationMode.POSITIVE  # nothing about such an operation can be wrong

    @EXAMPLES
    @given(case=found.as_strategy(generation_mode=mode))
    def fuzz(case):
        # `/health/ready` answers 503 by design when nothing is loaded; here something is. Explanations are
        # made by control, and here is none.
        status = case.call().status_code
        assert status < 500 or (route.handler, status) == ("explanation", 503)

    fuzz()
