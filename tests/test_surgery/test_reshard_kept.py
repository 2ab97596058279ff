"""What a reshard says of what ranks keep for themselves."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.surgery.layouts.layout import kept_by_rank
from tests.test_check.helpers import adamw


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        (2, []),
        (1, ["what rank 1 had is left unread on 1 rank", "'world_size (2)' is kept as it is"]),
        (4, ["finds nothing for ranks 2 and 3, and its load fails", "'world_size (2)' is kept"]),
    ],
)
def test_keys_of_ranks(tmp_path: Path, ranks: int, said: list[str]) -> None:
    draft = adamw()
    for rank in (0, 1):
        draft.value(f"dataloader.dp_rank_{rank}.position", pickle.dumps(rank, 2))
    draft.value("world_size", pickle.dumps(2, 2))
    draft.write(tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        notes = kept_by_rank(Draft.of(checkpoint), ranks)
    assert len(notes) == len(said)
    assert all(part in note for part, note in zip(said, notes, strict=True))
