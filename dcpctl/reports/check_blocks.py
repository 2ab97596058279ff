"""What `check` found, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dcpctl.check.baseline import Waiver
from dcpctl.check.finding import ERROR, INFO, WARNING, CheckResult, Finding, Skipped
from dcpctl.check.fix import fix_for
from dcpctl.errors import quote
from dcpctl.reports import words
from dcpctl.reports.blocks import (
    BAD,
    DIM,
    GOOD,
    NAME,
    PLAIN,
    STRONG,
    WARN,
    Block,
    Column,
    Heading,
    Line,
    Paragraph,
    Span,
    Table,
)

TONES = {ERROR: BAD, WARNING: WARN, INFO: PLAIN}


def check_blocks(result: CheckResult) -> Iterator[Block]:
    """Say the findings, the rules that could not run, and what was read."""
    how = outcome(result.counts, len(result.waived))
    yield Heading((Span(str(result.path), STRONG), Span("  "), *how), level=1)
    yield from finding_blocks(result)
    if result.skipped:
        yield Table(
            [Column("skipped", folds=True, prose=True), Column("because", folds=True, prose=True)],
            [(", ".join(rules), because) for because, rules in _by_reason(result.skipped).items()],
        )
    yield from waiver_blocks([result], result.unused_waivers)
    for note in result.notes:
        yield Paragraph(Span(note, DIM))
    yield Paragraph(Span(summary_sentence(result), DIM))


def finding_blocks(result: CheckResult) -> Iterator[Block]:
    """Say the findings of one checkpoint, and how many are not listed."""
    if result.findings:
        yield Table(
            [
                Column("rule"),
                Column("severity"),
                Column("subject", folds=True),
                Column("finding", folds=True, prose=True),
            ],
            [_row(finding) for finding in result.findings],
        )
        yield Table(
            [Column("next"), Column("command", folds=True)],
            [(rules, Span(command, NAME)) for command, rules in _next(result).items()],
        )
    if result.left_off > 0:
        yield Paragraph(Span(f"{words.count(result.left_off, 'more finding')} not listed", WARN))


def waiver_blocks(results: Sequence[CheckResult], unused: Sequence[Waiver]) -> Iterator[Block]:
    """Say how many findings a baseline lets pass, and which of its waivers are needed no more."""
    waived = sum(len(result.waived) for result in results)
    baseline = next((result.baseline for result in results if result.baseline), None)
    if baseline is None:
        return
    yield Paragraph(Span(f"{words.count(waived, 'finding')} waived by {quote(baseline)}."))
    if unused:
        one = len(unused) == 1
        what = "1 waiver lets" if one else f"{len(unused):,} waivers let"
        said = f"{what} nothing pass in what was checked; --update-baseline removes "
        yield Paragraph(Span(said + ("it:" if one else "them:"), WARN))
        yield Table(
            [
                Column("rule"),
                Column("subject", folds=True),
                Column("waived", folds=True, prose=True),
            ],
            [(one.rule, Span(one.subject, NAME), one.message) for one in unused],
        )


def summary_sentence(result: CheckResult) -> str:
    """How much was looked at, in a sentence."""
    target = f" for torch {result.target}" if result.target else ""
    said = f"{words.count(len(result.rules_run), 'rule')} run{target}{by_policy(result)}"
    if result.skipped:
        said += f", {len({skipped.rule for skipped in result.skipped})} skipped"
    if result.bytes_read:
        said += f"; {words.size(result.bytes_read)} of {words.size(result.bytes_stored)} read"
    if result.items:
        said += f", {result.items_verified:,} of {words.count(result.items, 'item')} verified"
    return said + "."


def by_policy(result: CheckResult) -> str:
    """Name the policy that a result was judged by, for the middle of a sentence."""
    return "" if result.policy is None else f" by the policy in {quote(result.policy)}"


def outcome(counts: Mapping[str, int], waived: int = 0) -> Iterator[Span]:
    """Say how many findings there are of each severity: `1 error, 2 remarks, 3 waived`."""
    nouns = ((ERROR, "error", BAD), (WARNING, "warning", WARN), (INFO, "remark", PLAIN))
    shown = [
        Span(words.count(counts[severity], noun), tone)
        for severity, noun, tone in nouns
        if counts.get(severity)
    ]
    if waived:
        shown.append(Span(f"{waived:,} waived", DIM))
    if not counts.get(ERROR) and not counts.get(WARNING):
        yield Span("nothing wrong found", GOOD)
        if shown:
            yield Span(", ")
    for number, span in enumerate(shown):
        if number:
            yield Span(", ")
        yield span


def where(finding: Finding) -> str:
    """Say in brackets in which file a finding lies and where in it, as far as that is not said."""
    if finding.file is not None and finding.file != finding.subject:
        at = "" if finding.offset is None else f" at {finding.offset:,}"
        return f" ({finding.file}{at})"
    return "" if finding.offset is None else f" (at {finding.offset:,})"


def _row(finding: Finding) -> Sequence[Line]:
    return (
        finding.rule,
        Span(finding.severity, TONES[finding.severity]),
        Span(finding.subject, NAME),
        (Span(finding.message), Span(where(finding), DIM)),
    )


def _next(result: CheckResult) -> dict[str, str]:
    """The commands to run next, each once, with the rules that ask for it.

    Of the findings of one rule the first decides: they differ in the key alone.
    """
    found: dict[str, list[str]] = {}
    first = {finding.rule: finding for finding in reversed(result.findings)}
    for rule in sorted(first):
        found.setdefault(fix_for(result, first[rule]), []).append(rule)
    return {command: ", ".join(rules) for command, rules in found.items()}


def _by_reason(skipped: Sequence[Skipped]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in skipped:
        found.setdefault(one.because, []).append(one.rule)
    return found
