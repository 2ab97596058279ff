"""How a command ends: every error becomes a line on stderr and a documented exit code.

The library raises; this module alone catches, prints and exits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperGroup

from dcpctl.cli.commands import Commands, summary
from dcpctl.cli.parsing import convert_plainly
from dcpctl.errors import DcpctlError, UsageError, printable

INTERRUPTED = 130
CLOSED_PIPE = 141
BUG = 70
#: Set to show the traceback of a bug.
DEBUG = "DCPCTL_DEBUG"

# typer carries click inside itself from 0.26 on and imports it before that; this is either's.
_ClickUsageError: type[Exception] = typer.BadParameter.__mro__[1]


class _EndedEarly(Exception):
    """Carries an exit code past typer, which would print and exit itself."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Shell(TyperGroup):
    """The group of all commands; ends the process as design.md says."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands = Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, each with its whole first sentence."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(name)) for name in self.list_commands(ctx)])

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` among them, that are parsed."""
        return convert_plainly(super().get_params(ctx))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; in standalone mode print errors and exit, else let them through."""
        standalone = kwargs.pop("standalone_mode", True)
        run = partial(super().main, *args, **{**kwargs, "standalone_mode": False})
        if not standalone:
            return run()
        sys.exit(_exit_code(run))

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _EndedEarly(INTERRUPTED) from None
        except BrokenPipeError:
            raise _EndedEarly(CLOSED_PIPE) from None


def _exit_code(run: Callable[[], Any]) -> int:
    """Run, print what went wrong, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may have what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        result = run()
        sys.stdout.flush()
    except _EndedEarly as end:
        return _quiet(end.code)
    except BrokenPipeError:
        return _quiet(CLOSED_PIPE)
    except (KeyboardInterrupt, typer.Abort):
        return _quiet(INTERRUPTED)
    except DcpctlError as error:
        return _fail(error)
    except _ClickUsageError as error:
        return _fail(_usage(error))
    except Exception as error:
        return _bug(error)
    return result if isinstance(result, int) else 0


def _quiet(code: int) -> int:
    """Make the interpreter's own flush at exit harmless where nobody reads any more."""
    if code == CLOSED_PIPE:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
        except (OSError, ValueError):  # not a real file, as under a test's runner
            pass
    return code


def _fail(error: DcpctlError) -> int:
    print_error(error.id, str(error), error.hint)
    return error.exit_code


def _usage(error: Any) -> UsageError:
    """The parser's complaint as one of ours."""
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context is not None else None
    return UsageError(error.format_message(), hint=hint)


def _bug(error: Exception) -> int:
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    print_error(
        "internal",
        f"{what.splitlines()[0]}",
        f"this is a bug in dcpctl; please report it with what {DEBUG}=1 prints",
    )
    return BUG


def print_error(identifier: str, message: str, hint: str | None) -> None:
    """Write an error and its hint to stderr, each on one line and safe to print."""
    lines = [f"error[{identifier}]: {printable(message)}"]
    if hint:
        lines.append(f"  hint: {printable(hint)}")
    sys.stderr.write("\n".join(lines) + "\n")
