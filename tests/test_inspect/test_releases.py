"""The span of releases that could have written a checkpoint holds the one that did."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.inspect.releases import Evidence, Releases, tell_releases
from dcpctl.model.opening import open_checkpoint

SPANS = {
    "releases/1.13.1-optim_AdamW": "torch 1.13",
    "releases/2.0.1-optim_AdamW": "torch 2.0 to 2.2",
    "releases/2.2.2-optim_AdamW": "torch 2.0 to 2.2",
    "releases/2.4.1-optim_SGD_momentum": "torch 2.4 to 2.6",
    "legacy": "torch 2.4 to 2.6",
    "healthy/step-8500": "torch 2.9 to 2.14",
    "no_collectives": "torch 2.9 to 2.14",
    "releases/2.13.0-safetensors_format": "torch 2.9 to 2.14",
    "releases/2.13.0-hf_sharded": "torch 2.8 to 2.15",
    "releases/2.13.0-hf_consolidated": "any writer of safetensors",
    "releases/2.15.0-optim_AdamW": "torch 2.15 or newer",
}


@pytest.mark.parametrize(("sample", "words"), SPANS.items())
def test_samples(samples: Path, sample: str, words: str) -> None:
    with open_checkpoint(samples / sample) as checkpoint:
        told = tell_releases([part.stored for part in checkpoint.parts])
    assert told.words == words
    assert told.evidence or told.first is None


def test_every_real_release_is_within_its_span(shared: Path) -> None:
    wrong = []
    for directory in sorted((shared / "checkpoints").glob("*/*/ckpt")):
        release = tuple(int(n) for n in directory.parts[-3].split(".")[:2])
        with open_checkpoint(directory) as checkpoint:
            told = tell_releases([part.stored for part in checkpoint.parts])
        if told.first and told.last and not told.first <= release <= told.last:
            wrong.append((directory.parts[-3:], told.words))
    assert not wrong


def test_a_mixture_that_no_release_writes() -> None:
    mixed = Releases((2, 9), (2, 3), (Evidence("x", (2, 9), None), Evidence("y", (1, 13), (2, 3))))
    assert mixed.contradictory
    assert mixed.words == "no torch release writes this mixture"
