"""Markdown, tabulate and JSON of the same blocks."""

from __future__ import annotations

import io
import json

import pytest

from dcpctl.errors import UsageError
from dcpctl.reports import markdown, tabulated, words
from dcpctl.reports.blocks import (
    NAME,
    Block,
    Column,
    Facts,
    Heading,
    Literal,
    Node,
    Paragraph,
    Span,
    Table,
    Tree,
)
from dcpctl.reports.json_lines import document
from dcpctl.reports.values_text import short, whole

EVIL = "a|b `c` <script>x</script> *d* _e_ [f](g) \x1b[1m ~~h~~ # @someone"
BLOCKS: list[Block] = [
    Heading("title", 1),
    Paragraph(EVIL),
    Facts([("label", Span(EVIL, NAME))]),
    Table([Column("name"), Column("n", right=True)], [(Span(EVIL, NAME), "1")]),
    Tree([Node("root", [Node(EVIL)])]),
    Literal("```\nline\x1b\n````"),
]


def test_markdown_shows_everything_as_it_is() -> None:
    stream = io.StringIO()
    markdown.write(BLOCKS, stream)
    shown = stream.getvalue()
    assert "\x1b" not in shown
    assert "<script>" not in shown
    assert "@someone" not in shown
    row = next(line for line in shown.splitlines() if line.startswith("| <code>"))
    assert row.count("|") == 3  # the name's own bar is an entity
    assert "&#124;" in row
    assert shown.startswith("## title\n")
    assert "|---|---:|" in shown


def test_the_parts_of_a_heading_stay_apart() -> None:
    stream = io.StringIO()
    markdown.write([Heading((Span("run/a_b", NAME), Span("  "), Span("1 error")))], stream)
    assert stream.getvalue() == "### <code>run/a&#95;b</code>&emsp;1 error\n"


def test_a_literal_cannot_close_its_fence() -> None:
    stream = io.StringIO()
    markdown.write([Literal("```\n````\n# not a heading")], stream)
    lines = stream.getvalue().splitlines()
    assert lines[0] == lines[-1] == "`````"


@pytest.mark.parametrize("style", ["simple", "grid", "github", "tsv", "html"])
def test_tabulate(style: str) -> None:
    stream = io.StringIO()
    tabulated.write(BLOCKS, stream, style=style)
    assert "\x1b" not in stream.getvalue()
    assert "root" in stream.getvalue()


def test_tabulate_has_no_such_style() -> None:
    with pytest.raises(UsageError) as caught:
        tabulated.write([], io.StringIO(), style="no such")
    assert "github" in str(caught.value.hint)


def test_json_is_one_document_in_lines() -> None:
    head = {"a": 1, "b": "\x1b\ud800"}
    text = "".join(document(head, items=iter([{"x": 1}, {"x": 2}]), none=[]))
    assert json.loads(text) == {**head, "items": [{"x": 1}, {"x": 2}], "none": []}
    assert text.isascii()
    assert "\x1b" not in text
    assert len(text.splitlines()) == 9


def test_json_is_strict() -> None:
    with pytest.raises(ValueError, match="JSON"):
        list(document({"a": float("nan")}))


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (9994, "9.99 kB"), (12_345, "12.3 kB"),
     (999_499, "999 kB"), (999_500, "1.00 MB"), (83_900_000_000, "83.9 GB"), (-5, "-5 B")],
)  # fmt: skip
def test_size(nbytes: int, text: str) -> None:
    assert words.size(nbytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00029999998334504283, "0.0003"),
        (1e-08, "1e-08"),
        (8500.0, "8500.0"),
        ((0.9, 0.95), "(0.9, 0.95)"),
        ((1,), "(1,)"),
        ([], "[]"),
        (None, "None"),
        (True, "True"),
        (float("nan"), "nan"),
        (10**400, "huge"),
        ("text", "text"),
    ],
)
def test_number(value: object, text: str) -> None:
    assert words.number(value) == text


def test_steps_are_whole_where_they_are() -> None:
    assert [words.step(step) for step in (8500.0, 0.5, 3, float("inf"))] == [
        *("8500", "0.5", "3", "inf")
    ]


def test_ranges() -> None:
    assert words.ranges([0, 1, 2, 3, 8, 10, 11]) == "0-3, 8, 10-11"
    assert words.ranges([]) == ""


def test_values() -> None:
    assert short({"a": [1, (2,)]}) == '{"a": [1, [2]]}'
    assert len(short("x" * 1000)) == 60
    assert whole(b"ab") == '{\n  "__bytes_hex__": "6162"\n}'
    assert whole("it's") == '"it\'s"'
    loop: list[object] = []
    loop.append(loop)
    assert whole(loop) == "<builtins.list, too large to show>"
