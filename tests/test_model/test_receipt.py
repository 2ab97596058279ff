"""Load receipts: written, read back, and refused where they are none."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from dcpctl.errors import DcpctlError, MalformedMetadata, ReadFailed
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.receipt import (
    FilledKey,
    MalformedReceipt,
    Receipt,
    SkippedKey,
    identity,
    read_receipt,
    write_receipt,
)

RECEIPT = Receipt(
    saved_as="runs/step-1000",
    save_id="7d2f",
    loaded=("model.w", "optimizer.state.w.exp_avg"),
    skipped=(SkippedKey("lr_scheduler", ignored=True), SkippedKey("rng", ignored=False)),
    filled=(FilledKey("optimizer.param_groups.0.decoupled_weight_decay", True),),
    missing=("model.new",),
    world_size=2,
    torch="2.13.0",
    dcpctl="0.1.0",
    time="2026-01-02T03:04:05+00:00",
)


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    write_receipt(RECEIPT, path)
    assert read_receipt(path) == RECEIPT
    assert [entry.name for entry in tmp_path.iterdir()] == ["receipt.json"]


def test_it_is_what_the_schema_says() -> None:
    text = (resources.files("dcpctl") / "_data" / "dcpctl.receipt-1.schema.json").read_text()
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    values = (float("nan"), (1, 2.5), {"a"}, None, "x")
    odd = dataclasses.replace(RECEIPT, filled=tuple(FilledKey("k", value) for value in values))
    for receipt in (RECEIPT, odd):
        text = json.dumps(receipt.document(), allow_nan=False)
        jsonschema.validate(json.loads(text), schema, cls=jsonschema.Draft202012Validator)
    assert [one["value"] for one in odd.document()["filled"]] == [
        "nan",
        [1, 2.5],
        "{'a'}",
        None,
        "x",
    ]


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (b"", MalformedMetadata),
        (b"[]", MalformedMetadata),
        (b"{}", MalformedReceipt),
        (b'{"schema": 1}', MalformedReceipt),
        (b'{"schema": "dcpctl.check/1"}', MalformedReceipt),
        (b'{"schema": "dcpctl.receipt/1"}', MalformedReceipt),
    ],
)
def test_what_is_none(tmp_path: Path, broken: bytes, error: type[DcpctlError]) -> None:
    path = tmp_path / "receipt.json"
    path.write_bytes(broken)
    with pytest.raises(error):
        read_receipt(path)


@pytest.mark.parametrize(
    "change",
    [
        {"loaded": ["a", 1]},
        {"loaded": "a"},
        {"skipped": ["a"]},
        {"skipped": [{"key": 1, "ignored": False}]},
        {"filled": [{"value": 1}]},
        {"world_size": True},
        {"world_size": "2"},
        {"checkpoint": None},
        {"checkpoint": {"saved_as": 3}},
        {"torch": None},
        {"missing": None},
    ],
)
def test_each_field_is_looked_at(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps({**RECEIPT.document(), **change}))
    with pytest.raises(MalformedReceipt, match=next(iter(change))):
        read_receipt(path)


def test_no_file_and_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed):
        read_receipt(tmp_path / "none.json")
    with pytest.raises(ReadFailed, match="cannot write"):
        write_receipt(RECEIPT, tmp_path / "none" / "receipt.json")
    write_receipt(RECEIPT, tmp_path / "taken")
    with pytest.raises(ReadFailed):
        write_receipt(RECEIPT, tmp_path / "taken" / "receipt.json")


def test_whose_it_is(samples: Path) -> None:
    with (
        open_checkpoint(samples / "healthy" / "step-8500") as healthy,
        open_checkpoint(samples / "silent_reset" / "step-9000") as other,
        open_checkpoint(samples / "legacy") as legacy,
    ):
        saved_as, save_id = identity(healthy)
        assert saved_as is not None
        assert save_id is not None
        receipt = Receipt(saved_as, save_id, tuple(healthy.entries))
        assert receipt.differs_from(healthy) == ""
        assert save_id in receipt.differs_from(other)
        anonymous = dataclasses.replace(receipt, save_id=None)
        assert "not in the checkpoint" in anonymous.differs_from(other)
        fewer = dataclasses.replace(anonymous, loaded=tuple(healthy.entries)[1:])
        assert "not in the receipt" in fewer.differs_from(healthy)
        assert Receipt(None, None, tuple(legacy.entries)).differs_from(legacy) == ""
