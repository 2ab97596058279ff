"""A request that was carried out and answered with an error, as NFS does after a lost answer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dcpctl.storage import renames
from dcpctl.storage.names import beside
from dcpctl.storage.whole_file import whole_file


def answered(monkeypatch: pytest.MonkeyPatch, call: str, code: int, *, done: bool = True) -> None:
    """Have a call of `os` carried out, or not, and then fail with that error."""
    real = getattr(os, call)

    def answer(*args: object, **more: object) -> None:
        if done:
            real(*args, **more)
        raise OSError(code, os.strerror(code), *map(str, args[:1]))

    monkeypatch.setattr(os, call, answer)


@pytest.mark.parametrize("over", [False, True])
def test_a_rename_that_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: bool):
    (tmp_path / "a").write_text("a")
    if over:
        (tmp_path / "b").write_text("b")
    answered(monkeypatch, "rename", errno.ENOENT)
    renames.rename(tmp_path / "a", tmp_path / "b")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "a"}


def test_a_rename_that_was_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    answered(monkeypatch, "rename", errno.ENOENT, done=False)
    with pytest.raises(FileNotFoundError):
        renames.rename(tmp_path / "a", tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        renames.rename(tmp_path / "gone", tmp_path / "b")
    monkeypatch.undo()
    answered(monkeypatch, "rename", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        renames.rename(tmp_path / "a", tmp_path / "b")


def test_a_link_that_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a").write_text("a")
    answered(monkeypatch, "link", errno.EEXIST)
    renames.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").samefile(tmp_path / "b")
    monkeypatch.undo()
    (tmp_path / "c").write_text("a")
    with pytest.raises(FileExistsError):
        renames.link(tmp_path / "a", tmp_path / "c")


def test_a_directory_that_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answered(monkeypatch, "mkdir", errno.EEXIST)
    renames.make_directory(tmp_path / "new")
    monkeypatch.undo()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "link").symlink_to("new")
    (tmp_path / "file").touch()
    for name in ("full", "link", "file"):
        with pytest.raises(FileExistsError):
            renames.make_directory(tmp_path / name)


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path):
    target = tmp_path / "report"
    target.write_text("before")
    with pytest.raises(KeyboardInterrupt), whole_file(target) as stream:
        stream.write("half")
        stream.flush()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert target.read_text() == "before"
    with whole_file(target) as stream:
        stream.write("after")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert target.read_text() == "after"


@pytest.mark.parametrize("char", ["x", "ä", "語", "😀", "\udcff"])
@pytest.mark.parametrize("length", [1, 100, 236, 237, 238, 245, 250, 254, 255])
def test_names_beside_fit(tmp_path: Path, char: str, length: int):
    """Of every length in bytes, whatever the width of a character; each its own."""
    width = len(os.fsencode(char))
    names = [char * (length // width) + "y" * (length % width)]
    names.append(char * (length // width - 1) + "z" * (length % width + width))
    made = [beside(tmp_path / name, "partial-01234567") for name in names if len(name)]
    assert len(set(made)) == len(set(names))
    for path in made:
        assert path.name.startswith(".")
        assert path.name.endswith(".partial-01234567")
        path.mkdir()
    for name, path in zip(names, made, strict=True):
        if length + 18 <= 255:
            assert path.name == f".{name}.partial-01234567"
        other = beside(tmp_path / name, "partial-76543210")
        assert other.name[:-8] == path.name[:-8]


def test_names_fit_where_they_may_be_shorter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As eCryptfs has it."""
    monkeypatch.setattr(os, "pathconf", lambda path, what: 143)
    assert len(beside(tmp_path / ("x" * 143), "partial-01234567").name) == 143

    def unknown(path: object, what: object) -> int:
        raise OSError(errno.EINVAL, "no such limit")

    monkeypatch.setattr(os, "pathconf", unknown)
    assert len(beside(tmp_path / ("x" * 255), "partial-01234567").name) == 255
