"""What a plan says before anything is written."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import MissingFile, Refused, TruncatedFile
from dcpctl.model.draft import BytesDraft, Draft, TensorDraft
from dcpctl.model.source import Fill
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.segments import CopyItem, NewBytes, NewTensor
from tests.test_writing.building import assert_same, edited, make, numbers, resharded, run


@pytest.fixture
def source(tmp_path):
    return make(
        tmp_path / "source",
        {
            "w": (numbers(400, 8), "float32", (2, 1)),
            "b": (numbers(7), "float32", (2,)),
            "s": (numbers(), "float32", ()),
        },
        {"lr": 0.1, "groups": [1, 2, 3]},
    )


@pytest.fixture
def checkpoint(source):
    with open_checkpoint(source) as opened:
        yield opened


def test_an_untouched_draft_takes_over_every_file(checkpoint, tmp_path):
    made = plan(Draft.of(checkpoint), tmp_path / "out")
    assert [file.name for file in made.files] == ["__0_0.distcp", "__1_0.distcp"]
    assert all(file.link is not None for file in made.files)
    assert made.counts.bytes_copied == made.counts.bytes_new == 0
    assert made.counts.keys == 5
    assert made.counts.elements == 400 * 8 + 7 + 1
    assert list((tmp_path).iterdir()) == [tmp_path / "source"]


def test_a_plan_does_not_change(checkpoint, tmp_path):
    first = plan(resharded(Draft.of(checkpoint), 3), tmp_path / "out")
    second = plan(resharded(Draft.of(checkpoint), 3), tmp_path / "out")
    assert first.parts[0].metadata == second.parts[0].metadata
    assert first.fingerprint == second.fingerprint


def test_names_that_change_places_change_the_fingerprint(checkpoint, tmp_path):
    draft = resharded(Draft.of(checkpoint), 3)
    w = draft.entries["w"]
    assert isinstance(w, TensorDraft)
    twin = dataclasses.replace(w, fqn="twin", source=Fill(0.0))
    left = draft.with_entries([w, twin], None)
    swapped = [dataclasses.replace(twin, fqn="w"), dataclasses.replace(w, fqn="twin")]
    right = draft.with_entries(swapped, None)
    plans = [plan(one, tmp_path / "out") for one in (left, right)]
    assert plans[0].files[0].size == plans[1].files[0].size
    assert plans[0].fingerprint != plans[1].fingerprint


def test_a_replaced_value_goes_into_one_new_file(checkpoint, tmp_path):
    made = plan(edited(Draft.of(checkpoint), lr=0.5, more=1), tmp_path / "out")
    assert made.counts.added == ("more",)
    assert made.counts.replaced == ("lr",)
    # The old value is over 1/64 of its small file, which is therefore written again.
    assert [(file.name, file.link is None) for file in made.files] == [
        ("__0_0.distcp", True),
        ("__1_0.distcp", False),
        ("__0_1.distcp", True),
    ]
    assert all(isinstance(part, NewBytes) for part in made.files[2].segments)
    assert all(isinstance(part, CopyItem) for part in made.files[0].segments)


def test_a_little_dead_value_does_not_cost_a_copy(tmp_path):
    big = {"w": (numbers(20_000), "float64", (1,))}
    source = make(tmp_path / "source", big, {"lr": 0.1}, ranks=1)
    with open_checkpoint(source) as checkpoint:
        made = plan(edited(Draft.of(checkpoint), lr=0.5), tmp_path / "out")
        assert [file.link is None for file in made.files] == [False, True]
        assert made.counts.tensor_bytes_new == made.counts.bytes_copied == 0


def test_a_rename_moves_nothing(checkpoint, source, tmp_path):
    draft = Draft.of(checkpoint)
    entries = [dataclasses.replace(e, fqn=f"model.{e.fqn}") for e in draft.entries.values()]
    made = plan(draft.with_entries(entries, None), tmp_path / "out")
    assert all(file.link is not None for file in made.files)
    assert made.counts.renamed[0] == ("lr", "model.lr")
    assert made.counts.removed == made.counts.added == ()


def test_what_is_dropped_is_not_in_the_files(checkpoint, tmp_path):
    made = plan(edited(Draft.of(checkpoint), drop=["w"]), tmp_path / "out")
    assert made.counts.removed == ("w",)
    assert sum(file.size for file in made.files) < 400 * 8 * 4
    run(edited(Draft.of(checkpoint), drop=["w"]), tmp_path / "out")
    assert_same(tmp_path / "source", tmp_path / "out", keys=["b", "s", "lr", "groups"])


def test_a_file_of_which_nothing_is_left_is_left_out(checkpoint, tmp_path):
    made = plan(edited(Draft.of(checkpoint), drop=["w", "b"]), tmp_path / "out")
    assert [file.name for file in made.files] == ["__0_0.distcp"]


def test_an_entry_under_two_names_is_copied_once_more(checkpoint, tmp_path):
    draft = Draft.of(checkpoint)
    twins = [dataclasses.replace(draft.entries[key], fqn=f"{key}2") for key in ("w", "lr")]
    made = draft.with_entries([*draft.entries.values(), *twins], None)
    run(made, tmp_path / "out")
    with open_checkpoint(tmp_path / "out") as result:
        assert (result["w2"].numpy() == result["w"].numpy()).all()
        assert result["lr2"].value == 0.1
        places = {(e.file, e.offset) for e in result.bytes_entries.values()}
        assert len(places) == 3


def test_ranks_say_into_which_file(checkpoint, tmp_path):
    draft = Draft.of(checkpoint)
    fill = TensorDraft("zeros", (3,), "float32", Fill(), rank=1)
    moved = BytesDraft("lr", checkpoint["lr"], rank=1)
    entries = {**draft.entries, "zeros": fill, "lr": moved}
    made = plan(draft.with_entries(entries.values(), None), tmp_path / "out")
    last = made.files[-1]
    assert last.name == "__1_1.distcp"
    assert [type(part) for part in last.segments] == [CopyItem, NewTensor]


def test_a_reshard_has_one_file_a_rank(checkpoint, tmp_path):
    made = plan(resharded(Draft.of(checkpoint), 3), tmp_path / "out")
    assert [file.name for file in made.files] == [f"__{rank}_0.distcp" for rank in range(3)]
    first = made.files[0].segments
    assert [type(part).__name__ for part in first[:2]] == ["CopyItem", "CopyItem"]
    positions = [(part.at, part.length) for part in first]
    assert all(a + n == b for (a, n), (b, _) in pairwise(positions))


def test_chunks_that_are_the_same_are_copied(checkpoint, tmp_path):
    made = plan(resharded(Draft.of(checkpoint), 2), tmp_path / "out")
    assert made.counts.items_new == 0


def test_a_missing_file_is_told(checkpoint, source, tmp_path):
    (source / "__1_0.distcp").unlink()
    with open_checkpoint(source) as fresh, pytest.raises(MissingFile, match="__1_0"):
        plan(Draft.of(fresh), tmp_path / "out")


def test_a_cut_file_is_told(source, tmp_path):
    file = source / "__1_0.distcp"
    file.write_bytes(file.read_bytes()[:-1])
    with open_checkpoint(source) as fresh, pytest.raises(TruncatedFile):
        plan(Draft.of(fresh), tmp_path / "out")


def test_casts_that_make_no_sense_are_refused(checkpoint, tmp_path):
    draft = Draft.of(checkpoint)
    w = draft.entries["w"]
    assert isinstance(w, TensorDraft)
    cast = dataclasses.replace(w, dtype="qint8")
    with pytest.raises(Refused, match="qint8"):
        plan(draft.with_entries([cast], None), tmp_path / "out")


def test_in_place_rewrites_no_tensor(checkpoint, source, tmp_path):
    options = WriteOptions(in_place=True)
    with pytest.raises(Refused, match="rewritten"):
        plan(resharded(Draft.of(checkpoint), 2), source, options)
    with pytest.raises(Refused, match="no destination"):
        plan(Draft.of(checkpoint), tmp_path / "out", options)


def test_parts_become_one_directory_where_they_are_joined(tmp_path):
    save = tmp_path / "step-7"
    make(save / "model", {"model.w": (numbers(4), "float32", (1,))}, ranks=1)
    slots = {"optimizer.state.w.exp_avg": (numbers(4), "float32", (1,))}
    make(save / "optimizer", slots, {"optimizer.param_groups.0.lr": 1.0}, ranks=1)
    with open_checkpoint(save) as checkpoint:
        assert len(checkpoint.parts) == 2
        run(dataclasses.replace(Draft.of(checkpoint), joined=True), tmp_path / "out")
    assert_same(save, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [".metadata", "__0_0.distcp", "__0_1.distcp"]


def test_empty_chunks_stay(tmp_path):
    empty = np.zeros((0, 4), dtype="<f4")
    source = make(
        tmp_path / "s", {"e": (empty, "float32", (1, 1)), "w": (numbers(3), "float32", (1,))}
    )
    with open_checkpoint(source) as checkpoint:
        run(Draft.of(checkpoint), tmp_path / "a")
        run(resharded(Draft.of(checkpoint), 2), tmp_path / "b")
    assert_same(source, tmp_path / "a")
    assert_same(source, tmp_path / "b")
