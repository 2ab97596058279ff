"""State dicts of small training jobs, in the styles that people save them in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.test_model.fakes import FakeCheckpoint, FakeTensor, from_state_dict, scalar, tensor

SHAPES = {
    "embed.weight": (16, 4),
    **{
        f"layers.{i}.{name}.weight": shape
        for i in range(2)
        for name, shape in {"wq": (4, 4), "wk": (4, 4), "w1": (8, 4), "norm": (4,)}.items()
    },
    "head.weight": (16, 4),
}
NAMES = tuple(SHAPES)
ADAM_ORDER = "lr betas eps weight_decay amsgrad maximize foreach capturable differentiable fused"
ADAMW_26_ORDER = ADAM_ORDER.replace("maximize foreach", "foreach maximize")
_VALUES: dict[str, Any] = {
    "lr": 1e-3,
    "betas": (0.9, 0.95),
    "eps": 1e-8,
    "weight_decay": 0.1,
    "foreach": None,
    "fused": None,
}

Slots = Callable[[str], dict[str, Any]]


def adamw(**changes: Any) -> dict[str, Any]:
    """A param group of torch 2.7 and later's AdamW."""
    return adam_keys(ADAM_ORDER, decoupled_weight_decay=True, **changes)


def adam_keys(order: str, **changes: Any) -> dict[str, Any]:
    return {key: _VALUES.get(key, False) for key in order.split()} | changes


def adam_state(name: str, step: float = 100) -> dict[str, Any]:
    shape = SHAPES[name]
    return {"step": scalar(step), "exp_avg": tensor(*shape), "exp_avg_sq": tensor(*shape)}


def model(names: Iterable[str] = NAMES) -> dict[str, FakeTensor]:
    return {"rope_inv_freq": tensor(2), **{name: tensor(*SHAPES[name]) for name in names}}


def nested(
    group: dict[str, Any], slots: Slots = adam_state, names: Iterable[str] = NAMES
) -> dict[str, Any]:
    """get_state_dict: keyed by name, one list of groups."""
    names = tuple(names)
    state = {name: slots(name) for name in names}
    return {"state": state, "param_groups": [{**group, "params": list(names)}]}


def flattened(
    group: dict[str, Any], slots: Slots = adam_state, names: Iterable[str] = NAMES
) -> dict[str, Any]:
    """get_state_dict with flatten_optimizer_state_dict."""
    flat = {f"state.{n}.{slot}": value for n in names for slot, value in slots(n).items()}
    return flat | {f"param_groups.{n}.{key}": v for n in names for key, v in group.items()}


def indexed(
    groups: list[tuple[dict[str, Any], list[str]]], slots: Slots = adam_state
) -> dict[str, Any]:
    """optimizer.state_dict(): parameters numbered group by group."""
    order = [name for _, names in groups for name in names]
    number = {name: index for index, name in enumerate(order)}
    return {
        "state": {str(number[name]): slots(name) for name in order},
        "param_groups": [
            {**values, "params": [number[name] for name in names]} for values, names in groups
        ],
    }


def job(optimizer: dict[str, Any], names: Iterable[str] = NAMES, **more: Any) -> FakeCheckpoint:
    return from_state_dict({"model": model(names), "optimizer": optimizer, **more})


def without(checkpoint: FakeCheckpoint, *parts: str, planner: bool = False) -> FakeCheckpoint:
    """Remove the entries whose FQNs contain one of `parts`; the planner data on request."""
    gone = [fqn for fqn in checkpoint.entries if any(part in fqn for part in parts)]
    assert gone
    for fqn in gone:
        del checkpoint.entries[fqn]
        if planner and checkpoint.planner_data is not None:
            del checkpoint.planner_data[fqn]
    return checkpoint
