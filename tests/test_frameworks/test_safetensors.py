"""The safetensors library and torch's reader of such files load what surgery makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcpctl.surgery.cast import Cast
from dcpctl.surgery.drop import Drop
from dcpctl.surgery.reshard import Reshard
from dcpctl.surgery.select import Select
from dcpctl.surgery.verbs import Verb
from tests.test_frameworks import results

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("safetensors")
SAVES = ["hf_consolidated", "hf_rank0_two_files", "hf_sharded"]
EDITS: dict[str, tuple[Verb, ...]] = {
    "select": (Select(("*",)),),
    "rename": (results.rename("layers", "blocks"),),
    "drop": (Drop(("layers.1",)),),
    "cast": (Cast("float32", ("*.wq.weight",)),),
    "three ranks": (Reshard(3),),
}


@pytest.mark.parametrize("name", SAVES)
@pytest.mark.parametrize("verb", EDITS)
def test_torch_loads_it(shared: Path, tmp_path: Path, name: str, verb: str) -> None:
    import torch
    from torch.distributed.checkpoint import HuggingFaceStorageReader, load

    if verb == "three ranks" and name != "hf_sharded":
        pytest.skip("that form knows no ranks")
    source = shared / "checkpoints/2.13.0" / name / "ckpt"
    made = results.carry_out(source, tmp_path / "out", *EDITS[verb])
    wanted = results.numbers(made)
    assert wanted
    reader = HuggingFaceStorageReader(str(made))
    described = reader.read_metadata().state_dict_metadata
    assert set(described) == set(wanted)
    state = {
        fqn: torch.zeros(entry.size, dtype=entry.properties.dtype)
        for fqn, entry in described.items()
    }
    load(state, storage_reader=HuggingFaceStorageReader(str(made)), no_dist=True)
    for fqn, tensor in state.items():
        assert tensor.contiguous().view(torch.uint8).numpy().tobytes() == wanted[fqn], fqn


@pytest.mark.parametrize("name", SAVES)
@pytest.mark.parametrize("verb", ["select", "rename", "cast"])
def test_the_library_reads_its_files(shared: Path, tmp_path: Path, name: str, verb: str) -> None:
    from safetensors.torch import load_file

    source = shared / "checkpoints/2.13.0" / name / "ckpt"
    made = results.carry_out(source, tmp_path / "out", *EDITS[verb])
    seen: dict[str, str] = {}
    for file in sorted(made.glob("*.safetensors")):
        seen.update(dict.fromkeys(load_file(file), file.name))
    assert set(seen) == set(results.numbers(made))
    index = made / "model.safetensors.index.json"
    assert index.exists() == (source / index.name).exists()
    if index.exists():
        assert json.loads(index.read_text())["weight_map"] == seen
