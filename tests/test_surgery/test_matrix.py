"""Every real checkpoint through every verb, with torch as the oracle.

What a verb must not change is compared bit for bit with what the releases themselves recorded when
they saved; what it does change is said here once more, in other words than the code's.
"""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import NothingSelected
from dcpctl.formats.dtypes import info
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.rename_rules import prefix
from dcpctl.surgery.cast import Cast
from dcpctl.surgery.drop import Drop
from dcpctl.surgery.rename import Rename
from dcpctl.surgery.reshard import Reshard
from dcpctl.surgery.select import Select
from dcpctl.surgery.set import Set, assignment
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.verbs import Verb
from tests.test_surgery import oracle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),  # torch's, on one process, TypedStorage and ComplexHalf
]

RELEASES = ("2.0.1", "2.2.2", "2.4.1", "2.6.0", "2.9.1", "2.13.0")
#: The same model and optimizer, saved in ways that give the same keys, on other ranks.
LAYOUTS = ("fsdp1_get_state_dict", "fsdp2_list_fp32", "fsdp_tp_2x2", "hsdp_2x2", "single_gsd_list")
FLAT_LAYOUTS = ("fsdp2_flat_fp32", "single_gsd_flat")
_WRAPPERS = re.compile(r"\b(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|module)\.")


@pytest.fixture(autouse=True)
def _torch(torch: Any) -> None:
    """All of these need it."""


# -- comparison ------------------------------------------------------------------------------------


def checkpoints(shared: Path, release: str) -> Iterator[Path]:
    """All that a release wrote."""
    found = sorted((shared / "checkpoints" / release).glob("*/ckpt"))
    assert len(found) > 40
    yield from found


def tensors(truth: oracle.Truth) -> oracle.Truth:
    """Only the tensors of a truth: dtype, shape, SHA-256."""
    return {fqn: value for fqn, value in truth.items() if _is_tensor(value)}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and len(str(value[2])) == 64


def values(truth: oracle.Truth) -> dict[str, str]:
    """Only the objects, as text, which is exact for what checkpoints hold."""
    return {fqn: repr(value) for fqn, value in truth.items() if not _is_tensor(value)}


@functools.cache
def stored_truth(checkpoint: Path) -> oracle.Truth:
    """What was in memory when it was saved, of all that the checkpoint holds.

    Up to 2.3 ranks other than the coordinator lost what only they had.
    """
    with open_checkpoint(checkpoint) as opened:
        held = set(opened.entries)
    return {fqn: value for fqn, value in oracle.truth(checkpoint).items() if fqn in held}


@functools.cache
def by_torch(checkpoint: Path) -> oracle.Truth | None:
    """What torch reads; None for the forms that torch itself has no reader of."""
    special = ("no_collectives", "safetensors_format")
    name = checkpoint.parent.name
    return None if name in special or name.startswith("hf_") else oracle.by_torch(checkpoint)


def digests(checkpoint: Path) -> dict[str, str]:
    """Relative path -> SHA-256, of every file."""
    return {
        str(path.relative_to(checkpoint)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file()
    }


@functools.cache
def as_it_was(checkpoint: Path) -> dict[str, str]:
    """`digests` of a source before any verb saw it."""
    return digests(checkpoint)


def every(
    shared: Path,
    release: str,
    target: Path,
    edit: Callable[[Path], Verb | None],
    check: Callable[[Path, oracle.Truth, oracle.Truth, oracle.Truth | None], None],
) -> None:
    """Apply an edit to each checkpoint and check the result.

    `check` gets the checkpoint, what torch reads of the result, what was saved, and what torch
    reads of the checkpoint.
    """
    made = 0
    for checkpoint in checkpoints(shared, release):
        chosen = edit(checkpoint)
        if chosen is None:
            continue
        as_it_was(checkpoint)
        result = target / checkpoint.parent.name
        try:
            oracle.made(checkpoint, result, chosen)
        except NothingSelected:
            continue
        check(checkpoint, oracle.by_torch(result), stored_truth(checkpoint), by_torch(checkpoint))
        assert digests(checkpoint) == as_it_was(checkpoint), checkpoint
        shutil.rmtree(result)
        made += 1
    assert made > 15


def unchanged(
    checkpoint: Path, found: oracle.Truth, saved: oracle.Truth, read: oracle.Truth | None
) -> None:
    """All keys, all numbers, all values."""
    assert tensors(found) == tensors(saved), checkpoint
    assert set(found) == set(saved) | set(read or {}), checkpoint
    if read is not None:
        assert values(found) == values(read), checkpoint


# -- every checkpoint, every verb ------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_reshard(shared: Path, tmp_path: Path, release: str) -> None:
    every(shared, release, tmp_path, lambda _: Reshard(world_size=3), unchanged)


def test_reshard_to_a_mesh(shared: Path, tmp_path: Path) -> None:
    every(shared, "2.13.0", tmp_path, lambda _: Reshard(mesh={"fsdp": 2, "tp": 2}), unchanged)


@pytest.mark.parametrize("release", ["2.0.1", "2.4.1", "2.13.0"])
def test_upgrade(shared: Path, tmp_path: Path, release: str) -> None:
    def check(
        checkpoint: Path, found: oracle.Truth, saved: oracle.Truth, read: oracle.Truth | None
    ) -> None:
        # A wrapper's name that every key has stays: which names go, test_upgrade_names says.
        kept = {_plain_name(fqn): value for fqn, value in tensors(saved).items()}
        made = {_plain_name(fqn): value for fqn, value in tensors(found).items()}
        # `step` may become a tensor, and what was pickled may be flattened: added, never changed.
        assert kept.items() <= made.items(), checkpoint
        old = {_plain_name(fqn): _plain_name(text) for fqn, text in values(read or {}).items()}
        new = {_plain_name(fqn): _plain_name(text) for fqn, text in values(found).items()}
        for fqn in old.keys() & new.keys():
            assert new[fqn] == old[fqn], (checkpoint, fqn)

    every(shared, release, tmp_path, _upgrade, check)


def _upgrade(checkpoint: Path) -> Verb | None:
    import torch

    with open_checkpoint(checkpoint) as opened:
        has_optimizer = any(fqn.split(".")[0] == "optimizer" for fqn in opened.entries)
    named = checkpoint.with_name("expected.json").read_text()
    optimizer = re.search(r'"optimizer_type": "(\w+)"', named)
    known = optimizer and hasattr(torch.optim, optimizer[1]) and has_optimizer
    return Upgrade(torch="2.13", optimizer=optimizer[1].lower() if optimizer and known else None)


def _plain_name(name: str) -> str:
    return _WRAPPERS.sub("", name)


@pytest.mark.parametrize("release", ["2.0.1", "2.13.0"])
def test_rename(shared: Path, tmp_path: Path, release: str) -> None:
    def check(
        checkpoint: Path, found: oracle.Truth, saved: oracle.Truth, read: oracle.Truth | None
    ) -> None:
        swapped = {re.sub(r"\bmodel\.", "net.", fqn): v for fqn, v in tensors(saved).items()}
        assert tensors(found) == swapped, checkpoint

    def edit(checkpoint: Path) -> Verb:
        return Rename((prefix("model.=net."),), keys_only=True)

    every(shared, release, tmp_path, edit, check)


@pytest.mark.parametrize("release", ["2.2.2", "2.13.0"])
def test_drop_and_select_part_a_checkpoint(shared: Path, tmp_path: Path, release: str) -> None:
    def is_optimizer(fqn: str) -> bool:
        return fqn.split(".")[0] == "optimizer"

    def dropped(
        checkpoint: Path, found: oracle.Truth, saved: oracle.Truth, read: oracle.Truth | None
    ) -> None:
        rest = {fqn: v for fqn, v in tensors(saved).items() if not is_optimizer(fqn)}
        assert tensors(found) == rest, checkpoint
        assert not any(map(is_optimizer, found)), checkpoint

    def selected(
        checkpoint: Path, found: oracle.Truth, saved: oracle.Truth, read: oracle.Truth | None
    ) -> None:
        chosen = {fqn: v for fqn, v in tensors(saved).items() if is_optimizer(fqn)}
        assert tensors(found) == chosen, checkpoint
        assert all(map(is_optimizer, found)), checkpoint

    globs = ("optimizer*",)
    every(shared, release, tmp_path / "dropped", lambda _: Drop(globs), dropped)
    every(shared, release, tmp_path / "selected", lambda _: Select(globs), selected)


def test_set(shared: Path, tmp_path: Path) -> None:
    def check(
        checkpoint: Path, found: oracle.Truth, saved: oracle.Truth, read: oracle.Truth | None
    ) -> None:
        assert read is not None
        rates = {fqn for fqn in found if fqn.endswith(".lr") and not _is_tensor(found[fqn])}
        assert all(found[fqn] == 0.125 for fqn in rates), checkpoint
        same = set(found) - rates - {fqn for fqn in found if fqn.endswith("lr")}
        assert {f: repr(found[f]) for f in same} == {f: repr(read[f]) for f in same}, checkpoint

    def edit(checkpoint: Path) -> Verb | None:
        if by_torch(checkpoint) is None:
            return None
        return Set((assignment("lr=0.125"),))

    every(shared, "2.13.0", tmp_path, edit, check)


def test_cast(shared: Path, tmp_path: Path) -> None:
    import torch

    def check(
        checkpoint: Path, found: oracle.Truth, saved: oracle.Truth, read: oracle.Truth | None
    ) -> None:
        state = {fqn for fqn in tensors(saved) if not fqn.startswith("model.")}
        assert {fqn: found[fqn] for fqn in state} == {fqn: saved[fqn] for fqn in state}, checkpoint
        for fqn in tensors(saved).keys() - state:
            dtype, shape, _ = saved[fqn]
            cast = info(dtype).kind == "float"
            assert found[fqn][:2] == ("bfloat16" if cast else dtype, shape), (checkpoint, fqn)

    edit = Cast("bfloat16", ("model.*",), allow_lossy=True)
    every(shared, "2.13.0", tmp_path / "every", lambda _: edit, check)
    source = shared / "checkpoints" / "2.13.0" / "fsdp2_list_fp32" / "ckpt"
    found = oracle.by_torch(oracle.made(source, tmp_path / "result", edit))
    with open_checkpoint(source) as opened:
        for fqn, entry in opened.tensors.items():
            if fqn.startswith("model."):
                assert found[fqn] == oracle.describe(entry.torch().to(torch.bfloat16)), fqn


# -- every layout to every other -------------------------------------------------------------------


def _pairs() -> Iterator[tuple[str, str]]:
    for group in (LAYOUTS, FLAT_LAYOUTS):
        yield from ((one, other) for one in group for other in group)


@pytest.mark.parametrize(("source", "target"), list(_pairs()))
def test_every_layout_becomes_every_other(
    shared: Path, tmp_path: Path, source: str, target: str
) -> None:
    of, like = (shared / "checkpoints" / "2.13.0" / name / "ckpt" for name in (source, target))
    result = oracle.made(of, tmp_path / "result", Reshard(like=like))
    unchanged(of, oracle.by_torch(result), stored_truth(of), by_torch(of))
    with open_checkpoint(result) as found, open_checkpoint(like) as other:
        for fqn, entry in other.tensors.items():
            assert _chunks(found.tensors[fqn]) == _chunks(entry), fqn
    # There and back through a layout that is neither's gives the same files, byte for byte.
    between = oracle.made(result, tmp_path / "between", Reshard(mesh={"fsdp": 3, "tp": 2}))
    again = oracle.made(between, tmp_path / "again", Reshard(like=like))
    assert digests(again) == digests(result)
    directly = oracle.made(of, tmp_path / "directly", Reshard(mesh={"fsdp": 3, "tp": 2}))
    assert digests(directly) == digests(between)


def _chunks(entry: Any) -> list[tuple[Any, ...]]:
    return sorted((chunk.offsets, chunk.sizes) for chunk in entry.chunks)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 64])
@pytest.mark.parametrize(
    "name", ["uneven_w4", "dtensor_zoo", "lr_tensor", "zstd", "no_collectives"]
)
def test_odd_shapes_on_any_number_of_ranks(
    shared: Path, tmp_path: Path, name: str, size: int
) -> None:
    source = shared / "checkpoints" / "2.13.0" / name / "ckpt"
    result = oracle.made(source, tmp_path / "result", Reshard(world_size=size))
    unchanged(source, oracle.by_torch(result), stored_truth(source), by_torch(source))
    files = {path.name for path in result.iterdir()}
    assert files <= {".metadata", *(f"__{rank}_0.distcp" for rank in range(size))}


@pytest.mark.parametrize("release", RELEASES)
def test_the_same_command_gives_the_same_bytes(shared: Path, tmp_path: Path, release: str) -> None:
    source = shared / "checkpoints" / release / "fsdp1_uneven_fp32" / "ckpt"
    edits = (Upgrade(torch="2.13", optimizer="adamw"), Reshard(world_size=3))
    one = oracle.made(source, tmp_path / "one", *edits)
    other = oracle.made(source, tmp_path / "other", *edits)
    assert digests(one) == digests(other)
