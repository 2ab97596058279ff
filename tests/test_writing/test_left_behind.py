"""What an edit in place leaves is read as a stranger's: no link, FIFO or rubbish is followed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dcpctl.errors import DcpctlError
from dcpctl.writing.undo import undo
from tests.hostile.draft import healthy

BACKUP = ".metadata.dcpctl-1.bak"
STAGED = ".dcpctl-1.tmp"


@pytest.fixture
def save(tmp_path: Path) -> Path:
    path = tmp_path / "save"
    healthy().write(path)
    other = tmp_path / "other"
    healthy().write(other)
    return path


def _link(place: Path) -> None:
    place.symlink_to(place.parent.parent / "other" / ".metadata")


def _device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def _fifo(place: Path) -> None:
    os.mkfifo(place)


def _directory(place: Path) -> None:
    place.mkdir()


def _rubbish(place: Path) -> None:
    place.write_bytes(b"\x80\x04cos\nsystem\n.")


def _huge(place: Path) -> None:
    place.touch()
    os.truncate(place, 1 << 40)


ODD: list[Callable[[Path], None]] = [_link, _device, _fifo, _directory, _rubbish, _huge]


def _refused(save: Path) -> None:
    """Undo ends with exit code 3, and `.metadata` is what it was."""
    before = (save / ".metadata").read_bytes()
    with pytest.raises(DcpctlError) as caught:
        undo(save)
    assert caught.value.exit_code == 3
    assert (save / ".metadata").read_bytes() == before
    assert not (save / ".metadata").is_symlink()


@pytest.mark.parametrize("make", ODD)
def test_kept_metadata(save: Path, make: Callable[[Path], None]) -> None:
    make(save / BACKUP)
    _refused(save)


@pytest.mark.parametrize("make", [make for make in ODD if make is not _rubbish])
def test_the_list_of_an_unfinished_change(save: Path, make: Callable[[Path], None]) -> None:
    (save / STAGED).mkdir()
    make(save / STAGED / "added.json")
    _refused(save)


@pytest.mark.parametrize("make", ODD)
def test_metadata_of_an_unfinished_change(save: Path, make: Callable[[Path], None]) -> None:
    staged = save / STAGED
    staged.mkdir()
    (staged / "added.json").write_text(json.dumps({"files": [], "metadata": [".metadata"]}))
    (staged / "ready").touch()
    make(staged / ".metadata")
    _refused(save)


def test_an_unfinished_change_that_is_a_link(save: Path) -> None:
    (save / STAGED).symlink_to(save.parent / "other")
    _refused(save)
    assert (save.parent / "other" / ".metadata").is_file()


def test_a_list_nested_without_end(save: Path) -> None:
    (save / STAGED).mkdir()
    (save / STAGED / "added.json").write_text("[" * 200_000)
    _refused(save)
