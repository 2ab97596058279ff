from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import fake_torch as ft
from tests.hostile.draft import Draft
from tests.test_check.helpers import (
    adamw,
    check,
    forget,
    rules,
    set_numbers,
    skipped,
    tensor_of,
    the,
    value_of,
)

STATE = "optimizer.state.layers.0.weight"


def test_a_complete_optimizer_has_no_finding(tmp_path: Path) -> None:
    adamw().write(tmp_path / "step-3")
    result = check(tmp_path / "step-3", "DCP4", "DCP5", ignore=("DCP401", "DCP402"))
    assert result.findings == ()
    assert result.skipped == ()


# -- 501: absent --


def weights() -> Draft:
    draft = Draft()
    draft.tensor("model.layers.0.weight", (4,))
    return draft


def test_weights_alone_are_a_warning(tmp_path: Path) -> None:
    weights().write(tmp_path / "weights")
    found = the(check(tmp_path / "weights", "DCP501"))
    assert (found.severity, found.subject) == ("warning", "optimizer")
    assert "these are weights" in found.message


def test_in_a_step_directory_they_are_an_error(tmp_path: Path) -> None:
    weights().write(tmp_path / "step-8500")
    found = the(check(tmp_path / "step-8500", "DCP501"))
    assert found.severity == "error"
    assert "the directory is that of step 8,500" in found.message


@pytest.mark.parametrize(
    "fqn", ["lr_scheduler.last_epoch", "dataloader.dp_rank_0", "rng_state", "train_state.epoch"]
)
def test_beside_the_rest_of_a_job_they_are_an_error(tmp_path: Path, fqn: str) -> None:
    draft = weights()
    draft.value(fqn, b"\x80\x02K\x01.")
    draft.write(tmp_path / "x")
    found = the(check(tmp_path / "x", "DCP501"))
    assert found.severity == "error"
    assert f"'{fqn}' is here" in found.message


def test_param_groups_without_state_are_an_error(tmp_path: Path) -> None:
    draft = adamw()
    for fqn in [fqn for fqn in draft.entries if fqn.startswith("optimizer.state")]:
        forget(draft, fqn)
    draft.write(tmp_path / "x")
    result = check(tmp_path / "x", "DCP5")
    assert the(result).severity == "error"
    assert "param groups are here" in the(result).message
    assert skipped(result)["DCP503"] == "there is no optimizer state"


def test_a_part_points_to_the_optimizer_beside_it(tmp_path: Path) -> None:
    weights().write(tmp_path / "save" / "pytorch_model_fsdp_0")
    adamw().write(tmp_path / "save" / "optimizer_0")
    found = the(check(tmp_path / "save" / "pytorch_model_fsdp_0", "DCP501"))
    assert found.severity == "info"
    assert "'optimizer_0'" in found.message


# -- 502, 503, 510, 511: partial --


def test_a_parameter_without_state(tmp_path: Path) -> None:
    draft = adamw("layers.0.a", "layers.0.b", "layers.1.a", "layers.1.b")
    for slot in ("exp_avg", "exp_avg_sq", "step"):
        forget(draft, f"optimizer.state.layers.0.a.{slot}")
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP502", "DCP503"))
    assert (found.rule, found.severity, found.subject) == ("DCP502", "warning", "layers.0.a")
    assert found.message.startswith(
        "1 of 4 trained parameters without optimizer state ('layers.0.a'): never got a gradient, "
        "or lost;"
    )


def test_a_module_without_state_may_never_have_been_trained(tmp_path: Path) -> None:
    draft = adamw("layers.0.a", "layers.0.b", "layers.1.a", "layers.1.b")
    for fqn in [fqn for fqn in draft.entries if fqn.startswith("optimizer.state.layers.0")]:
        forget(draft, fqn)
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP502"))
    assert found.severity == "warning"
    assert "never got a gradient, or lost" in found.message


def test_a_slot_is_missing(tmp_path: Path) -> None:
    draft = adamw()
    forget(draft, f"{STATE}.exp_avg_sq")
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP502", "DCP503"))
    assert (found.rule, found.severity, found.subject) == ("DCP503", "error", "layers.0.weight")
    assert "'exp_avg_sq' is missing from 1 parameter" in found.message


def test_state_without_parameter(tmp_path: Path) -> None:
    draft = adamw()
    forget(draft, "model.layers.1.weight")
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP510"))
    assert (found.severity, found.subject) == ("warning", "layers.1.weight")
    assert "1 parameter that the checkpoint's model does not have" in found.message


def test_lost_hyperparameters(tmp_path: Path) -> None:
    draft = adamw()
    planner = draft.metadata().planner_data
    for fqn in [f for f in draft.entries if f.startswith("optimizer.param_groups.layers.1")]:
        forget(draft, fqn)
    metadata = draft.metadata()
    metadata.planner_data = planner
    draft.write(tmp_path, metadata=ft.dumps(metadata))
    assert "of 1 parameter were lost" in the(check(tmp_path, "DCP511")).message


# -- 504, 509: shape and dtype --


def test_another_shape(tmp_path: Path) -> None:
    draft = adamw()
    forget(draft, f"{STATE}.exp_avg")
    draft.tensor(f"{STATE}.exp_avg", (8,))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP504"))
    assert (found.severity, found.subject) == ("error", f"{STATE}.exp_avg")
    assert found.message == ("exp_avg is [8], its parameter 'model.layers.0.weight' is [4]")


def test_a_step_for_every_number(tmp_path: Path) -> None:
    draft = adamw()
    forget(draft, f"{STATE}.step")
    draft.tensor(f"{STATE}.step", (4,))
    draft.write(tmp_path)
    assert the(check(tmp_path, "DCP504")).message == "step is [4], expected one number"


@pytest.mark.parametrize(
    ("dtype", "severities"), [("bfloat16", ["warning", "warning"]), ("int64", ["error", "warning"])]
)
def test_another_dtype(tmp_path: Path, dtype: str, severities: list[str]) -> None:
    draft = adamw()
    draft.entries[f"{STATE}.exp_avg"].properties.dtype = ft.dtype(dtype)
    draft.write(tmp_path)
    result = check(tmp_path, "DCP509")
    assert [found.severity for found in result.findings] == severities
    assert result.findings[0].subject == f"{STATE}.exp_avg"
    assert "several dtypes" in result.findings[1].message


# -- 505, 506: steps --


def test_steps_differ(tmp_path: Path) -> None:
    draft = adamw(step=100.0)
    draft.replace_item(f"{STATE}.step", tensor_of(40.0, shape=()))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP505"))
    assert (found.severity, found.subject) == ("warning", "layers.0.weight")
    assert "2 different steps, 40 (1 parameter), 100 (1 parameter)" in found.message


@pytest.mark.parametrize(
    ("name", "step", "severity"),
    [
        ("step-8500", 8500.0, None),
        ("step-8500", 500.0, "error"),
        ("step-8500", 8490.0, "warning"),
        ("step-8500", 9000.0, "error"),
        ("iter_0008500", 8500.0, None),
        ("checkpoint_3", 8500.0, None),
        ("step-8499", 8500.0, "info"),
        ("epoch_3", 8500.0, None),
        ("final", 8500.0, None),
    ],
)
def test_step_against_the_directory(
    tmp_path: Path, name: str, step: float, severity: str | None
) -> None:
    adamw(step=step).write(tmp_path / name)
    found = check(tmp_path / name, "DCP506").findings
    assert [item.severity for item in found] == ([severity] if severity else [])


def test_a_reset_says_so(tmp_path: Path) -> None:
    draft = adamw(step=500.0)
    draft.value("train_state.step", b"\x80\x02M\x1c%.")
    draft.write(tmp_path / "step-9500")
    found = the(check(tmp_path / "step-9500", "DCP506"))
    assert found.message == (
        "the optimizer is at step 500; train_state.step and the directory's name say 9,500: "
        "it was reset or restored from an older save"
    )


def test_expected_step(tmp_path: Path) -> None:
    adamw(step=500.0).write(tmp_path / "step-9500")
    assert check(tmp_path / "step-9500", "DCP506", expect_step=500).findings == ()
    found = the(check(tmp_path / "step-9500", "DCP506", expect_step=501))
    assert found.severity == "error"
    assert "--expect-step says 501" in found.message


def test_without_a_step_to_compare_the_rule_is_skipped(tmp_path: Path) -> None:
    adamw().write(tmp_path / "final")
    assert "directory names a step" in skipped(check(tmp_path / "final", "DCP506"))["DCP506"]


def test_the_silent_reset_of_the_samples(samples: Path) -> None:
    for step in ("step-8500", "step-9000"):
        assert not check(samples / "silent_reset" / step, "DCP5").failed(strict=True)
    found = the(check(samples / "silent_reset" / "step-9500", "DCP5"))
    assert found.rule == "DCP506"


# -- 507, 508: second moments --


def test_a_negative_second_moment(tmp_path: Path) -> None:
    draft = adamw()
    set_numbers(draft, f"{STATE}.exp_avg_sq", 1.0, -2.0, -0.5, 1.0)
    draft.write(tmp_path)
    for values in (False, True):
        found = the(check(tmp_path, "DCP507", "DCP508", values=values))
        assert (found.rule, found.subject) == ("DCP507", f"{STATE}.exp_avg_sq")
        assert "the lowest -2" in found.message or not values


def test_a_negative_number_behind_the_sample_is_found_with_values(tmp_path: Path) -> None:
    draft = adamw()
    set_numbers(draft, f"{STATE}.exp_avg_sq", 1.0, 2.0, -0.5, 1.0)
    draft.write(tmp_path)
    result = check(tmp_path, "DCP507")
    assert result.findings == ()
    assert result.notes[0] == (
        "Of 2 second moments, 2 were examined in part. --values examines them in full."
    )
    assert the(check(tmp_path, "DCP507", values=True)).severity == "error"


def test_one_second_moment_of_zeros_is_a_warning(tmp_path: Path) -> None:
    draft = adamw()
    set_numbers(draft, f"{STATE}.exp_avg_sq", 0.0, 0.0, 0.0, 0.0)
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP508"))
    assert (found.severity, found.subject) == ("warning", f"{STATE}.exp_avg_sq")


def test_all_second_moments_of_zeros_are_an_error(tmp_path: Path) -> None:
    draft = adamw()
    for layer in (0, 1):
        set_numbers(draft, f"optimizer.state.layers.{layer}.weight.exp_avg_sq", 0.0, 0.0, 0.0, 0.0)
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP508"))
    assert found.severity == "error"
    assert "the moments are lost" in found.message


def test_zeros_before_the_first_step_are_fine(tmp_path: Path) -> None:
    draft = adamw(step=0.0)
    for layer in (0, 1):
        set_numbers(draft, f"optimizer.state.layers.{layer}.weight.exp_avg_sq", 0.0, 0.0, 0.0, 0.0)
    draft.write(tmp_path)
    assert check(tmp_path, "DCP508").findings == ()


def test_moments_that_cannot_be_read_skip_the_rule(tmp_path: Path) -> None:
    draft = adamw()
    draft.replace_item(f"{STATE}.exp_avg_sq", value_of("no tensor"))
    draft.write(tmp_path)
    result = check(tmp_path, "DCP507", "DCP508")
    assert "1 second moment could not be read" in skipped(result)["DCP507"]
    assert rules(result) == set()


# -- 517, 518, 519: numbers that cannot be --


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({"lr": -0.001}, "lr is -0.001 for 2 parameters"),
        ({"lr": float("nan")}, "lr is nan for 2 parameters"),
        ({"betas": (0.9, 1.0)}, "betas is (0.9, 1.0) for 2 parameters"),
        ({"eps": float("inf")}, "eps is inf for 2 parameters"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0 for 2 parameters"),
    ],
)
def test_a_hyperparameter_that_cannot_be(
    tmp_path: Path, group: dict[str, object], said: str
) -> None:
    adamw(**group).write(tmp_path)
    found = the(check(tmp_path, "DCP518"))
    assert (found.severity, found.subject) == ("error", f"param_groups.{next(iter(group))}")
    assert found.message.startswith(said)


@pytest.mark.parametrize("step", [-1.0, 2.5, float("nan"), float("inf")])
def test_a_step_that_cannot_be(tmp_path: Path, step: float) -> None:
    adamw(step=step).write(tmp_path)
    found = the(check(tmp_path, "DCP519"))
    assert (found.severity, found.subject) == ("error", "layers.0.weight")
    assert found.message.startswith(f"step is {step:g} for 2 parameters")


def test_steps_that_can_be(tmp_path: Path) -> None:
    adamw(step=0.0).write(tmp_path)
    assert check(tmp_path, "DCP518", "DCP519", "DCP517").findings == ()


def test_a_second_moment_that_is_not_finite(tmp_path: Path) -> None:
    draft = adamw()
    set_numbers(draft, f"{STATE}.exp_avg_sq", 1.0, float("inf"), 2.0, float("nan"))
    draft.write(tmp_path)
    for values in (True, False):
        found = the(check(tmp_path, "DCP517", values=values))
        assert found.subject == f"{STATE}.exp_avg_sq"
        assert "1 infinity" in found.message or "1 infinity and 1 NaN" in found.message


def test_a_zero_second_moment_beside_a_first_one_is_said_once(tmp_path: Path) -> None:
    draft = adamw()
    set_numbers(draft, f"{STATE}.exp_avg_sq", 0.0, 0.0, 0.0, 0.0)
    draft.write(tmp_path)
    assert rules(check(tmp_path, "DCP508", "DCP512")) == {"DCP512"}
