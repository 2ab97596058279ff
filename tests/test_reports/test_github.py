"""Annotations of GitHub Actions, read back as the runner reads them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpctl.check.finding import ERROR, INFO, WARNING, Checked, Finding, Unreadable
from dcpctl.errors import InterruptedSave, printable
from tests.test_reports.checked import EVIL, check, hostile, made, report

#: Some of the commands that the runner knows.
COMMANDS = ("error", "warning", "notice", "debug", "group", "endgroup", "add-mask", "stop-commands",
            "set-output", "add-matcher", "save-state", "set-env", "add-path", "echo")  # fmt: skip


class Annotation(NamedTuple):
    level: str
    file: str
    title: str
    message: str


def obeyed(text: str) -> list[tuple[str, dict[str, str], str]]:
    """The commands that actions/runner's ActionCommand.cs finds in a log: TryParseV2, TryParse."""
    found = []
    for raw in text.splitlines():  # splits at more than the runner does, so it finds no less
        line = raw.strip()
        if line.startswith("::") and "::" in line[2:]:
            head, _, data = line[2:].partition("::")
            name, _, rest = head.partition(" ")
            if name in COMMANDS:
                pairs = (pair.split("=", 1) for pair in rest.split(",") if "=" in pair)
                properties = {key: unescape(value, ":,") for key, value in pairs}
                found.append((name, properties, unescape(data, "")))
                continue
        assert "##[" not in line
    return found


def unescape(text: str, more: str) -> str:
    for char in "\r\n" + more + "%":
        text = text.replace(f"%{ord(char):02X}", char)
    return text


def annotations(text: str) -> list[Annotation]:
    return [
        Annotation(name, properties["file"], properties["title"], data)
        for name, properties, data in obeyed(text)
    ]


def test_real_checkpoints(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples.parent)
    base = Path("sample_checkpoints")
    names = ("flipped_bit", "legacy", "silent_reset/step-8500", "silent_reset/step-9500")
    text = report("github", check(*(base / name for name in names)))
    found = annotations(text)
    assert [one.level for one in found] == ["error"] * 3 + ["notice"] * 2
    assert found[0].file == "sample_checkpoints/flipped_bit/__2_0.distcp"
    assert found[0].title.startswith("DCP301 ")
    assert found[0].message.startswith("model.tok_embeddings.weight: record 'data/0' of 1,536")
    assert found[0].message.endswith("(__2_0.distcp at 15,900)")
    assert found[1].file == "sample_checkpoints/legacy/.metadata"
    last = text.splitlines()[-4:]
    assert last[0].startswith("sample_checkpoints/flipped_bit: 1 error. ")
    assert "1 skipped" in last[0]
    assert last[2].startswith("sample_checkpoints/silent_reset/step-8500: nothing wrong found. ")


def test_what_the_runner_reads_is_what_was_found() -> None:
    finding = Finding("DCP301", ERROR, "a,b:c%0A", "50% of it: wrong\nhere", "x,y:z%25.distcp")
    (found,) = annotations(report("github", Checked((made(finding),))))
    assert found.file == "run/step-10/x,y:z%25.distcp"
    assert found.title == "DCP301 a tensor's numbers do not have their checksum"
    assert found.message == "a,b:c%0A: 50% of it: wrong\\nhere (x,y:z%25.distcp)"


def test_hostile_names_command_nothing() -> None:
    checked = hostile()
    text = report("github", checked)
    findings = sum(len(result.findings) for result in checked.results)
    found = obeyed(text)
    assert len(found) == findings + len(checked.unreadable)
    assert {name for name, _, _ in found} == {"error", "warning", "notice"}
    assert all(set(properties) == {"file", "title"} for _, properties, _ in found)
    assert not any("forged" in properties["title"] for _, properties, _ in found)
    assert len(text.splitlines()) == len(found) + len(checked.results) + len(checked.unreadable)
    assert text.count("\n") == len(text.splitlines())
    assert not set(text) & set("\x00\x01\x0b\x1b\x7f\x85\r\u202e\u2028\ud800\udcff")


def test_a_file_outside_the_checkpoint_is_not_pointed_at() -> None:
    outside = [Finding("DCP206", ERROR, "k", "leads out", name) for name in ("../../x", "/etc/x")]
    found = annotations(report("github", Checked((made(*outside),))))
    assert [one.file for one in found] == ["run/step-10/.metadata"] * 2


def test_of_each_rule_one_comes_before_the_second_of_any() -> None:
    """GitHub drops what comes after the tenth of a level."""
    many = [Finding("DCP103", ERROR, f"a{n}", "x") for n in range(50)]
    few = [Finding("DCP301", ERROR, "b", "y"), Finding("DCP501", WARNING, "c", "z")]
    found = annotations(report("github", Checked((made(*many, *few),))))
    assert [one.title[:6] for one in found[:3]] == ["DCP103", "DCP301", "DCP103"]
    assert found[-1].level == "warning"


def test_nothing_found_says_so() -> None:
    text = report("github", Checked((made(),)))
    assert text == (
        "run/step-10: nothing wrong found. 1 rule run for torch 2.13; "
        "100 B of 100 B read, 3 of 3 items verified.\n"
    )


def test_findings_not_listed_are_counted() -> None:
    result = made(Finding("DCP103", INFO, "a", "b"))
    result.counts[ERROR] += 4
    assert "4 errors, 1 remark, 4 of them not listed. " in report("github", Checked((result,)))


def test_waived_findings_are_counted() -> None:
    waived = (Finding("DCP101", ERROR, "a", "b"),) * 2
    text = report("github", Checked((made(waived=waived),)))
    assert text.startswith("run/step-10: nothing wrong found, 2 waived. 1 rule run")


def test_unreadable_is_an_error() -> None:
    lost = Unreadable(Path("run/step-20"), InterruptedSave("no .metadata", hint="resume before"))
    text = report("github", Checked((), (lost,)))
    assert annotations(text) == [
        Annotation("error", "run/step-20", "interrupted-save", "no .metadata; resume before")
    ]
    assert text.endswith("\nrun/step-20: interrupted-save\n")


def test_paths_are_seen_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finding = Finding("DCP103", ERROR, "a", "b")
    paths = [str(tmp_path / "in" / "x"), "./in/../y", "/elsewhere/z", "../w"]
    checked = Checked(tuple(made(finding, path=path) for path in paths))
    assert [Path(one.file) for one in annotations(report("github", checked))] == [
        Path("in/x/.metadata"),
        Path("y/.metadata"),
        Path("/elsewhere/z/.metadata"),
        tmp_path.parent / "w" / ".metadata",
    ]


@pytest.mark.parametrize("name", EVIL, ids=range(len(EVIL)))
def test_one_line_a_finding(name: str) -> None:
    text = report("github", Checked((made(Finding("DCP103", ERROR, name, name)),)))
    assert len(text.splitlines()) == 2


@settings(max_examples=50, deadline=None)
@given(name=st.text(max_size=30), message=st.text(max_size=30), file=st.text(max_size=30))
def test_any_text_is_an_annotation_and_no_other_command(name: str, message: str, file: str) -> None:
    text = report("github", Checked((made(Finding("DCP103", ERROR, name, message, file)),)))
    ((command, properties, data),) = obeyed(text)
    assert command == "error"
    assert set(properties) == {"file", "title"}
    assert data.startswith(printable(f"{name}: {message}").rstrip())
    assert len(text.splitlines()) == 2
