"""DCP512 and DCP513: moments that contradict each other, and ranks whose moments are all zero."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest

from dcpctl.check import moment_pairs
from dcpctl.check.finding import CheckResult
from tests.hostile.draft import Draft
from tests.test_check.helpers import ADAMW, check, skipped, tensor_of, the

NAMES = ("layers.0.weight", "layers.1.weight")
ROWS, WIDTH = 4, 4  # of a chunk


def trained(
    first: Sequence[float] = (0.1, -0.2, 0.3, 0.1),
    second: Sequence[float] = (0.1, 0.2, 0.3, 0.1),
    *,
    names: Sequence[str] = NAMES,
    slots: Sequence[str] = ("exp_avg", "exp_avg_sq"),
    ranks: int = 2,
    step: float = 100.0,
    **group: object,
) -> Draft:
    """An optimizer whose moments are these rows again and again, of two ranks."""
    draft = Draft()
    for name in names:
        draft.tensor(f"model.{name}", (ROWS * ranks, WIDTH), [ROWS] * ranks)
        for slot, row in zip(slots, (first, second, second), strict=False):
            fill(draft, name, slot, row, range(ranks), new=True)
        draft.tensor(f"optimizer.state.{name}.step", ())
        draft.replace_item(f"optimizer.state.{name}.step", tensor_of(step, shape=()))
        for key, value in {**ADAMW, **group}.items():
            draft.value(f"optimizer.param_groups.{name}.{key}", pickle.dumps(value, 2))
    return draft


def fill(
    draft: Draft,
    name: str,
    slot: str,
    row: Sequence[float],
    ranks: Sequence[int],
    *,
    new: bool = False,
) -> None:
    """Put rows like this one into the chunks of these ranks."""
    fqn = f"optimizer.state.{name}.{slot}"
    if new:
        draft.tensor(fqn, (ROWS * len(ranks), WIDTH), [ROWS] * len(ranks))
    for rank in ranks:
        draft.replace_item(fqn, tensor_of(*row * ROWS, shape=(ROWS, WIDTH)), rank)


def run(draft: Draft, path: Path, **options: object) -> CheckResult:
    draft.write(path)
    return check(path, "DCP512", "DCP513", **options)


@pytest.mark.parametrize("values", [False, True])
def test_moments_of_the_same_gradients(tmp_path: Path, values: bool) -> None:
    result = run(trained(), tmp_path, values=values)
    assert result.findings == () and result.skipped == ()


@pytest.mark.parametrize("values", [False, True])
def test_the_rank_is_named_whose_second_moments_are_zero(tmp_path: Path, values: bool) -> None:
    draft = trained()
    for name in NAMES:
        fill(draft, name, "exp_avg_sq", [0.0] * WIDTH, [1])
    found = the(run(draft, tmp_path, values=values))
    assert (found.rule, found.severity) == ("DCP512", "error")
    assert found.file == "__1_0.distcp"
    assert found.subject == "optimizer.state.layers.0.weight.exp_avg"
    assert found.message.startswith("exp_avg_sq is zero everywhere in rank 1's chunks of 2 parame")


def test_first_moments_that_are_zero(tmp_path: Path) -> None:
    draft = trained()
    fill(draft, NAMES[1], "exp_avg", [0.0] * WIDTH, [0])
    found = the(run(draft, tmp_path))
    assert found.rule == "DCP512"
    assert found.message.startswith("exp_avg is zero everywhere in rank 0's chunks of 1 parameter")


def test_without_momentum_first_moments_may_be_zero(tmp_path: Path) -> None:
    assert run(trained([0.0] * WIDTH, betas=(0.0, 0.95)), tmp_path).findings == ()


def test_swapped_moments(tmp_path: Path) -> None:
    found = the(run(trained((0.1, 0.2, 0.3, 0.1), (0.1, -0.2, 0.3, -0.1)), tmp_path))
    assert "look swapped in 2 parameters" in found.message
    assert found.file is None  # of both ranks


def test_moments_of_other_gradients(tmp_path: Path) -> None:
    draft = trained()
    fill(draft, NAMES[0], "exp_avg", (0.1, -18.0, 0.3, 0.1), [1])
    found = the(run(draft, tmp_path))
    assert (
        "in 4 of 16 numbers read, up to 40.2 times the root of exp_avg_sq, and no gradients bring "
        "it above 1.16 times in 100 steps (betas 0.9 and 0.95)" in found.message
    )


def test_moments_beside_a_second_one_of_zero(tmp_path: Path) -> None:
    draft = trained()
    fill(draft, NAMES[0], "exp_avg_sq", (0.1, 0.0, 0.3, 0.1), [1])
    found = the(run(draft, tmp_path))
    assert (
        "some beside an exp_avg_sq of zero, and no gradients bring it above 1.16 times the root"
        in (found.message)
    )


def test_swapped_moments_are_said_once(tmp_path: Path) -> None:
    trained((0.1, 0.2, 0.3, 0.1), (0.1, -0.2, 0.3, -0.1)).write(tmp_path)
    assert the(check(tmp_path, "DCP507", "DCP512")).rule == "DCP512"
    found = the(check(tmp_path, "DCP507"))
    assert "16 negative numbers among 32 read of exp_avg_sq of 2 parameters" in found.message


def test_betas_may_have_changed_in_the_last_steps(tmp_path: Path) -> None:
    moments = (4.1, -4.1, 4.1, 4.1), (1.1,) * WIDTH  # 3.9 times the root; 1.16 is the most
    trained(*moments, step=50.0).write(tmp_path / "step-50")
    trained(*moments, step=99.0).write(tmp_path / "step-99")
    draft = trained(*moments)
    found = the(run(draft, tmp_path / "step-100"))
    assert found.severity == "warning"
    assert found.message.endswith(", or the betas changed in the last steps")
    found = the(run(draft, tmp_path / "step-100", against=tmp_path / "step-99"))
    assert found.severity == "warning"
    found = the(run(draft, tmp_path / "step-100", against=tmp_path / "step-50"))
    assert found.severity == "error"


def test_betas_that_a_cyclic_schedule_moves(tmp_path: Path) -> None:
    first = (5.1, -5.1, 5.1, 5.1)  # times sqrt(1): beyond what 0.95 allows, not 0.5
    for extra, wrong in (({}, True), ({"base_momentum": 0.5, "max_momentum": 0.95}, False)):
        draft = trained(first, (1.0,) * WIDTH, betas=(0.95, 0.99), **extra)
        assert bool(run(draft, tmp_path / str(wrong)).findings) is wrong


def test_betas_of_the_save_before_count(tmp_path: Path) -> None:
    moments = (5.1, -5.1, 5.1, 5.1), (1.0,) * WIDTH
    trained(*moments, betas=(0.5, 0.99)).write(tmp_path / "step-50")
    draft = trained(*moments, betas=(0.95, 0.99))
    assert run(draft, tmp_path / "step-100").findings
    assert run(draft, tmp_path / "step-100", against=tmp_path / "step-50").findings == ()


def test_betas_that_nobody_knows(tmp_path: Path) -> None:
    result = run(trained((9.0,) * WIDTH, betas=None), tmp_path)
    assert result.findings == ()
    assert skipped(result)["DCP512"].startswith("the betas of 2 parameters are unknown")


def test_an_optimizer_that_may_keep_other_means(tmp_path: Path) -> None:
    fused = {"bias_correction": True, "betas": (0.9, 0.95), "eps": 1e-8, "lr": 1e-3}
    for names, severity in ((NAMES, "info"), (NAMES[:1], "error")):
        draft = trained()
        for name in NAMES:
            for key in ADAMW:
                fqn = f"optimizer.param_groups.{name}.{key}"
                del draft.entries[fqn]
                for index in [index for index in draft.storage if index.fqn == fqn]:
                    del draft.storage[index]
            for key, value in fused.items():
                draft.value(f"optimizer.param_groups.{name}.{key}", pickle.dumps(value, 2))
        for name in names:
            fill(draft, name, "exp_avg", (0.1, -18.0, 0.3, 0.1), [0, 1])
        assert the(run(draft, tmp_path / severity)).severity == severity


def test_adamax_is_bound_by_its_norm(tmp_path: Path) -> None:
    group = {"betas": (0.9, 0.999)}
    for first, wrong in ((0.1, False), (0.4, True)):
        draft = trained((first,) * WIDTH, (0.1,) * WIDTH, slots=("exp_avg", "exp_inf"), **group)
        for name in NAMES:
            for key in ("amsgrad", "fused", "decoupled_weight_decay"):
                del draft.entries[f"optimizer.param_groups.{name}.{key}"]
        draft.storage = {i: info for i, info in draft.storage.items() if i.fqn in draft.entries}
        result = run(draft, tmp_path / str(wrong))
        assert result.skipped == ()
        assert bool(result.findings) is wrong


def test_the_largest_second_moment_is_the_largest(tmp_path: Path) -> None:
    slots = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    draft = trained(slots=slots, amsgrad=True)
    assert run(draft, tmp_path / "well").findings == ()
    fill(draft, NAMES[0], "max_exp_avg_sq", (0.1, 0.2, 0.0, 0.1), [1])
    found = the(run(draft, tmp_path / "ill"))
    assert found.message.startswith("max_exp_avg_sq is below exp_avg_sq in rank 1's chunks of 1")


@pytest.mark.parametrize("values", [False, True])
def test_a_rank_whose_moments_are_all_zero(tmp_path: Path, values: bool) -> None:
    draft = trained()
    for name in NAMES:
        for slot in ("exp_avg", "exp_avg_sq"):
            fill(draft, name, slot, [0.0] * WIDTH, [1])
    found = the(run(draft, tmp_path, values=values))
    assert (found.rule, found.severity, found.file) == ("DCP513", "warning", "__1_0.distcp")
    assert "are zero everywhere in rank 1's chunks of 2 parameters" in found.message


def test_rows_that_no_token_uses_are_a_remark(tmp_path: Path) -> None:
    draft = trained(ranks=3)
    for slot in ("exp_avg", "exp_avg_sq"):
        fqn = f"optimizer.state.{NAMES[0]}.{slot}"
        some = [0.0] * WIDTH + [0.1] * WIDTH * (ROWS - 1)
        draft.replace_item(fqn, tensor_of(*some, shape=(ROWS, WIDTH)), 0)
        fill(draft, NAMES[0], slot, [0.0] * WIDTH, [1])
    assert the(run(draft, tmp_path)).severity == "info"


def test_a_parameter_that_is_never_trained_is_no_lost_rank(tmp_path: Path) -> None:
    draft = trained()
    for slot in ("exp_avg", "exp_avg_sq"):
        fill(draft, NAMES[0], slot, [0.0] * WIDTH, [0, 1])
    assert run(draft, tmp_path).findings == ()


def test_a_sample_has_a_part_of_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moment_pairs, "_SAMPLE_CHUNKS", 4)
    monkeypatch.setattr(moment_pairs, "_SAMPLE_NUMBERS", 8)
    names = [f"layers.{number}.weight" for number in range(6)]
    draft = trained(names=names, ranks=3)
    for name in names:
        fill(draft, name, "exp_avg_sq", [0.0] * WIDTH, [2])
    result = run(draft, tmp_path)
    assert "rank 2's chunks of 1 parameter" in the(result).message
    assert any("compared in 3 of 18 chunks" in note for note in result.notes)
    whole = run(draft, tmp_path, values=True)
    assert "rank 2's chunks of 6 parameters" in the(whole).message


def test_a_chunk_that_cannot_be_read(tmp_path: Path) -> None:
    draft = trained()
    fqn = f"optimizer.state.{NAMES[0]}.exp_avg"
    draft.replace_item(fqn, b"no archive", 0)
    assert "1 chunk of the moments could not be read" in skipped(run(draft, tmp_path))["DCP512"]


def test_other_layouts_of_the_two(tmp_path: Path) -> None:
    draft = trained()
    fqn = f"optimizer.state.{NAMES[0]}.exp_avg"
    del draft.entries[fqn]
    draft.storage = {i: info for i, info in draft.storage.items() if i.fqn != fqn}
    rows = 2 * ROWS
    draft.tensor(fqn, (rows, WIDTH), [rows])
    numbers = [0.1] * WIDTH * ROWS + [9.0] * WIDTH * ROWS
    draft.replace_item(fqn, tensor_of(*numbers, shape=(rows, WIDTH)), 0)
    found = the(run(draft, tmp_path))
    assert "in rank 1's chunks of 1 parameter" in found.message and "16 of 16" in found.message
