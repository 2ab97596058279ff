"""DCP601: what the steps of two saves say of each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.finding import CheckResult
from tests.hostile.draft import Draft
from tests.test_check.helpers import adamw, check, forget, skipped, tensor_of, the


def saved(draft: Draft, path: Path) -> Path:
    draft.write(path)
    return path


def advance(tmp_path: Path, before: tuple[str, float], after: tuple[str, float]) -> CheckResult:
    """Check a save against another; each is a directory's name and the optimizer's step."""
    paths = [saved(adamw(step=step), tmp_path / name) for name, step in (before, after)]
    return check(paths[1], "DCP601", against=paths[0])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("step-9000", 9000), ("step-9500", 9500)),
        (("step-9000", 9000), ("step-9500", 9498)),  # a loss scaler skipped two
        (("step-9000", 1125), ("step-9500", 1187)),  # eight micro-batches to a step
        (("step-9500", 500), ("step-10000", 1000)),  # a reset long ago
        (("step-0", 0), ("step-500", 500)),
        (("epoch-1", 700), ("epoch-2", 1400)),
        (("checkpoint_1", 700), ("checkpoint_2", 1400)),
        (("700", 700), ("1400", 1400)),
        (("first", 700), ("second", 1400)),
    ],
)
def test_a_step_that_goes_on_with_the_run(
    tmp_path: Path, before: tuple[str, float], after: tuple[str, float]
) -> None:
    result = advance(tmp_path, before, after)
    assert result.findings == result.skipped == ()


@pytest.mark.parametrize(
    ("before", "after", "severity", "message"),
    [
        (
            ("step-9000", 9000),
            ("step-9500", 500),
            "error",
            "the optimizer restarted: step 500 here, 9,000 in 'step-9000' 500 steps before; reset "
            "at step 9,000",
        ),
        (
            ("step-9000", 9000),
            ("step-9500", 200),
            "error",
            "the optimizer restarted: step 200 here, 9,000 in 'step-9000' 500 steps before; reset "
            "at step 9,300",
        ),
        (  # the count has passed that of the save before
            ("step-100", 100),
            ("step-1000", 900),
            "error",
            "the optimizer restarted: step 900 here, 100 in 'step-100' 900 steps before; reset at "
            "step 100",
        ),
        (
            ("step-9000", 9000),
            ("step-9500", 8500),
            "error",
            "the optimizer went back: step 8,500 here, 9,000 in 'step-9000' 500 steps before; it "
            "was restored from an older save, and is 1,000 steps behind",
        ),
        (
            ("step-9000", 9000),
            ("step-9500", 9000),
            "error",
            "the optimizer stood still: step 9,000 here, 9,000 in 'step-9000' 500 steps before",
        ),
        (
            ("step-9000", 9000),
            ("step-9500", 9300),
            "error",
            "the optimizer advanced by 300 steps in 500: step 9,300 here, 9,000 in 'step-9000' 500 "
            "steps before; it was restored from another save, or skipped steps",
        ),
        (
            ("step-9000", 9000),
            ("step-9500", 9900),
            "warning",
            "the optimizer advanced by 900 steps in 500: step 9,900 here, 9,000 in 'step-9000' 500 "
            "steps before; it was restored from another save",
        ),
        (  # nothing says what the directories count
            ("first", 9000),
            ("second", 500),
            "error",
            "the optimizer went back: step 500 here, 9,000 in 'first' before",
        ),
    ],
)
def test_a_step_that_does_not_go_on(
    tmp_path: Path,
    before: tuple[str, float],
    after: tuple[str, float],
    severity: str,
    message: str,
) -> None:
    found = the(advance(tmp_path, before, after))
    assert (found.severity, found.subject) == (severity, "optimizer")
    assert found.message.startswith(message)


def test_the_jobs_own_count_tells_where_names_do_not(tmp_path: Path) -> None:
    paths = []
    for name, step, job in (("old", 9000.0, 9000), ("new", 500.0, 9500)):
        draft = adamw(step=step)
        draft.value("train_state.step", b"\x80\x02J" + job.to_bytes(4, "little") + b".")
        paths.append(saved(draft, tmp_path / name))
    found = the(check(paths[1], "DCP601", against=paths[0]))
    assert "restarted: step 500 here, 9,000 in 'old' 500 steps before" in found.message


def test_a_single_parameter_that_fell_is_named(tmp_path: Path) -> None:
    before = saved(adamw(step=9000.0), tmp_path / "step-9000")
    draft = adamw(step=9500.0)
    step = "optimizer.state.layers.1.weight.step"
    draft.replace_item(step, tensor_of(500.0, shape=()))
    found = the(check(saved(draft, tmp_path / "step-9500"), "DCP601", against=before))
    assert found.subject == "layers.1.weight"
    assert found.message == (
        "step fell in 1 of 2 parameters ('layers.1.weight'): 500 here, 9,000 in 'step-9000'; "
        "their state was not restored"
    )


def test_a_save_that_came_later_is_no_save_before(tmp_path: Path) -> None:
    result = advance(tmp_path, ("step-9500", 9500), ("step-9000", 9000))
    assert result.findings == ()
    assert skipped(result) == {
        "DCP601": "'step-9500' is of step 9,500 and this save of step 9,000: it is not the one "
        "before"
    }


def test_without_a_save_before_the_rules_are_not_there(tmp_path: Path) -> None:
    path = saved(adamw(), tmp_path / "step-3")
    result = check(path)
    assert not [name for name in (*result.rules_run, *skipped(result)) if name[3] == "6"]
    asked = check(path, "DCP601")
    assert skipped(asked) == {
        "DCP601": "there is no earlier save to compare with, which --against names"
    }


def test_506_leaves_to_601_what_it_says_better(tmp_path: Path) -> None:
    before = saved(adamw(step=9000.0), tmp_path / "step-9000")
    after = saved(adamw(step=500.0), tmp_path / "step-9500")
    assert the(check(after, "DCP506", "DCP601", against=before)).rule == "DCP601"
    assert the(check(after, "DCP506", against=before)).rule == "DCP506"
    expected = check(after, "DCP506", "DCP601", against=before, expect_step=9500)
    assert {found.rule for found in expected.findings} == {"DCP506", "DCP601"}
    later = saved(adamw(step=1000.0), tmp_path / "step-10000")
    found = the(check(later, "DCP506", "DCP601", against=after))
    assert found.message.endswith("restored from an older save, as 'step-9500' before it")


def test_a_model_only_save_after_a_whole_one_is_an_error(tmp_path: Path) -> None:
    before = saved(adamw(), tmp_path / "whole")
    draft = adamw()
    for fqn in [fqn for fqn in draft.entries if fqn.startswith("optimizer")]:
        forget(draft, fqn)
    after = saved(draft, tmp_path / "weights")
    found = the(check(after, "DCP501", "DCP603", against=before))
    assert (found.rule, found.severity) == ("DCP501", "error")
    assert "no optimizer state, and 'whole' before it has one" in found.message
    assert the(check(after, "DCP603", against=before)).message == (
        "no optimizer state here, and 'whole' has it"
    )
    assert skipped(check(after, "DCP602", against=before)) == {
        "DCP602": "one of the saves has no optimizer state"
    }


def test_steps_that_nothing_counts_leave_the_moments_alone(tmp_path: Path) -> None:
    paths = []
    for name in ("first", "second"):
        draft = adamw(step=7.0)
        draft.value("train_state.epoch", b"\x80\x02K\x01.")
        paths.append(saved(draft, tmp_path / name))
    assert skipped(check(paths[1], "DCP602", against=paths[0])) == {
        "DCP602": "neither names, nor counts, nor the optimizer say how many steps lie between "
        "this save and 'first'"
    }


@pytest.mark.parametrize("step", [float("nan"), float("inf"), -5.0, 1e30])
def test_steps_that_are_none_are_no_steps(tmp_path: Path, step: float) -> None:
    result = advance(tmp_path, ("step-9000", 9000), ("step-9500", step))
    assert result.findings == ()
    assert skipped(result) == {
        "DCP601": "the optimizer keeps no step in 'step-9500', or it could not be read"
    }
    check(tmp_path / "step-9500", against=tmp_path / "step-9000")
