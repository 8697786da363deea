"""The commands and the Python clients against a whole `fairlead up`, from an empty folder to a rollback."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import pty
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import fairlead
from fairlead.cli.main import fairlead as cli
from fairlead.client.admin import Admin
from fairlead.client.http import Client
from fairlead.contracts.document import to_toml
from fairlead.errors import (
    AliasNotFound,
    GenerationConflict,
    InUse,
    InvalidName,
    InvalidPlan,
    MalformedRequest,
    ModelNotFound,
    RecordNotFound,
    StoreUnavailable,
    TrustRequired,
    VersionExists,
    VersionNotFound,
)
from tests.models import FEATURES, SAMPLE, iris_contract, iris_onnx
from tests.servers import Servers, free_port
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One Fairlead for all tests of this file; each uses models of its own."""
    folder = tmp_path_factory.mktemp("fairlead") / "data"
    with Servers(folder, workers=2, FAIRLEAD_CONFIRM_SECONDS="2") as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a person may have lying about: models, tables, a contract."""
    folder = tmp_path_factory.mktemp("files")
    data = load_iris(as_frame=True)
    table = data.data.set_axis(list(FEATURES), axis="columns")
    (folder / "flower.onnx").write_bytes(iris_onnx())
    (folder / "better.onnx").write_bytes(iris_onnx(1))
    (folder / "corrupt.onnx").write_bytes(iris_onnx()[:500])
    (folder / "iris.pkl").write_bytes(pickle.dumps(LogisticRegression(max_iter=500).fit(table, data.target)))
    table.assign(kind=data.target).to_csv(folder / "iris.csv", index=False)
    table.assign(kind=data.target).to_parquet(folder / "iris.parquet")
    (folder / "contract.toml").write_text(to_toml(iris_contract()))
    return folder


@pytest.fixture
def admin(servers: Servers) -> Iterator[Admin]:
    with Admin(servers.admin_url, user="zoë") as client:
        yield client


@pytest.fixture
def client(servers: Servers) -> Iterator[Client]:
    with Client(servers.url) as asking:
        yield asking


def run(servers: Servers, *arguments: str, status: int = 0) -> Result:
    """Runs a command against the servers, in this process, and expects that exit status."""
    addresses = {"FAIRLEAD_URL": servers.url, "FAIRLEAD_ADMIN_URL": servers.admin_url, "NO_COLOR": "1"}
    done = CliRunner(env={**addresses, "COLUMNS": "120"}).invoke(cli, arguments)
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output
    return done


def answer(servers: Servers, *arguments: str, status: int = 0) -> Any:
    """What a command answers as JSON, and nothing else beside it."""
    done = run(servers, *arguments, "--json", status=status)
    assert done.stderr == ""
    return json.loads(done.stdout)


def refusal(servers: Servers, *arguments: str) -> Any:
    """The problem document of a command that is refused."""
    done = run(servers, *arguments, "--json", status=1)
    assert done.stdout == ""
    return json.loads(done.stderr)


def two_versions(servers: Servers, files: Path, model: str) -> None:
    """v1 in production, v2 registered."""
    for name, version in (("flower", "v1"), ("better", "v2")):
        flags = ["--set-production"] if version == "v1" else []
        run(
        servers,             "register", str(files / f"{name}.onnx"), "--model", model, "--version", version,
            "--reference", str(files / "iris.csv"), "--target", "kind", *flags,
        )  # fmt: skip


# --- from nothing to a rollback -----------------------------------------------------------------------------


def test_a_person_goes_from_a_file_to_a_canary_and_back(servers: Servers, files: Path) -> None:
    wait_until(lambda: bool(answer(servers, "status")["gateways"]))  # the agent has carried a first report
    assert answer(servers, "status")["gateways"][0]["live"]
    registered = run(
        servers,         "register", str(files / "flower.onnx"), "--model", "story", "--version", "v1",
        "--reference", str(files / "iris.parquet"), "--target", "kind", "--metric", "accuracy=0.95",
        "--tag", "team=shop", "--training-data", "iris-1936", "--run", "https://example.org/run/1",
        "--description", "Which iris is it?",
    )  # fmt: skip
    assert "story v1" in registered.stdout
    assert "fairlead deploy story v1" in registered.stdout

    first = run(servers, "deploy", "story", "v1", "--strategy", "direct", "--why", "the first")
    assert "generation 1" in first.stdout
    assert "confirmed by" in first.stdout

    envelope = json.loads(
        run(servers, "predict", "story", "--json", json.dumps(SAMPLE), "--unit", "u").stdout
    )
    assert (envelope["model_version"], envelope["training_data"]) == ("v1", "iris-1936")

    run(servers, "register", str(files / "better.onnx"), "--model", "story", "--version", "v2",
                "--reference", str(files / "iris.csv"), "--target", "kind")  # fmt: skip
    assert answer(servers, "deploy", "story", "v2", "--weight", "10")["weights"] == {"v1": 90.0, "v2": 10.0}
    status = run(servers, "status", "story").stdout
    assert "canary" in status
    assert "10 %" in status
    assert answer(servers, "promote", "story")["weights"] == {"v2": 100.0}
    back = answer(servers, "rollback", "story", "--why", "worse")
    assert back["weights"] == {"v1": 100.0}
    assert len(back["confirmed"]) == 2
    again = run(servers, "rollback", "story", status=1)
    assert "no earlier production version" in again.stderr

    actions = [entry["action"] for entry in answer(servers, "audit", "story")]
    assert actions == ["rollback", "rollout", "rollout", "register", "deploy", "describe", "register"]
    assert "worse" in run(servers, "audit", "story").stdout
    assert "production" in run(servers, "stages", "story", "--version", "v1").stdout
    assert run(servers, "production", "story").stdout.strip() == "v1"


def test_the_python_client_does_the_same_from_a_notebook(
    servers: Servers, files: Path, admin: Admin, client: Client
) -> None:
    data = load_iris(as_frame=True)
    table = data.data.set_axis(list(FEATURES), axis="columns")
    model = LogisticRegression(max_iter=500).fit(table, data.target)
    version = fairlead.register(
        model, "notebook", "v1", reference=table, target=data.target, metrics={"accuracy": 0.97},
        tags={"größe": "klein"}, training_data="iris-1936", description="Aus dem Notizbuch: größer",
        set_production=True, admin_url=servers.admin_url, user="zoë",
    )  # fmt: skip
    assert version.stage == "production"
    assert version.tags == {"größe": "klein"}
    assert version.proof is not None
    assert version.spec["lineage"]["training_data_fingerprint"].startswith("sha256:")

    found = client.predict("notebook", table.iloc[0], unit="user-42", return_probabilities=True)
    assert found.prediction == model.predict(table[:1])[0]
    assert found.probabilities is not None
    assert abs(sum(found.probabilities.values()) - 1) < 1e-5
    batch = client.predict_batch("notebook", table, units=[f"u{n}" for n in range(len(table))])
    assert [row.prediction for row in batch] == model.predict(table).tolist()
    assert client.outcome(found.request_id, "conversion", 1) == 1
    revenue = {"unit": "user-42", "metric": "revenue", "value": 9.5, "mode": "add"}
    assert client.outcomes("notebook", [revenue]) == 1
    assert client.health().ready
    assert client.contract("notebook")["properties"]["petal_width"]["type"] == "number"
    assert {model.model for model in client.models()} >= {"notebook"}

    record = wait_until(lambda: records(admin, found.request_id))[0]
    assert record["served_version"] == "v1"
    assert wait_until(lambda: [o for o in admin.outcomes("notebook") if "conversion" in o.metrics])
    rows = admin.sql("SELECT count(*) AS n FROM predictions WHERE model = 'notebook'")
    assert rows.rows[0][0] == 151
    assert {entry.who for entry in admin.audit("notebook")} == {"zoë"}
    assert admin.model("notebook").description == "Aus dem Notizbuch: größer"


def records(admin: Admin, request_id: str) -> Any:
    try:
        return admin.record(request_id)
    except (RecordNotFound, StoreUnavailable):
        return None


# --- registering --------------------------------------------------------------------------------------------


def test_registering_twice_is_refused_and_says_whether_it_is_the_same(servers: Servers, files: Path) -> None:
    command = ["register", str(files / "flower.onnx"), "--model", "twice", "--version", "v1"]
    run(servers, *command)
    same = run(servers, *command, status=1)
    assert "with the same content" in same.stderr
    command[1] = str(files / "better.onnx")
    other = refusal(servers, *command)
    assert other["code"] == "version_exists"
    assert "manifest" in other["changed"]


def test_a_corrupt_file_is_refused_and_nothing_is_registered(servers: Servers, files: Path) -> None:
    register = ["register", str(files / "corrupt.onnx"), "--model", "corrupt", "--version", "v1"]
    done = run(servers, *register, status=1)
    assert "'corrupt.onnx' cannot be loaded" in done.stderr
    assert refusal(servers, "show", "corrupt")["code"] == "model_not_found"


def test_a_scikit_learn_pickle_is_converted_here_and_said_to_be_opened(servers: Servers, files: Path) -> None:
    command = ["register", str(files / "iris.pkl"), "--model", "pickled", "--version", "v1"]
    done = run(servers, *command, "--reference", str(files / "iris.csv"), "--target", "kind")
    assert "Opening iris.pkl here" in done.stderr
    assert "150 rows" in done.stdout
    shown = answer(servers, "show", "pickled@v1")
    assert shown["spec"]["runtime"]["kind"] == "onnx"
    goes_by = shown["features"]["importance"]["features"]
    assert sum(one["share"] for one in goes_by.values()) == pytest.approx(1.0)
    assert shown["features"]["leading"]["scale"] in ("log_odds", "probability")
    run(servers, "deploy", "pickled", "v1", "--strategy", "direct")
    answered = json.loads(
        run(
            servers, "predict", "pickled", "--json", json.dumps(SAMPLE), "--explain", "--probabilities"
        ).stdout
    )
    assert answered["explanation"][0]["feature"] in SAMPLE
    told = run(servers, "show", "pickled@v1").stdout
    assert f"{max(goes_by, key=lambda name: goes_by[name]['share'])} " in told
    assert not any(file["path"].endswith(".pkl") for file in shown["spec"]["manifest"]["files"])
    without = run(servers, *command[:-1], "v2", status=1)
    assert "none were given" in without.stderr


def test_a_trusted_pickle_needs_the_servers_consent(servers: Servers, files: Path) -> None:
    done = run(
        servers,         "register", str(files / "iris.pkl"), "--model", "trusted", "--version", "v1",
        "--reference", str(files / "iris.csv"), "--target", "kind", "--trust-pickle", status=1,
    )  # fmt: skip
    assert "trust_pickle" in done.stderr
    with pytest.raises(TrustRequired):
        fairlead.register(
            files / "iris.pkl", "trusted", "v1", contract=files / "contract.toml", trust_pickle=True,
            admin_url=servers.admin_url,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["größe", "a b", "", "-x", "x" * 101, "../etc"])
def test_a_name_that_breaks_the_rule_is_refused(servers: Servers, files: Path, name: str) -> None:
    with pytest.raises(InvalidName, match=r"[Nn]ame"):
        fairlead.register(files / "flower.onnx", "named", name, admin_url=servers.admin_url)


def test_bytes_that_the_server_has_are_not_sent_again(servers: Servers, files: Path) -> None:
    heard: list[tuple[int, int]] = []
    for version in ("v1", "v2"):
        heard.clear()
        fairlead.register(
            files / "flower.onnx", "once", version, admin_url=servers.admin_url,
            advance=lambda done, total: heard.append((done, total)),
        )  # fmt: skip
    assert heard[-1][0] == heard[-1][1] > 0
    assert len(heard) == 2  # one word per file, and none in between


# --- looking and setting ------------------------------------------------------------------------------------


def test_models_versions_contract_card_alias_archive_and_settings(
    servers: Servers, files: Path, admin: Admin
) -> None:
    two_versions(servers, files, "many")
    assert "many" in run(servers, "models").stdout
    assert [version["version"] for version in answer(servers, "versions", "many")] == ["v1", "v2"]
    assert "v2" in run(servers, "versions", "many").stdout

    contract = run(servers, "contract", "many").stdout
    assert 'name = "petal_width"' in contract
    (files / "edited.toml").write_text(contract.replace('on_range = "flag"', 'on_range = "reject"'))
    run(servers, "register", str(files / "flower.onnx"), "--model", "many", "--version", "v3",
                "--contract", str(files / "edited.toml"))  # fmt: skip
    assert admin.contract("many", "v3").field("petal_width").on_range == "reject"
    assert admin.contract("many").field("petal_width").on_range == "flag"

    assert run(servers, "card", "many@v1").stdout.startswith("# many v1\n")
    run(servers, "alias", "many", "champion", "v1")
    assert run(servers, "alias", "many", "champion").stdout.strip() == "v1"
    assert admin.version("many", "champion").version == "v1"
    run(servers, "alias", "many", "champion", "--remove")
    with pytest.raises(AliasNotFound):
        admin.resolve_alias("many", "champion")

    run(servers, "archive", "many@v2", "--why", "old")
    assert admin.version("many", "v2").stage == "archived"
    run(servers, "archive", "many@v2", "--undo")
    assert admin.version("many", "v2").stage == "none"
    with pytest.raises(InUse):
        admin.archive("many", "v1")

    assert answer(servers, "configure", "many", "cache_seconds=60")["cache_seconds"] == 60
    assert answer(servers, "configure", "many@v1", "timeout_ms=250")["cache_seconds"] == 60
    assert answer(servers, "configure", "many@v1", "timeout_ms=")["timeout_ms"] == 10_000
    assert "timeout ms" in run(servers, "configure", "many@v1").stdout
    assert "'cache_seconds'" in refusal(servers, "configure", "many", "cache_secnds=1")["remedy"]
    assert admin.declare_contract("promised", iris_contract()).names == FEATURES


def test_who_was_in_production_at_a_moment(servers: Servers, files: Path, admin: Admin) -> None:
    before = datetime.now(UTC)
    two_versions(servers, files, "when")
    between = datetime.now(UTC)
    admin.deploy("when", "v2", strategy="blue-green")
    assert admin.production_at("when", before) is None
    assert admin.production_at("when", between) == "v1"
    assert admin.production_at("when") == "v2"
    told = answer(servers, "production", "when", "--at", between.isoformat())
    assert told["version"] == "v1"
    with pytest.raises(MalformedRequest, match="zone"):
        admin.production_at("when", datetime(2026, 1, 1))
    assert [change.to_stage for change in admin.stages("when")] == ["production", "none", "production"]


# --- traffic ------------------------------------------------------------------------------------------------


def test_commands_of_traffic_refuse_by_name(servers: Servers, files: Path, admin: Admin) -> None:
    with pytest.raises(ModelNotFound):
        admin.promote("nothing")
    two_versions(servers, files, "refused")
    with pytest.raises(VersionNotFound, match="v9"):
        admin.deploy("refused", "v9")
    with pytest.raises(InvalidPlan, match="90"):
        admin.traffic("refused", {"v1": 90})
    with pytest.raises(InvalidPlan):
        admin.promote("refused")
    with pytest.raises(GenerationConflict):
        admin.deploy("refused", "v2", expected=7)
    refused = refusal(servers, "deploy", "refused", "v2", "--if-generation", "7")
    assert refused["code"] == "generation_conflict"
    with pytest.raises(VersionExists):
        fairlead.register(files / "flower.onnx", "refused", "v1", admin_url=servers.admin_url)
    assert admin.traffic("refused", {"v1": 70, "v2": 30}, expected=1).generation == 2
    run(servers, "traffic", "refused", "v1=99.99", "v2=0.01%")
    assert admin.rollback("refused", to="v2").weights == {"v2": 100.0}


def test_a_gateway_that_does_not_answer_is_named_and_the_status_is_3(servers: Servers, files: Path) -> None:
    two_versions(servers, files, "late")
    run(servers, "traffic", "late", "v1=50", "v2=50")
    frozen = next(report for report in servers.gateways() if report.slot == 1)
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        done = answer(servers, "rollback", "late", status=3)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    assert done["weights"] == {"v1": 100.0}
    assert [late["gateway"] for late in done["unconfirmed"]] == [frozen.name]
    wait_until(lambda: "✓ served by" in run(servers, "status", "late").stdout)


def test_a_rollback_here_works_while_control_and_agent_are_dead(
    servers: Servers, files: Path, client: Client, admin: Admin
) -> None:
    two_versions(servers, files, "night")
    run(servers, "deploy", "night", "v2", "--strategy", "blue-green")
    stopped = [servers.pid_of("control"), servers.pid_of("agent")]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        done = answer(servers, "rollback", "night", "--local", "--data", str(servers.folder.root))
        assert (done["version"], len(done["confirmed"]), done["unconfirmed"]) == ("v1", 2, [])
        served = {client.predict("night", SAMPLE, unit=f"u{n}").model_version for n in range(20)}
        assert served == {"v1"}
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: admin.production_at("night") == "v1")


# --- the log ------------------------------------------------------------------------------------------------


def test_predictions_are_found_queried_and_followed_by_outcomes(
    servers: Servers, files: Path, client: Client, admin: Admin, tmp_path: Path
) -> None:
    two_versions(servers, files, "logged")
    for number in range(30):
        client.predict("logged", SAMPLE, unit=f"u{number}", request_id=f"logged-{number}")
    wait_until(lambda: records(admin, "logged-29"))
    assert answer(servers, "predictions", "find", "logged-29")[0]["unit"] == "u29"
    assert "logged-29" in run(servers, "predictions", "find", "logged-29").stdout
    lines = tmp_path / "outcomes.csv"
    lines.write_text(
        "request_id,metric,value\n" + "".join(f"logged-{n},conversion,{n % 2}\n" for n in range(30))
    )
    assert answer(servers, "outcomes", "import", str(lines), "--model", "logged") == {"accepted": 30}
    query = "SELECT sum(value_number) FROM outcomes WHERE model = 'logged'"
    columns = answer(servers, "predictions", "sql", "SELECT * FROM outcomes LIMIT 0")["columns"]
    query = query if "value_number" in columns else query.replace("value_number", "value::DOUBLE")
    wait_until(lambda: answer(servers, "predictions", "sql", query)["rows"][0][0] == 15)
    counted = "SELECT served_version, count(*) AS n FROM predictions GROUP BY ALL"
    assert "served_version" in run(servers, "predictions", "sql", counted).stdout
    assert refusal(servers, "predictions", "sql", "SELECT * FROM '/etc/passwd'")["code"] == "invalid_query"
    metrics = answer(servers, "metrics", "logged", "v1", "--window", "1h")
    assert metrics["ok"] == 30
    assert "p99" in run(servers, "metrics", "logged", "v1").stdout


# --- the terminal -------------------------------------------------------------------------------------------


def test_watching_the_status_shows_it_again_and_ends_with_ctrl_c(servers: Servers, files: Path) -> None:
    two_versions(servers, files, "watched")
    reader, writer = pty.openpty()
    environment = servers.environment | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
    command = [sys.executable, "-m", "fairlead", "status", "watched", "--watch", "--every", "0.2",
               "--admin-url", servers.admin_url]  # fmt: skip
    watching = subprocess.Popen(command, env=environment, stdin=writer, stdout=writer, stderr=writer)
    os.close(writer)
    seen = b""
    deadline = time.monotonic() + 30
    while seen.count(b"generation 1") < 3:
        assert time.monotonic() < deadline, seen
        if select.select([reader], [], [], 1.0)[0]:
            seen += os.read(reader, 65_536)
    watching.send_signal(signal.SIGINT)
    while select.select([reader], [], [], 5.0)[0]:
        try:
            seen += os.read(reader, 65_536)
        except OSError:  # the other end is closed
            break
    assert watching.wait(10) == 0
    os.close(reader)
    assert b"Traceback" not in seen
    assert b"\x1b[" in seen


def test_watching_without_a_terminal_prints_one_document_per_look(servers: Servers) -> None:
    command = [sys.executable, "-m", "fairlead", "status", "--watch", "--every", "0.2", "--json",
               "--admin-url", servers.admin_url]  # fmt: skip
    with subprocess.Popen(command, env=servers.environment, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        for _ in range(3):
            assert json.loads(watching.stdout.readline())["fairlead"] == fairlead.__version__
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0


# --- starting -----------------------------------------------------------------------------------------------


def test_up_names_its_addresses_and_the_next_commands(servers: Servers) -> None:
    wait_until(lambda: "is up" in servers.log.read_text())
    said = servers.log.read_text()
    for part in (servers.url, servers.admin_url, str(servers.folder.log), "fairlead register", "--watch"):
        assert part in said


def test_each_role_runs_alone_and_together_they_are_a_fairlead(
    tmp_path: Path, servers: Servers, files: Path
) -> None:
    folder = ["--data", str(tmp_path / "data")]
    roles = {
        # A port of 0 is the system's choice, and the one way to learn it is to be told.
        "gateway": ["--port", "0", "--workers", "1"],
        "control": ["--admin-port", str(free_port())],
        "ingest": [],
    }
    with contextlib.ExitStack() as running:
        told = {}
        for role, flags in roles.items():
            process = running.enter_context(started(servers, role, *folder, *flags, "--json"))
            assert process.stdout is not None
            told[role] = json.loads(process.stdout.readline())
        assert told["gateway"]["roles"] == ["gateway", "agent"]
        assert told["ingest"].keys().isdisjoint({"url", "admin_url"})
        url, admin_url = told["gateway"]["url"], told["control"]["admin_url"]
        with Client(url) as client, Admin(admin_url) as admin:
            assert not client.health().ready  # it has no model yet
            wait_until(admin.gateways)
            fairlead.register(
                files / "flower.onnx", "alone", "v1", contract=iris_contract(), set_production=True,
                admin_url=admin_url,
            )  # fmt: skip
            wait_until(lambda: client.health().ready)
            client.predict("alone", SAMPLE, request_id="alone-1")
            assert wait_until(lambda: records(admin, "alone-1"))[0]["served_version"] == "v1"
        twice = servers.cli("ingest", *folder, check=False)
        assert twice.returncode == 1
        assert "Another Fairlead runs on" in twice.stderr


@contextlib.contextmanager
def started(servers: Servers, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process, ended at the end."""
    command = [sys.executable, "-m", "fairlead", *arguments]
    with subprocess.Popen(command, env=servers.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(30) == 0


@pytest.mark.parametrize("flag", ["--port", "--grpc-port", "--admin-port"])
def test_a_port_in_use_is_named_with_the_flag_that_helps(tmp_path: Path, servers: Servers, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        free = {"--port": "0", "--grpc-port": "0", "--admin-port": "0"}
        ports = [word for pair in {**free, flag: port}.items() for word in pair]
        done = servers.cli("up", "--data", str(tmp_path / "data"), *ports, check=False)
    assert done.returncode == 1
    assert port in done.stderr
    assert flag in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_folder_has_one_fairlead(servers: Servers) -> None:
    ports = ["--port", "0", "--admin-port", "0"]
    done = servers.cli("up", "--data", str(servers.folder.root), *ports, check=False)
    assert done.returncode == 1
    assert "Another Fairlead runs on" in done.stderr
    assert "--data" in done.stderr


def test_migrating_twice_does_nothing(servers: Servers, tmp_path: Path) -> None:
    for _ in range(2):
        assert answer(servers, "migrate", "--data", str(tmp_path))["current"]


def test_the_doctor_finds_a_running_fairlead_well(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_PORT", str(servers.port))
    monkeypatch.setenv("FAIRLEAD_ADMIN_PORT", str(servers.admin_port))
    told = answer(servers, "doctor", "--data", str(servers.folder.root))
    findings = {finding["about"]: finding for finding in told}
    assert "a Fairlead answers" in findings["port"]["found"]
    assert "a Fairlead answers" in findings["admin port"]["found"]
    assert findings["database"]["state"] == "ok"
    assert "2 live" in findings["gateways"]["found"]


def test_windows_tell_how_versions_did(servers: Servers, files: Path, admin: Admin, client: Client) -> None:
    two_versions(servers, files, "windows")
    client.predict_batch("windows", pd.DataFrame([SAMPLE] * 10))
    since = datetime.now(UTC) - timedelta(minutes=5)
    windows = wait_until(lambda: admin.windows("windows", since))
    assert sum(window.ok for window in windows) == 10
    assert {gateway.live for gateway in admin.gateways()} == {True}


def test_ingest_holds_arrow_and_no_pandas(servers: Servers) -> None:
    mapped = Path(f"/proc/{servers.pid_of('ingest')}/maps").read_text()
    assert "/pyarrow/" in mapped
    assert "/pandas/" not in mapped  # though it is installed, and Arrow looks for it


def test_what_answers_cost_is_told_by_version_and_by_caller(servers: Servers, files: Path) -> None:
    two_versions(servers, files, "priced")
    run(servers, "configure", "priced", "price_per_core_hour=36000")
    for number, use_case in enumerate(("checkout", "checkout", "search")):
        row = json.dumps({**SAMPLE, "petal_width": 7.7 + number})  # in no cache
        run(servers, "predict", "priced", "--json", row, "--use-case", use_case)
    found = wait_until(
        lambda: [one for one in answer(servers, "cost", "priced")["lines"] if one["answers"] == 3]
    )
    (line,) = found
    assert (line["shown"], line["name"], line["computed"]) == ("version", "v1", 3)
    assert line["run_seconds"] > 0
    # Another test's model of the same file may have been loaded already: then this one's load costs nothing.
    assert line["compute_seconds"] == pytest.approx(line["run_seconds"] + line["load_seconds"], abs=1e-6)
    assert line["cost"] == pytest.approx(10 * line["compute_seconds"], abs=1e-6)  # both are rounded
    callers = wait_until(
        lambda: [
            told for told in [answer(servers, "cost", "priced", "--by", "use-case")["lines"]]
            if sum(one["answers"] for one in told) == 3
        ]
    )[0]  # fmt: skip
    named = {one["name"]: one for one in callers}
    assert set(named) == {"checkout", "search"}
    assert named["checkout"]["cost"] == pytest.approx(2 * named["search"]["cost"], abs=1e-6)
    assert "checkout" in run(servers, "cost", "priced", "--since", "1h", "--by", "use-case").stdout
    assert "per 1,000 answers" in run(servers, "metrics", "priced", "v1").stdout
    with urllib.request.urlopen(f"{servers.url}/metrics") as told:
        assert 'model_price_per_core_hour{model_name="priced"} 36000' in told.read().decode()
    assert "neither a span" in run(servers, "cost", "--since", "soon", status=1).stderr
    assert refusal(servers, "cost", "nowhere")["code"] == "model_not_found"


def test_a_rollout_is_started_shown_commanded_and_ended_from_the_command_line(
    servers: Servers, files: Path
) -> None:
    for version, file in (("v1", "flower.onnx"), ("v2", "better.onnx")):
        run(servers, "register", str(files / file), "--model", "steps", "--version", version,
            "--reference", str(files / "iris.csv"), "--target", "kind")  # fmt: skip
    refused = run(servers, "deploy", "steps", "v1", status=1)
    assert "compared with" in refused.stderr
    run(servers, "deploy", "steps", "v1", "--strategy", "direct")
    down = run(servers, "deploy", "steps", "v2", "--steps", "25,5,100", status=1)
    assert "goes down" in down.stderr
    begun = run(servers, "deploy", "steps", "v2", "--steps", "5,25,100", "--bake", "1m")
    assert "canary 5 %" in begun.stdout
    assert "step 1 of 3" in begun.stdout
    beside = run(servers, "deploy", "steps", "v2", "--weight", "50", status=1)
    assert "owns the traffic" in beside.stderr
    assert answer(servers, "widen", "steps")["weights"] == {"v1": 75.0, "v2": 25.0}
    assert answer(servers, "pause", "steps", "--why", "lunch")["state"] == "paused"
    assert answer(servers, "resume", "steps")["state"] == "canary"
    shown = run(servers, "rollouts", "steps", "present").stdout
    assert "no request yet" in shown
    assert "lunch" in shown
    ended = answer(servers, "abort", "steps")
    assert (ended["state"], ended["weights"]) == ("rolled_back", {"v1": 100.0})
    assert "rolled back" in run(servers, "rollouts", "steps").stdout
    gone = run(servers, "pause", "steps", status=1)
    assert "No rollout" in gone.stderr


def test_a_rollout_begins_with_copies_unless_it_is_told_how_to_begin(
    servers: Servers, files: Path, tmp_path: Path
) -> None:
    for version, file in (("v1", "flower.onnx"), ("v2", "better.onnx")):
        run(servers, "register", str(files / file), "--model", "begin", "--version", version,
            "--reference", str(files / "iris.csv"), "--target", "kind")  # fmt: skip
    run(servers, "deploy", "begin", "v1", "--strategy", "direct")
    assert "shadow 100 % (step 1 of 6)" in run(servers, "deploy", "begin", "v2").stdout
    run(servers, "abort", "begin")
    assert "canary 1 % (step 1 of 5)" in run(servers, "deploy", "begin", "v2", "--no-shadow").stdout
    run(servers, "abort", "begin")
    plan = tmp_path / "rollout.yaml"
    plan.write_text("bake: 1m\nsteps:\n  - {weight: 20, minimum: 10m}\n  - weight: 100\n")
    assert "canary 20 % (step 1 of 2)" in run(servers, "deploy", "begin", "v2", "--plan", str(plan)).stdout
    run(servers, "abort", "begin")
    run(servers, "freeze", "begin", "--to", "2999-01-01", "--reason", "Black Friday")
    assert "Black Friday" in run(servers, "deploy", "begin", "v2", status=1).stderr
    begun = run(servers, "deploy", "begin", "v2", "--weight", "5", "--override", "it burns").stdout
    assert "canary 5 %" in begun
    assert "it burns" in run(servers, "audit", "begin").stdout
    stale = run(servers, "pause", "begin", "--if-generation", "1", status=1)
    assert "generation" in stale.stderr
    run(servers, "abort", "begin")
    (window,) = answer(servers, "freezes", "begin")
    run(servers, "unfreeze", window["id"])
    assert "Nothing is frozen" in run(servers, "freezes", "begin").stdout
    plan.write_text("bake: 1m\nbake: 2m\n")
    assert "twice in line 2" in run(servers, "deploy", "begin", "v2", "--plan", str(plan), status=2).stderr
