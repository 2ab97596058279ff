"""Ranged reads from a directory."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dcpctl.errors import (
    LimitExceeded,
    MalformedItem,
    MissingFile,
    PathOutsideCheckpoint,
    TruncatedFile,
)
from dcpctl.storage import local
from dcpctl.storage.local import OPEN_FILES, LocalStorage


def open_below(root: Path) -> list[str]:
    """The files below `root` that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(str(root)):
            found.append(target)
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"below")
    return tmp_path


def test_reads_ranges(root):
    with LocalStorage(root) as storage:
        assert storage.size("a") == 1024
        assert storage.read("a", 255, 3) == b"\xff\0\1"
        assert storage.read("a", 1024, 0) == b""
        assert storage.read("empty", 0, 0) == b""
        assert storage.read("sub/b", 1, 3) == b"elo"
        assert storage.read_all("sub/b", 5) == b"below"
        buffer = bytearray(b"....")
        storage.read_into("a", 10, memoryview(buffer)[1:3])
        assert buffer == b".\x0a\x0b."


@pytest.mark.parametrize(("offset", "length"), [(1020, 5), (1025, 0), (1 << 70, 1), (0, 1 << 70)])
def test_ranges_beyond_the_file_are_truncation(root, offset, length):
    with LocalStorage(root) as storage, pytest.raises(TruncatedFile, match="'a' has 1024 bytes"):
        storage.read("a", offset, length)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (-(1 << 70), 5)])
def test_negative_ranges_are_refused(root, offset, length):
    with LocalStorage(root) as storage, pytest.raises(MalformedItem, match="is asked for"):
        storage.read("a", offset, length)


def test_read_into_checks_the_range(root):
    with LocalStorage(root) as storage:
        with pytest.raises(TruncatedFile):
            storage.read_into("a", 1020, bytearray(5))
        with pytest.raises(MalformedItem):
            storage.read_into("a", -1, bytearray(5))


def test_read_all_has_a_limit(root):
    with LocalStorage(root) as storage, pytest.raises(LimitExceeded, match="1024 bytes"):
        storage.read_all("a", 1023)


def test_a_file_cut_while_open_is_truncation(root):
    with LocalStorage(root) as storage:
        assert len(storage.read("a", 0, 1024)) == 1024
        os.truncate(root / "a", 100)
        with pytest.raises(TruncatedFile, match="ended at byte 100 while it was being read"):
            storage.read("a", 50, 100)


def test_short_reads_are_continued(root, monkeypatch):
    # As the kernel does beyond 2 GiB.
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(local.os, "pread", lambda fd, n, o: pread(fd, min(n, 10), o))
    monkeypatch.setattr(local.os, "preadv", lambda fd, v, o: preadv(fd, [v[0][:10]], o))
    with LocalStorage(root) as storage:
        assert storage.read("a", 3, 500) == (bytes(range(256)) * 4)[3:503]


def test_fifo_and_device_do_not_hang(root):
    os.mkfifo(root / "fifo")
    (root / "null").symlink_to("/dev/null")
    with LocalStorage(root) as storage:
        with pytest.raises(MissingFile, match="FIFO"):
            storage.read("fifo", 0, 1)
        with pytest.raises(PathOutsideCheckpoint):
            storage.read("null", 0, 1)


def test_a_fifo_that_comes_late_does_not_hang(root, monkeypatch):
    locate = local.paths.locate

    def swap(*args):
        found = locate(*args)
        (root / "a").unlink()
        os.mkfifo(root / "a")
        return found

    monkeypatch.setattr(local.paths, "locate", swap)
    with LocalStorage(root) as storage, pytest.raises(MissingFile, match="was replaced"):
        storage.read("a", 0, 1)
    assert not open_below(root)


def test_a_folder_that_becomes_a_link_is_not_followed(root, tmp_path_factory, monkeypatch):
    """Between the resolving of its path and the look at the file, so that both looks agree."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "b").write_bytes(b"secret")
    find = local.paths.locate

    def swap(where, name, shown):
        real, _ = find(where, name, shown)
        (root / "sub").rename(root / "gone")
        (root / "sub").symlink_to(outside)
        return real, real.stat()

    monkeypatch.setattr(local.paths, "locate", swap)
    with LocalStorage(root) as storage, pytest.raises(MissingFile):
        storage.read("sub/b", 0, 5)
    assert not open_below(root)
    assert not open_below(outside)


def test_lists_regular_files_and_odd_ones(root):
    os.mkfifo(root / "fifo")
    (root / "inside").symlink_to("sub/b")
    (root / "outside").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("nowhere")
    with LocalStorage(root) as storage:
        assert storage.names() == {"a": 1024, "empty": 0, "inside": 5}
        assert list(storage.names()) == ["a", "empty", "inside"]
        assert storage.odd() == ["dangling", "fifo", "outside"]


def test_root_may_be_a_link_but_must_be_a_directory(root, tmp_path_factory):
    link = tmp_path_factory.mktemp("links") / "latest"
    link.symlink_to(root)
    with LocalStorage(link) as storage:
        assert storage.read("sub/b", 0, 5) == b"below"
        assert storage.root == link
    with pytest.raises(MissingFile, match="is not a directory"):
        LocalStorage(root / "a")
    with pytest.raises(MissingFile, match="is missing"):
        LocalStorage(root / "nowhere")
    with pytest.raises(MissingFile):
        LocalStorage("a\0b")


def test_messages_name_the_directory_as_given(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    with LocalStorage(root.name) as storage, pytest.raises(MissingFile) as caught:
        storage.read("x\x1b[31m", 0, 1)
    assert str(caught.value) == f"'x\\x1b[31m' is missing from '{root.name}'"


@needs_proc
def test_closes_what_it_opened(root):
    storage = LocalStorage(root)
    storage.read("a", 0, 1)
    storage.read("sub/b", 0, 1)
    assert len(open_below(root)) == 2
    storage.close()
    assert not open_below(root)
    with pytest.raises(ValueError, match="closed"):
        storage.read("a", 0, 1)
    storage.close()


@needs_proc
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_collection_closes_what_was_left_open(root):
    storage = LocalStorage(root)
    storage.read("a", 0, 1)
    del storage
    gc.collect()
    assert not open_below(root)


@needs_proc
def test_failed_opens_leave_nothing_open(root):
    with LocalStorage(root) as storage:
        for name in ("x", "../a", "sub"):
            with pytest.raises((MissingFile, PathOutsideCheckpoint)):
                storage.read(name, 0, 1)
        assert not open_below(root)


@needs_proc
def test_keeps_a_bounded_number_open(tmp_path):
    for number in range(OPEN_FILES + 20):
        (tmp_path / f"f{number}").write_bytes(b"%d" % number)
    with LocalStorage(tmp_path) as storage:
        for _ in range(2):
            for number in range(OPEN_FILES + 20):
                text = b"%d" % number
                assert storage.read(f"f{number}", 0, len(text)) == text
                assert len(open_below(tmp_path)) <= OPEN_FILES
        assert len(open_below(tmp_path)) == OPEN_FILES
    assert not open_below(tmp_path)


@needs_proc
def test_threads_share_it_while_files_are_evicted(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "OPEN_FILES", 3)
    for number in range(20):
        (tmp_path / f"f{number}").write_bytes(bytes([number]) * 1000)

    def work(seed: int) -> bool:
        return all(
            storage.read(f"f{n}", n, 900) == bytes([n]) * 900
            for n in ((seed * 7 + step * 3) % 20 for step in range(300))
        )

    with LocalStorage(tmp_path) as storage, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
        assert len(open_below(tmp_path)) <= 3
    assert not open_below(tmp_path)


@needs_proc
def test_close_waits_for_no_read_and_leaks_none(root, monkeypatch):
    started, go_on = threading.Event(), threading.Event()
    pread = os.pread

    def slow(fd, length, offset):
        started.set()
        assert go_on.wait(10)
        return pread(fd, length, offset)

    monkeypatch.setattr(local.os, "pread", slow)
    storage = LocalStorage(root)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(storage.read, "a", 0, 2)
        assert started.wait(10)
        storage.close()
        go_on.set()
        assert result.result() == b"\0\1"
    assert not open_below(root)
