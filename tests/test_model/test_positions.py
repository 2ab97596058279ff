"""What the names of saves say."""

from __future__ import annotations

import pytest

from dcpctl.model.positions import position_of


@pytest.mark.parametrize(
    ("name", "unit", "value"),
    [
        ("step-8500", "step", 8500),
        ("step_10", "step", 10),
        ("global_step17", "step", 17),
        ("globalStep4", "step", 4),
        ("iter_0000003", "iteration", 3),
        ("ep0-ba2", "batch", 2),
        ("ep0-ba2-rank0", "batch", 2),
        ("epoch=0-step=3", "step", 3),
        ("epoch_0_step_10", "step", 10),
        ("epoch1epochstep4globalstep4", "step", 4),
        ("llama--val_loss=2.33-step=4-consumed_samples=40.0-last", "step", 4),
        ("consumed_samples=40.0", "samples", 40),
        ("100_steps", "step", 100),
        ("step-100k", "step", 100_000),
        ("step-20260712", "step", 20260712),
        ("epoch_4", "epoch", 4),
        ("checkpoint-500", "number", 500),
        ("12", "number", 12),
        ("0001000.net_model", "number", 1000),
        ("199_keep", "number", 199),
        ("pytorch_model_fsdp_0", "number", 0),
        ("checkpoint_2026-07-12_10-11-12.123456", "date", 20260712101112123456),
        ("20260712-101112", "date", 20260712101112000000),
        ("2026-07-12", "date", 20260712000000000000),
        ("misstep-3", "number", 3),
        ("epochstep4", None, None),
        ("val_loss=2.33", None, None),
        ("model", None, None),
        ("9" * 200, None, None),
        ("step-" + "9" * 200, None, None),
        ("", None, None),
    ],
)
def test_positions(name: str, unit: str | None, value: int | None) -> None:
    at = position_of(name)
    assert (unit, value) == ((None, None) if at is None else (at.unit, at.value))


def test_an_epoch_beside_a_step_is_kept() -> None:
    at = position_of("epoch_1_step_20")
    assert at is not None
    assert (at.epoch, at.step, at.words) == (1, 20, "step 20")


def test_a_date_is_said_as_one() -> None:
    at = position_of("checkpoint_2026-07-12_10-11-12.123456")
    assert at is not None
    assert (at.step, at.words) == (None, "2026-07-12 10:11:12")
