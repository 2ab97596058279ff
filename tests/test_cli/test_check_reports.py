"""`dcpctl check --format` and `--report`: several reports at once, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from dcpctl.cli.app import app
from dcpctl.reports import check_formats
from tests.test_reports.test_schemas import schema


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments), "--torch", "2.13"])


def test_every_module_is_a_format() -> None:
    assert set(check_formats.names()) == {
        *("text", "table", "markdown", "json", "github", "junit", "sarif")
    }
    assert check_formats.names()[0] == "text"
    shown = " ".join(CliRunner().invoke(app, ["check", "--help"]).stdout.split())
    assert "text, table, markdown, github, json, junit, sarif" in shown


def test_a_new_file_is_a_new_format(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_formats, "__path__", [*check_formats.__path__, str(tmp_path)])
    (tmp_path / "tally.py").write_text(
        "def write(checked, stream, look):\n"
        "    stream.write(f'{len(checked.results)} {checked.failed(look.strict)}\\n')\n"
    )
    assert check(samples / "zstd", "--format", "tally").stdout == "1 False\n"
    assert check(samples / "zstd", "--format", "tally", "--strict").stdout == "1 True\n"
    check(samples / "zstd", f"--report=tally={tmp_path / 'out'}")
    assert (tmp_path / "out").read_text() == "1 False\n"


def test_several_at_once(samples: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"out.{name}" for name in check_formats.names()}
    reports = [f"--report={name}={file}" for name, file in files.items()]
    done = check(samples / "flipped_bit", samples / "fsdp_tp_2x2", "--verify-data", *reports)
    assert done.exit_code == 1
    assert done.stdout == files["text"].read_text()
    assert sorted(tmp_path.iterdir()) == sorted(files.values())  # nothing partial is left
    assert ElementTree.parse(files["junit"]).getroot().get("failures") == "1"
    assert len(json.loads(files["sarif"].read_text())["runs"][0]["results"]) == 1
    found = json.loads(files["json"].read_text())
    jsonschema.validate(found, schema("check"), cls=jsonschema.Draft202012Validator)
    assert found["counts"]["error"] == 1
    assert files["github"].read_text().startswith("::error file=")
    assert files["markdown"].read_text().startswith("## 2 checkpoints")


@pytest.mark.parametrize("form", check_formats.names())
def test_a_report_is_what_would_be_printed(samples: Path, tmp_path: Path, form: str) -> None:
    target = samples / "legacy"
    printed = check(target, "--format", form).stdout
    check(target, "--format", form, "--output", tmp_path / "a")
    check(target, f"--report={form}={tmp_path / 'b'}")
    assert printed == (tmp_path / "a").read_text() == (tmp_path / "b").read_text()


@pytest.mark.parametrize("form", check_formats.names())
def test_a_checkpoint_that_cannot_be_read(samples: Path, tmp_path: Path, form: str) -> None:
    """CI servers want a report of it too; for people and scripts it is an error as ever."""
    report = tmp_path / "report"
    done = check(samples / "interrupted", "--format", form, f"--report={form}={report}")
    assert done.exit_code == 3
    assert done.stderr.startswith("error[interrupted-save]: ")
    assert "interrupted-save" in report.read_text()
    quiet = form in ("text", "table", "markdown", "json")
    assert done.stdout == ("" if quiet else report.read_text())


def test_strict_reaches_the_reports(samples: Path, tmp_path: Path) -> None:
    target = samples / "zstd"
    for options, failures in (([], "0"), (["--strict"], "1")):
        done = check(target, f"--report=junit={tmp_path / 'x'}", *options)
        assert done.exit_code == int(failures)
        assert ElementTree.parse(tmp_path / "x").getroot().get("failures") == failures


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "xml"], "--format: there is no format 'xml'"),
        (["--report", "xml=x"], "--report: there is no format 'xml'"),
        (["--report", "junit"], "--report takes FORMAT=FILE, not 'junit'"),
        (["--report", "junit="], "--report takes FORMAT=FILE"),
        (["--report", "junit=-"], "--report writes to files, not to '-'"),
        (["--report", "junit=no/such/x"], "there is no directory for 'no/such/x'"),
        (["--report", "junit=x", "--report", "sarif=./x"], "two reports would be written to 'x'"),
        (["--report", "junit=x", "--output", "a/../x"], "two reports would be written to"),
        (["--format", "sarif", "--json"], "--json and --format sarif contradict"),
        (["--format", "junit", "--table-style", "grid"], "--table-style is for --format table"),
        (["--json", "--table-style", "grid"], "--table-style is for --format table"),
    ],
)
def test_refused(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    done = check(samples / "zstd", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_unknown_formats_are_told_the_known() -> None:
    hint = check("x", "--format", "xml").stderr.splitlines()[1]
    assert hint == "  hint: the formats are text, table, markdown, github, json, junit, sarif"


def test_a_report_that_cannot_be_written(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    done = check(samples / "zstd", f"--report=junit={tmp_path / 'x'}")
    assert done.exit_code == 5
    assert done.stderr.startswith("error[io-failed]: cannot write ")


def test_files_stand_for_their_checkpoint(samples: Path) -> None:
    where = samples / "flipped_bit"
    files = sorted(where.glob("*.distcp"))
    done = check(where / ".metadata", *files, "--verify-data")
    assert done.stdout == check(where, "--verify-data").stdout
