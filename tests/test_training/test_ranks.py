"""The guards on two ranks, with every way to shard; all of it in one run of guard_job.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dcpctl.model.opening import open_checkpoint
from dcpctl.model.receipt import read_receipt
from tests.test_training.torchruns import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(300)]

STRATEGIES = ("plain", "ddp", "fsdp1", "fsdp1-flat", "fsdp2", "tp")
NEW_KEY = "optimizer.param_groups.0.decoupled_weight_decay"


@pytest.fixture(scope="module")
def folder(ran: Path) -> Path:
    """Where the job ran, with its checkpoints and what each rank saw."""
    return ran


@pytest.fixture(scope="module", params=[0, 1], ids=["rank0", "rank1"])
def seen(folder: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What one rank saw."""
    return json.loads((folder / f"rank{request.param}.json").read_text())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_load_of_the_model_alone_is_refused(seen: dict[str, Any], strategy: str) -> None:
    refused = seen[strategy]["model only"]
    assert refused.startswith("LoadRefused@0: nothing was loaded")  # one report, on every rank
    assert "41 keys, 33 of them not asked for by the run" in refused
    assert "cause: the state dict has no optimizer" in refused
    assert 'StrictLoadPlanner(ignore=["optimizer"])' in refused
    assert seen[strategy]["untouched"]
    assert seen[strategy]["meant"] == ""


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_empty_optimizer_is_refused(seen: dict[str, Any], strategy: str) -> None:
    refused = seen[strategy]["empty"]
    assert "41 keys, 21 of them not asked for by the run" in refused
    assert "cause: the optimizer's state dict is empty" in refused


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_in_memory_is_compared(seen: dict[str, Any], strategy: str) -> None:
    told = seen[strategy]
    assert told["restored"] == ""
    assert "the optimizer was reset" in told["new"]
    assert "step: none in memory, 3 on disk" in told["new"]
    assert "the optimizer was restored in part" in told["half"]  # though one rank alone lost it
    assert "exp_avg (" in told["half"]
    assert "exp_avg_sq" not in told["half"]
    assert "step: 6 in memory, 3 on disk" in told["later"]
    assert "7 of 7 parameters" in told["later"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_training_goes_on_as_if_nothing_had_been(seen: dict[str, Any], strategy: str) -> None:
    assert seen[strategy]["again"] == seen[strategy]["on"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_receipt(folder: Path, strategy: str) -> None:
    receipt = read_receipt(folder / f"{strategy}.json")
    assert (receipt.world_size, receipt.skipped, receipt.filled) == (2, (), ())
    with open_checkpoint(folder / strategy) as checkpoint:
        assert set(receipt.loaded) == set(checkpoint)
        assert receipt.differs_from(checkpoint) == ""
    with open_checkpoint(folder / "stages") as other:
        assert receipt.differs_from(other)
    schema = json.loads(
        (REPOSITORY / "dcpctl" / "_data" / "dcpctl.receipt-1.schema.json").read_text()
    )
    document = json.loads((folder / f"{strategy}.json").read_text())
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


def test_swapped_parameters_are_named(seen: dict[str, Any]) -> None:
    told = seen["swapped"]["state"]
    one, other = "'blocks.0.w1.weight'", "'blocks.1.w1.weight'"
    assert "the optimizer's state belongs to other parameters: 2 of 7" in told
    assert f"swapped: exp_avg of {one} holds what the checkpoint has for {other}" in told
    assert f"swapped: exp_avg_sq of {other} holds what the checkpoint has for {one}" in told


def test_ranks_that_ask_for_different_things(seen: dict[str, Any]) -> None:
    for strategy in ("fsdp2", "ddp"):
        told = seen["ranks that disagree"][strategy]
        assert "21 of them asked for by some ranks only" in told
        assert "not asked for by rank 1 (21):\n    'optimizer.state." in told
    told = seen["ranks that disagree"]["shape"]  # rank 1 alone asks for another shape
    assert told.startswith("LoadRefused@0")
    assert "asked for as float32 [7]" in told


def test_pipeline_stages_ask_for_their_own(folder: Path, seen: dict[str, Any]) -> None:
    assert seen["stages"]["all"] == ""
    assert len(read_receipt(folder / "stages.json").loaded) == 24
    assert "9 of them not asked for by the run" in seen["stages"]["one without state"]


def test_a_save_without_collectives(folder: Path, seen: dict[str, Any]) -> None:
    told = seen["without collectives"]
    assert told["model only"].startswith("LoadRefused@0: nothing was loaded")
    assert told["again"] == told["on"]
    assert read_receipt(folder / "alone.json").skipped == ()
    assert told["own"] == ""
    assert "not asked for, other (1):\n    'of1.2'" in told["own, less"]


def test_a_rank_that_fails_is_heard_of(folder: Path) -> None:
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    first, second = (seen["a rank that fails"] for seen in ranks)
    assert first["error"].startswith("UnresumedState: rank 1 could not compare its state")
    assert second["error"].startswith("NotACheckpoint")
    for told in (first, second):
        assert "cannot write the receipt" in told["receipt"]
        assert told["seconds"] < 60


def test_an_old_checkpoint_is_filled_as_upgrade_does(folder: Path, seen: dict[str, Any]) -> None:
    told = seen["legacy"]
    assert f"not on disk (1):\n    '{NEW_KEY}'" in told["refused"]
    assert "StrictLoadPlanner(upgrade=True)" in told["refused"]
    assert told["groups"] == [True]
    assert told["filled"] == told["upgraded"] == told["on"]
    receipt = read_receipt(folder / "old.json")
    assert [(one.key, one.value) for one in receipt.filled] == [(NEW_KEY, True)]
    assert "is not filled: it is False in the running optimizer" in told["adam"]


def test_a_published_fix_asks_for_nothing(seen: dict[str, Any]) -> None:
    """Of a new FSDP1 optimizer the state dict is empty: loading it too is loading nothing."""
    told = seen["published"]
    assert (told["asks for"], told["loaded"]) == (0, 0)
    assert "leave a part of the optimizer's state on disk: 18 keys" in told["preview"]
    assert "the optimizer was reset" in told["found"]
    assert told["by the fix"] != told["on"]
    assert told["by the fix"][0] == told["on"][0]  # the weights are there
    for refused in (told["refused"], told["refused, partial"]):
        assert refused.startswith("LoadRefused@0: nothing was loaded")
        assert "cause: the optimizer's state dict is empty" in refused
        assert "FSDP.optim_state_dict" in refused
        assert "get_state_dict(model, optimizer), which makes the state first" in refused
    assert told["by dcpctl"] == told["on"]


@pytest.mark.parametrize("way", ["named", "alive"])
def test_a_wrapper_outside_of_fsdp1_is_seen_before_the_load(seen: dict[str, Any], way: str) -> None:
    told = seen["wrapped"]
    names, text = told[f"outside, {way}"]
    assert "set_state_dict would raise" in text
    assert "FSDP.optim_state_dict_to_load" in text
    if way == "named":
        assert any(name in told["outside, raised"] for name in names)
    assert told["outside, equal"]
    assert told[f"inside, {way}"] == [[], told[f"inside, {way}"][1]]
    assert "set_state_dict" not in told[f"inside, {way}"][1]
    assert (told["inside, raised"], told["inside, equal"]) == ("", True)
