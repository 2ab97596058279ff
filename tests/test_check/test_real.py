"""No false alarm on real checkpoints of all releases and frameworks; only what is true of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_check.helpers import check, rules

#: Entries that 2.0 to 2.3 did not save: what was not on the coordinator rank.
LOST = {"DCP107", "DCP511"}
#: What is wrong on purpose, by the name of the case, whatever the release.
MADE = {
    "extras_w4": {"DCP506"},  # train_state.step is a number out of the blue
    "dtensor_zoo": {"DCP307"},  # has a tensor of NaN and infinities
}


def cases(shared: Path) -> list[Path]:
    return sorted(shared.glob("checkpoints/*/*/ckpt"))


def errors_of(release: str, name: str) -> set[str]:
    expected = set(MADE.get(name, set()))
    if name == "pp_like_w4" and release in ("2.0.1", "2.2.2"):
        expected |= LOST | ({"DCP502"} if release == "2.0.1" else set())
    return expected


#: Plain objects under `optimizer.state.0`, a number when it was saved: `step`, `func_evals`.
PLAIN_STATE = {"optim_LBFGS", "optim_SparseAdam", "step_int_float", "extras_w4"}
PLAIN_STEP = {"optim_Adadelta", "optim_RMSprop", "optim_RMSprop_centered_mom", "optim_Rprop"}


def warnings_of(release: str, name: str) -> set[str]:
    if name in PLAIN_STATE or (name in PLAIN_STEP and release in ("2.0.1", "2.2.2")):
        return {"DCP411"}
    if name == "no_collectives":
        return {"DCP407"}
    if name == "safetensors_format":
        return {"DCP407", "DCP501"}
    if name.startswith(("model_only", "hf_")) or name == "dtensor_zoo":
        return {"DCP501"}
    if name == "pp_like_w4" and release == "2.0.1":
        return {"DCP510"}
    return {"DCP403"} if name.startswith("wrapped_names") else set()


@pytest.mark.slow
def test_shared_checkpoints(shared: Path) -> None:
    alarms = {}
    for path in cases(shared):
        release, name = path.parts[-3:-1]
        result = check(path, torch=release, verify_data=True, values=True)
        found = (rules(result, "error"), rules(result, "warning"))
        if found != (errors_of(release, name), warnings_of(release, name)):
            alarms[f"{release}/{name}"] = found
        assert result.items_verified == result.items
    assert alarms == {}


@pytest.mark.parametrize(
    ("path", "errors"),
    [
        ("accelerate/fsdp1_w2/checkpoint_3", set()),
        ("accelerate/fsdp2_w2/checkpoint_3", set()),
        ("lightning/fabric_mp_w2/epoch=0-step=3.ckpt", set()),
        ("megatron_core/gpt_tp2_w2/iter_0000003", set()),
        ("olmo_core/flattened_skipstep_w2/step3", set()),
        ("olmo_core/flattened_skipstep_w2/step3/model_and_optim", set()),
        ("torchtitan/titan_1group_w2/checkpoint/step-3", set()),
        ("torch/uninterrupted/run/checkpoint/step-30", set()),
        ("torch/resumed_model_only/run/checkpoint/step-20", set()),
        ("torch/resumed_model_only/run/checkpoint/step-30", {"DCP506"}),
        ("torch/interrupted_nometa/run/checkpoint/step-3", set()),
    ],
)
def test_frameworks(shared: Path, path: str, errors: set[str]) -> None:
    result = check(shared / "frameworks" / path, verify_data=True, values=True)
    assert rules(result, "error") == errors
    assert rules(result, "warning") <= {"DCP408"}
    assert result.items_verified == result.items
