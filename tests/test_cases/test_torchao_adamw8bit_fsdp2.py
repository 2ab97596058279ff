"""torchao's low-bit AdamW under FSDP2, and int8 weights (ao#1185, ao#1189): tensor subclasses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpctl.cli.app import app
from dcpctl.inspect.summary import summarize
from dcpctl.model.opening import open_checkpoint
from dcpctl.reports.inspect_json import entry_document, summary_document
from tests.test_check.helpers import check

STATES = {
    "ck-adamw8": ("torchao.optim.subclass_8bit.OptimState8bit", {"codes", "scale", "qmap"}),
    "ck-adamw4": ("torchao.optim.subclass_4bit.OptimState4bit", {"codes", "scale", "qmap"}),
    "ck-adamwfp8": ("torchao.optim.subclass_fp8.OptimStateFp8", {"codes", "scale"}),
}


@pytest.fixture(scope="module")
def case(shared: Path) -> Path:
    return shared / "reports" / "torchao-adamw8bit-fsdp2"


@pytest.mark.parametrize("name", STATES)
def test_inspect_names_the_class_and_what_is_in_it(case: Path, name: str) -> None:
    kind, inner = STATES[name]
    with open_checkpoint(case / name) as checkpoint:
        document = summary_document(summarize(checkpoint))
        entry = entry_document(checkpoint, checkpoint["optim.state.0.exp_avg"], chunks=True)
        plain = entry_document(checkpoint, checkpoint["model.l1.weight"], chunks=True)
    (packed,) = document["packed"]
    assert (packed["class"], packed["form"], packed["tensors"]) == (kind, None, 4)
    assert packed["bytes"] == 4 * 65_536 > 3 * packed["packed_bytes"]
    assert {part["name"] for part in packed["inner"]} == inner
    assert entry["packed"]["class"] == kind
    assert entry["packed"]["bytes"] == 32_768
    assert (entry["dtype"], entry["shape"]) == ("float32", [128, 128])
    assert "packed" not in plain


@pytest.mark.parametrize("name", [*STATES, "ck-int8-weights"])
def test_check_finds_nothing_wrong(case: Path, name: str) -> None:
    result = check(case / name, "DCP1", "DCP3", "DCP4", verify_data=True)
    assert {(found.rule, found.severity) for found in result.findings} == {("DCP308", "info")}


def test_views_name_it(case: Path) -> None:
    path = str(case / "ck-adamw8")
    key = "optim.state.0.exp_avg"
    views = {"": [], "--keys": ["--keys"], "--key": ["--key", key], "--optimizer": ["--optimizer"]}
    shown = {}
    for name, options in views.items():
        done = CliRunner().invoke(app, ["inspect", path, *options], env={"COLUMNS": "160"})
        assert done.exit_code == 0
        shown[name] = done.stdout
    kind = "torchao.optim.subclass_8bit.OptimState8bit"
    assert f"4 tensors are {kind}: 74.8 kB for 262 kB" in shown[""]
    assert "float32 (OptimState8bit)" in shown["--keys"]
    assert "float32 (OptimState8bit)" in shown["--optimizer"]
    assert kind in shown["--key"]
    assert "codes" in shown["--key"]


def test_weights_are_named_too(case: Path) -> None:
    with open_checkpoint(case / "ck-int8-weights") as checkpoint:
        (packed,) = summary_document(summarize(checkpoint))["packed"]
    assert packed["class"] == "torchao.quantization.Int8Tensor"
    assert [part["name"] for part in packed["inner"]] == ["qdata", "scale", "zero_point"]


def test_one_flipped_bit_is_found(case: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(case / "ck-adamw8", broken)
    with open_checkpoint(broken) as checkpoint:
        chunk = checkpoint.tensors["optim.state.0.exp_avg"].chunks[0]
    data = bytearray((broken / "__0_0.distcp").read_bytes())
    data[chunk.offset + 4096] ^= 1
    (broken / "__0_0.distcp").write_bytes(data)
    found = {one.rule: one for one in check(broken, "DCP1", "DCP3", verify_data=True).findings}
    assert set(found) == {"DCP301", "DCP308"}
    assert found["DCP301"].subject == "optim.state.0.exp_avg"
