"""`dcpctl edit`: several edits in the order given, from options and from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import dcpctl
from dcpctl.cli.app import app

EDITS = """
[[edits]]
verb = "set"
values = { lr = 1e-4 }

[[edits]]
verb = "rename"
names = { "layers" = "blocks" }
"""


def report(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["edit", *map(str, arguments), "--json"])
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def source(samples: Path) -> Path:
    return samples / "healthy" / "step-8500"


def verbs(found: dict[str, Any]) -> list[str]:
    return [edit["verb"] for edit in found["edits"]]


def test_the_order_is_that_of_the_options(source: Path, tmp_path: Path) -> None:
    words = ["--set=lr=1e-3", "--rename", "layers=blocks", "--drop=model.blocks.0"]
    words += ["--set", "lr=1e-4", "--rename", "blocks=h", "--rename-prefix", "model.=net."]
    found = report(source, tmp_path / "a", *words, "--world-size", "2")
    assert verbs(found) == ["set", "rename", "drop", "set", "rename", "reshard"]
    with dcpctl.open_checkpoint(tmp_path / "a") as made:
        entries: Any = made.entries
        assert entries["optimizer.param_groups.0.lr"].value == 1e-4
        assert "net.h.1.ffn_norm.weight" in entries
        assert "net.h.0.ffn_norm.weight" not in entries
        assert made.ranks == (0, 1)


def test_a_value_may_look_like_an_option(source: Path, tmp_path: Path) -> None:
    words = ["--drop", "lr_scheduler", "--rename", "train_state.step=--set", "--dry-run"]
    found = report(source, tmp_path / "a", *words)
    assert verbs(found) == ["drop", "rename"]


def test_options_of_verbs_are_options_of_edit(source: Path, tmp_path: Path) -> None:
    words = ["--set-add", "initial_lr=@lr", "-n2", "--set", "step=1.5", "--fill"]
    words += [
        "--rename",
        "model.norm=model.last",
        "--keys-only",
        "--drop",
        "*norm*",
        "--model-only",
    ]
    found = report(source, tmp_path / "a", *words)
    assert verbs(found) == ["set", "reshard", "set", "rename", "drop"]
    dropped = [change["key"] for change in found["edits"][-1]["changes"]]
    assert dropped and all(key.startswith("model.") for key in dropped)
    with dcpctl.open_checkpoint(tmp_path / "a") as made:
        entries: Any = made.entries
        assert entries["optimizer.param_groups.0.initial_lr"].value == 3e-4
        assert "optimizer.state.norm.weight.exp_avg" in entries, "--keys-only is for --rename"
        assert made.ranks == (0, 1)


def test_upgrade_and_its_options(samples: Path, tmp_path: Path) -> None:
    words = ["--upgrade", "--torch", "2.13", "--optimizer", "adamw", "--set", "lr=1e-4"]
    found = report(samples / "legacy", tmp_path / "a", *words)
    assert verbs(found) == ["upgrade", "set"]
    assert found["edits"][0]["changes"][0]["what"] == "param-group-keys"


def test_casts_and_merges(source: Path, tmp_path: Path) -> None:
    words = ["--cast", "model.norm=fp64", "--cast", "bf16", "--allow-lossy", "--merge", source]
    done = CliRunner().invoke(app, ["edit", str(source), str(tmp_path / "a"), *map(str, words)])
    assert done.exit_code == 4
    assert "edit 3, merge: two keys would become one" in done.stderr
    found = report(source, tmp_path / "a", *words[:-2])
    assert verbs(found) == ["cast", "cast"]


def test_a_file_does_what_the_options_do(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "edits.toml"
    path.write_text(EDITS)
    by_file = report(source, tmp_path / "a", "--edits", path)
    by_options = report(source, tmp_path / "b", "--set", "lr=1e-4", "--rename", "layers=blocks")
    assert by_file["edits"] == by_options["edits"]
    one, other = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in "ab")
    assert one == other
    both = report(
        source, tmp_path / "c", "--drop", "train_state", "--edits", path, "--set", "eps=0.1"
    )
    assert verbs(both) == ["drop", "set", "rename", "set"]


@pytest.mark.parametrize("form", ["text", "table", "markdown"])
def test_every_format(source: Path, tmp_path: Path, form: str) -> None:
    words = ["edit", source, tmp_path / "a", "--set", "lr=1e-4", "--drop", "train_state"]
    done = CliRunner().invoke(app, [*map(str, words), "--format", form])
    assert done.exit_code == 0
    assert "optimizer.param&#95;groups.0.lr" in done.stdout.replace("_", "&#95;")
    assert done.stderr.startswith("warning: the scheduler computes lr")
    assert ("warning" in done.stdout) is (form == "markdown")


def test_which_optimizer_is_of_which_model(source: Path, tmp_path: Path) -> None:
    words = ["--rename", "layers=blocks", "--set", "lr=1e-3"]
    found = report(source, tmp_path / "a", *words, "--optimizer-of", "optimizer=model")
    assert verbs(found) == ["rename", "set"]
    for verb, given in (("rename", ["layers=h"]), ("drop", ["*norm*"]), ("upgrade", [])):
        line = [verb, str(source), str(tmp_path / "b"), *given, "--optimizer-of"]
        done = CliRunner().invoke(app, [*line, "opt=model"])
        assert done.exit_code == 2, done.output
        assert "the checkpoint has no optimizer 'opt'" in done.stderr
        assert "its optimizers: 'optimizer'" in done.stderr
        assert CliRunner().invoke(app, [*line, "optimizer"]).exit_code == 2
    done = CliRunner().invoke(
        app, ["edit", str(source), str(tmp_path / "b"), "--set=lr=1", "--optimizer-of", "a=b"]
    )
    assert "--optimizer-of is for edits of names, keys and layouts" in done.stderr
