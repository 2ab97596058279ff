"""How a command ends: every error becomes a line on stderr and a documented exit code.

The library raises; this module alone catches, prints and exits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from dcpctl.cli import interrupts
from dcpctl.cli.commands import Commands, summary
from dcpctl.cli.parsing import convert_plainly
from dcpctl.errors import DcpctlError, ReadFailed, UsageError, printable

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
    code, error = _outcome(run)
    # An interrupt may come out as another error, or as none, of what it has interrupted.
    code = interrupts.seen() or code
    interrupts.end(code)
    if error is not None and code == error.exit_code:
        with suppress(OSError):  # nobody reads it, or there is no room
            print_error(error.id, error.message, error.hint)
    _hush()
    return code


def _outcome(run: Callable[[], Any]) -> tuple[int, DcpctlError | None]:
    """Run; return the exit code, and what there is to say of it."""
    try:
        interrupts.begin()
        result = run()
        sys.stdout.flush()
        return result if isinstance(result, int) else 0, None
    except _EndedEarly as end:
        return end.code, None
    except BrokenPipeError:
        return CLOSED_PIPE, None
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED, None
    except DcpctlError as error:
        return error.exit_code, error
    except OSError as error:
        if error.filename is not None:
            return BUG, _bug(error)
        failed = ReadFailed(f"writing the output failed: {error.strerror}")
        return failed.exit_code, failed
    except _ClickUsageError as error:
        return UsageError.exit_code, _usage(error)
    except Exception as error:
        return BUG, _bug(error)


def _hush() -> None:
    """Make the interpreter's own flush at exit harmless where what is left cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # not a real file, as under a test's runner
            _hush_one(stream)


def _hush_one(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _usage(error: Any) -> UsageError:
    """The parser's complaint as one of ours."""
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context is not None else None
    return UsageError(error.format_message(), hint=hint)


class _Bug(DcpctlError):
    id = "internal"
    exit_code = BUG


def _bug(error: Exception) -> DcpctlError:
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _Bug(
        what.splitlines()[0],
        hint=f"this is a bug in dcpctl; please report it with what {DEBUG}=1 prints",
    )


def print_error(identifier: str, message: str, hint: str | None) -> None:
    """Write an error and its hint to stderr, each on one line and safe to print."""
    lines = [f"error[{identifier}]: {printable(message)}"]
    if hint:
        lines.append(f"  hint: {printable(hint)}")
    sys.stderr.write("\n".join(lines) + "\n")
