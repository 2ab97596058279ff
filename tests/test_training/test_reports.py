"""What the coordinator makes of what the ranks ask for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.distributed.checkpoint.metadata import (  # noqa: E402
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)

from dcpctl.model.contract import Spec  # noqa: E402
from dcpctl.training.reports import (  # noqa: E402
    RankReport,
    Together,
    bits,
    checksum,
    clashes,
    roundings,
    shapes,
    together,
)
from dcpctl.training.stored import StoredKeys  # noqa: E402


def tensor(*shape: int) -> TensorStorageMetadata:
    size = torch.Size(shape)
    chunk = ChunkStorageMetadata(torch.Size([0] * len(shape)), size)
    return TensorStorageMetadata(TensorProperties(torch.float32), size, [chunk])


def stored(**entries: Any) -> StoredKeys:
    named = {key.replace("__", "."): value for key, value in entries.items()}
    return StoredKeys(Metadata(named, {key: tuple(key.split(".")) for key in named}))


KEYS = stored(
    model__w=tensor(4, 2),
    model__v=tensor(3),
    optimizer__state__w__exp_avg=tensor(4, 2),
    optimizer__state__v__exp_avg=tensor(3),
    step=BytesStorageMetadata(),
)
W, V, MOMENT_W, MOMENT_V, STEP = KEYS.entries
WHOLE = {W: {(0, 0, 4, 2)}, V: {(0, 3)}, MOMENT_W: {(0, 0, 4, 2)}, MOMENT_V: {(0, 3)}}


def joined(
    *ranks: Collection[str], ignore: Sequence[str] = (), read: Sequence[Any] | None = None
) -> Together:
    reports = [RankReport(bits(asked, KEYS), checksum(KEYS)) for asked in ranks]
    plans = [{fqn: WHOLE.get(fqn, set()) for fqn in asked} for asked in ranks]
    return together(reports, KEYS, ignore, lambda _: plans if read is None else read)


def test_bits_are_in_the_order_of_the_keys() -> None:
    assert bits([], KEYS) == 0
    assert bits([W], KEYS) == 1
    assert bits([STEP, V, "no such key"], KEYS) == 0b10010
    assert bits(KEYS.entries, KEYS) == 0b11111
    assert bits([], stored()) == 0


def test_what_one_rank_asks_for_is_asked_for() -> None:
    found = joined([W, MOMENT_W], [V, MOMENT_V], ignore=["st*"])
    assert found.loaded == (W, V, MOMENT_W, MOMENT_V)
    assert (found.skipped, found.ignored, found.torn) == ((), (STEP,), {})
    assert joined([W], []).skipped == (V, MOMENT_W, MOMENT_V, STEP)


def test_a_rank_that_loads_weights_alone() -> None:
    every = list(KEYS.entries)
    found = joined(every, [W, V, STEP], every)
    assert found.torn == {MOMENT_W: (1,), MOMENT_V: (1,)}
    assert joined(every, [W, V], every, ignore=["optimizer"]).torn == {}
    assert joined(every, [], [STEP]).torn == {}  # ranks that load nothing of it
    assert joined([W, V], [W, V]).torn == {}


def test_shards_that_nobody_reads() -> None:
    every = list(KEYS.entries)
    halves = [{W: {(0, 0, 2, 2)}, MOMENT_W: {(0, 0, 2, 2)}, V: {(0, 3)}, MOMENT_V: {(0, 3)}}, {}]
    assert joined(every, [STEP], read=halves).torn == {W: (1,), MOMENT_W: (1,)}
    both = [{W: {(0, 0, 2, 2)}}, {W: {(2, 0, 2, 2)}, **dict(list(WHOLE.items())[1:])}]
    assert joined([W, V], every, read=both).torn == {MOMENT_W: (0,), MOMENT_V: (0,)}


def test_ranks_with_metadata_of_their_own() -> None:
    other = RankReport(0b1, stored=checksum(KEYS) + 1, left=("of1",))
    mine = RankReport(0b11111, checksum(KEYS))
    found = together([mine, other], KEYS, (), lambda _: [{}, {}])
    assert (found.skipped, found.torn) == (("of1",), {})


def test_shapes_and_kinds() -> None:
    assert clashes({W: Spec((4, 2), "bfloat16")}, KEYS) == []  # another dtype is converted
    assert [one.fqn for one in roundings({W: Spec((4, 2), "bfloat16")}, KEYS)] == [W]
    # An object would take the place of the tensor, and ints cut floats.
    kinds = clashes({W: Spec((4, 2), "int64"), STEP: Spec((), "float32")}, KEYS)
    assert [one.fqn for one in kinds] == [W, STEP]
    assert not shapes(kinds)
    found = clashes({W: Spec((2, 4), "float32"), V: Spec(), "new": Spec((1,), "float32")}, KEYS)
    assert [clash.fqn for clash in found] == [W, V]
