from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import NothingSelected, Refused
from dcpctl.model.draft import Draft
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.select import Select, select
from tests.test_surgery import oracle


def value(draft: Draft, fqn: str) -> Any:
    entry: Any = draft.entries[fqn]
    return entry.value


def test_what_matches_stays(healthy: Draft) -> None:
    made = select(healthy, ["model.layers.0.*", "train_state"]).draft
    assert len(made.entries) == 11
    assert made.planner_data is not None
    assert set(made.planner_data) == set(made.entries)
    assert all(f.startswith(("model.layers.0.", "train_state.")) for f in made.entries)


@pytest.mark.parametrize(("section", "count"), [("model", 22), ("optimizer", 89)])
def test_a_section(healthy: Draft, section: str, count: int) -> None:
    assert len(select(healthy, section=section).draft.entries) == count


def test_with_state(healthy: Draft) -> None:
    made = select(healthy, ["model.layers.0"], with_state=True).draft
    view = OptimizerView(made)
    assert view.verdict == "complete"
    assert {p.name for p in view.parameters} == {
        fqn.removeprefix("model.") for fqn in made.entries if fqn.startswith("model.")
    }
    assert value(made, "optimizer.param_groups.1.lr") == value(
        healthy, "optimizer.param_groups.1.lr"
    )
    assert not any(fqn.startswith("lr_scheduler") for fqn in made.entries)


def test_refusals(healthy: Draft, samples: Path, opened: Callable[[Path], Draft]) -> None:
    with pytest.raises(NothingSelected, match="no key matches 'model\\.layer'") as caught:
        select(healthy, ["model.layer"])
    assert caught.value.hint is not None and "model.layers.0" in caught.value.hint
    with pytest.raises(Refused, match="by their positions"):
        select(opened(samples / "releases" / "2.1.2-optim_AdamW"), ["model.b"], with_state=True)


@pytest.mark.torch
def test_torch_loads_the_selection(samples: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = samples / "fsdp_tp_2x2"
    edit = Select(("*.wq.weight*", "model.norm.*"))
    found = oracle.by_torch(oracle.made(source, tmp_path / "made", edit))
    truth = oracle.truth(source)
    wanted = {f: h for f, h in truth.items() if ".wq.weight" in f or f == "model.norm.weight"}
    assert found == wanted and len(wanted) > 4
