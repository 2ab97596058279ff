"""What surgical verbs refuse, with which code, and that nothing is left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dcpctl.cli.app import app
from dcpctl.errors import UsageError
from dcpctl.model.sizes import parse_size


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def source(samples: Path, tmp_path: Path) -> Path:
    path = tmp_path / "source"
    shutil.copytree(samples / "healthy" / "step-8500", path)
    return path


CASES: list[tuple[list[str], int, str]] = [
    (["rename", "SRC", "DST", "nothing=x"], 4, "error[nothing-selected]: no key and no parameter"),
    (["rename", "SRC", "DST", "norm=output"], 4, "two entries would become one"),
    (["rename", "SRC", "DST"], 2, "OLD=NEW expected after the destination"),
    (["rename", "SRC", "--in-place"], 2, "OLD=NEW expected"),
    (["rename", "SRC"], 2, "error[usage]: no destination"),
    (["rename", "SRC", "DST", "--regex", "(=x"], 2, "the regular expression '('"),
    (["rename", "SRC", "DST", "--map", "SRC/none"], 5, "cannot read"),
    (["drop", "SRC", "DST", "nothing.*"], 4, "no key matches 'nothing.*'"),
    (["drop", "SRC", "DST", "*"], 4, "nothing would be left"),
    (["drop", "SRC", "DST", "--model-only", "--optimizer-only"], 2, "contradict"),
    (["select", "SRC", "DST", "nothing"], 4, "error[nothing-selected]"),
    (["set", "SRC", "DST", "nothing=1"], 4, "nothing to set is called 'nothing'"),
    (["set", "SRC", "DST", "lr=-1"], 4, "torch asks for"),
    (["set", "SRC", "DST", "model.norm.weight=1"], 4, "hint: --fill"),
    (["set", "SRC", "DST", "lr"], 2, "expected FQN=VALUE"),
    (["cast", "SRC", "DST", "--dtype", "bf16"], 4, "hint: --allow-lossy"),
    (["cast", "SRC", "DST", "--dtype", "int8"], 2, "no floating-point dtype"),
    (["cast", "SRC", "--dtype", "fp64", "--in-place"], 4, "error[refused]"),
    (["merge", "SRC", "DST"], 4, "there is one checkpoint"),
    (["merge", "SRC"], 2, "no destination"),
    (["merge", "SRC", "DST", "--in-place"], 2, "no --in-place"),
    (["reshard", "SRC", "DST"], 2, "error[usage]"),
    (["reshard", "SRC", "DST", "--mesh", "fsdp"], 2, "'fsdp' is not a mesh"),
    (["reshard", "SRC", "--world-size", "2", "--in-place"], 2, "no --in-place"),
    (["upgrade", "SRC", "DST", "--torch", "soon"], 2, "no torch release"),
    (["upgrade", "SRC", "DST", "--torch", "2.99"], 2, "1.13 to 2.15"),
    (["upgrade", "SRC", "DST", "more"], 2, "more"),
    (["upgrade", "SRC", "DST", "--in-place"], 2, "one too many"),
    (["edit", "SRC", "DST"], 2, "no edit is asked for"),
    (["edit", "SRC", "DST", "--torch", "2.13", "--drop", "lr_scheduler"], 2, "for --upgrade"),
    (["edit", "SRC", "DST", "--drop", "lr_scheduler", "--allow-lossy"], 2, "is for --cast"),
    (["edit", "SRC", "DST", "--set", "lr=1", "--with-state"], 2, "is for --drop and --select"),
    (["edit", "SRC", "DST", "-n2", "--drop", "norm", "--mesh", "a=2"], 2, "one layout can be"),
    (["edit", "SRC", "DST", "--drop", "x", "--model-only", "--optimizer-only"], 2, "contradict"),
    (["edit", "SRC", "DST", "--drop", "lr_scheduler", "--drop", "x"], 4, "no key matches 'x'"),
    (["edit", "SRC", "DST", "--drop", "model", "--set", "x=1"], 4, "edit 2, set: nothing to set"),
    (["set", "SRC", "SRC/inside", "lr=1"], 4, "is inside the source"),
    (["set", "SRC", "SRC", "lr=1"], 4, "error["),
    (["set", "SRC/none", "DST", "lr=1"], 3, "error[not-a-checkpoint]"),
    (["set", "SRC", "DST", "lr=1", "--memory", "much"], 2, "'much' is no size"),
    (["set", "SRC", "DST", "lr=1", "--memory", "1M"], 2, "the least is"),
    (["set", "SRC", "DST", "lr=1", "--jobs", "0"], 2, "error[usage]"),
    (["set", "SRC", "DST", "lr=1", "--link", "magic"], 2, "error[usage]"),
    (["set", "SRC", "lr=1", "--in-place", "--overwrite"], 2, "error[usage]"),
    (["undo", "SRC"], 4, "error[refused]: no edit in place"),
    (["undo", "SRC/none"], 3, "error[not-a-checkpoint]"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("dry", [False, True], ids=["", "dry"])
def test_refusals(
    source: Path, tmp_path: Path, arguments: list[str], code: int, words: str, dry: bool
) -> None:
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    target = tmp_path / "target"
    places = {"SRC": str(source), "DST": str(target), "SRC/none": f"{source}/none"}
    places["SRC/inside"] = f"{source}/inside"
    given = [places.get(argument, argument) for argument in arguments]
    done = run(*given, *(["--dry-run"] if dry else []))
    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert done.stderr.startswith("error["), "one error, no traceback"
    assert done.stdout == ""
    assert {p.name: p.read_bytes() for p in source.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_a_destination_that_exists(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert run("set", source, target, "lr=1e-4").exit_code == 0
    done = run("drop", source, target, "lr_scheduler")
    assert (done.exit_code, done.stderr.split(":")[0]) == (4, "error[destination-exists]")
    assert run("drop", source, target, "lr_scheduler", "--dry-run").exit_code == 4
    assert run("drop", source, target, "lr_scheduler", "--overwrite").exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source", "target"]


def test_too_little_space(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, 100, 1, 1, 100, 10, 10, 0, 255))

    monkeypatch.setattr(os, "statvfs", none_left)
    for more in ([], ["--dry-run"]):
        done = run("reshard", source, tmp_path / "target", "--world-size", "2", *more)
        assert done.exit_code == 5, done.output
        assert done.stderr.startswith("error[no-space]")
    assert not (tmp_path / "target").exists()


def test_a_rotten_source_is_not_laundered(samples: Path, tmp_path: Path) -> None:
    done = run("reshard", samples / "flipped_bit", tmp_path / "target", "--world-size", "2")
    assert done.exit_code == 3, done.output
    assert done.stderr.startswith("error[checksum-mismatch]")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "size"),
    [("256M", 256 << 20), ("1.5G", 3 << 29), ("300MiB", 300 << 20), ("2gb", 2 << 30), ("7", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1G", "0", "1X", "nan", "infG"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)
