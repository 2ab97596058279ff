"""`cast`: tensors in another dtype."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dcpctl.errors import NothingSelected, Refused, UsageError, listed, quote
from dcpctl.formats import dtypes
from dcpctl.surgery.options import Option, Together, flag, given, globs, text
from dcpctl.surgery.verbs import Open, Verb

if TYPE_CHECKING:
    from dcpctl.model.draft import Draft, EntryDraft
    from dcpctl.surgery.outcome import Outcome

_SHORT = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "f16": "float16",
    "half": "float16",
    "fp32": "float32",
    "f32": "float32",
    "float": "float32",
    "fp64": "float64",
    "f64": "float64",
    "double": "float64",
    "fp8": "float8_e4m3fn",
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
}
STEP = "step"


def dtype_named(text: str) -> str:
    """Return the floating-point dtype that a name or short name means.

    Raises:
        UsageError: there is none of this name.
    """
    name = text.strip().removeprefix("torch.")
    name = _SHORT.get(name.lower(), name)
    found = dtypes.DTYPES.get(name)
    if found is None or found.kind != "float":
        known = ", ".join([*_SHORT, "float32", "bfloat16"][:6])
        raise UsageError(f"{quote(text)} is no floating-point dtype", hint=f"such as {known}")
    return name


def _of_word(text: str) -> dict[str, Any]:
    """Read `GLOB=DTYPE`, or `DTYPE` for all of the model."""
    glob, _, dtype = text.rpartition("=")
    return {"dtype": dtype_named(dtype), "globs": (glob,) if glob else ()}


@dataclass(frozen=True, slots=True)
class Cast(Verb):
    """Cast floating-point tensors to another dtype.

    Without a glob all of the model. Optimizer state is cast only by a glob that is about nothing
    else (optimizer.*, *.exp_avg), and step only by one that ends in step. A cast that cannot keep
    every number is refused without --allow-lossy, and with it says what is lost.

    Examples:
      dcpctl cast sample_checkpoints/healthy/step-8500 out/bf16 --dtype bf16 --allow-lossy
      dcpctl cast sample_checkpoints/healthy/step-8500 out/f64 'model.layers.0' --dtype fp64
    """

    verb = "cast"
    order = 80
    together = Together("GLOB=DTYPE", "Cast tensors; DTYPE alone casts the model.", _of_word)

    dtype: str = given(
        Option(
            ("--dtype",),
            text(dtype_named),
            metavar="DTYPE",
            help="bf16, fp16, fp32, float8_e4m3fn ...",
            key="dtype",
            required=True,
        )
    )
    globs: tuple[str, ...] = given(globs())
    allow_lossy: bool = given(
        Option(
            ("--allow-lossy",),
            flag(),
            help="Cast also where numbers are rounded or lost.",
            key="allow_lossy",
            beside="also where numbers are rounded.",
        )
    )

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit, as `cast` does."""
        return cast(draft, self.dtype, self.globs, allow_lossy=self.allow_lossy)


def cast(
    draft: Draft, dtype: str, globs: Sequence[str] = (), *, allow_lossy: bool = False
) -> Outcome:
    """Cast floating-point tensors.

    Without globs: all of the model. A glob that matches the model or anything else outside the
    optimizer leaves the optimizer alone; moments are cast by a glob that matches nothing else
    (`optimizer.*`, `*.exp_avg`), and `step` only by one whose last component is `step`.

    Args:
        draft: the checkpoint.
        dtype: torch's name, such as `bfloat16`.
        globs: FQNs.
        allow_lossy: cast also where the new dtype cannot hold every number of the old one.

    Raises:
        NothingSelected: a glob matches nothing, or nothing that could be cast.
        Refused: numbers would be lost and `allow_lossy` is not given.
    """
    from dcpctl.model.draft import TensorDraft
    from dcpctl.surgery.outcome import Change, Outcome

    wanted = _wanted(draft, globs)
    made: dict[str, EntryDraft] = dict(draft.entries)
    changes: list[Change] = []
    pairs: dict[tuple[str, str], list[str]] = {}
    for fqn in wanted:
        entry = draft.entries[fqn]
        if not isinstance(entry, TensorDraft) or entry.dtype == dtype or not _is_float(entry):
            continue
        made[fqn] = dataclasses.replace(entry, dtype=dtype)
        changes.append(Change("cast", fqn, f"{entry.dtype} -> {dtype}"))
        pairs.setdefault((entry.dtype, dtype), []).append(fqn)
    if not changes:
        raise NothingSelected(_why_nothing(draft, wanted, dtype))
    warnings = _losses(pairs)
    if warnings and not allow_lossy:
        raise Refused("; ".join(warnings), hint="--allow-lossy casts all the same")
    return Outcome(
        draft.with_entries(made.values(), draft.planner_data), tuple(changes), (), tuple(warnings)
    )


def _wanted(draft: Draft, globs: Sequence[str]) -> list[str]:
    from dcpctl.model.globs import matching
    from dcpctl.model.sections import MODEL, OPTIMIZER
    from dcpctl.surgery.names.globs import in_section, selected
    from dcpctl.surgery.names.survey import survey

    sections = survey(draft).sections
    if not globs:
        return in_section(sections, MODEL)
    selected(draft, globs)  # refuses a glob that matches nothing
    found: set[str] = set()
    for glob in globs:
        hits = matching(draft.entries, glob)
        tensors = [fqn for fqn in hits if _is_float(draft.entries[fqn])]
        hits = tensors or hits
        outside = [fqn for fqn in hits if sections.of.get(fqn) != OPTIMIZER]
        hits = outside or hits
        if glob.rpartition(".")[2] != STEP:
            hits = [fqn for fqn in hits if outside or fqn.rpartition(".")[2] != STEP]
        found.update(hits)
    return [fqn for fqn in draft.entries if fqn in found]


def _is_float(entry: EntryDraft) -> bool:
    from dcpctl.model.draft import TensorDraft

    return isinstance(entry, TensorDraft) and dtypes.info(entry.dtype).kind == "float"


def _why_nothing(draft: Draft, wanted: Sequence[str], dtype: str) -> str:
    entries: Mapping[str, EntryDraft] = draft.entries
    if any(getattr(entries[fqn], "dtype", None) == dtype for fqn in wanted):
        return f"everything selected is {dtype} already"
    return f"nothing selected is a floating-point tensor: {listed(wanted)}"


def _losses(pairs: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    found = []
    for (old, new), fqns in pairs.items():
        lost = loss(old, new)
        if lost:
            tensors = f"{len(fqns):,} tensor{'s' if len(fqns) > 1 else ''}"
            found.append(f"{old} to {new} {lost} ({tensors}: {listed(fqns, 1)})")
    return found


@functools.cache
def loss(old: str, new: str) -> str:
    """Say what a cast between floating-point dtypes can lose; empty if it keeps every number."""
    import ml_dtypes

    finfo: Any = ml_dtypes.finfo
    before, after = (finfo(dtypes.numpy_dtype(name)) for name in (old, new))
    lost = []
    if after.nmant < before.nmant:
        lost.append(f"keeps {after.nmant + 1} of {before.nmant + 1} significant bits")
    if 2 * float(after.max) < float(before.max):
        lost.append(f"cannot hold numbers beyond {float(after.max):.6g}")
    if float(after.smallest_normal) > float(before.smallest_normal):
        lost.append(f"rounds numbers below {float(after.smallest_normal):.3g} away")
    return " and ".join(lost)
