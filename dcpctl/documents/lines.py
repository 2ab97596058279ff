"""On which line the keys of a TOML or JSON document stand, and what reading TOML will cost.

No parser of Python's says where a key stands, and `tomllib` takes time with the square of a key's
parts: a dotted key of a megabyte keeps it busy for hours. One pass over the text tells both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

#: A path of keys; a number is a place in an array of tables.
Where = tuple[str | int, ...]

_TOML = re.compile(r"\"\"\"|'''|[\"'\n#\[\]{}=,.]|[\w-]+|[^\S\n]+|.", re.S)
_JSON = re.compile(r"[\"\n\[\]{},:]|[^\"\n\[\]{},:]+")
# Escapes are stepped over, so that each character is looked at once.
_ENDS = {
    '"""': re.compile(r'\\.|"""', re.S),
    "'''": re.compile("'''"),
    '"': re.compile(r'\\[^\n]|["\n]'),
    "'": re.compile("['\n]"),
}
_KEY, _HEADER, _VALUE = "key", "header", "value"


@dataclass(frozen=True, slots=True)
class Key:
    """A key or a table's header.

    Attributes:
        where: the path of keys to it, from the top of the document.
        line: on which it stands, from 1.
        parts: how many names a reader goes through to find its place.
        is_table: it is a header.
        depth: brackets that it stands in; a key of an inline table has no path of its own.
    """

    where: Where
    line: int
    parts: int
    is_table: bool = False
    depth: int = 0


@dataclass(slots=True)
class _State:
    """Where in the document the scan is."""

    mode: str = _KEY
    line: int = 1
    depth: int = 0
    names: list[str] = field(default_factory=list)
    table: Where = ()
    arrays: dict[Where, int] = field(default_factory=dict)

    def resolved(self, names: list[str]) -> Where:
        """The path of a header: of an array of tables, the last one is meant."""
        made: Where = ()
        for name in names:
            made = (*made, name)
            if made in self.arrays:
                made = (*made, self.arrays[made])
        return made


def toml_keys(text: str, most_parts: int) -> Iterator[Key]:
    """Yield the keys of a document in its order; anything goes, a document or not.

    Args:
        text: the document.
        most_parts: names of one key that are kept; `Key.parts` counts all of them.
    """
    state = _State()
    place, parts = 0, 0
    while place < len(text):
        found = _TOML.match(text, place)
        if found is None:  # every character is some mark
            return
        mark, place = found[0], found.end()
        if parts > most_parts:  # no reader goes on, whatever it turns out to be the name of
            yield Key((), state.line, parts)
            parts = 0
        if mark == "#":
            place = _line_end(text, place)
        elif mark in _ENDS:
            begin = place
            place, closed = _string_end(text, mark, place)
            inside = text[begin : place - len(mark) if closed else place]
            if len(state.names) < most_parts and state.mode != _VALUE:
                state.names.append(_unescaped(inside) if mark[0] == '"' else inside)
            parts += 1
            state.line += inside.count("\n")
        elif mark == "\n":
            state.line += 1
            if state.mode != _VALUE or state.depth <= 0:
                state.mode, state.depth, parts, state.names = _KEY, 0, 0, []
        elif mark.isspace() or mark == ".":
            continue
        elif state.mode == _VALUE:
            if mark == "=":
                yield Key(state.table, state.line, parts, depth=state.depth)
            parts = parts + 1 if mark not in "[]{}=," else 0
            state.depth += (mark in "[{") - (mark in "]}")
        elif mark == "[" and not parts:
            state.mode = _HEADER
            state.depth += 1
        elif mark == "]" and state.mode == _HEADER:
            yield _header(state, parts, is_array=state.depth > 1)
            state.mode, state.depth, parts, state.names = _VALUE, 0, 0, []
        elif mark == "=":
            where = (*state.table, *state.names)
            yield Key(where, state.line, len(state.table) + parts)
            state.mode, parts, state.names = _VALUE, 0, []
        else:
            parts += 1
            if len(state.names) < most_parts:
                state.names.append(mark)


def toml_line(text: str, where: Where, most_parts: int) -> int | None:
    """Return the line, from 1, on which a key stands, or the one that holds it; None: not found.

    A key may be inside an inline table, `limits = {max = 3}`; a table's own header counts where the
    table itself is meant, or an entry of an array of tables.
    """
    held: int | None = None
    for key in toml_keys(text, most_parts):
        if key.depth or not key.where:
            continue
        if key.where == where:
            return key.line
        if key.where == where[: len(key.where)]:
            if not key.is_table:
                return key.line
            if isinstance(key.where[-1], int):
                held = key.line
    return held


def json_line(text: str, where: Where) -> int | None:
    """Return the line, from 1, of a JSON text on which a key or a list's entry stands.

    Where it is not there, that of the innermost that would hold it; None for the document itself.

    Args:
        text: well-formed JSON.
        where: keys of objects, and places in lists from 0.
    """
    path: list[str | int] = []
    line, place, best, deepest = 1, 0, None, 0
    key: str | None = None
    while place < len(text):
        found = _JSON.match(text, place)
        if found is None:
            return best
        mark, place = found[0], found.end()
        if mark == "\n":
            line += 1
            continue
        if mark == '"':
            begin = place
            place, _ = _string_end(text, mark, place)
            key = text[begin : place - 1]
        # What begins here is the entry that `path` leads to; it is the one, or on the way to it.
        if mark == ":" and key is not None and path:
            path[-1] = _unescaped(key)
        starts = mark == ":" or (mark.strip(" \t\r") != "" and _is_entry(path, mark))
        if starts and deepest < len(path) and tuple(path) == where[: len(path)]:
            best, deepest = line, len(path)
            if len(path) == len(where):
                return best
        if mark in "{[":
            path.append(0 if mark == "[" else "")
        elif mark in "}]" and path:
            path.pop()
        elif mark == "," and path and isinstance(path[-1], int):
            path[-1] += 1
    return best


def _is_entry(path: list[str | int], mark: str) -> bool:
    """Whether a mark that is no colon begins an entry: in a list, any value does."""
    return bool(path) and isinstance(path[-1], int) and mark not in "]},"


def _header(state: _State, parts: int, *, is_array: bool) -> Key:
    names = state.names
    if is_array and names:
        above = (*state.resolved(names[:-1]), names[-1])
        state.arrays[above] = state.arrays.get(above, -1) + 1
    state.table = state.resolved(names)
    return Key(state.table, state.line, parts, is_table=True)


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def _string_end(text: str, quote: str, place: int) -> tuple[int, bool]:
    """Where a string ends, and whether by its quotes; a line's end closes one of a single line."""
    for found in _ENDS[quote].finditer(text, place):
        if found[0] == quote:
            return found.end(), True
        if found[0] == "\n":
            return found.start(), False
    return len(text), False


def _unescaped(inside: str) -> str:
    if "\\" not in inside:
        return inside
    try:
        import json

        return str(json.loads(f'"{inside}"', strict=False))
    except ValueError:  # TOML's \U0001f600, which JSON does not have; the key's line is not found
        return inside
