"""DCP80x: what will stock `dcp.load` do with it in a run whose state dict is known?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.registry import Hit, NotAsked, rule
from dcpctl.check.run import Run
from dcpctl.errors import printable, quote
from dcpctl.formats import dtypes
from dcpctl.model.contract import Spec
from dcpctl.model.loading import LoadPreview
from dcpctl.model.loading_errors import Mismatch


@rule("DCP801", ERROR, "the load would raise: keys are missing")
def missing(run: Run) -> Iterator[Hit]:
    """Keys that the run asks for and the checkpoint does not have."""
    preview = _preview(run)
    if preview.missing:
        yield Hit(
            preview.missing[0],
            f"the run asks for {words.count(len(preview.missing), 'key')} that the checkpoint does "
            f"not have: {words.some(preview.missing)}{_raising(run, preview, preview.missing)}",
        )


@rule("DCP802", ERROR, "the load would raise: a key holds something else")
def mismatched(run: Run) -> Iterator[Hit]:
    """Tensors of another shape, objects asked for where a tensor is, and entries without bytes."""
    preview = _preview(run)
    for what, fqns in _by_difference(preview.mismatched).items():
        yield Hit(
            fqns[0],
            f"{what} in the run{_so_are(fqns)}{_raising(run, preview, fqns)}",
        )
    if preview.unplaced:
        yield Hit(
            preview.unplaced[0],
            f"no storage item holds {words.count(len(preview.unplaced), 'key')} that is asked for: "
            f"{words.some(preview.unplaced)}{_raising(run, preview, preview.unplaced)}",
        )


@rule("DCP803", ERROR, "optimizer state would be skipped silently")
def skipped_optimizer(run: Run) -> Iterator[Hit]:
    """Optimizer state on disk that the run does not ask for: the silent reset."""
    preview = _preview(run)
    skipped = preview.skipped_optimizer
    if skipped is None:
        return
    whole = "none of the optimizer" if skipped.whole else "a part of the optimizer only"
    yield Hit(
        skipped.fqns[0],
        f"the run asks for {whole}: "
        f"{words.count(len(skipped.fqns), 'entry', 'entries')} of "
        f"{words.count(skipped.parameters, 'parameter')} ({words.size(skipped.nbytes)}) would stay "
        f"on disk, torch would not say so, and training would continue from zero moments: "
        f"{words.some(skipped.fqns)}",
    )


@rule("DCP804", WARNING, "keys would be skipped silently")
def skipped(run: Run) -> Iterator[Hit]:
    """Other keys on disk that the run does not ask for."""
    preview = _preview(run)
    optimizer = set(preview.skipped_optimizer.fqns if preview.skipped_optimizer else ())
    left = [fqn for fqn in preview.skipped if fqn not in optimizer]
    if left:
        yield Hit(
            left[0],
            f"{words.count(len(left), 'key')} would stay on disk, for which the run does not ask: "
            f"{words.some(left)}",
        )


@rule("DCP805", INFO, "tensors would be converted to another dtype")
def converted(run: Run) -> Iterator[Hit]:
    """Tensors of another dtype; a warning where the run's holds less."""
    preview = _preview(run)
    for pair in _first_of_each(preview.converted):
        fqns = [p.fqn for p in preview.converted if _dtypes(p) == _dtypes(pair)]
        stored, asked = _dtypes(pair)
        narrower = dtypes.itemsize(asked) < dtypes.itemsize(stored)
        yield Hit(
            fqns[0],
            f"{words.count(len(fqns), 'tensor')} would be converted from {stored} to {asked}"
            f"{', which holds less' if narrower else ''}: {words.some(fqns)}",
            severity=WARNING if narrower else None,
        )


@rule("DCP806", ERROR, "a tensor would silently not be loaded as a whole")
def not_loaded(run: Run) -> Iterator[Hit]:
    """Tensors where the checkpoint has an object, and those of which a part would be copied."""
    preview = _preview(run)
    if preview.replaced:
        fqns = [pair.fqn for pair in preview.replaced]
        yield Hit(
            fqns[0],
            "the run has a tensor where the checkpoint has an object; the tensor would keep its "
            f"numbers: {words.some(fqns)}",
        )
    for what, fqns in _by_difference(preview.cut).items():
        yield Hit(
            fqns[0],
            f"{what} in the run{_so_are(fqns)}; torch {run.target} would copy the part that both "
            "have and say nothing",
        )


def _preview(run: Run) -> LoadPreview:
    if run.preview is None:
        raise NotAsked("--like names no run that would load it")
    return run.preview


def _raising(run: Run, preview: LoadPreview, fqns: Sequence[str]) -> str:
    """What torch says, at the finding that has the key which it says it of."""
    error, like = preview.error, run.options.like
    if error is None or like is None or error.fqn not in fqns:
        return ""
    if like.paths is None and len(fqns) > 1:  # its order is not known, so nor is the first
        return "; torch raises for one of them"
    return f"; torch raises: {printable(error.text)}"


def _by_difference(pairs: Iterable[Mismatch]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in pairs:
        what = f"is {_spec(pair.stored)} here and {_spec(pair.asked)}"
        found.setdefault(what, []).append(pair.fqn)
    return found


def _so_are(fqns: list[str]) -> str:
    more = len(fqns) - 1
    if not more:
        return ""
    return f" (so {'is' if more == 1 else 'are'} {more:,} more, as {quote(fqns[-1])})"


def _spec(spec: Spec) -> str:
    return "an object" if spec.shape is None else f"{spec.dtype} {list(spec.shape)}"


def _dtypes(pair: Mismatch) -> tuple[str, str]:
    return pair.stored.dtype or "", pair.asked.dtype or ""


def _first_of_each(pairs: Iterable[Mismatch]) -> Iterable[Mismatch]:
    found: dict[tuple[str, str], Mismatch] = {}
    for pair in pairs:
        found.setdefault(_dtypes(pair), pair)
    return found.values()
