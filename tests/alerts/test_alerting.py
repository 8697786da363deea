"""From looks to alerts, their journal and their messages, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from fairlead.alerts import ledger, silences
from fairlead.alerts.alerting import Alerting
from fairlead.alerts.messages import Message, as_text, headline
from fairlead.alerts.reading import Config, read_config
from fairlead.errors import AlertNotFound, FairleadError, InvalidAlerts, StoreUnavailable
from fairlead.monitoring.findings import Finding, Status
from fairlead.monitoring.loop import LEASE, Look, Loop
from fairlead.registry import audit
from fairlead.serving.firing import FiringAlert, read_firing
from fairlead.stores import leases
from fairlead.stores.database import Database

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)


def found(subject: str = "failed answers", status: Status = "alarm", **changes: object) -> Finding:
    finding = Finding(
        model="shop", version="v2", kind="errors", subject=subject, status=status,
        sentence=f"{subject}: 12 of 100 failed.", start=T0, end=T0, n=100, value=0.12, threshold=0.01,
    )  # fmt: skip
    return msgspec.structs.replace(finding, **changes)


class Desk:
    """Alerts over a real database, fed by hand."""

    def __init__(self, database: Database, folder: Path, config: Config) -> None:
        self.database = database
        self.now = T0
        self.woken = 0
        self.shown = folder / "alerts.json"
        self.finds: list[Finding] | FairleadError = []
        self.config = config
        self.loop = self.control("a")
        with database.write() as connection:
            leases.take(connection, LEASE, "a", now=T0, until=T0 + timedelta(days=9))

    name, seconds = "eye", 1.0

    def look(self, now: datetime) -> list[Finding]:
        if isinstance(self.finds, FairleadError):
            raise self.finds
        return self.finds

    def control(self, name: str) -> Loop:
        def woke() -> None:
            self.woken += 1

        self.alerting = Alerting(self.database, self.config, queued=woke, shown=self.shown)
        return Loop(self.database, [], [self.alerting], name=name, clock=lambda: self.now)

    def see(self, *finds: Finding, times: int = 1, seconds: float = 1.0) -> None:
        for _ in range(times):
            self.finds = list(finds)
            self.pass_by(seconds)

    def pass_by(self, seconds: float = 1.0) -> Look:
        self.now += timedelta(seconds=seconds)
        return self.loop.look(self)

    def standing(self) -> dict[str, str]:
        with self.database.read() as connection:
            return {one.finding.subject: one.state.standing for one in ledger.every(connection, ended=True)}

    def messages(self) -> list[tuple[str, str, str, list[str]]]:
        """Channel, what is told, rule and subjects, oldest first."""
        with self.database.read() as connection:
            queued = ledger.deliveries(connection)
        return sorted(
            (channel, one.told, one.rule, [each.finding.subject for each in one.alerts])
            for channel, one in ((each.channel, each.message) for each in queued)
        )  # fmt: skip


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    return Desk(database, tmp_path, Config())


def test_an_alert_fires_once_with_its_evidence_and_is_told_once(desk: Desk) -> None:
    desk.see(found())
    assert desk.standing() == {"failed answers": "pending"}
    assert desk.messages() == []
    desk.see(found(), times=5)
    assert desk.messages() == [("log", "firing", "errors", ["failed answers"])]
    assert desk.woken == 1
    with desk.database.read() as connection:
        (alert,) = ledger.firing(connection, "shop")
        assert ledger.firing(connection, "other") == []
        journal = ledger.events(connection, alert.id)
    assert alert.finding == found()
    assert [(one.from_standing, one.to_standing, one.told) for one in journal] == [
        ("pending", "firing", "firing"), ("ok", "pending", ""),
    ]  # fmt: skip
    assert read_firing(desk.shown) == [FiringAlert("shop", "errors", "page")]
    desk.see(found(status="ok"), times=32)
    assert desk.standing() == {"failed answers": "resolved"}
    assert [told for _, told, _, _ in desk.messages()] == ["firing", "resolved"]
    assert read_firing(desk.shown) == []


def test_while_it_fires_it_shows_what_was_wrong_and_at_its_end_what_is_right(desk: Desk) -> None:
    desk.see(found(sentence="Half of it fails."), times=3)
    desk.see(found(status="ok", sentence="It answers."))
    with desk.database.read() as connection:
        (shown,) = ledger.firing(connection)
    assert shown.finding.sentence == "Half of it fails."
    desk.see(found(status="ok", sentence="It answers."), times=200)
    with desk.database.read() as connection:
        last = ledger.deliveries(connection)[0].message
    assert (last.told, [one.finding.sentence for one in last.alerts]) == ("resolved", ["It answers."])


def test_what_was_pending_and_never_fired_leaves_nothing(desk: Desk) -> None:
    desk.see(found())
    desk.see(found(status="ok"), times=3)
    assert desk.standing() == {}
    assert desk.messages() == []


def test_ten_features_of_one_model_are_one_message(desk: Desk) -> None:
    features = [found(f"f{number}", kind="drift") for number in range(10)]
    other = found("f0", kind="drift", model="größe 💶")
    desk.see(*features, other, times=2)
    subjects = sorted((told, subjects) for _, told, _, subjects in desk.messages())
    assert subjects == [("firing", ["f0"]), ("firing", [f"f{number}" for number in range(10)])]


def test_two_findings_of_one_key_are_one_alert(desk: Desk) -> None:
    desk.see(found(), found(status="ok"), times=2)
    assert desk.standing() == {"failed answers": "firing"}


def test_what_is_insufficient_or_in_error_is_no_alert_and_ends_none(desk: Desk) -> None:
    desk.see(found("a", "insufficient"), found("b", "error"), times=5)
    assert desk.standing() == {}
    desk.see(found(), times=2)
    desk.see(found(status="insufficient"), times=100)
    assert desk.standing() == {"failed answers": "firing"}


def test_what_is_not_found_any_more_ends_after_a_while(desk: Desk) -> None:
    desk.see(found(), times=2)
    desk.see()
    assert desk.standing() == {"failed answers": "firing"}
    desk.see(seconds=1_000)
    assert desk.standing() == {"failed answers": "resolved"}


def test_a_looker_that_cannot_look_becomes_an_alert_and_ends_no_other(desk: Desk) -> None:
    desk.see(found(), times=2)
    desk.finds = StoreUnavailable("The log does not answer.", remedy="Start it.")
    for _ in range(3):
        desk.pass_by()
    assert desk.standing() == {"failed answers": "firing", "eye": "firing"}


def test_a_control_that_has_lost_the_lease_changes_nothing(desk: Desk) -> None:
    late = desk.control("b")
    desk.finds = [found()]
    for _ in range(3):
        late.look(desk)
    assert desk.standing() == {}


def test_another_control_goes_on_where_the_first_stopped(desk: Desk) -> None:
    desk.see(found())
    with desk.database.write() as connection:
        leases.give_back(connection, LEASE, "a")
        leases.take(connection, LEASE, "b", now=desk.now, until=desk.now + timedelta(hours=1))
    desk.loop = desk.control("b")
    desk.see(found())
    assert desk.standing() == {"failed answers": "firing"}
    assert len(desk.messages()) == 1


HOUR = 3_600.0


def test_what_fires_on_is_told_again_every_four_hours_and_says_so(desk: Desk) -> None:
    desk.see(found(), times=2)
    desk.see(found(), times=8, seconds=HOUR)
    told = [told for _, told, _, _ in desk.messages()]
    assert told == ["firing", "reminder", "reminder"]
    with desk.database.read() as connection:
        (alert,) = ledger.firing(connection)
        journal = [one.told for one in ledger.events(connection, alert.id)]
        subjects = {one.message.told: as_text(one.message) for one in ledger.deliveries(connection)}
    assert journal == ["reminder", "reminder", "firing", ""]
    assert headline(message_about(desk, "reminder")) == "[STILL PAGE] shop: Predictions fail"
    assert "It is over." not in subjects["reminder"]
    desk.see(found(status="ok"), times=16, seconds=3.0)
    assert desk.standing() == {"failed answers": "resolved"}
    desk.see(found(), times=2)
    desk.see(found(), seconds=3 * HOUR)
    assert [told for _, told, _, _ in desk.messages()].count("reminder") == 2, "the hours begin anew"


def message_about(desk: Desk, told: str) -> Message:
    with desk.database.read() as connection:
        return next(one.message for one in ledger.deliveries(connection) if one.message.told == told)


def test_all_that_fires_on_of_a_rule_and_a_model_is_one_reminder(desk: Desk) -> None:
    desk.see(found("a", kind="drift"), times=2)
    desk.see(found("a", kind="drift"), found("b", kind="drift"), times=2, seconds=HOUR)
    desk.see(found("a", kind="drift"), found("b", kind="drift"), seconds=2 * HOUR)
    desk.see(found("a", kind="drift"), found("b", kind="drift"), seconds=2 * HOUR)
    told = [(told, subjects) for _, told, _, subjects in desk.messages()]
    assert told == [("firing", ["a"]), ("firing", ["b"]), ("reminder", ["a", "b"])]


def test_each_channel_is_told_again_as_often_as_it_asks(database: Database, tmp_path: Path) -> None:
    hook = {"type": "webhook", "url_env": "X"}
    channels = {"log": {"type": "log", "repeat": 0}, "often": {**hook, "repeat": "1h"}, "usual": hook}
    desk = Desk(database, tmp_path, read_config({"channels": channels}))
    desk.see(found(), times=2)
    desk.see(found(), times=8, seconds=HOUR)
    times = Counter(channel for channel, told, _, _ in desk.messages() if told == "reminder")
    assert times == {"often": 8, "usual": 2}


def test_of_what_is_acknowledged_nobody_is_reminded_until_it_has_ended(desk: Desk) -> None:
    desk.see(found(), times=2)
    with desk.database.write() as connection:
        (alert,) = ledger.firing(connection)
        ledger.acknowledge(connection, alert.id, who="Zoë", why=" the cache fills 💶 ", now=desk.now)
    desk.see(found(), times=9, seconds=HOUR)
    with desk.database.read() as connection:
        (alert,) = ledger.firing(connection)
        entry = audit.entries(connection, None, 1)[0]
    assert alert.state.acknowledged is not None
    assert (alert.state.acknowledged.by, alert.state.acknowledged.why) == ("Zoë", "the cache fills 💶")
    assert (entry.action, entry.who, entry.why) == ("acknowledge", "Zoë", "the cache fills 💶")
    assert [told for _, told, _, _ in desk.messages()] == ["firing"]
    desk.see(found(status="ok"), times=16, seconds=3.0)
    assert [told for _, told, _, _ in desk.messages()] == ["firing", "resolved"]
    with desk.database.write() as connection, pytest.raises(InvalidAlerts, match="does not fire"):
        ledger.acknowledge(connection, alert.id, who="Zoë", why="again", now=desk.now)
    desk.see(found(), times=2, seconds=HOUR)
    with desk.database.read() as connection:
        assert ledger.get(connection, alert.id).state.acknowledged is None
    desk.see(found(), seconds=5 * HOUR)
    assert [told for _, told, _, _ in desk.messages()].count("reminder") == 1


def test_an_acknowledgement_needs_a_reason_and_an_alert(desk: Desk) -> None:
    desk.see(found(), times=2)
    with desk.database.write() as connection:
        (alert,) = ledger.firing(connection)
        with pytest.raises(InvalidAlerts, match="says nothing"):
            ledger.acknowledge(connection, alert.id, who="ann", why=" ", now=desk.now)
        with pytest.raises(AlertNotFound):
            ledger.acknowledge(connection, "größe", who="ann", why="x", now=desk.now)


def test_within_a_silence_nobody_is_reminded_and_what_is_due_is_told_when_it_ends(desk: Desk) -> None:
    desk.see(found(), times=2)
    with desk.database.write() as connection:
        until = desk.now + timedelta(hours=6)
        silences.add(connection, until=until, why="the sale", who="ann", now=desk.now)
    desk.see(found(), times=6, seconds=HOUR - 1)
    assert [told for _, told, _, _ in desk.messages()] == ["firing"]
    desk.see(found(), seconds=10.0)
    assert [told for _, told, _, _ in desk.messages()] == ["firing", "reminder"]


def test_rules_that_are_changed_hold_from_the_next_look_on(desk: Desk) -> None:
    desk.see(found(), times=2)
    desk.alerting.follow(read_config({"rules": {"errors": {"enabled": False}, "drift": {"after": "1 of 1"}}}))
    desk.see(found(), found("a", kind="drift"))
    assert desk.standing() == {"failed answers": "resolved", "a": "firing"}


def test_a_drift_that_is_gross_is_told_at_its_first_look_and_a_small_one_at_its_second(desk: Desk) -> None:
    gross, small = (found(name, kind="drift", value=value) for name, value in (("g", 0.5), ("s", 0.15)))
    desk.see(gross, small, found("ok", "ok", kind="drift", value=0.9), found("n", kind="drift", value=None))
    assert desk.standing() == {"g": "firing", "s": "pending", "n": "pending"}
    desk.see(gross, small, found("ok", "ok", kind="drift", value=0.9))
    assert desk.standing()["s"] == "firing"


def test_a_silence_holds_messages_back_until_it_ends(desk: Desk) -> None:
    with desk.database.write() as connection:
        made = silences.add(
            connection, until=T0 + timedelta(hours=1), why="the sale", who="ann", now=T0, model="sh*",
            rule="errors",
        )  # fmt: skip
    desk.see(found(), found("silence", kind="traffic"), times=3)
    assert [rule for _, _, rule, _ in desk.messages()] == ["no-traffic"]
    with desk.database.write() as connection:
        silences.end(connection, made.id, who="bob", now=desk.now)
    desk.see(found())
    assert sorted(rule for _, _, rule, _ in desk.messages()) == ["errors", "no-traffic"]


def test_a_condition_of_ones_own_has_its_bound_and_its_hysteresis(database: Database, tmp_path: Path) -> None:
    config = read_config(
        {
            "conditions": [
                {"name": "basket", "kind": "drift", "model": "shop", "subject": "basket_*", "above": 0.3,
                 "release": 0.2, "after": "1 of 1", "clear": 1, "severity": "page"},
            ],
            "rules": {"drift": {"enabled": False}},
        }
    )  # fmt: skip
    desk = Desk(database, tmp_path, config)
    basket = found("basket_size", "ok", kind="drift", value=0.29)
    desk.see(basket, found("other", kind="drift"))
    assert desk.standing() == {}
    desk.see(msgspec.structs.replace(basket, value=0.31))
    assert desk.standing() == {"basket_size": "firing"}
    desk.see(msgspec.structs.replace(basket, value=0.25))
    assert desk.standing() == {"basket_size": "firing"}, "not good enough to end"
    desk.see(msgspec.structs.replace(basket, value=float("nan")))
    desk.see(msgspec.structs.replace(basket, value=0.19))
    assert desk.standing() == {"basket_size": "resolved"}


def test_an_alert_of_a_rule_that_is_gone_ends(desk: Desk) -> None:
    desk.see(found(), times=2)
    desk.config = read_config({"rules": {"errors": {"enabled": False}}})
    desk.loop = desk.control("a")
    desk.see(found())
    assert desk.standing() == {"failed answers": "resolved"}


def test_what_stands_as_it_stood_is_not_written_again_and_again(desk: Desk) -> None:
    desk.see(found(), times=20)
    with desk.database.read() as connection:
        (before,) = ledger.every(connection)
    desk.see(found(value=0.5), times=15)
    with desk.database.read() as connection:
        assert ledger.every(connection) == [before]
    desk.see(found(value=0.5), times=60)
    with desk.database.read() as connection:
        (after,) = ledger.every(connection)
    assert after.finding.value == 0.5, "its evidence is a minute old at most"
