"""The writer's small parts, each on its own."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import ChecksumMismatch, Refused, UsageError
from dcpctl.model.draft import Draft
from dcpctl.writing import linking
from dcpctl.writing.chunks import ChunkOpener
from dcpctl.writing.journal import Journal
from dcpctl.writing.ledger import Ledger, Record
from dcpctl.writing.names import Names
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.publish import _plain_rename, rename_new
from dcpctl.writing.sink import Sink
from dcpctl.writing.sources import Sources
from dcpctl.writing.undo import undo
from tests.test_writing.building import edited, hashes, make, numbers, resharded, run

DATA = os.urandom(1000)


def record(crc: int = zlib.crc32(DATA)) -> Record:
    return Record(0, 64, len(DATA), crc, "w", "__0_0.distcp")


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)])
def test_the_ledger_joins_pieces_in_any_order(order):
    cuts = [(0, 10), (10, 500), (500, 501), (501, 1000)]
    for crc, fails in ((zlib.crc32(DATA), False), (1, True)):
        ledger = Ledger()
        ledger.expect(record(crc))
        pieces = [cuts[number] for number in order]
        for start, stop in pieces[:-1]:
            ledger.read(record(crc), start, stop, zlib.crc32(DATA[start:stop]))
        assert len(list(ledger.unread())) == 1
        start, stop = pieces[-1]
        last = (start, stop, zlib.crc32(DATA[start:stop]))
        if fails:
            with pytest.raises(ChecksumMismatch, match="'w'"):
                ledger.read(record(crc), *last)
        else:
            ledger.read(record(crc), *last)
            ledger.expect(record(crc))
            assert not list(ledger.unread())


def test_a_sink_writes_in_order_whatever_the_sizes(tmp_path):
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    buffer = memoryview(bytearray(64))
    sink = Sink(fd, "f", 5, buffer)
    wanted = b""
    for size in (1, 63, 64, 200, 3, 0, 30, 40):
        part = os.urandom(size)
        sink.put(part)
        wanted += part
        room = sink.room(7)
        room[:] = b"-" * len(room)
        wanted += b"-" * len(room)
        assert sink.position == 5 + len(wanted)
    sink.flush()
    os.close(fd)
    assert (tmp_path / "f").read_bytes() == bytes(5) + wanted


def test_names():
    names = Names({"__0_1.distcp"})
    assert names.keep("model/__0_0.distcp", 0) == "__0_0.distcp"
    assert names.keep("optim/__0_0.distcp", 0) == "__0_2.distcp"
    assert names.keep("shard-00002-model-00001-of-00001.safetensors", 1) == "__1_0.distcp"
    assert names.keep("model.safetensors", None) == "__0_3.distcp"
    assert names.new(0) == "__0_4.distcp"


@pytest.mark.parametrize(
    "flags",
    [
        {"link": "symlink"},
        {"memory": 1 << 20},
        {"jobs": 0},
        {"in_place": True, "overwrite": True},
        {"in_place": True, "resume": True},
    ],
)
def test_options_that_make_no_sense(flags):
    with pytest.raises(UsageError):
        WriteOptions(**flags)


def test_threads_share_the_memory():
    assert WriteOptions(jobs=64).threads() == 6
    assert WriteOptions(jobs=64).threads(decompressing=True) == 3
    assert WriteOptions(jobs=2, memory=1 << 40).threads() == 2


def test_a_journal_is_of_one_plan(tmp_path):
    first = Journal(tmp_path / "journal")
    assert first.acquire()
    first.begin("abc", 7)
    first.note("__0_0.distcp", 5)
    second = Journal(tmp_path / "journal")
    assert not second.acquire()
    first.close()
    assert second.acquire()
    assert not second.read("other", 7)
    assert not second.read("abc", 8)  # what is there now was put there by a rename
    assert second.read("abc", 7)
    assert second.finished == {"__0_0.distcp": 5}
    second.close()
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"file": "cut')
    third = Journal(tmp_path / "journal")
    assert third.read("abc", 7)
    assert third.finished == {"__0_0.distcp": 5}
    third.close()


@pytest.mark.parametrize("rename", [rename_new, lambda a, b: _plain_rename(a, b, 1)])
def test_a_rename_replaces_nothing(rename, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert not rename(tmp_path / "a", tmp_path / "b")
    assert rename(tmp_path / "a", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


def test_an_exchange_without_renameat2(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert _plain_rename(tmp_path / "a", tmp_path / "b", 2)
    assert (tmp_path / "b/a").exists()
    assert (tmp_path / "a/b").exists()


@pytest.fixture
def source(tmp_path):
    return make(tmp_path / "source", {"w": (numbers(9), "float32", (3,))}, {"lr": 0.1})


def test_hard_links_share_the_bytes(source, tmp_path):
    with open_checkpoint(source) as checkpoint:
        report = run(Draft.of(checkpoint), tmp_path / "out", link="hardlink")
    assert report.link == "hardlink"
    assert report.bytes_written == report.counts.metadata_bytes
    assert (tmp_path / "out/__0_0.distcp").samefile(source / "__0_0.distcp")


def test_reflinks_or_copies(source, tmp_path):
    able = linking._can_reflink(source / "__0_0.distcp", tmp_path)
    with open_checkpoint(source) as checkpoint:
        draft = Draft.of(checkpoint)
        assert run(draft, tmp_path / "auto").link == ("reflink" if able else "copy")
        if able:
            assert run(draft, tmp_path / "out", link="reflink").link == "reflink"
        else:
            with pytest.raises(Refused, match="reflink"):
                run(draft, tmp_path / "out", link="reflink")
    assert hashes(tmp_path / "auto").keys() == hashes(source).keys()


def test_destinations_that_are_refused(source, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    (tmp_path / "link").symlink_to(other)
    with open_checkpoint(source) as checkpoint:
        draft = Draft.of(checkpoint)
        for where, flags, what in [
            (source, {}, "is the source"),
            (source / "deeper", {}, "is inside the source"),
            (source / ".." / "source" / "deeper", {}, "is inside the source"),
            (tmp_path, {"overwrite": True}, "holds the source"),
            (other, {}, "exists"),
            (other, {"overwrite": True}, "is no checkpoint"),
            (tmp_path / "link", {"overwrite": True}, "is no directory"),
        ]:
            for dry in (True, False):
                with pytest.raises(Refused, match=what):
                    run(draft, where, dry_run=dry, **flags)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "other", "source"]


def test_a_dry_run_writes_nothing(source, tmp_path):
    before = hashes(tmp_path)
    with open_checkpoint(source) as checkpoint:
        report = run(resharded(Draft.of(checkpoint), 2), tmp_path / "a/b/out", dry_run=True)
        assert report.dry_run
        run(Draft.of(checkpoint), source, dry_run=True, in_place=True)
    assert hashes(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_overwriting_leaves_nothing_of_the_old(source, tmp_path):
    make(tmp_path / "out", {"old": (numbers(3), "float32", (1,))}, ranks=7)
    with open_checkpoint(source) as checkpoint:
        run(resharded(Draft.of(checkpoint), 2), tmp_path / "out", overwrite=True)
    assert sorted(hashes(tmp_path / "out")) == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_edits_in_place_are_undone_one_by_one(source):
    states = [hashes(source)]
    for number in range(3):
        with open_checkpoint(source) as checkpoint:
            draft = edited(Draft.of(checkpoint), lr=number, **{f"n{number}": number})
            report = run(draft, source, in_place=True)
        assert report.backup == source.resolve() / f".metadata.dcpctl-{number + 1}.bak"
        states.append(hashes(source))
        shards = {k: v for k, v in states[0].items() if k != ".metadata"}
        assert shards.items() <= states[-1].items()
    with open_checkpoint(source) as checkpoint:
        assert (checkpoint["lr"].value, checkpoint["n0"].value) == (2, 0)
    for number in (3, 2, 1):
        report = undo(source, dry_run=True)
        assert hashes(source) == states[number]
        assert undo(source) == report
        assert report.removed == (f"__0_{number}.distcp",)
        assert hashes(source) == states[number - 1]
    with pytest.raises(Refused, match="no edit in place"):
        undo(source)


def test_undo_after_a_new_save_is_refused(source):
    with open_checkpoint(source) as checkpoint:
        run(edited(Draft.of(checkpoint), lr=1), source, in_place=True)
    os.truncate(source / "__1_0.distcp", 100)
    before = hashes(source)
    with pytest.raises(Refused, match="saved again"):
        undo(source)
    assert hashes(source) == before


def test_items_alike_are_not_parsed_again(tmp_path, monkeypatch):
    source = make(tmp_path / "s", {"w": (numbers(40, 3), "float32", (8, 1))})
    parsed: list[int] = []
    real = ChunkOpener._open

    def counted(self, entry, row):
        parsed.append(row)
        return real(self, entry, row)

    monkeypatch.setattr(ChunkOpener, "_open", counted)
    with open_checkpoint(source) as checkpoint:
        run(resharded(Draft.of(checkpoint), 3), tmp_path / "out", jobs=1)
    assert parsed == [0]


def test_an_archive_that_differs_in_a_byte_is_parsed(tmp_path):
    source = make(tmp_path / "s", {"w": (numbers(8, 3), "float32", (2, 1))}, ranks=1)
    with open_checkpoint(source) as checkpoint:
        second = checkpoint["w"].chunks[1]
    raw = bytearray((source / "__0_0.distcp").read_bytes())
    at = raw.index(b"FloatStorage", second.offset)
    raw[at : at + 5] = b"Bloat"
    (source / "__0_0.distcp").write_bytes(raw)
    with open_checkpoint(source) as checkpoint, pytest.raises(Exception, match="'w'") as caught:
        run(resharded(Draft.of(checkpoint), 1), tmp_path / "out", jobs=1)
    assert caught.value.exit_code == 3


def test_every_file_has_a_source(source):
    with open_checkpoint(source) as checkpoint:
        sources = Sources.of(Draft.of(checkpoint))
        assert [file.path for file in sources.files] == [
            Path(source).resolve() / f"__{rank}_0.distcp" for rank in range(2)
        ]
