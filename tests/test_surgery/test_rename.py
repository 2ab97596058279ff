from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import NothingSelected, Refused, UsageError
from dcpctl.model import rename_rules as rules
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft, TensorDraft
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.source import Fill, NewValue
from dcpctl.surgery.drop import drop
from dcpctl.surgery.names.renamer import rename
from dcpctl.surgery.rename import Rename
from tests.test_surgery import oracle

Open = Callable[[Path], Draft]


def value(draft: Draft, fqn: str) -> Any:
    entry: Any = draft.entries[fqn]
    return entry.value


def test_a_parameter_is_renamed_wherever_it_is_named(healthy: Draft) -> None:
    outcome = rename(healthy, [rules.literal("model.tok_embeddings.weight=model.embed.weight")])
    made = outcome.draft
    assert len(made.entries) == len(healthy.entries)
    assert "model.embed.weight" in made.entries
    for slot in ("exp_avg", "exp_avg_sq", "step"):
        fqn = f"optimizer.state.embed.weight.{slot}"
        assert made.planner_data is not None
        assert made.planner_data[fqn] == ("optimizer", "state", "embed.weight", slot)
    assert value(made, "optimizer.param_groups.0.params")[0] == "embed.weight"
    assert not any("tok_embeddings" in fqn for fqn in (*made.entries, *(made.planner_data or ())))
    untouched = made.entries["optimizer.param_groups.1.params"]
    assert untouched is not None and untouched.untouched
    assert list(made.entries)[1] == "model.embed.weight", "the order stays"


@pytest.mark.parametrize(
    "rule",
    [
        rules.literal("layers=blocks"),
        rules.literal("model.layers=model.blocks"),
        rules.prefix("layers.=blocks."),
        rules.prefix("model.layers.=model.blocks."),
        rules.regex(r"\blayers\.(\d+)=blocks.\1"),
        rules.regex(r"^layers=blocks"),
        rules.Table({"layers": "blocks"}),
    ],
    ids=lambda rule: f"{type(rule).__name__} {rule}",
)
def test_every_kind_of_rule_does_the_same(healthy: Draft, rule: rules.Rule) -> None:
    made = rename(healthy, [rule]).draft
    assert list(made.entries) == [fqn.replace("layers.", "blocks.") for fqn in healthy.entries]
    wanted = [
        n.replace("layers.", "blocks.") for n in value(healthy, "optimizer.param_groups.1.params")
    ]
    assert value(made, "optimizer.param_groups.1.params") == wanted


@pytest.mark.parametrize(("prefix", "root"), [("model.=net.", "net."), ("model.=", "")])
def test_a_model_that_moves_keeps_its_parameters_names(
    healthy: Draft, prefix: str, root: str
) -> None:
    made = rename(healthy, [rules.prefix(prefix)]).draft
    assert f"{root}norm.weight" in made.entries
    assert "optimizer.state.norm.weight.exp_avg" in made.entries
    assert made.entries["optimizer.param_groups.0.params"].untouched
    assert made.planner_data is not None
    path = made.planner_data[f"{root}norm.weight"]
    assert path == (("net", "norm.weight") if root else ("norm.weight",))


def test_a_module_around_the_model_is_part_of_the_names(healthy: Draft) -> None:
    made = rename(healthy, [rules.prefix("model.=model.inner.")]).draft
    assert "model.inner.norm.weight" in made.entries
    assert "optimizer.state.inner.norm.weight.exp_avg" in made.entries
    assert value(made, "optimizer.param_groups.1.params")[-1] == "inner.norm.weight"


def test_rules_follow_each_other(healthy: Draft) -> None:
    both = [rules.literal("layers=blocks"), rules.prefix("model.=net."), rules.regex("blocks=h")]
    outcome = rename(healthy, both)
    assert "net.h.0.ffn_norm.weight" in outcome.draft.entries
    assert "optimizer.state.h.0.ffn_norm.weight.step" in outcome.draft.entries
    told = {change.fqn: change.to for change in outcome.changes}
    assert told["model.layers.0.ffn_norm.weight"] == "net.h.0.ffn_norm.weight"
    assert told["model.norm.weight"] == "net.norm.weight"
    assert "optimizer.param_groups.0.params" in told
    with pytest.raises(NothingSelected, match="'layers=x'"):
        rename(healthy, [*both, rules.literal("layers=x")])


def test_a_map_may_swap_names(healthy: Draft) -> None:
    swap = rules.Table({"model.layers.0": "model.layers.1", "model.layers.1": "model.layers.0"})
    made = rename(healthy, [swap]).draft
    assert sorted(made.entries) == sorted(healthy.entries)
    first = made.entries["model.layers.0.ffn_norm.weight"]
    assert first.source.fqn == "model.layers.1.ffn_norm.weight"  # type: ignore[union-attr]
    state = made.entries["optimizer.state.layers.0.ffn_norm.weight.exp_avg"]
    assert state.source.fqn == "optimizer.state.layers.1.ffn_norm.weight.exp_avg"  # type: ignore[union-attr]


def test_the_optimizer_s_root_may_be_renamed(healthy: Draft) -> None:
    made = rename(healthy, [rules.prefix("optimizer.=optim.")]).draft
    assert made.planner_data is not None
    assert made.planner_data["optim.param_groups.0.lr"] == ("optim", "param_groups", 0, "lr")
    assert not any(fqn.startswith("optimizer.") for fqn in made.entries)


def test_names_in_the_optimizer_alone_are_carried_to_its_lists(healthy: Draft) -> None:
    rule = rules.prefix("optimizer.state.norm.=optimizer.state.final.")
    made = rename(healthy, [rule]).draft
    assert "optimizer.state.final.weight.step" in made.entries
    assert value(made, "optimizer.param_groups.1.params")[-1] == "final.weight"
    assert "model.norm.weight" in made.entries


def test_keys_only_leaves_the_optimizer_alone(healthy: Draft) -> None:
    made = rename(healthy, [rules.literal("model.norm=model.final")], keys_only=True).draft
    assert "model.final.weight" in made.entries
    assert "optimizer.state.norm.weight.exp_avg" in made.entries


@pytest.mark.parametrize(
    ("rule", "error", "words"),
    [
        (rules.literal("model.norm=model.output"), Refused, "would both be 'model.output.weight'"),
        (rules.literal("train_state.step=model.norm.weight"), Refused, "would both be"),
        (rules.literal("nothing=x"), NothingSelected, "no key and no parameter"),
        (rules.regex("zz(.*)=x"), NothingSelected, "no key and no parameter"),
        (rules.regex("norm=norm"), NothingSelected, "leaves every name as it is"),
        (rules.prefix("model.layers.=net.blocks."), Refused, "would leave the model 'model'"),
        (
            rules.literal("optimizer.state.norm.weight.step=optimizer.state.n.weight.step"),
            Refused,
            "would get the names 'n.weight', 'norm.weight'",
        ),
    ],
    ids=str,
)
def test_refusals(healthy: Draft, rule: rules.Rule, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        rename(healthy, [rule])


def test_pickled_param_groups(samples: Path, opened: Open, shared: Path) -> None:
    draft = opened(shared / "checkpoints" / "2.2.2" / "fsdp2_list_fp32" / "ckpt")
    made = rename(draft, [rules.literal("layers=blocks")]).draft
    names = [name for group in value(made, "optimizer.param_groups") for name in group["params"]]
    assert names and not any("layers" in name for name in names)
    assert value(draft, "optimizer.param_groups")[0]["params"] != names[: len(names)]


def test_flattened_by_name(opened: Open, shared: Path) -> None:
    draft = opened(shared / "checkpoints" / "2.13.0" / "fsdp2_flat_fp32" / "ckpt")
    made = rename(draft, [rules.literal("layers=blocks")]).draft
    assert not any("layers" in fqn for fqn in made.entries)
    assert made.planner_data is not None
    fqn = "optimizer.param_groups.blocks.0.attention.wq.weight.lr"
    assert made.planner_data[fqn] == ("optimizer", fqn.removeprefix("optimizer."))


def test_indices_stay(samples: Path, opened: Open) -> None:
    draft = opened(samples / "releases" / "2.1.2-optim_AdamW")
    made = rename(draft, [rules.literal("w=weight")]).draft
    assert "model.weight" in made.entries
    assert made.entries["optimizer.param_groups"].untouched


SLOTS = {"step": 3.0, "exp_avg": 0.0}
GROUP = {"lr": 1e-3, "params": ["layers.0.weight", "norm.weight"]}


def draft_of(planner: bool = True, **entries: Any) -> Draft:
    """A draft of values: a tuple is a tensor's shape. Underscores twice are dots."""
    made: list[EntryDraft] = []
    for name, held in {
        "model.layers.0.weight": (2, 2),
        "model.norm.weight": (2,),
        **entries,
    }.items():
        fqn = name.replace("__", ".")
        if isinstance(held, tuple):
            made.append(TensorDraft(fqn, held, "float32", Fill()))
        else:
            made.append(BytesDraft(fqn, NewValue(held)))
    paths = {entry.fqn: (entry.fqn,) for entry in made} if planner else None
    return Draft((), {entry.fqn: entry for entry in made}, paths)


def blocks(draft: Draft) -> Draft:
    return rename(draft, [rules.literal("layers=blocks")]).draft


def test_a_whole_pickled_state_dict() -> None:
    state = {"layers.0.weight": SLOTS, "norm.weight": SLOTS}
    held = {"state": state, "param_groups": [GROUP]}
    for value_ in (held, [held]):
        made = value(blocks(draft_of(optimizer=value_, planner=False)), "optimizer")
        made = made[0] if isinstance(value_, list) else made
        assert list(made["state"]) == ["blocks.0.weight", "norm.weight"]
        assert made["param_groups"][0]["params"] == ["blocks.0.weight", "norm.weight"]
    assert GROUP["params"] == ["layers.0.weight", "norm.weight"], "the source is as it was"


def test_state_that_held_no_tensor() -> None:
    draft = draft_of(optimizer__state={"layers.0.weight": {}}, optimizer__param_groups__0=GROUP)
    made = blocks(draft)
    assert list(value(made, "optimizer.state")) == ["blocks.0.weight"]
    assert value(made, "optimizer.param_groups.0")["params"][0] == "blocks.0.weight"


def test_the_slot_before_the_name() -> None:
    entries: dict[str, Any] = {
        f"optimizer.state.{slot}.{name}": (2,)
        for slot in ("exp_avg", "exp_avg_sq")
        for name in ("layers.0.weight", "norm.weight")
    }
    made = blocks(draft_of(planner=False, **entries))
    assert "optimizer.state.exp_avg.blocks.0.weight" in made.entries
    assert not any("layers" in fqn for fqn in made.entries)


def test_an_optimizer_for_each_parameter() -> None:
    entries: dict[str, Any] = {
        f"optim.{name}.state.0.exp_avg": (2,) for name in ("layers.0.weight", "norm.weight")
    }
    made = blocks(draft_of(planner=False, **entries))
    assert "optim.blocks.0.weight.state.0.exp_avg" in made.entries


def test_positions_and_tuples_stay() -> None:
    group = {"lr": 1e-3, "params": (0, 1)}
    draft = draft_of(optimizer__param_groups=[group], optimizer__state__0__exp_avg=(2, 2))
    assert value(blocks(draft), "optimizer.param_groups")[0]["params"] == (0, 1)


def test_names_of_an_optimizer_alone(healthy: Draft) -> None:
    alone = drop(healthy, section="model").draft
    made = blocks(alone)
    assert "optimizer.state.blocks.0.ffn_norm.weight.step" in made.entries
    assert value(made, "optimizer.param_groups.1.params")[0].startswith("blocks.0.")


@pytest.mark.parametrize(
    "text", ["a", "=b", "a=", ""], ids=["no sign", "from nothing", "to nothing", "nothing"]
)
def test_malformed_literals(text: str) -> None:
    with pytest.raises(UsageError):
        rules.literal(text)


@pytest.mark.parametrize("text", ["(=x", r"a=\1", "noequals"])
def test_malformed_expressions(text: str) -> None:
    with pytest.raises(UsageError):
        rules.regex(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.json", '{"layers": "blocks", "absent": "x"}'),
        ("names.txt", "# old new\nlayers  blocks\n\nabsent\tx # gone\n"),
    ],
)
def test_map_files(healthy: Draft, tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    outcome = rename(healthy, [rules.table(path)])
    assert "model.blocks.0.ffn_norm.weight" in outcome.draft.entries
    assert outcome.notes == (f"1 of the 2 names in '{path}' are not in the checkpoint: 'absent'",)


@pytest.mark.parametrize(
    "text", ["", "one\n", "a b c\n", "a b\na c\n", "{", '{"a": 1}', '{"": "b"}', "{}"]
)
def test_malformed_map_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names"
    path.write_text(text)
    with pytest.raises(UsageError):
        rules.table(path)


@pytest.mark.torch
@pytest.mark.parametrize(
    "sample",
    ["healthy/step-8500", "legacy", "fsdp_tp_2x2", "releases/2.15.0-optim_AdamW", "zstd"],
)
def test_torch_loads_what_was_renamed(samples: Path, tmp_path: Path, sample: str) -> None:
    pytest.importorskip("torch")
    source = samples / sample
    rule = rules.regex(r"^(model\.)?(?!optimizer|lr_|train)(\w+)=\1inner.\2")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    target = oracle.made(source, tmp_path / "made", Rename((rule,)))
    assert before == {path.name: path.read_bytes() for path in source.iterdir()}
    with open_checkpoint(source) as checkpoint:
        draft = rename(Draft.of(checkpoint), [rule]).draft
        new = {e.source.fqn: f for f, e in draft.entries.items() if e.untouched}  # type: ignore[union-attr]
        truth = oracle.truth(source)
        found = oracle.by_torch(target)
        assert oracle.same_planner_data(target, draft)
    wanted = {new[fqn]: held for fqn, held in truth.items() if fqn in new}
    assert len(wanted) > 2
    assert {fqn: found[fqn] for fqn in wanted} == wanted
    for fqn in found.keys() - wanted.keys():
        assert fqn.endswith("params"), "only lists of names have new values"
        assert all(name.startswith("inner.") for name in found[fqn])


@pytest.mark.parametrize(
    ("rule", "can"),
    [
        (rules.Literal("a", "b"), True),
        (rules.Literal("a", "b=c"), True),
        (rules.Literal("a=b", "c"), False),
        (rules.Literal("--a", "c"), False),
        (rules.Literal("a", ""), False),
        (rules.Prefix("", "net."), True),
        (rules.Prefix("a=", "net."), False),
        (rules.Regex(re.compile(r"(a+)="), r"\1."), True),
        (rules.Regex(re.compile("a"), "b=c"), False),
        (rules.Table({"a": "b"}), False),
    ],
    ids=str,
)
def test_which_rules_a_command_line_can_say(rule: rules.Rule, can: bool) -> None:
    assert rules.is_writable(rule) is can
