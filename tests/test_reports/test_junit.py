"""JUnit XML, validated against the schema of the Jenkins xUnit plugin."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpctl.check.finding import ERROR, INFO, WARNING, Checked, Finding, Skipped, Unreadable
from dcpctl.errors import InterruptedSave, printable
from tests.test_reports.checked import check, hostile, made, report


@cache
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(Path(__file__).parent / "schemas" / "junit-10.xsd")


def validated(checked: Checked, **look: bool) -> Element:
    """The report, read back as a CI server reads it."""
    text = report("junit", checked, **look)
    schema().validate(text)
    root = ElementTree.fromstring(text.encode("utf-8"))
    for suite in root:
        cases = suite.findall("testcase")
        for attribute, tag in (("failures", "failure"), ("errors", "error"),
                               ("skipped", "skipped")):  # fmt: skip
            assert int(suite.get(attribute, "")) == sum(c.find(tag) is not None for c in cases)
        assert int(suite.get("tests", "")) == len(cases)
        assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases)
    for attribute in ("tests", "failures", "errors"):
        total = sum(int(suite.get(attribute, "")) for suite in root)
        assert int(root.get(attribute, "")) == total
    return root


def case(root: Element, rule: str) -> Element:
    (found,) = (c for c in root.iter("testcase") if c.get("name", "").split(" ")[0] == rule)
    return found


def test_the_schema_refuses_what_is_no_report() -> None:
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        schema().validate("<testsuites><testsuite/></testsuites>")


def test_real_checkpoints(samples: Path) -> None:
    paths = ("flipped_bit", "legacy", "silent_reset/step-9500", "interrupted", "hostile")
    checked = check(*(samples / path for path in paths))
    root = validated(checked)
    assert [suite.get("name") for suite in root] == [
        str(one.path) for one in (*checked.results, *checked.unreadable)
    ]
    assert (root.get("failures"), root.get("errors")) == ("3", "2")
    flipped = root[0]
    failed = [c for c in flipped.iter("testcase") if c.find("failure") is not None]
    assert [c.get("name") for c in failed] == [
        "DCP301 a tensor's numbers do not have their checksum"
    ]
    failure = failed[0].find("failure")
    assert failure is not None
    assert failure.get("type") == "error"
    assert failure.get("message", "").startswith("model.tok_embeddings.weight: record 'data/0'")
    assert (failure.text or "").endswith("See: dcpctl explain DCP301")
    assert len(flipped.findall("testcase")) == len(checked.results[0].rules_run) + 1
    assert case(flipped, "DCP307").find("skipped") is not None
    properties = {p.get("name"): p.get("value") for p in flipped.iter("property")}
    assert properties["format"] == "dcp"
    assert properties["torch"] == "2.13"
    assert properties["items"] == properties["items verified"] == "193"


def test_hostile_names() -> None:
    root = validated(hostile())
    assert not list(root.iter("script"))
    texts = [text for element in root.iter() for text in (element.text, *element.attrib.values())]
    assert not set("".join(text or "" for text in texts)) & set("\x00\x01\x0b\x1b\x7f\r\u202e")


def test_severities() -> None:
    result = made(
        Finding("DCP103", ERROR, "a", "b"),
        Finding("DCP208", WARNING, "c", "d"),
        Finding("DCP401", INFO, "e", "f"),
    )
    root = validated(Checked((result,)))
    assert root.get("failures") == "1"
    assert case(root, "DCP208").findtext("system-out") == "warning: c: d"
    assert case(root, "DCP401").findtext("system-out") == "info: e: f"
    strict = validated(Checked((result,)), strict=True)
    assert strict.get("failures") == "2"
    failure = case(strict, "DCP208").find("failure")
    assert failure is not None
    assert failure.get("type") == "warning"
    assert case(strict, "DCP101").find("failure") is None


def test_all_findings_of_a_rule_stand_in_its_case() -> None:
    findings = [Finding("DCP103", ERROR, f"w{n}", "x") for n in range(3)]
    root = validated(Checked((made(*findings, Finding("DCP103", INFO, "w9", "y")),)))
    failure = case(root, "DCP103").find("failure")
    assert failure is not None
    assert failure.get("message") == "w0: x (and 2 more)"
    assert failure.text == (
        "w0: x\nw1: x\nw2: x\n"
        "Next: dcpctl salvage run/step-10 run/step-10-fixed\n"
        "See: dcpctl explain DCP103"
    )
    assert case(root, "DCP103").findtext("system-out") == "info: w9: y"


def test_skipped_is_not_passed() -> None:
    part = Skipped("DCP101", "one file is gone")
    whole = Skipped("DCP307", "nobody asked")
    root = validated(Checked((made(skipped=(part, whole)),)))
    assert case(root, "DCP101").find("skipped") is None
    assert case(root, "DCP101").findtext("system-out") == "not on everything: one file is gone"
    skipped = case(root, "DCP307").find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "nobody asked"
    assert root[0].get("skipped") == "1"


def test_waived_findings_pass_and_are_said() -> None:
    waived = (Finding("DCP101", ERROR, "a", "b"),)
    root = validated(Checked((made(waived=waived, baseline=Path("known.toml")),)))
    assert {"name": "baseline", "value": "known.toml"} in [p.attrib for p in root.iter("property")]
    assert root.get("failures") == "0"
    assert case(root, "DCP101").findtext("system-out") == "waived: a: b"


@pytest.mark.parametrize(("severity", "failures"), [(ERROR, "2"), (INFO, "1")])
def test_findings_not_listed_fail_where_they_should(severity: str, failures: str) -> None:
    result = made(Finding("DCP103", ERROR, "a", "b"))
    result.counts[severity] += 5
    root = validated(Checked((result,)))
    assert root.get("failures") == failures
    (last,) = (c for c in root.iter("testcase") if c.get("name") == "findings not listed")
    said = last.findtext("system-out") or ElementTree.tostring(last, encoding="unicode")
    assert "5 more findings" in said


def test_unreadable_is_an_error() -> None:
    lost = Unreadable(Path("run/step-20"), InterruptedSave("no .metadata", hint="resume before"))
    root = validated(Checked((made(),), (lost,)))
    assert root.get("errors") == "1"
    error = root[1][0].find("error")
    assert error is not None
    assert (error.get("type"), error.text) == ("interrupted-save", "resume before")


def test_the_path_is_no_package() -> None:
    """Jenkins splits a class name at its last dot."""
    root = validated(Checked((made(path="run.v2/step-1.5"),)))
    assert {c.get("classname") for c in root.iter("testcase")} == {"dcpctl.run_v2/step-1_5"}
    assert root[0].get("name") == "run.v2/step-1.5"


def test_nothing_checked_is_a_report_too() -> None:
    assert validated(Checked(())).get("tests") == "0"


@settings(max_examples=60, deadline=None)
@given(name=st.text(max_size=30), path=st.text(max_size=20).filter(lambda t: "\0" not in t))
def test_any_text_is_valid_xml(name: str, path: str) -> None:
    finding = Finding("DCP103", ERROR, name, name, name)
    root = validated(Checked((made(finding, path=path, skipped=(Skipped("DCP307", name),)),)))
    failure = case(root, "DCP103").find("failure")
    assert failure is not None
    assert (failure.text or "").startswith(printable(name).strip("\n"))
