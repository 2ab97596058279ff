"""A kind of source that nothing in dcpctl knows: it answers for itself and is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dcpctl import open_checkpoint
from dcpctl.errors import ChecksumMismatch, MissingFile
from dcpctl.model.draft import BytesDraft, Draft, TensorDraft
from dcpctl.model.entry import Point, TensorEntry
from dcpctl.model.source import Box, Fetch
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from tests.corruptors import flip_data
from tests.test_surgery import oracle
from tests.test_writing.building import grid, hashes, make, numbers, run


@dataclass(frozen=True)
class Mean:
    """The mean of two tensors of one shape, as a float32."""

    one: TensorEntry
    other: TensorEntry

    entry = None
    dtype = "float32"

    def boxes(self, starts: Point, stops: Point) -> Iterable[Box]:
        return ((self.one, starts, stops), (self.other, starts, stops))

    def read(self, starts: Point, stops: Point, dtype: str, fetch: Fetch) -> NDArray[Any]:
        a, b = (fetch(entry, starts, stops) for entry in (self.one, self.other))
        mean: NDArray[Any] = (a.astype(np.float32) + b.astype(np.float32)) / 2
        return mean


@dataclass(frozen=True)
class Product:
    """A value that is worked out when it is asked for."""

    one: int
    other: int

    entry = None

    @property
    def value(self) -> int:
        return self.one * self.other


ROWS, COLUMNS = 700, 500


@pytest.fixture
def source(tmp_path: Path) -> Path:
    count = ROWS * COLUMNS
    a = numbers(count).reshape(ROWS, COLUMNS)
    return make(
        tmp_path / "source",
        {"a": (a, "float32", (2, 1)), "b": (a[::-1].copy(), "float32", (1, 3))},
    )


def drafted(checkpoint: Any, **more: Any) -> Draft:
    one, other = checkpoint.entries["a"], checkpoint.entries["b"]
    draft = Draft.of(checkpoint)
    mean = TensorDraft("mean", one.shape, "float32", Mean(one, other))
    entries = [*draft.entries.values(), mean, BytesDraft("product", Product(6, 7))]
    for name, options in more.items():
        entries.append(TensorDraft(name, one.shape, source=Mean(one, other), **options))
    return draft.with_entries(entries, None)


def test_it_is_written_whole_cast_and_cut(source: Path, tmp_path: Path) -> None:
    before = hashes(source)
    shape = (ROWS, COLUMNS)
    with open_checkpoint(source) as checkpoint:
        draft = drafted(
            checkpoint,
            half={"dtype": "bfloat16"},
            cut={"dtype": "float32", "grid": grid(shape, (3, 2), 2)},
        )
        made = plan(draft, tmp_path / "made", WriteOptions())
        assert made.counts.added == ("mean", "product", "half", "cut")
        assert (made.counts.renamed, made.counts.cast, made.counts.removed) == ((), (), ())
        assert np.array_equal(draft.entries["mean"].numpy(), wanted(checkpoint))  # type: ignore[union-attr]
        run(draft, tmp_path / "made")
        with open_checkpoint(tmp_path / "made") as result:
            entries: Any = result.entries
            assert np.array_equal(entries["mean"].numpy(), wanted(checkpoint))
            assert np.array_equal(entries["cut"].numpy(), wanted(checkpoint))
            half = wanted(checkpoint).astype(entries["half"].numpy().dtype)
            assert np.array_equal(entries["half"].numpy(), half)
            assert entries["cut"].num_chunks == 6
            assert entries["product"].value == 42
            assert np.array_equal(entries["a"].numpy(), checkpoint.entries["a"].numpy())  # type: ignore[union-attr]
    assert hashes(source) == before


def wanted(checkpoint: Any) -> NDArray[Any]:
    a, b = (checkpoint.entries[name].numpy() for name in "ab")
    mean: NDArray[Any] = (a + b) / np.float32(2)
    return mean


@pytest.mark.torch
def test_torch_loads_it(source: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with open_checkpoint(source) as checkpoint:
        run(drafted(checkpoint), tmp_path / "made")
        found = {"mean": torch.zeros(ROWS, COLUMNS), "product": 0}
        oracle.load(found, tmp_path / "made")
        assert np.array_equal(found["mean"].numpy(), wanted(checkpoint))
    assert found["product"] == 42


def test_what_it_reads_is_checked_as_ever(source: Path, tmp_path: Path) -> None:
    flip_data(source, "b", row=1)
    with open_checkpoint(source) as checkpoint:
        draft = drafted(checkpoint)
        alone = draft.with_entries([draft.entries["mean"]], None)
        with pytest.raises(ChecksumMismatch):
            run(alone, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_files_that_it_reads_are_asked_for_first(source: Path, tmp_path: Path) -> None:
    (source / "__1_0.distcp").unlink()
    with open_checkpoint(source) as checkpoint:
        draft = drafted(checkpoint)
        alone = draft.with_entries([draft.entries["mean"]], None)
        with pytest.raises(MissingFile, match=r"__1_0\.distcp"):
            run(alone, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_in_place_it_is_a_new_item(source: Path) -> None:
    with open_checkpoint(source) as checkpoint:
        mean = wanted(checkpoint)
        run(drafted(checkpoint), source, in_place=True)
    with open_checkpoint(source) as result:
        assert np.array_equal(result.entries["mean"].numpy(), mean)  # type: ignore[union-attr]
