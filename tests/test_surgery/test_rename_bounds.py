"""Expressions and lines that take a backtracking matcher for ever."""

from __future__ import annotations

import time

import pytest

from dcpctl import limits
from dcpctl.documents.lines import toml_line
from dcpctl.errors import UsageError
from dcpctl.model.globs import matching
from dcpctl.model.rename_rules import compiled


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(.*)*x", "^(([a-z])+.)+[A-Z]$"])
def test_an_expression_that_backtracks_is_ended(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REGEX_SECONDS", 0.2)
    with pytest.raises(UsageError, match=r"takes over 0\.2 seconds"):
        compiled(pattern, "b").apply("a" * 60 + "!")


@pytest.mark.parametrize(
    "line",
    ["a" * 100_000, "a " * 50_000, " " * 100_000, "a." * 50_000, "'a' " * 30_000, '"' * 9999],
)
def test_a_line_of_a_policy_takes_time_in_proportion(line: str) -> None:
    start = time.process_time()
    assert toml_line(line, ("b",), 64) is None
    assert time.process_time() - start < 1


def test_the_line_of_a_key_is_found() -> None:
    text = '[a]\n"b.c" . d = 1\n  e=2\nf.g = 3'
    lines = {("a", "b.c", "d"): 2, ("a", "e"): 3, ("a", "f", "g"): 4, ("a",): 1, ("x",): None}
    for where, line in lines.items():
        assert toml_line(text, where, 64) == line


def test_a_glob_of_many_stars_takes_time_in_proportion() -> None:
    start = time.process_time()
    assert not matching(["a" * 3000 + "b"], "*a" * 20 + "*c*")
    assert time.process_time() - start < 1
