"""What `check` found as JUnit XML, in the dialect that the Jenkins xUnit plugin's schema describes.

A checkpoint is a suite, and each rule a test case of it, so that a CI server shows which rule began
to fail with which save. A rule that could not run is skipped, not passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from dcpctl.check.finding import ERROR, WARNING, Checked, CheckResult, Finding, Unreadable
from dcpctl.check.fix import fix_for
from dcpctl.check.registry import all_rules
from dcpctl.errors import printable
from dcpctl.reports import words
from dcpctl.reports.check_blocks import summary_sentence
from dcpctl.reports.check_formats import Look
from dcpctl.reports.finding_text import sentence


def write(checked: Checked, stream: TextIO, look: Look) -> None:
    """One document; findings that do not fail the check stand in the output of a passed case."""
    failing = {ERROR, WARNING} if look.strict else {ERROR}
    titles = {rule.id: rule.title for rule in all_rules()}
    root = Element("testsuites", name="dcpctl check")
    for result in checked.results:
        root.append(_suite(result, failing, titles))
    for one in checked.unreadable:
        root.append(_unreadable(one))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ElementTree.indent(root)
    stream.write('<?xml version="1.0" encoding="utf-8"?>\n')
    stream.write(ElementTree.tostring(root, encoding="unicode") + "\n")


def _suite(result: CheckResult, failing: set[str], titles: dict[str, str]) -> Element:
    suite = Element("testsuite", name=printable(result.path))
    facts = SubElement(suite, "properties")
    for name, value in _properties(result):
        SubElement(facts, "property", name=name, value=printable(value))
    group = _class_name(result.path)
    found = _by_rule(result.findings)
    for rule in sorted({*result.rules_run, *(one.rule for one in result.skipped)}):
        case = SubElement(suite, "testcase", classname=group)
        case.set("name", f"{rule} {titles.get(rule, '')}".rstrip())
        _fill(case, result, rule, found.get(rule, []), failing)
    if result.left_off:
        case = SubElement(suite, "testcase", classname=group, name="findings not listed")
        said = f"{words.count(result.left_off, 'more finding')}, which --max-findings leaves out"
        listed = sum(finding.severity in failing for finding in result.findings)
        if sum(result.counts[severity] for severity in failing) > listed:
            SubElement(case, "failure", type="not-listed", message=said)
        else:
            SubElement(case, "system-out").text = said
    notes = [*result.notes, summary_sentence(result)]
    SubElement(suite, "system-out").text = "\n".join(printable(note) for note in notes)
    return _counted(suite)


def _by_rule(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.rule, []).append(finding)
    return found


def _fill(
    case: Element, result: CheckResult, rule: str, found: Sequence[Finding], failing: set[str]
) -> None:
    """Say in the case of a rule what it found, and where it did not look."""
    bad = [finding for finding in found if finding.severity in failing]
    because = [printable(one.because) for one in result.skipped if one.rule == rule]
    if bad:
        failure = SubElement(case, "failure", type=bad[0].severity, message=_summary(bad))
        then = [f"Next: {printable(fix_for(result, bad[0]))}", f"See: dcpctl explain {rule}"]
        failure.text = "\n".join([*map(sentence, bad), *then])
    elif because and rule not in result.rules_run:
        SubElement(case, "skipped", message="; ".join(because))
        return
    said = [f"{one.severity}: {sentence(one)}" for one in found if one.severity not in failing]
    said += [f"waived: {sentence(one)}" for one in result.waived if one.rule == rule]
    said += [f"not on everything: {one}" for one in because]
    if said:
        SubElement(case, "system-out").text = "\n".join(said)


def _summary(findings: Sequence[Finding]) -> str:
    more = f" (and {len(findings) - 1:,} more)" if len(findings) > 1 else ""
    return sentence(findings[0]) + more


def _unreadable(one: Unreadable) -> Element:
    suite = Element("testsuite", name=printable(one.path))
    case = SubElement(suite, "testcase", classname=_class_name(one.path), name="can be read")
    error = SubElement(case, "error", type=one.error.id, message=printable(one.error.message))
    error.text = printable(one.error.hint or one.error.message)
    return _counted(suite)


def _counted(suite: Element) -> Element:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    return suite


def _properties(result: CheckResult) -> Iterator[tuple[str, object]]:
    yield "format", result.form
    if result.target is not None:
        yield "torch", result.target
    for name in ("against", "policy", "baseline"):
        if getattr(result, name) is not None:
            yield name, getattr(result, name)
    yield "items", result.items
    yield "items verified", result.items_verified
    yield "bytes stored", result.bytes_stored
    yield "bytes read", result.bytes_read


def _class_name(path: object) -> str:
    """Jenkins takes what stands before the last dot of a class name for its package."""
    return f"dcpctl.{printable(path).replace('.', '_')}"
