"""What every command shares: its options, where it prints, whom it talks to, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import click

from fairlead.errors import DataContractViolation, FairleadError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from fairlead.client.admin import Admin
    from fairlead.client.http import Client

__all__ = ["Command", "Group", "Shell", "ending_of", "shared_options"]

DONE, REFUSED, WRONG_USAGE, UNCONFIRMED, INTERRUPTED = 0, 1, 2, 3, 130

Server = Literal["admin", "gateway"]


class Shell:
    """One run of a command: the shared options, the two servers and the terminal, each made when needed."""

    def __init__(self) -> None:
        self.json = False
        self.traceback = False
        self.admin_url: str | None = None
        self.url: str | None = None

    @cached_property
    def admin(self) -> Admin:
        """The admin API."""
        from fairlead.client.admin import Admin

        return Admin(self.admin_url)

    @cached_property
    def client(self) -> Client:
        """The data plane."""
        from fairlead.client.http import Client

        return Client(self.url)

    @cached_property
    def console(self) -> Console:
        """Where a person reads what a command answers."""
        from rich.console import Console

        return Console(highlight=False, soft_wrap=False)

    @cached_property
    def aside(self) -> Console:
        """Where a person reads what is said beside the answer: notes and progress, on standard error."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    def show(self, document: Any, *renderables: RenderableType) -> None:
        """Prints the answer: the document as JSON with `--json`, else what a person likes to read."""
        if self.json:
            self.print_json(document)
            return
        for renderable in renderables:
            self.console.print(renderable)

    def print_json(self, document: Any) -> None:
        """The document on standard output, indented when a person reads it."""
        import msgspec

        encoded = msgspec.json.encode(document)
        if sys.stdout.isatty():
            encoded = msgspec.json.format(encoded, indent=2)
        click.echo(encoded.decode())

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar on standard error, where a person sees it. Gives a function that takes how many bytes are
        done, and how many there are."""
        if self.json or not sys.stderr.isatty():
            yield lambda done, total: None
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.aside, transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int], None]]:
        """A running number on standard error, where a person sees it. Gives a function that takes it."""
        if self.json or not sys.stderr.isatty():
            yield lambda number: None
            return
        with self.aside.status(what) as status:
            yield lambda number: status.update(f"{what}: {number:,}")

    def note(self, text: str) -> None:
        """A remark for a person; silent with `--json`."""
        if not self.json:
            self.aside.print(text, style="dim")


# --- options ------------------------------------------------------------------------------------------------


def _into_shell(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        # The same option stands before and behind the command's name; the one that is given counts.
        if value:
            setattr(ctx.ensure_object(Shell), name, value)

    return keep


def _option(flag: str, name: str, **more: Any) -> click.Option:
    return click.Option([flag, name], expose_value=False, callback=_into_shell(name), **more)


def shared_options(*talks_to: Server, json: bool = True) -> list[click.Parameter]:
    """The options that a command has beside its own, depending on the servers that it talks to."""
    options: list[click.Parameter] = []
    if json:
        options.append(
            _option("--json", "json", is_flag=True, help="Print the answer as JSON, nothing else.")
        )
    if "admin" in talks_to:
        options.append(
            _option(
                "--admin-url",
                "admin_url",
                metavar="URL",
                help="Admin API.  [env: FAIRLEAD_ADMIN_URL; default: http://localhost:8080]",
            )
        )
    if "gateway" in talks_to:
        options.append(
            _option(
                "--url",
                "url",
                metavar="URL",
                help="Data plane.  [env: FAIRLEAD_URL; default: http://localhost:8000]",
            )
        )
    options.append(_option("--traceback", "traceback", is_flag=True, hidden=True))
    return options


class Command(click.Command):
    """A command with the shared options; `talks_to` names the servers whose address it takes."""

    def __init__(self, *args: Any, talks_to: Sequence[Server] = (), json: bool = True, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params += shared_options(*talks_to, json=json)


class Group(click.Group):
    """A noun with verbs below it."""

    command_class = Command


# --- how a run ends -----------------------------------------------------------------------------------------


def ending_of(run: Callable[[], Any], shell: Shell, arguments: Sequence[str]) -> int:
    """Runs the command and answers the exit status; what went wrong is printed to standard error."""
    try:
        answer = run()
    except click.UsageError as error:
        if _wants_json(shell, arguments):
            _print_problem(
                {"code": "usage", "detail": error.format_message(), "remedy": _usage_remedy(error)}
            )
        else:
            error.show()
        return WRONG_USAGE
    except click.ClickException as error:
        error.show()
        return REFUSED
    except (click.Abort, KeyboardInterrupt):
        click.echo(err=True)
        return INTERRUPTED
    except FairleadError as error:
        if shell.traceback:
            raise
        _print_error(error, as_json=shell.json)
        return REFUSED
    except BrokenPipeError:
        # Whoever read the output has enough of it (`| head`); nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if shell.traceback:
            raise
        wrapped = FairleadError(
            f"Something failed inside the command: {type(error).__name__}: {error}.",
            remedy="Run it again with --traceback and report what it prints.",
        )
        _print_error(wrapped, as_json=shell.json)
        return REFUSED
    return answer if isinstance(answer, int) else DONE


def _wants_json(shell: Shell, arguments: Sequence[str]) -> bool:
    # An option behind the mistake was not read any more. `predict --json` is about features.
    return shell.json or ("--json" in arguments and "predict" not in arguments)


def _usage_remedy(error: click.UsageError) -> str:
    return f"See `{error.ctx.command_path} --help`." if error.ctx is not None else "See `fairlead --help`."


def _print_error(error: FairleadError, *, as_json: bool) -> None:
    if as_json:
        from fairlead.gateway.statuses import problem

        _print_problem(problem(error))
        return
    colour = False if os.environ.get("NO_COLOR") else None
    click.secho(f"✗ {error.message}", err=True, fg="red", bold=True, color=colour)
    if isinstance(error, DataContractViolation) and len(error.violations) > 1:
        for violation in error.violations:
            row = f"row {violation['row']}, " if "row" in violation else ""
            what = f"{row}{violation.get('field')}: {violation.get('rule')}"
            click.echo(f"  · {what}; expected {violation.get('expected')}", err=True, color=colour)
    if error.remedy:
        click.secho(f"  {error.remedy}", err=True, color=colour)


def _print_problem(document: dict[str, Any]) -> None:
    import msgspec

    click.echo(msgspec.json.encode(document).decode(), err=True)
