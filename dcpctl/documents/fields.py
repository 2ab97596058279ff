"""What a document says: declared fields, and errors that name the line and the nearest name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpctl import limits
from dcpctl.documents.files import Kind, as_text, read_bytes
from dcpctl.documents.lines import Where, json_line, toml_line
from dcpctl.documents.parsing import parse_json, parse_toml
from dcpctl.errors import DcpctlError, quote

#: What a field has that must be there.
REQUIRED = object()
_MOST_NAMED = 12
_MOST_SHOWN = 200
#: Bytes of the largest document in which the line of a key is looked for.
_MOST_SEARCHED = 8 << 20
_WORDS: Mapping[object, str] = {
    bool: "true or false",
    int: "a whole number",
    str: "a text",
    list: "a list",
    dict: "a table",
}


@dataclass(frozen=True, slots=True)
class Document:
    """A document as its file has it.

    Attributes:
        path: the file.
        data: what is in it, UTF-8.
        kind: what it is.
        found: what it says.
        is_json: it is JSON, else TOML.
    """

    path: Path
    data: bytes
    kind: Kind
    found: dict[str, Any]
    is_json: bool = False

    @classmethod
    def of_toml(cls, path: Path, kind: Kind) -> Document:
        """Read a TOML document.

        Raises:
            kind.error: it is none.
            ReadFailed: it cannot be read.
        """
        data = read_bytes(path, kind)
        try:
            return cls(path, data, kind, parse_toml(as_text(data, path, kind)))
        except ValueError as error:
            raise kind.error(f"{quote(path)} cannot be parsed: {error}") from None

    @classmethod
    def of_json(cls, path: Path, kind: Kind, schema: str, writer: str) -> Document:
        """Read a JSON document.

        Args:
            path: the file.
            kind: what it is.
            schema: that its `schema` must name.
            writer: the next step where it names another: what writes one.

        Raises:
            kind.error: it names another schema.
            MalformedMetadata, LimitExceeded: as `parse_json`.
            ReadFailed: it cannot be read.
        """
        data = read_bytes(path, kind)
        found = parse_json(data, quote(path))
        said = found.get("schema")
        if said != schema:
            but = f" but {quote(said)}" if isinstance(said, str) else ""
            raise kind.error(
                f"{quote(path)} is no {kind.name}: it has no schema {quote(schema)}{but}",
                hint=writer,
            )
        return cls(path, data, kind, found, is_json=True)

    def line_of(self, where: Where) -> int | None:
        """Return the line, from 1, on which a key stands, or what holds it; None: not found."""
        if not where or len(self.data) > _MOST_SEARCHED:
            return None
        text = self.data.decode("utf-8", "replace")
        if self.is_json:
            return json_line(text, where)
        return toml_line(text, where, limits.DOCUMENT_DEPTH)

    def error(self, where: Where, message: str, hint: str | None = None) -> DcpctlError:
        """Return an error about the key at `where`, with its line if that can be told."""
        line = self.line_of(where)
        at = f", line {line}" if line is not None else ""
        return self.kind.error(f"{quote(self.path)}{at}: {message}", hint=hint)


@dataclass(frozen=True, slots=True)
class Field:
    """A field that a table may have.

    Attributes:
        key: its name.
        fits: whether a value is one.
        fault: what is wrong where it is not, as in "is missing or no text".
        default: what it is where it is not there; `REQUIRED` for none.
    """

    key: str
    fits: Callable[[Any], bool]
    fault: str
    default: Any = REQUIRED


class Table:
    """One table of a document; takes its fields by name and refuses those that nobody takes.

    Args:
        document: where it stands.
        where: the path of keys to it.
        found: what it holds.
        label: what messages call it, where its place is not its name.
    """

    def __init__(self, document: Document, where: Where, found: object, label: str = "") -> None:
        self.document = document
        self.where = where
        self.label = label
        if not isinstance(found, Mapping):
            what = f"{label}: expected a table" if label else f"{quote(where[-1])} is no table"
            raise document.error(where, what)
        self.rest = dict(found)
        self.known: list[str] = []

    @property
    def name(self) -> str:
        """The table's name as it stands in the file."""
        return self.label or f"[{'.'.join(map(str, self.where))}]"

    def take(self, key: str, kind: Any, default: Any = None) -> Any:
        """Return a field.

        Args:
            key: its name.
            kind: the type that it must have, or several.
            default: what to return where it is not there.
        """
        self.known.append(key)
        value = self.rest.pop(key, default)
        if value is default:
            return default
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            words = " or ".join(_WORDS.get(one, "anything") for one in kinds)
            raise self.wrong(key, f"{quote(key)} is {shown(value)}, expected {words}")
        return value

    def flag(self, key: str) -> bool:
        """Return a field that is true or false; false where it is not there."""
        return bool(self.take(key, bool, False))

    def number(self, key: str) -> int | None:
        """Return a whole number that is not negative; None where it is not there."""
        found: int | None = self.take(key, int)
        if found is not None and found < 0:
            raise self.wrong(key, f"{quote(key)} is {shown(found)}, which is less than 0")
        return found

    def text(self, key: str, among: Iterable[str] = ()) -> str | None:
        """Return a text, one of some where some are given; None where it is not there."""
        found: str | None = self.take(key, str)
        if found is not None:
            self._check_among(key, [found], list(among))
        return found

    def texts(self, key: str, among: Iterable[str] = ()) -> tuple[str, ...]:
        """Return a list of texts; a text alone is a list of one."""
        found = self.take(key, object, [])
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self.wrong(key, f"{quote(key)} is neither a text nor a list of texts")
        self._check_among(key, texts, list(among))
        return tuple(texts)

    def pairs(self, key: str) -> list[tuple[str, str]]:
        """Return a table of texts as pairs; none where it is not there."""
        found = self.take(key, dict, {})
        if not all(isinstance(value, str) for value in found.values()):
            raise self.wrong(key, f"{quote(key)} is no table of texts")
        return list(found.items())

    def table(self, key: str) -> Table:
        """Return a table inside this one; an empty one where it is not there."""
        self.known.append(key)
        return Table(self.document, (*self.where, key), self.rest.pop(key, {}))

    def declared(self, *fields: Field) -> dict[str, Any]:
        """Return several fields by name, each of which must be there or have a default."""
        made: dict[str, Any] = {}
        for one in fields:
            self.known.append(one.key)
            value = self.rest.pop(one.key, one.default)
            if value is REQUIRED or (value is not one.default and not one.fits(value)):
                raise self.wrong(one.key, f"{quote(one.key)} {one.fault}")
            made[one.key] = value
        return made

    def wrong(self, key: str, message: str, hint: str | None = None) -> DcpctlError:
        """Return an error about one of its fields."""
        said = f"{self.label}: {message}" if self.label else message
        return self.document.error((*self.where, key), said, hint)

    def done(self) -> None:
        """Refuse what nobody has taken.

        Raises:
            document.kind.error: there is such a field.
        """
        for key in self.rest:
            message = f"unknown key {quote(key)} in {self.name}"
            raise self.wrong(key, message, suggestion(key, self.known))

    def _check_among(self, key: str, texts: list[str], known: list[str]) -> None:
        for text in texts:
            if known and text not in known:
                raise self.wrong(key, f"{key}: unknown {quote(text)}", suggestion(text, known))


def shown(value: object) -> str:
    """Return a value for a message, cut where it is long."""
    try:
        said = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python prints
        return "something enormous"
    return said if len(said) <= _MOST_SHOWN else f"{said[:_MOST_SHOWN]}..."


def suggestion(name: str, known: list[str]) -> str | None:
    """Return a hint: the known name that is nearest, else all of them where they are few."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1, 0.6)
    if near:
        return f"did you mean {quote(near[0])}?"
    return f"known are {', '.join(known)}" if len(known) <= _MOST_NAMED else None
