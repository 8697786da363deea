"""Fails when a lock is out of step with pyproject.toml, lacks hashes, or names where packages come from."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = ("dev.txt", "gateway.txt", "data.txt")


def main() -> int:
    faults = []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for name in LOCKS:
        text = (ROOT / "requirements" / name).read_text()
        pinned = re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==", text, re.MULTILINE | re.IGNORECASE)
        if re.search(r"https?://|file://|--index-url|--find-links", text):
            faults.append(f"requirements/{name} names where packages come from")
        blocks = re.split(r"\n(?=\S)", text)
        faults += [
            f"requirements/{name}: {block.split()[0]} has no hash"
            for block in blocks
            if "==" in block.split("\n")[0] and "--hash=" not in block
        ]
        if name == "dev.txt":
            wanted = project["project"]["dependencies"]
            for requirement in wanted:
                package = re.match(r"[A-Za-z0-9._-]+", requirement)
                if package and package[0].lower() not in {found.lower() for found in pinned}:
                    faults.append(f"{package[0]} is a dependency and not in requirements/{name}: make lock")
    for fault in faults:
        print(f"lock: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
