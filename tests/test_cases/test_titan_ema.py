"""Averages in three forms beside a model, two of them at top level (torchtitan#3982, #3985)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.model import rename_rules as rules
from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.drop import drop
from dcpctl.surgery.names.renamer import rename
from dcpctl.surgery.select import select

#: Root of the average, and of the model that it averages.
FORMS = {"plain": ("ema.params", ""), "pseudo": ("ema", ""), "model_ema": ("model_ema", "model")}


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def case(shared: Path) -> Path:
    return shared / "reports" / "titan-ema"


def test_an_average_is_a_section_of_its_own(case: Path, form: str) -> None:
    root, of = FORMS[form]
    with open_checkpoint(case / form / "step-4") as checkpoint:
        view = OptimizerView(checkpoint)
        assert [(copy.root, copy.of) for copy in view.sections.copies] == [(root, of)]
        members = set(view.sections.members("ema"))
        assert members == {f for f in checkpoint if f.startswith((f"{root}.", "ema."))}
        assert [share.root for share in view.shares] == ["optimizer"]
        assert (view.verdict, view.tied) == ("complete", {})
        assert not [name for name in view.frozen if "ema" in name]


def test_it_follows_rename_drop_and_select(case: Path, form: str) -> None:
    _, of = FORMS[form]
    prefix = f"{of}." if of else ""
    with open_checkpoint(case / form / "step-4") as checkpoint:
        draft = Draft.of(checkpoint)
        rule = rules.literal(f"{prefix}layers.0={prefix}blocks.0")
        made = rename(draft, [rule]).draft
        gone = drop(draft, [f"{prefix}layers.0"], with_state=True).draft
        model = select(draft, section="model").draft
        layer = select(draft, [f"{prefix}layers.0"], with_state=True).draft
    assert not [fqn for fqn in made.entries if "layers.0" in fqn]
    assert len(made.entries) == len(draft.entries)
    assert not [fqn for fqn in gone.entries if "layers.0" in fqn]
    assert set(model.entries) == {
        f"{prefix}{name}"
        for name in (
            "expert_bias_E",
            "tok_embeddings.weight",
            "layers.0.weight",
            "layers.0.bias",
            "output.weight",
        )
    }
    averages = [fqn for fqn in layer.entries if "ema" in fqn]
    assert averages and not [fqn for fqn in averages if "output" in fqn]
