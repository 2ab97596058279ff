"""Why a load is refused: the keys, the likely causes and the fixes, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dcpctl.errors import MOST_NAMED, listed, printable, quote
from dcpctl.model.contract import Spec
from dcpctl.model.sections import OTHER, SECTIONS, classify
from dcpctl.training.causes import causes
from dcpctl.training.errors import LoadRefused
from dcpctl.training.reports import Clash, Together, shapes
from dcpctl.training.stored import StoredKeys


def refusal(
    found: Together, stored: StoredKeys, *, partial: bool, lossy: bool = False
) -> LoadRefused | None:
    """Return the error that a load deserves; None where it may go on.

    Args:
        found: what all ranks ask for.
        stored: the checkpoint's keys.
        partial: keys that are not stored may stay as they are.
        lossy: rounding is an error.
    """
    missing = () if partial else found.missing
    if not (found.clashes or missing or found.skipped or found.torn):
        return LoadRefused(rounding(found.rounded)) if lossy and found.rounded else None
    # Until the shapes agree, torch has not told which keys it would ask for.
    missing, skipped = ((), ()) if found.clashes else (missing, found.skipped)
    left = by_section(skipped, stored)
    lines = [_head(found, stored, missing, skipped)]
    lines += _keys(found, missing, left)
    meant = not missing and not found.torn
    for cause in causes(found, stored, missing, left):
        lines += [f"  cause: {cause.text}", f"    fix: {cause.fix}"]
        meant &= cause.meant
    if skipped and meant:
        listed_globs = ", ".join(f'"{printable(glob)}"' for glob in globs(skipped, stored))
        lines.append(f"  to leave all that on disk: StrictLoadPlanner(ignore=[{listed_globs}])")
    return LoadRefused("\n".join(lines))


def rounding(rounded: Sequence[Clash]) -> str:
    """Return what a load rounds, and what to do about it."""
    lines = _under("rounded by the load", list(map(_pair, rounded)))
    fix = "make the state dict with the dtypes that were saved, and convert after the load"
    return "\n".join(["the load rounds numbers to another dtype", *lines, f"  fix: {fix}"])


def _pair(one: Clash) -> str:
    return f"{quote(one.fqn)} is {spec_text(one.stored)}, asked for as {spec_text(one.asked)}"


def by_section(fqns: Sequence[str], stored: StoredKeys) -> dict[str, list[str]]:
    """Return section (`model`, `optimizer`, ...) to those of the stored keys that belong to it."""
    if not fqns:
        return {}
    of = classify(stored).of  # another rank's metadata may have more
    found = {
        section: [fqn for fqn in fqns if of.get(fqn, OTHER) == section] for section in SECTIONS
    }
    return {section: names for section, names in found.items() if names}


def _head(
    found: Together, stored: StoredKeys, missing: Sequence[str], skipped: Sequence[str]
) -> str:
    saved = f" (saved as {quote(stored.saved_as)})" if stored.saved_as else ""
    what = []
    if found.clashes:
        other = "in another shape" if shapes(found.clashes) else "of another kind"
        what.append(f"{len(found.clashes):,} of them {other} than the run's")
    if skipped:
        what.append(f"{len(skipped):,} of them not asked for by the run")
    if found.torn:
        what.append(f"{len(found.torn):,} of them asked for by some ranks only")
    has = f"the checkpoint{saved} has {len(stored.entries):,} keys"
    if what:
        has += f", {' and '.join(what)}"
    if missing:
        has += f", and lacks {len(missing):,} that the run asks for"
    return f"nothing was loaded: {has}"


def _keys(found: Together, missing: Sequence[str], left: dict[str, list[str]]) -> Iterator[str]:
    """Each kind of key with its first names, those on disk by their part of the job."""
    if found.clashes:
        kinds = [one for one in found.clashes if not shapes([one])]
        for head, pairs in (
            ("in another shape", [one for one in found.clashes if one not in kinds]),
            ("of another kind", kinds),
        ):
            if pairs:
                yield from _under(head, list(map(_pair, pairs)))
    if missing:
        yield from _under("not on disk", [quote(fqn) for fqn in missing])
    for section, names in left.items():
        yield from _under(f"not asked for, {section}", [quote(fqn) for fqn in names])
    ranks: dict[tuple[int, ...], list[str]] = {}
    for fqn, others in found.torn.items():
        ranks.setdefault(others, []).append(quote(fqn))
    for others, names in list(ranks.items())[:MOST_NAMED]:
        who = listed(map(str, others), show=str)
        yield from _under(f"not asked for by {'ranks' if len(others) > 1 else 'rank'} {who}", names)


def _under(head: str, lines: Sequence[str]) -> Iterator[str]:
    """A head with its count, the first lines below it, and how many more there are."""
    yield f"  {head} ({len(lines):,}):"
    yield from (f"    {line}" for line in lines[:MOST_NAMED])
    if len(lines) > MOST_NAMED:
        yield f"    and {len(lines) - MOST_NAMED:,} more"


def spec_text(spec: Spec) -> str:
    """`float32 [8, 4]`, or that it is no tensor."""
    return f"{spec.dtype} {list(spec.shape)}" if spec.shape is not None else "an object"


def globs(left: Sequence[str], stored: StoredKeys) -> list[str]:
    """Return what to ignore so that these keys may stay on disk: whole branches where they are.

    Five and then `...`, since a message is no place for all of them.
    """
    planner = stored.planner_data or {}
    tree: dict[Any, Any] = {}
    for fqn in stored.entries:
        node = tree
        for part in planner.get(fqn) or tuple(fqn.split(".")):
            node = node.setdefault(str(part), {})
        node[None] = fqn
    found = _branches(tree, "", set(left))
    found += [fqn for fqn in left if fqn not in stored.entries]  # in another rank's metadata
    return [*found[:MOST_NAMED], *(["..."] if len(found) > MOST_NAMED else [])]


def _branches(node: dict[Any, Any], prefix: str, left: set[str]) -> list[str]:
    """The highest branches below a node of which all leaves are left."""
    found: list[str] = []
    for key, child in node.items():
        if key is None:
            continue
        name = f"{prefix}{key}"
        leaves = list(_leaves(child))
        if all(leaf in left for leaf in leaves):
            found.append(name)
        elif any(leaf in left for leaf in leaves):
            found += [child[None]] if child.get(None) in left else []
            found += _branches(child, f"{name}.", left)
    return found


def _leaves(node: dict[Any, Any]) -> Iterator[str]:
    for key, child in node.items():
        if key is None:
            yield child
        else:
            yield from _leaves(child)
