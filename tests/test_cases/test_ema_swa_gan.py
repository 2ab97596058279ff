"""Two models with an optimizer each, and averages of a model beside it (pytorch#132068)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dcpctl.model import rename_rules as rules
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.drop import drop
from dcpctl.surgery.names.renamer import rename
from dcpctl.surgery.rename import Rename
from dcpctl.surgery.select import select
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.upgrade.engine import upgrade
from tests.test_check.helpers import check
from tests.test_diff.helpers import differ, made


@pytest.fixture(scope="module")
def case(shared: Path) -> Path:
    return shared / "reports" / "ema-swa-gan"


@pytest.fixture
def gan(case: Path) -> Iterator[Draft]:
    with open_checkpoint(case / "ck-gan") as checkpoint:
        yield Draft.of(checkpoint)


def pairs(checkpoint: Checkpoint | Draft) -> dict[str, str | None]:
    return {share.root: share.pairing.model for share in OptimizerView(checkpoint).shares}


def value(draft: Draft, fqn: str) -> object:
    return draft.entries[fqn].value  # type: ignore[union-attr]


GAN = {"optim_g": "generator", "optim_d": "discriminator"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ck-gan", GAN),
        ("ck-index", GAN),
        ("ck-warmup", GAN),
        ("ck-warmup-index", GAN),
        (
            "ck-gan2",
            {
                "generator.optimizer": "generator.model",
                "discriminator.optimizer": "discriminator.model",
            },
        ),
        ("roots/optG", {"optG": "netG", "optD": "netD"}),
        ("roots/optimizerG", {"optimizerG": "netG", "optimizerD": "netD"}),
        ("roots/gen_opt", {"gen_opt": "netG", "disc_opt": "netD"}),
        ("roots/nested", {"optimizers.gen": "models.gen", "optimizers.disc": "models.disc"}),
        ("roots/actor-critic", {"actor_optimizer": "actor", "critic_optimizer": "critic"}),
    ],
)
def test_each_optimizer_has_its_model(case: Path, name: str, found: dict[str, str]) -> None:
    with open_checkpoint(case / name) as checkpoint:
        assert pairs(checkpoint) == found


def test_rename_changes_the_optimizer_of_its_model_alone(gan: Draft) -> None:
    made = rename(gan, [rules.literal("generator.0=generator.in")]).draft
    assert value(made, "optim_g.param_groups.0.params") == [
        "in.weight",
        "in.bias",
        "2.weight",
        "2.bias",
    ]
    assert "optim_g.state.in.weight.exp_avg" in made.entries
    other = [fqn for fqn in gan.entries if fqn.startswith(("optim_d", "discriminator"))]
    assert [fqn for fqn in made.entries if fqn.startswith(("optim_d", "discriminator"))] == other
    assert made.entries["optim_d.param_groups.0.params"].untouched


def test_drop_and_select_take_the_state_of_their_model(gan: Draft) -> None:
    gone = set(gan.entries) - set(drop(gan, ["discriminator.2"], with_state=True).draft.entries)
    assert {fqn.partition(".")[0] for fqn in gone} == {"discriminator", "optim_d"}
    assert all(".2." in fqn for fqn in gone)
    kept = set(select(gan, ["generator"], with_state=True).draft.entries)
    assert {fqn.partition(".")[0] for fqn in kept} == {"generator", "optim_g"}
    assert kept == {f for f in gan.entries if f.startswith(("generator.", "optim_g."))}


def test_upgrade_names_parameters_within_their_model(case: Path) -> None:
    with open_checkpoint(case / "ck-index") as checkpoint:
        made, _ = upgrade(Draft.of(checkpoint), Upgrade("2.13", optimizer_keys="fqn"))
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert value(made, "optim_g.param_groups.0.params") == names
    assert value(made, "optim_d.param_groups.0.params") == names


def test_optimizers_at_different_steps_are_no_finding(case: Path) -> None:
    assert check(case / "ck-gan", "DCP505").findings == ()
    for name in ("ck-gan", "ck-gan2", "ck-index", "roots/optG", "roots/nested", "roots/gen_opt"):
        found = check(case / name).findings
        assert [finding.rule for finding in found] == [], name


def test_a_warm_up_is_told_by_optimizer(case: Path) -> None:
    with open_checkpoint(case / "ck-warmup") as checkpoint:
        view = OptimizerView(checkpoint)
        verdicts = {share.root: share.verdict for share in view.shares}
        assert (verdicts["optim_g"], view.steps) == ("complete", {2: 4})
    assert verdicts["optim_d"] != "complete" or view.with_status("never trained")


@pytest.mark.parametrize(
    ("name", "model", "copy"),
    [
        ("ck-ema", "model", "ema"),
        ("ck-ema2", "model", "ema_model"),
        ("ck-ema3", "app.net", "app.net_ema"),
    ],
)
def test_an_average_follows_its_model(case: Path, name: str, model: str, copy: str) -> None:
    with open_checkpoint(case / name) as checkpoint:
        draft = Draft.of(checkpoint)
        view = OptimizerView(draft)
        (found,) = view.sections.copies
        assert (found.root, found.of) == (copy, model)
        assert (view.frozen, view.tied, view.notes) == ((), {}, ())
        averaged = view.sections.members("ema")
    assert averaged == tuple(fqn for fqn in draft.entries if fqn.startswith(f"{copy}."))
    renamed = rename(draft, [rules.literal(f"{model}.l1=model_l1.in")], keys_only=True)
    assert renamed.draft.entries.keys() != draft.entries.keys()
    made = rename(draft, [rules.literal(f"{model}.l1={model}.inner")]).draft
    assert not [fqn for fqn in made.entries if ".l1." in fqn]
    assert sum(".inner." in fqn for fqn in made.entries) == 2 + 2 + 6
    alone = select(draft, section="model").draft
    assert all(fqn.startswith(f"{model}.") for fqn in alone.entries)
    left = drop(draft, [f"{model}.l2"], with_state=True).draft
    assert not [fqn for fqn in left.entries if ".l2." in fqn]


def test_a_rename_in_one_model_is_no_change_of_the_other(gan: Draft, tmp_path: Path) -> None:
    rule = rules.literal("generator.0=generator.in")
    renamed = made(gan.sources[0].path, tmp_path / "new", Rename((rule,)))
    found = differ(gan.sources[0].path, renamed)
    assert found.optimizer is not None
    assert len(found.optimizer.changes) == 1
    assert "discriminator" not in repr(found.optimizer.changes)


def test_a_module_without_state_is_named_with_its_model(case: Path) -> None:
    with open_checkpoint(case / "ck-warmup") as checkpoint:
        view = OptimizerView(checkpoint)
        why = {one.fqn: one.why for one in view.missing}
    assert why["discriminator.0.weight"] == "nothing in discriminator.0 has state"
