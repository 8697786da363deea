"""alerts.toml: what it changes, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fairlead.alerts.channels import LogChannel, Mail, Webhook
from fairlead.alerts.reading import Config, read_config, read_file
from fairlead.alerts.rules import DEFAULTS
from fairlead.errors import InvalidAlerts

WHOLE = """
[limits]
error_rate = 0.02
p99_ms = 250
[limits.shop]
p99_ms = 50

[rules.latency]
severity = "warning"
after = "3 of 4"
cooldown = "1h 30m"
channels = ["ops"]
[rules.importance]
enabled = false

[[conditions]]
name = "basket"
kind = "drift"
model = "shop"
subject = "basket_*"
above = 0.3
release = 0.2
after = "2 of 3"
runbook = { means = "Baskets change.", look = ["fairlead drift {model}"], do = "Ask the shop." }

[channels.ops]
type = "webhook"
url_env = "OPS_URL"
[channels.mail]
type = "smtp"
host = "mail.example.com"
from = "fairlead@example.com"
to = ["ops@example.com"]

[delivery]
hosts = ["hooks.example.com"]
private = ["10.1.0.0/16"]
"""


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(WHOLE)
    found = read_file(str(path))
    rules = {rule.name: rule for rule in found.rules}
    assert (found.limits.error_rate, found.limits.p99_ms) == (0.02, 250)
    assert (found.limits_for("shop").p99_ms, found.limits_for("shop").error_rate) == (50, 0.02)
    assert found.limits_for("other") == found.limits
    latency = rules["latency"]
    assert (latency.severity, latency.fire, latency.of, latency.cooldown) == ("warning", 3, 4, 5400.0)
    assert found.channels_for(latency) == ("ops",)
    assert found.channels_for(rules["errors"]) == ("log", "ops", "mail")
    assert "importance" not in rules
    assert (rules["basket"].above, rules["basket"].subject) == (0.3, "basket_*")
    assert isinstance(found.channels["ops"], Webhook)
    assert isinstance(found.channels["mail"], Mail)
    assert found.targets.hosts == ("hooks.example.com",)


def test_without_a_file_everything_has_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_file("") == Config() == read_config({})
    assert read_config({}).rules == DEFAULTS
    assert read_config({}).channels == {"log": LogChannel()}
    Path("alerts.toml").write_text("[limits]\nerror_rate = 0.5")
    assert read_file("").limits.error_rate == 0.5
    with pytest.raises(InvalidAlerts, match="cannot be read"):
        read_file("elsewhere.toml")
    Path("alerts.toml").write_text("[limits")
    with pytest.raises(InvalidAlerts, match="is not valid TOML"):
        read_file("")
    Path("alerts.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidAlerts, match="is not valid TOML"):
        read_file("")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[limit]", r"Unknown key 'limit'.*Did you mean 'limits'"),
        ("limits = 3", "no table"),
        ("[limits]\np99 = 3", "Did you mean 'p99_ms'"),
        ("[limits.shop]\nslow = 3", r"\[limits.shop\].*Did you mean 'slower'"),
        ("[limits]\nerror_rate = 1.5", "a share from 0 to 1"),
        ("[limits]\np99_ms = nan", "p99_ms"),
        ("[limits]\np99_ms = inf", "p99_ms"),
        ("[limits]\nslower = 0.5", "a number from 1"),
        ("[limits]\np99_ms = 'fast'", "p99_ms"),
        ("[rules.latncy]", "Did you mean 'latency'"),
        ("[rules.latency]\nabove = 3", "Unknown key 'above'"),
        ("[rules.latency]\nafter = '3 in 4'", "2 of 3"),
        ("[rules.latency]\nafter = '4 of 3'", "4 of 3"),
        ("[rules.latency]\nafter = '1 of 65'", "at most 64"),
        ("[rules.latency]\ncooldown = 'long'", "no duration"),
        ("[rules.latency]\ncooldown = -1", "no span"),
        ("[rules.latency]\nenabled = 'no'", "true or false"),
        ("[rules.latency]\nseverity = 'loud'", "page, warning, info"),
        ("[rules.latency]\nchannels = ['opps']\n[channels.ops]\ntype = 'log'", "Did you mean 'ops'"),
        ("[[conditions]]\nkind = 'drift'", "has no name"),
        ("[[conditions]]\nname = 'a b'\nkind = 'drift'", "has no name"),
        ("[[conditions]]\nname = 'a'", "kind"),
        ("[[conditions]]\nname = 'a'\nkind = 'drif'", "drift"),
        ("[[conditions]]\nname = 'latency'\nkind = 'drift'", "Two rules are called 'latency'"),
        ("[[conditions]]\nname = 'a'\nkind = 'drift'\nabove = 1\nbelow = 2", "two rules"),
        ("[[conditions]]\nname = 'a'\nkind = 'drift'\nabove = 1\nrelease = 2", "still bad"),
        ("[[conditions]]\nname = 'a'\nkind = 'drift'\nrelease = 2", "without a bound"),
        ("[[conditions]]\nname = 'a'\nkind = 'drift'\nabove = nan", "finite"),
        ("[[conditions]]\nname = 'a'\nkind = 'drift'\nrunbook = {mean = 'x'}", "Did you mean 'means'"),
        ("conditions = 3", r"\[\[conditions\]\]"),
        ("[channels]\nops = 3", "type"),
        ("[channels.ops]\ntype = 'pigeon'", "webhook, slack, smtp, log"),
        ("[channels.ops]\ntype = 'webhook'\nurl = 'x'", "Unknown key 'url'"),
        ("[channels.ops]\ntype = 'webhook'", "needs a URL"),
        ("[channels.'a b']\ntype = 'log'", "cannot be called"),
        ("[delivery]\nhost = ['a']", "Did you mean 'hosts'"),
        ("[delivery]\nprivate = ['ten']", "no network"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_would_do(text: str, told: str) -> None:
    with pytest.raises(InvalidAlerts, match=f"(?s){told}") as caught:
        read_config(tomllib.loads(text))
    assert caught.value.remedy
