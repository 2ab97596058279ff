"""Whatever names a parameter is renamed with it, or the rename is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import Refused
from dcpctl.formats.pickles.standins import Record
from dcpctl.model import rename_rules as rules
from dcpctl.model.draft import BytesDraft, Draft, TensorDraft
from dcpctl.model.source import NewValue
from dcpctl.surgery.drop import drop
from dcpctl.surgery.names.renamer import rename

RULE = rules.literal("model.layers.0=model.blocks.0")


def with_value(draft: Draft, fqn: str, value: Any) -> Draft:
    """The healthy sample with one more object."""
    planner = {**(draft.planner_data or {}), fqn: tuple(fqn.split(".", 1))}
    entries = [*draft.entries.values(), BytesDraft(fqn, NewValue(value))]
    return draft.with_entries(entries, planner)


def value_after(draft: Draft, fqn: str, *, keys_only: bool = False) -> Any:
    made = rename(draft, [RULE], keys_only=keys_only).draft
    entry = made.entries[fqn]
    assert isinstance(entry, BytesDraft)
    return entry.value


@pytest.mark.parametrize(
    ("value", "after"),
    [
        (["layers.0.attention.wq.weight", 3], ["blocks.0.attention.wq.weight", 3]),
        (("layers.0.attention.wq.weight",), ("blocks.0.attention.wq.weight",)),
        ({"layers.0.attention.wq.weight": 0.1}, {"blocks.0.attention.wq.weight": 0.1}),
        (
            {"a": [{"b": "layers.0.attention.wq.weight"}]},
            {"a": [{"b": "blocks.0.attention.wq.weight"}]},
        ),
        (["layers.0.attention.wq"], ["layers.0.attention.wq"]),
        ("layers", "layers"),
    ],
)
def test_names_in_a_jobs_own_values_follow(healthy: Draft, value: Any, after: Any) -> None:
    assert "model.layers.0.attention.wq.weight" in healthy.entries
    draft = with_value(healthy, "freeze.names", value)
    assert value_after(draft, "freeze.names") == after
    assert value_after(draft, "freeze.names", keys_only=True) == value


def test_names_in_objects_of_classes_are_refused(healthy: Draft) -> None:
    record = Record("job.Freeze", (), {"names": ["layers.0.attention.wq.weight"]})
    draft = with_value(healthy, "freeze.names", record)
    with pytest.raises(
        Refused, match=r"'freeze\.names' names the parameter 'layers\.0\.attention\.wq\.weight'"
    ):
        rename(draft, [RULE])


def test_keys_of_a_scheduler_that_are_parameters_follow(healthy: Draft) -> None:
    name = "layers.0.attention.wq.weight"
    fqn = f"lr_scheduler.by_parameter.{name}.lr"
    planner = {
        **(healthy.planner_data or {}),
        fqn: ("lr_scheduler", "by_parameter", name, "lr"),
    }
    draft = healthy.with_entries(
        [*healthy.entries.values(), BytesDraft(fqn, NewValue(0.1))], planner
    )
    made = rename(draft, [RULE]).draft
    moved = fqn.replace("layers", "blocks")
    assert moved in made.entries
    assert (made.planner_data or {})[moved][2] == name.replace("layers", "blocks")
    assert fqn not in drop(draft, [f"model.{name}"], with_state=True).draft.entries


def test_a_list_of_averages_is_not_renumbered(
    samples: Path, opened: Callable[[Path], Draft], healthy: Draft
) -> None:
    planner = dict(healthy.planner_data or {})
    entries = list(healthy.entries.values())
    model = [f for f in planner if f.startswith("model.") and f in healthy.entries]
    trained = [f for f in model if f"optimizer.state.{f[6:]}.exp_avg" in healthy.entries]
    for number, fqn in enumerate(trained):
        made = healthy.entries[f"optimizer.state.{fqn[6:]}.exp_avg"]
        assert isinstance(made, TensorDraft)
        key = f"ema.shadow_params.{number}"
        entries.append(TensorDraft(key, made.shape, made.dtype, made.source))
        planner[key] = ("ema", "shadow_params", number)
    draft = healthy.with_entries(entries, planner)
    with pytest.raises(Refused, match=r"'ema\.shadow_params' lists a copy"):
        drop(draft, ["model.layers.0"], with_state=True)
    gone = drop(draft, ["model.layers.0", "ema.shadow_params"], with_state=True).draft
    assert not [fqn for fqn in gone.entries if "layers.0" in fqn or "shadow" in fqn]
