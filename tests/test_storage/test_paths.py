"""Paths that must not be opened."""

from __future__ import annotations

import os
import socket

import pytest

from dcpctl.errors import MissingFile, PathOutsideCheckpoint, ReadFailed
from dcpctl.storage import paths

GOOD = ["__0_0.distcp", "sharded/a.safetensors", "..a", "a..", "a b", "…", ".metadata"]
BAD = {
    "": "not a plain relative path",
    "/etc/passwd": "absolute",
    "//x": "absolute",
    "C:x": "absolute",
    "c:/x": "absolute",
    "..": "leads out",
    "../x": "leads out",
    "a/../../x": "leads out",
    "a/..": "leads out",
    "a\\..\\x": "backslash",
    "a\0b": "NUL",
    "./x": "not a plain relative path",
    "a//x": "not a plain relative path",
    "a/": "not a plain relative path",
    ".": "not a plain relative path",
}


@pytest.mark.parametrize("name", GOOD)
def test_plain_relative_paths_pass(name):
    paths.check_relative(name)


@pytest.mark.parametrize("name", BAD)
def test_other_paths_are_refused(name):
    with pytest.raises(PathOutsideCheckpoint, match=BAD[name]):
        paths.check_relative(name)


def test_locate_follows_links_only_inside(tmp_path):
    root = tmp_path / "ckpt"
    root.mkdir()
    (tmp_path / "outside").write_bytes(b"secret")
    (root / "a").write_bytes(b"12345")
    (root / "to_a").symlink_to("a")
    (root / "absolute").symlink_to(root / "a")
    (root / "out").symlink_to("../outside")
    (root / "up").symlink_to("..")
    for name in ("a", "to_a", "absolute"):
        real, status = paths.locate(root, name, root)
        assert real == root / "a"
        assert status.st_size == 5
    for name in ("out", "up/outside"):
        with pytest.raises(PathOutsideCheckpoint, match="symbolic link that leads out"):
            paths.locate(root, name, root)


def test_a_sibling_with_the_same_beginning_is_outside(tmp_path):
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt2").mkdir()
    (tmp_path / "ckpt2" / "f").write_bytes(b"x")
    (tmp_path / "ckpt" / "l").symlink_to("../ckpt2/f")
    with pytest.raises(PathOutsideCheckpoint):
        paths.locate(tmp_path / "ckpt", "l", tmp_path)


def test_what_is_not_there_is_missing(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "f").write_bytes(b"")
    for name in ("x", "loop", "dangling", "f/below", "n" * 5000, "a\ud800b"):
        with pytest.raises(MissingFile):
            paths.locate(tmp_path, name, tmp_path)


def test_what_is_no_regular_file_is_named(tmp_path):
    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    try:
        # The address of a Unix socket is at most some hundred bytes long.
        here = os.open(".", os.O_RDONLY)
        try:
            os.chdir(tmp_path)
            listener.bind("sock")
        finally:
            os.fchdir(here)
            os.close(here)
        for name, kind in (("dir", "a directory"), ("fifo", "a FIFO"), ("sock", "a socket")):
            with pytest.raises(MissingFile, match=f"is {kind}, not a regular file"):
                paths.locate(tmp_path, name, tmp_path)
    finally:
        listener.close()


def test_other_errors_are_read_failures(tmp_path):
    error = paths.failed(tmp_path, "x", PermissionError(13, "Permission denied"))
    assert isinstance(error, ReadFailed)
    assert "Permission denied" in str(error)
