"""DCP612 to DCP611 and DCP520: weights and learning rates of two saves of a run."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from dcpctl.check.finding import CheckResult, Finding
from tests.hostile.draft import Draft
from tests.test_check.helpers import ADAMW, check, skipped, tensor_of, the

NAMES = ("layers.0.weight", "layers.1.weight", "layers.2.weight")
ROWS, WIDTH = 16, 16  # of each of two ranks
SCHEDULE = {"base_lrs": [1e-3], "_last_lr": [1e-3], "last_epoch": 100, "_step_count": 101}
Arrays = Mapping[str, np.ndarray]


def weights(seed: int = 1, size: float = 0.02) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal((2 * ROWS, WIDTH)) * size for name in NAMES}


def trained(old: Arrays, by: float = 1e-4, ranks: Sequence[int] = (0, 1)) -> dict[str, np.ndarray]:
    """The weights as some steps of the optimizer leave them, on these ranks."""
    random = np.random.default_rng(2)
    made = {}
    for name, array in old.items():
        made[name] = array.copy()
        for rank in ranks:
            rows = slice(rank * ROWS, (rank + 1) * ROWS)
            made[name][rows] += random.standard_normal((ROWS, WIDTH)) * by
    return made


def save(
    path: Path,
    arrays: Arrays,
    step: int,
    schedule: Mapping[str, object] | None = None,
    **group: object,
) -> Path:
    """Write a save of a run of AdamW."""
    draft = Draft()
    for name, array in arrays.items():
        fqns = [
            f"model.{name}",
            *(f"optimizer.state.{name}.{s}" for s in ("exp_avg", "exp_avg_sq")),
        ]
        for fqn, numbers in zip(fqns, (array, array, array**2 + 1), strict=True):
            draft.tensor(fqn, array.shape, [ROWS, ROWS])
            for rank in (0, 1):
                part = numbers[rank * ROWS : (rank + 1) * ROWS]
                item = tensor_of(*part.ravel().tolist(), shape=(ROWS, WIDTH))
                draft.replace_item(fqn, item, rank)
        draft.tensor(f"optimizer.state.{name}.step", ())
        draft.replace_item(f"optimizer.state.{name}.step", tensor_of(float(step), shape=()))
        for key, value in {**ADAMW, **group}.items():
            draft.value(f"optimizer.param_groups.{name}.{key}", pickle.dumps(value, 2))
    for key, value in (schedule or {}).items():
        draft.value(f"lr_scheduler.{key}", pickle.dumps(value, 2))
    directory = path / f"step-{step}"
    draft.write(directory)
    return directory


def compared(before: Path, after: Path, *select: str, **options: object) -> CheckResult:
    return check(after, *(select or ("DCP612", "DCP610")), against=before, **options)


@pytest.mark.parametrize("values", [False, True])
def test_weights_that_were_trained(tmp_path: Path, values: bool) -> None:
    before = save(tmp_path, weights(), 90, initial_lr=1e-3)
    after = save(tmp_path, trained(weights()), 100, initial_lr=1e-3)
    result = compared(before, after, values=values)
    assert result.findings == () and result.skipped == ()


def test_weights_that_stood_still(tmp_path: Path) -> None:
    before, after = save(tmp_path, weights(), 90), save(tmp_path, weights(), 100)
    found = the(compared(before, after))
    assert (found.rule, found.severity) == ("DCP612", "error")
    assert found.message.startswith("3 weights ('layers.0.weight', 'layers.1.weight'")
    assert (
        "exactly as in 'step-90', in all 1,536 numbers read, though the optimizer took 10 steps"
        in (found.message)
    )


def test_weights_of_one_rank_that_stood_still(tmp_path: Path) -> None:
    before = save(tmp_path, weights(), 90)
    after = save(tmp_path, trained(weights(), ranks=[0]), 100)
    found = the(compared(before, after))
    assert found.message.startswith("rank 1's part of 3 weights")
    assert found.file == "__1_0.distcp"


def test_updates_that_are_rounded_away(tmp_path: Path) -> None:
    before, after = (save(tmp_path, weights(), step, lr=1e-10) for step in (90, 100))
    found = the(compared(before, after))
    assert found.severity == "warning" and "rounded away" in found.message


def test_nothing_moves_without_a_learning_rate(tmp_path: Path) -> None:
    before, after = (save(tmp_path, weights(), step, lr=0.0) for step in (90, 100))
    assert compared(before, after).findings == ()


def test_an_optimizer_that_took_no_step_says_nothing(tmp_path: Path) -> None:
    before, after = save(tmp_path, weights(), 90), save(tmp_path / "again", weights(), 90)
    result = compared(before, after)
    assert result.findings == () and "took no step" in skipped(result)["DCP612"]


def replaced(tmp_path: Path, new: Arrays, steps: int = 10, **group: object) -> Finding:
    before = save(tmp_path, weights(), 90, **group)
    return the(compared(before, save(tmp_path, new, 90 + steps, **group), "DCP610"))


def test_weights_that_are_noise(tmp_path: Path) -> None:
    found = replaced(tmp_path, weights(seed=9), lr=1e-4, initial_lr=1e-4)
    assert (found.rule, found.severity) == ("DCP610", "error")
    assert "too far from 'step-90'" in found.message
    assert "10 steps at a learning rate of at most 0.0001 lead some 0.001 far" in found.message


def test_weights_that_are_scaled(tmp_path: Path) -> None:
    new = {name: array * 3 for name, array in weights().items()}
    assert replaced(tmp_path, new, lr=1e-4, initial_lr=1e-4).severity == "error"


def test_noise_of_one_rank(tmp_path: Path) -> None:
    new = trained(weights(), by=1e-5)
    for name, array in weights(seed=9).items():
        new[name][ROWS:] = array[ROWS:]
    found = replaced(tmp_path, new, lr=1e-4, initial_lr=1e-4)
    assert found.message.startswith("rank 1's part of 3 weights")


def test_where_the_peak_of_the_rate_is_not_known_it_is_a_warning(tmp_path: Path) -> None:
    assert replaced(tmp_path, weights(seed=9), lr=1e-4).severity == "warning"


def test_noise_after_so_many_steps_that_they_might_lead_there(tmp_path: Path) -> None:
    found = replaced(tmp_path, weights(seed=9), steps=1000, initial_lr=1e-3)
    assert found.severity == "warning" and "as that of noise" in found.message


def test_weights_may_go_far_in_many_steps(tmp_path: Path) -> None:
    before = save(tmp_path, weights(), 90, initial_lr=1e-3)
    after = save(tmp_path, trained(weights(), by=0.05), 1090, initial_lr=1e-3)
    assert compared(before, after).findings == ()


def rates(
    tmp_path: Path, first: Mapping[str, object] | None, rate: float, **group: object
) -> CheckResult:
    """A save whose groups have another rate than the scheduler set, after one like `first`."""
    before = save(tmp_path, weights(), 90, first, initial_lr=1e-3, **group)
    after = save(tmp_path, trained(weights()), 100, first, initial_lr=1e-3, **group | {"lr": rate})
    return compared(before, after, "DCP520", "DCP611")


def test_the_rate_that_the_scheduler_set(tmp_path: Path) -> None:
    assert rates(tmp_path, SCHEDULE, 1e-3).findings == ()
    assert rates(tmp_path / "rounded", SCHEDULE, float(np.float32(1e-3))).findings == ()


def test_another_rate_than_the_scheduler_set(tmp_path: Path) -> None:
    found = the(rates(tmp_path, SCHEDULE, 0.1))
    assert (found.rule, found.severity) == ("DCP520", "error")
    assert "lr is 0.1 for 3 parameters" in found.message
    assert "and not 0.001, which the scheduler set last; in 'step-90' it was" in found.message
    alone = the(check(tmp_path / "step-100", "DCP520"))
    assert alone.severity == "warning"


def test_a_rate_that_is_always_set_after_the_scheduler(tmp_path: Path) -> None:
    assert rates(tmp_path, SCHEDULE, 0.1, lr=0.2).findings == ()


def test_a_scheduler_of_another_optimizer(tmp_path: Path) -> None:
    other = {**SCHEDULE, "base_lrs": [0.5], "_last_lr": [0.5]}
    assert rates(tmp_path, other, 2e-3).findings == ()


@pytest.mark.parametrize(("rate", "jumps"), [(1e-2, False), (2e-2, True), (1e-6, False)])
def test_a_rate_that_nobody_schedules(tmp_path: Path, rate: float, jumps: bool) -> None:
    result = rates(tmp_path, None, rate)
    assert [found.rule for found in result.findings] == ["DCP611"] * jumps


def test_a_warm_up_from_zero_is_no_jump(tmp_path: Path) -> None:
    before = save(tmp_path, weights(), 1, lr=1e-6)
    after = save(tmp_path, trained(weights()), 1000, lr=1e-3)
    assert compared(before, after, "DCP611").findings == ()


def test_steps_that_could_not_be_read_are_no_restart(shared: Path, tmp_path: Path) -> None:
    save = shared / "frameworks" / "torch" / "interrupted_nometa" / "run" / "checkpoint" / "step-3"
    before, copy = (Path(shutil.copytree(save, tmp_path / name)) for name in ("step-3", "step-4"))
    for rank in (1, 3):
        (copy / f"__{rank}_0.distcp").unlink()
    assert compared(before, copy, "DCP612").findings == ()
