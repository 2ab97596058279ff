"""Every verb on every real checkpoint: torch loads the result, and every tensor is what it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import NothingSelected, Refused
from dcpctl.model import rename_rules as rules
from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.surgery.cast import Cast
from dcpctl.surgery.drop import Drop
from dcpctl.surgery.edits import apply_edits
from dcpctl.surgery.merge import Merge
from dcpctl.surgery.rename import Rename
from dcpctl.surgery.select import Select
from dcpctl.surgery.set import Set, assignment
from dcpctl.surgery.verbs import Verb
from tests.test_surgery import oracle

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.torch]

SHARED = Path(__file__).resolve().parents[3] / "shared" / "checkpoints"


def checkpoints() -> Iterator[Any]:
    for path in sorted(SHARED.glob("*/*/ckpt")):
        yield pytest.param(path, id=f"{path.parents[1].name}-{path.parent.name}")


VERBS: dict[str, Verb] = {
    "rename": Rename((rules.regex(r"\b(weight|w)\b=kernel"),)),
    "drop": Drop(("*bias", "model.*norm*", "*.b", "*.exp_avg_sq"), with_state=False),
    "select": Select(section="model"),
    "set": Set((assignment("lr=0.125"),)),
    "merge": Merge(),
}


def drafted(path: Path, edit: Verb) -> tuple[Draft, Draft]:
    with open_checkpoint(path) as checkpoint:
        made, _ = apply_edits(checkpoint, [edit], open_checkpoint)
        return Draft.of(checkpoint), made


def only_what_matches(path: Path, edit: Verb) -> Verb:
    """The globs of a drop that this checkpoint has keys for."""
    if not isinstance(edit, Drop):
        return edit
    found = []
    for glob in edit.globs:
        with contextlib.suppress(NothingSelected):
            drafted(path, Drop((glob,)))
            found.append(glob)
    if not found:
        pytest.skip("it has no key to drop")
    return Drop(tuple(found))


def wanted(path: Path, truth: oracle.Truth, made: Draft) -> oracle.Truth:
    """The truth under the names of a draft, for the entries that it takes over as they are."""
    return {
        fqn: truth[entry.source.fqn]
        for fqn, entry in made.entries.items()
        if getattr(entry.source, "fqn", None) in truth
    }


@pytest.mark.parametrize("path", list(checkpoints()))
@pytest.mark.parametrize("verb", ["rename", "drop", "select", "set"])
def test_torch_loads_it(path: Path, verb: str, tmp_path: Path) -> None:
    if path.parent.name == "pp_like_w4" and path.parents[1].name < "2.4":
        pytest.skip("torch itself did not save what the truth says")
    edit = only_what_matches(path, VERBS[verb])
    try:
        before, made = drafted(path, edit)
    except NothingSelected as error:
        pytest.skip(str(error))
    found = oracle.by_torch(oracle.made(path, tmp_path / "made", edit))
    assert list(found) == list(made.entries)
    kept = wanted(path, oracle.truth(path), made)
    if verb != "set":
        assert len(kept) > 0
    assert {fqn: found[fqn] for fqn in kept} == kept
    if verb == "set":
        lrs = {fqn: found[fqn] for fqn in found if fqn.endswith(".lr")}
        assert all(lr == 0.125 or isinstance(lr, tuple) for lr in lrs.values())
        assert len(made.entries) == len(before.entries)


@pytest.mark.parametrize("path", list(checkpoints()))
def test_torch_loads_what_was_parted_and_merged(path: Path, tmp_path: Path) -> None:
    if path.parent.name == "pp_like_w4" and path.parents[1].name < "2.4":
        pytest.skip("torch itself did not save what the truth says")
    try:
        model = oracle.made(path, tmp_path / "model", Select(section="model"))
        rest = oracle.made(path, tmp_path / "rest", Drop(section="model"))
    except (NothingSelected, Refused) as error:
        pytest.skip(str(error))
    merged = oracle.made(model, tmp_path / "merged", Merge((rest,)))
    found = oracle.by_torch(merged)
    truth = oracle.truth(path)
    with open_checkpoint(path) as checkpoint:
        assert set(found) == set(checkpoint.entries)
        tensors = truth.keys() & checkpoint.tensors.keys()
    assert {fqn: found[fqn] for fqn in tensors} == {fqn: truth[fqn] for fqn in tensors}


@pytest.mark.parametrize("path", list(checkpoints()))
def test_torch_casts_alike(path: Path, tmp_path: Path) -> None:
    import torch

    try:
        cast = Cast("bfloat16", allow_lossy=True)
        _, made = drafted(path, cast)
    except NothingSelected as error:
        pytest.skip(str(error))
    casts = [
        fqn for fqn, entry in made.entries.items() if getattr(entry, "dtype", "") == "bfloat16"
    ]
    assert casts
    oracle.made(path, tmp_path / "made", cast)
    with open_checkpoint(path) as before, open_checkpoint(tmp_path / "made") as after:
        for fqn in casts:
            whole = before.tensors[fqn].torch()
            assert torch.equal(after.tensors[fqn].torch(), whole.to(torch.bfloat16))
    oracle.by_torch(tmp_path / "made")
