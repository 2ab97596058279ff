"""`use_collectives=False`: RNG and dataloader position differ by rank (pytorch#147758)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dcpctl.errors import MissingFile, Refused, UsageError
from dcpctl.inspect.summary import summarize
from dcpctl.model.copies import compare_copies
from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.upgrade.engine import upgrade
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.write import write
from tests.test_check.helpers import check


@pytest.fixture(scope="module")
def case(shared: Path) -> Path:
    return shared / "reports" / "no-collectives-replicas" / "ck"


def test_copies_are_compared_before_they_are_called_replicas(case: Path) -> None:
    with open_checkpoint(case) as checkpoint:
        summary = summarize(checkpoint)
        copies = summary.copies
        assert copies is not None
        assert {one.fqn: (one.kept, one.ranks) for one in copies.differing} == {
            "rng": (0, (1,)),
            "loader.pos": (0, (1,)),
        }
        assert (len(copies.of), len(copies.equal)) == (46, 44)
        layouts = {section.name: section.layout for section in summary.sections}
    assert layouts["model"] == "replicated, a copy on every rank"
    assert layouts["rng"] == "a copy on every rank, which differ"
    found = {f.subject: f.severity for f in check(case, "DCP410").findings}
    assert found == {"rng": "info", "loader.pos": "info"}


def test_surgery_keeps_no_copy_unasked(case: Path, tmp_path: Path) -> None:
    with open_checkpoint(case) as checkpoint:
        draft, _ = upgrade(Draft.of(checkpoint), Upgrade("2.13"))
        with pytest.raises(Refused, match=r"loader\.pos', and they differ") as refused:
            plan(draft, tmp_path / "out")
        assert "--keep-rank 0" in (refused.value.hint or "")
        kept = [e for fqn, e in draft.entries.items() if fqn not in ("rng", "loader.pos")]
        plan(draft.with_entries(kept, None), tmp_path / "out")  # what is equal may be joined


@pytest.mark.parametrize(("rank", "position"), [(0, 100), (1, 101)])
def test_keep_rank_takes_that_ranks_copies(
    case: Path, tmp_path: Path, rank: int, position: int
) -> None:
    options = WriteOptions(progress=False, keep_rank=rank)
    with open_checkpoint(case, keep_rank=rank) as checkpoint:
        rng = checkpoint.tensors["rng"].numpy()
        draft, _ = upgrade(Draft.of(checkpoint), Upgrade("2.13"))
        write(plan(draft, tmp_path / "out", options), options)
    with open_checkpoint(tmp_path / "out") as made:
        assert made.bytes_entries["loader.pos"].value == position
        assert np.array_equal(made.tensors["rng"].numpy(), rng)
        assert compare_copies(made) is None


def test_a_rank_that_is_not_there(case: Path, samples: Path) -> None:
    with pytest.raises(MissingFile, match=r"__7\.metadata"):
        open_checkpoint(case, keep_rank=7)
    with pytest.raises(UsageError, match="no metadata per rank"):
        open_checkpoint(samples / "healthy" / "step-8500", keep_rank=0)
