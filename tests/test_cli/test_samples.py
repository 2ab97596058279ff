"""`dcpctl samples` writes what the repository has, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpctl.cli import samples as command
from dcpctl.cli.app import app


def invoke(*arguments: str | Path):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }


def test_they_are_those_of_the_repository(samples: Path, tmp_path: Path) -> None:
    done = invoke("samples", tmp_path / "deep" / "here")
    assert done.exit_code == 0, done.output
    assert contents(tmp_path / "deep" / "here") == contents(samples)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["here"]


def test_the_broken_ones_are_made_of_the_others(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel has no bytes that scanners would find: `hostile` is made where it is written."""
    packaged = tmp_path / "packaged"
    packaged.mkdir()
    for name in ("derived.py", "model_only", "silent_reset"):
        (packaged / name).symlink_to(samples / name)
    monkeypatch.setattr(command, "_source", lambda: packaged)
    assert invoke("samples", tmp_path / "made").exit_code == 0
    for name in ("hostile", "flipped_bit", "interrupted"):
        assert contents(tmp_path / "made" / name) == contents(samples / name)


def test_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = invoke("samples", tmp_path / "file")
    assert (done.exit_code, done.stdout) == (4, "")
    assert done.stderr.startswith("error[refused]: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = invoke("samples", tmp_path / "file" / "below")
    assert (done.exit_code, done.stdout) == (5, "")
    assert "cannot write" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_installation_without_them_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "__file__", str(tmp_path / "dcpctl" / "cli" / "samples.py"))
    done = invoke("samples", tmp_path / "made")
    assert done.exit_code == 5
    assert "has no samples" in done.stderr
