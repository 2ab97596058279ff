"""Each surgical verb on the command line: what it makes, and that it leaves the source alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

import dcpctl
from dcpctl.cli.app import app

SCHEMA = json.loads(
    (Path(dcpctl.__file__).parent / "_data" / "dcpctl.surgery-1.schema.json").read_text()
)
GROUP = "optimizer.param_groups.0"


def run(*arguments: str | Path, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def report(*arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    jsonschema.validate(found, SCHEMA, cls=jsonschema.Draft202012Validator)
    return found


def contents(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())}


@pytest.fixture
def source(samples: Path, tmp_path: Path) -> Path:
    path = tmp_path / "source"
    shutil.copytree(samples / "healthy" / "step-8500", path)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("rename", ["layers=blocks"]),
        ("rename", ["--prefix", "model.=net.", "--regex", r"lr_(\w+)=\1"]),
        ("drop", ["lr_scheduler"]),
        ("drop", ["model.layers.1", "--with-state"]),
        ("drop", ["--optimizer-only"]),
        ("select", ["model.*"]),
        ("select", ["--model-only"]),
        ("set", ["lr=1e-4", "step=3"]),
        ("cast", ["--dtype", "bf16", "--allow-lossy"]),
        ("cast", ["--dtype", "fp64", "model.norm", "*.exp_avg"]),
        ("upgrade", ["--torch", "2.13"]),
        ("reshard", ["--world-size", "3"]),
        ("reshard", ["--mesh", "fsdp=2,tp=2"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_new_directory(source: Path, target: Path, verb: str, words: list[str]) -> None:
    before = contents(source)
    planned = report(verb, source, target, *words, "--dry-run")
    assert not target.exists() and planned["dry_run"]
    found = report(verb, source, target, *words)
    assert contents(source) == before
    assert found["plan"] == planned["plan"]
    assert found["edits"] == planned["edits"]
    assert found["destination"] == str(target) and not found["in_place"]
    assert sum(p.stat().st_size for p in target.iterdir()) == found["plan"]["total_bytes"]
    with dcpctl.open_checkpoint(target) as checkpoint:
        assert len(checkpoint) == found["plan"]["keys"]
    run("check", target, "--verify-data", "--ignore", "DCP5xx")
    assert sorted(p.name for p in target.parent.iterdir()) == ["source", "target"]


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("rename", ["layers=blocks"]),
        ("drop", ["lr_scheduler"]),
        ("select", ["--model-only"]),
        ("set", ["lr=1e-4", "step=3"]),
        ("edit", ["--set", "lr=1e-4", "--drop", "lr_scheduler", "--rename", "layers=blocks"]),
    ],
)
def test_in_place_and_undo(source: Path, verb: str, words: list[str]) -> None:
    before = contents(source)
    planned = report(verb, source, *words, "--in-place", "--dry-run")
    assert contents(source) == before and planned["in_place"]
    found = report(verb, source, *words, "--in-place")
    assert found["plan"] == planned["plan"]
    assert found["in_place"] and found["written"]["backup"]
    after = contents(source)
    assert {name: after[name] for name in before if name != ".metadata"} == {
        name: data for name, data in before.items() if name != ".metadata"
    }, "no byte of a shard file changes"
    assert after[".metadata"] != before[".metadata"]
    run("check", source, "--verify-data", "--ignore", "DCP5xx,DCP2xx")
    planned = report("undo", source, "--dry-run")
    assert contents(source) == after
    undone = report("undo", source)
    assert undone["undone"] == planned["undone"]
    assert contents(source) == before
    assert "error[refused]" in run("undo", source, code=4).stderr


def test_merge(source: Path, target: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    run("select", source, a, "--model-only")
    run("drop", source, b, "--model-only")
    found = report("merge", a, b, target)
    assert found["sources"] == [str(a), str(b)]
    assert found["plan"]["keys"] == 121
    run("set", b, "lr=0.5", "--in-place")
    done = run("merge", source, b, tmp_path / "d", code=4)
    assert f"'{GROUP}.lr' is 0.00029" in done.stderr
    assert not (tmp_path / "d").exists()


def test_values_are_what_was_asked_for(source: Path, target: Path) -> None:
    run("set", source, target, "lr=1e-4", f"{GROUP}.betas=0.8,0.9", "step=7")
    with dcpctl.open_checkpoint(target) as made:
        entries: Any = made.entries
        assert entries[f"{GROUP}.lr"].value == 1e-4
        assert entries[f"{GROUP}.betas"].value == (0.8, 0.9)
        assert entries["optimizer.state.norm.weight.step"].numpy().item() == 7


def test_an_upgrade_that_has_nothing_to_do_says_so(source: Path, target: Path) -> None:
    before = contents(source)
    done = run("upgrade", source, "--torch", "2.13", "--in-place")
    assert "there is nothing to upgrade" in done.stdout
    assert "left as it was" in done.stdout
    assert contents(source) == before
    assert "there is nothing to upgrade" in run("upgrade", source, target, "--torch", "2.13").stdout


def test_a_story(samples: Path, target: Path, tmp_path: Path) -> None:
    """A checkpoint of 2.6 that 2.13 refuses, and one that it loads."""
    assert "DCP4" in run("check", samples / "legacy", "--torch", "2.13", code=1).stdout
    found = report("upgrade", samples / "legacy", target, "--torch", "2.13")
    assert found["plan"]["tensor_bytes_new"] == 0
    assert "DCP4" not in run("check", target, "--torch", "2.13").stdout
