"""The examples fail with the bug, and go on bit for bit with the fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def seen(ran: Path) -> dict[str, tuple[int, str]]:
    """`example flags` to exit code and output."""
    found = json.loads((ran / "rank0.json").read_text())["examples"]
    return {name: (code, text) for name, (code, text) in found.items()}


@pytest.mark.parametrize("example", ["fsdp2", "fsdp1", "titan"])
def test_an_example(seen: dict[str, tuple[int, str]], example: str) -> None:
    assert seen[example] == (0, "steps 6 to 11 after the resume: losses equal\n")
    code, text = seen[f"{example} --bug"]
    assert (code, text.splitlines()[0]) == (1, "refused by StrictLoadPlanner:")
    assert "cause: the state dict has no optimizer" in text
    code, text = seen[f"{example} --bug --unguarded"]
    assert (code, text.splitlines()[0]) == (1, "found by assert_resumed:")
    assert "the optimizer was reset" in text


@pytest.mark.parametrize("example", ["fsdp2", "fsdp2 --bug", "titan --bug --unguarded"])
def test_what_the_guide_shows(
    seen: dict[str, tuple[int, str]], example: str, repository: Path
) -> None:
    name, _, flags = example.partition(" ")
    command = f"$ torchrun --nproc-per-node 2 -m dcpctl.training.examples.{name} run {flags}"
    shown = f"{command.strip()}\n{seen[example][1]}"
    assert shown in (repository / "docs/guides/guard.md").read_text()
