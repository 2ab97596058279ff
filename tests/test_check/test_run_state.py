"""DCP603 to DCP608: what two saves of a run hold, compared."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from dcpctl.check.finding import CheckResult
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
)

ONE = b"\x80\x02K\x01."
STATE = "optimizer.state.layers.0.weight"


def against(tmp_path: Path, before: Draft, after: Draft, *select: str) -> CheckResult:
    before.write(tmp_path / "step-3")
    after.write(tmp_path / "step-3b")
    return check(tmp_path / "step-3b", *(select or ("DCP6",)), against=tmp_path / "step-3")


def changed(change: Callable[[Draft], None], *names: str) -> Draft:
    draft = adamw(*names)
    change(draft)
    return draft


def test_two_saves_of_a_healthy_run_differ_in_nothing(tmp_path: Path) -> None:
    assert against(tmp_path, adamw(), adamw(), "DCP603", "DCP604", "DCP605").findings == ()
    assert against(tmp_path, adamw(), adamw(), "DCP606", "DCP607", "DCP608").findings == ()


# -- 603: optimizer state --


def test_state_that_is_gone_is_named(tmp_path: Path) -> None:
    def lose(draft: Draft) -> None:
        for slot in ("exp_avg", "exp_avg_sq"):
            forget(draft, f"{STATE}.{slot}")

    result = against(tmp_path, adamw(), changed(lose), "DCP603")
    assert [(f.severity, f.message) for f in result.findings] == [
        (
            "error",
            f"'{slot}' of 1 of 2 parameters with state in 'step-3' is not here: 'layers.0.weight'",
        )
        for slot in ("exp_avg", "exp_avg_sq")
    ]


def test_state_of_a_parameter_in_no_group_was_frozen(tmp_path: Path) -> None:
    def freeze(draft: Draft) -> None:
        for fqn in list(draft.entries):
            if "layers.0" in fqn and fqn.startswith("optimizer"):
                forget(draft, fqn)

    found = the(against(tmp_path, adamw(), changed(freeze), "DCP603"))
    assert found.severity == "info"
    assert "1 parameter trained in 'step-3' and in no param group here" in found.message


def test_another_optimizer_is_told(tmp_path: Path) -> None:
    after = Draft()
    for name in ("layers.0.weight", "layers.1.weight"):
        after.tensor(f"model.{name}", (4,), [2, 2])
        after.tensor(f"optimizer.state.{name}.momentum_buffer", (4,), [2, 2])
        for key in ("lr", "momentum", "dampening", "nesterov", "weight_decay"):
            after.value(f"optimizer.param_groups.{name}.{key}", ONE)
    found = the(against(tmp_path, adamw(), after, "DCP603"))
    assert (found.severity, found.subject) == ("warning", "optimizer")
    assert found.message == ("the optimizer is SGD here and was AdamW in 'step-3': it started over")


# -- 604: keys --


def test_keys_that_are_gone_or_new_by_section(tmp_path: Path) -> None:
    before, after = adamw(), adamw()
    before.value("lr_scheduler.last_epoch", ONE)
    before.tensor("model.extra.weight", (4,))
    after.value("train_state.tokens", ONE)
    result = against(tmp_path, before, after, "DCP604")
    assert [(f.severity, f.subject, f.message) for f in result.findings] == [
        ("error", "model.extra.weight",
         "1 model key of 'step-3' not here: 'model.extra.weight'"),
        ("warning", "lr_scheduler.last_epoch",
         "1 scheduler key of 'step-3' not here: 'lr_scheduler.last_epoch'"),
        ("info", "train_state.tokens", "1 key not in 'step-3': 'train_state.tokens'"),
    ]  # fmt: skip


def test_names_that_a_wrapper_changed_are_renamed(tmp_path: Path) -> None:
    names = [f"layers.{index}._orig_mod.weight" for index in (0, 1)]
    found = the(against(tmp_path, adamw(), adamw(*names), "DCP603", "DCP604", "DCP605"))
    assert (found.rule, found.severity) == ("DCP604", "warning")
    assert found.message == (
        "2 keys named otherwise: 'model.layers.0.weight' in 'step-3' is "
        "'model.layers.0._orig_mod.weight' here"
    )


# -- 605: shapes and dtypes --


def test_another_shape_is_an_error(tmp_path: Path) -> None:
    before, after = adamw(), adamw()
    before.tensor("model.extra.weight", (4, 2))
    after.tensor("model.extra.weight", (5, 2))
    found = the(against(tmp_path, before, after, "DCP605"))
    assert (found.severity, found.subject) == ("error", "model.extra.weight")
    assert found.message == "its shape is [5, 2] here and [4, 2] in 'step-3'"


def test_another_dtype_of_model_or_moments_is_a_warning(tmp_path: Path) -> None:
    def half(draft: Draft) -> None:
        for slot in ("exp_avg", "exp_avg_sq"):
            draft.entries[f"{STATE}.{slot}"].properties.dtype = ft.dtype("bfloat16")

    found = the(against(tmp_path, adamw(), changed(half), "DCP605"))
    assert found.severity == "warning"
    assert found.message == (
        f"2 tensors of bfloat16 here and of float32 in 'step-3': '{STATE}.exp_avg', "
        f"'{STATE}.exp_avg_sq'"
    )


# -- 606: ranks --


def with_ranks(key: str, count: int) -> Draft:
    draft = adamw()
    for rank in range(count):
        draft.value(key.format(rank), ONE)
    return draft


def test_dataloader_ranks_that_are_gone_are_a_warning(tmp_path: Path) -> None:
    key = "dataloader.dp_rank_{}"
    result = against(tmp_path, with_ranks(key, 8), with_ranks(key, 4), "DCP604", "DCP606")
    found = the(result)
    assert (found.rule, found.severity, found.subject) == (
        *("DCP606", "warning", "dataloader.dp_rank_4"),
    )
    assert found.message == (
        "the dataloader state of 8 ranks in 'step-3', of 4 here: that of ranks 4 to 7 is gone, and "
        "what they had read of the data"
    )


def test_other_ranks_that_are_gone_are_told_and_more_are_nothing(tmp_path: Path) -> None:
    key = "rng_state.rank{}"
    found = the(against(tmp_path, with_ranks(key, 2), with_ranks(key, 1), "DCP604", "DCP606"))
    assert found.severity == "info"
    assert (
        found.message == "the rng state of 2 ranks in 'step-3', of 1 here: that of rank 1 is gone"
    )
    more = against(tmp_path / "more", with_ranks(key, 1), with_ranks(key, 2), "DCP604", "DCP606")
    assert more.findings == ()


def test_state_of_no_rank_at_all_is_a_key_that_is_gone(tmp_path: Path) -> None:
    before = with_ranks("dataloader.dp_rank_{}", 2)
    found = the(against(tmp_path, before, adamw(), "DCP604", "DCP606"))
    assert found.rule == "DCP604"
    assert "1 dataloader key of 'step-3' not here: 'dataloader.dp_rank_#'" in found.message


# -- 607 and 608: what may have been meant --


def test_hyperparameters_that_changed_are_told_and_the_rate_is_not(tmp_path: Path) -> None:
    result = against(tmp_path, adamw(lr=1e-3), adamw(lr=5e-4, eps=1e-6), "DCP607")
    found = the(result)
    assert (found.severity, found.subject) == ("info", "param_groups.eps")
    assert found.message == (
        "eps is 1e-06 here and 1e-08 in 'step-3', for 2 parameters: 'layers.0.weight', "
        "'layers.1.weight'"
    )


@pytest.mark.parametrize(
    ("old", "new", "severity"),
    [
        ({"weight_decay": 0.1}, {"weight_decay": 0.2}, "info"),
        ({"weight_decay": 0.1}, {"weight_decay": 0.0}, "info"),
        ({"weight_decay": 0.1}, {"weight_decay": 10.0}, "warning"),
        ({"betas": (0.9, 0.999)}, {"betas": (0.9, 0.99)}, "warning"),
        ({"betas": (0.9, 0.999)}, {"betas": (0.95, 0.999)}, "info"),
        ({"eps": 1e-8}, {"eps": 1e-2}, "warning"),
    ],
)
def test_hyperparameters_that_jump_are_a_warning(
    tmp_path: Path, old: dict[str, object], new: dict[str, object], severity: str
) -> None:
    result = against(tmp_path, adamw(**old), adamw(**new), "DCP607")
    assert the(result).severity == severity


def test_a_cyclic_schedule_moves_beta1_in_its_span(tmp_path: Path) -> None:
    span = {"base_momentum": 0.85, "max_momentum": 0.95}
    before, after = adamw(betas=(0.95, 0.999), **span), adamw(betas=(0.87, 0.999), **span)
    assert against(tmp_path, before, after, "DCP607").findings == ()
    after = adamw(betas=(0.5, 0.999), **span)
    assert against(tmp_path / "out", before, after, "DCP607").findings


def test_a_layout_that_changed_midway_is_reported_and_not_failed(tmp_path: Path) -> None:
    after = Draft()
    for fqn, entry in adamw().entries.items():
        if hasattr(entry, "size"):
            after.tensor(fqn, tuple(entry.size), [1, 1, 2] if len(entry.size) else None)
    result = against(tmp_path, adamw(), after, "DCP605", "DCP608")
    found = the(result)
    assert (found.rule, found.severity, found.subject) == ("DCP608", "info", "layout")
    assert found.message == (
        "saved by 3 ranks here and by 2 in 'step-3'; 6 of 8 tensors have other chunks"
    )
    assert not result.failed(strict=True)


def test_the_samples(samples: Path) -> None:
    """The last of three saves was reset; all three pretend steps that were not taken."""
    steps = samples / "silent_reset"
    well = check(steps / "step-9000", "DCP6", against=steps / "step-8500")
    assert well.findings == ()
    reset = check(steps / "step-9500", "DCP6", against=steps / "step-9000")
    assert rules(reset) == {"DCP601"}
    assert "reset at step 9,000, and exp_avg_sq with it" in the(reset).message


@pytest.mark.parametrize(
    ("run", "first"), [("uninterrupted", None), ("resumed_model_only", "step-30")]
)
def test_real_runs(shared: Path, run: str, first: str | None) -> None:
    folder = shared / "frameworks" / "torch" / run / "run" / "checkpoint"
    for before, after in pairwise(f"step-{step}" for step in (10, 20, 30, 40)):
        result = check(folder / after, "DCP6", against=folder / before)
        assert rules(result) == ({"DCP601"} if after == first else set())
        assert not result.skipped


# -- 602 on numbers made by hand --


def second_moments(step: int, rows: list[int], *numbers: float) -> Draft:
    """An AdamW of beta2 0.95 on four parameters in one tensor, cut into chunks of so many rows."""
    draft = adamw("w", step=float(step))
    for fqn in ("optimizer.state.w.exp_avg_sq", "optimizer.state.w.exp_avg"):
        forget(draft, fqn)
        draft.tensor(fqn, (4,), rows)
        start = 0
        for chunk, count in enumerate(rows):
            draft.replace_item(fqn, tensor_of(*numbers[start : start + count]), chunk)
            start += count
    return draft


@pytest.mark.parametrize("values", [False, True])
def test_the_same_numbers_are_compared_whatever_the_layouts(tmp_path: Path, values: bool) -> None:
    second_moments(10, [2, 2], 1.0, 2.0, 3.0, 4.0).write(tmp_path / "step-10")
    least = 0.95**2 * 1.001
    for name, rows, numbers in (
        ("well", [1, 3], (least, 2 * least, 3 * least, 4 * least)),
        ("turned", [1, 3], (4 * least, 3 * least, 2 * least, least)),
        ("reset", [4], (0.1, 0.2, 0.3, 0.4)),
    ):
        second_moments(12, rows, *numbers).write(tmp_path / name / "step-12")
    results = {
        name: check(
            tmp_path / name / "step-12", "DCP602", against=tmp_path / "step-10", values=values
        )
        for name in ("well", "turned", "reset")
    }
    assert results["well"].findings == ()
    assert "in part" in results["well"].notes[0] or values
    assert results["turned"].findings == ()  # two numbers may be two flipped bits
    assert the(results["reset"]).message == (
        "exp_avg_sq restarted in 1 of 1 tensor: 4 of 4 numbers are below 0.9 of what they were "
        "in 'step-10', the least that 2 steps can leave; reset at about step 11 (±1); step says 12 "
        "all the same"
    )


def test_moments_that_cannot_be_read_are_no_pass(tmp_path: Path) -> None:
    second_moments(10, [2, 2], 1.0, 2.0, 3.0, 4.0).write(tmp_path / "step-10")
    second_moments(12, [2, 2], 1.0, 2.0, 3.0, 4.0).write(tmp_path / "step-12")
    (tmp_path / "step-10" / "__1_0.distcp").unlink()
    result = check(tmp_path / "step-12", "DCP602", against=tmp_path / "step-10")
    assert result.findings == ()
    assert skipped(result)["DCP602"].startswith(
        "1 second moment could not be read ('optimizer.state.w.exp_avg_sq'): "
    )


def test_what_cannot_be_proved_is_a_warning(tmp_path: Path) -> None:
    for step, first, second in ((100_000, 0.2, 1.0), (130_000, 0.1, 0.01)):
        draft = adamw(step=float(step), betas=(0.9, 0.999))
        for name in ("layers.0.weight", "layers.1.weight"):
            set_numbers(draft, f"optimizer.state.{name}.exp_avg", *[first] * 4)
            set_numbers(draft, f"optimizer.state.{name}.exp_avg_sq", *[second] * 4)
        draft.write(tmp_path / f"step-{step}")
    result = check(tmp_path / "step-130000", "DCP602", against=tmp_path / "step-100000")
    found = the(result)
    assert (found.severity, found.subject) == ("warning", f"{STATE}.exp_avg_sq")
    assert found.message == (
        "exp_avg_sq looks as if it restarted in 2 of 2 tensors: it is 0.01 of what it was in "
        "'step-100000', and exp_avg is not; 30,000 steps are too many to prove it; reset at about "
        "step 129,990 (±21)"
    )
    assert "a restart in between may not show" not in result.notes[0]
