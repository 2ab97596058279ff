"""Text: wrapping, tables in any width, and nothing that a terminal would act on."""

from __future__ import annotations

import io

import pytest

from dcpctl.reports import text
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
from dcpctl.reports.text_table import fold

EVIL = "\x1b[31mred\x1b[0m [bold]x[/bold] \u202eabc\r\n"
NAMES = [f"model.layers.{n}.feed_forward.w1.weight" for n in range(3)]
EVERY_BLOCK: list[Block] = [
    Heading(EVIL, 1),
    Paragraph(EVIL),
    Facts([("label", EVIL), ("other", (Span("a"), Span(EVIL, NAME)))]),
    Table([Column("name", folds=True), Column("n", right=True)], [(EVIL, "1"), ("y", EVIL)]),
    Tree([Node(EVIL, [Node(Span(EVIL, NAME))])]),
    Literal(EVIL + "second line"),
]


def printed(blocks: list[Block], width: int | None, monkeypatch, *, color: bool = False) -> str:
    if width is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    text.write(blocks, stream, color=color)
    return stream.getvalue()


@pytest.mark.parametrize("width", [24, 40, 80, 120, None])
def test_without_colour_there_is_no_escape_and_nothing_is_acted_on(width, monkeypatch) -> None:
    shown = printed(EVERY_BLOCK, width, monkeypatch)
    assert not set(shown) & {"\x1b", "\r", "\u202e"}
    joined = "".join(line.strip() for line in shown.splitlines())
    assert "\\x1b[31mred" in joined
    assert "[bold]x[/bold]" in joined
    if width:  # trees and literals are not folded
        folded = printed(EVERY_BLOCK[:4], width, monkeypatch)
        assert max(len(line) for line in folded.splitlines()) <= width


def test_with_colour_only_our_own_escapes_are_there(monkeypatch) -> None:
    shown = printed(EVERY_BLOCK, 80, monkeypatch, color=True)
    assert "\x1b[31m" not in shown  # the name's red
    assert "\x1b[36m" in shown  # our names' cyan
    assert "\r" not in shown


TABLE = Table(
    [Column("key", folds=True), Column("bytes", right=True)],
    [(Span(name, NAME), "1,024") for name in NAMES],
)


def test_a_table_is_aligned(monkeypatch) -> None:
    lines = printed([TABLE], 80, monkeypatch).splitlines()
    assert lines[0] == "  key                                    bytes"
    assert lines[2] == "  model.layers.0.feed_forward.w1.weight  1,024"


def test_names_are_folded_and_never_cut(monkeypatch) -> None:
    lines = printed([TABLE], 40, monkeypatch).splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert lines[2] == "  model.layers.0.feed_forward.w1.  1,024"
    assert lines[3] == "  weight"


def test_a_table_too_wide_for_the_terminal_becomes_paragraphs(monkeypatch) -> None:
    wide = Table([Column(f"column {n}") for n in range(6)], [[f"value {n}" for n in range(6)]])
    lines = printed([wide], 40, monkeypatch).splitlines()
    assert lines[0] == "  value 0"
    assert all(len(line) <= 40 for line in lines)
    assert "column 5 value 5" in " ".join(line.strip() for line in lines)


def test_in_a_pipe_every_row_is_one_line(monkeypatch) -> None:
    long = Table([Column("key", folds=True)], [["x" * 300]])
    assert "x" * 300 in printed([long], None, monkeypatch).splitlines()[2]


def test_wide_characters_take_two_columns() -> None:
    lines = fold((Span("模" * 20),), 10)
    assert ["".join(span.text for span in line) for line in lines] == ["模" * 5] * 4


def test_wrapping_is_at_blanks() -> None:
    lines = fold((Span("one two "), Span("three four", NAME)), 9)
    assert ["".join(s.text for s in line).strip() for line in lines] == ["one two", "three", "four"]


def test_a_terminal_without_unicode_gets_ascii_rules(monkeypatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    text.write([TABLE, Tree([Node("a", [Node("b")])])], stream, color=False)
    stream.flush()
    assert b"  ----" in raw.getvalue()
    assert b"`- b" in raw.getvalue()


def test_sentences_fold_in_a_pipe_and_keys_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    key, said = "layers." * 30, "a sentence of many words " * 8
    stream = io.StringIO()
    columns = [Column("key", folds=True), Column("said", folds=True, prose=True)]
    text.write([Table(columns[:1], [(key,)]), Table(columns, [("k", said)])], stream, color=False)
    lines = stream.getvalue().splitlines()
    assert any(key in line for line in lines)
    assert max(len(line) for line in lines if "sentence" in line) <= 100


def test_the_list_of_commands_is_not_cut() -> None:
    from dcpctl.cli.commands import Commands

    for name, command in Commands().items():
        short = command.get_short_help_str()
        assert short.endswith("."), name


def test_a_path_is_broken_in_a_terminal_and_whole_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = "/".join(["runs", *["a_long_name"] * 20])
    for columns in (None, "60"):
        monkeypatch.delenv("COLUMNS", raising=False)
        if columns:
            monkeypatch.setenv("COLUMNS", columns)
        stream = io.StringIO()
        blocks: list[Block] = [
            Heading(path),
            Paragraph(f"Resume from: {path}"),
            Facts([("in", path)]),
        ]
        text.write(blocks, stream, color=False)
        lines = stream.getvalue().splitlines()
        assert sum(path in line for line in lines) == (0 if columns else 3)
        assert columns is None or max(map(len, lines)) <= 60
