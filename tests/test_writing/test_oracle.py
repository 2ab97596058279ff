"""Stock torch loads what was written, and finds what it finds in the source."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest

from dcpctl import open_checkpoint
from dcpctl.model.draft import Draft, TensorDraft
from dcpctl.model.source import Fill
from tests.test_writing.building import edited, resharded, run

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

SAMPLES = [
    "healthy/step-8500",
    "fsdp_tp_2x2",
    "zstd",
    "releases/2.0.1-optim_AdamW",
    "releases/2.2.2-optim_AdamW",
    "releases/2.4.1-optim_SGD_momentum",
    "releases/2.13.0-optim_Muon",
]
SHARED = ["dtensor_zoo", "hsdp_2x2", "uneven_w4", "extras_w4", "fsdp1_sharded_bf16", "pp_like_w4"]


def load(path: Path) -> dict[tuple[Any, ...], Any]:
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict_from_keys

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return flat(_load_state_dict_from_keys(checkpoint_id=path))


def flat(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        parts = list(enumerate(value))
    else:
        return {path: value}
    return {k: v for key, part in parts for k, v in flat(part, (*path, key)).items()}


def assert_equal(left: dict[tuple[Any, ...], Any], right: dict[tuple[Any, ...], Any]) -> None:
    import torch

    assert left.keys() == right.keys()
    for key, value in left.items():
        other = right[key]
        if not isinstance(value, torch.Tensor):
            assert repr(value) == repr(other), key
            continue
        assert (value.dtype, value.shape) == (other.dtype, other.shape), key
        first, second = (part.contiguous().reshape(-1).view(torch.uint8) for part in (value, other))
        assert torch.equal(first, second), key


@pytest.mark.parametrize("ranks", [None, 1, 3])
@pytest.mark.parametrize("name", SAMPLES)
def test_samples(samples: Path, name, ranks, tmp_path):
    check(samples / name, ranks, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [None, 3])
@pytest.mark.parametrize("name", SHARED)
def test_shared(shared: Path, name, ranks, tmp_path):
    check(shared / "checkpoints/2.13.0" / name / "ckpt", ranks, tmp_path)


def check(source: Path, ranks: int | None, place: Path) -> None:
    with open_checkpoint(source) as checkpoint:
        draft = Draft.of(checkpoint)
        run(draft if ranks is None else resharded(draft, ranks), place / "out")
    assert_equal(load(source), load(place / "out"))


def test_new_items(samples: Path, tmp_path):
    import torch

    with open_checkpoint(samples / "healthy/step-8500") as checkpoint:
        draft = edited(Draft.of(checkpoint), note={"a": (1, 2.5, None), "b": [True, "x"]})
        fill = TensorDraft("zeros", (3, 5), "bfloat16", Fill(-1.5))
        paths = {**(draft.planner_data or {}), "zeros": ("zeros",)}
        run(draft.with_entries([*draft.entries.values(), fill], paths), tmp_path / "out")
    found = load(tmp_path / "out")
    note = {key: value for key, value in found.items() if key[0] == "note"}
    assert note == {("note",): {"a": (1, 2.5, None), "b": [True, "x"]}} or note == flat(
        {"note": {"a": (1, 2.5, None), "b": [True, "x"]}}
    )
    assert torch.equal(found[("zeros",)], torch.full((3, 5), -1.5, dtype=torch.bfloat16))


def test_a_cast(samples: Path, tmp_path):
    import torch

    source = samples / "healthy/step-8500"
    with open_checkpoint(source) as checkpoint:
        draft = Draft.of(checkpoint)
        entries = [
            dataclasses.replace(entry, dtype="bfloat16")
            if isinstance(entry, TensorDraft) and entry.fqn.startswith("model.")
            else entry
            for entry in draft.entries.values()
        ]
        run(draft.with_entries(entries, draft.planner_data), tmp_path / "out")
    before = load(source)
    wanted = {
        key: value.to(torch.bfloat16) if key[0] == "model" else value
        for key, value in before.items()
    }
    assert_equal(wanted, load(tmp_path / "out"))
