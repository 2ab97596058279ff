"""Rules of a rename: a name in, its new name out, or nothing where the rule is not about it.

A rule is a value; how it is written on a command line is for the functions that read it
(`literal`, `prefix`, `regex`) and for a report that offers a command.
"""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread

from dcpctl import limits
from dcpctl.errors import InputError, UsageError, quote


@dataclass(frozen=True, slots=True)
class Literal:
    """One key, or a module: with all that lies below it at a dot.

    Attributes:
        old: the key or module.
        new: what it is called from now on.
    """

    old: str
    new: str

    def apply(self, name: str) -> str | None:
        """Return the new name, or None where the rule is not about `name`."""
        if name == self.old:
            return self.new
        return self.new + name[len(self.old) :] if name.startswith(self.old + ".") else None

    def __str__(self) -> str:
        return f"{self.old}={self.new}"


@dataclass(frozen=True, slots=True)
class Prefix:
    """What names begin with.

    Attributes:
        old: the prefix; empty for the whole model.
        new: what stands in its place; may be empty.
    """

    old: str
    new: str

    def apply(self, name: str) -> str | None:
        """Return the new name, or None where the rule is not about `name`."""
        return self.new + name[len(self.old) :] if name.startswith(self.old) else None

    def __str__(self) -> str:
        return f"{self.old}={self.new}"


@contextmanager
def _bounded(what: str) -> Iterator[None]:
    """End what takes longer than any match of a name does: an expression that backtracks.

    Python's `re` looks for signals while it matches. Other threads than the main one get none, and
    nobody's own timer is touched.

    Raises:
        UsageError: it took over `limits.REGEX_SECONDS`.
    """
    usable = hasattr(signal, "setitimer") and current_thread() is main_thread()
    if not usable or signal.getitimer(signal.ITIMER_VIRTUAL)[0]:
        yield
        return

    def late(signum: int, frame: object) -> None:
        raise UsageError(
            f"{what} takes over {limits.REGEX_SECONDS} seconds",
            hint="repeat nothing that repeats: (a+)+ tries every way to part a name",
        )

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, limits.REGEX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@dataclass(frozen=True, slots=True)
class Regex:
    r"""A regular expression that is looked for anywhere in a name.

    Attributes:
        pattern: the compiled expression.
        new: the replacement of every match; `\1` and `\g<name>` are its groups.
    """

    pattern: re.Pattern[str]
    new: str

    def apply(self, name: str) -> str | None:
        """Return the new name, or None where the rule is not about `name`."""
        with _bounded(f"the regular expression {quote(self.pattern.pattern)} on {quote(name)}"):
            made, count = self.pattern.subn(self.new, name)
        return made if count else None

    def __str__(self) -> str:
        return f"{self.pattern.pattern}={self.new}"


@dataclass(frozen=True, slots=True)
class Table:
    """A map of names, each a key or a module as for `Literal`.

    Attributes:
        names: old to new.
        source: the file that it was read from, for messages.
    """

    names: Mapping[str, str]
    source: str = "the map"

    def apply(self, name: str) -> str | None:
        """Return the new name by the longest entry about `name`, or None."""
        end = len(name)
        while end > 0:
            found = self.names.get(name[:end])
            if found is not None:
                return found + name[end:]
            end = name.rfind(".", 0, end)
        return None

    def __str__(self) -> str:
        return self.source


Rule = Literal | Prefix | Regex | Table


@dataclass(frozen=True, slots=True)
class Renaming:
    """What `dcpctl rename` does.

    Attributes:
        rules: each on what the one before it left.
        keys_only: the optimizer's names stay as they are.
    """

    rules: tuple[Rule, ...]
    keys_only: bool = False


@dataclass(frozen=True, slots=True)
class Upgrading:
    """What `dcpctl upgrade` does, as far as names are concerned.

    Attributes:
        optimizer_keys: how optimizers are to name their parameters: `fqn`, `index`, `flat`; None
            leaves them.
        torch: the release that is to load the result; None for the one installed.
    """

    optimizer_keys: str | None = None
    torch: str | None = None


def is_writable(rule: Rule) -> bool:
    """Whether a command line can say a rule: one whose old name has a `=` in it cannot be said."""
    read = {Literal: literal, Prefix: prefix, Regex: regex}.get(type(rule))
    try:
        return read is not None and not str(rule).startswith("-") and read(str(rule)) == rule
    except UsageError:
        return False


def literal(text: str) -> Literal:
    """Read `OLD=NEW`."""
    old, new = _halves(text, text.partition("="))
    if not old or not new:
        raise UsageError(f"{quote(text)} renames from or to nothing", hint="--prefix OLD= drops it")
    return Literal(old, new)


def prefix(text: str) -> Prefix:
    """Read `OLD=NEW`, either of which may be empty."""
    old, new = _halves(text, text.partition("="))
    if old == new:
        raise UsageError(f"{quote(text)} renames nothing")
    return Prefix(old, new)


def regex(text: str) -> Regex:
    """Read `PATTERN=REPLACEMENT`, parted at the last `=`.

    Raises:
        UsageError: there is no `=`, or one of the two does not compile.
    """
    pattern, new = _halves(text, text.rpartition("="))
    return compiled(pattern, new)


def compiled(pattern: str, new: str) -> Regex:
    """Compile a rule.

    Raises:
        UsageError: the pattern or the replacement is malformed.
    """
    try:
        made = re.compile(pattern)
        if len(new) > limits.NAME_CHARACTERS:
            raise UsageError(f"the replacement {quote(new)} is too long for a name")
        re.compile(f"(?:{pattern})|").sub(new, "")
    except (re.error, IndexError, OverflowError, RecursionError, MemoryError) as error:
        raise UsageError(f"the regular expression {quote(pattern)}: {error}") from None
    return Regex(made, new)


def table(path: Path) -> Table:
    """Read a map file: a JSON object, or a line per name with old and new between spaces.

    Raises:
        ReadFailed: it cannot be read.
        UsageError: it is neither form.
    """
    from dcpctl.documents.files import Kind, as_text, read_bytes

    kind = Kind("map of names", UsageError, limits.NAME_MAP_BYTES)
    data = read_bytes(path, kind)
    as_text(data, path, kind)
    names = _from_json(path, data) if data.lstrip().startswith(b"{") else _from_lines(path, data)
    if not names:
        raise UsageError(f"{quote(path)} names nothing")
    return Table(names, str(path))


def _from_json(path: Path, data: bytes) -> dict[str, str]:
    from dcpctl.documents.parsing import parse_json

    try:
        names = parse_json(data, quote(path))
    except InputError as error:
        raise UsageError(f"{error.message}; it begins like a JSON object") from None
    if not all(isinstance(new, str) and old and new for old, new in names.items()):
        raise UsageError(f"{quote(path)}: expected an object of names, old to new")
    return dict(names)


def _from_lines(path: Path, data: bytes) -> dict[str, str]:
    names: dict[str, str] = {}
    for number, raw in enumerate(io.BytesIO(data), 1):
        too_many = max(len(names), number // 4) > limits.NAMES  # empty lines take their time too
        if len(raw) > limits.NAME_LINE_BYTES or too_many:
            raise UsageError(f"{quote(path)}, line {number}: too much for a map of names")
        line = raw.decode("utf-8").rstrip("\r\n")
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) != 2:
            raise UsageError(
                f"{quote(path)}, line {number}: expected an old and a new name, got {quote(line)}"
            )
        if names.setdefault(words[0], words[1]) != words[1]:
            raise UsageError(f"{quote(path)}, line {number}: {quote(words[0])} a second time")
    return names


def _halves(text: str, parts: tuple[str, str, str]) -> tuple[str, str]:
    old, sign, new = parts
    if not sign:
        raise UsageError(f"expected OLD=NEW, got {quote(text)}")
    return old, new
