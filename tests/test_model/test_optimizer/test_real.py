"""The view of every real checkpoint in ../shared, and of the committed samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import dcpctl
from dcpctl.model.optimizer.view import OptimizerView

SHARED = Path(__file__).resolve().parents[4] / "shared"
CASES = sorted(
    f"{path.parent.parent.name}/{path.parent.name}"
    for path in SHARED.glob("checkpoints/*/*/expected.json")
)
ADAM = {"step", "exp_avg", "exp_avg_sq"}
SLOTS = {
    "optim_Adam_amsgrad": ADAM | {"max_exp_avg_sq"},
    "optim_AdamW_amsgrad_foreach": ADAM | {"max_exp_avg_sq"},
    "optim_NAdam": ADAM | {"mu_product"},
    "optim_NAdam_decoupled": ADAM | {"mu_product"},
    "optim_Adagrad": {"step", "sum"},
    "optim_Adadelta": {"step", "square_avg", "acc_delta"},
    "optim_Adamax": {"step", "exp_avg", "exp_inf"},
    "optim_ASGD": {"step", "eta", "mu", "ax"},
    "optim_RMSprop": {"step", "square_avg"},
    "optim_RMSprop_centered_mom": {"step", "square_avg", "grad_avg", "momentum_buffer"},
    "optim_Rprop": {"step", "prev", "step_size"},
    "optim_Adafactor": {"step", "row_var", "col_var", "variance"},
    "optim_Muon": {"momentum_buffer"},
    "optim_SGD": set[str](),
    "optim_SGD_momentum": {"momentum_buffer"},
    "optim_SGD_nesterov": {"momentum_buffer"},
}
# torch up to 2.3 drops what ranks other than the first hold and only they have: of this job with
# a stage on each rank all bytes entries, with 2.0 the tensors too.
TORCH_LOST = {"2.0.1/pp_like_w4": 29, "2.2.2/pp_like_w4": 0}


def expected_of(case: str) -> Any:
    return json.loads((SHARED / "checkpoints" / case / "expected.json").read_text())


@pytest.mark.parametrize(
    ("sample", "kind", "verdict", "step", "asked_for"),
    [
        ("healthy/step-8500", "AdamW", "complete", 8500, set()),
        ("model_only/step-8500", None, "absent", None, set()),
        ("legacy", "AdamW", "complete", 3, {"decoupled_weight_decay"}),
        ("silent_reset/step-9000", "AdamW", "complete", 9000, set()),
        ("silent_reset/step-9500", "AdamW", "complete", 500, set()),
        (
            "releases/1.13.1-optim_AdamW",
            *("AdamW", "complete", 4, {"differentiable", "fused", "decoupled_weight_decay"}),
        ),
        ("releases/2.15.0-optim_AdamW", "AdamW", "complete", 4, set()),
        ("releases/2.13.0-optim_Muon", "Muon", "complete", None, set()),
        ("releases/2.4.1-optim_SGD_momentum", "SGD", "complete", None, set()),
    ],
)
def test_the_committed_samples(
    samples: Path,
    sample: str,
    kind: str | None,
    verdict: str,
    step: int | None,
    asked_for: set[str],
) -> None:
    with dcpctl.open_checkpoint(samples / sample) as checkpoint:
        view = OptimizerView(checkpoint)
        assert (view.kind, view.verdict) == (kind, verdict)
        assert list(view.steps) == ([] if step is None else [step])
        assert {missing.key for missing in view.missing_group_keys("2.13")} == asked_for
        assert ("reset on the way" in view.sentence) is (sample == "silent_reset/step-9500")


@pytest.mark.parametrize("case", CASES)
def test_kind_verdict_and_counts(case: str) -> None:
    expected = expected_of(case)
    layout = case.split("/")[1]
    with dcpctl.open_checkpoint(SHARED / "checkpoints" / case / "ckpt") as checkpoint:
        view = OptimizerView(checkpoint)
        if expected["optimizer_type"] == "none":
            assert (view.verdict, view.kind, view.slots) == ("absent", None, {})
            return
        assert view.kind == expected["optimizer_type"]
        assert view.candidates == (view.kind,)
        if case in TORCH_LOST:
            assert view.verdict == "partial"
            assert len(view.with_status("lost")) == TORCH_LOST[case]
            assert len(view.groups_lost) == 29
            return
        assert (view.verdict, view.missing) == ("complete", ())
        if layout != "optim_LBFGS":
            assert set(view.slots) == SLOTS.get(layout, ADAM)
        for slot, count in view.slots.items():
            assert 0 < count.present == count.expected <= len(view.parameters), slot
        assert (view.extra_state, view.not_in_model) == ((), ())
        if "param_ids" in expected:
            assert [p.name for p in view.parameters] == expected["param_ids"]
        steps = {"base_step8500": 8500, "step_int_float": 8500}
        if "step" in view.slots:
            wanted = steps.get(layout, 4 if layout.startswith("optim_") else 3)
            assert view.steps == {wanted: len(view.parameters)}


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("frozen_layer")])
def test_the_frozen_layer(case: str) -> None:
    with dcpctl.open_checkpoint(SHARED / "checkpoints" / case / "ckpt") as checkpoint:
        view = OptimizerView(checkpoint)
        assert (view.verdict, view.frozen_count, len(view.parameters)) == ("complete", 9, 12)
        if case.startswith("2.0.1"):
            assert view.frozen == ()  # indices, and both layers have the same shapes
        else:
            assert all(name.startswith("layers.0.") for name in view.frozen)
            assert len(view.frozen) == 9


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("tied_embeddings")])
def test_the_tied_embeddings(case: str) -> None:
    with dcpctl.open_checkpoint(SHARED / "checkpoints" / case / "ckpt") as checkpoint:
        view = OptimizerView(checkpoint)
        assert view.tied == {"output.weight": "tok_embeddings.weight"}
        assert (len(view.parameters), view.frozen_count) == (20, 0)


@pytest.mark.parametrize(
    ("path", "kind", "root", "model_root", "parameters", "groups", "step"),
    [
        ("accelerate/fsdp1_w2/checkpoint_3", "AdamW", "optimizer", "model", 23, [23], 3),
        ("accelerate/fsdp2_w2/checkpoint_3", "AdamW", "optimizer", "model", 23, [17, 6], 3),
        (
            "lightning/fabric_mp_w2/epoch=0-step=3.ckpt",
            *("AdamW", "optimizer", "model", 23, [23], 3),
        ),
        (
            "torchtitan/titan_1group_w2/checkpoint/step-3",
            *("AdamW", "optimizer", "", 14, [14], 3),
        ),
        (
            "olmo_core/flattened_skipstep_w2/step3",
            *("SkipStepAdamW", "optim", "model", 23, [17, 6], 3),
        ),
        (
            "megatron_core/gpt_tp2_w2/iter_0000003",
            *("Adam or AdamW", "optimizer", "", 13, [], None),
        ),
        (
            "torch/uninterrupted/run/checkpoint/step-30",
            *("AdamW", "optimizer", "model", 14, [10, 4], 30),
        ),
    ],
)
def test_what_frameworks_write(
    shared: Path,
    path: str,
    kind: str,
    root: str,
    model_root: str,
    parameters: int,
    groups: list[int],
    step: int | None,
) -> None:
    with dcpctl.open_checkpoint(shared / "frameworks" / path) as checkpoint:
        view = OptimizerView(checkpoint)
        assert (view.verdict, view.kind, view.roots) == ("complete", kind, (root,))
        assert view.sections.model_root == model_root
        assert len(view.parameters) == parameters
        assert all(count.present == parameters for count in view.slots.values())
        assert view.steps == ({step: parameters} if step is not None else {})
        assert [len(group.params) for group in view.param_groups] == groups
        assert (view.frozen, view.tied, view.not_in_model, view.extra_state) == ((), {}, (), ())


@pytest.mark.parametrize(("step", "reset"), [(10, False), (20, False), (30, True), (40, True)])
def test_the_run_that_resumed_its_model_only(shared: Path, step: int, reset: bool) -> None:
    run = shared / "frameworks/torch/resumed_model_only/run/checkpoint"
    with dcpctl.open_checkpoint(run / f"step-{step}") as checkpoint:
        view = OptimizerView(checkpoint)
        assert view.verdict == "complete"
        assert view.job_step == ("train_state.step", step)
        assert list(view.steps) == [step - 20 if reset else step]
        assert ("seems to have been reset on the way" in view.sentence) is reset
