"""The `fairlead` command: which commands there are, and how a run of one ends.

The commands stand in a table with their short help, so that `fairlead --help` loads none of them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import click

from fairlead import __version__
from fairlead.cli.shell import Shell, ending_of, shared_options

__all__ = ["COMMANDS", "fairlead", "main"]


class Entry(NamedTuple):
    """Where a command is, and what it does in a few words: the first sentence of its own help."""

    module: str
    help: str


COMMANDS: dict[str, dict[str, Entry]] = {
    "Serve": {
        "up": Entry("server", "Run everything on this machine until Ctrl-C."),
        "gateway": Entry("server", "Run the gateways and their agent alone, for a cluster."),
        "control": Entry("server", "Run the admin API alone, for a cluster."),
        "ingest": Entry("server", "Run the ingestion of the prediction log alone, for a cluster."),
        "migrate": Entry("server", "Bring the database to this release's schema."),
        "doctor": Entry("doctor", "Check this machine and its Fairlead, and say what to mend."),
        "demo": Entry("server", "Show the whole story on real data."),
    },
    "Look": {
        "status": Entry("status", "Show what serves, how well, and who has confirmed it."),
        "models": Entry("models", "List the models."),
        "versions": Entry("models", "List the versions of a model."),
        "show": Entry("models", "Show a model, or one version of it."),
        "card": Entry("models", "Print the model card of a version as Markdown."),
        "contract": Entry("models", "Print the data contract of a model as TOML."),
        "metrics": Entry("history", "Show how a version has answered lately."),
        "cost": Entry("cost", "Show how much compute answers took, and what it cost."),
        "shadow": Entry("shadow", "Show what a shadow would have answered, and on whom it differs."),
        "monitoring": Entry("monitoring", "Look after the counts that monitoring rests on."),
        "drift": Entry("drift", "Show whether what comes is of the kind that the model was trained on."),
        "importance": Entry(
            "explaining", "Show which features a version goes by, on its training data and in traffic."
        ),
        "alerts": Entry("alerts", "Show what fires, why, and what to do about it."),
        "report": Entry("report", "Show how a version did: by its labels, and estimated without them."),
        "stages": Entry("history", "Show how the versions of a model came to their stages."),
        "production": Entry("history", "Say which version was in production at a moment."),
        "audit": Entry("history", "Show who changed what, when and why."),
    },
    "Register": {
        "init": Entry("starting", "Write a contract, a gate, a rollout and the workflow that uses them."),
        "register": Entry("registering", "Register a model file or folder as a version."),
        "alias": Entry("models", "Point an alias at a version."),
        "archive": Entry("models", "Put a version away that takes no traffic."),
        "configure": Entry("models", "Set serving settings of a model or a version."),
    },
    "Lead traffic": {
        "gate": Entry("gates", "Judge a version beside the one in production, before it gets traffic."),
        "gates": Entry("gates", "Show the gate runs of a model, or all that one of them found."),
        "deploy": Entry("traffic", "Roll a version out by steps, watched, or give it everything at once."),
        "experiments": Entry(
            "experiments", "Show what an experiment has found out: the verdict, and the numbers under it."
        ),
        "rollouts": Entry("rollouts", "Show the rollouts of a model, or one of them with its journal."),
        "pause": Entry("rollouts", "Keep a rollout from going on."),
        "resume": Entry("rollouts", "Let a paused rollout go on."),
        "approve": Entry("rollouts", "Agree that a rollout may leave its step."),
        "widen": Entry("rollouts", "Take a rollout to its next step now, whatever was seen."),
        "promote": Entry("traffic", "Give the canary all traffic."),
        "abort": Entry("rollouts", "End a rollout: everything goes back to the version in production."),
        "traffic": Entry("traffic", "Split the traffic of a model by percent."),
        "freeze": Entry("freezes", "Keep traffic as it is for a time: that of a model, or all."),
        "freezes": Entry("freezes", "List the windows in which traffic stays as it is."),
        "unfreeze": Entry("freezes", "End a freeze window before its time."),
        "targeting": Entry("targeting", "Show or set who gets a certain version whatever the split says."),
        "holdout": Entry("targeting", "Keep a share of the units from every candidate; 0 ends that."),
        "layers": Entry("targeting", "Show which rollouts share a layer, so that no unit is in two of them."),
        "rollback": Entry("traffic", "Take the traffic back to the version before."),
    },
    "Retrain": {
        "triggers": Entry("retraining", "Show what would retrain the models, and what each waits for."),
        "retrain": Entry(
            "retraining", "Retrain a model now: rows from the log, the trainer, the gate, a rollout."
        ),
    },
    "Predict": {
        "predict": Entry("predictions", "Ask a model for one prediction."),
        "predictions": Entry("predictions", "Query the prediction log."),
        "replay": Entry("replay", "Replay a logged request, or logged traffic by another version."),
        "explain": Entry("explaining", "Explain a logged request: how much each feature moved the answer."),
        "outcomes": Entry("predictions", "Report what became of predictions, or let control read it."),
    },
    "About": {
        "version": Entry("server", "Print the release of Fairlead."),
    },
}


class LazyGroup(click.Group):
    """A group that loads a command when it is run, or asked for its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in COMMANDS.values():
            if cmd_name in section:
                module = importlib.import_module(f"fairlead.cli.{section[cmd_name].module}")
                command = getattr(module, cmd_name)
                assert isinstance(command, click.Command)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self.list_commands(ctx))
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in section.items()])

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        arguments = list(sys.argv[1:] if args is None else args)
        shell = Shell()

        def run() -> Any:
            return super(LazyGroup, self).main(
                arguments, prog_name or "fairlead", standalone_mode=False, obj=shell, **extra
            )

        sys.exit(ending_of(run, shell, arguments))


@click.group(
    cls=LazyGroup,
    params=shared_options("admin", "gateway"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 done but not confirmed everywhere.",
)
@click.version_option(__version__, message="fairlead %(version)s")
def fairlead() -> None:
    """From a fitted model to a watched canary.

    Start with `fairlead up`, or see the whole story with `fairlead demo`.
    """


def main() -> NoReturn:
    """What the console script calls."""
    fairlead.main()
