"""Errors that a user can do something about, each with a stable id and an exit code."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

_MAX_QUOTED = 200
#: How many offenders of one kind a message names before it counts the rest.
MOST_NAMED = 5
# A CI runner obeys `##[add-mask]x` (GitHub) and `##vso[...]` (Azure) wherever in a line it stands.
_RUNNER_COMMAND = re.compile(r"##(?=\w*\[)")


def quote(text: object) -> str:
    """Return `text` in single quotes, safe to print on a terminal.

    Control, bidirectional and other unprintable characters are written as escapes, so that a
    hostile FQN or file name can neither move the cursor nor reorder the line. Texts of more
    than 200 characters are cut, and the cut is shown.
    """
    raw = str(text)
    shown = raw[:_MAX_QUOTED]
    safe = printable(shown)
    tail = f"...({len(raw)} characters)" if len(raw) > _MAX_QUOTED else ""
    return f"'{safe}{tail}'"


def listed(
    names: Iterable[str],
    most: int = MOST_NAMED,
    *,
    separator: str = ", ",
    show: Callable[[str], str] = quote,
) -> str:
    """Return the first few names for a message, quoted, and how many more there are."""
    every = list(names)
    more = len(every) - most
    shown = separator.join(map(show, every[:most]))
    return f"{shown} and {more:,} more" if more > 0 else shown


def printable(text: object) -> str:
    """Return `text` with every unprintable character written as an escape, without quotes.

    So is what a CI runner would take for a command of its own, in a log that it reads along.
    """
    raw = str(text)
    # Nearly every name is plain ASCII, and every chunk that is opened has its name quoted.
    plain = raw.isascii() and raw.isprintable()
    safe = raw if plain else "".join(_escape(char) for char in raw)
    return _RUNNER_COMMAND.sub(r"\\x23#", safe)


def _escape(char: str) -> str:
    if char == "\\" or char == "'":
        return char
    if char.isprintable() and unicodedata.category(char) not in ("Cf", "Cs"):
        return char
    return char.encode("unicode_escape").decode("ascii")


class DcpctlError(Exception):
    """Base of every error that dcpctl raises on purpose.

    `str(error)` has the message and, below it, the hint; what prints the two itself, or puts the
    message into another one, takes `message`.

    Attributes:
        id: stable identifier, shown as `error[id]`.
        exit_code: the process exit code that the CLI uses for it.
        hint: the next step for the user, or None.
    """

    id = "error"
    exit_code = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """What went wrong, without the hint."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class UsageError(DcpctlError):
    """The command line contradicts itself."""

    id = "usage"
    exit_code = 2


class InputError(DcpctlError):
    """The input is not a checkpoint that can be read."""

    id = "unreadable"
    exit_code = 3


class NotACheckpoint(InputError):
    """The path holds no checkpoint in any form that dcpctl knows."""

    id = "not-a-checkpoint"


class InterruptedSave(InputError):
    """Shard files or `.metadata.tmp` without `.metadata`: the save did not finish."""

    id = "interrupted-save"


class UnsafePickle(InputError):
    """A pickle refers to a global that no known writer puts there."""

    id = "unsafe-pickle"


class MalformedPickle(InputError):
    """A pickle stream breaks the pickle format."""

    id = "malformed-pickle"


class MalformedMetadata(InputError):
    """A well-formed pickle or header that does not describe a checkpoint."""

    id = "malformed-metadata"


class MalformedItem(InputError):
    """A storage item that is not what its metadata says."""

    id = "malformed-item"


class ChecksumMismatch(InputError):
    """Stored bytes do not have the checksum that was recorded for them."""

    id = "checksum-mismatch"


class TruncatedFile(InputError):
    """A file ends before the bytes that the metadata places in it."""

    id = "truncated-file"


class MissingFile(InputError):
    """A file that the metadata names is not there."""

    id = "missing-file"


class PathOutsideCheckpoint(InputError):
    """A path in the metadata leads out of the checkpoint directory."""

    id = "path-outside-checkpoint"


class UnknownForm(InputError):
    """An encoding, dtype or layout that dcpctl does not know."""

    id = "unknown-form"


class Unloadable(UnknownForm):
    """What dcpctl does not know and no torch release loads either."""


class LegacyItem(UnknownForm):
    """A storage item that torch.save wrote before 1.6: a stream of pickles and no archive."""


class BigEndianItem(UnknownForm):
    """A storage item of a big-endian machine, which torch reads right for some dtypes only."""


class PackedItem(UnknownForm):
    """A tensor of a subclass, or a packed one: it can be kept as it is, and not be read or cut."""

    id = "packed-tensor"
    exit_code = 4


class NotALog(InputError):
    """The file is no training log in any form that dcpctl knows."""

    id = "not-a-log"


class NoSteps(UsageError):
    """A training log tells no steps, so that nothing shows where a process took over."""

    id = "no-steps"


class LimitExceeded(InputError):
    """The input asks for more than the limits in `dcpctl.limits` allow."""

    id = "limit-exceeded"


class Refused(DcpctlError):
    """dcpctl could go on, but something would be lost or guessed."""

    id = "refused"
    exit_code = 4


class NothingSelected(DcpctlError):
    """A key, glob or rule selection matches nothing."""

    id = "nothing-selected"
    exit_code = 4


class ReadFailed(DcpctlError):
    """The operating system failed to read or write."""

    id = "io-failed"
    exit_code = 5


class MissingDependency(DcpctlError, ImportError):
    """An optional package is needed for what was asked and is not installed.

    An `ImportError` too, as which a script may expect it of `import dcpctl.training`.
    """

    id = "missing-dependency"
    exit_code = 5
