"""Who is measured: for each server its environment, its start script, its JSON, and how it is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ENTRANTS", "FAIRLEAD", "HELLO", "Entrant", "chosen"]


@dataclass(frozen=True)
class Entrant:
    """One server. `script` lies in `servers/` and starts it; with `prepares`, it is run once before with the
    argument `prepare`. `batch` names the models that it is told to batch."""

    name: str
    title: str
    script: str
    dialect: str
    environment: str | None = None
    batch: tuple[str, ...] = ()
    prepares: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


FAIRLEAD = Entrant("fairlead", "Fairlead", "fairlead_server.py", "fairlead")
HELLO = Entrant("hello", "fixed answer, no model", "hello_server.py", "fairlead")

# Joining rows gains on the heavy model wherever it is offered; on the light ones only some bear it.
ENTRANTS = (
    FAIRLEAD,
    Entrant(
        "triton-1", "Triton, Python back end, 1 HTTP thread", "triton_server.py", "v2", "triton",
        ("forest", "recommender", "heavy"), prepares=True, variables={"BENCH_HTTP_THREADS": "1"},
    ),
    Entrant(
        "triton-8", "Triton, Python back end, 8 HTTP threads", "triton_server.py", "v2", "triton",
        ("forest", "recommender", "heavy"), prepares=True, variables={"BENCH_HTTP_THREADS": "8"},
    ),
    Entrant("mlserver", "MLServer, in process", "mlserver_server.py", "v2", "mlserver", ("heavy",)),
    Entrant("fastapi", "FastAPI + ONNX Runtime", "fastapi_server.py", "named", "fastapi"),
    Entrant("mlflow", "mlflow models serve (ONNX)", "mlflow_server.py", "mlflow", "mlflow", prepares=True),
    Entrant("litserve", "LitServe", "litserve_server.py", "named", "litserve", ("heavy",)),
    Entrant(
        "bentoml", "BentoML", "bentoml_server.py", "rows", "bentoml", ("forest", "recommender", "heavy")
    ),
    Entrant("ray", "Ray Serve", "ray_server.py", "named", "ray", ("heavy",)),
)  # fmt: skip


def chosen(names: str | None) -> list[Entrant]:
    """Fairlead, and the peers that the list names ("triton" means both of its rows); all for None. Raises
    ValueError naming one that there is not."""
    if names is None:
        return list(ENTRANTS)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if not any(name in (entrant.name, entrant.environment) for entrant in ENTRANTS):
            known = ", ".join(entrant.name for entrant in ENTRANTS[1:])
            raise ValueError(f"no such peer: {name}; there are {known}")
    return [
        entrant
        for entrant in ENTRANTS
        if entrant is FAIRLEAD or entrant.name in wanted or entrant.environment in wanted
    ]
