"""Tensors of a subclass: kept whole by every edit, refused where they would be cut or changed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from dcpctl.errors import PackedItem, Refused
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.rename_rules import literal
from dcpctl.repair.engine import NothingToRepair, repair
from dcpctl.repair.options import RepairOptions
from dcpctl.surgery.cast import Cast
from dcpctl.surgery.drop import Drop
from dcpctl.surgery.rename import Rename
from dcpctl.surgery.reshard import Reshard
from dcpctl.surgery.set import Set, assignment
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.verbs import Verb
from tests.hostile.draft import Draft, healthy
from tests.test_check.helpers import check
from tests.test_diff.helpers import differ
from tests.test_formats.wrappers import plain, wrapper, wrapper_zip
from tests.test_surgery.oracle import made

KIND = "any.where.Packed"
SHAPE = (4, 64)


def packed_item(first: int = 0) -> bytes:
    """The item of a float32[4, 64] in 256 one-byte codes and two scales."""
    codes, scale = plain(SHAPE, "0", "ByteStorage"), plain((2,), "1", "FloatStorage")
    pickle = wrapper(KIND, SHAPE, codes=codes, scale=scale)
    numbers = bytes((first + n) % 256 for n in range(256))
    return wrapper_zip(pickle, numbers, b"\0\0\x80?" * 2).build()


def draft(*firsts: int) -> Draft:
    """The healthy draft, with a packed tensor of a chunk for each rank."""
    held = healthy()
    held.tensor("state.packed", (SHAPE[0] * len(firsts), SHAPE[1]), [SHAPE[0]] * len(firsts))
    for row, first in enumerate(firsts):
        held.replace_item("state.packed", packed_item(first), row)
    return held


@pytest.fixture
def source(tmp_path: Path) -> Path:
    draft(1, 2).write(tmp_path / "source")
    return tmp_path / "source"


def items(path: Path, fqn: str) -> list[bytes]:
    """The bytes of a tensor's items."""
    with open_checkpoint(path) as checkpoint:
        entry = checkpoint.tensors[fqn]
        assert {entry.packed(row) is not None for row in range(len(entry.chunks))} == {True}
        return [
            entry.storage_of(row).read(
                entry.chunk_source(row).file, entry.chunks[row].offset, entry.chunks[row].length
            )
            for row in range(len(entry.chunks))
        ]


@pytest.mark.parametrize(
    ("edit", "fqn"),
    [
        (Rename((literal("state.packed=state.other"),)), "state.other"),
        (Drop(("model.bias",)), "state.packed"),
        (Set((assignment("step=9"),)), "state.packed"),
        (Upgrade("2.13"), "state.packed"),
        (Reshard(2), "state.packed"),
    ],
    ids=["rename", "drop", "set", "upgrade", "reshard to as many ranks"],
)
def test_edits_keep_it_whole(source: Path, tmp_path: Path, edit: Verb, fqn: str) -> None:
    result = made(source, tmp_path / "result", edit)
    assert items(result, fqn) == [packed_item(1), packed_item(2)]
    assert {found.severity for found in check(result, "DCP3", verify_data=True).findings} <= {
        "info"
    }


def test_in_place(source: Path) -> None:
    made(source, source, Rename((literal("state.packed=state.other"),)))
    assert items(source, "state.other") == [packed_item(1), packed_item(2)]


@pytest.mark.parametrize(
    "edit", [Reshard(1), Cast("float64", ("state.*",))], ids=["reshard", "cast"]
)
def test_what_would_cut_or_change_it_refuses(source: Path, tmp_path: Path, edit: Verb) -> None:
    with pytest.raises(Refused, match=r"'state\.packed' \(Packed\)"):
        made(source, tmp_path / "result", edit)
    assert not (tmp_path / "result").exists()


def test_it_is_not_read_as_numbers(source: Path) -> None:
    with open_checkpoint(source) as checkpoint:
        with pytest.raises(PackedItem, match=f"class '{KIND}'"):
            checkpoint.tensors["state.packed"].numpy()
        held = checkpoint.packed
        assert {fqn: found.name for fqn, found in held.items()} == {"state.packed": "Packed"}


def test_diff_compares_what_is_stored(source: Path, tmp_path: Path) -> None:
    draft(1, 2).write(tmp_path / "same")
    draft(1, 3).write(tmp_path / "other")
    assert differ(source, tmp_path / "same", values=True).same
    (found,) = differ(source, tmp_path / "other", values=True).contents.different
    assert (found.a, found.unequal, found.max_abs) == ("state.packed", 256, None)
    assert differ(source, tmp_path / "same").contents.equal == 3
    (found,) = differ(source, tmp_path / "other").contents.different
    assert found.a == "state.packed"


def test_diff_of_packed_and_plain_says_so(source: Path, tmp_path: Path) -> None:
    held = healthy()
    held.tensor("state.packed", (8, 64), [4, 4])
    held.write(tmp_path / "plain")
    (lost,) = differ(source, tmp_path / "plain", values=True).contents.unread
    assert "packed on the other" in str(lost.failure)


def test_repair_finds_nothing_lost(source: Path) -> None:
    with ExitStack() as opened, pytest.raises(NothingToRepair):
        repair(source, None, RepairOptions(), opened)


def test_values_looks_at_the_tensors_inside(tmp_path: Path) -> None:
    held = draft(1)
    codes, scale = plain(SHAPE, "0", "ByteStorage"), plain((2,), "1", "FloatStorage")
    pickle = wrapper(KIND, SHAPE, codes=codes, scale=scale)
    nan = wrapper_zip(pickle, bytes(256), b"\0\0\xc0\x7f" * 2).build()
    held.replace_item("state.packed", nan)
    held.write(tmp_path / "nan")
    (found,) = check(tmp_path / "nan", "DCP307", values=True).findings
    assert (found.subject, found.message) == (
        "state.packed",
        "2 NaN and 0 infinities among 2 numbers",
    )


def test_torch_loads_what_was_renamed(torch: object, tmp_path: Path) -> None:
    import warnings

    import torch as t
    import torch.distributed.checkpoint as dcp
    from torch.testing._internal.two_tensor import TwoTensor

    warnings.simplefilter("ignore")
    held = TwoTensor(t.randn(4, 8), t.randn(4, 8))
    dcp.save({"old": held, "b": t.ones(3)}, checkpoint_id=tmp_path / "source", no_dist=True)
    result = made(tmp_path / "source", tmp_path / "result", Rename((literal("old=new"),)))
    asked = {"new": TwoTensor(t.zeros(4, 8), t.zeros(4, 8))}
    with t.serialization.safe_globals([TwoTensor]):
        dcp.load(asked, checkpoint_id=result, no_dist=True)
    assert t.equal(asked["new"].a, held.a)
    assert t.equal(asked["new"].b, held.b)
