"""What the tests of every family need: a check that answers with rules, and an AdamW draft."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

from dcpctl.check.engine import run_checks
from dcpctl.check.finding import CheckResult, Finding
from dcpctl.check.options import CheckOptions
from tests.hostile.draft import Draft, value_item
from tests.test_formats.archives import tensor_pickle, tensor_zip

#: What AdamW of 2.13 keeps in a group, `params` apart.
ADAMW = {
    "lr": 0.001,
    "betas": (0.9, 0.95),
    "eps": 1e-8,
    "weight_decay": 0.1,
    "amsgrad": False,
    "foreach": None,
    "maximize": False,
    "capturable": False,
    "differentiable": False,
    "fused": None,
    "decoupled_weight_decay": True,
}


def check(path: Path, *select: str, **options: Any) -> CheckResult:
    """Run some rules, with torch 2.13 as the target."""
    return run_checks(path, CheckOptions(select=select, **{"torch": "2.13", **options}))


def the(result: CheckResult) -> Finding:
    """The only finding."""
    assert len(result.findings) == 1, result.findings
    return result.findings[0]


def rules(result: CheckResult, *severities: str) -> set[str]:
    """Ids of the rules that found something (of these severities)."""
    return {f.rule for f in result.findings if not severities or f.severity in severities}


def skipped(result: CheckResult) -> dict[str, str]:
    """Why rules did not run."""
    return {item.rule: item.because for item in result.skipped}


def floats(*numbers: float) -> bytes:
    """Float32 numbers as they lie in a record."""
    return struct.pack(f"<{len(numbers)}f", *numbers)


def tensor_of(*numbers: float, shape: tuple[int, ...] | None = None) -> bytes:
    """The storage item of a float32 tensor of these numbers."""
    data = floats(*numbers)
    shape = (len(numbers),) if shape is None else shape
    return tensor_zip(tensor_pickle(shape, numel=len(numbers)), data).build()


def value_of(value: object) -> bytes:
    """The storage item of a bytes entry."""
    return value_item(pickle.dumps(value, 2))


def adamw(*names: str, step: float = 3.0, **group: object) -> Draft:
    """A model with a complete AdamW, flattened by name; `group` changes the hyperparameters."""
    draft = Draft()
    names = names or ("layers.0.weight", "layers.1.weight")
    for name in names:
        draft.tensor(f"model.{name}", (4,), [2, 2])
    for name in names:
        for slot in ("exp_avg", "exp_avg_sq"):
            draft.tensor(f"optimizer.state.{name}.{slot}", (4,), [2, 2])
        draft.tensor(f"optimizer.state.{name}.step", ())
        draft.replace_item(f"optimizer.state.{name}.step", tensor_of(step, shape=()))
        for key, value in {**ADAMW, **group}.items():
            draft.value(f"optimizer.param_groups.{name}.{key}", pickle.dumps(value, 2))
    return draft


def set_numbers(draft: Draft, fqn: str, *numbers: float) -> None:
    """Put other numbers into a (4,) tensor of two chunks."""
    draft.replace_item(fqn, tensor_of(*numbers[:2]), 0)
    draft.replace_item(fqn, tensor_of(*numbers[2:]), 1)


def forget(draft: Draft, fqn: str) -> None:
    """Take an entry out of the metadata; its bytes stay."""
    del draft.entries[fqn]
    for index in [index for index in draft.storage if index.fqn == fqn]:
        del draft.storage[index]
