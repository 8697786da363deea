"""wrk against one server: distinct bodies in a circle, and what came back."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from bench.peers.processes import ServerProcess, cores

__all__ = ["Load", "read_report"]

# The requests are made before the clock runs, so that wrk is not what is measured. The circle begins where
# the last load left it: a server that keeps answers has none of the next ones.
_SCRIPT = r"""
local requests, next = {}, 0
init = function(given)
  local headers = {["Content-Type"] = "application/json"}
  for body in io.lines(given[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
  next = tonumber(given[2])
end
request = function()
  next = next % #requests + 1
  return requests[next]
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'REPORT{"requests":%d,"microseconds":%d,"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,' ..
    '"p50":%g,"p99":%g,"longest":%g}\n',
    summary.requests, summary.duration, e.status, e.connect, e.read, e.write, e.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
"""


class Load:
    """Loads one server after the other with the same bodies."""

    def __init__(self, folder: Path, bodies: list[str]) -> None:
        self._script, self._bodies = folder / "load.lua", folder / "bodies.jsonl"
        self._script.write_text(_SCRIPT)
        self._bodies.write_text("\n".join(bodies) + "\n")
        self._count, self._position = len(bodies), 0

    def run(self, server: ServerProcess, path: str, connections: int, seconds: int) -> dict[str, float]:
        """Requests per second, latency in milliseconds, errors, and how many cores the server used."""
        used = server.cpu_seconds()
        url = f"http://127.0.0.1:{server.port}{path}"
        command = [
            "taskset", "-c", str(cores()[1]), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout",
            "10s", "-s", str(self._script), url, "--", str(self._bodies), str(self._position),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
        report = read_report(done.stdout + done.stderr)
        # Those under way when the time was up have been sent, too.
        self._position = (self._position + int(report.pop("requests")) + connections) % self._count
        report["cores"] = round((server.cpu_seconds() - used) / report.pop("seconds"), 2)
        return report


def read_report(text: str) -> dict[str, float]:
    """What the script wrote at its end; ValueError when it wrote nothing."""
    found = re.search(r"REPORT(\{.*\})", text)
    if found is None:
        raise ValueError(f"wrk gave no report: {text.strip()[-300:]}")
    raw = json.loads(found[1])
    seconds = raw["microseconds"] / 1e6
    return {
        "requests": raw["requests"],
        "seconds": seconds,
        "per_second": round(raw["requests"] / seconds, 1),
        "p50_ms": round(raw["p50"] / 1000, 3),
        "p99_ms": round(raw["p99"] / 1000, 3),
        "longest_ms": round(raw["longest"] / 1000, 3),
        "errors": sum(raw[kind] for kind in ("status", "connect", "read", "write", "timeout")),
    }
