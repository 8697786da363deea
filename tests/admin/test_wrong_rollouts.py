"""Rollouts that cannot be meant: each is refused with thing, rule and remedy, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.errors import InvalidRollout
from fairlead.rollouts.reading import read_spec
from tests.admin.conftest import Api

FIVE, GOAL = {"weight": 5}, {"name": "conversion", "kind": "goal", "higher_is": "better", "window": "30m"}


def steps(*found: Any, **more: Any) -> dict[str, Any]:
    return {"steps": list(found), **more}


WRONG = [
    (
        steps({"weight": 25}, FIVE),
        "Step 2 goes down, from a weight of 25 % to a weight of 5 %",
        "rising order",
    ),
    (steps(FIVE, FIVE), "Step 2 repeats the one before", "more time"),
    (steps({"weight": 60}, {"weight": 140}), "Step 2 has a weight of 140 %", "up to 100"),
    (steps({"weight": 0}), "Step 1 has neither weight nor mirror", "`weight`"),
    (steps({"weight": 5, "mirror": 5}), "Step 1 has both a weight and a mirror", "`mirror`"),
    (steps(FIVE, {"weight": 100, "events": 9}), "Step 2 is the promotion", "step before"),
    (steps(), "The canary rollout has no steps", "at least one"),
    (steps({"weight": -5}), "Step 1 has a weight of -5 %", "above 0"),
    (steps({"weight": 5, "minimum": -1}), "minimum of step 1 is -1 s", "0 s or more"),
    (steps({"weight": 5, "minimum": "-10m"}), "'-10m', which is no duration", "'10m'"),
    (steps({"weight": 5, "deadline": "soon"}), "'soon', which is no duration", "'10m'"),
    (
        steps({"weight": 5, "minimum": "2h", "deadline": "1h"}),
        "has to last 7200 s and may last 3600",
        "deadline",
    ),
    (steps(FIVE, bake=-1), "bake is -1 s", "0 s or more"),
    (steps(FIVE, alpha=0), "alpha 0 decides by chance", "0.05"),
    (steps(FIVE, alpha=1), "alpha 1 decides by chance", "below 0.5"),
    (steps({"weight": "5"}), "steps[0].weight", "percents"),
    (steps({"wieght": 5}), "Unknown key 'wieght' in steps[0]", "Did you mean 'weight'?"),
    (steps(FIVE, bäke=3), "Unknown key 'bäke'", "Did you mean 'bake'?"),
    (steps(FIVE, limits={"p99": 3}), "Unknown key 'p99' in limits", "Did you mean 'p99_ms'?"),
    (steps(FIVE, limits={"error_rate": 1.5}), "limits.error_rate is 1.5", "0.01"),
    (
        steps({"weight": 5, "deadline": "10m"}, metrics=[GOAL]),
        "may come 1800 s after their prediction, and step 1 is watched for 600 s",
        "Lengthen",
    ),
    (steps(FIVE, metrics=[GOAL, GOAL]), "'conversion' is there twice", "once"),
    (steps(FIVE, metrics=[{"name": "p99", "margin": -1}]), "margin of 'p99' is -1", "0 or more"),
    (steps(FIVE, strategy="ab"), "The ab rollout has no goal", "goal"),
    (steps(FIVE, strategy="direct"), "takes no steps", "canary"),
]


@pytest.mark.parametrize(("document", "said", "remedy"), WRONG, ids=[said for _, said, _ in WRONG])
def test_a_plan_that_cannot_be_meant_is_refused_with_thing_rule_and_remedy(
    document: dict[str, Any], said: str, remedy: str
) -> None:
    with pytest.raises(InvalidRollout) as refused:
        read_spec(document)
    assert said in refused.value.message
    assert remedy in refused.value.remedy


def test_the_same_over_http_leaves_nothing_behind(shop: Api) -> None:
    before = shop.call("GET", "/audit?model=shop")[1]
    for document, said, remedy in WRONG:
        status, problem = shop.call("POST", "/models/shop/rollouts", {"version": "v2", "plan": document})
        assert (status, problem["code"]) == (422, "invalid_rollout"), document
        assert said in problem["detail"]
        assert remedy in problem["detail"] + str(problem.get("remedy", ""))
    assert shop.call("GET", "/models/shop/rollouts")[1] == []
    assert shop.call("GET", "/audit?model=shop")[1] == before


@pytest.mark.parametrize("place", ["weight", "minimum", "deadline"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused_where_a_document_can_say_it(place: str, value: float) -> None:
    with pytest.raises(InvalidRollout, match=r"step 1|Step 1"):
        read_spec(steps({"weight": 5, place: value}))
    for key in ("alpha", "bake"):
        with pytest.raises(InvalidRollout, match=key):
            read_spec(steps(FIVE, **{key: value}))


def test_nan_in_a_body_is_no_json(shop: Api) -> None:
    body = b'{"version": "v2", "plan": {"alpha": NaN, "steps": [{"weight": 5}]}}'
    headers = {"content-type": "application/json"}
    answer = shop.http.post("/api/v1/models/shop/rollouts", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    assert shop.call("GET", "/models/shop/rollouts")[1] == []


def test_a_metric_that_nothing_measures_is_named_with_the_nearest_that_something_does() -> None:
    with pytest.raises(InvalidRollout) as refused:
        read_spec(steps(FIVE, metrics=[{"name": "conversoin"}]), {"conversion", "größe"})
    assert "Nothing measures 'conversoin'" in refused.value.message
    assert "Did you mean 'conversion'?" in refused.value.remedy


@pytest.mark.parametrize(
    ("weights", "said"), [({"v1": 50, "v2": 40}, "add up to 90"), ({"v1": 60, "v2": 60}, "add up to 120")]
)
def test_weights_that_do_not_add_up_are_refused(shop: Api, weights: dict[str, float], said: str) -> None:
    status, problem = shop.call("PUT", "/models/shop/traffic", {"weights": weights})
    assert (status, problem["code"]) == (400, "invalid_plan")
    assert said in problem["detail"]


def test_a_rollout_without_a_way_back_is_refused_over_http(shop: Api) -> None:
    digest = shop.registry.spec("shop", "v1").manifest.files[0].sha256
    for path in shop.folder.root.parent.joinpath("artifacts").rglob(digest):
        path.unlink()
    status, problem = shop.call("POST", "/models/shop/rollouts", {"version": "v2"})
    assert (status, problem["code"]) == (422, "invalid_rollout")
    assert "no way back" in problem["detail"]
    assert shop.call("GET", "/models/shop/rollouts")[1] == []
