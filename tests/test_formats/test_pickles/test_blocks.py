"""Runs of records decoded as columns, against the plain machine and against what was pickled."""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcpctl.errors import DcpctlError
from dcpctl.formats.metadata import parse_metadata
from dcpctl.formats.pickles import policy, vm
from dcpctl.formats.pickles.blocks import ChunkBlock, StorageBlock, strip_frames
from dcpctl.formats.records import StoredBytes, StoredCheckpoint, StoredTensor
from tests.fuzz.targets import block_threshold, same
from tests.hostile import fake_torch as ft
from tests.hostile.block_cases import framed
from tests.hostile.draft import chunk

BOUNDED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
PLAIN, ALWAYS = 1 << 60, 64


def copied(text: str) -> str:
    """An equal string that is another object, so that it is pickled again."""
    return (text + "x")[:-1]


class Plan:
    """Metadata to pickle, drawn from `data`, and the truth about it."""

    def __init__(self, draw: Any) -> None:
        self.truth: dict[str, Any] = {}
        self.entries: dict[str, Any] = {}
        self.items: list[tuple[int, Any, Any]] = []
        self.shared_sizes = draw(st.booleans(), label="sizes shared with the index")
        self.fresh_text = draw(st.booleans(), label="texts spelled out each time")
        self.long_names = draw(st.booleans(), label="names of over 255 bytes")
        self.extra = draw(st.sampled_from([(), ("stream.zstd/1",)]), label="transforms")
        self.numbers = draw(
            st.sampled_from([10, 200, 70_000, 1 << 31, 1 << 40, (1 << 62) + 5]), label="offsets"
        )
        for number in range(draw(st.integers(1, 6), label="entries")):
            name = f"layers.{number}." + ("é" * 200 if self.long_names else "w")
            if draw(st.integers(0, 4), label="kind") == 0:
                self.value(name)
            else:
                self.tensor(name, draw(st.integers(0, 4)), draw(st.sampled_from([1, 2, 5, 25])))
        if draw(st.booleans(), label="rank by rank"):
            self.items.sort(key=lambda item: item[0])

    def text(self, text: str) -> str:
        return copied(text) if self.fresh_text else text

    def info(self, rank: int) -> tuple[Any, tuple[str, int, int]]:
        path, offset, length = f"__{rank}_0.distcp", self.numbers + 1000 * rank, self.numbers // 3
        made = ft.StorageInfo(relative_path=self.text(path), offset=offset, length=length)
        if self.extra:
            made.transform_descriptors = [self.text(name) for name in self.extra]
        return made, (path, offset, length)

    def value(self, name: str) -> None:
        made, self.truth[name] = self.info(3)
        self.entries[name] = ft.BytesStorageMetadata()
        self.items.append((3, ft.MetadataIndex(fqn=self.text(name), index=None), made))

    def tensor(self, name: str, dims: int, ranks: int) -> None:
        rows = []
        chunks = []
        for rank in range(ranks if dims else 1):
            offsets = (self.numbers + rank, *range(dims - 1))[:dims]
            sizes = (1, *[7] * (dims - 1))[:dims]
            part = chunk(offsets, sizes)
            made, where = self.info(rank)
            index = ft.MetadataIndex(
                fqn=self.text(name),
                index=rank,
                offset=part.offsets if self.shared_sizes else ft.Size(offsets),
            )
            chunks.append(part)
            rows.append((offsets, sizes, *where))
            self.items.append((rank, index, made))
        self.truth[name] = rows
        self.entries[name] = ft.TensorStorageMetadata(
            properties=ft.TensorProperties(dtype=ft.dtype("float32")),
            size=ft.Size((self.numbers + ranks, *[7] * (dims - 1))[:dims]),
            chunks=chunks,
        )

    def metadata(self) -> Any:
        return ft.Metadata(
            state_dict_metadata=self.entries,
            planner_data={name: (name,) for name in self.entries},
            storage_data={index: info for _, index, info in self.items},
        )


def parse(data: bytes, threshold: int) -> StoredCheckpoint:
    with block_threshold(threshold):
        return parse_metadata(data)


def described(stored: StoredCheckpoint) -> dict[str, Any]:
    """Entries in the form of `Plan.truth`."""
    found: dict[str, Any] = {}
    for name, entry in stored.entries.items():
        if isinstance(entry, StoredBytes):
            found[name] = (stored.files[entry.file], entry.offset, entry.length)
        else:
            found[name] = [
                (c.offsets, c.sizes, stored.files[c.file], c.offset, c.length) for c in entry.chunks
            ]
    return found


def dumps(metadata: Any, protocol: int, *, by_python: bool) -> bytes:
    if not by_python:
        return ft.dumps(metadata, protocol)
    out = io.BytesIO()
    with ft.as_torch():
        pickle._Pickler(out, protocol).dump(metadata)
    return out.getvalue()


@BOUNDED
@given(data=st.data(), protocol=st.integers(2, 5), by_python=st.booleans())
def test_both_ways_read_what_was_pickled(data: Any, protocol: int, by_python: bool) -> None:
    plan = Plan(data.draw)
    pickled = dumps(plan.metadata(), protocol, by_python=by_python)
    plain, blocks = parse(pickled, PLAIN), parse(pickled, ALWAYS)
    assert described(plain) == plan.truth
    assert described(blocks) == plan.truth
    assert same(plain, blocks)
    assert not blocks.orphans
    assert all(entry.transforms == plan.extra for entry in blocks.entries.values())


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("by_python", [False, True])
@pytest.mark.parametrize("rank_major", [False, True])
def test_more_records_than_a_batch(protocol: int, by_python: bool, rank_major: bool) -> None:
    """C's pickler starts a new batch after 1000 items, Python's in the same way."""
    plan = Plan(lambda strategy, label="": False if "shared" in label else 0)
    plan.entries.clear()
    plan.items.clear()
    plan.truth.clear()
    plan.extra, plan.numbers = (), 3
    plan.tensor("a", 2, 2503)
    plan.tensor("b", 1, 2503)
    plan.value("v")
    plan.tensor("c", 2, 999)
    if rank_major:
        plan.items.sort(key=lambda item: item[0])
    pickled = dumps(plan.metadata(), protocol, by_python=by_python)
    assert described(parse(pickled, ALWAYS)) == plan.truth
    assert described(parse(pickled, PLAIN)) == plan.truth


def run(rows: int = 400, **changes: Any) -> Any:
    """Metadata of one 2-d tensor in many chunks; `changes` replace the middle storage item's."""
    plan = Plan(lambda strategy, label="": 0)
    plan.entries.clear()
    plan.items.clear()
    plan.extra, plan.numbers = (), 3
    plan.tensor("a", 2, rows)
    plan.items[rows // 2][2].__dict__.update(changes)
    return plan.metadata()


def machine(metadata: Any) -> vm.Machine:
    with block_threshold(ALWAYS):
        made = vm.Machine(ft.dumps(metadata), policy.METADATA, "test", None)
        made.root = made.run()  # type: ignore[attr-defined]
    return made


def test_a_run_is_decoded_as_columns() -> None:
    """Only some of the first records of each form are built one by one."""
    root = machine(run()).root  # type: ignore[attr-defined]
    chunks = root.fields["state_dict_metadata"]["a"].fields["chunks"]
    blocks = [part for part in chunks if isinstance(part, ChunkBlock)]
    assert sum(len(block.offsets) for block in blocks) > 300
    items = [v for v in root.fields["storage_data"].values() if isinstance(v, StorageBlock)]
    assert sum(len(block.fqn) for block in items) > 300


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": 1 << 63},
        {"offset": -(1 << 63) - 1},
        {"offset": 1.5},
        {"offset": True},
        {"length": None},
        {"length": 1 << 200},
        {"relative_path": 7},
        {"relative_path": b"__0_0.distcp"},
        {"transform_descriptors": 7},
        {"transform_descriptors": [7]},
        {"transform_descriptors": [ft._Layout()]},
        {"relative_path": ft._Layout()},
        {"transform_descriptors": ["stream.zstd/1", "stream.zstd/1"]},
        {"more": "fields"},
        {"offset": (1 << 63) - 1},
        {"offset": -(1 << 63)},
        {"relative_path": "a\udcff"},
        {"relative_path": "x" * 70_000},
        {"relative_path": ""},
    ],
    ids=lambda changes: repr(changes)[:40],
)
def test_one_odd_item_among_many(changes: dict[str, Any]) -> None:
    """Both ways refuse it, or both read the same."""
    pickled = ft.dumps(run(**changes))
    found: list[Any] = []
    for threshold in (PLAIN, ALWAYS):
        try:
            found.append(parse(pickled, threshold))
        except DcpctlError as error:
            found.append(error.id)
    if any(isinstance(each, str) for each in found):
        assert all(isinstance(each, str) for each in found)
    else:
        assert same(*found)


def test_a_layout_is_no_path_of_many_items_either() -> None:
    """Its stand-in is a string, which the columns must not take for one."""
    plan = Plan(lambda strategy, label="": 0)
    plan.entries.clear()
    plan.items.clear()
    plan.extra, plan.numbers = (), 3
    plan.tensor("a", 2, 400)
    layout = ft._Layout()
    for item in plan.items:
        item[2].relative_path = layout
    pickled = ft.dumps(plan.metadata())
    for threshold in (PLAIN, ALWAYS):
        with pytest.raises(DcpctlError, match="without FQN or relative_path"):
            parse(pickled, threshold)


@pytest.mark.parametrize(
    ("offsets", "sizes"),
    [
        ((1 << 63, 0), (1, 7)),
        ((0.5, 0), (1, 7)),
        ((True, 0), (1, 7)),
        ((0,), (1,)),
        ((0, 0, 0), (1, 7, 1)),
        ((), ()),
        ((0,), (1, 7)),
        (("a", 0), (1, 7)),
        ((-5, -(1 << 62)), (-1, 7)),
        ((1 << 62, 255), (65_535, 1 << 31)),
    ],
)
def test_one_odd_chunk_among_many(offsets: Any, sizes: Any) -> None:
    metadata = run()
    metadata.state_dict_metadata["a"].chunks[200] = chunk(offsets, sizes)
    pickled = ft.dumps(metadata)
    found: list[Any] = []
    for threshold in (PLAIN, ALWAYS):
        try:
            found.append(parse(pickled, threshold))
        except DcpctlError as error:
            found.append(error.id)
    if any(isinstance(each, str) for each in found):
        assert all(isinstance(each, str) for each in found)
    else:
        assert same(*found)


def test_a_real_size_uses_blocks_by_default() -> None:
    pickled = ft.dumps(run(6000))
    assert len(pickled) > vm._BLOCK_THRESHOLD
    stored = parse_metadata(pickled)
    entry = stored.entries["a"]
    assert isinstance(entry, StoredTensor)
    assert entry.chunks.offsets[:, 0].tolist() == list(range(3, 6003))
    assert entry.chunks.length.tolist() == [1] * 6000


def test_frames_are_stripped() -> None:
    value = ["x" * 100] * 5 + [str(n) * 50 for n in range(5000)]
    framed = pickle.dumps(value, 4)
    found = strip_frames(framed)
    assert found is not None
    stripped, ends = found
    assert pickle.loads(stripped) == value
    assert len(framed) - len(stripped) == 9 * len(ends)
    assert ends[-1] == len(stripped)


@pytest.mark.parametrize("protocol", range(6))
def test_frames_that_do_not_add_up_are_left(protocol: int) -> None:
    data = pickle.dumps(["text"], protocol)
    assert (strip_frames(data) is None) is (protocol < 4)
    assert strip_frames(data + b"rest") is None
    assert strip_frames(b"\x80\x04\x95" + b"\xff" * 8) is None


def test_a_storage_item_under_a_key_that_is_no_record() -> None:
    """Found by fuzzing: the learner took a tuple of the key and its state for a record."""
    stripped = strip_frames(ft.dumps(run(20)))
    assert stripped is not None
    data = stripped[0]
    builds = [at for code, _, at in pickletools.genops(data) if code.name == "BUILD"]
    spoilt = framed(data[: builds[-19]] + b"\x86" + data[builds[-19] + 1 :])
    for threshold in (PLAIN, ALWAYS):
        with pytest.raises(DcpctlError):
            parse(spoilt, threshold)
