"""What goes wrong while a result is written: nothing is published, and the source is as it was."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import ChecksumMismatch, ReadFailed, Refused
from dcpctl.model.draft import Draft
from dcpctl.writing import batches, files, space
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.publish import DestinationExists
from dcpctl.writing.sources import SourceChanged
from dcpctl.writing.space import NoSpace
from dcpctl.writing.staging import leftovers
from dcpctl.writing.steps import observed
from dcpctl.writing.write import write
from tests.test_writing.building import assert_same, hashes, make, numbers, resharded, run


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def source(samples: Path, tmp_path):
    copy = tmp_path / "source"
    shutil.copytree(samples / "healthy/step-8500", copy)
    before = hashes(copy)
    yield copy
    if (copy / "changed").exists():
        return
    assert hashes(copy) == before


def attempt(source: Path, out: Path, *, ranks: int = 3, **options) -> None:
    with open_checkpoint(source) as checkpoint:
        write(plan(resharded(Draft.of(checkpoint), ranks), out), WriteOptions(**options))


def at(name: str, act):
    """An observer that acts once, at the first step of that name."""
    done: list[bool] = []

    def observer(step: str) -> None:
        if step == name and not done:
            done.append(True)
            act()

    return observed(observer)


def test_a_flipped_bit_is_refused(samples: Path, tmp_path):
    with open_checkpoint(samples / "flipped_bit") as checkpoint:
        for draft in (Draft.of(checkpoint), resharded(Draft.of(checkpoint), 3)):
            with pytest.raises(ChecksumMismatch, match="tok_embeddings"):
                run(draft, tmp_path / "out", link="copy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["preadv", "pwrite", "fsync"])
def test_the_operating_system_fails(call, source, tmp_path, monkeypatch):
    """A read error, no space, a failed sync: what is finished is kept, and taken up again."""
    code = {"preadv": errno.EIO, "pwrite": errno.ENOSPC, "fsync": errno.EIO}[call]
    real, calls = getattr(os, call), []

    def fails(*args):
        calls.append(args)
        if len(calls) == 4:
            raise OSError(code, os.strerror(code))
        return real(*args)

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(ReadFailed) as caught:
        attempt(source, tmp_path / "out", jobs=1)
    monkeypatch.undo()
    assert caught.value.exit_code == 5
    assert "--resume" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()
    (left,) = leftovers(tmp_path / "out")
    attempt(source, tmp_path / "out", resume=True)
    assert not left.exists()
    attempt(source, tmp_path / "fresh")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "fresh")


def test_a_long_file_is_gone_on_with(source, tmp_path, monkeypatch):
    """What was put on disk of it is not written again, and its source is compared all the same."""
    monkeypatch.setattr(files, "PART_BYTES", 64 << 10)
    monkeypatch.setattr(batches, "BATCH_BYTES", 16 << 10)
    with at("sync __0_0.distcp", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(source, tmp_path / "out", ranks=1, jobs=1)
    (left,) = leftovers(tmp_path / "out")
    noted = [json.loads(line) for line in (left / "journal").read_text().splitlines()]
    upto = max(line.get("upto", 0) for line in noted)
    with open_checkpoint(source) as checkpoint:
        made = plan(resharded(Draft.of(checkpoint), 1), tmp_path / "out")
        again = write(made, WriteOptions(resume=True))
        fresh = write(plan(resharded(Draft.of(checkpoint), 1), tmp_path / "fresh"), WriteOptions())
    assert upto > 0.7 * made.files[0].size
    assert again.bytes_written == fresh.bytes_written - upto
    assert hashes(tmp_path / "out") == hashes(tmp_path / "fresh")


def test_a_disk_that_is_full(source, tmp_path):
    """A limit on the size of files stands for a full disk: the writing process gets an error."""
    script = (
        "import sys, resource, signal\n"
        "from tests.test_writing.test_faults import attempt\n"
        "from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "attempt(Path(sys.argv[1]), Path(sys.argv[2]), ranks=2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, source, tmp_path / "out"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ReadFailed: writing '__" in done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000
    assert not (tmp_path / "out").exists()
    attempt(source, tmp_path / "out", ranks=2, resume=True)
    assert_same(source, tmp_path / "out")


def test_space_is_seen_to_first(source, tmp_path, monkeypatch):
    real = os.statvfs

    def full(path):
        found = list(real(path))
        found[4] = 10  # f_bavail
        return os.statvfs_result(found)

    monkeypatch.setattr(space.os, "statvfs", full)
    for options in ({}, {"dry_run": True}):
        with pytest.raises(NoSpace, match="free"):
            attempt(source, tmp_path / "out", **options)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [source]


def can_mount() -> bool:
    """Whether this user may mount a filesystem of his own, in a namespace of his own."""
    if shutil.which("unshare") is None:
        return False
    script = "mount -t tmpfs tmpfs /mnt"
    return not subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, check=False
    ).returncode


def test_a_filesystem_that_fills_up(source, tmp_path):
    """Another process takes the last free byte after the space was seen to be there."""
    if not can_mount():
        pytest.skip("no filesystem can be mounted here")
    (tmp_path / "full").mkdir()
    done = subprocess.run(
        [
            *("unshare", "-rm", "sh", "-c"),
            'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"',
            *(tmp_path / "full", sys.executable, "-m", "tests.test_writing.filling"),
            *(source, tmp_path / "full" / "out"),
        ],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["No space left on device", "resumed", "same"]


def test_a_source_that_changes_is_refused(source, tmp_path):
    def change() -> None:
        (source / "changed").touch()
        with (source / "__2_0.distcp").open("r+b") as file:
            file.seek(0)
            file.write(b"P")

    with at("write .metadata", change), pytest.raises(SourceChanged, match="__2_0"):
        attempt(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_source_that_shrinks_is_refused(source, tmp_path):
    def change() -> None:
        (source / "changed").touch()
        os.truncate(source / "__0_0.distcp", 1000)

    with at("create __0_0.distcp", change), pytest.raises(Exception, match="__0_0") as caught:
        attempt(source, tmp_path / "out")
    assert caught.value.exit_code in (3, 5)
    assert not (tmp_path / "out").exists()


def test_a_destination_that_appears_is_left_alone(source, tmp_path):
    def appear() -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine").write_text("mine")

    with at("publish", appear), pytest.raises(DestinationExists):
        attempt(source, tmp_path / "out")
    assert hashes(tmp_path / "out").keys() == {"mine"}
    (tmp_path / "out/mine").unlink()
    attempt(source, tmp_path / "out", resume=True, overwrite=True)
    assert_same(source, tmp_path / "out")


def test_an_empty_destination_that_appears_is_left_alone(source, tmp_path):
    with at("publish", (tmp_path / "out").mkdir), pytest.raises(DestinationExists):
        attempt(source, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_two_at_once(source, tmp_path):
    def second() -> None:
        with pytest.raises(Refused, match="another process"):
            attempt(source, tmp_path / "out")

    with at("prove", second):
        attempt(source, tmp_path / "out")
    assert_same(source, tmp_path / "out")


def test_leftovers_are_named_and_removed(source, tmp_path):
    with at("publish", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(source, tmp_path / "out")
    (left,) = leftovers(tmp_path / "out")
    with open_checkpoint(source) as checkpoint:
        report = run(resharded(Draft.of(checkpoint), 2), tmp_path / "out")
    assert str(left) in report.notes[0]
    assert not left.exists()


def test_resume_writes_only_what_is_missing(source, tmp_path):
    with at("journal __1_0.distcp", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(source, tmp_path / "out", jobs=1)
    steps: list[str] = []
    with open_checkpoint(source) as checkpoint, observed(steps.append):
        report = run(resharded(Draft.of(checkpoint), 3), tmp_path / "out", resume=True)
    assert report.resumed == ("__0_0.distcp",)
    assert [s for s in steps if s.startswith("create")] == [
        "create __1_0.distcp",
        "create __2_0.distcp",
    ]
    assert_same(source, tmp_path / "out")


def test_resume_compares_checksums_of_what_was_read_before(tmp_path):
    source = make(tmp_path / "s", {"w": (numbers(40, 8), "float32", (1, 1))}, ranks=1)
    raw = bytearray((source / "__0_0.distcp").read_bytes())
    raw[len(raw) // 2] ^= 1
    (source / "__0_0.distcp").write_bytes(raw)
    with at("journal __1_0.distcp", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(source, tmp_path / "out", jobs=1)
    with pytest.raises(ChecksumMismatch):
        attempt(source, tmp_path / "out", jobs=1, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_same_command_gives_the_same_bytes(ranks, source, tmp_path):
    for jobs in (1, 3):
        attempt(source, tmp_path / f"out{jobs}", ranks=ranks, jobs=jobs, memory=512 << 20)
    assert hashes(tmp_path / "out1") == hashes(tmp_path / "out3")
    first = hashes(tmp_path / "out1")
    assert sorted(first) == [".metadata", *(f"__{rank}_0.distcp" for rank in range(ranks))]
