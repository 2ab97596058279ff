"""Files beside the shards: carried over by name, size, mode and bytes; what is not is named."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import ReadFailed, Refused, UsageError
from dcpctl.formats.pickles.standins import Record
from dcpctl.model.draft import BytesDraft, Draft
from dcpctl.model.source import NewValue
from dcpctl.writing import linking
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.sources import SourceChanged
from dcpctl.writing.steps import observed
from dcpctl.writing.write import write
from tests.test_writing.building import edited, hashes, make, numbers, resharded, run

SIDE = {
    "common.pt": b"PK\3\4 not looked into",
    "empty": b"",
    "tokenizer/tokenizer.json": b'{"a": 1}',
    "dataloader/rank0.pt": b"0" * 100,
    "dataloader/rank1.pt": b"1" * 100,
    ".hf_metadata/config.json": b"{}",
    "weird \u00fc name": b"x",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = make(
        tmp_path / "source",
        {"model.w": (numbers(40, 6), "float32", (2, 1)), "b": (numbers(6), "float32", (1,))},
        {"lr": 0.5},
        ranks=2,
    )
    for name, data in SIDE.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(data)
    (path / "nothing").mkdir()
    (path / "common.pt").chmod(0o600)
    return path


def beside(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.name.endswith((".distcp", ".metadata", ".bak"))
    }


@pytest.mark.parametrize("link", ["auto", "copy", "hardlink"])
def test_every_file_is_carried_over(source, tmp_path, link):
    before = hashes(source)
    with open_checkpoint(source) as checkpoint:
        report = run(Draft.of(checkpoint), tmp_path / "out", link=link)
    assert beside(tmp_path / "out") == SIDE
    assert (tmp_path / "out/nothing").is_dir()
    assert (tmp_path / "out/common.pt").stat().st_mode & 0o777 == 0o600
    assert hashes(source) == before
    assert report.counts.side_files == len(SIDE)
    assert report.counts.side_bytes == sum(map(len, SIDE.values()))
    assert report.counts.files == 2
    shared = (source / "common.pt").samefile(tmp_path / "out/common.pt")
    assert shared == (link == "hardlink")


def test_where_nothing_can_be_linked(source, tmp_path, monkeypatch):
    monkeypatch.setattr(linking, "_can_reflink", lambda file, directory: False)
    with open_checkpoint(source) as checkpoint:
        report = run(resharded(Draft.of(checkpoint), 3), tmp_path / "out")
    assert report.link == "copy"
    assert beside(tmp_path / "out") == SIDE


def test_they_are_left_on_demand(source, tmp_path):
    with open_checkpoint(source) as checkpoint:
        run(Draft.of(checkpoint), tmp_path / "out", side_files=False)
        with pytest.raises(UsageError, match="beside"):
            run(Draft.of(checkpoint), source, side_files=False, in_place=True)
    assert beside(tmp_path / "out") == {}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".metadata",
        "__0_0.distcp",
        "__1_0.distcp",
    ]


def test_what_is_not_carried_over_is_named(source, tmp_path):
    (source / ".metadata.tmp").write_bytes(b"x")
    (source / "__7_0.distcp").write_bytes(b"x")
    (source / "__0.metadata").write_bytes(b"x")
    (source / ".tmp-save").mkdir()
    (source / ".tmp-save/x").write_bytes(b"x")
    (tmp_path / "elsewhere").write_bytes(b"secret")
    (source / "out.json").symlink_to(tmp_path / "elsewhere")
    (source / "dangling").symlink_to("nowhere")
    (source / "folder").symlink_to("tokenizer")
    (source / "same").symlink_to("common.pt")
    (source / ".metadata.dcpctl-1.bak").write_bytes(b"x")
    with open_checkpoint(source) as checkpoint:
        made = plan(Draft.of(checkpoint), tmp_path / "out")
        write(made)
    left = {one.name: one.why for one in made.beside.left}
    assert set(left) == {
        *(".metadata.tmp", "__7_0.distcp", "__0.metadata", ".tmp-save"),
        *("out.json", "dangling", "folder"),
    }
    assert "outside of the checkpoint" in left["out.json"]
    assert beside(tmp_path / "out") == SIDE | {"same": SIDE["common.pt"]}
    assert not (tmp_path / "out/same").is_symlink()
    (sentence,) = made.warnings
    assert sentence.startswith("not carried over: '.tmp-save' (a hidden staging directory), ")
    assert sentence.endswith("and 1 more")


def test_what_is_no_file_is_refused(source, tmp_path):
    os.mkfifo(source / "tokenizer/pipe")
    with open_checkpoint(source) as checkpoint:
        with pytest.raises(Refused, match="tokenizer/pipe") as raised:
            plan(Draft.of(checkpoint), tmp_path / "out")
        assert "--no-side-files" in (raised.value.hint or "")
        run(Draft.of(checkpoint), tmp_path / "out", side_files=False)


def test_a_checkpoint_inside_is_carried_over_and_named(source, tmp_path):
    make(source / "teacher", {"w": (numbers(4), "float32", (1,))}, ranks=1)
    with open_checkpoint(source) as checkpoint:
        made = plan(Draft.of(checkpoint), tmp_path / "out")
        write(made)
    assert made.warnings == (
        "'teacher' is a checkpoint of its own, which the edit leaves as it is",
    )
    assert hashes(tmp_path / "out/teacher") == hashes(source / "teacher")


def test_a_link_to_a_shard_file_is_no_second_file(source, tmp_path):
    (source / "blobs").mkdir()
    (source / "__0_0.distcp").rename(source / "blobs/abc")
    (source / "__0_0.distcp").symlink_to("blobs/abc")
    with open_checkpoint(source) as checkpoint:
        run(Draft.of(checkpoint), tmp_path / "out")
    assert beside(tmp_path / "out") == SIDE
    assert not (tmp_path / "out/__0_0.distcp").is_symlink()


def test_of_two_sources(source, tmp_path):
    other = make(tmp_path / "other", {"c": (numbers(3), "float32", (1,))}, ranks=1)
    (other / "common.pt").write_bytes(SIDE["common.pt"])
    (other / "empty").write_bytes(b"not here")
    (other / "more").write_bytes(b"more")
    with open_checkpoint(source) as a, open_checkpoint(other) as b:
        both = [*Draft.of(a).entries.values(), *Draft.of(b).entries.values()]
        draft = dataclasses.replace(Draft.of(a), sources=(a, b), joined=True)
        made = plan(draft.with_entries(both, None), tmp_path / "out")
        write(made)
    assert beside(tmp_path / "out") == SIDE | {"more": b"more"}
    assert [(one.name, str(source) in one.why) for one in made.beside.left] == [("empty", True)]


def test_a_run_goes_on_with_them(source, tmp_path):
    def stop(name: str) -> None:
        if name == "write .metadata":
            raise ReadFailed("stopped")

    with open_checkpoint(source) as checkpoint:
        with observed(stop), pytest.raises(ReadFailed):
            run(Draft.of(checkpoint), tmp_path / "out", link="copy")
        report = run(Draft.of(checkpoint), tmp_path / "out", link="copy", resume=True)
    assert set(SIDE) <= set(report.resumed)
    assert beside(tmp_path / "out") == SIDE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_a_file_that_changes_meanwhile(source, tmp_path):
    def change(name: str) -> None:
        if name == "write .metadata":
            (source / "common.pt").write_bytes(b"another")

    refused = pytest.raises(SourceChanged, match=r"common\.pt")
    with open_checkpoint(source) as checkpoint, observed(change), refused:
        run(Draft.of(checkpoint), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_describes_the_old_keys_is_named(source, tmp_path):
    weights = {"weight_map": {"model.w": "x", "b": "y"}}
    (source / "map.json").write_text(json.dumps(weights))
    (source / "state.bin").write_bytes(b"\x80\x02X\x07\0\0\0model.w\0")
    with open_checkpoint(source) as checkpoint:
        draft = Draft.of(checkpoint)
        new = [
            dataclasses.replace(e, fqn="net.w") if e.fqn == "model.w" else e
            for e in draft.entries.values()
        ]
        made = plan(draft.with_entries(new, None), tmp_path / "out")
        assert plan(edited(draft, lr=1.0), tmp_path / "out").warnings == ()
    assert made.warnings == (
        "'map.json' is carried over as it is and names what is renamed or gone: 'model.w'",
        "'state.bin' is carried over as it is and names what is renamed or gone: 'model.w'",
    )


def test_what_belongs_to_one_rank_each_is_named(source, tmp_path):
    (source / "config.json").write_text('{"parallel": {"world_size": 2}, "dtype": "float32"}')
    with open_checkpoint(source) as checkpoint:
        draft = Draft.of(checkpoint)
        assert plan(resharded(draft, 2), tmp_path / "out").warnings == ()
        more = plan(resharded(draft, 4), tmp_path / "out").warnings
        fewer = plan(resharded(draft, 1), tmp_path / "out").warnings
        cast = [
            dataclasses.replace(e, dtype="bfloat16") if e.fqn == "model.w" else e
            for e in draft.entries.values()
        ]
        lower = plan(draft.with_entries(cast, None), tmp_path / "out").warnings
    assert len(more) == len(fewer) == 2
    assert "'dataloader/rank{0..1}.pt' is one file for each of 2 ranks" in more[0]
    assert more[0].endswith("a job on 4 ranks finds none for rank 2")
    assert more[1].endswith("says world_size 2")
    assert fewer[0].endswith("a job on 1 rank reads 1 of them")
    assert lower == ("'config.json' is carried over as it is and says float32",)


def test_an_edit_in_place_leaves_them_alone(source):
    with open_checkpoint(source) as checkpoint:
        draft = Draft.of(checkpoint)
        new = [
            BytesDraft("lr", NewValue(1.0)) if e.fqn == "lr" else e for e in draft.entries.values()
        ]
        made = plan(
            draft.with_entries(new, draft.planner_data), source, WriteOptions(in_place=True)
        )
        write(made, WriteOptions(in_place=True))
    assert made.counts.side_files == 0
    assert beside(source) == SIDE


def test_what_the_metadata_say_of_the_source_is_left_out_or_renamed(source, tmp_path):
    item = Record("torch.distributed.checkpoint.planner.WriteItem", {"type": 2})
    plan_ = Record("torch.distributed.checkpoint.planner.SavePlan", {"items": [item]})
    shapes = {"model.w": {"nd": (40, 6)}, "b": {"nd": (6,)}}
    fields = {"all_local_plans": [plan_], "mcore_data": shapes, "version": "1", "more": {"w": 1}}
    with open_checkpoint(source) as checkpoint:
        draft = dataclasses.replace(Draft.of(checkpoint), fields=fields)
        new = [
            dataclasses.replace(e, fqn="net.w") if e.fqn == "model.w" else e
            for e in draft.entries.values()
            if e.fqn != "b"
        ]
        write(plan(draft.with_entries(new, None), tmp_path / "out"))
    with open_checkpoint(tmp_path / "out") as checkpoint:
        found = checkpoint.parts[0].stored.fields
    assert found["mcore_data"] == {"net.w": {"nd": (40, 6)}}
    assert found["more"] == {"w": 1} and "all_local_plans" not in found


def test_stock_torch_reads_what_becomes_of_megatrons_metadata(torch, shared, tmp_path):
    from torch.distributed.checkpoint import FileSystemReader

    save = shared / "frameworks/megatron_core/gpt_tp2_w2/iter_0000003"
    with open_checkpoint(save) as checkpoint:
        run(Draft.of(checkpoint), tmp_path / "out")
    before, after = (FileSystemReader(path).read_metadata() for path in (save, tmp_path / "out"))
    assert hasattr(before, "all_local_plans") and not hasattr(after, "all_local_plans")
    assert list(before.state_dict_metadata) == list(after.state_dict_metadata)
    assert (tmp_path / "out/common.pt").read_bytes() == (save / "common.pt").read_bytes()
