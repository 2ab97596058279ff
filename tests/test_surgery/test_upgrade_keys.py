"""Upgrade, step param-group-keys: which keys, with which defaults, in every on-disk form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import Refused, UsageError
from dcpctl.model.draft import BytesDraft, Draft, TensorDraft
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.source import Fill, NewValue
from dcpctl.model.tree import leaves
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.upgrade.engine import StepReport, upgrade

Open = Callable[[Path], Draft]

ADAM: tuple[str, ...] = (
    *("lr", "betas", "eps", "weight_decay", "amsgrad"),
    *("maximize", "foreach", "capturable", "differentiable", "fused"),
)
ADAMW = (*ADAM[:5], "foreach", "maximize", *ADAM[7:])
#: Neither class has its keys in this order, as after a job that sorted them.
SORTED = tuple(sorted(ADAM))
KEY = "decoupled_weight_decay"


def group(order: tuple[str, ...], *params: Any, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(order)
    values.update(lr=0.1, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, amsgrad=False)
    return {**values, **more, "params": list(params)}


def draft_of(*groups: Mapping[str, Any], whole: bool = False) -> Draft:
    """A draft with nothing but param groups, opened as by 2.4 or whole as by 2.3."""
    value = {"optimizer": {"param_groups": list(groups)}}
    paths = dict([(("optimizer", "param_groups"), list(groups))] if whole else list(leaves(value)))
    planner = {".".join(map(str, path)): path for path in paths}
    entries = [BytesDraft(".".join(map(str, p)), NewValue(item)) for p, item in paths.items()]
    return Draft((), {}, None).with_entries(entries, planner)


def values(draft: Draft, beginning: str = "optimizer.param_groups.") -> dict[str, Any]:
    return {
        fqn.removeprefix(beginning): entry.value
        for fqn, entry in draft.entries.items()
        if isinstance(entry, BytesDraft) and fqn.startswith(beginning)
    }


def report(steps: list[StepReport], name: str = "param-group-keys") -> StepReport:
    return next(step for step in steps if step.name == name)


@pytest.mark.parametrize(("order", "default"), [(ADAM, False), (ADAMW, True)])
def test_the_order_of_the_keys_tells_adam_from_adamw(order: tuple[str, ...], default: bool) -> None:
    draft, steps = upgrade(draft_of(group(order, "w")), Upgrade("2.13"))
    assert values(draft)[f"0.{KEY}"] is default
    assert report(steps).changed == 1


def test_each_group_by_itself() -> None:
    draft, _ = upgrade(draft_of(group(ADAMW, "w"), group(ADAM, "b")), Upgrade("2.13"))
    found = values(draft)
    assert (found[f"0.{KEY}"], found[f"1.{KEY}"]) == (True, False)


def test_what_cannot_be_told_is_refused_and_told_by_the_user() -> None:
    torn = draft_of(group(SORTED, "w"), group(SORTED, "b"))
    with pytest.raises(Refused, match=r"group 0, 1 may be Adam or AdamW.*False for Adam") as error:
        upgrade(torn, Upgrade("2.13"))
    assert "--optimizer adamw" in str(error.value.hint)
    for named, default in (("adamw", True), ("Adam", False), ("torch.optim.AdamW", True)):
        draft, _ = upgrade(torn, Upgrade("2.13", optimizer=named))
        assert values(draft)[f"0.{KEY}"] is default
        assert values(draft)[f"1.{KEY}"] is default


def test_nothing_is_ambiguous_where_the_target_asks_for_nothing_new() -> None:
    torn = draft_of(group(SORTED, "w"))
    draft, steps = upgrade(torn, Upgrade("2.6"))
    assert list(draft.entries) == list(torn.entries)
    assert report(steps).changed == 0


def test_a_user_may_overrule_the_order_and_nothing_else() -> None:
    draft, _ = upgrade(draft_of(group(ADAM, "w")), Upgrade("2.13", optimizer="adamw"))
    assert values(draft)[f"0.{KEY}"] is True
    sgd = draft_of({"lr": 0.1, "momentum": 0.9, "dampening": 0, "params": ["w"]})
    with pytest.raises(Refused, match="no param group can be one of AdamW"):
        upgrade(sgd, Upgrade("2.13", optimizer="adamw"))
    told = draft_of(group(ADAM, "w", decoupled_weight_decay=False))
    with pytest.raises(Refused, match="no param group can be one of AdamW"):
        upgrade(told, Upgrade("2.13", optimizer="adamw"))


@pytest.mark.parametrize(
    "options",
    [
        Upgrade("2.13", optimizer="adamwww"),
        Upgrade("two"),
        Upgrade("1.12"),
        Upgrade("2.13", optimizer_keys="names"),
        Upgrade("2.13", fill_missing_state="ones"),
    ],
)
def test_unknown_choices(options: Upgrade) -> None:
    with pytest.raises(UsageError):
        upgrade(draft_of(group(ADAM, "w")), options)


def test_an_optimizer_that_the_target_does_not_have() -> None:
    with pytest.raises(Refused, match="has no Muon"):
        upgrade(draft_of(group(ADAM, "w")), Upgrade("2.8", optimizer="muon"))


def test_a_new_key_stands_where_the_optimizer_has_it() -> None:
    draft, _ = upgrade(draft_of(group(ADAMW[:-2], "w")), Upgrade("2.13", "adamw"))
    new = [name for name in draft.entries if name.startswith("optimizer.param_groups.0.")]
    keys = [name.rpartition(".")[2] for name in new]
    assert keys == [*ADAMW, KEY, "params"]
    assert list(draft.planner_data or {}) == list(draft.entries)
    assert (draft.planner_data or {})[f"optimizer.param_groups.0.{KEY}"] == (
        "optimizer",
        "param_groups",
        0,
        KEY,
    )


@pytest.mark.parametrize("stateless", [True, False])
def test_pickled_groups_of_an_old_target_stay_pickled(stateless: bool) -> None:
    """2.2 keeps `param_groups` whole, and all of an optimizer that holds no tensor."""
    source = draft_of(group(ADAMW[:-1], "w"), group(ADAMW[:-1], "b"), whole=True)
    if not stateless:
        fqn = "optimizer.state.w.exp_avg"
        state = TensorDraft(fqn, (2,), "float32", Fill(0.0))
        places = {fqn: ("optimizer", "state", "w", "exp_avg"), **(source.planner_data or {})}
        source = source.with_entries([state, *source.entries.values()], places)
    draft, steps = upgrade(source, Upgrade("2.2", optimizer="adamw"))
    *_, entry = draft.entries.values()
    assert isinstance(entry, BytesDraft)
    assert entry.fqn == ("optimizer" if stateless else "optimizer.param_groups")
    groups = entry.value["param_groups"] if stateless else entry.value
    assert [list(item) for item in groups] == [[*ADAMW, "params"]] * 2
    assert report(steps).changed == 2
    assert (entry.value["state"] == {}) if stateless else True
    *_, old = source.entries.values()
    assert isinstance(old, BytesDraft)
    assert list(old.value[0]) == [*ADAMW[:-1], "params"]


def test_keys_that_an_older_target_does_not_know_are_left_and_said() -> None:
    told = draft_of(group(ADAM, "w", decoupled_weight_decay=False))
    draft, steps = upgrade(told, Upgrade("2.4"))
    assert draft.entries.keys() == told.entries.keys()
    assert f"does not know {KEY}" in report(steps).note


def test_flattened_by_name(shared: Path, opened: Open) -> None:
    source = opened(shared / "checkpoints/2.4.1/fsdp2_flat_fp32/ckpt")
    draft, steps = upgrade(source, Upgrade("2.13"))
    new = draft.entries.keys() - source.entries.keys()
    params = {fqn.split(".exp_avg")[0] for fqn in source.entries if fqn.endswith(".exp_avg")}
    assert new == {f"{p.replace('.state.', '.param_groups.', 1)}.{KEY}" for p in params}
    assert report(steps).changed == len(new) == 21
    for fqn in new:
        path = (draft.planner_data or {})[fqn]
        assert path == ("optimizer", fqn.removeprefix("optimizer."))
        assert draft.entries[fqn].value is True  # type: ignore[union-attr]


def real(shared: Path, release: str) -> list[Path]:
    return sorted((shared / "checkpoints" / release).glob("optim_*"))


@pytest.mark.parametrize("release", ["2.0.1", "2.2.2", "2.4.1", "2.6.0", "2.9.1"])
@pytest.mark.parametrize("target", ["2.4", "2.7", "2.13", "2.15"])
def test_every_optimizer_gets_what_the_target_asks_for(
    shared: Path, opened: Open, release: str, target: str
) -> None:
    seen = 0
    for where in real(shared, release):
        draft, _ = upgrade(opened(where / "ckpt"), Upgrade(target))
        view = OptimizerView(draft)
        assert view.missing_group_keys(target) == [], where.name
        name = where.name.removeprefix("optim_").split("_")[0]
        wanted = catalogue().torch[name].keys_at(catalogue().release_for(target))
        for found in view.param_groups:
            assert set(wanted) <= set(found.values), where.name
        seen += 1
    assert seen > 10


def test_the_defaults_are_the_optimizers_own(torch: Any, shared: Path, opened: Open) -> None:
    """Against the torch that is installed: a new optimizer's groups, key by key."""
    release = ".".join(torch.__version__.split(".")[:2])
    weight = torch.nn.Parameter(torch.zeros(6, 4))
    compared = 0
    for where in real(shared, "2.0.1"):
        name = where.name.removeprefix("optim_").split("_")[0]
        draft, steps = upgrade(opened(where / "ckpt"), Upgrade(release))
        if not report(steps).changed:
            continue
        theirs = getattr(torch.optim, name)([weight], lr=0.1).state_dict()["param_groups"][0]
        source = OptimizerView(opened(where / "ckpt")).param_groups[0].values
        for key, value in OptimizerView(draft).param_groups[0].values.items():
            if key not in source:
                assert value == theirs[key], (name, key)
                compared += 1
        assert set(OptimizerView(draft).param_groups[0].values) == set(theirs) - {"params"}
    assert compared > 8
