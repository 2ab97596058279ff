"""DCP6xx: are the keys and tensors those of the save before?"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.history import History, Save
from dcpctl.check.registry import Hit, NotAsked, rule
from dcpctl.check.rules.run_state import per_rank
from dcpctl.check.run import Run
from dcpctl.errors import quote
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import strip_wrappers
from dcpctl.model.optimizer.source import BUCKETS
from dcpctl.model.rank_keys import rank_in
from dcpctl.model.renames import renamed_names
from dcpctl.model.sections import MODEL, OPTIMIZER


class _Key(NamedTuple):
    """A key of a save: itself, its section, and its name in the model without root."""

    fqn: str
    section: str
    relative: str


@rule("DCP609", WARNING, "the save before is of another model")
def another_model(run: Run) -> Iterator[Hit]:
    """Most tensors of one name have other shapes: the saves of two jobs lie in one directory."""
    if run.against is None:
        raise NotAsked
    history = run.of_another_model
    if history is None:
        return
    names = history.other_shapes
    yield Hit(
        names[0],
        f"{words.count(len(names), 'tensor')} of the model have other shapes than in "
        f"{history.earlier.name}: it is of another model, and was not compared with this one",
    )


@rule("DCP604", WARNING, "keys of the save before are gone")
def keys_gone(run: Run) -> Iterator[Hit]:
    """Keys that one of the saves has and the other has not, the optimizer's and ranks' apart."""
    history = run.since()
    before, after = _keys(history.earlier), _keys(history.later)
    both = [(key.fqn, after[name].fqn) for name, key in before.items() if name in after]
    moved = _matched(history, before, after)
    renamed = [(old, new) for old, new in both if old != new] + [*moved.items()]
    if renamed:
        old, new = renamed[0]
        yield Hit(
            new,
            f"{words.count(len(renamed), 'key')} named otherwise: {quote(old)} in "
            f"{history.earlier.name} is {quote(new)} here",
            severity=INFO if history.exported else WARNING,
        )
    lost: dict[str, list[str]] = {}
    for name, key in before.items():
        if name not in after and key.fqn not in moved:
            lost.setdefault(key.section, []).append(key.fqn)
    for section, keys in lost.items():
        if history.exported and section != MODEL:
            continue  # an export has the model alone, which DCP501 says
        yield Hit(
            keys[0],
            f"{words.count(len(keys), f'{section} key')} of {history.earlier.name} not here: "
            f"{words.some(keys)}",
            severity=ERROR if section == MODEL and not history.exported else WARNING,
        )
    found = {*moved.values()}
    added = [key.fqn for name, key in after.items() if name not in before and key.fqn not in found]
    if added:
        yield Hit(
            added[0],
            f"{words.count(len(added), 'key')} not in {history.earlier.name}: {words.some(added)}",
            severity=INFO,
        )


@rule("DCP605", ERROR, "a tensor has another shape or dtype than in the save before")
def tensors_changed(run: Run) -> Iterator[Hit]:
    """Shapes of the model's tensors, and dtypes of these and of the optimizer's moments."""
    history = run.since()
    before, after = _tensors(history.earlier), _tensors(history.later)
    dtypes: dict[tuple[str, str], list[str]] = {}
    for name, entry in after.items():
        old = before.get(name)
        if old is None:
            continue
        if old.shape != entry.shape and history.later.view.sections.of[entry.fqn] == MODEL:
            yield Hit(
                entry.fqn,
                f"its shape is {list(entry.shape)} here and {list(old.shape)} in "
                f"{history.earlier.name}",
            )
        if old.dtype != entry.dtype and not history.exported:
            dtypes.setdefault((old.dtype, entry.dtype), []).append(entry.fqn)
    for (old_dtype, new_dtype), fqns in dtypes.items():
        yield Hit(
            fqns[0],
            f"{words.count(len(fqns), 'tensor')} of {new_dtype} here and of {old_dtype} in "
            f"{history.earlier.name}: {words.some(fqns)}",
            severity=WARNING,
        )


def _matched(
    history: History, before: Mapping[str, _Key], after: Mapping[str, _Key]
) -> dict[str, str]:
    """The model's keys that are gone under their names, to those that they have here.

    By their names below the model's root first, as an export often has them, then by the shapes
    and the system of the names, as Hugging Face's are.
    """
    gone = {key.relative: key for name, key in before.items() if name not in after}
    new = {key.relative: key for name, key in after.items() if name not in before}
    gone = {name: key for name, key in gone.items() if key.section == MODEL}
    new = {name: key for name, key in new.items() if key.section == MODEL}
    found = {gone[name].fqn: new[name].fqn for name in gone if name in new}
    left_a, left_b = (
        {name: _form(save, key.fqn) for name, key in keys.items() if name not in others}
        for save, keys, others in ((history.earlier, gone, new), (history.later, new, gone))
    )
    for old, name in renamed_names(left_a, left_b).items():
        found[gone[old].fqn] = new[name].fqn
    return found


def _form(save: Save, fqn: str) -> Hashable:
    """What a renamed key keeps: its shape."""
    return tuple(getattr(save.checkpoint.entries[fqn], "shape", ("object",)))


def _relative(save: Save, fqn: str) -> str:
    root = save.view.sections.model_root
    one = len(save.view.sections.models) == 1
    return strip_wrappers(fqn.removeprefix(root + ".") if root and one else fqn)


def _keys(save: Save) -> dict[str, _Key]:
    """Keys by their names without wrappers, of all that is not the optimizer's.

    What every rank keeps for itself counts as one key, as long as any rank has it.
    """
    found = {name: _Key(name, section, name) for name, (section, _) in per_rank(save).items()}
    for fqn, section in save.view.sections.of.items():
        if section == MODEL:
            found[_clean(save, fqn)] = _Key(fqn, section, _relative(save, fqn))
        elif section != OPTIMIZER and not rank_in(fqn):
            found[fqn] = _Key(fqn, section, fqn)
    return found


def _tensors(save: Save) -> dict[str, TensorEntry]:
    """The model's tensors and the optimizer's, by names without wrappers; buckets left out."""
    found = {}
    of, tensors = save.view.sections.of, save.checkpoint.tensors
    bucketed = {fqn for raw in save.view.optimizers if raw.style == BUCKETS for fqn in raw.fqns}
    for fqn, entry in tensors.items():
        if of[fqn] == MODEL or (of[fqn] == OPTIMIZER and entry.shape and fqn not in bucketed):
            found[_clean(save, fqn)] = entry
    return found


def _clean(save: Save, fqn: str) -> str:
    root = save.view.sections.model_root
    if root and fqn.startswith(root + "."):
        return f"{root}.{strip_wrappers(fqn[len(root) + 1 :])}"
    return strip_wrappers(fqn)
