"""Layouts, param groups, objects and pictures, each compared on checkpoints made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcpctl.diff.engine import layout_map
from dcpctl.diff.equality import equal_values, with_names
from dcpctl.diff.layout_map import drawing
from dcpctl.errors import NothingSelected
from dcpctl.formats.pickles.standins import DType, Opaque, Record
from dcpctl.model.opening import open_checkpoint
from dcpctl.reports.diff_objects import values_apart
from tests.test_diff.helpers import counted, differ
from tests.test_writing.building import make, numbers


def tensors(**parts: list[int]) -> dict[str, Any]:
    return {name: (numbers(*[8] * len(tiles)), "float32", tiles) for name, tiles in parts.items()}


def test_layouts_are_grouped_by_what_was_done_to_them(tmp_path: Path) -> None:
    a = make(tmp_path / "a", tensors(w=[2, 1], v=[2, 1], n=[1], s=[2]), ranks=2)
    b = make(tmp_path / "b", tensors(w=[2, 2], v=[1, 4], n=[1], s=[2]), ranks=4)
    found = differ(a, b)
    assert found.layout is not None and counted(found) == {"layout": 3}
    groups = {g.pairs[0][0]: (g.a, g.b, g.how) for g in found.layout.groups}
    assert groups == {
        "w": ("dim 0 over 2 ranks", "2-d 2x2, dims 0 and 1", "cut otherwise"),
        "v": ("dim 0 over 2 ranks", "dim 1 over 4 ranks", "cut otherwise"),
        "s": ("dim 0 over 2 ranks", "dim 0 over 2 ranks", "on other ranks"),
        "n": ("whole", "whole", "same"),
    }
    assert (found.layout.load_a.ranks, found.layout.load_b.ranks) == (2, 4)
    assert found.contents is not None
    assert not found.contents.different


def test_small_tensors_are_sharded_as_large_ones(tmp_path: Path) -> None:
    shards = {"w": (numbers(16, 2), "float32", [8, 1]), "n": (numbers(3), "float32", [3])}
    a = make(tmp_path / "a", shards, ranks=8)
    b = make(tmp_path / "b", {k: (v[0], v[1], [1] * v[0].ndim) for k, v in shards.items()})
    found = differ(a, b, layout=True)
    assert found.layout is not None
    (group,) = found.layout.groups
    assert (group.a, group.b, len(group.pairs)) == ("dim 0 over 8 ranks", "whole", 2)


def test_the_rank_of_a_whole_tensor_is_no_layout(tmp_path: Path) -> None:
    one = {"x": (numbers(4), "float32", [1]), "y": (numbers(4), "float32", [1])}
    a = make(tmp_path / "a", one)
    b = make(tmp_path / "b", dict(reversed(one.items())))
    assert differ(a, b).same


def test_stages_of_a_pipeline_are_a_layout(tmp_path: Path) -> None:
    def stages(order: str) -> dict[str, Any]:
        return {
            f"model.layers.{layer}.{name}": (numbers(4), "float32", [1])
            for name in order
            for layer in (0, 1)
        }

    a, b = make(tmp_path / "a", stages("wv")), make(tmp_path / "b", stages("wv"), ranks=1)
    found = differ(a, b, layout=True)
    assert found.layout is not None
    assert found.layout.a == "pipeline 2-way, whole tensors"
    assert [(g.how, len(g.pairs)) for g in found.layout.groups] == [
        ("on other ranks", 2),
        ("same", 2),
    ]


def test_pictures(tmp_path: Path) -> None:
    a = make(tmp_path / "a", tensors(**{"w": [2, 1], "x.n": [2], "c": [1, 1, 1]}), ranks=2)
    b = make(tmp_path / "b", tensors(**{"w": [2, 2], "x.m": [2], "c": [2, 2, 2]}), ranks=4)
    with open_checkpoint(a) as one, open_checkpoint(b) as other:
        assert drawing(layout_map(one, other, "w"), rows=4, columns=16) == [
            "0   +---------------+   +-------+-------+",
            "    |    rank 0     |   |rank 0 |rank 1 |",
            "4   +---------------+   +-------+-------+",
            "    |    rank 1     |   |rank 2 |rank 3 |",
            "8   +---------------+   +-------+-------+",
        ]
        renamed = layout_map(one, other, "x.m")
        assert renamed.a is not None and renamed.a.fqn == "x.n", "they are one tensor"
        assert drawing(layout_map(one, other, "c")) is None, "three dimensions are no picture"
        assert not layout_map(one, other, "w").same
        with pytest.raises(NothingSelected):
            layout_map(one, other, "y")


def test_objects_by_value(tmp_path: Path) -> None:
    values = {"a": 1, "b": [1.0, {"x": (2, None)}], "c": "text", "d": float("nan")}
    a = make(tmp_path / "a", {}, values)
    b = make(tmp_path / "b", {}, {**values, "a": True, "b": [1.0, {"x": (2, 3)}]})
    found = differ(a, b)
    assert counted(found) == {"objects": 2}
    assert found.objects is not None
    assert {change.fqn_a for change in found.objects.changed} == {"a", "b"}
    assert differ(a, b, ignore=("a", "b")).same


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (1, 1.0, False),
        (True, 1, False),
        (float("nan"), float("nan"), True),
        ((1, 2), [1, 2], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        (DType("float32"), DType("float32"), True),
        (Opaque("a.B"), Opaque("a.B"), None),
        (Opaque("a.B"), Opaque("a.C"), False),
        ([Opaque("a.B"), 1], [Opaque("a.B"), 2], False),
        (Record("a.B", {"x": 1}), Record("a.B", {"x": 1}), True),
        (Record("a.B", {"x": 1}), Record("a.B", {"x": 2}), False),
        (np.zeros(2), np.zeros(2), True),
        (np.zeros(2), np.zeros(2, np.float32), False),
    ],
)
def test_equal_values(a: Any, b: Any, equal: bool | None) -> None:
    assert equal_values(a, b) is equal
    assert equal_values(b, a) is equal


def test_names_in_values() -> None:
    names = {"a.w": "b.w", "0": "x", "c": "1"}
    groups = [{"params": ["a.w", "d", 0], "lr": 0.5, "names": ("c",)}]
    assert with_names(groups, names) == [{"params": ["b.w", "d", "x"], "lr": 0.5, "names": (1,)}]


@pytest.mark.parametrize(
    ("a", "b", "shown"),
    [
        (1, 2, ("1", "2")),
        (0.3, 0.30000000000000004, ("0.3", "0.30000000000000004")),
        (list(range(90)), [*range(89), 7], ("[89]: 89", "[89]: 7")),
        (list(range(90)), list(range(80)), ("90 items", "80 items")),
        ({"a": ["x" * 70], "b": 1}, {"a": ["x" * 70], "b": 2}, ("['b']: 1", "['b']: 2")),
    ],
)
def test_values_apart(a: Any, b: Any, shown: tuple[str, str]) -> None:
    assert values_apart(a, b) == shown


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("2.13.0/fsdp2_flat_fp32", "2.13.0/fsdp2_list_fp32"),
        ("2.13.0/single_raw_osd_fp32", "2.13.0/fsdp2_list_fp32"),
        ("2.13.0/single_raw_osd_fp32", "2.13.0/fsdp2_flat_fp32"),
        ("2.13.0/ddp_w4", "2.13.0/hsdp_2x2"),
    ],
)
def test_param_groups_pair_across_forms(shared: Path, a: str, b: str) -> None:
    found = differ(*(shared / "checkpoints" / name / "ckpt" for name in (a, b)), optimizer=True)
    assert found.optimizer is not None
    assert found.same, found.optimizer


def test_param_groups_and_steps(samples: Path) -> None:
    found = differ(samples / "healthy" / "step-8500", samples / "legacy", optimizer=True)
    assert found.optimizer is not None
    assert [(c.a, c.b) for c in found.optimizer.changes] == [(0, 0), (1, 1)]
    assert found.optimizer.steps == ({8500: 21}, {3: 21})
