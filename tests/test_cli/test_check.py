"""`dcpctl check` of one, of several and of a run: what it prints and how it ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from dcpctl.cli.app import app
from tests.test_reports.test_schemas import schema

TORCH = ("--torch", "2.13")


def check(*arguments: str | Path) -> Result:
    command = ["check", *map(str, arguments), *TORCH]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"})


def documents(*arguments: str | Path) -> dict:
    done = check(*arguments, "--json")
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema("check"), cls=jsonschema.Draft202012Validator)
    return found


def test_a_run_is_checked_save_by_save(samples: Path) -> None:
    done = check(samples / "silent_reset")
    assert done.exit_code == 1
    head, *lines = done.stdout.splitlines()
    assert head.startswith("3 checkpoints  ")
    rows = [line.split()[:2] for line in lines if line.startswith(f"  {samples}")]
    assert [(Path(path).name, before) for path, before in rows] == [
        ("step-8500", "-"),
        ("step-9000", "step-8500"),
        ("step-9500", "step-9000"),
    ]


def test_an_interrupted_save_stands_where_it_was_made(samples: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(samples / "silent_reset", run)
    metadata = run / "step-9000" / ".metadata"
    metadata.rename(metadata.with_name(".metadata.tmp"))
    done = check(run)
    assert done.exit_code == 3
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(f"  {run}")]
    assert [(Path(row[0]).name, row[1], row[2]) for row in rows] == [
        ("step-8500", "-", "nothing"),
        ("step-9000", "-", "interrupted-save"),
        ("step-9500", "step-8500", "1"),
    ]


def test_several_as_json(samples: Path) -> None:
    paths = [samples / "flipped_bit", samples / "interrupted", samples / "zstd"]
    found = documents(*paths, "--verify-data")
    lists = {"unused_waivers", "unreadable", "checkpoints", "runs", "not_looked_into"}
    assert set(found) == {"schema", "failed", "counts", *lists}
    assert [one["path"] for one in found["checkpoints"]] == [str(paths[0]), str(paths[2])]
    (lost,) = found["unreadable"]
    assert (lost["path"], lost["error"]) == (str(paths[1]), "interrupted-save")
    assert found["failed"] is True
    assert found["counts"]["error"] == 1
    alone = documents(paths[0], "--verify-data")
    assert {**found["checkpoints"][0], "schema": "dcpctl.check/1", "unused_waivers": []} == alone


@pytest.mark.parametrize(
    ("names", "options", "code"),
    [
        (["healthy/step-8500", "zstd"], [], 0),
        (["healthy/step-8500", "legacy"], [], 1),
        (["healthy/step-8500", "legacy"], ["--exit-zero"], 0),
        (["healthy/step-8500", "interrupted"], [], 3),
        (["legacy", "interrupted"], ["--exit-zero"], 3),
        (["interrupted"], ["--exit-zero"], 3),
        (["zstd", "nowhere"], ["--select", "E501"], 4),
        (["zstd", "legacy"], ["--against", "nowhere"], 3),
        (["zstd"], ["--against", "nowhere"], 3),
    ],
)
def test_how_it_ends(samples: Path, names: list[str], options: list[str], code: int) -> None:
    assert check(*(samples / name for name in names), *options).exit_code == code


def test_one_that_cannot_be_read_is_named_with_what_to_do(samples: Path) -> None:
    done = check(samples / "healthy" / "step-8500", samples / "interrupted")
    assert done.stdout.startswith("2 checkpoints  1 unreadable; the others: nothing wrong found\n")
    said = " ".join(done.stdout.split())
    assert "the save did not finish (resume from the save before it" in said
    neither = check(samples / "interrupted", samples / "hostile")
    assert neither.stdout.startswith("2 checkpoints  2 unreadable\n")
    assert "No rule was run." in neither.stdout


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_other_forms(samples: Path, form: str) -> None:
    done = check(samples / "silent_reset", "--format", form)
    assert done.exit_code == 1
    assert "DCP601" in done.stdout
    assert "compared with" in done.stdout


def test_one_save_of_a_run_against_another(samples: Path) -> None:
    run = samples / "silent_reset"
    found = documents(run / "step-9000", "--against", run / "step-8500")
    assert found["against"] == str(run / "step-8500")
    assert documents(run / "step-9000")["against"] is None


def test_a_run_with_one_save_is_a_run(samples: Path, tmp_path: Path) -> None:
    shutil.copytree(samples / "zstd", tmp_path / "run" / "step-3")
    found = documents(tmp_path / "run")
    assert [one["path"] for one in found["checkpoints"]] == [str(tmp_path / "run" / "step-3")]


def test_a_policy_is_found_where_the_command_runs(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ckpt = samples / "healthy" / "step-8500"
    (tmp_path / "dcpctl.toml").write_text('[check.expect]\nsections = ["rng"]\n')
    assert check(ckpt).exit_code == 1
    assert "by the policy in 'dcpctl.toml'" in " ".join(check(ckpt).stdout.split())
    assert documents(ckpt)["policy"] == "dcpctl.toml"
    found = documents(ckpt, samples / "zstd")
    assert [one["policy"] for one in found["checkpoints"]] == ["dcpctl.toml"] * 2
    assert "by the policy in 'dcpctl.toml'" in " ".join(
        check(ckpt, samples / "zstd").stdout.split()
    )
    assert check(ckpt, "--no-policy").exit_code == 0
    assert documents(ckpt, "--no-policy")["policy"] is None
    (tmp_path / "other.toml").write_text("[check]\nmax_findings = 0\n")
    assert check(ckpt, "--policy", "other.toml").exit_code == 0
    assert check(ckpt, "--policy", "other.toml", "--no-policy").exit_code == 2


def test_options_count_more_than_a_policy(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dcpctl.toml").write_text('[check]\ntorch = "2.4"\nmax_findings = 1\n')
    legacy = samples / "legacy"
    assert documents(legacy)["torch"] == "2.13"
    assert len(documents(legacy)["findings"]) == 1
    assert len(documents(legacy, "--max-findings", "0")["findings"]) == 3
    assert len(documents(legacy, "--max-findings", "2")["findings"]) == 2


def test_a_policy_that_is_wrong_is_a_usage_error(samples: Path, tmp_path: Path) -> None:
    policy = tmp_path / "dcpctl.toml"
    policy.write_text("[check]\nstric = true\n")
    done = check(samples / "zstd", "--policy", policy)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"error[policy]: '{policy}', line 2: unknown key 'stric' in [check]\n"
        "  hint: did you mean 'strict'?\n"
    )
    assert check(samples / "zstd", "--policy", tmp_path / "nothing.toml").exit_code == 5


def test_a_team_with_a_history_begins_today(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = samples / "silent_reset"
    legacy = samples / "legacy"
    (tmp_path / "dcpctl.toml").write_text('[check]\nbaseline = "waivers.json"\n')
    assert check(run, legacy).exit_code == 5
    done = check(run, legacy, "--update-baseline")
    assert (done.exit_code, done.stderr) == (0, "'waivers.json': 2 waivers, 2 new, 0 removed\n")
    assert "2 findings waived by 'waivers.json'." in done.stdout
    assert check(run, legacy, "--strict").exit_code == 0
    found = documents(run, legacy)
    assert found["failed"] is False
    assert [[one["rule"] for one in ckpt["waived"]] for ckpt in found["checkpoints"]] == [
        [],
        [],
        ["DCP601"],
        ["DCP404"],
    ]
    alone = documents(legacy)
    assert [one["rule"] for one in alone["waived"]] == ["DCP404"]
    assert alone["baseline"] == "waivers.json"
    assert [one["rule"] for one in documents(run)["unused_waivers"]] == ["DCP404"]
    done = check(run, "--update-baseline")
    assert done.stderr == "'waivers.json': 1 waiver, 0 new, 1 removed\n"


def test_a_baseline_is_not_written_over_what_cannot_be_read(samples: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "waivers.json"
    arguments = ["--baseline", baseline, "--update-baseline"]
    done = check(samples / "legacy", samples / "interrupted", *arguments)
    assert done.exit_code == 3
    assert "was not written" in done.stderr
    assert check(samples / "interrupted", *arguments).exit_code == 3
    assert not baseline.exists()
    assert check(samples / "legacy", "--update-baseline").exit_code == 2
