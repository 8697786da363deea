"""Every benchmark in turn: the results as JSON in bench/results/, and on the screen as they come.

python bench/run.py [NAME …]
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = (
    "footprint",
    "traffic_changes",
    "record_lookup",
    "profiles",
    "stages",
    "targeting",
    "gateway",
    "workers",
    "inference",
    "overload",
    "shadow",
    "many_models",
    "http_layers",
)


def main() -> None:
    wanted = sys.argv[1:] or list(BENCHMARKS)
    unknown = set(wanted) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"bench: no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    results = {"machine": f"{platform.machine()}, {cores()} cores", "python": platform.python_version()}
    for name in wanted:
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py")], stdout=subprocess.PIPE, text=True, check=True
        )
        print(done.stdout, flush=True)
        results[name] = json.loads(done.stdout[done.stdout.index("{") :])
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    path = folder / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(results, indent=2))
    print(f"written to {path.relative_to(HERE.parent)}")


def cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
