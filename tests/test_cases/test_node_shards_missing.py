"""A node's shards were not gathered (VeOmni#1172, SimDINO#24): half of the files are elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcpctl.errors import MissingFile
from dcpctl.inspect.summary import summarize
from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.values import Unknown
from dcpctl.reports.inspect_json import summary_document
from dcpctl.surgery.layouts.layout import ReshardOptions, reshard
from dcpctl.writing.plan import plan
from tests.test_check.helpers import check
from tests.test_diff.helpers import differ


@pytest.fixture(scope="module")
def case(shared: Path) -> Path:
    return shared / "reports" / "node-shards-missing"


def test_what_was_not_read_is_unknown_and_never_none(case: Path) -> None:
    with open_checkpoint(case / "node0") as checkpoint:
        document = summary_document(summarize(checkpoint))["optimizer"]
        (group,) = OptimizerView(checkpoint).param_groups
    assert document["verdict"] == "partial"
    assert document["candidates"] == ["Adam", "AdamW"]  # which one lies in the missing file
    assert "could not be read" in document["sentence"]
    assert all(isinstance(value, Unknown) for value in group.values.values())
    assert (group.params, group.unknown is not None) == ((), True)
    unknown = {one["fqn"]: one["reason"] for one in document["unknown"]}
    assert {f"optim.param_groups.0.{key}" for key in ("lr", "betas", "params")} <= set(unknown)
    assert "__1_0.distcp" in unknown["optim.param_groups.0.lr"]
    values = document["param_groups"][0]
    assert all("__unknown__" in value for key, value in values.items() if key != "params")
    assert "frozen" not in json.dumps(document["notes"])


def test_no_rule_concludes_from_it(case: Path) -> None:
    run = case / "run"
    result = check(run / "step-3", against=run / "step-2")
    assert {finding.rule for finding in result.findings} == {"DCP201"}


def test_diff_says_unknown_and_not_changed(case: Path) -> None:
    found = differ(case / "run" / "step-2", case / "run" / "step-3")
    optimizer = found.optimizer
    assert optimizer is not None
    assert (optimizer.kinds_differ, optimizer.steps_differ, optimizer.changes) == (False, False, ())
    assert (optimizer.unknown[0], len(optimizer.unknown[1])) == ((), 20)


def test_a_result_that_needs_the_missing_file_is_not_planned(case: Path, tmp_path: Path) -> None:
    with open_checkpoint(case / "node0") as checkpoint:
        draft = reshard(Draft.of(checkpoint), ReshardOptions(world_size=1))
        with pytest.raises(MissingFile, match=r"'__1_0\.distcp' is missing"):
            plan(draft, tmp_path / "out")
