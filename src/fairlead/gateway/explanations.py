"""Explanations of logged requests on the data plane: control makes them, and is asked from here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from fairlead.errors import MalformedRequest, Overloaded
from fairlead.gateway.protocol import Request, response
from fairlead.gateway.routes import Match
from fairlead.predictions.ask import IngestClient
from fairlead.serving.envelope import encode

__all__ = ["Explanations"]

_MOST_ASKING = 8
_LONGEST_ID = 200
_SECONDS = 3.0


class Explanations:
    """Asks at control's socket. Use from one event loop."""

    def __init__(self, path: Path) -> None:
        self._control = IngestClient(
            path,
            timeout=_SECONDS,
            who="Control, which explains requests,",
            remedy="Try again when control is back; predictions go on without it.",
        )
        self._asking = 0

    async def handle(self, request: Request, match: Match) -> bytes:
        """200 with the explanation, or 202 while it is being made.

        Raises `RecordNotFound`, `NotExplainable`, `MalformedRequest` for a request of several rows,
        `Overloaded`, `StoreUnavailable` while control or the log is away, and whatever else explaining
        raises.
        """
        request_id = unquote(request.path.split(b"/")[3].decode("ascii", "replace"))
        if not 0 < len(request_id) <= _LONGEST_ID:
            raise MalformedRequest(f"A request id has 1 to {_LONGEST_ID} characters.")
        found = await self._asked(request_id)
        if found is not None:
            return response(200, encode(found))
        place = f"/v1/predictions/{quote(request_id, safe='')}/explanation"
        document = {"request_id": request_id, "status": "working", "location": place}
        return response(202, encode(document), f"location: {place}\r\nretry-after: 1\r\n".encode())

    async def _asked(self, request_id: str) -> dict[str, Any] | None:
        if self._asking >= _MOST_ASKING:
            raise Overloaded("Too many ask for explanations here.", remedy="Try again in a second.")
        self._asking += 1
        try:
            loop = asyncio.get_running_loop()
            found: dict[str, Any] | None = await loop.run_in_executor(
                None, lambda: self._control.call("explain", request_id=request_id)
            )
            return found
        except MalformedRequest as error:
            error.remedy = "Add the row to the id: %230 for the first."
            raise
        finally:
            self._asking -= 1
