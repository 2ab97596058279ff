"""Files that are missing, cut, not files, or elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from tests.hostile.draft import healthy
from tests.hostile.registry import case


def _path(directory: Path, path: str) -> None:
    """Let the bias lie at this path."""
    draft = healthy()
    draft.item("model.bias").relative_path = path
    draft.write(directory)


@case(reads="path-outside-checkpoint", finding="DCP206")
def path_to_the_parent(directory: Path) -> None:
    _path(directory, "../outside.distcp")
    (directory.parent / "outside.distcp").write_bytes((directory / "__0_0.distcp").read_bytes())


@case(reads="path-outside-checkpoint", finding="DCP206")
def path_down_and_up(directory: Path) -> None:
    _path(directory, "a/../../b")


@case(reads="path-outside-checkpoint", finding="DCP206")
def path_that_is_absolute(directory: Path) -> None:
    _path(directory, "/etc/passwd")


@case(reads="path-outside-checkpoint", finding="DCP206")
def path_with_nul(directory: Path) -> None:
    _path(directory, "__0_0.distcp\0.txt")


@case(reads="path-outside-checkpoint", finding="DCP206")
def path_of_windows(directory: Path) -> None:
    _path(directory, "C:\\Windows\\win.ini")


@case(reads="path-outside-checkpoint", finding="DCP206")
def path_that_is_empty(directory: Path) -> None:
    _path(directory, "")


@case(reads="missing-file", finding="DCP201")
def path_of_a_megabyte(directory: Path) -> None:
    _path(directory, "p" * 1_000_000)


@case(reads="missing-file", finding="DCP201")
def path_with_surrogates(directory: Path) -> None:
    _path(directory, "\ud800.distcp")


@case(reads="missing-file", finding="DCP201")
def path_with_escape_codes(directory: Path) -> None:
    _path(directory, "\x1b[31m[red]x[/red]\u202e.distcp")


@case(reads="path-outside-checkpoint", finding="DCP206")
def symlink_to_etc_passwd(directory: Path) -> None:
    _path(directory, "__7_0.distcp")
    (directory / "__7_0.distcp").symlink_to("/etc/passwd")


@case(reads="path-outside-checkpoint", finding="DCP206")
def symlinked_folder(directory: Path) -> None:
    _path(directory, "folder/passwd")
    (directory / "folder").symlink_to("/etc")


@case(reads="missing-file", finding="DCP201")
def symlink_to_itself(directory: Path) -> None:
    _path(directory, "__7_0.distcp")
    (directory / "__7_0.distcp").symlink_to("__7_0.distcp")


@case(reads="missing-file", finding="DCP201")
def dangling_symlink(directory: Path) -> None:
    _path(directory, "__7_0.distcp")
    (directory / "__7_0.distcp").symlink_to("nowhere")


@case(reads="missing-file", finding="DCP201")
def shard_is_a_fifo(directory: Path) -> None:
    _path(directory, "__7_0.distcp")
    os.mkfifo(directory / "__7_0.distcp")


@case(reads="missing-file", finding="DCP201")
def shard_is_a_directory(directory: Path) -> None:
    _path(directory, "__7_0.distcp")
    (directory / "__7_0.distcp").mkdir()


@case(reads="path-outside-checkpoint", finding="DCP206")
def shard_is_a_device(directory: Path) -> None:
    _path(directory, "__7_0.distcp")
    (directory / "__7_0.distcp").symlink_to("/dev/zero")


@case(opens="path-outside-checkpoint")
def metadata_is_a_symlink_outside(directory: Path) -> None:
    healthy().write(directory)
    (directory / ".metadata").rename(directory.parent / "elsewhere")
    (directory / ".metadata").symlink_to("../elsewhere")


@case(opens="missing-file", subject="FIFO")
def metadata_is_a_fifo(directory: Path) -> None:
    healthy().write(directory)
    (directory / ".metadata").unlink()
    os.mkfifo(directory / ".metadata")


@case(opens="missing-file", subject="directory")
def metadata_is_a_directory(directory: Path) -> None:
    healthy().write(directory)
    (directory / ".metadata").unlink()
    (directory / ".metadata").mkdir()


@case(opens="missing-file")
def metadata_is_a_symlink_to_itself(directory: Path) -> None:
    healthy().write(directory)
    (directory / ".metadata").unlink()
    (directory / ".metadata").symlink_to(".metadata")


@case(opens="interrupted-save")
def no_metadata(directory: Path) -> None:
    healthy().write(directory)
    (directory / ".metadata").unlink()


@case(opens="interrupted-save")
def metadata_tmp_only(directory: Path) -> None:
    healthy().write(directory)
    (directory / ".metadata").rename(directory / ".metadata.tmp")


@case(opens="not-a-checkpoint")
def nothing_but_a_looping_symlink(directory: Path) -> None:
    directory.mkdir()
    (directory / "loop").symlink_to("loop")


@case(opens="not-a-checkpoint")
def empty_directory(directory: Path) -> None:
    directory.mkdir()


@case(opens="not-a-checkpoint")
def a_file_instead_of_a_directory(directory: Path) -> None:
    directory.write_bytes(b"PK\3\4")


@case(reads="missing-file", finding="DCP201")
def missing_shard(directory: Path) -> None:
    healthy().write(directory)
    (directory / "__1_0.distcp").unlink()


@case(reads="truncated-file", finding="DCP202")
def truncated_shard(directory: Path) -> None:
    healthy().write(directory)
    shard = directory / "__1_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-7])


@case(reads="truncated-file", finding="DCP202")
def empty_shard(directory: Path) -> None:
    healthy().write(directory)
    (directory / "__1_0.distcp").write_bytes(b"")


@case(reads="malformed-item", finding="DCP305")
def shard_of_zeros(directory: Path) -> None:
    healthy().write(directory)
    shard = directory / "__1_0.distcp"
    shard.write_bytes(bytes(shard.stat().st_size))


@case(reads="malformed-item", finding="DCP305")
def gigabyte_of_nothing_as_a_shard(directory: Path) -> None:
    draft = healthy()
    info = draft.item("model.bias")
    info.__dict__.update(relative_path="__9_0.distcp", offset=0, length=1 << 30)
    draft.write(directory)
    with (directory / "__9_0.distcp").open("wb") as file:
        file.truncate(1 << 30)


@case(reads="malformed-item", finding="DCP305")
def bytes_entry_of_a_gigabyte_of_nothing(directory: Path) -> None:
    draft = healthy()
    info = draft.item("step")
    info.__dict__.update(relative_path="__9_0.distcp", offset=0, length=1 << 30)
    draft.write(directory)
    with (directory / "__9_0.distcp").open("wb") as file:
        file.truncate(1 << 30)


@case(finding="DCP203")
def rubbish_behind_the_last_item(directory: Path) -> None:
    healthy().write(directory)
    with (directory / "__1_0.distcp").open("ab") as file:
        file.write(b"rubbish")


@case(finding="DCP207")
def stray_files(directory: Path) -> None:
    """Copies, leftovers and odd things beside a healthy checkpoint."""
    healthy().write(directory)
    (directory / "__0_0.distcp.bak").write_bytes(b"")
    (directory / ".metadata.tmp").write_bytes(b"half")
    (directory / "__0_0 (copy).distcp").write_bytes(b"x")
    (directory / "link").symlink_to("/etc/passwd")
    os.mkfifo(directory / "fifo")
