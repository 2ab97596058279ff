"""Resumes are found where a log shows them, and nowhere else."""

from __future__ import annotations

import pytest

from dcpctl.errors import NothingSelected
from dcpctl.signature.engine import diagnose
from dcpctl.signature.log import Log
from dcpctl.signature.resumes import find_resumes, in_order, resume_at


def log_of(
    steps: list[int], times: list[float] | None = None, sessions: list[int] | None = None
) -> Log:
    log = Log()
    for number, step in enumerate(steps):
        row = {"step": float(step), "loss": 1.0 + number % 7 / 100}
        if times is not None:
            row["time"] = times[number]
        log.append(row, sessions[number] if sessions else 0)
    log.finish()
    return log


def test_steps_that_go_back() -> None:
    (one,) = find_resumes(log_of([*range(100, 160), *range(150, 200)]))
    assert (one.row, one.step) == (60, 150)
    assert one.why == ("steps go back from 159 to 150",)


def test_a_step_that_stands_twice() -> None:
    log = log_of([*range(50)])
    log.append({"step": 49.0, "loss": 9.0}, 0)
    log.append({"step": 50.0, "loss": 1.0}, 0)
    (one,) = find_resumes(log)
    assert (one.row, one.why) == (50, ("step 49 stands twice",))


def test_several_resumes() -> None:
    steps = [*range(50), *range(40, 90), *range(60, 120)]
    assert [one.step for one in find_resumes(log_of(steps))] == [40, 60]


def test_a_gap_in_time() -> None:
    times = [2.0 * n + (600 if n >= 30 else 0) for n in range(60)]
    (one,) = find_resumes(log_of([*range(60)], times))
    assert (one.step, one.why) == (30, ("nothing was written for 10 minutes",))


def test_pauses_of_the_job_itself_are_no_resumes() -> None:
    """It evaluates every 20 steps; once it also waits for a day."""
    times = [n + 60.0 * (n // 20) + (86_400 if n >= 130 else 0) for n in range(200)]
    assert [one.step for one in find_resumes(log_of([*range(200)], times))] == [130]


def test_durations_are_no_times() -> None:
    """A column `time` with the seconds that each step took, one of which took long."""
    times = [0.5 + n % 3 / 10 + (60 if n == 30 else 0) for n in range(60)]
    assert find_resumes(log_of([*range(60)], times)) == []


def test_another_session() -> None:
    (one,) = find_resumes(log_of([*range(60)], None, [0] * 20 + [1] * 40))
    assert (one.step, one.why) == (20, ("another process writes",))


def test_a_log_without_resumes() -> None:
    log = log_of([*range(0, 500, 5)], [n * 3.0 for n in range(100)])
    assert find_resumes(log) == []
    result = diagnose(log)
    assert result.worst is None
    assert not result.lost
    assert not result.matches


def test_ranks_that_write_into_one_file() -> None:
    log = Log()
    for step in range(50):
        for rank in range(4):
            log.append({"step": float(step), "loss": 1.0 + rank / 100}, 0)
    log.finish()
    in_order(log)
    assert log.steps == [float(step) for step in range(50)]
    assert log.columns["loss"] == [1.0] * 50
    assert find_resumes(log) == []
    assert "150 rows repeat" in log.notes[0]


def test_threads_that_mix_the_order() -> None:
    steps = [step + 1 - 2 * (step % 2) for step in range(100)]  # 1 0 3 2 5 4 ...
    log = log_of(steps)
    in_order(log)
    assert log.steps == sorted(map(float, steps))
    assert find_resumes(log) == []


def test_a_step_that_is_asked_for() -> None:
    log = log_of([*range(100), *range(80, 150)])
    assert resume_at(log, 80).row == 100
    assert resume_at(log, 79).row == 100  # the step of the checkpoint
    asked = resume_at(log, 120)
    assert (asked.step, asked.exact) == (121, False)
    with pytest.raises(NothingSelected) as caught:
        resume_at(log, 1000)
    assert "from step 0 to 149" in str(caught.value.hint)


def test_what_comes_before_is_what_the_branch_shares() -> None:
    """The regime before a resume ends where the new process begins, whatever came after it."""
    steps = [*range(150), *range(120, 220)]
    log = log_of(steps)
    for row in range(120, 150):
        log.columns["loss"][row] = 50.0  # the reason why it was taken back
    (one,) = diagnose(log).diagnoses
    assert max(one.evidence.before) == 119
    assert one.shape is not None
    assert not one.shape.up
