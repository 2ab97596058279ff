"""Megatron-FSDP's `fsdp_dtensor`, whose names all begin with `module.` (ms-swift#9976)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dcpctl.model import rename_rules as rules
from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.drop import drop
from dcpctl.surgery.names.renamer import rename
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.upgrade.engine import upgrade
from tests.test_check.helpers import check

RUNS = ("run", "prun", "reset", "preset")


@pytest.fixture(scope="module")
def case(shared: Path) -> Path:
    return shared / "reports" / "mfsdp-fsdp-dtensor"


@pytest.fixture
def grouped(case: Path) -> Iterator[Draft]:
    """With `param_to_group_meta`, hyperparameters by the parameter's name."""
    with open_checkpoint(case / "prun" / "iter_0000200") as checkpoint:
        yield Draft.of(checkpoint)


@pytest.mark.parametrize("run", RUNS)
def test_its_own_prefix_is_no_wrapper(case: Path, run: str) -> None:
    path = case / run / "iter_0000200"
    assert check(path, "DCP403").findings == ()
    with open_checkpoint(path) as checkpoint:
        draft = Draft.of(checkpoint)
        made, steps = upgrade(draft, Upgrade("2.13"))
        assert OptimizerView(checkpoint).sections.model_of("optimizer").root == "model"
    assert set(draft.entries) <= set(made.entries)
    (told,) = [step for step in steps if step.name == "wrappers"]
    assert (told.changed, "begins with 'module.'" in told.note) == (0, True)


def test_whatever_names_a_parameter_is_renamed_together(grouped: Draft) -> None:
    rule = rules.prefix("model.module.decoder=model.module.encoder")
    made = rename(grouped, [rule]).draft
    assert not [fqn for fqn in made.entries if "decoder" in fqn]
    assert sum("param_to_group_meta" in fqn and "encoder" in fqn for fqn in made.entries) == sum(
        "param_to_group_meta" in fqn and "decoder" in fqn for fqn in grouped.entries
    )
    params = made.entries["optimizer.param_groups.0.params"].value  # type: ignore[union-attr]
    assert not [name for name in params if "decoder" in name]
    left = drop(grouped, ["model.module.decoder"], with_state=True).draft
    assert not [fqn for fqn in left.entries if "decoder" in fqn]


def test_the_prefix_goes_everywhere_where_that_is_asked_for(grouped: Draft) -> None:
    made, _ = upgrade(grouped, Upgrade("2.13", wrappers=True))
    assert not [fqn for fqn in made.entries if ".module." in fqn]
