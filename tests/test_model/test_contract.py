from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dcpctl.cli.app import app
from dcpctl.errors import MalformedMetadata, ReadFailed
from dcpctl.model.contract import Contract, Spec, contract_of
from dcpctl.model.contract_file import MalformedContract, contract_lines, digest, read_contract
from dcpctl.model.opening import open_checkpoint
from tests.test_check.helpers import ADAMW, adamw, value_of
from tests.test_reports.test_schemas import schema


def contract_at(path: Path) -> Contract:
    with open_checkpoint(path) as checkpoint:
        return contract_of(checkpoint)


def written(contract: Contract, path: Path) -> Path:
    path.write_text("".join(contract_lines(contract)))
    return path


def test_a_checkpoint_keeps_a_contract(tmp_path: Path) -> None:
    adamw("norm.weight", "wq.weight").write(tmp_path / "ckpt")
    made = contract_at(tmp_path / "ckpt")
    assert made.optimizer == "AdamW"
    assert made.group_keys == (tuple(sorted(ADAMW)),)
    assert made.entries["model.wq.weight"] == Spec((4,), "float32")
    assert made.entries["optimizer.state.wq.weight.step"] == Spec((), "float32")
    assert made.entries["optimizer.param_groups.wq.weight.lr"] == Spec()


def test_the_saves_of_a_run_keep_the_same(samples: Path) -> None:
    run = samples / "silent_reset"
    texts = {"".join(contract_lines(contract_at(step))) for step in run.glob("step-???0")}
    assert len(texts) == 1
    assert digest(contract_at(samples / "legacy")) != digest(contract_at(run / "step-9500"))


def test_groups_that_part_ways_change_nothing(tmp_path: Path) -> None:
    one, two = adamw(), adamw()
    two.replace_item("optimizer.param_groups.layers.0.weight.lr", value_of(0.5))
    for name, draft in (("one", one), ("two", two)):
        draft.write(tmp_path / name)
    assert digest(contract_at(tmp_path / "one")) == digest(contract_at(tmp_path / "two"))


names = st.text(min_size=1, max_size=8)
tensors = st.builds(
    Spec, st.lists(st.integers(0, 2**63 - 1), max_size=3).map(tuple), st.sampled_from(["float32"])
)
contracts = st.builds(
    Contract,
    st.dictionaries(names, tensors | st.just(Spec()), max_size=5),
    st.none() | names,
    st.lists(st.lists(names, max_size=3).map(tuple), max_size=3).map(tuple),
)


@given(contracts)
def test_what_is_written_is_read(tmp_path_factory, contract: Contract) -> None:
    path = written(contract, tmp_path_factory.getbasetemp() / "contract.json")
    assert read_contract(path) == contract
    found = json.loads(path.read_text())
    jsonschema.validate(found, schema("contract"), cls=jsonschema.Draft202012Validator)
    assert list(found["entries"]) == sorted(contract.entries)
    assert path.read_text().count("\n") >= len(contract.entries) + len(contract.group_keys)


GOOD = {"schema": "dcpctl.contract/1", "optimizer": None, "group_keys": [], "entries": {}}
TENSOR = {"kind": "tensor", "dtype": "float32", "shape": [2]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "dcpctl.contract/2"}, "it has no schema 'dcpctl.contract/1'"),
        ({"digest": "sha256:0"}, "its digest is that of another contract"),
        ({"optimizer": 3}, "'optimizer'"),
        ({"group_keys": ["lr"]}, "'group_keys'"),
        ({"group_keys": [[1]]}, "'group_keys'"),
        ({"entries": []}, "'entries'"),
        ({"entries": {"a": 1}}, "'a'"),
        ({"entries": {"a": {}}}, "'a'"),
        ({"entries": {"a": {**TENSOR, "shape": [-1]}}}, "'a'"),
        ({"entries": {"a": {**TENSOR, "dtype": None}}}, "'a'"),
        ({"entries": {"a": {**TENSOR, "kind": "bytes"}}}, "'a'"),
    ],
    ids=str,
)
def test_what_is_no_contract_is_refused(tmp_path: Path, change: dict, says: str) -> None:
    path = tmp_path / "contract.json"
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(MalformedContract, match=says):
        read_contract(path)


def test_a_contract_by_hand_needs_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    path.write_text(json.dumps({**GOOD, "entries": {"a": TENSOR}}))
    assert read_contract(path) == Contract({"a": Spec((2,), "float32")})


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed):
        read_contract(tmp_path / "nothing")
    (tmp_path / "text").write_text("no JSON")
    with pytest.raises(MalformedMetadata):
        read_contract(tmp_path / "text")


def test_the_command(samples: Path, tmp_path: Path) -> None:
    def invoke(*arguments: str | Path):
        return CliRunner().invoke(app, ["contract", *map(str, arguments)])

    ckpt = samples / "healthy" / "step-8500"
    assert invoke(ckpt, "-o", tmp_path / "contract.json").stdout == ""
    assert (tmp_path / "contract.json").read_text() == invoke(ckpt).stdout
    made = read_contract(tmp_path / "contract.json")
    assert invoke(ckpt, "--digest").stdout == digest(made) + "\n"
    assert made == Contract({**contract_at(ckpt).entries}, made.optimizer, made.group_keys)
    assert invoke(samples / "interrupted").exit_code == 3
