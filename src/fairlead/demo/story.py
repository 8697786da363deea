"""The story, act by act. Every figure is computed from what the servers answered and logged."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import fairlead
from fairlead.client.admin import Admin
from fairlead.client.http import AsyncClient, Client
from fairlead.client.registered import Rollout
from fairlead.demo.figures import BY_ARM, ArmFigures, arm_figures, brier_difference
from fairlead.demo.screen import Screen
from fairlead.demo.shop import HORIZON_DAYS, checkouts, load_purchases, period
from fairlead.demo.traffic import Replay, replay, report_outcomes
from fairlead.demo.training import (
    BETTER,
    BROKEN,
    SIMPLE,
    Recipe,
    contract_of,
    train,
    training_rows,
    winback_contract,
    winback_onnx,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Story"]

MODEL = "buys-again"
RANKING = "winback"
_DATA = "cdnow-1997-01..08"
_BORNE = 0.05
"""A canary whose Brier score is worse by more than this is rolled back."""
_BROKEN_SHARE = 20
_CHUNK = 400
_JUDGED_SECONDS = 20.0


class Story:
    """What happens in the shop, told once from beginning to end against running servers."""

    def __init__(self, screen: Screen, url: str, admin_url: str) -> None:
        self.screen = screen
        self.url = url
        self.admin_url = admin_url
        self.admin = Admin(admin_url)
        self.sent = 0
        self.answered = 0
        self.failures = 0

    def tell(self) -> None:
        """All acts, in order."""
        rows = self.the_data()
        self.first_version(rows)
        self.first_months(period(rows, "1997-10-01", "1997-12-01"))
        self.canary(rows, period(rows, "1997-12-01", "1998-03-01"))
        self.broken_version(rows, period(rows, "1998-03-01", "1998-06-01"))
        self.ranking(rows)
        self.what_is_left()

    # --- acts -----------------------------------------------------------------------------------------------

    def the_data(self) -> pd.DataFrame:
        """Real purchases become checkouts with features and answers."""
        self.screen.act("A shop's real purchases")
        purchases = load_purchases()
        rows = checkouts(purchases)
        known = training_rows(rows)
        self.screen.say(
            f"CDNOW, {purchases['date'].min():%B %Y} to {purchases['date'].max():%B %Y}: "
            f"{len(purchases):,} purchases of {purchases['customer'].nunique():,} customers, "
            f"{len(rows):,} checkouts.\n"
            f"At each checkout the shop asks: will this customer buy again within {HORIZON_DAYS} days? "
            f"{100 * rows['bought_again'].mean():.1f} % did.\n"
            f"Models learn from {len(known):,} checkouts up to {known['date'].max():%d %B %Y}; what "
            "follows is replayed as live traffic, and each answer's truth is reported afterwards."
        )
        return rows

    def first_version(self, rows: pd.DataFrame) -> None:
        """From a fitted model to production."""
        self.screen.act("From a fitted model to production")
        model, table, answers = train(rows, SIMPLE)
        self.screen.say(f"A {SIMPLE.estimator} on {', '.join(SIMPLE.features)} ({SIMPLE.note}).")
        started = time.perf_counter()
        self._register(model, SIMPLE, table, answers, set_production=True)
        with Client(self.url) as client:
            first = client.predict(MODEL, {"orders": 2, "days_since_first": 14}, unit="somebody")
        seconds = time.perf_counter() - started
        self.screen.holds(
            f"converted, proven, registered, deployed and answering after {seconds:.1f} s "
            f"(first answer {first.prediction!r} by {first.model_version})",
            first.model_version == SIMPLE.version,
        )

    def first_months(self, rows: pd.DataFrame) -> None:
        """v1 alone in production."""
        self.screen.act(f"{SIMPLE.version} answers {_months(rows)}")
        self._live(rows, SIMPLE.features)
        figures = self._figures()
        self.screen.arms(list(figures.values()))
        self._check_log(figures)

    def canary(self, rows: pd.DataFrame, live: pd.DataFrame) -> None:
        """A better version on half of the customers: the judge finds no harm and promotes it by itself."""
        self.screen.act(f"{BETTER.version} beside {SIMPLE.version} in {_months(live)}")
        model, table, answers = train(rows, BETTER)
        self.screen.say(f"A {BETTER.estimator} that {BETTER.note}.")
        self._register(model, BETTER, table, answers)
        self._start(BETTER.version, 50)
        self._live(live, BETTER.features)
        figures = self._figures()
        self.screen.arms(list(figures.values()))
        self._check_log(figures)
        self._verdict(figures["canary"], figures["control"])
        done = self._await_end()
        self.screen.holds(
            f"the judge promoted {BETTER.version}; in production: {self.admin.production_at(MODEL)}",
            done.state == "succeeded" and done.weights == {BETTER.version: 100.0},
        )
        self._tell(done, "promoting")

    def broken_version(self, rows: pd.DataFrame, live: pd.DataFrame) -> None:
        """A unit mistake: the judge sees it in the numbers, and rolls back while callers keep asking."""
        self.screen.act(f"{BROKEN.version} is broken, and gets {_BROKEN_SHARE} % of {_months(live)}")
        model, table, answers = train(rows, BROKEN)
        accuracy = 100 * float(model.score(table, answers))
        self.screen.say(
            f"{BROKEN.note.capitalize()}. In the notebook all looks well: {accuracy:.1f} % accuracy."
        )
        self._register(model, BROKEN, table, answers)
        started = self._start(BROKEN.version, _BROKEN_SHARE)
        began, judged = time.perf_counter(), 0
        for first in range(0, len(live), _CHUNK):
            chunk = live.iloc[first : first + _CHUNK].reset_index(drop=True)
            self._live(chunk, BETTER.features, quiet=True)
            judged = first + len(chunk)
            if self.admin.rollout(MODEL, started.id).over or judged >= len(live) - _CHUNK:
                break
        done = self._await_end()
        seconds = time.perf_counter() - began
        figures = self._figures(started.generation)
        self.screen.arms(list(figures.values()))
        canary, others = figures["canary"], figures["control"]
        self.screen.holds(
            f"the contract saw it: {_share(canary.flagged, canary.rows)} of {BROKEN.version}'s answers are "
            f"flagged against {_share(others.flagged, others.rows)} of {others.version}'s",
            canary.flagged / canary.rows > 2 * others.flagged / others.rows,
        )
        self.screen.holds(
            f"the judge rolled {BROKEN.version} back by itself, {seconds:.1f} s and {canary.rows:,} of its "
            f"answers after it began, {canary.labels:,} of them with an outcome",
            done.state == "rolled_back" and done.weights == {BETTER.version: 100.0},
        )
        self._tell(done, "aborting")
        rest = live.iloc[judged:].reset_index(drop=True)
        after = asyncio.run(replay(self.url, MODEL, rest, BETTER.features))
        self._book(after)
        late = [each for each in after.answered if each.version == BROKEN.version]
        self.screen.holds(
            f"{after.requests:,} requests sent afterwards, {len(late)} answered by {BROKEN.version}; "
            f"{sum(after.failures.values())} failed",
            bool(after.answered) and not late and not after.failures,
        )

    def ranking(self, rows: pd.DataFrame) -> None:
        """A second model whose answer is a list."""
        self.screen.act("A ranking: whom to write to today?")
        onnx, customers = winback_onnx(rows)
        fairlead.register(
            onnx,
            RANKING,
            "v1",
            contract=winback_contract(customers),
            training_data=_DATA,
            tags={"kind": "ranking"},
            set_production=True,
            admin_url=self.admin_url,
        )
        days = [274, 304, 335, 366, 397, 425]
        hits, base, shown = self._winback(rows, days)
        self.screen.say(
            f"Of {len(customers):,} customers the ten with the highest expected value, e.g. "
            + ", ".join(f"{entry['id']} ({entry['score']:.0f} $)" for entry in shown[:3])
            + "."
        )
        self.screen.holds(
            f"asked on {len(days)} days: {100 * hits:.0f} % of the ten bought within {HORIZON_DAYS} days, "
            f"against {100 * base:.1f} % of all customers",
            hits > base,
        )
        told = self._rows(
            "SELECT count(*) AS answers, avg(value) AS hits FROM predictions_with_outcomes "
            f"WHERE model = '{RANKING}' AND metric = 'hits_at_10'"
        )[0]
        self.screen.holds(
            f"the log joins {told['answers']} rankings with outcomes: {told['hits']:.1f} of 10 in the mean",
            abs(told["hits"] / 10 - hits) < 1e-9,
        )

    def what_is_left(self) -> None:
        """The books: nothing lost, and what this history can and cannot show."""
        self.screen.act("The books")
        counted = self._rows(
            f"SELECT count(*) AS n, count(DISTINCT prediction_id) AS ids FROM predictions "
            f"WHERE model = '{MODEL}' AND use_case = 'checkout' AND status = 'ok'"
        )[0]
        self.screen.holds(
            f"{self.sent:,} requests sent, {self.answered:,} answered, {self.failures} failed",
            self.failures == 0,
        )
        self.screen.holds(
            f"{counted['n']:,} records in the log, {counted['ids']:,} distinct",
            counted["n"] == counted["ids"] == self.answered,
        )
        when = self.admin.production_at(MODEL)
        self.screen.holds(f"in production now: {when}", when == BETTER.version)
        self.screen.say(
            "\nWhat this shows: prediction quality on the same period, arm by arm, and what the servers did. "
            "What it cannot show: these customers never saw an arm's decision, so what they did does not "
            "depend on it. This compares predictions; it is no A/B test that was won."
        )

    # --- what acts share ------------------------------------------------------------------------------------

    def _register(
        self, model: Any, recipe: Recipe, table: pd.DataFrame, answers: Any, *, set_production: bool = False
    ) -> None:
        started = time.perf_counter()
        version = fairlead.register(
            model,
            MODEL,
            recipe.version,
            reference=table,
            contract=contract_of(table),
            metrics={"accuracy": float(model.score(table, answers)), "rows": float(len(table))},
            tags={"estimator": recipe.estimator},
            training_data=_DATA,
            set_production=set_production,
            admin_url=self.admin_url,
        )
        proof = version.proof or {}
        self.screen.holds(
            f"{recipe.version} registered in {time.perf_counter() - started:.1f} s: ONNX agrees with "
            f"scikit-learn on all {proof.get('rows', 0):,} reference rows "
            f"(largest difference {proof.get('max_difference', 1.0):.1e})",
            proof.get("share_off") == 0.0,
        )

    def _live(self, rows: pd.DataFrame, features: tuple[str, ...], *, quiet: bool = False) -> None:
        if quiet:
            done = asyncio.run(replay(self.url, MODEL, rows, features))
        else:
            with self.screen.progress("checkouts", len(rows)) as bar:
                task = bar.task_ids[0]

                def advance(count: int) -> None:
                    bar.update(task, completed=count)

                done = asyncio.run(replay(self.url, MODEL, rows, features, on_answer=advance))
        self._book(done)
        told = asyncio.run(report_outcomes(self.url, MODEL, rows, done))
        if quiet:
            return
        self.screen.say(
            f"  {done.requests:,} checkouts in {done.seconds:.1f} s ({done.requests / done.seconds:,.0f} a "
            f"second from one Python client), {told:,} outcomes reported."
        )

    def _book(self, done: Replay) -> None:
        self.sent += done.requests
        self.answered += len(done.answered)
        self.failures += sum(done.failures.values())

    def _figures(self, generation: int | None = None) -> dict[str, ArmFigures]:
        """What the arms did at a generation, or at the one that is served."""
        if generation is None:
            with Client(self.url) as client:
                generation = next(served.generation for served in client.models() if served.model == MODEL)
        return arm_figures(self._rows(BY_ARM.format(model=MODEL, generation=generation)))

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows that a query of the log answers."""
        found = self.admin.sql(sql)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    def _check_log(self, figures: dict[str, ArmFigures]) -> None:
        rows = sum(arm.rows for arm in figures.values())
        labels = sum(arm.labels for arm in figures.values())
        self.screen.holds(
            f"every answer is in the log, and its outcome found it ({labels:,} of {rows:,})",
            rows - labels <= 1,
        )

    def _verdict(self, canary: ArmFigures, others: ArmFigures) -> None:
        """No harm is the condition for a promotion; better is said when the interval says so."""
        difference, margin = brier_difference(canary, others)
        better = "; better, since the interval lies below 0" if difference + margin < 0 else ""
        self.screen.holds(
            f"{canary.version}'s Brier score differs from {others.version}'s by "
            f"{difference:+.4f} ± {margin:.4f}: not worse by more than {_BORNE}{better}",
            difference + margin < _BORNE,
        )
        self.screen.say(
            f"  Of those predicted to come back, {100 * canary.precision:.1f} % did "
            f"({others.version}: {100 * others.precision:.1f} %), "
            f"of {canary.positives:,} and {others.positives:,}."
        )

    # --- rollouts -------------------------------------------------------------------------------------------

    def _start(self, version: str, weight: float) -> Rollout:
        """A rollout of one step, judged by errors and by the Brier score, and quick enough for a story."""
        step = {"weight": weight, "minimum": "2s", "events": 500}
        metrics = [
            {"name": "brier", "kind": "guardrail", "margin": _BORNE},
            # A story is too short to tell latencies from what else this machine does.
            {"name": "p50", "kind": "dry-run"},
            {"name": "p99", "kind": "dry-run"},
        ]
        plan = {"steps": [step, {"weight": 100}], "bake": 0, "metrics": metrics}
        started = self.admin.start_rollout(MODEL, version, plan=plan)
        self.screen.holds(
            f"{version} has {weight:g} % beside a control of the same size, generation {started.generation}: "
            f"it is rolled back if it errs more, or if its Brier score is worse by more than {_BORNE}",
            started.state == "canary",
        )
        return started

    def _await_end(self) -> Rollout:
        """The model's last rollout once it has ended, or as it is after a while."""
        until = time.perf_counter() + _JUDGED_SECONDS
        while True:
            last = self.admin.rollouts(MODEL, limit=1)[0]
            if last.over or time.perf_counter() > until:
                return self.admin.rollout(MODEL, last.id)
            time.sleep(0.1)

    def _tell(self, rollout: Rollout, state: str) -> None:
        """What the judge said when it decided."""
        for event in rollout.journal:
            if event.to_state == state and event.evidence:
                said = [verdict["sentence"] for verdict in event.evidence["judgement"]["verdicts"]]
                self.screen.say("\n".join(f"  [dim]{sentence}[/]" for sentence in said))

    def _winback(self, rows: pd.DataFrame, days: list[int]) -> tuple[float, float, list[dict[str, Any]]]:
        return asyncio.run(self._ask_winback(rows, days))

    async def _ask_winback(
        self, rows: pd.DataFrame, days: list[int]
    ) -> tuple[float, float, list[dict[str, Any]]]:
        import pandas as pd

        customers = rows["customer"].nunique()
        hits: list[float] = []
        base: list[float] = []
        shown: list[dict[str, Any]] = []
        async with AsyncClient(self.url) as client:
            for day in days:
                answer = await client.predict(RANKING, {"day": float(day)}, unit=f"campaign-{day}")
                today = pd.Timestamp("1997-01-01") + pd.Timedelta(days=day)
                window = rows[
                    (rows["date"] > today) & (rows["date"] <= today + pd.Timedelta(days=HORIZON_DAYS))
                ]
                buyers = set(window["customer"])
                found = sum(entry["id"] in buyers for entry in answer.prediction)
                await client.outcome(answer.request_id, "hits_at_10", found, model=RANKING)
                hits.append(found / len(answer.prediction))
                base.append(len(buyers) / customers)
                shown = shown or answer.prediction
        return sum(hits) / len(hits), sum(base) / len(base), shown


def _months(rows: pd.DataFrame) -> str:
    return f"{rows['date'].min():%B %Y} to {rows['date'].max():%B %Y}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"
