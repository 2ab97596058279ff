"""A load by stock torch, foreseen from a contract and judged by its receipt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.distributed.checkpoint as dcp  # noqa: E402
from torch.distributed.checkpoint.api import CheckpointException  # noqa: E402
from torch.distributed.checkpoint.state_dict import (  # noqa: E402
    get_model_state_dict,
    get_state_dict,
)

from dcpctl.check.finding import CheckResult  # noqa: E402
from dcpctl.check.like import read_like  # noqa: E402
from dcpctl.model.receipt import read_receipt  # noqa: E402
from dcpctl.training import StrictLoadPlanner  # noqa: E402
from tests.test_check.helpers import check, rules, the  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3, 4)).sum().backward()
    optimizer.step()
    return model, optimizer


def foreseen(ckpt: Path, run: Path) -> CheckResult:
    return check(ckpt, "DCP80", like=read_like(run))


def test_a_load_that_leaves_the_optimizer_on_disk(trained, tmp_path: Path) -> None:
    model, optimizer = trained
    whole, weights = tmp_path / "step-1", tmp_path / "weights"
    both = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))
    dcp.save(both, checkpoint_id=whole)
    dcp.save({"model": get_model_state_dict(model)}, checkpoint_id=weights)

    assert not foreseen(whole, whole).findings
    assert rules(foreseen(whole, weights)) == {"DCP803"}
    # Stock torch says nothing, as foreseen; and it does raise where the keys are missing.
    dcp.load({"model": get_model_state_dict(model)}, checkpoint_id=whole)
    missing = the(foreseen(weights, whole))
    said = missing.message.partition("torch raises: ")[2]
    with pytest.raises(CheckpointException) as caught:
        dcp.load(both, checkpoint_id=weights)
    assert said and said in str(caught.value)


def test_the_receipt_of_a_load(trained, tmp_path: Path) -> None:
    model, optimizer = trained
    ckpt, file = tmp_path / "step-1", tmp_path / "receipt.json"
    both = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))
    dcp.save(both, checkpoint_id=ckpt)

    dcp.load(both, checkpoint_id=ckpt, planner=StrictLoadPlanner(receipt=file))
    assert not check(ckpt, "DCP81", receipt=read_receipt(file)).findings
    part = {"model": get_model_state_dict(model)}
    planner = StrictLoadPlanner(receipt=file, ignore=["optimizer"])
    dcp.load(part, checkpoint_id=ckpt, planner=planner)
    assert not check(ckpt, "DCP81", receipt=read_receipt(file)).findings

    found = json.loads(file.read_text())
    for one in found["skipped"]:
        one["ignored"] = False
    file.write_text(json.dumps(found))
    assert the(check(ckpt, "DCP81", receipt=read_receipt(file))).rule == "DCP812"
