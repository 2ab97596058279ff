"""The rules of `check`: their list, and the page of one.

A page is Markdown of our own: headings, paragraphs, lists and fenced code, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from dcpctl.check.registry import Rule
from dcpctl.documents.addresses import rule_page
from dcpctl.reports.blocks import (
    NAME,
    Block,
    Column,
    Heading,
    Literal,
    Paragraph,
    Span,
    Table,
)
from dcpctl.reports.check_blocks import TONES

HEAD: dict[str, Any] = {"schema": "dcpctl.explain/1"}

_CODE = re.compile(r"`([^`]+)`")


def rule_documents(rules: Iterable[Rule]) -> Iterator[dict[str, str]]:
    """Id, severity and title of each rule, and where its page is."""
    for rule in rules:
        yield {
            "rule": rule.id,
            "severity": rule.severity,
            "title": rule.title,
            "page_url": rule_page(rule.id),
        }


def list_blocks(rules: Iterable[Rule]) -> Iterator[Block]:
    """List the rules."""
    rows = [
        (Span(rule.id, NAME), Span(rule.severity, TONES[rule.severity]), rule.title)
        for rule in rules
    ]
    yield Table([Column("rule"), Column("severity"), Column("finds", folds=True, prose=True)], rows)


def page_blocks(page: str) -> Iterator[Block]:
    """A page as blocks."""
    for chunk in _chunks(page):
        first = chunk[0]
        if first.startswith("```"):
            yield Literal("\n".join(chunk[1:-1]))
        elif first.startswith("#"):
            level = len(first) - len(first.lstrip("#"))
            yield Heading(_spans(first.lstrip("# ")), level)
        elif re.match(r"(?:[-*]|\d+\.) ", first):
            yield from (Paragraph(_spans(item)) for item in _items(chunk))
        else:
            yield Paragraph(_spans(" ".join(line.strip() for line in chunk)))


def _chunks(page: str) -> Iterator[list[str]]:
    """Headings, fences, and what stands between blank lines."""
    chunk: list[str] = []
    fenced = False
    for line in page.splitlines():
        ends = line.startswith("```")
        if not fenced and chunk and (not line.strip() or ends or line.startswith("#")):
            yield chunk
            chunk = []
        if line.strip() or fenced:
            chunk.append(line)
        if (ends and fenced) or (not fenced and line.startswith("#")):
            yield chunk
            chunk = []
        fenced ^= ends
    if chunk:
        yield chunk


def _items(lines: Iterable[str]) -> Iterator[str]:
    item = ""
    for line in lines:
        if item and re.match(r"(?:[-*]|\d+\.) ", line):
            yield item
            item = ""
        item = f"{item} {line.strip()}".strip()
    yield item


def _spans(text: str) -> tuple[Span, ...]:
    parts = _CODE.split(text.replace("**", ""))
    return tuple(
        Span(part, NAME if number % 2 else "plain") for number, part in enumerate(parts) if part
    )
