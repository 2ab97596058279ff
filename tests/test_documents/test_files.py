"""A document is read from a regular file of bounded size, and appears whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dcpctl.documents.files import Kind, as_text, read_bytes
from dcpctl.errors import ReadFailed, UsageError
from dcpctl.storage.whole_file import whole_file

KIND = Kind("list", UsageError, 10, "the next step")


def listed(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert read_bytes(path, KIND) == b"0123456789"
    (tmp_path / "link").symlink_to(path)
    assert read_bytes(tmp_path / "link", KIND) == b"0123456789"
    path.write_bytes(b"0123456789a")
    with pytest.raises(UsageError, match=r"'.*file' is too large for a list: more than 10 bytes"):
        read_bytes(path, KIND)
    path.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="is not UTF-8"):
        as_text(read_bytes(path, KIND), path, KIND)


def test_a_file_whose_size_says_nothing() -> None:
    with pytest.raises(UsageError, match="too large for a list"):
        read_bytes(Path("/proc/self/status"), KIND)
    assert read_bytes(Path("/proc/self/status"), Kind("list", UsageError, 1 << 20))


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, what in ((tmp_path / "fifo", "FIFO"), (Path("/dev/zero"), "character device")):
        with pytest.raises(UsageError, match=f"is no file but a {what}") as caught:
            read_bytes(path, KIND)
        assert caught.value.hint == "write the list to a file first"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none", "No such file"),
        (".", "Is a directory"),
        ("a\0b", "embedded null"),
        ("x" * 300, "File name too long"),
        ("loop", "Too many levels"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ReadFailed, match=f"cannot read the list .*: .*{says}") as caught:
        read_bytes(tmp_path / name, KIND)
    assert caught.value.hint == "the next step"


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with whole_file(path) as stream:
        stream.write("new\ud800\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == b"new\\ud800\n"
    assert listed(tmp_path) == ["file"]


def test_an_error_of_the_body_is_the_body_s(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="elsewhere"), whole_file(tmp_path / "file") as stream:
        stream.write("half")
        raise OSError(errno.EIO, "elsewhere")
    assert listed(tmp_path) == []


@pytest.mark.parametrize("amount", [10, 1 << 20])
def test_a_full_disk_is_said(amount: int) -> None:
    says = r"^cannot write the list '/dev/full': No space left"
    with (
        pytest.raises(ReadFailed, match=says),
        whole_file(Path("/dev/full"), "the list") as stream,
    ):
        stream.write("x" * amount)


@pytest.mark.parametrize("name", ["no/file", "a\0b", "loop", "x" * 256])
def test_what_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ReadFailed, match="cannot write '"), whole_file(tmp_path / name) as stream:
        stream.write("x")
    assert listed(tmp_path) == ["loop"]


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with whole_file(path) as stream:
        stream.write("x")
    assert path.read_text() == "x"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with whole_file(tmp_path / "link") as stream:
        stream.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_device_stays_one() -> None:
    with whole_file(Path("/dev/null")) as stream:
        stream.write("x")
    assert not Path("/dev/null").is_file()
