"""Where messages may go: what is listed, and nothing private unless it is allowed."""

from __future__ import annotations

import pytest

from fairlead.alerts.targets import Targets
from fairlead.errors import DeliveryFailed, InvalidAlerts

PUBLIC = "93.184.216.34"
LISTED = Targets(hosts=("hooks.example.com", "*.slack.com", "xn--grsse-kua.example"))


def reach(url: str, *addresses: str, targets: Targets = LISTED) -> tuple[str, int, str]:
    found = targets.reach(url, lambda host, port: addresses or [PUBLIC])
    return found.host, found.port, found.path


def test_a_listed_host_is_reached_under_the_address_that_was_checked() -> None:
    found = LISTED.reach("https://Hooks.Example.com./a/b?c=d#e", lambda host, port: [PUBLIC])
    assert (found.host, found.address, found.port, found.path, found.secure) == (
        "hooks.example.com", PUBLIC, 443, "/a/b?c=d", True,
    )  # fmt: skip
    assert reach("http://a.slack.com:8080") == ("a.slack.com", 8080, "/")
    assert reach("https://größe.example/") == ("xn--grsse-kua.example", 443, "/")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/", "https://slack.com/", "https://hooks.example.com.evil.org/",
        "https://a.slack.com.evil.org/", "https://evil.org/hooks.example.com", "https://evil.org#.slack.com",
    ],
)  # fmt: skip
def test_a_host_that_is_not_listed_is_refused_by_name(url: str) -> None:
    with pytest.raises(DeliveryFailed, match="not on the list"):
        reach(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example.com", "ftp://hooks.example.com/", "file:///etc/passwd", "https://", "https:///a",
        "https://user:pass@hooks.example.com/", "https://hooks.example.com:port/", "https://[::1/",
        "https://hooks.example.com/a b", "https://hooks.example.com/a\r\nHost: evil.org",
    ],
)  # fmt: skip
def test_what_is_no_url_for_a_message_is_refused(url: str) -> None:
    with pytest.raises(DeliveryFailed, match="none that a message can go to"):
        reach(url)


PRIVATE = [
    "127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
    "64:ff9b::a00:1", "2002:a00:1::",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_refused_even_among_public_ones(address: str) -> None:
    for addresses in ((address,), (PUBLIC, address)):
        with pytest.raises(DeliveryFailed, match="not a public one"):
            reach("https://hooks.example.com/", *addresses)


def test_a_private_network_may_be_allowed_and_others_stay_refused() -> None:
    targets = Targets(hosts=("*",), private=("10.1.0.0/16", "::1/128")).verify()
    assert reach("http://inner/", "10.1.2.3", targets=targets)[0] == "inner"
    assert reach("http://inner/", "::ffff:10.1.2.3", targets=targets)[0] == "inner"
    assert reach("http://[::1]:80/", "::1", targets=targets)[0] == "::1"
    with pytest.raises(DeliveryFailed, match="not a public one"):
        reach("http://inner/", "10.2.0.1", targets=targets)


def test_without_a_list_nothing_is_reached() -> None:
    with pytest.raises(DeliveryFailed, match="not on the list"):
        reach("https://hooks.example.com/", targets=Targets())


def test_a_host_without_an_address_is_told_of() -> None:
    def nobody(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    with pytest.raises(DeliveryFailed, match="has no address: no such host"):
        LISTED.reach("https://hooks.example.com/", nobody)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(InvalidAlerts, match="is no network"):
        Targets(private=("10.1.2.3/8",)).verify()
