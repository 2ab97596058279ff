from __future__ import annotations

from typing import Any

import pytest

from dcpctl.model.optimizer import coverage
from dcpctl.model.optimizer.view import OptimizerView
from tests.test_model.fakes import FakeCheckpoint, from_state_dict, scalar, tensor
from tests.test_model.test_optimizer.jobs import (
    NAMES,
    SHAPES,
    adam_state,
    adamw,
    flattened,
    indexed,
    job,
    model,
    nested,
    without,
)

MATRICES = [name for name in NAMES if len(SHAPES[name]) == 2]
VECTORS = [name for name in NAMES if len(SHAPES[name]) == 1]
GROUPS = [(adamw(), MATRICES), (adamw(weight_decay=0.0), VECTORS)]
HEALTHY = "Training can be resumed: AdamW state is complete for 10 of 10 parameters, at step 100."


def counts(view: OptimizerView) -> dict[str, tuple[int, int]]:
    return {slot: (count.present, count.expected) for slot, count in view.slots.items()}


def missing(view: OptimizerView) -> set[tuple[str, str, str]]:
    return {(item.fqn, item.slot, item.status) for item in view.missing}


# ------------------------------------------------------------------ styles


@pytest.mark.parametrize(
    ("state_dict", "style", "groups"),
    [
        (
            {"model": model(), "optimizer": nested(adamw())},
            "one entry per parameter and slot",
            [NAMES],
        ),
        (
            {"model": model(), "optimizer": flattened(adamw())},
            "flattened by parameter name",
            [NAMES],
        ),
        (
            {"model": model(), "optimizer": indexed(GROUPS)},
            "index-keyed optimizer.state_dict()",
            [tuple(MATRICES), tuple(VECTORS)],
        ),
        ({"model": model(), "optim": flattened(adamw())}, "flattened by parameter name", [NAMES]),
        ({**model(), "optimizer": flattened(adamw())}, "flattened by parameter name", [NAMES]),
        (
            {"state_dict": model(), "optimizer_states": [nested(adamw())]},
            "one entry per parameter and slot",
            [NAMES],
        ),
        ({**nested(adamw())}, "one entry per parameter and slot", [NAMES]),
    ],
    ids=["nested", "flattened", "indexed", "olmo", "torchtitan", "lightning", "bare"],
)
@pytest.mark.parametrize("planner", [True, False], ids=["planner", "no planner"])
def test_a_healthy_checkpoint_in_every_style(
    state_dict: dict[str, Any], style: str, groups: list[tuple[str, ...]], planner: bool
) -> None:
    checkpoint = from_state_dict(state_dict, planner=planner)
    view = OptimizerView(checkpoint)
    assert (view.verdict, view.kind, view.candidates) == ("complete", "AdamW", ("AdamW",))
    if planner:  # without it nothing says where names end, but the rest is told all the same
        assert view.style == style
    assert counts(view) == {"step": (10, 10), "exp_avg": (10, 10), "exp_avg_sq": (10, 10)}
    assert view.steps == {100: 10}
    assert view.sentence == HEALTHY
    assert [group.params for group in view.param_groups] == groups
    assert view.param_groups[0].values["betas"] == (0.9, 0.95)
    assert (view.missing, view.extra_state, view.not_in_model, view.frozen) == ((), (), (), ())
    slots = view.entries["layers.0.wq.weight"]
    assert slots["exp_avg"].fqn.endswith(".exp_avg")
    assert slots["exp_avg"].fqn in checkpoint.entries
    assert slots["exp_avg"].shape == (4, 4)


def test_flattened_groups_are_merged_by_their_values() -> None:
    parts = [
        flattened(adamw(weight_decay=decay), names=names)
        for decay, names in ((0.1, MATRICES), (0.0, VECTORS))
    ]
    view = OptimizerView(job(parts[0] | parts[1]))
    assert [(g.values["weight_decay"], g.params) for g in view.param_groups] == [
        (0.1, tuple(MATRICES)),
        (0.0, tuple(VECTORS)),
    ]


def test_megatron_has_slots_before_names_and_no_groups_among_its_entries() -> None:
    slots = ("exp_avg", "exp_avg_sq", "fp32_param")
    entries: dict[str, Any] = {name: tensor(2, *SHAPES[name]) for name in NAMES}
    for slot in slots:
        for name in NAMES:
            entries[f"optimizer.state.{slot}.{name}"] = tensor(2, *SHAPES[name])
    view = OptimizerView(from_state_dict(entries, planner=False))
    assert (view.verdict, view.kind) == ("complete", "Adam or AdamW")
    assert view.style == "Megatron's slot before name"
    assert counts(view) == dict.fromkeys(slots, (10, 10))
    assert view.steps == {}
    assert view.notes == (
        "No param groups among the entries; Megatron keeps them, and the step, in common.pt.",
    )
    assert (
        view.entries["embed.weight"]["fp32_param"].fqn == "optimizer.state.fp32_param.embed.weight"
    )
    assert view.sentence == (
        "Training can be resumed: Adam or AdamW state is complete for 10 of 10 parameters."
    )


def test_megatrons_chained_optimizers_are_two_of_one_kind() -> None:
    entries: dict[str, Any] = {name: tensor(*SHAPES[name]) for name in NAMES}
    for index, name in enumerate(NAMES):
        for slot in ("exp_avg", "exp_avg_sq"):
            entries[f"chained_{index % 2}.optimizer.state.{slot}.{name}"] = tensor(*SHAPES[name])
    view = OptimizerView(from_state_dict(entries, planner=False))
    assert view.roots == ("chained_0.optimizer", "chained_1.optimizer")
    assert (view.verdict, view.kind, view.frozen) == ("complete", "Adam or AdamW", ())
    assert counts(view) == {"exp_avg": (10, 10), "exp_avg_sq": (10, 10)}


def test_megatrons_gradient_buckets_say_nothing_of_parameters() -> None:
    prefix = "optimizer.distributed.dp_group_idx_0.gbuf_idx_0.dtype_0.bucket_idx_0"
    entries = {"w": tensor(4, 4), **{f"{prefix}.{s}": tensor(9) for s in ("exp_avg", "exp_avg_sq")}}
    view = OptimizerView(from_state_dict(entries, planner=False))
    assert (view.verdict, view.frozen, view.not_in_model) == ("complete", (), ())
    assert view.notes[0] == "State is kept by gradient bucket, so it does not tell of parameters."


def test_torch_1_13_pickles_the_whole_optimizer_into_one_entry() -> None:
    state = {
        index: {"step": scalar(7), "exp_avg": tensor(*SHAPES[n]), "exp_avg_sq": tensor(*SHAPES[n])}
        for index, n in enumerate(NAMES)
    }
    group = adamw(params=list(range(10)))
    checkpoint = from_state_dict({"model": model()}, planner=False)
    add_bytes(checkpoint, "optimizer", {"state": state, "param_groups": [group]})
    view = OptimizerView(checkpoint)
    assert (view.verdict, view.style, view.kind) == ("complete", "one pickled dict", "AdamW")
    assert counts(view) == {"step": (10, 10), "exp_avg": (10, 10), "exp_avg_sq": (10, 10)}
    assert [p.name for p in view.parameters] == list(NAMES)
    assert view.param_groups_pickled
    assert view.sections.of["optimizer"] == "optimizer"


def test_an_optimizer_per_parameter() -> None:
    each = {f"{n}.state.0.{slot}": v for n in NAMES for slot, v in adam_state(n).items()}
    view = OptimizerView(from_state_dict({"model": model(), "optim": each}))
    assert (view.verdict, view.kind, view.roots) == ("complete", "Adam or AdamW", ("optim",))
    assert view.style == "one optimizer per parameter"
    assert counts(view) == {"step": (10, 10), "exp_avg": (10, 10), "exp_avg_sq": (10, 10)}
    assert (view.not_in_model, view.frozen) == ((), ())


def test_names_in_no_known_form_are_not_called_no_state() -> None:
    view = OptimizerView(from_state_dict({"model": model(), "optimizer": {"blob": tensor(99)}}))
    assert (view.verdict, view.style) == ("absent", "a form that dcpctl does not know")
    assert view.sentence == (
        "Training cannot be resumed from this as far as can be told: the entries under optimizer "
        "have names in no form that dcpctl knows."
    )


def test_hostile_names_neither_break_the_view_nor_reach_its_sentences() -> None:
    evil = "layers.\x1b[31m\u202e.weight"
    optimizer = nested(adamw())
    optimizer["state"][evil] = {"step": scalar(1), "\x07slot": tensor(2)}
    optimizer["param_groups"][0]["params"].append(evil)
    optimizer["param_groups"][0]["\x1bkey"] = 1
    checkpoint = job(optimizer)
    for fqn in ("param_groups.²", "param_groups." + "9" * 5000, "state", "state..", "state.²"):
        add_bytes(checkpoint, f"optimizer.{fqn}.lr" if fqn != "state" else "optimizer.state", [])
    view = OptimizerView(checkpoint)
    texts = (view.sentence, view.how, *view.notes)
    assert view.verdict == "partial"
    assert evil in view.with_status("lost")
    assert all(text.isprintable() for text in texts)
    assert all(len(text) < 2000 for text in texts)


def test_several_pickled_optimizers() -> None:
    checkpoint = from_state_dict({"model": model(["embed.weight"])}, planner=False)
    sgd = {"lr": 0.1, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False}
    one = {"state": {}, "param_groups": [sgd | {"params": [0]}]}
    add_bytes(checkpoint, "optimizer_states", [one, one])
    view = OptimizerView(checkpoint)
    assert view.roots == ("optimizer_states.0", "optimizer_states.1")


def add_bytes(checkpoint: FakeCheckpoint, fqn: str, value: Any) -> None:
    checkpoint.entries[fqn] = from_state_dict({"x": None}).entries["x"]
    checkpoint.entries[fqn].content = value  # type: ignore[union-attr]


def test_a_list_of_optimizers_and_a_kind_each() -> None:
    lion = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.1}
    lions = nested(lion, lambda name: {"exp_avg": tensor(*SHAPES[name])}, MATRICES)
    view = OptimizerView(job({}, optimizers=[lions, nested(adamw(), names=VECTORS)]))
    assert view.roots == ("optimizers.0", "optimizers.1")
    assert (view.verdict, view.kind) == ("complete", "Lion + AdamW")
    assert counts(view) == {"exp_avg": (10, 10), "step": (2, 2), "exp_avg_sq": (2, 2)}
    assert view.frozen == ()


def test_two_optimizers_flattened_into_one_namespace() -> None:
    muon = {"lr": 1e-3, "weight_decay": 0.1, "momentum": 0.95, "nesterov": True}
    muon |= {"ns_coefficients": (3.4445, -4.775, 2.0315), "eps": 1e-7, "ns_steps": 5}
    muon |= {"adjust_lr_fn": None}
    parts = flattened(muon, lambda name: {"momentum_buffer": tensor(*SHAPES[name])}, MATRICES)
    view = OptimizerView(job(parts | flattened(adamw(), names=VECTORS)))
    assert (view.verdict, view.kind) == ("complete", "Muon + AdamW")
    assert counts(view)["momentum_buffer"] == (8, 8)
    assert counts(view)["exp_avg"] == (2, 2)


def test_parameters_by_their_param_names() -> None:
    optimizer = indexed([(adamw(), list(NAMES))])
    optimizer["param_groups"][0]["param_names"] = list(reversed(NAMES))
    view = OptimizerView(job(optimizer))
    assert [p.name for p in view.parameters] == list(reversed(NAMES))
    assert "param_names" not in view.param_groups[0].values


def test_wrapper_names_do_not_separate_a_parameter_from_its_state() -> None:
    wrapped = {f"_orig_mod.{name}": tensor(*SHAPES[name]) for name in NAMES}
    view = OptimizerView(from_state_dict({"model": wrapped, "optimizer": nested(adamw())}))
    assert (view.verdict, view.not_in_model, view.frozen) == ("complete", (), ())
    assert view.parameters[0].fqn == "model._orig_mod.embed.weight"


# ------------------------------------------------------------------ what may be missing


def test_no_optimizer_at_all() -> None:
    view = OptimizerView(from_state_dict({"model": model()}))
    assert (view.verdict, view.kind, view.style, view.roots) == ("absent", None, "", ())
    assert (view.slots, view.steps, view.param_groups, view.missing) == ({}, {}, (), ())
    assert (view.frozen_count, view.notes) == (0, ())
    assert view.sentence == (
        "Training cannot be resumed from this: there is no optimizer state; a resume restarts the "
        "optimizer from zero moments."
    )


def test_groups_without_state_are_absent_too() -> None:
    view = OptimizerView(job(nested(adamw(), lambda _: {})))
    assert (view.verdict, view.kind) == ("absent", "AdamW")
    assert counts(view) == {"step": (0, 10), "exp_avg": (0, 10), "exp_avg_sq": (0, 10)}
    assert "the param groups of AdamW are here and no state is" in view.sentence


def test_sgd_without_momentum_needs_no_state() -> None:
    sgd = {"lr": 0.1, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False}
    sgd |= dict.fromkeys(("maximize", "foreach", "differentiable", "fused"))
    view = OptimizerView(job(nested(sgd, lambda _: {})))
    assert (view.verdict, view.kind, view.slots) == ("complete", "SGD", {})
    assert view.sentence == (
        "Training can be resumed: SGD needs no state, and its param groups are here."
    )
    # With momentum it does.
    assert OptimizerView(job(nested(sgd | {"momentum": 0.9}, lambda _: {}))).verdict == "absent"
    # Up to 2.3 torch keeps None for it, which is no state either.
    none = OptimizerView(job(nested(sgd, lambda _: {"momentum_buffer": None})))
    assert (none.verdict, none.slots) == ("complete", {})


def test_one_lost_slot_of_one_parameter() -> None:
    view = OptimizerView(without(job(nested(adamw())), "layers.0.wk.weight.exp_avg_sq"))
    assert view.verdict == "partial"
    assert missing(view) == {("layers.0.wk.weight", "exp_avg_sq", "lost")}
    assert counts(view)["exp_avg_sq"] == (9, 10)
    assert view.sentence == (
        "Do not resume from this as it is: AdamW state is partial, at step 100; 1 parameter "
        "without exp_avg_sq (layers.0.wk.weight: lost)."
    )


def test_one_lost_slot_of_all_parameters() -> None:
    view = OptimizerView(without(job(nested(adamw())), ".exp_avg_sq", planner=True))
    assert (view.verdict, view.kind) == ("partial", "AdamW")
    assert counts(view)["exp_avg_sq"] == (0, 10)
    assert {status for _, _, status in missing(view)} == {"lost"}


def test_whether_all_state_of_one_parameter_was_lost_its_neighbours_do_not_tell() -> None:
    checkpoint = without(job(nested(adamw())), "optimizer.state.layers.0.wk", planner=True)
    view = OptimizerView(checkpoint)
    assert view.verdict == "partial"
    assert {status for _, _, status in missing(view)} == {coverage.NEVER_TRAINED}
    assert view.missing[0].why == "others have state, and nothing here says that it had some"


def test_a_whole_layer_without_state_was_never_trained_or_lost() -> None:
    checkpoint = without(job(nested(adamw())), "optimizer.state.layers.1", planner=True)
    view = OptimizerView(checkpoint)
    assert view.verdict == "partial"
    assert view.with_status(coverage.NEVER_TRAINED) == tuple(n for n in NAMES if "layers.1" in n)
    assert view.missing[0].why == "nothing in layers.1 has state"
    assert view.sentence.startswith(
        "AdamW state is complete for 6 of 10 parameters, at step 100; 4 parameters without any "
        "state (layers.1.*: never got a gradient, or lost)."
    )
    assert "--fill-missing-state zeros" in view.sentence


def test_a_lone_parameter_at_top_level_may_never_have_been_trained() -> None:
    view = OptimizerView(without(job(nested(adamw())), "state.head.weight", planner=True))
    assert missing(view) == {
        ("head.weight", s, coverage.NEVER_TRAINED) for s in ("step", "exp_avg", "exp_avg_sq")
    }


def test_the_planner_data_tell_what_was_lost() -> None:
    checkpoint = without(job(flattened(adamw())), "optimizer.state.layers.1")
    view = OptimizerView(checkpoint)
    assert {status for _, _, status in missing(view)} == {"lost"}
    assert view.missing[0].why == "the planner data name it and no entry holds it"


def test_lost_hyperparameters_make_it_partial_though_the_state_is_whole() -> None:
    checkpoint = without(job(flattened(adamw())), "optimizer.param_groups.layers.1")
    view = OptimizerView(checkpoint)
    assert (view.verdict, view.missing, len(view.groups_lost)) == ("partial", (), 4)
    assert counts(view)["exp_avg"] == (10, 10)
    assert "the hyperparameters of 4 parameters are lost (layers.1.*)" in view.sentence


def test_a_frozen_layer_is_in_no_group_and_has_no_state() -> None:
    trained = [name for name in NAMES if "layers.0" not in name]
    frozen = tuple(name for name in NAMES if "layers.0" in name)
    view = OptimizerView(job(nested(adamw(), names=trained)))
    assert (view.verdict, view.frozen, view.frozen_count) == ("complete", frozen, 4)
    assert view.notes == (
        "4 of the model's parameters are in no param group and without state (layers.0.*).",
    )
    indices = OptimizerView(job(indexed([(adamw(), trained)])))
    assert (indices.verdict, indices.frozen, indices.frozen_count) == ("complete", (), 4)
    assert "which, an index-keyed state does not tell" in indices.notes[0]


@pytest.mark.parametrize("by_name", [True, False])
def test_a_tied_head_has_its_state_under_the_embedding(by_name: bool) -> None:
    names = [name for name in NAMES if name != "head.weight"]
    optimizer = nested(adamw(), names=names) if by_name else indexed([(adamw(), names)])
    checkpoint = job(optimizer)
    embed, head = (checkpoint.entries[f"model.{name}.weight"] for name in ("embed", "head"))
    embed.values = head.values = [float(i) for i in range(embed.numel)]
    view = OptimizerView(checkpoint)
    assert (view.verdict, view.tied) == ("complete", {"head.weight": "embed.weight"})
    assert (view.frozen, view.frozen_count) == ((), 0)
    assert view.notes == (
        "head.weight is tied to embed.weight: their numbers are equal, and one state serves both.",
    )


def test_names_alone_tie_nothing() -> None:
    checkpoint = job(nested(adamw(), names=[name for name in NAMES if name != "head.weight"]))
    view = OptimizerView(checkpoint)
    assert (view.tied, view.frozen) == ({}, ("head.weight",))
    assert view.notes[-1].startswith("head.weight may be tied to embed.weight")
    embed, head = (checkpoint.entries[f"model.{name}.weight"] for name in ("embed", "head"))
    embed.values = [float(i) for i in range(embed.numel)]
    head.values = [float(-i) for i in range(embed.numel)]
    view = OptimizerView(checkpoint)
    assert (view.tied, view.frozen) == ({}, ("head.weight",))
    assert view.notes[-1].startswith("head.weight is not tied to embed.weight")


def test_what_shares_numbers_is_tied_whatever_its_name() -> None:
    checkpoint = job(nested(adamw(), names=[name for name in NAMES if "layers.1" not in name]))
    for name in NAMES:
        entry = checkpoint.entries[f"model.{name}"]
        first = name.replace("layers.1", "layers.0")
        one = len(entry.shape) == 1
        entry.values = [
            1.0 if one else float(NAMES.index(first) * 1000 + i) for i in range(entry.numel)
        ]
    view = OptimizerView(checkpoint)
    shared = {name for name in NAMES if "layers.1" in name and len(SHAPES[name]) > 1}
    assert shared
    assert view.tied == {name: name.replace("layers.1", "layers.0") for name in shared}
    # Norms that are all ones are equal and not tied.
    assert set(view.frozen) == {n for n in NAMES if "layers.1" in n} - shared


def test_state_without_parameter_and_names_that_the_model_lacks() -> None:
    optimizer = nested(adamw(), names=NAMES[:-1])
    optimizer["state"]["ghost.weight"] = adam_state("head.weight")
    view = OptimizerView(job(optimizer, NAMES[1:]))
    assert view.verdict == "complete"
    assert view.extra_state == ("ghost.weight",)
    assert view.not_in_model == ("embed.weight",)
    assert "State without parameter: ghost.weight." in view.notes


def test_an_optimizer_part_without_its_model() -> None:
    view = OptimizerView(from_state_dict({"optimizer": nested(adamw())}))
    assert (view.verdict, view.not_in_model) == ("complete", ())


def test_without_groups_the_models_parameters_are_the_trained_ones() -> None:
    checkpoint = without(job(nested(adamw())), "param_groups", planner=True)
    view = OptimizerView(checkpoint)
    assert (view.verdict, view.kind) == ("complete", "Adam or AdamW")
    assert view.notes == ("No param groups among the entries.",)
    view = OptimizerView(without(checkpoint, "state.layers.0", planner=True))
    assert (view.verdict, counts(view)["exp_avg"]) == ("partial", (6, 10))


# ------------------------------------------------------------------ other optimizers


def test_an_unknown_optimizer_is_judged_by_the_majority_of_its_parameters() -> None:
    group = {"lr": 1e-3, "rho": 0.1, "unheard_of": True}

    def slots(name: str) -> dict[str, Any]:
        shape = SHAPES[name]
        return {"hess": tensor(*shape), **({"rows": tensor(shape[0])} if len(shape) > 1 else {})}

    view = OptimizerView(job(nested(group, slots)))
    assert (view.verdict, view.kind) == ("complete", None)
    assert counts(view) == {"hess": (10, 10), "rows": (8, 8)}
    assert view.sentence.startswith("Training can be resumed: optimizer state is complete for 10")
    view = OptimizerView(without(job(nested(group, slots)), "layers.0.wq.weight.rows"))
    assert missing(view) == {("layers.0.wq.weight", "rows", "lost")}


def test_lion_and_shampoo_are_not_broken_for_lacking_adams_slots() -> None:
    lion = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.1}
    view = OptimizerView(job(nested(lion, lambda name: {"exp_avg": tensor(*SHAPES[name])})))
    assert (view.verdict, view.kind, counts(view)) == ("complete", "Lion", {"exp_avg": (10, 10)})

    def shampoo(name: str) -> dict[str, Any]:
        per_dim = {f"precond_{i}": tensor(n, n) for i, n in enumerate(SHAPES[name])}
        return {"step": scalar(5), **per_dim}

    view = OptimizerView(job(nested({"lr": 0.1, "momentum": 0.0}, shampoo)))
    assert (view.verdict, view.kind, view.steps) == ("complete", "Shampoo", {5: 10})
    assert counts(view) == {"step": (10, 10), "precond_0": (10, 10), "precond_1": (8, 8)}


def test_amsgrad_in_one_group_only() -> None:
    groups = [(adamw(amsgrad=True), MATRICES), (adamw(), VECTORS)]

    def slots(name: str) -> dict[str, Any]:
        more = {"max_exp_avg_sq": tensor(*SHAPES[name])} if name in MATRICES else {}
        return adam_state(name) | more

    view = OptimizerView(job(indexed(groups, slots)))
    assert (view.verdict, counts(view)["max_exp_avg_sq"]) == ("complete", (8, 8))
    view = OptimizerView(job(indexed(groups)))
    assert (view.verdict, counts(view)["max_exp_avg_sq"]) == ("partial", (0, 8))


def test_the_step_may_stand_in_the_group() -> None:
    fused = {"lr": 1e-3, "bias_correction": True, "betas": (0.9, 0.95), "eps": 1e-8}
    fused |= {"weight_decay": 0.1, "step": 42}

    def moments(name: str) -> dict[str, Any]:
        return {slot: tensor(*SHAPES[name]) for slot in ("exp_avg", "exp_avg_sq")}

    view = OptimizerView(job(nested(fused, moments)))
    assert (view.verdict, view.kind, view.steps) == ("complete", "FusedAdam", {42: 10})


def test_an_optimizer_behind_the_jobs_own_step_was_reset_on_the_way() -> None:
    state = {"step": tensor(dtype="int32", value=300), "log_steps": [1, 2]}
    view = OptimizerView(job(nested(adamw()), train_state=state))
    assert (view.verdict, view.job_step) == ("complete", ("train_state.step", 300))
    assert view.sentence == (
        "Training can be resumed, but the optimizer seems to have been reset on the way (a resume "
        "without its state?): AdamW state is complete for 10 of 10 parameters, at step 100, while "
        "train_state.step is 300."
    )
    view = OptimizerView(job(nested(adamw()), step=100))
    assert (view.job_step, view.sentence) == (("step", 100), HEALTHY)
    assert OptimizerView(job(nested(adamw()))).job_step is None
    assert OptimizerView(job(nested(adamw()), step="100")).job_step is None


def test_steps_that_differ_are_counted() -> None:
    view = OptimizerView(
        job(nested(adamw(), lambda name: adam_state(name, 8500.0 if name in MATRICES else 12.5)))
    )
    assert view.steps == {12.5: 2, 8500: 8}
    assert [type(step) for step in view.steps] == [float, int]
    assert view.step_of["layers.0.norm.weight"] == 12.5
    assert "at steps 12.5 to 8500" in view.sentence


# ------------------------------------------------------------------ cost and damage


def test_nothing_is_read_before_it_is_asked_for_and_of_tensors_only_steps() -> None:
    checkpoint = job(nested(adamw()))
    view = OptimizerView(checkpoint)
    assert (view.verdict, view.kind) == ("complete", "AdamW")
    assert checkpoint.reads == []
    assert view.steps == {100: 10}
    assert len(checkpoint.reads) == 10
    assert all(fqn.endswith(".step") for fqn in checkpoint.reads)


def test_rules_for_shapes() -> None:
    view = OptimizerView(job(nested(adamw())))
    exp_avg, step = view.rule("head.weight", "exp_avg"), view.rule("head.weight", "step")
    assert exp_avg is not None and exp_avg.shape == "param"
    assert step is not None and step.shape == "scalar"
    assert view.rule("head.weight", "nonsense") is None
    assert view.rule("nobody", "exp_avg") is None


def test_an_entry_that_cannot_be_read_does_not_hide_the_rest() -> None:
    from dcpctl.errors import TruncatedFile

    class Damaged:
        fqn = "x"

        @property
        def value(self) -> Any:
            raise TruncatedFile("cut off")

    checkpoint = job(nested(adamw()))
    checkpoint.entries["optimizer.param_groups.0.amsgrad"] = Damaged()  # type: ignore[assignment]
    view = OptimizerView(checkpoint)
    assert (view.verdict, view.kind) == ("partial", "AdamW")
    assert view.unreadable == ("optimizer.param_groups.0.amsgrad",)
    assert "1 optimizer entry could not be read" in view.sentence
    checkpoint = from_state_dict({"model": model()}, planner=False)
    checkpoint.entries["optimizer"] = Damaged()  # type: ignore[assignment]
    view = OptimizerView(checkpoint)
    assert (view.verdict, view.unreadable) == ("partial", ("optimizer",))


def test_settings_that_cannot_be_are_in_the_sentence_and_leave_the_state_complete() -> None:
    checkpoint = job(nested(adamw(lr=-1.0)))
    view = OptimizerView(checkpoint)
    assert view.verdict == "complete"
    assert view.sentence.startswith("Do not resume from this as it is: AdamW state is complete")
    assert "lr is -1.0" in view.sentence
