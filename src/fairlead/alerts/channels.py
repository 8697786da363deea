"""Channels: how a message reaches somebody. Each raises `DeliveryFailed` where it did not.

A message may be sent again after a crash: each goes with the same key, by which a receiver knows it.
Secrets lie in the environment or in files and are read when a message is sent; no error repeats them.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import logging
import os
import smtplib
import socket
import ssl
import threading
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from fairlead import __version__
from fairlead.alerts.messages import Message, as_text, headline
from fairlead.alerts.targets import Target, Targets
from fairlead.errors import DeliveryFailed, InvalidAlerts

__all__ = ["Channel", "LogChannel", "Mail", "Slack", "Webhook"]

logger = logging.getLogger(__name__)

_SECONDS = 10.0
_LEAST_REPEAT = 60.0
_WHOLE_SECONDS = 20.0
_ANSWER_BYTES = 64 * 1024
_USER_AGENT = f"fairlead/{__version__}"


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table [channels.NAME]. What fires on is told again every `repeat` seconds; 0 is never."""

    repeat: float = 4 * 3_600.0

    def verify(self, name: str) -> None:
        """Raises `InvalidAlerts` where a message could never be sent."""
        if not (self.repeat == 0.0 or _LEAST_REPEAT <= self.repeat < float("inf")):
            raise InvalidAlerts(
                f"Channel {name!r} would repeat what it told after {self.repeat:g} s.",
                remedy=f"Give `repeat` from {_LEAST_REPEAT:g} s, as in '4h', or 0 for never.",
            )

    @property
    def shown(self) -> str:
        """Where it leads, without secrets."""
        return ""


def _require_one(name: str, variable: str | None, file: str | None) -> None:
    if (variable is None) == (file is None):
        raise InvalidAlerts(
            f"Channel {name!r} needs a URL.",
            remedy="Give `url_env`, a variable of control's environment, or `url_file`, a file there.",
        )


class Webhook(_Part, frozen=True, kw_only=True, tag_field="type", tag="webhook"):
    """Posts the message as JSON. With a secret, `X-Fairlead-Signature` is `t=TIME,v1=HMAC`: the SHA-256 HMAC
    of the time in seconds, a dot and the body."""

    url_env: str | None = None
    url_file: str | None = None
    secret_env: str | None = None
    secret_file: str | None = None

    def verify(self, name: str) -> None:
        """Raises `InvalidAlerts` without a URL."""
        super().verify(name)
        _require_one(name, self.url_env, self.url_file)

    @property
    def shown(self) -> str:
        """Where the URL lies."""
        return f"${self.url_env}" if self.url_env else str(self.url_file)

    def send(self, message: Message, key: str, at: datetime, targets: Targets) -> None:
        """Sends it; raises `DeliveryFailed`."""
        body = msgspec.json.encode({"id": key, **msgspec.to_builtins(message)})
        headers = {}
        if self.secret_env or self.secret_file:
            secret = _secret("secret", self.secret_env, self.secret_file).encode()
            stamp = str(int(at.timestamp()))
            signed = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
            headers["X-Fairlead-Signature"] = f"t={stamp},v1={signed}"
        _post(targets.reach(_secret("URL", self.url_env, self.url_file)), body, key, headers)


class Slack(_Part, frozen=True, kw_only=True, tag_field="type", tag="slack"):
    """Posts text to an incoming webhook of Slack, or of what takes the same (Mattermost, Rocket.Chat)."""

    url_env: str | None = None
    url_file: str | None = None

    def verify(self, name: str) -> None:
        """Raises `InvalidAlerts` without a URL."""
        super().verify(name)
        _require_one(name, self.url_env, self.url_file)

    @property
    def shown(self) -> str:
        """Where the URL lies."""
        return f"${self.url_env}" if self.url_env else str(self.url_file)

    def send(self, message: Message, key: str, at: datetime, targets: Targets) -> None:
        """Sends it; raises `DeliveryFailed`."""
        text = f"*{_plain(headline(message))}*\n{_plain(as_text(message))}"
        body = msgspec.json.encode({"text": text})
        _post(targets.reach(_secret("URL", self.url_env, self.url_file)), body, key, {})


class Mail(_Part, frozen=True, kw_only=True, tag_field="type", tag="smtp", rename={"sender": "from"}):
    """Sends mail through a server. `tls` is how the way there is kept: STARTTLS, TLS from the beginning, or
    not at all."""

    host: str
    sender: str
    to: tuple[str, ...]
    port: int = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str | None = None
    password_env: str | None = None
    password_file: str | None = None

    def verify(self, name: str) -> None:
        """Raises `InvalidAlerts` without receivers, or for what is no address."""
        super().verify(name)
        if not self.to:
            raise InvalidAlerts(f"Channel {name!r} has no receivers.", remedy="List addresses in `to`.")
        for address in (self.sender, *self.to):
            if "@" not in address or not address.isprintable() or " " in address or "," in address:
                raise InvalidAlerts(
                    f"Channel {name!r}: {address!r} is no address of a mailbox.",
                    remedy="Write one such as ops@example.com.",
                )
        if self.user is not None and self.tls == "none":
            raise InvalidAlerts(
                f"Channel {name!r} would send a password in the clear.",
                remedy="Let `tls` be 'starttls' or 'implicit', or leave out `user`.",
            )

    @property
    def shown(self) -> str:
        """Server and receivers."""
        return f"{', '.join(self.to)} by {self.host}:{self.port}"

    def send(self, message: Message, key: str, at: datetime, targets: Targets) -> None:
        """Sends it; raises `DeliveryFailed`."""
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = headline(message), self.sender, ", ".join(self.to)
        mail["Date"], mail["Message-ID"] = format_datetime(at), f"<{key}@fairlead>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(as_text(message))
        try:
            with self._server() as server:
                if self.user is not None:
                    server.login(self.user, _secret("password", self.password_env, self.password_file))
                refused = server.send_message(mail)
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise DeliveryFailed(
                f"The mail server {self.host}:{self.port} did not take the message: {_told(error)}.",
                remedy="See that it runs, and that host, port, tls, user and addresses are right.",
            ) from error
        if refused:
            raise DeliveryFailed(
                f"The mail server refused {len(refused)} of {len(self.to)} receivers.",
                remedy="See that the addresses in `to` are right.",
            )

    def _server(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.tls == "implicit":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=_SECONDS, context=context)
        server = smtplib.SMTP(self.host, self.port, timeout=_SECONDS)
        if self.tls == "starttls":
            try:
                server.starttls(context=context)
            except BaseException:
                server.close()
                raise
        return server


class LogChannel(_Part, frozen=True, kw_only=True, tag_field="type", tag="log"):
    """Writes into the log of control."""

    def send(self, message: Message, key: str, at: datetime, targets: Targets) -> None:
        """Writes it."""
        level = logging.WARNING if message.told in ("firing", "reminder") else logging.INFO
        logger.log(level, "%s\n%s", headline(message), as_text(message))


Channel = Webhook | Slack | Mail | LogChannel


# --- over HTTP ----------------------------------------------------------------------------------------------


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was checked, under the name that was asked for."""

    def __init__(self, target: Target) -> None:
        super().__init__(target.host, target.port, timeout=_SECONDS)
        self._target = target

    def connect(self) -> None:
        """Connects; raises OSError."""
        plain = socket.create_connection((self._target.address, self._target.port), _SECONDS)
        if not self._target.secure:
            self.sock = plain
            return
        try:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(plain, server_hostname=self._target.host)
        except BaseException:
            plain.close()
            raise


def _post(target: Target, body: bytes, key: str, headers: dict[str, str]) -> None:
    connection = _Pinned(target)
    default = 443 if target.secure else 80
    host = f"[{target.host}]" if ":" in target.host else target.host
    named = host if target.port == default else f"{host}:{target.port}"
    late = threading.Timer(_WHOLE_SECONDS, _cut, (connection,))
    late.daemon = True
    try:
        connection.connect()
        late.start()  # a receiver that sends a byte now and then must not hold up the others
        sent = {"Host": named, "Content-Type": "application/json", "User-Agent": _USER_AGENT}
        connection.request("POST", target.path, body, {**sent, "Idempotency-Key": key, **headers})
        answer = connection.getresponse()
        answer.read(_ANSWER_BYTES)
        status = answer.status
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DeliveryFailed(
            f"{target.host} did not take the message: {_told(error)}.", remedy="It is tried again."
        ) from error
    finally:
        late.cancel()
        connection.close()
    if 300 <= status < 400:
        raise DeliveryFailed(
            f"{target.host} leads elsewhere ({status}); messages do not follow.",
            remedy="Give the URL that it leads to.",
        )
    if not 200 <= status < 300:
        raise DeliveryFailed(f"{target.host} answered {status}.", remedy="It is tried again.")


def _cut(connection: http.client.HTTPConnection) -> None:
    sock: Any = connection.sock
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _secret(what: str, variable: str | None, file: str | None) -> str:
    """What lies in the variable or the file, without white space around it."""
    if variable is not None:
        value = os.environ.get(variable, "").strip()
        if not value:
            raise DeliveryFailed(
                f"The channel's {what} is missing: the variable {variable} is not set.",
                remedy="Set it in the environment of control, and start control anew.",
            )
        return value
    try:
        return Path(file or "").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DeliveryFailed(
            f"The channel's {what} is missing: {file} cannot be read.", remedy="See that control may read it."
        ) from error


def _told(error: Exception) -> str:
    """What went wrong in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _plain(text: str) -> str:
    """Text in which Slack sees no mark-up of somebody else's."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
