"""What a surgery did is what diff says of its source and its result, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dcpctl import torch_bridge
from dcpctl.cli.app import app
from dcpctl.diff.difference import Difference
from dcpctl.model import rename_rules as rules
from dcpctl.reports.diff_keys import command_of
from dcpctl.surgery.cast import Cast
from dcpctl.surgery.drop import Drop
from dcpctl.surgery.merge import Merge
from dcpctl.surgery.rename import Rename
from dcpctl.surgery.reshard import Reshard
from dcpctl.surgery.select import Select
from dcpctl.surgery.set import Set, assignment
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.verbs import Verb
from tests.test_diff.helpers import assert_mirrored, counted, differ, made


@pytest.fixture
def healthy(samples: Path) -> Path:
    return samples / "healthy" / "step-8500"


def after(source: Path, tmp_path: Path, *done: Verb, **options: Any) -> Difference:
    return differ(source, made(source, tmp_path / "made", *done), **options)


def commands(found: Difference) -> tuple[tuple[str, ...], ...]:
    return tuple(map(command_of, found.pairing.edits))


def perform(found: Difference, target: Path) -> Path:
    """Run the commands that a difference offers, as they stand."""
    source = str(found.a.path)
    for number, (verb, *arguments) in enumerate(commands(found)):
        made_here = str(target / str(number))
        done = CliRunner().invoke(app, [verb, source, made_here, *arguments])
        assert done.exit_code == 0, done.output
        source = made_here
    return Path(source)


def test_upgrade_adds_group_keys(samples: Path, tmp_path: Path) -> None:
    found = after(samples / "legacy", tmp_path, Upgrade("2.13", "adamw", None, None))
    assert counted(found) == {"keys": 2, "optimizer": 2}
    assert found.pairing.added == tuple(
        f"optimizer.param_groups.{group}.decoupled_weight_decay" for group in (0, 1)
    )
    assert found.optimizer is not None and found.load is not None
    assert [dict(c.added) for c in found.optimizer.changes] == 2 * [
        {"decoupled_weight_decay": True}
    ]
    assert found.contents is not None and found.contents.equal == found.contents.tensors
    assert found.load.error_text.startswith("Missing key in checkpoint state_dict: ")
    assert found.remedy is not None and command_of(found.remedy)[:1] == ("upgrade",)


def upgrade_to(keys: str) -> tuple[str, ...]:
    """The command for the release at hand, which is named only where none is installed."""
    named = () if torch_bridge.installed_version() else ("--torch", "2.14")
    return ("upgrade", "--optimizer-keys", keys, *named)


def test_upgrade_to_other_names_in_the_optimizer(healthy: Path, tmp_path: Path) -> None:
    found = after(healthy, tmp_path, Upgrade("2.13", None, "index", None))
    assert counted(found) == {"keys": 63}
    assert len(found.pairing.renamed) == 63
    assert commands(found) == (upgrade_to("index"),)
    assert differ(perform(found, tmp_path), tmp_path / "made").same
    assert found.objects is not None
    assert set(found.objects.renamed_in) == {f"optimizer.param_groups.{n}.params" for n in (0, 1)}
    assert found.contents is not None and found.contents.proven == 85


@pytest.mark.parametrize(("form", "keys"), [("flat", 278), ("fqn", 0)])
def test_upgrade_to_other_forms_of_groups(
    healthy: Path, tmp_path: Path, form: str, keys: int
) -> None:
    result = made(healthy, tmp_path / "flat", Upgrade("2.13", None, "flat", None))
    if form != "flat":
        result = made(result, tmp_path / form, Upgrade("2.13", None, form, None))
    found = differ(healthy, result)
    assert found.counts["keys"] == keys
    assert not found.counts["optimizer"]
    if keys:
        assert found.pairing.regrouped is not None
        assert commands(found) == (upgrade_to("flat"),)
        assert not found.pairing.removed and not found.pairing.added


def test_reshard(healthy: Path, tmp_path: Path) -> None:
    found = after(healthy, tmp_path, Reshard(world_size=2))
    assert counted(found) == {"layout": 63}
    layout = found.layout
    assert layout is not None
    assert (layout.load_a.ranks, layout.load_b.ranks) == (4, 2)
    assert [(g.a, g.b, g.how, len(g.pairs)) for g in layout.groups] == [
        ("dim 0 over 4 ranks", "dim 0 over 2 ranks", "cut otherwise", 63),
        ("whole", "whole", "same", 1),
    ]
    assert found.contents is not None and found.contents.equal == 85
    assert differ(healthy, tmp_path / "made", values=True).same


def test_reshard_to_a_grid(healthy: Path, tmp_path: Path) -> None:
    grid = Reshard(None, {"dp": 2, "tp": 2}, {"*.wo.weight": ["S(0)", "S(1)"]})
    found = after(healthy, tmp_path, grid)
    assert set(counted(found)) == {"layout"}
    assert found.layout is not None
    words = {(group.a, group.b) for group in found.layout.groups}
    assert ("dim 0 over 4 ranks", "2-d 2x2, dims 0 and 1") in words


RENAMES = [
    (rules.literal("tok_embeddings=embed"), 4, ("tok_embeddings=embed",)),
    (rules.regex(r"layers\.(\d+)=blocks.\1"), 72, ("layers=blocks",)),
    (rules.prefix("model.=net."), 22, ("--prefix", "model.=net.")),
    (rules.prefix("model.="), 22, ("--prefix", "model.=")),
    (rules.prefix("model.=model.module."), 85, ("--prefix", "model.=model.module.")),
    (
        rules.regex(r"layers\.(\d+)\.=layers.\1._orig_mod."),
        72,
        ("--regex", r"^(model\.layers\.\d+)\.=\1._orig_mod."),
    ),
    (rules.regex(r"\bfeed_forward\b=mlp"), 24, ("--regex", r"\bfeed_forward\b=mlp")),
    (
        rules.Table({"layers.0": "layers.1", "layers.1": "layers.2"}),
        72,
        ("layers.1=layers.2", "layers.0=layers.1"),
    ),
    (
        rules.Table({"layers.0": "layers.5", "layers.1": "layers.6"}),
        72,
        ("layers.1=layers.6", "layers.0=layers.5"),
    ),
]


@pytest.mark.parametrize(("rule", "keys", "arguments"), RENAMES, ids=lambda case: str(case))
def test_rename(
    healthy: Path, tmp_path: Path, rule: rules.Rule, keys: int, arguments: tuple[str, ...]
) -> None:
    found = after(healthy, tmp_path, Rename((rule,)))
    assert found.counts["keys"] == keys == len(found.pairing.renamed)
    assert commands(found) == (("rename", *arguments),)
    assert sum(found.counts.values()) - found.counts["contents"] == keys
    done = differ(perform(found, tmp_path), tmp_path / "made")
    assert done.same, "the command that is offered makes just this"


def test_several_renames_are_one_command(healthy: Path, tmp_path: Path) -> None:
    done = (
        rules.literal("tok_embeddings=embed"),
        rules.prefix("model.=net."),
        rules.regex(r"\battention\b=attn"),
        rules.regex(r"layers\.(\d+)\.=layers.\1._checkpoint_wrapped_module."),
    )
    found = after(healthy, tmp_path, Rename(done))
    assert set(counted(found)) == {"keys"}
    assert len(found.pairing.rules) == 4
    assert commands(found) == (
        (
            "rename",
            "tok_embeddings=embed",
            "--prefix",
            "model.=net.",
            "--regex",
            r"^(net\.layers\.\d+)\.=\1._checkpoint_wrapped_module.",
            "--regex",
            r"\battention\b=attn",
        ),
    )
    assert differ(perform(found, tmp_path), tmp_path / "made").same


def test_what_no_command_line_can_say_is_not_offered(healthy: Path, tmp_path: Path) -> None:
    """An old name with a `=` in it would be cut in two there."""
    odd = made(healthy, tmp_path / "odd", Rename((rules.literal("tok_embeddings=tok=emb"),)))
    there = differ(healthy, odd)
    assert commands(there) == (("rename", "tok_embeddings=tok=emb"),)
    back = differ(odd, healthy)
    assert len(back.pairing.renamed) == 4 and back.pairing.rules
    assert commands(back) == ()


def test_a_layer_taken_out_before_others(healthy: Path, tmp_path: Path) -> None:
    """The keys are those of a model whose last layer was taken out; the checksums tell."""
    drop = Drop(("model.layers.0",), with_state=True)
    down = Rename((rules.literal("layers.1=layers.0"),))
    found = after(healthy, tmp_path, drop, down)
    pairing = found.pairing
    assert len(pairing.renamed) == len(pairing.removed) == 36 and not pairing.added
    assert all("layers.0." in fqn for fqn in pairing.removed)
    assert [(rule.old, rule.new) for rule in pairing.rules] == [("layers.N", "layers.N-1")]
    assert found.misplaced == pairing.renamed, "a load would put layer 0 there"
    assert found.load is not None and not found.load.raises
    assert found.contents is not None and found.contents.equal == found.contents.tensors
    assert_mirrored(found, differ(tmp_path / "made", healthy))


def test_a_last_layer_taken_out(healthy: Path, tmp_path: Path) -> None:
    found = after(healthy, tmp_path, Drop(("model.layers.1",), with_state=True))
    assert not found.pairing.renamed and not found.misplaced
    assert [group.words for group in found.removed] == [
        "optimizer.state.layers.1.*",
        "model.layers.1.*",
    ]


def test_renames_of_keys_alone(healthy: Path, tmp_path: Path) -> None:
    done = Rename((rules.regex(r"^model\.layers=model.blocks"),), keys_only=True)
    found = after(healthy, tmp_path, done)
    assert counted(found) == {"keys": 18}


def test_drop(healthy: Path, tmp_path: Path) -> None:
    found = after(healthy, tmp_path, Drop(("lr_scheduler", "*.norm.weight.exp_avg")))
    assert found.counts["keys"] == 9 == len(found.pairing.removed)
    assert [group.words for group in found.removed] == [
        "lr_scheduler.*",
        "optimizer.state.norm.weight.exp_avg",
    ]
    assert found.load is not None
    assert set(found.load.skipped) == set(found.pairing.removed) and not found.load.raises
    assert found.optimizer is not None and found.optimizer.verdict == ("complete", "partial")
    assert found.optimizer.slots == {"exp_avg": (21, 20)}


def test_select(healthy: Path, tmp_path: Path) -> None:
    found = after(healthy, tmp_path, Select(section="model"))
    assert found.counts["keys"] == 99
    assert found.load is not None and found.load.skipped_optimizer is not None
    assert found.load.skipped_optimizer.whole and len(found.anew) == 21
    assert found.optimizer is not None and found.optimizer.verdict == ("complete", "absent")
    assert found.contents is not None and found.contents.equal == 22


def test_set(healthy: Path, tmp_path: Path) -> None:
    done = Set((assignment("lr=0.125"), assignment("train_state.step=7")))
    found = after(healthy, tmp_path, done)
    assert counted(found) == {"optimizer": 2, "objects": 1}
    assert found.optimizer is not None
    for number, change in enumerate(found.optimizer.changes):
        assert (change.a, change.b) == (number, number)
        assert list(change.changed) == ["lr"]
        assert change.changed["lr"][1] == 0.125
    (one,) = found.objects_apart
    assert (one.fqn_a, one.a, one.b) == ("train_state.step", 8500, 7)


def test_cast(healthy: Path, tmp_path: Path) -> None:
    found = after(healthy, tmp_path, Cast("bfloat16", ("model",), allow_lossy=True))
    assert counted(found) == {"shapes": 22}
    assert {(c.a.dtype, c.b.dtype) for c in found.specs} == {("float32", "bfloat16")}
    assert found.load is not None and len(found.load.converted) == 22
    by_value = differ(healthy, tmp_path / "made", values=True)
    assert counted(by_value) == {"values": 22}
    assert differ(healthy, tmp_path / "made", values=True, tolerance=0.01).same


def test_merge_of_the_halves_is_the_whole(healthy: Path, tmp_path: Path) -> None:
    model = made(healthy, tmp_path / "model", Select(section="model"))
    rest = made(healthy, tmp_path / "rest", Drop(section="model"))
    found = after(model, tmp_path, Merge((rest,)))
    assert found.counts["keys"] == 99 == len(found.pairing.added)
    assert not found.pairing.removed
    whole = differ(healthy, tmp_path / "made")
    assert set(counted(whole)) <= {"layout"}
    assert differ(healthy, tmp_path / "made", values=True).same


def test_edit_does_several_things(healthy: Path, tmp_path: Path) -> None:
    found = after(
        healthy,
        tmp_path,
        Rename((rules.literal("tok_embeddings=embed"),)),
        Drop(("lr_scheduler",)),
        Set((assignment("lr=0.5"),)),
        Reshard(world_size=1),
    )
    assert counted(found) == {"keys": 12, "layout": 63, "optimizer": 2}
