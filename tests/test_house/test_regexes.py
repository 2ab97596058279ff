"""No regular expression of dcpctl backtracks without bound, whatever a name or a line says."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcpctl.model.globs import matching

PACKAGE = Path(__file__).resolve().parents[2] / "dcpctl"
#: Characters of the longer pump; time may grow with its square, as searching from each place does.
LONG = 600
#: Seconds of processor time for one text. What grows exponentially takes years, what grows with the
#: cube of the length minutes.
SECONDS = 0.7
#: What makes quantifiers hesitate: each class of characters that the expressions tell apart.
PIECES = (
    *("a", "A", "_", "0", ".", " ", "-", "\n", ",", "=", ":", "/", "#", "[", "]", "'", '"', "\\"),
    *("aA", "a_", "a.", "a0", "0,", "0.", " a", "- ", "\x1b[", "__", "a b ", "A1.", "é", "[x]"),
)  # fmt: skip
#: What keeps a match from ending well.
ENDS = ("", "!", "\n")


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every expression that a module of dcpctl compiles, by where it stands.

    Those that are module constants are taken from the module, as they are made there; those that
    are literals anywhere else from the source.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        if "re." not in text:
            continue
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if not name.startswith("dcpctl.training"):  # imports torch
            for key, value in vars(importlib.import_module(name.removesuffix(".__init__"))).items():
                held = value.values() if isinstance(value, dict) else [value]
                for one in held:
                    if isinstance(one, re.Pattern):
                        yield f"{name}:{key}", one
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and _is_of_re(node.func) and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    yield f"{name}:{node.lineno}", re.compile(first.value, _flags(node))


def _is_of_re(called: ast.expr) -> bool:
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and called.value.id == "re"
        and called.attr in ("match", "fullmatch", "search", "sub", "split", "findall", "finditer")
    )


def _flags(node: ast.Call) -> int:
    names = [one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)]
    return sum(getattr(re, name) for name in names if name in ("S", "M", "I", "X", "A"))


PATTERNS = dict(patterns())


def literals(pattern: re.Pattern[Any]) -> list[str]:
    """The words in an expression, so that a pump gets past what it begins with."""
    source = pattern.pattern
    text = source.decode("latin-1") if isinstance(source, bytes) else source
    return re.findall(r"[A-Za-z0-9_.]{2,}", text)[:6]


def slowest(pattern: re.Pattern[Any], length: int) -> tuple[float, str]:
    """The most seconds that a pumped text of that length takes, and the text's beginning."""
    worst, which = 0.0, ""
    words = ["", *literals(pattern)]
    for piece, end in itertools.product((*PIECES, *words[1:]), ENDS):
        for begin in words[: 1 if len(piece) > 1 else 3]:
            text = begin + piece * (length // len(piece)) + end
            given: Any = text.encode() if isinstance(pattern.pattern, bytes) else text
            for use in (pattern.search, pattern.fullmatch):
                start = time.process_time()
                use(given)
                took = time.process_time() - start
                if took > worst:
                    worst, which = took, text[:40]
                if took > SECONDS:
                    return worst, which
    return worst, which


def test_every_expression_is_looked_at() -> None:
    assert len(PATTERNS) >= 80


@pytest.mark.parametrize("name", PATTERNS)
def test_it_ends_soon(name: str) -> None:
    """A short pump first: what is exponential shows there, and the long one would never end."""
    for length in (24, LONG):
        took, text = slowest(PATTERNS[name], length)
        assert took < SECONDS, f"{took:.1f} s on {text!r}... of {length}"


@pytest.mark.parametrize(
    "glob",
    ["*a" * 20 + "*c", "?" * 50 + "*" * 50 + "!", "*[ab]" * 30 + "x", "[" * 200, "*.*.*.*.*.*x"],
)
def test_globs(glob: str) -> None:
    for text in ("a" * LONG, "a." * (LONG // 2), "ab" * (LONG // 2) + "!", "[" * LONG):
        start = time.process_time()
        matching([text], glob)
        assert time.process_time() - start < SECONDS
