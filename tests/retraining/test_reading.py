"""Policies and trainers as people write them into the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import FairleadError, InvalidRetraining
from fairlead.retraining.policy import DAY
from fairlead.retraining.reading import gate_of, plan_of, read_policies, read_trainers
from fairlead.settings import load_settings

TRAINERS = {"t": {"command": ["python", "train.py"], "seconds": "2h"}}


def test_tables_of_the_settings_file_become_policies(tmp_path: Path) -> None:
    file = tmp_path / "fairlead.toml"
    file.write_text(
        '[trainers.t]\ncallable = "a.b:c"\nseconds = "2h"\n'
        '[retraining."größe"]\ntrainer = "t"\nevery = "7d"\n'
        'plan = { strategy = "blue-green", bake = "1m" }\n[log]\nfsync = "always"\n'
    )
    settings = load_settings(environment={}, file=file)
    assert settings.log_fsync == "always"
    trainers = read_trainers(settings.trainers)
    assert trainers["t"].seconds == 7_200
    policy = read_policies(settings.retraining, trainers)["größe"]
    assert policy.every == 7 * DAY
    assert plan_of(policy).bake == 60
    spec = gate_of(policy, "number", "label")
    assert [(metric.name, metric.margin) for metric in spec.metrics] == [("mae", 0.0)]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({}, "has to name one of callable, command and webhook"),
        ({"command": ["a"], "callable": "a:b"}, "has to name one of"),
        ({"callable": "os.system"}, "callable is 'os.system'"),
        ({"callable": "a:b(c)"}, "callable is"),
        ({"webhook": "file:///etc/passwd"}, "webhook is no URL"),
        ({"command": ["a", ""]}, "empty word"),
        ({"command": ["a"], "seconds": "soon"}, "no duration"),
        ({"command": ["a"], "memory_mb": float("nan")}, "memory_mb"),
        ({"command": ["a"], "token_env": "T"}, "goes with a webhook"),
        ({"comand": ["a"]}, "Did you mean 'command'"),
        ("python train.py", "is no table"),
    ],
)
def test_a_trainer_that_makes_no_sense_is_refused_by_name(table: Any, told: str) -> None:
    with pytest.raises(InvalidRetraining, match=told) as refused:
        read_trainers({"größe": table})
    assert "größe" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trainer": "u"}, r"no such trainer.*\[trainers.u\]"),
        ({"every": "1s"}, "every is 1"),
        ({"on": ["weather"]}, "on"),
        ({"window": "1d", "mature": "2d"}, "mature"),
        ({"held_out": 0}, "held_out"),
        ({"held_out": float("nan")}, "held_out"),
        ({"least": 10, "most": 5}, "least"),
        ({"margin": -1.0}, "margin"),
        ({"budget": -1}, "budget"),
        ({"gate": {"metrics": []}, "margin": 0.1}, "a gate and a margin"),
        ({"gate": {"metric": []}}, "metric"),
        ({"plan": {"strategy": "direct"}}, "everything at once"),
        ({"plan": {"stategy": "canary"}}, "stategy"),
        ({"cooldwon": "1d"}, "Did you mean 'cooldown'"),
        ({"model": "other"}, "model"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(FairleadError, match=told):
        read_policies({"shop": {"trainer": "t", **changes}}, read_trainers(TRAINERS))


def test_rankings_need_a_gate_of_their_own() -> None:
    trainers = read_trainers(TRAINERS)
    with pytest.raises(InvalidRetraining, match="answers a ranking"):
        gate_of(read_policies({"shop": {"trainer": "t"}}, trainers)["shop"], "ranking", "label")
    own = {"tests": [{"name": "n", "kind": "exact", "rows": [{"a": 1}], "expected": [1]}]}
    policy = read_policies({"shop": {"trainer": "t", "gate": own}}, trainers)["shop"]
    assert gate_of(policy, "ranking", "label_").target == "label_"


def test_a_candidate_is_rolled_out_by_steps_unless_told() -> None:
    policy = read_policies({"shop": {"trainer": "t"}}, read_trainers(TRAINERS))["shop"]
    assert plan_of(policy).strategy == "canary"
    assert plan_of(policy).steps[0].mirror > 0
