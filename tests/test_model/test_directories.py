"""Directories as they lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dcpctl import limits
from dcpctl.errors import ReadFailed
from dcpctl.model import directories
from tests.hostile.draft import healthy


def test_links_that_lead_to_themselves_are_no_directories(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "there").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert directories.subdirectories(tmp_path) == [tmp_path / "there"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("run/step-1/.metadata", "run/step-1"),
        ("run/step-1/__3.metadata", "run/step-1"),
        ("run/step-1/__0_0.distcp", "run/step-1"),
        (".metadata", "."),
        ("run/step-1", "run/step-1"),
        ("run/step-1/model.safetensors", "run/step-1/model.safetensors"),
        ("odd.distcp", "odd.distcp"),
    ],
)
def test_files_of_a_checkpoint_mean_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.distcp").mkdir()
    assert directories.meant_by(Path(path)) == Path(meant)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed):
        directories.subdirectories(tmp_path / "nope")


def paths(tree: directories.Tree) -> set[str]:
    root = tree.root.path
    return {here.path.relative_to(root).as_posix() for here in directories.walk(tree.root)}


def test_each_directory_is_listed_once_whatever_the_links(tmp_path: Path) -> None:
    healthy().write(tmp_path / "run" / "b" / "step-1")
    (tmp_path / "run" / "a").symlink_to("b")  # by name before what it leads to
    (tmp_path / "run" / "b" / "up").symlink_to("..")
    (tmp_path / "run" / "around").symlink_to(tmp_path)
    (tmp_path / "run" / "loop").symlink_to("loop")
    tree = directories.scan(tmp_path / "run")
    assert {path for path in paths(tree) if path.endswith("step-1")} == {"b/step-1"}
    assert tree.links == {tmp_path / "run" / "a": tmp_path / "run" / "b"} | {
        tmp_path / "run" / "b" / "up": tmp_path / "run"
    }
    assert tree.unread == {}


def test_what_is_linked_from_elsewhere_is_looked_into(tmp_path: Path) -> None:
    healthy().write(tmp_path / "disk" / "step-1")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "step-1").symlink_to(tmp_path / "disk" / "step-1")
    tree = directories.scan(tmp_path / "run")
    assert [child.holds for child in tree.root.children] == [directories.CHECKPOINT]


def test_what_lies_too_deep_or_beyond_the_limit_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path.joinpath(*"abcdef")
    deep.mkdir(parents=True)
    monkeypatch.setattr(limits, "TREE_DEPTH", 4)
    assert list(directories.scan(tmp_path).unread) == [tmp_path.joinpath(*"abcde")]
    monkeypatch.setattr(limits, "TREE_DIRECTORIES", 3)
    assert list(directories.scan(tmp_path).unread) == [tmp_path.joinpath(*"abc")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_directory_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    tree = directories.scan(tmp_path)
    assert "Permission denied" in tree.unread[tmp_path / "closed"]
