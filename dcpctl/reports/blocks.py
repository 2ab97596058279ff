"""What a report is made of, whatever it is printed as: lines, facts, tables and trees.

A view says what it has to say once, in these blocks; `text`, `tabulated` and `markdown` each know
how to print all of them. Texts in blocks are raw: names and values out of a checkpoint, unescaped.
Every printer escapes what its medium would misread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

PLAIN, STRONG, DIM = "plain", "strong", "dim"
GOOD, WARN, BAD, NAME = "good", "warn", "bad", "name"


class Span(NamedTuple):
    """A text with a meaning that a terminal may show as a colour.

    Attributes:
        text: raw.
        tone: one of the constants above.
    """

    text: str
    tone: str = PLAIN


#: A cell or a line: a plain text, or spans one after another.
Line = str | Span | tuple[Span, ...]


def spans(line: Line) -> tuple[Span, ...]:
    """Return a line as spans."""
    if isinstance(line, Span):
        return (line,)
    return (Span(line),) if isinstance(line, str) else line


def plain(line: Line) -> str:
    """Return a line's text."""
    return line if isinstance(line, str) else "".join(span.text for span in spans(line))


def disarmed(line: str) -> str:
    """Return a line that a CI runner takes for no command of its own.

    GitHub's runner obeys every printed line that begins with `::`, blanks before it or not.
    """
    bare = line.lstrip()
    return line.replace("::", "\\x3a:", 1) if bare.startswith("::") else line


@dataclass(frozen=True, slots=True)
class Heading:
    """Begins a part of the report.

    Attributes:
        line: its words.
        level: 1 for the report's own, 2 for a part.
    """

    line: Line
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Sentences, wrapped to the width there is.

    Attributes:
        line: the text.
    """

    line: Line


@dataclass(frozen=True, slots=True)
class Facts:
    """Labels with what they label.

    Attributes:
        rows: label and text.
    """

    rows: Sequence[tuple[str, Line]]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        right: numbers, set to the right.
        folds: may be folded over several lines where the width is short.
        prose: holds sentences, which are folded to the width of paragraphs where nothing says how
            wide the output is; all else stays on one line then, for `grep`.
    """

    name: str
    right: bool = False
    folds: bool = False
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns.

    Attributes:
        columns: the columns.
        rows: a cell for each column.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Line]]


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a tree.

    Attributes:
        line: what it says.
        children: the nodes below it.
    """

    line: Line
    children: Sequence[Node] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes below each other.

    Attributes:
        roots: the topmost nodes.
    """

    roots: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Literal:
    """Lines that are shown as they are: a decoded value.

    Attributes:
        text: the lines.
    """

    text: str


Block = Heading | Paragraph | Facts | Table | Tree | Literal
