"""The TOML of a policy: typed fields, and errors that name the line and the nearest known name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpctl.check.policy_find import PolicyError
from dcpctl.errors import UsageError, quote
from dcpctl.formats.toml_text import parse_toml
from dcpctl.model.sizes import parse_size

_MOST_NAMED = 12
_HEADER = re.compile(r"\s*\[([^\[\]]+)\]")
# Each character is matched in one way only, so that a line without `=` takes time in proportion.
_KEY = re.compile(r"""((?:[\w\s.-]|"[^"\n]*"|'[^'\n]*')+)=""")


@dataclass(frozen=True, slots=True)
class Source:
    """The text that a policy is read from.

    Attributes:
        path: the file.
        text: what is in it.
    """

    path: Path
    text: str

    def error(self, where: tuple[str, ...], message: str, hint: str | None = None) -> PolicyError:
        """Return an error about the key at `where`, with its line if that can be told."""
        line = self.line_of(where)
        at = f", line {line}" if line is not None else ""
        return PolicyError(f"{quote(self.path)}{at}: {message}", hint=hint)

    def line_of(self, where: tuple[str, ...]) -> int | None:
        """The line, from 1, on which a key stands, or the table that holds it; None: not found."""
        table: tuple[str, ...] = ()
        for number, line in enumerate(self.text.splitlines(), 1):
            header = _HEADER.match(line)
            key = None if header else _KEY.match(line)
            if header:
                table = _keys_of(f"[{header[1]}]")
            elif key is None:
                continue
            at = table + (_keys_of(f"{key[1]} = 0") if key else ())
            # A key may be inside an inline table, `limits = {max = 3}`; a table's own header counts
            # where the table itself is meant.
            if at == where or (key is not None and at and where[: len(at)] == at):
                return number
        return None


def _keys_of(line: str) -> tuple[str, ...]:
    """The path of keys that a line of TOML opens."""
    try:
        found: Any = parse_toml(line)
    except ValueError:
        return ()
    keys = []
    while isinstance(found, dict) and found:
        key, found = next(iter(found.items()))
        keys.append(key)
    return tuple(keys)


class Table:
    """One table of a policy; takes its fields by name and refuses those that nobody takes.

    Args:
        source: where it stands.
        where: the path of keys to it.
        found: what it holds.
    """

    def __init__(self, source: Source, where: tuple[str, ...], found: object) -> None:
        self.source = source
        self.where = where
        if not isinstance(found, Mapping):
            raise source.error(where, f"{quote(where[-1])} is no table")
        self.rest = dict(found)
        self.known: list[str] = []

    @property
    def name(self) -> str:
        """The table's name as it stands in the file."""
        return f"[{'.'.join(self.where)}]"

    def take(self, key: str, kind: type, words: str, default: Any = None) -> Any:
        """Return a field.

        Args:
            key: its name.
            kind: the type that it must have.
            words: what that is, for people.
            default: what to return where it is not there.
        """
        self.known.append(key)
        value = self.rest.pop(key, default)
        if value is default:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, f"{quote(key)} is {value!r}, expected {words}")
        return value

    def flag(self, key: str) -> bool:
        """Return a field that is true or false; false where it is not there."""
        return bool(self.take(key, bool, "true or false", False))

    def number(self, key: str) -> int | None:
        """Return a whole number that is not negative; None where it is not there."""
        found: int | None = self.take(key, int, "a whole number")
        if found is not None and found < 0:
            raise self.wrong(key, f"{quote(key)} is {found}, which is less than 0")
        return found

    def text(self, key: str, among: Iterable[str] = ()) -> str | None:
        """Return a text, one of some where some are given; None where it is not there."""
        found: str | None = self.take(key, str, "a text")
        if found is not None:
            self._check_among(key, [found], list(among))
        return found

    def texts(self, key: str, among: Iterable[str] = ()) -> tuple[str, ...]:
        """Return a list of texts; a text alone is a list of one."""
        found = self.take(key, object, "a text or a list of texts", [])
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self.wrong(key, f"{quote(key)} is neither a text nor a list of texts")
        self._check_among(key, texts, list(among))
        return tuple(texts)

    def size(self, key: str) -> int | None:
        """Return bytes, from a number or a text such as `40G`; None where it is not there."""
        found = self.take(key, object, "a size")
        if found is None:
            return None
        try:
            if not isinstance(found, (int, str)):
                raise UsageError(f"{found!r} is no size", hint="such as 256M or 2G")
            return parse_size(str(found))
        except UsageError as error:
            raise self.wrong(key, f"{quote(key)}: {error}", error.hint) from None

    def table(self, key: str) -> Table:
        """Return a table inside this one; an empty one where it is not there."""
        self.known.append(key)
        return Table(self.source, (*self.where, key), self.rest.pop(key, {}))

    def wrong(self, key: str, message: str, hint: str | None = None) -> PolicyError:
        """Return an error about one of its fields."""
        return self.source.error((*self.where, key), message, hint)

    def done(self) -> None:
        """Refuse what nobody has taken.

        Raises:
            PolicyError: there is such a field.
        """
        for key in self.rest:
            message = f"unknown key {quote(key)} in {self.name}"
            raise self.wrong(key, message, suggestion(key, self.known))

    def _check_among(self, key: str, texts: list[str], known: list[str]) -> None:
        for text in texts:
            if known and text not in known:
                raise self.wrong(key, f"{key}: unknown {quote(text)}", suggestion(text, known))


def suggestion(name: str, known: list[str]) -> str | None:
    """Return a hint: the known name that is nearest, else all of them where they are few."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1, 0.6)
    if near:
        return f"did you mean {quote(near[0])}?"
    return f"known are {', '.join(known)}" if len(known) <= _MOST_NAMED else None
