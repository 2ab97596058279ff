"""From a path to a checkpoint, or to an error that says what the path is instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl import limits
from dcpctl.errors import (
    InterruptedSave,
    MissingFile,
    NotACheckpoint,
    PathOutsideCheckpoint,
    ReadFailed,
)
from dcpctl.model.opening import open_checkpoint
from tests.hostile.draft import healthy


def test_a_directory(tmp_path: Path) -> None:
    healthy().write(tmp_path)
    for path in (tmp_path, str(tmp_path)):
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.format == "dcp"


def test_a_link_to_a_directory(tmp_path: Path) -> None:
    healthy().write(tmp_path / "step-1")
    (tmp_path / "latest").symlink_to("step-1")
    with open_checkpoint(tmp_path / "latest") as checkpoint:
        assert checkpoint["step"].value == 8500


def test_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotACheckpoint, match="there is no directory"):
        open_checkpoint(tmp_path / "nope")
    with pytest.raises(NotACheckpoint, match=r"no \.metadata"):
        open_checkpoint(tmp_path)


def test_a_file(tmp_path: Path) -> None:
    healthy().write(tmp_path)
    with pytest.raises(NotACheckpoint, match="is a file") as caught:
        open_checkpoint(tmp_path / ".metadata")
    assert str(tmp_path) in str(caught.value.hint)


def test_a_path_that_cannot_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises((ReadFailed, NotACheckpoint)):
        open_checkpoint(tmp_path / ("x" * 5000))
    with pytest.raises(NotACheckpoint):
        open_checkpoint("a\0b")


def test_hints_name_what_is_there(tmp_path: Path) -> None:
    healthy().write(tmp_path / "run" / "step-10")
    healthy().write(tmp_path / "run" / "step-20")
    with pytest.raises(NotACheckpoint) as caught:
        open_checkpoint(tmp_path / "run")
    assert "2 saves" in str(caught.value.hint)
    assert "step-20" in str(caught.value.hint)


def test_one_checkpoint_below_a_directory_is_what_it_holds(tmp_path: Path) -> None:
    healthy().write(tmp_path / "other" / "inner" / "most")
    with open_checkpoint(tmp_path / "other") as checkpoint:
        assert [part.name for part in checkpoint.parts] == ["inner/most"]


def test_an_interrupted_save(tmp_path: Path) -> None:
    healthy().write(tmp_path)
    (tmp_path / ".metadata").rename(tmp_path / ".metadata.tmp")
    with pytest.raises(InterruptedSave, match=r"has \.metadata\.tmp and no \.metadata"):
        open_checkpoint(tmp_path)
    (tmp_path / ".metadata.tmp").unlink()
    with pytest.raises(InterruptedSave, match="2 shard files"):
        open_checkpoint(tmp_path)


def test_an_interrupted_part(tmp_path: Path) -> None:
    healthy().write(tmp_path / "model")
    healthy().write(tmp_path / "optimizer")
    (tmp_path / "optimizer" / ".metadata").unlink()
    with pytest.raises(InterruptedSave, match="optimizer"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("target", ["../elsewhere", "/etc/passwd"])
def test_metadata_that_lies_outside(tmp_path: Path, target: str) -> None:
    healthy().write(tmp_path / "c")
    (tmp_path / "c" / ".metadata").rename(tmp_path / "elsewhere")
    (tmp_path / "c" / ".metadata").symlink_to(target)
    with pytest.raises(PathOutsideCheckpoint, match=r"'\.metadata' is a symbolic link"):
        open_checkpoint(tmp_path / "c")


def test_metadata_that_is_a_directory(tmp_path: Path) -> None:
    healthy().write(tmp_path)
    (tmp_path / ".metadata").unlink()
    (tmp_path / ".metadata").mkdir()
    with pytest.raises(MissingFile, match="is a directory"):
        open_checkpoint(tmp_path)


def test_a_link_inside_the_directory_is_read(tmp_path: Path) -> None:
    healthy().write(tmp_path)
    (tmp_path / ".metadata").rename(tmp_path / "real")
    (tmp_path / ".metadata").symlink_to("real")
    with open_checkpoint(tmp_path) as checkpoint:
        assert len(checkpoint) == 3


def test_what_was_not_looked_at_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TREE_DEPTH", 2)
    healthy().write(tmp_path / "a" / "b" / "c")
    with pytest.raises(NotACheckpoint) as caught:
        open_checkpoint(tmp_path)
    assert (
        str(caught.value.hint) == f"not looked at: '{tmp_path}/a/b/c' (it lies over 2 levels deep)"
    )
