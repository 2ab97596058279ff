"""Checkpoints as drafts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Draft]]:
    """Opens checkpoints as drafts, and closes them after the test."""
    held = []

    def open_(path: Path) -> Draft:
        held.append(open_checkpoint(path))
        return Draft.of(held[-1])

    yield open_
    for checkpoint in held:
        checkpoint.close()


@pytest.fixture
def healthy(samples: Path, opened: Callable[[Path], Draft]) -> Draft:
    """The healthy sample: FSDP2 on four ranks, AdamW with two param groups, a scheduler."""
    return opened(samples / "healthy" / "step-8500")
