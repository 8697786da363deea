"""Messages over real HTTP and SMTP."""

from __future__ import annotations

import email
import email.policy
import hashlib
import hmac
import json
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from fairlead.alerts import channels
from fairlead.alerts.channels import Mail, Slack, Webhook
from fairlead.alerts.messages import About, Message, message_of, trial
from fairlead.alerts.rules import DEFAULTS
from fairlead.alerts.targets import Targets
from fairlead.errors import DeliveryFailed, InvalidAlerts
from fairlead.monitoring.findings import Finding
from tests.alerts.receiver import MailServer, Receiver

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
HERE = Targets(hosts=("127.0.0.1",), private=("127.0.0.0/8",))
NASTY = 'größe 💶 <!channel>\r\nBcc: eve@example.com "; rm -rf /'


def message(subject: str = "failed answers", number: int = 1) -> Message:
    rule = next(rule for rule in DEFAULTS if rule.name == "errors")
    finding = Finding(
        model="shop", version="v2", kind="errors", subject=subject, status="alarm",
        sentence="12 of 100 answers failed.", start=T0, end=T0,
    )  # fmt: skip
    return message_of(rule, "firing", [About(id="a1", since=T0, finding=finding)] * number, T0)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Webhook:
    monkeypatch.setenv("OPS_SECRET", "quiet")
    return Webhook(url_env="OPS_URL", secret_env="OPS_SECRET")


def test_a_webhook_gets_json_a_key_and_a_signature_that_it_can_check(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver:
        monkeypatch.setenv("OPS_URL", f"{receiver.url}?team=ops")
        webhook.send(message(NASTY), "k1", T0, HERE)
    ((path, headers, body),) = receiver.posts
    assert path == "/hook?team=ops"
    assert headers["idempotency-key"] == "k1"
    stamp, signed = (part.partition("=")[2] for part in headers["x-fairlead-signature"].split(","))
    assert hmac.new(b"quiet", stamp.encode() + b"." + body, hashlib.sha256).hexdigest() == signed
    told = json.loads(body)
    assert (told["id"], told["told"], told["model"], told["severity"]) == ("k1", "firing", "shop", "page")
    assert told["alerts"][0]["finding"]["subject"] == NASTY
    assert "fairlead status shop" in told["runbook"]["look"]


def test_a_receiver_that_answers_otherwise_than_well_has_not_got_it(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(500, 404) as receiver:
        monkeypatch.setenv("OPS_URL", receiver.url)
        for status in (500, 404):
            with pytest.raises(DeliveryFailed, match=f"answered {status}"):
                webhook.send(message(), "k1", T0, HERE)


def test_a_redirect_is_not_followed(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as elsewhere, Receiver(302, headers={"Location": elsewhere.url}) as receiver:
        monkeypatch.setenv("OPS_URL", receiver.url)
        with pytest.raises(DeliveryFailed, match="leads elsewhere"):
            webhook.send(message(), "k1", T0, HERE)
    assert elsewhere.posts == []


def test_no_error_repeats_the_url_or_a_secret(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_URL", "http://127.0.0.1:1/token-4711")
    with pytest.raises(DeliveryFailed) as caught:
        webhook.send(message(), "k1", T0, HERE)
    assert "4711" not in str(caught.value)
    monkeypatch.setenv("OPS_URL", "nonsense-4711")
    with pytest.raises(DeliveryFailed) as caught:
        webhook.send(message(), "k1", T0, HERE)
    assert "4711" not in str(caught.value)
    monkeypatch.delenv("OPS_URL")
    with pytest.raises(DeliveryFailed, match="OPS_URL is not set"):
        webhook.send(message(), "k1", T0, HERE)


def test_a_url_may_lie_in_a_file(tmp_path: Path) -> None:
    with Receiver() as receiver:
        (tmp_path / "url").write_text(f"  {receiver.url}\n")
        Webhook(url_file=str(tmp_path / "url")).send(message(), "k1", T0, HERE)
        with pytest.raises(DeliveryFailed, match="cannot be read"):
            Webhook(url_file=str(tmp_path / "none")).send(message(), "k1", T0, HERE)
    assert receiver.keys() == ["k1"]


def test_a_receiver_that_drips_is_cut_off(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_WHOLE_SECONDS", 0.3)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    while not ended.wait(0.02):
                        connection.sendall(b"H")
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        monkeypatch.setenv("OPS_URL", f"http://127.0.0.1:{listener.getsockname()[1]}/")
        try:
            with pytest.raises(DeliveryFailed):
                webhook.send(message(), "k1", T0, HERE)
        finally:
            ended.set()
            thread.join(5)


def test_slack_gets_text_in_which_nobody_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        monkeypatch.setenv("SLACK_URL", receiver.url)
        Slack(url_env="SLACK_URL").send(message(NASTY, 12), "k1", T0, HERE)
    (told,) = receiver.messages()
    assert told["text"].startswith("*[PAGE] shop: Predictions fail (12 things)*\n")
    assert "<!channel>" not in told["text"]
    assert "&lt;!channel&gt;" in told["text"]
    assert "and 2 more: fairlead alerts shop" in told["text"]


def test_a_mail_has_a_subject_a_body_and_an_id_of_its_own() -> None:
    with MailServer() as server:
        mail = Mail(host="127.0.0.1", port=server.port, sender="a@x.io", to=("b@x.io", "c@x.io"), tls="none")
        mail.send(message(NASTY), "k1", T0, HERE)
    parsed = email.message_from_string(server.mails[0], policy=email.policy.default)
    assert server.receivers == ["b@x.io", "c@x.io"]
    assert (parsed["Subject"], parsed["Message-ID"]) == ("[PAGE] shop: Predictions fail", "<k1@fairlead>")
    assert parsed["Bcc"] is None
    assert "größe 💶 <!channel> Bcc: eve@example.com" in parsed.get_content()


def test_a_mail_server_that_refuses_or_is_away_is_told_of() -> None:
    with MailServer(refuse="550 nobody here") as server:
        mail = Mail(host="127.0.0.1", port=server.port, sender="a@x.io", to=("b@x.io",), tls="none")
        with pytest.raises(DeliveryFailed, match="did not take the message"):
            mail.send(message(), "k1", T0, HERE)
        encrypted = msgspec.structs.replace(mail, tls="starttls")
        with pytest.raises(DeliveryFailed, match="did not take the message"):
            encrypted.send(message(), "k1", T0, HERE)
    with pytest.raises(DeliveryFailed, match="did not take the message"):
        mail.send(message(), "k1", T0, HERE)


@pytest.mark.parametrize(
    ("channel", "told"),
    [
        (Webhook(), "needs a URL"),
        (Slack(url_env="A", url_file="b"), "needs a URL"),
        (Mail(host="h", sender="a@x.io", to=()), "no receivers"),
        (Mail(host="h", sender="a@x.io", to=("b@x.io, eve@x.io",)), "no address"),
        (Mail(host="h", sender="a@x.io\r\nBcc: eve@x.io", to=("b@x.io",)), "no address"),
        (Mail(host="h", sender="a@x.io", to=("b@x.io",), tls="none", user="u"), "in the clear"),
    ],
)
def test_a_channel_that_could_never_work_is_refused(channel: Webhook | Slack | Mail, told: str) -> None:
    with pytest.raises(InvalidAlerts, match=told):
        channel.verify("ops")


def test_a_trial_says_that_nothing_is_wrong(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        monkeypatch.setenv("OPS_URL", receiver.url)
        webhook.send(trial("ops", T0), "k1", T0, HERE)
    (told,) = receiver.messages()
    assert (told["told"], told["alerts"]) == ("test", [])
