"""Leading features for the answers whose callers ask for them.

What a version needs for it is read from its files when the first caller asks, so that nobody else pays for
it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path

import msgspec

from fairlead.registry.versions import VersionSpec
from fairlead.runtimes.leading import LEADING_FILE, NO_LEADING, Contribution, Leader, Leading, Told
from fairlead.serving.asks import Ask
from fairlead.serving.live import LiveArm, LoadedVersion

__all__ = ["Leaders"]

logger = logging.getLogger(__name__)


class Leaders:
    """Reads what lies in the folder of versions. Use from one event loop."""

    def __init__(self, versions: Path) -> None:
        self._versions = versions

    async def lead(self, ask: Ask) -> list[Contribution] | None:
        """The leading features of an answered row, by the version that answered; None where that is not
        cheap, and where no version answered. Never raises."""
        arm, prediction = ask.arm, ask.prediction
        if arm is None or prediction is None or ask.degraded == "contract_default":
            return None
        leader = await self.of(arm.version)
        return None if leader.leading.reason else leader.top(ask.row, prediction.value)

    async def told(self, arm: LiveArm) -> Told:
        """What there is to know of the leading features of the arm's version."""
        return (await self.of(arm.version)).told()

    async def of(self, version: LoadedVersion) -> Leader:
        """What reads them off the version's rows; with a `reason` where nothing can."""
        if version.leader is None:
            loop = asyncio.get_running_loop()
            version.leader = await loop.run_in_executor(None, _read, self._versions, version.spec)
        return version.leader


def _read(versions: Path, spec: VersionSpec) -> Leader:
    return Leader(_document(versions / spec.manifest.digest / LEADING_FILE, spec), spec.contract)


def _document(path: Path, spec: VersionSpec) -> Leading:
    digest = next((file.sha256 for file in spec.manifest.files if file.path == LEADING_FILE), None)
    if digest is None:
        return NO_LEADING
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("it is not the one that was registered")
        return msgspec.json.decode(content, type=Leading)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        logger.warning("%s of %s %s cannot be used: %s", LEADING_FILE, spec.model, spec.version, error)
        return Leading(reason="What was found at registration cannot be read here.")
