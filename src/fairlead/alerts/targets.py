"""Where messages may go: hosts on a list, and never a private address unless that is allowed, too.

The address that was checked is the one that is connected to, so that a name that is answered otherwise a
moment later leads nowhere else.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from urllib.parse import SplitResult, urlsplit

import msgspec

from fairlead.errors import DeliveryFailed, InvalidAlerts

__all__ = ["Target", "Targets", "resolve"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A place that may be reached: the host by name, the address that it has, and the rest of its URL."""

    secure: bool
    host: str
    address: str
    port: int
    path: str


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """`hosts` are patterns of names that may be reached, `private` networks that may be although they are not
    public."""

    hosts: tuple[str, ...] = ()
    private: tuple[str, ...] = ()

    def verify(self) -> Targets:
        """The targets themselves; raises `InvalidAlerts` for what is no network."""
        for network in self.private:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise InvalidAlerts(
                    f"delivery.private: {network!r} is no network: {error}.",
                    remedy="Write one such as '10.1.2.0/24' or '127.0.0.1/32'.",
                ) from error
        return self

    def reach(self, url: str, look_up: Callable[[str, int], Sequence[str]] = resolve) -> Target:
        """The target of a URL. Raises `DeliveryFailed` where it must not be reached, or cannot be found; the
        URL itself may hold a secret and is not repeated."""
        parts = _split(url)
        host = _name(parts)
        if not any(fnmatchcase(host, pattern.lower().rstrip(".")) for pattern in self.hosts):
            raise DeliveryFailed(
                f"The host {host!r} is not on the list of those that messages may go to.",
                remedy=f"If it should be, add {host!r} to `hosts` of [delivery] in alerts.toml.",
            )
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        try:
            addresses = look_up(host, port)
        except (OSError, UnicodeError) as error:
            raise DeliveryFailed(
                f"The host {host!r} has no address: {error}.", remedy="See that its name is right."
            ) from error
        if not addresses:
            raise DeliveryFailed(f"The host {host!r} has no address.", remedy="See that its name is right.")
        for address in addresses:
            self._require_allowed(host, address)
        path = parts.path or "/"
        return Target(
            secure=secure, host=host, address=addresses[0], port=port,
            path=f"{path}?{parts.query}" if parts.query else path,
        )  # fmt: skip

    def _require_allowed(self, host: str, text: str) -> None:
        address = _inner(ipaddress.ip_address(text.partition("%")[0]))
        if address.is_global and not address.is_multicast and not address.is_reserved:
            return
        if any(address in ipaddress.ip_network(network) for network in self.private):
            return
        raise DeliveryFailed(
            f"The host {host!r} has the address {address}, which is not a public one.",
            remedy="If it should be reached, add its network to `private` of [delivery] in alerts.toml.",
        )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    wrong = any(not each.isprintable() or each.isspace() for each in url.strip())
    if wrong or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise DeliveryFailed(
            "The channel's URL is none that a message can go to.",
            remedy="Give http:// or https://, a host and a path, and no user before the host.",
        )
    return parts


def _name(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower().rstrip(".")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError as error:
        raise DeliveryFailed(
            f"{host!r} is no name of a host.", remedy="Correct the channel's URL."
        ) from error


def _inner(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or address
