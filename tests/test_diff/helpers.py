"""Compares checkpoints at paths, and tells the results apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dcpctl.diff.difference import Difference
from dcpctl.diff.engine import diff
from dcpctl.diff.options import DiffOptions
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.opening import open_checkpoint
from dcpctl.surgery.edits import apply_edits
from dcpctl.surgery.verbs import Verb
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.write import write


def differ(
    a: Path, b: Path, *, look: Callable[[Difference], Any] = lambda found: None, **options: Any
) -> Difference:
    """Compare two checkpoints; `look` sees the difference while they are open."""
    with open_checkpoint(a) as one, open_checkpoint(b) as other:
        found = diff(one, other, DiffOptions(**options))
        assert found.same == (not any(found.counts.values()))
        look(found)
    return found


def made(source: Path, target: Path, *edits: Verb) -> Path:
    """Apply edits and write the result."""
    options = WriteOptions(progress=False)
    with ExitStack() as opened:

        def open_(path: Path) -> Checkpoint:
            return opened.enter_context(open_checkpoint(path))

        draft, _ = apply_edits(open_(source), edits, open_)
        write(plan(draft, target, options), options)
    return target


def counted(found: Difference) -> Mapping[str, int]:
    """What differs, without what does not."""
    return {aspect: number for aspect, number in found.counts.items() if number}


def assert_mirrored(there: Difference, back: Difference) -> None:
    """Whether the second difference, of B and A, is the first seen from the other side."""
    assert there.counts == back.counts
    assert (there.a, there.b) == (back.b, back.a)
    assert set(there.pairing.removed) == set(back.pairing.added)
    assert set(there.pairing.added) == set(back.pairing.removed)
    assert set(there.pairing.same) == set(back.pairing.same)
    assert set(there.pairing.renamed) == {(old, new) for new, old in back.pairing.renamed}
    assert {(c.fqn_a, c.fqn_b, c.a, c.b) for c in there.specs} == {
        (c.fqn_b, c.fqn_a, c.b, c.a) for c in back.specs
    }
    if there.layout is not None and back.layout is not None:
        groups = [
            {(g.a, g.b, g.how, frozenset(g.pairs)) for g in there.layout.groups},
            {
                (g.b, g.a, g.how, frozenset((old, new) for new, old in g.pairs))
                for g in back.layout.groups
            },
        ]
        assert groups[0] == groups[1]
    if there.objects is not None and back.objects is not None:
        assert {(c.fqn_a, c.fqn_b) for c in there.objects.changed} == {
            (c.fqn_b, c.fqn_a) for c in back.objects.changed
        }
    if there.contents is not None and back.contents is not None:
        assert there.contents.equal == back.contents.equal
        assert {(one.a, one.b) for one in there.contents.different} == {
            (one.b, one.a) for one in back.contents.different
        }
    if there.optimizer is not None and back.optimizer is not None:
        assert there.optimizer.kind == back.optimizer.kind[::-1]
        assert there.optimizer.steps == back.optimizer.steps[::-1]
        assert len(there.optimizer.changes) == len(back.optimizer.changes)
