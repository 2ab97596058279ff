"""Where results are staged and published: long names, lost answers, names that fall together."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import ReadFailed, Refused
from dcpctl.model.draft import Draft
from dcpctl.writing import in_place, publish, staging
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.publish import DestinationExists
from dcpctl.writing.staging import leftovers
from dcpctl.writing.undo import undo
from dcpctl.writing.write import write
from tests.test_storage.test_renames import answered
from tests.test_writing.building import assert_same, edited, hashes, make, numbers, resharded
from tests.test_writing.test_faults import at, interrupt

LONG = ["x" * 255, "ä" * 127, "語" * 85, "y" + "😀" * 63, "x" * 237, "x" * 238]


def step(path: Path, seed: int) -> Path:
    """A save; two of them differ in nothing but their numbers."""
    return make(path, {"w": (numbers(40, 8, seed=seed), "float32", (1, 1))}, ranks=1)


def attempt(source: Path, out: Path, *, ranks: int = 2, **options) -> list[str]:
    with open_checkpoint(source) as checkpoint:
        made = plan(resharded(Draft.of(checkpoint), ranks), out)
        return list(write(made, WriteOptions(jobs=1, **options)).notes)


@pytest.mark.parametrize("name", LONG, ids=range(len(LONG)))
def test_a_long_name_is_staged_resumed_and_published(name, tmp_path):
    source = step(tmp_path / "s", 1)
    out = tmp_path / "place" / name
    with at("prove", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(source, out)
    (left,) = leftovers(out)
    assert "2 files are finished" in attempt(source, out, resume=True)[0]
    assert not left.exists()
    assert_same(source, out)
    with at("prove", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(source, out, overwrite=True)
    assert "removed what" in attempt(source, out, ranks=1, overwrite=True)[0]
    assert [path.name for path in out.parent.iterdir()] == [name]
    assert_same(source, out)


def test_a_name_that_cannot_be_fails_before_anything_is_written(tmp_path):
    source = step(tmp_path / "s", 1)
    steps: list[str] = []
    for options in ({}, {"dry_run": True}):
        with staging_steps(steps), pytest.raises(ReadFailed, match="File name too long"):
            attempt(source, tmp_path / ("x" * 256), **options)
    assert not steps
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def staging_steps(seen: list[str]):
    from dcpctl.writing.steps import observed

    return observed(seen.append)


@pytest.mark.parametrize("at_step", ["published", "clean up"])
def test_what_was_overwritten_is_not_resumed_with(at_step, tmp_path):
    """The old save lies where the new was staged, with the same names and sizes."""
    old, new = step(tmp_path / "old", 1), step(tmp_path / "new", 2)
    out = tmp_path / "out"
    attempt(old, out)
    whole = hashes(out)
    observers = at(at_step, interrupt)
    with observers, pytest.raises(KeyboardInterrupt):
        attempt(new, out, overwrite=True)
    assert hashes(out) != whole
    attempt(new, out, overwrite=True, resume=True)
    assert_same(new, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "out"]


def test_an_interrupt_after_the_publishing_leaves_the_whole_result(tmp_path):
    source = step(tmp_path / "s", 1)
    with at("published", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(source, tmp_path / "out")
    assert_same(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s"]


def test_a_removal_that_is_killed_is_taken_up_again(tmp_path, monkeypatch):
    """Whatever was removed first; the journal, by which it is known, goes last."""
    source = step(tmp_path / "s", 1)
    out = tmp_path / "out"
    with at("prove", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(source, out)
    (left,) = leftovers(out)
    real, calls = shutil.rmtree, []

    def dies(path, *args, **more):
        calls.append(path)
        real(path, *args, **more) if len(calls) == 1 else interrupt()

    monkeypatch.setattr(staging.shutil, "rmtree", dies)
    with pytest.raises(KeyboardInterrupt):
        attempt(source, out, ranks=3)
    monkeypatch.undo()
    assert [path.name for path in left.iterdir()] == ["journal"]
    assert leftovers(out) == [left]
    (left / "journal").unlink()  # and a kill before the directory itself was removed
    assert leftovers(out) == [left]
    (left / "files").mkdir()  # or one before there was a journal
    assert leftovers(out) == [left]
    attempt(source, out, ranks=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s"]


@pytest.mark.parametrize("what", ["files", "journal"])
def test_a_staging_directory_with_links_is_not_followed(what, tmp_path):
    source = step(tmp_path / "s", 1)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("mine")
    out = tmp_path / "out"
    with at("prove", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(source, out)
    (left,) = leftovers(out)
    place = left / what
    shutil.rmtree(place) if what == "files" else place.unlink()
    place.symlink_to(mine if what == "files" else mine / "precious")
    for resume in (False, True):
        with pytest.raises((Refused, ReadFailed)):
            attempt(source, out, resume=resume)
    assert hashes(mine).keys() == {"precious"}
    assert (mine / "precious").read_text() == "mine"


def test_a_lock_of_a_directory_that_is_gone_is_no_lock(tmp_path):
    """Another process removed it between the opening of its journal and the locking."""
    source = step(tmp_path / "s", 1)
    real = staging.Journal.acquire

    def late(self):
        shutil.rmtree(self._path.parent)
        return real(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(staging.Journal, "acquire", late)
        with pytest.raises(Refused, match="another process"):
            attempt(source, tmp_path / "out")
    attempt(source, tmp_path / "out")


# -- a server that has done it and says that it cannot --------------------------------------------


@pytest.fixture(params=["renameat2", "rename"])
def lost(request, monkeypatch):
    """Every rename is done and answered ENOENT, as is every link with EEXIST."""
    if request.param == "renameat2":
        real = publish._renameat2

        def answer(*args):
            return real(*args) or errno.ENOENT

        monkeypatch.setattr(publish, "_renameat2", answer)
    else:
        monkeypatch.setattr(publish, "_renameat2", lambda *args: errno.EINVAL)
    answered(monkeypatch, "rename", errno.ENOENT)
    answered(monkeypatch, "link", errno.EEXIST)
    return request.param


def test_a_result_is_published_though_the_answer_was_lost(lost, tmp_path):
    old, new = step(tmp_path / "old", 1), step(tmp_path / "new", 2)
    out = tmp_path / "out"
    attempt(old, out)
    assert_same(old, out)
    if lost == "rename":  # an exchange is no request of NFS
        attempt(new, out, overwrite=True)
        assert_same(new, out)
    with pytest.raises(DestinationExists):
        attempt(old, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "out"]


def test_an_edit_in_place_and_its_undo_though_the_answers_were_lost(lost, tmp_path):
    source = step(tmp_path / "s", 1)
    before = hashes(source)
    options = WriteOptions(in_place=True)
    with open_checkpoint(source) as checkpoint:
        write(plan(edited(Draft.of(checkpoint), extra=1), source, options), options)
    with open_checkpoint(source) as checkpoint:
        assert checkpoint["extra"].value == 1
    assert (source / ".metadata.dcpctl-1.bak").is_file()
    undo(source)
    assert hashes(source) == before


def test_hard_links_though_the_answers_were_lost(lost, tmp_path):
    source = step(tmp_path / "s", 1)
    options = WriteOptions(link="hardlink")
    with open_checkpoint(source) as checkpoint:
        write(plan(edited(Draft.of(checkpoint), extra=1), tmp_path / "out", options), options)
    assert (source / "__0_0.distcp").samefile(tmp_path / "out/__0_0.distcp")


def test_a_backup_that_is_there_is_not_written_through(tmp_path, monkeypatch):
    """It may be a hard link to the very metadata that it is to keep."""
    source = step(tmp_path / "s", 1)
    before = (source / ".metadata").read_bytes()
    os.link(source / ".metadata", source / "other")
    in_place._keep(source / ".metadata", source / "other")
    (source / "taken").write_text("mine")
    with pytest.raises(FileExistsError):
        in_place._keep(source / ".metadata", source / "taken")
    assert (source / "taken").read_text() == "mine"
    answered(monkeypatch, "link", errno.EPERM, done=False)
    in_place._keep(source / ".metadata", source / "copy")
    assert (source / "copy").read_bytes() == (source / ".metadata").read_bytes() == before
    assert (source / "copy").stat().st_nlink == 1


def test_metadata_that_are_a_link_are_kept_as_a_file(tmp_path):
    source = step(tmp_path / "s", 1)
    (source / ".metadata").rename(source / "metadata-7")
    (source / ".metadata").symlink_to("metadata-7")
    before = (source / ".metadata").read_bytes()
    options = WriteOptions(in_place=True)
    with open_checkpoint(source) as checkpoint:
        write(plan(edited(Draft.of(checkpoint), extra=1), source, options), options)
    undo(source)
    assert (source / ".metadata").read_bytes() == before


@pytest.mark.parametrize("at_step", ["between renames", "published"])
def test_a_kill_between_the_two_renames_of_an_exchange(at_step, tmp_path, monkeypatch):
    """Where it takes two, what was moved aside comes back with the next run, whatever that is."""
    monkeypatch.setattr(publish, "_renameat2", lambda *args: errno.EINVAL)
    old, new = step(tmp_path / "old", 1), step(tmp_path / "new", 2)
    live, out = tmp_path / "live", tmp_path / "killed/out"
    attempt(old, live / "out")
    with at(at_step, lambda: shutil.copytree(live, out.parent)):
        attempt(new, live / "out", overwrite=True)
    assert out.exists() == (at_step == "published")
    with pytest.raises(DestinationExists):
        attempt(new, out)
    assert_same(old if at_step == "between renames" else new, out)
    attempt(new, out, overwrite=True, resume=True)
    assert_same(new, out)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_interrupt_between_the_two_renames_puts_it_back(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "_renameat2", lambda *args: errno.EINVAL)
    old, new = step(tmp_path / "old", 1), step(tmp_path / "new", 2)
    attempt(old, tmp_path / "out")
    with at("between renames", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(new, tmp_path / "out", overwrite=True)
    assert_same(old, tmp_path / "out")
    assert "2 files are finished" in attempt(new, tmp_path / "out", overwrite=True, resume=True)[0]
    assert_same(new, tmp_path / "out")


# -- a filesystem that takes two names for one -----------------------------------------------------


@pytest.fixture
def caseless(tmp_path, monkeypatch):
    """Below `tmp_path / "caseless"` names are folded when they are looked up, as APFS does."""
    place = tmp_path / "caseless"
    place.mkdir()

    list_names, is_directory = os.listdir, os.path.isdir

    def folded(path: object) -> object:
        if not isinstance(path, (str, os.PathLike)) or not Path(path).is_relative_to(place):
            return path
        head, tail = os.path.split(path)
        if not is_directory(head):
            return path
        found = [n for n in list_names(head) if n.casefold() == tail.casefold()]
        return Path(head, found[0] if found else tail)

    def folding(real, number: int):
        def call(*args, **more):
            changed = [folded(arg) if n == number else arg for n, arg in enumerate(args)]
            return real(*changed, **more)

        return call

    for name in ("open", "link", "stat", "lstat", "mkdir"):
        monkeypatch.setattr(os, name, folding(getattr(os, name), int(name == "link")))
    return place


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib of 3.10 has os's functions kept")
@pytest.mark.parametrize("link", ["copy", "hardlink"])
def test_names_that_differ_in_case_alone(link, caseless, tmp_path):
    """Two such files are two on the source's filesystem, and may not become one."""
    source = step(tmp_path / "s", 1)
    (source / "Config.json").write_text("upper")
    (source / "config.json").write_text("lower, and longer")
    attempt(source, tmp_path / "out", link=link)
    assert (tmp_path / "out/Config.json").read_text() == "upper"
    assert (tmp_path / "out/config.json").read_text() == "lower, and longer"
    with pytest.raises(Refused, match=r"'Config\.json' and 'config\.json' are one name") as caught:
        attempt(source, caseless / "out", link=link)
    assert caught.value.exit_code == 4
    assert list(caseless.iterdir()) == []
