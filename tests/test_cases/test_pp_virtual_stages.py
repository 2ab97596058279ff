"""Pipeline parallel with two virtual stages a rank (torchtitan#474)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.inspect.summary import summarize
from dcpctl.model.opening import open_checkpoint
from tests.test_check.helpers import check, the


@pytest.mark.parametrize(
    ("name", "layout", "verdict"),
    [
        ("ck-all", "pipeline 2-way, interleaved (2 stages a rank), whole tensors", "complete"),
        ("ck-half", "pipeline 2-way, whole tensors", "complete"),
        ("ck-gaps", "whole", "complete"),
        ("ck-byindex", "pipeline 2-way, interleaved (2 stages a rank), whole tensors", "partial"),
        # Nothing tells that both ranks had a layer 0, nor that they had the same one.
        ("ck-localnames", "whole, each saved by one of 2 ranks", "complete"),
    ],
)
def test_layout_and_verdict(shared: Path, name: str, layout: str, verdict: str) -> None:
    with open_checkpoint(shared / "reports" / "pp-virtual-stages" / name) as checkpoint:
        summary = summarize(checkpoint)
        assert (summary.layouts.words, summary.optimizer.verdict) == (layout, verdict)


def test_all_stages_are_healthy(shared: Path) -> None:
    assert check(shared / "reports" / "pp-virtual-stages" / "ck-all").findings == ()


def test_every_second_layer_is_missing(shared: Path) -> None:
    found = the(check(shared / "reports" / "pp-virtual-stages" / "ck-gaps"))
    assert (found.rule, found.severity) == ("DCP111", "warning")
    assert "8 blocks numbered 0 to 14; 7 between them are missing: 1, 3, 5, 7, 9" in found.message


def test_indices_of_two_ranks(shared: Path) -> None:
    found = the(check(shared / "reports" / "pp-virtual-stages" / "ck-byindex"))
    assert (found.rule, found.severity) == ("DCP516", "error")
