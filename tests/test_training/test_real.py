"""The planner on what torch releases really wrote: nothing is refused that asks for all."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed.checkpoint as dcp  # noqa: E402

from dcpctl.errors import Refused  # noqa: E402
from dcpctl.formats.pickles.standins import Opaque  # noqa: E402
from dcpctl.model.checkpoint import Checkpoint  # noqa: E402
from dcpctl.model.draft import Draft  # noqa: E402
from dcpctl.model.entry import TensorEntry  # noqa: E402
from dcpctl.model.opening import open_checkpoint  # noqa: E402
from dcpctl.model.optimizer.view import OptimizerView  # noqa: E402
from dcpctl.surgery.upgrade import Upgrade  # noqa: E402
from dcpctl.surgery.upgrade.engine import upgrade  # noqa: E402
from dcpctl.training import StrictLoadPlanner  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # torch's: one process, TypedStorage, ComplexHalf
]

CASES = {"fsdp2_list_bf16", "single_raw_osd_fp32", "optim_Adam", "wrapped_names_w4", "pp_like_w4"}


def nested(checkpoint: Checkpoint, *, optimizer: bool = True) -> dict[str, Any]:
    """The state dict that asks for all that a checkpoint has, or for all but the optimizer."""
    left_out = {fqn for raw in OptimizerView(checkpoint).optimizers for fqn in raw.fqns}
    state: dict[str, Any] = {}
    for fqn, entry in checkpoint.items():
        if not optimizer and fqn in left_out:
            continue
        if isinstance(entry, TensorEntry):
            value: Any = torch.zeros(entry.shape, dtype=getattr(torch, entry.dtype))
        else:
            value = None
        put(state, (checkpoint.planner_data or {}).get(fqn) or (fqn,), value)
    return state


def put(state: Any, path: tuple[Any, ...], value: Any) -> None:
    for key, after in itertools.pairwise(path):
        made: Any = [] if isinstance(after, int) else {}
        if isinstance(state, list):
            state.extend([None] * (key + 1 - len(state)))
            state[key] = made if state[key] is None else state[key]
        else:
            state.setdefault(key, made)
        state = state[key]
    if isinstance(state, list):
        state.extend([None] * (path[-1] + 1 - len(state)))
    state[path[-1]] = value


def failures(state: dict[str, Any], path: Path, **options: Any) -> str:
    try:
        dcp.load(state, checkpoint_id=path, planner=StrictLoadPlanner(**options))
    except dcp.CheckpointException as error:
        return str(error.failures[0][0])
    return ""


def checkpoints(shared: Path, release: str) -> list[Path]:
    """The DCP directories of a release that the running torch can read at all."""
    return sorted(path.parent for path in (shared / "checkpoints" / release).rglob(".metadata"))


def stock(state: dict[str, Any], path: Path) -> str:
    try:
        dcp.load(state, checkpoint_id=path)
    except dcp.CheckpointException as error:
        return str(error.failures[0][0])
    return ""


def both_ways(path: Path) -> bool:
    """Whether stock torch can load it at all; then the planner takes all of it, and no less."""
    with open_checkpoint(path) as checkpoint:
        unknown = [e for e in checkpoint.bytes_entries.values() if isinstance(e.value, Opaque)]
        if unknown or stock(nested(checkpoint), path):
            return False
        assert failures(nested(checkpoint), path) == "", path
        view = OptimizerView(checkpoint)
        model = nested(checkpoint, optimizer=False)
        if view.optimizers and model:
            told = failures(model, path)
            assert "the state dict has no optimizer" in told, path
            meant = [fqn for raw in view.optimizers for fqn in raw.fqns]
            assert failures(model, path, ignore=meant) == "", path
    return True


@pytest.mark.slow
@pytest.mark.parametrize("release", ["2.2.2", "2.6.0"])
def test_all_of_it_or_all_but_the_optimizer(shared: Path, release: str) -> None:
    found = [path for path in checkpoints(shared, release) if CASES & set(path.parts)]
    assert sum(map(both_ways, found)) >= 4


@pytest.mark.soak
@pytest.mark.parametrize("release", ["2.0.1", "2.2.2", "2.4.1", "2.6.0", "2.9.1", "2.13.0"])
def test_every_checkpoint(shared: Path, release: str) -> None:
    assert sum(map(both_ways, checkpoints(shared, release))) >= 35


def filled_like_upgrade(path: Path) -> int:
    """How many keys the planner fills, with the values that `dcpctl upgrade` gives them."""
    with open_checkpoint(path) as checkpoint:
        try:
            upgraded, _ = upgrade(Draft.of(checkpoint), Upgrade(torch="2.13"))
        except Refused:
            return 0
        new = [fqn for fqn in upgraded.entries if fqn not in checkpoint]
        if not new or not set(checkpoint) <= set(upgraded.entries):
            return 0  # names changed too, which no planner does
        if stock(nested(checkpoint), path):
            return 0

        def asked() -> dict[str, Any]:
            state = nested(checkpoint)
            for fqn in new:
                put(state, upgraded.planner_data[fqn], upgraded.entries[fqn].value)
            return state

        assert "StrictLoadPlanner(upgrade=True)" in failures(asked(), path), path
        state = asked()
        assert failures(state, path, upgrade=True) == "", path
        for fqn in new:
            value: Any = state
            for key in upgraded.planner_data[fqn]:
                value = value[key]
            assert value == upgraded.entries[fqn].value
        return len(new)


@pytest.mark.slow
def test_filled_as_upgrade_fills(shared: Path) -> None:
    for name in ("fsdp2_list_bf16", "optim_Adam", "fsdp2_flat_bf16"):
        found = [path for path in checkpoints(shared, "2.6.0") if name in path.parts]
        assert sum(map(filled_like_upgrade, found)) > 0, name


@pytest.mark.soak
@pytest.mark.parametrize("release", ["2.4.1", "2.6.0"])
def test_every_checkpoint_filled_as_upgrade_fills(shared: Path, release: str) -> None:
    assert sum(filled_like_upgrade(path) > 0 for path in checkpoints(shared, release)) >= 15
