"""diff is a metric: nothing differs from itself, and B from A as A from B."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcpctl.model.opening import open_checkpoint
from tests.test_diff.helpers import assert_mirrored, counted, differ
from tests.test_writing.building import make

SHARED = Path(__file__).resolve().parents[3] / "shared"
SAMPLES = Path(__file__).resolve().parents[2] / "sample_checkpoints"
#: Samples that no reader opens, or that have an item which cannot be read.
UNREADABLE = {"interrupted", "hostile"}


def samples() -> Iterator[Any]:
    for metadata in sorted(SAMPLES.rglob("*")):
        if metadata.name in (".metadata", "__0.metadata"):
            name = metadata.parent.relative_to(SAMPLES).as_posix()
            if name not in UNREADABLE:
                yield pytest.param(metadata.parent, id=name)


def real() -> list[Any]:
    found = sorted(SHARED.glob("checkpoints/*/*/ckpt"))
    return [pytest.param(path, id=f"{path.parents[1].name}-{path.parent.name}") for path in found]


@pytest.mark.parametrize("path", list(samples()))
def test_a_sample_does_not_differ_from_itself(path: Path) -> None:
    found = differ(path, path)
    assert found.same and not found.unread, counted(found)
    assert not found.pairing.changed
    assert found.contents is not None and not found.contents.unknown
    assert differ(path, path, values=True).same


@pytest.mark.parametrize("path", real()[::7])
def test_a_real_checkpoint_does_not_differ_from_itself(path: Path) -> None:
    assert differ(path, path).same


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("path", real())
def test_no_real_checkpoint_differs_from_itself(path: Path) -> None:
    for options in ({}, {"values": True}):
        found = differ(path, path, **options)
        assert found.same and not found.unread


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("release", sorted(p.name for p in SHARED.glob("checkpoints/*.*")))
def test_every_layout_mirrors_the_next(release: str) -> None:
    paths = sorted((SHARED / "checkpoints" / release).glob("*/ckpt"))
    for a, b in zip(paths, paths[1:] + paths[:1], strict=True):
        assert_mirrored(differ(a, b), differ(b, a))


PAIRS = [
    ("healthy/step-8500", "model_only/step-8500"),
    ("healthy/step-8500", "legacy"),
    ("healthy/step-8500", "fsdp_tp_2x2"),
    ("silent_reset/step-9000", "silent_reset/step-9500"),
    ("legacy", "releases/2.0.1-optim_AdamW"),
    ("releases/1.13.1-optim_AdamW", "releases/2.15.0-optim_AdamW"),
    ("zstd", "releases/2.13.0-hf_sharded"),
]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_samples_mirror_each_other(samples: Path, a: str, b: str) -> None:
    there, back = differ(samples / a, samples / b), differ(samples / b, samples / a)
    assert not there.same
    assert_mirrored(there, back)


NAMES = ("model.a.weight", "model.b.weight", "model.layers.0.w", "model.layers.1.w", "model.norm.w")
VALUES = st.one_of(st.integers(-3, 3), st.floats(-1, 1), st.booleans(), st.none(), st.text("ab"))


@st.composite
def contents(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors with their tiles, and values, for `building.make`."""
    tensors: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4)):
        shape = draw(st.sampled_from([(4, 4), (6,), (2, 3)]))
        parts = [draw(st.integers(1, min(3, size))) for size in shape]
        dtype = draw(st.sampled_from(["float32", "int32"]))
        numbers = np.full(shape, draw(st.integers(0, 2)), "<f4" if dtype == "float32" else "<i4")
        tensors[name] = (numbers, dtype, parts)
    values = draw(st.dictionaries(st.sampled_from(["step", "epoch", "note"]), VALUES, max_size=2))
    return tensors, values


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(one=contents(), other=contents())
def test_made_ones_mirror_each_other(
    tmp_path_factory: pytest.TempPathFactory, one: Any, other: Any
) -> None:
    place = tmp_path_factory.mktemp("made")
    a, b = make(place / "a", *one), make(place / "b", *other)
    for options in ({}, {"values": True}):
        there, back = differ(a, b, **options), differ(b, a, **options)
        assert_mirrored(there, back)
        assert differ(a, a, **options).same
        if there.same and not there.pairing.renamed:
            assert same_by_reading(a, b)


def same_by_reading(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same under the same keys."""
    with open_checkpoint(a) as one, open_checkpoint(b) as other:
        if set(one.entries) != set(other.entries):
            return False
        return all(
            np.array_equal(entry.numpy(), other[fqn].numpy())
            if entry.kind == "tensor"
            else entry.value == other[fqn].value
            for fqn, entry in one.entries.items()
        )
