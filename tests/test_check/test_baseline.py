"""Waivers: what they let pass, what they do not, and how they are kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import jsonschema
import pytest

from dcpctl.check.baseline import Baseline, Waived, Waiver, key_of, without_numbers
from dcpctl.check.baseline_file import BaselineError, read_baseline, write_baseline
from dcpctl.check.engine import run_checks
from dcpctl.check.finding import Checked, CheckResult, Finding
from dcpctl.check.options import CheckOptions
from dcpctl.errors import ReadFailed
from tests.test_reports.test_schemas import schema


def finding(rule: str = "DCP404", severity: str = "error", message: str = "has 3 of 4") -> Finding:
    return Finding(rule, severity, "optimizer", message)


def result_of(*findings: Finding, ran: tuple[str, ...] = ("DCP404",)) -> CheckResult:
    counts = Counter(one.severity for one in findings)
    return CheckResult(Path("ckpt"), "dcp", None, findings, counts, rules_run=ran)


def baseline_of(*results: CheckResult, path: Path = Path("b.json")) -> Baseline:
    return Baseline(path, {}).updated(results)


@pytest.mark.parametrize(
    ("message", "fingerprint"),
    [
        ("step 500 of 9,500", "step # of #"),
        ("step 500, and 9,000 in 'step-9000'", "step #, and # in 'step-#'"),
        ("holds 586 kB (585,654 bytes)", "holds # (#)"),
        ("holds 571.9 KiB (585,654 bytes)", "holds # (#)"),
        ("holds 1 byte", "holds #"),
        ("has CRC-32 6fd8be2d, recorded is 3e024c66", "has CRC-# #, recorded is #"),
        ("torch 2.13.0 refuses", "torch # refuses"),
        ("lowest is -1.5e-08; 12.5%", "lowest is #; #%"),
        ("'layers.12.w1' is deadbeef", "'layers.#.w#' is deadbeef"),
        ("[4:6, 0:4]", "[#:#, #:#]"),
        ("no numbers", "no numbers"),
    ],
)
def test_numbers_do_not_count(message: str, fingerprint: str) -> None:
    assert without_numbers(message) == fingerprint


def test_a_waiver_lets_the_next_save_pass() -> None:
    baseline = baseline_of(result_of(finding(message="has 3 of 4")))
    waived = Waived(baseline)
    assert waived.takes(finding(message="has 5 of 700"))
    assert not waived.takes(finding(message="lacks 5 of 700"))
    assert not waived.takes(finding(rule="DCP405"))
    assert not waived.takes(Finding("DCP404", "error", "model", "has 3 of 4"))


def test_what_happened_once_is_waived_once() -> None:
    known = finding("DCP601", message="restarted: reset at step 9,000")
    waived = Waived(baseline_of(result_of(known)))
    assert waived.takes(known)
    assert not Waived(baseline_of(result_of(known))).takes(
        finding("DCP601", message="restarted: reset at step 12,000")
    )


def test_no_more_and_no_graver_than_there_were() -> None:
    baseline = baseline_of(
        result_of(finding(severity="warning"), finding(severity="warning")),
        result_of(finding(severity="warning")),
    )
    (waiver,) = baseline.waivers.values()
    assert (waiver.count, waiver.severity) == (2, "warning")
    waived = Waived(baseline)
    assert not waived.takes(finding(severity="error"))
    taken = [waived.takes(finding(severity=s)) for s in ("warning", "info", "warning")]
    assert taken == [True, True, False]
    both = baseline_of(result_of(finding(severity="warning")), result_of(finding()))
    assert next(iter(both.waivers.values())).severity == "error"


def test_remarks_are_not_waived() -> None:
    assert not baseline_of(result_of(finding(severity="info"))).waivers


def test_an_update_keeps_reasons_and_what_was_not_looked_at() -> None:
    old = [Waiver("DCP404", "optimizer", "has # of #", "error", 1, "since 2023")]
    old += [Waiver("DCP404", "gone", "", "error"), Waiver("DCP502", "model", "", "error")]
    before = Baseline(Path("b.json"), {waiver.key: waiver for waiver in old})
    after = before.updated([result_of(finding(), finding())])
    assert list(after.waivers.values()) == [
        old[2],
        Waiver("DCP404", "optimizer", "has # of #", "error", 2, "since 2023"),
    ]


def test_waivers_that_nobody_needs_are_named() -> None:
    unused = Waiver("DCP404", "gone", "", "error")
    elsewhere = Waiver("DCP502", "model", "", "error")
    used = Waiver(*key_of(finding()), "error")
    baseline = Baseline(Path("b.json"), {w.key: w for w in (unused, elsewhere, used)})
    first, second = result_of(finding()), result_of(Finding("DCP404", "error", "gone", ""))
    results = [baseline.applied(one) for one in (first, second)]
    assert [one.unused_waivers for one in results] == [(unused,), (used,)]
    assert Checked((results[0],)).unused_waivers == (unused,)
    assert Checked(tuple(results)).unused_waivers == ()
    assert results[0].waived == (finding(),)
    assert (results[0].findings, results[0].errors, results[0].left_off) == ((), 0, 0)


def test_waived_findings_neither_count_nor_take_up_room(samples: Path) -> None:
    legacy = samples / "legacy"
    options = CheckOptions(torch="2.13")
    found = run_checks(legacy, options)
    baseline = baseline_of(found)
    assert [waiver.rule for waiver in baseline.waivers.values()] == ["DCP404"]
    waived = run_checks(legacy, CheckOptions(torch="2.13", baseline=baseline, max_findings=1))
    assert [one.rule for one in waived.waived] == ["DCP404"]
    assert (waived.errors, waived.infos, len(waived.findings)) == (0, 2, 1)
    assert waived.unused_waivers == ()
    assert not waived.failed()
    assert "DCP404" in waived.rules_run
    assert baseline.applied(found) == run_checks(
        legacy, CheckOptions(torch="2.13", baseline=baseline)
    )


def test_a_file_of_waivers(tmp_path: Path) -> None:
    waivers = [
        Waiver("DCP502", "b", 'a "quoted" # \x1b', "warning", 3, "because"),
        Waiver("DCP404", "optimizer", "has # of #", "error"),
    ]
    baseline = Baseline(tmp_path / "b.json", {waiver.key: waiver for waiver in waivers})
    write_baseline(baseline)
    assert read_baseline(baseline.path) == baseline
    text = baseline.path.read_text()
    assert text.isascii()
    assert text.index("DCP404") < text.index("DCP502")
    assert [line.count('"rule"') for line in text.splitlines()] == [0, 0, 0, 1, 1, 0, 0]
    found = json.loads(text)
    jsonschema.validate(found, schema("baseline"), cls=jsonschema.Draft202012Validator)
    write_baseline(Baseline(baseline.path, {}))
    assert json.loads(baseline.path.read_text())["waivers"] == []
    assert read_baseline(baseline.path).waivers == {}


GOOD = {"rule": "DCP404", "subject": "a", "message": "b", "severity": "error"}


@pytest.mark.parametrize(
    ("waivers", "says"),
    [
        (3, "no schema"),
        ([3], "waiver 1: expected an object"),
        ([GOOD, {**GOOD, "rule": None}], "waiver 2: 'rule' is missing or no text"),
        ([{"rule": "DCP404"}], "waiver 1: 'subject' is missing"),
        ([{**GOOD, "reason": 3}], "'reason' is missing or no text"),
        ([{**GOOD, "count": 0}], "'count' is no number above 0"),
        ([{**GOOD, "count": True}], "'count' is no number above 0"),
        ([{**GOOD, "severity": "grave"}], "'severity' is not one of"),
        ([{**GOOD, "resaon": "typo"}], "unknown key 'resaon'"),
    ],
    ids=str,
)
def test_what_is_no_baseline(tmp_path: Path, waivers: object, says: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"schema": "dcpctl.baseline/1", "waivers": waivers}))
    with pytest.raises(BaselineError, match=says) as caught:
        read_baseline(path)
    assert caught.value.exit_code == 2


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed, match="No such file"):
        read_baseline(tmp_path / "nothing")
    (tmp_path / "text").write_text("text")
    with pytest.raises(BaselineError, match="not JSON"):
        read_baseline(tmp_path / "text")
    with pytest.raises(ReadFailed, match="cannot write"):
        write_baseline(Baseline(tmp_path / "no" / "b.json", {}))
    assert not (tmp_path / "no").exists()
