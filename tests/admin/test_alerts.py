"""Alerts, silences, rules and channels over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.alerts.alerting import Alerting
from fairlead.alerts.reading import Config
from fairlead.monitoring.findings import Finding, Status
from fairlead.monitoring.loop import LEASE, Look
from fairlead.stores import leases
from tests.admin.conftest import Api

NASTY = "größe 💶 '; rm -rf /"


def look(api: Api, times: int = 2, status: Status = "alarm", subject: str = "failed answers") -> None:
    """Lets a looker find something about `shop`, some seconds after each other."""
    alerting = Alerting(api.database, Config())
    now = datetime.now(UTC)
    with api.database.write() as connection:
        leases.take(connection, LEASE, "a", now=now, until=now + timedelta(hours=1))
    for second in range(times):
        at = now + timedelta(seconds=second)
        finding = Finding(
            model="shop", version="v2", kind="errors", subject=subject, status=status,
            sentence=f"{subject}: 12 of 100.", start=at, end=at, n=100, value=0.12,
        )  # fmt: skip
        alerting(Look(looker="pulse", at=at, findings=(finding,)), "a")


def test_an_alert_is_listed_with_its_evidence_and_shown_with_what_to_do(api: Api) -> None:
    assert api.call("GET", "/alerts") == (200, [])
    look(api)
    _, (listed,) = api.call("GET", "/alerts?model=shop")
    assert (listed["rule"], listed["severity"], listed["standing"]) == ("errors", "page", "firing")
    assert (listed["finding"]["value"], listed["silenced"], listed["flapping"]) == (0.12, False, False)
    assert api.call("GET", "/alerts?model=other") == (200, [])
    _, shown = api.call("GET", f"/alerts/{listed['id']}")
    assert shown["alert"] == listed
    assert "fairlead status shop" in shown["runbook"]["look"]
    assert [one["to_standing"] for one in shown["events"]] == ["firing", "pending"]
    _, status = api.call("GET", "/status")
    assert [(one["id"], one["rule"], one["model"]) for one in status["alerts"]] == [
        (listed["id"], "errors", "shop")
    ]
    look(api, 40, "ok")
    assert api.call("GET", "/alerts") == (200, [])
    _, (over,) = api.call("GET", "/alerts?ended=true")
    assert over["standing"] == "resolved"
    assert api.call("GET", "/status")[1]["alerts"] == []


def test_rules_are_listed_with_who_is_told_and_what_to_do(api: Api) -> None:
    _, rules = api.call("GET", "/alerts/rules")
    (errors,) = [one for one in rules if one["rule"]["name"] == "errors"]
    assert errors["channels"] == ["log"]
    assert any("{model}" in one for one in errors["runbook"]["look"])


def test_an_alert_is_acknowledged_with_who_and_why_as_long_as_it_fires(api: Api) -> None:
    look(api)
    _, (listed,) = api.call("GET", "/alerts")
    assert listed["acknowledged"] is None
    path = f"/alerts/{listed['id']}/ack"
    assert api.refused("POST", path, {"why": " "}) == (422, "invalid_alerts")
    assert api.refused("POST", path, {"wy": "x"})[1] == "malformed_request"
    status, done = api.call("POST", path, {"why": NASTY}, x_fairlead_user="Zoë".encode())
    assert (status, done["acknowledged"]["by"], done["acknowledged"]["why"]) == (200, "Zoë", NASTY)
    assert api.call("GET", "/alerts")[1] == [done]
    assert api.call("GET", f"/alerts/{listed['id']}")[1]["alert"]["acknowledged"] == done["acknowledged"]
    assert [entry["action"] for entry in api.call("GET", "/audit")[1]] == ["acknowledge"]
    look(api, 40, "ok")
    assert api.refused("POST", path, {"why": "late"}) == (422, "invalid_alerts")
    assert api.call("GET", "/alerts?ended=true")[1][0]["acknowledged"] is None


def test_a_file_that_is_not_followed_is_told_of_by_its_route_and_by_the_status(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api.call("GET", "/alerts/file")[1]["problem"] is None
    file = tmp_path / "alerts.toml"
    file.write_text("[rules.errors]\nenabled = false\n")
    monkeypatch.setattr(api.following, "_named", str(file))
    monkeypatch.setattr(api.following, "_path", file)
    api.following.look(asked=True)
    names = {one["rule"]["name"] for one in api.call("GET", "/alerts/rules")[1]}
    assert "errors" not in names, "a change is shown at once"
    file.write_text('["größe"]\n')
    api.following.look(asked=True)
    assert "größe" in api.call("GET", "/alerts/file")[1]["problem"]
    assert any("is not followed" in one for one in api.call("GET", "/status")[1]["lacking"])
    assert {one["rule"]["name"] for one in api.call("GET", "/alerts/rules")[1]} == names


def test_an_alert_that_there_is_not_is_refused_by_name(api: Api) -> None:
    assert api.refused("GET", "/alerts/none") == (404, "alert_not_found")
    assert api.refused("POST", "/alerts/none/ack", {"why": "x"}) == (404, "alert_not_found")
    assert api.refused("DELETE", "/alerts/silences/none") == (404, "alert_not_found")
    assert api.refused("POST", "/alerts/channels/none/test") == (404, "alert_not_found")


def test_a_silence_is_made_listed_felt_and_ended_with_who_and_why(api: Api) -> None:
    look(api)
    body = {"until": "2026-12-31T00:00:00+02:00", "why": f" {NASTY} ", "model": "sh*"}
    body["until"] = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    status, made = api.call("POST", "/alerts/silences", body, x_fairlead_user="ann")
    assert (status, made["who"], made["why"], made["rule"]) == (200, "ann", NASTY, "*")
    assert api.call("GET", "/alerts")[1][0]["silenced"] is True
    assert [one["id"] for one in api.call("GET", "/alerts/silences")[1]] == [made["id"]]
    status, ended = api.call("DELETE", f"/alerts/silences/{made['id']}", x_fairlead_user="bob")
    assert (status, ended["ended_by"]) == (200, "bob")
    assert api.call("DELETE", f"/alerts/silences/{made['id']}")[1]["ended_by"] == "bob"
    assert api.call("GET", "/alerts/silences") == (200, [])
    assert len(api.call("GET", "/alerts/silences?over=true")[1]) == 1
    assert api.call("GET", "/alerts")[1][0]["silenced"] is False
    assert [entry["action"] for entry in api.call("GET", "/audit")[1]] == ["unsilence", "silence"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"until": "2999-01-01T00:00:00Z", "why": "long"}, "invalid_alerts"),
        ({"until": "2020-01-01T00:00:00Z", "why": "late"}, "invalid_alerts"),
        ({"until": "2999-01-01T00:00:00Z", "why": " "}, "invalid_alerts"),
        ({"until": "2999-01-01T00:00:00", "why": "no zone"}, "malformed_request"),
        ({"why": "for ever"}, "malformed_request"),
        ({"until": "2999-01-01T00:00:00Z", "why": "x", "modle": "shop"}, "malformed_request"),
    ],
)
def test_a_silence_that_says_no_end_or_no_reason_is_refused(api: Api, body: Any, code: str) -> None:
    assert api.refused("POST", "/alerts/silences", body)[1] == code


def test_the_log_is_a_channel_that_can_be_tried_and_deliveries_are_listed(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    assert api.call("GET", "/alerts/channels") == (
        200, [{"name": "log", "type": "log", "to": "", "repeat": 14_400.0}],
    )  # fmt: skip
    with caplog.at_level("INFO", "fairlead.alerts.channels"):
        status, sent = api.call("POST", "/alerts/channels/log/test")
    assert (status, sent["sent"]) == (200, "[TEST] A trial of channel log")
    assert "nothing is wrong" in caplog.text
    look(api)
    _, (waiting,) = api.call("GET", "/alerts/deliveries")
    assert (waiting["channel"], waiting["told"], waiting["rule"], waiting["state"]) == (
        "log", "firing", "errors", "waiting",
    )  # fmt: skip
