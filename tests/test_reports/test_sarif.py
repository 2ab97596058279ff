"""SARIF 2.1.0, validated against the schema of OASIS."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpctl import __version__
from dcpctl.check.finding import ERROR, INFO, WARNING, Checked, Finding, Skipped, Unreadable
from dcpctl.check.registry import all_rules
from dcpctl.errors import InterruptedSave, NotACheckpoint
from tests.test_reports.checked import check, hostile, made, report


@cache
def validator() -> jsonschema.Draft4Validator:
    text = (Path(__file__).parent / "schemas" / "sarif-schema-2.1.0.json").read_text()
    checker = jsonschema.Draft4Validator.FORMAT_CHECKER
    return jsonschema.Draft4Validator(json.loads(text), format_checker=checker)


def validated(checked: Checked) -> dict[str, Any]:
    """The only run of the report, after what the schema and code scanning ask for."""
    text = report("sarif", checked)
    assert text.isascii()
    log = json.loads(text)
    validator().validate(log)
    assert log["$schema"] == validator().schema["id"]
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    prints = set()
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["region"]["startLine"] == 1
        assert urlsplit(place["artifactLocation"]["uri"]).scheme in ("", "file")
        prints.add(result["partialFingerprints"]["primaryLocationLineHash"])
    assert len(prints) == len(run["results"])
    return dict(run)


def uri(result: dict[str, Any]) -> str:
    return str(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])


def test_the_schema_refuses_what_is_no_report() -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator().validate({"version": "2.1.0"})


def test_real_checkpoints(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples.parent)
    names = ("flipped_bit", "legacy", "silent_reset/step-9500", "interrupted")
    run = validated(check(*(Path("sample_checkpoints") / name for name in names)))
    assert run["tool"]["driver"]["name"] == "dcpctl"
    assert run["tool"]["driver"]["version"] == __version__
    assert [(r["ruleId"], r["level"], uri(r)) for r in run["results"]] == [
        ("interrupted-save", "error", "sample_checkpoints/interrupted"),
        ("DCP301", "error", "sample_checkpoints/flipped_bit/__2_0.distcp"),
        ("DCP401", "note", "sample_checkpoints/legacy/.metadata"),
        ("DCP402", "note", "sample_checkpoints/legacy/.metadata"),
        ("DCP404", "error", "sample_checkpoints/legacy/.metadata"),
        ("DCP506", "error", "sample_checkpoints/silent_reset/step-9500/.metadata"),
    ]
    flipped = run["results"][1]
    assert flipped["properties"]["byteOffset"] == 15900
    assert flipped["properties"]["fix"].startswith("dcpctl repair ")
    assert flipped["locations"][0]["logicalLocations"] == [
        {"fullyQualifiedName": "model.tok_embeddings.weight"}
    ]
    assert not any("suppressions" in result for result in run["results"])


def test_rules_carry_their_pages(samples: Path) -> None:
    run = validated(check(samples / "flipped_bit"))
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    titles = {rule.id: rule.title for rule in all_rules()}
    assert len(rules) > 40
    for name, rule in rules.items():
        assert rule["shortDescription"]["text"] == titles[name]
        assert rule["help"]["markdown"].startswith(f"# {name}: ")
        assert rule["helpUri"].endswith(f"/rules/{name}.html")
        assert "## How to fix it" in rule["help"]["markdown"]
        assert "##" not in rule["fullDescription"]["text"]
        assert f"{name[:4]}xx" in rule["properties"]["tags"]
    assert rules["DCP103"]["fullDescription"]["text"].startswith("Some elements of a tensor lie")


def test_severities() -> None:
    findings = [Finding("DCP103", level, level, "x") for level in (ERROR, WARNING, INFO)]
    run = validated(Checked((made(*findings),)))
    assert [result["level"] for result in run["results"]] == ["error", "warning", "note"]


def test_skipped_rules_are_notes_of_the_run_and_no_alerts() -> None:
    skipped = (Skipped("DCP307", "nobody asked"),)
    run = validated(Checked((made(skipped=skipped),)))
    assert run["results"] == []
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is True
    (note,) = invocation["toolExecutionNotifications"]
    assert note["message"]["text"] == "DCP307 skipped: nobody asked"
    index = note["associatedRule"]["index"]
    assert run["tool"]["driver"]["rules"][index]["id"] == "DCP307"


def test_waived_findings_are_suppressed_and_the_others_are_not() -> None:
    waived = (Finding("DCP101", ERROR, "c", "d"),)
    result = made(Finding("DCP103", ERROR, "a", "b"), waived=waived, baseline=Path("known.toml"))
    found = validated(Checked((result, made(Finding("DCP103", ERROR, "e", "f"), path="z"))))
    assert [(r["ruleId"], [s["status"] for s in r["suppressions"]]) for r in found["results"]] == [
        ("DCP103", []),
        ("DCP101", ["accepted"]),
        ("DCP103", []),
    ]
    (suppression,) = found["results"][1]["suppressions"]
    assert suppression["justification"] == "waived by known.toml"


def test_unreadable_is_a_result() -> None:
    """Without one, code scanning would show a checkpoint that nobody could read as clean."""
    lost = [
        Unreadable(Path("run/a"), InterruptedSave("no .metadata", hint="resume before")),
        Unreadable(Path("run/b"), InterruptedSave("no .metadata")),
        Unreadable(Path("run/c"), NotACheckpoint("nothing there")),
    ]
    run = validated(Checked((), tuple(lost)))
    assert run["invocations"][0]["executionSuccessful"] is False
    assert [(r["ruleId"], r["message"]["text"], uri(r)) for r in run["results"]] == [
        ("interrupted-save", "no .metadata; resume before", "run/a"),
        ("interrupted-save", "no .metadata", "run/b"),
        ("not-a-checkpoint", "nothing there", "run/c"),
    ]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [
        "interrupted-save",
        "not-a-checkpoint",
    ]


def test_hostile_names() -> None:
    checked = hostile()
    run = validated(checked)
    findings = sum(len(result.findings) for result in checked.results)
    assert len(run["results"]) == findings + len(checked.unreadable)
    for result in run["results"]:
        text = result["message"]["text"]
        assert "](" not in text  # no link
        assert "{0}" not in text.replace("{{", "").replace("}}", "")  # no placeholder
        assert text.isprintable()


def test_a_file_outside_the_checkpoint_is_not_pointed_at() -> None:
    outside = [Finding("DCP206", ERROR, name, "leads out", name) for name in ("../x", "/etc/x")]
    run = validated(Checked((made(*outside),)))
    assert [uri(result) for result in run["results"]] == ["run/step-10/.metadata"] * 2


def test_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finding = Finding("DCP103", ERROR, "a", "b")
    paths = ["a:b/c d#e?f%20", str(tmp_path / "in"), "/elsewhere/z", "../w", "ü\udcff"]
    run = validated(Checked(tuple(made(finding, path=path) for path in paths)))
    found = [uri(result) for result in run["results"]]
    assert found[0] == "a%3Ab/c%20d%23e%3Ff%2520/.metadata"
    assert unquote(found[0]) == "a:b/c d#e?f%20/.metadata"
    assert found[1:3] == ["in/.metadata", "file:///elsewhere/z/.metadata"]
    assert found[3].startswith("file:///")
    assert found[4].startswith("%C3%BC")


def test_fingerprints_last_as_long_as_the_finding(tmp_path: Path) -> None:
    def prints(*findings: Finding, path: str = "x") -> list[str]:
        run = validated(Checked((made(*findings, path=path),)))
        return [r["partialFingerprints"]["primaryLocationLineHash"] for r in run["results"]]

    first = Finding("DCP103", ERROR, "w", "covers 24 of 32")
    again = Finding("DCP103", WARNING, "w", "covers 25 of 32", offset=7)
    other = Finding("DCP103", ERROR, "v", "covers 24 of 32")
    assert prints(first) == prints(again)
    assert prints(first) != prints(other)
    assert prints(first) != prints(first, path="y")
    assert prints(first, other)[0] == prints(other, first)[1]
    assert len(set(prints(first, again))) == 2  # two of one kind in one place


@settings(max_examples=60, deadline=None)
@given(name=st.text(max_size=30), path=st.text(max_size=20).filter(lambda t: "\0" not in t))
def test_any_text_is_valid(name: str, path: str) -> None:
    run = validated(Checked((made(Finding("DCP103", ERROR, name, name, name), path=path),)))
    assert len(run["results"]) == 1
