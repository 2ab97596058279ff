"""DCP71x: what else the policy asks of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dcpctl.check import words
from dcpctl.check.finding import ERROR, WARNING
from dcpctl.check.policy import Policy
from dcpctl.check.registry import CannotRun, Hit, NotAsked, rule
from dcpctl.check.run import Run
from dcpctl.errors import quote
from dcpctl.model.globs import matching
from dcpctl.model.optimizer.view import OptimizerView


@rule("DCP711", ERROR, "a section that the policy requires is missing")
def missing_sections(run: Run) -> Iterator[Hit]:
    """Sections of `[check.expect] sections` in which no entry is."""
    required = _policy(run).expect.sections
    if not required:
        raise NotAsked("the policy requires no section")
    have = set(run.optimizer.sections.of.values())
    for section in required:
        if section not in have:
            shown = ", ".join(sorted(have)) or "nothing"
            yield Hit(section, f"there is no {section}; the checkpoint has {shown}")


@rule("DCP712", ERROR, "another optimizer than the policy's")
def other_optimizer(run: Run) -> Iterator[Hit]:
    """Kinds of the optimizer against `[check.expect] optimizer`."""
    expected = _policy(run).expect.optimizer
    if not expected:
        raise NotAsked("the policy names no optimizer")
    view = run.optimizer
    if view.kind_unread is not None:
        raise CannotRun(f"what tells the optimizer could not be read: {view.kind_unread.reason}")
    if sorted(view.kinds) != sorted(expected):
        what = view.kind or (f"of a kind that cannot be told ({view.how})" if view.how else "none")
        yield Hit("optimizer", f"the optimizer is {what}, expected {' + '.join(expected)}")


@rule("DCP713", ERROR, "the optimizer state is not as the policy expects")
def other_state(run: Run) -> Iterator[Hit]:
    """The optimizer's verdict against `[check.expect] optimizer_state`."""
    expected = _policy(run).expect.optimizer_state
    if expected is None:
        raise NotAsked("the policy expects no optimizer state in particular")
    if run.optimizer.verdict != expected:
        yield Hit(
            "optimizer",
            f"optimizer state is {run.optimizer.verdict}, expected {expected}: "
            f"{run.optimizer.sentence.rstrip('.')}",
        )


@rule("DCP714", ERROR, "a dtype that the policy does not allow")
def other_dtypes(run: Run) -> Iterator[Hit]:
    """Dtypes of tensors against the globs of `[check.dtypes]`."""
    rows = _policy(run).dtypes
    if not rows:
        raise NotAsked("the policy has no dtypes")
    left = list(run.checkpoint.tensors)
    for glob, allowed in rows:
        chosen = matching(left, glob)
        taken = set(chosen)
        left = [fqn for fqn in left if fqn not in taken]
        if not chosen:
            yield Hit(
                glob,
                f"{quote(glob)} of the policy decides about no tensor of the checkpoint",
                severity=WARNING,
            )
        wrong: dict[str, list[str]] = {}
        for fqn in chosen:
            dtype = run.checkpoint.tensors[fqn].dtype
            if dtype not in allowed:
                wrong.setdefault(dtype, []).append(fqn)
        for dtype, fqns in wrong.items():
            yield Hit(
                fqns[0],
                f"{words.count(len(fqns), 'tensor')} of {quote(glob)} "
                f"{'is' if len(fqns) == 1 else 'are'} {dtype}, allowed is {' or '.join(allowed)}: "
                f"{words.some(fqns)}",
            )


@rule("DCP715", ERROR, "outside the policy's size limits")
def other_sizes(run: Run) -> Iterator[Hit]:
    """Bytes of the shard files against `[check.limits]`."""
    limits = _policy(run).limits
    most, least, most_a_file = limits.max_size, limits.min_size, limits.max_file_size
    if most is None and least is None and most_a_file is None:
        raise NotAsked("the policy has no limits")
    files = [(file.name, file.size or 0) for file in run.checkpoint.files]
    total = sum(size for _, size in files)
    held = f"its shard files hold {words.size(total)} ({total:,} bytes)"
    if most is not None and total > most:
        yield Hit("checkpoint", f"{held}, allowed are {words.size(most)}")
    if least is not None and total < least:
        yield Hit("checkpoint", f"{held}, at least {words.size(least)} are expected")
    if most_a_file is not None:
        for name, size in files:
            if size > most_a_file:
                yield Hit(
                    name,
                    f"holds {words.size(size)} ({size:,} bytes), allowed are "
                    f"{words.size(most_a_file)} a file",
                    name,
                )


@rule("DCP716", ERROR, "the optimizer did not advance by the steps that the policy expects")
def other_advance(run: Run) -> Iterator[Hit]:
    """Steps from one save to the next against `[check.expect] step_advance`."""
    expected = _policy(run).expect.step_advance
    if expected is None:
        raise NotAsked("the policy expects no advance of the step")
    if run.against is None:
        raise CannotRun("there is no earlier save to compare with")
    before, after = _step(OptimizerView(run.against)), _step(run.optimizer)
    if after - before != expected:
        yield Hit(
            "optimizer",
            f"the optimizer went from step {_shown(before)} in {quote(_name(run.against.path))} to "
            f"{_shown(after)}, expected {expected:,} steps more",
        )


def _policy(run: Run) -> Policy:
    if run.options.policy is None:
        raise NotAsked("there is no policy")
    return run.options.policy


def _step(view: OptimizerView) -> float:
    if not view.steps:
        raise CannotRun("no step can be told from one of the two saves")
    return float(max(view.steps))


def _shown(step: float) -> str:
    return f"{int(step):,}" if step.is_integer() else f"{step:g}"


def _name(path: Path) -> str:
    return path.resolve().name
