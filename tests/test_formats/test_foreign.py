"""What is no DCP checkpoint is named for what it is, with what can be done; exit code 3."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpctl.cli.app import app
from dcpctl.errors import NotACheckpoint
from dcpctl.model.opening import open_checkpoint


def saved(path: Path, state: object) -> Path:
    """What torch.save makes of plain values: a pickle in an uncompressed archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(state, protocol=2))
        archive.writestr("archive/version", "3\n")
    return path


def touched(path: Path, data: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def verl(at: Path) -> Path:
    for rank in range(8):
        for what in ("model", "optim", "extra_state"):
            saved(at / f"{what}_world_size_8_rank_{rank}.pt", {"w": 1})
    return at


def fsdp_by_rank(at: Path) -> Path:
    for rank in range(4):
        saved(at / f"pytorch_model_fsdp_0_rank{rank}.bin", {"w": 1})
    return at


def deepspeed(at: Path) -> Path:
    saved(at / "global_step100/mp_rank_00_model_states.pt", {"ds_version": "0.16"})
    for rank in range(2):
        name = f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        saved(at / "global_step100" / name, {"zero_stage": 3})
    touched(at / "latest", b"global_step100")
    touched(at / "zero_to_fp32.py")
    return at


def megatron(at: Path) -> Path:
    for rank in range(2):
        saved(at / f"mp_rank_{rank:02}/model_optim_rng.pt", {"checkpoint_version": 3.0})
    return at


def zarr(at: Path) -> Path:
    touched(at / "metadata.json", b'{"sharded_backend": "zarr", "sharded_backend_version": 1}')
    touched(at / "module.decoder.weight/.zarray", b"{}")
    return at


def nemo_zarr(at: Path) -> Path:
    touched(at / "model.embedding.weight/.zarray", b"{}")
    saved(at / "common.pt", {})
    return at


def hugging_face(at: Path) -> Path:
    for number in (1, 2):
        saved(at / f"pytorch_model-{number:05}-of-00002.bin", {})
    touched(at / "pytorch_model.bin.index.json", b"{}")
    touched(at / "config.json", b"{}")
    return at


def torch_checkpointing(at: Path) -> Path:
    return touched(at / "metadata.pkl", pickle.dumps({})).parent


def orbax(at: Path) -> Path:
    touched(at / "manifest.ocdbt", b"\x0c\xdb\x3a\x2a")
    touched(at / "d/abc")
    return touched(at / "_CHECKPOINT_METADATA", b"{}").parent


def one_file(at: Path) -> Path:
    return saved(at / "ckpt.pt", {"model": {}}).parent


@pytest.mark.parametrize(
    ("make", "what", "hint"),
    [
        (verl, "for each of 8 ranks (24 files are here)", "verl.model_merger"),
        (fsdp_by_rank, "4 torch.save files, one for each rank", "the job that saved them"),
        (deepspeed, "a DeepSpeed checkpoint", "zero_to_fp32.py"),
        (megatron, "legacy form, a directory for each of 2 model-parallel", "torch_dist"),
        (zarr, "a Megatron checkpoint of zarr arrays", "torch_dist"),
        (nemo_zarr, "zarr arrays", "torch_dist"),
        (hugging_face, "a Hugging Face model in 2 pickled files", "safe_serialization=True"),
        (torch_checkpointing, "a checkpoint of torch_checkpointing", "not supported yet"),
        (orbax, "an orbax checkpoint of JAX", "orbax"),
        (one_file, "a torch.save file (ckpt.pt)", "torch_save_to_dcp"),
    ],
)
@pytest.mark.parametrize("below", ["", "x/"])
def test_directories(tmp_path: Path, make, what: str, hint: str, below: str) -> None:
    make(tmp_path / f"save/{below}")
    with pytest.raises(NotACheckpoint) as raised:
        open_checkpoint(tmp_path / "save")
    told = f"{raised.value} {raised.value.hint}"
    assert what in told and hint in told, told
    done = CliRunner().invoke(app, ["inspect", str(tmp_path / "save")])
    assert done.exit_code == 3 and what in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("last.ckpt", {"pytorch-lightning_version": "2.6"}, "a Lightning checkpoint in one"),
        ("model_optim_rng.pt", {"checkpoint_version": 3.0, "iteration": 1}, "a Megatron-LM"),
        ("x_optim_states.pt", {"zero_stage": 3}, "a DeepSpeed torch.save file"),
        ("model.bin", {"w": 1}, "a torch.save file"),
        ("old.pt", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "before 1.6"),
        ("m.h5", b"\x89HDF\r\n", "an HDF5 file"),
        ("m.gguf", b"GGUF\3", "a GGUF file"),
        ("m.tar.gz", b"\x1f\x8b\x08", "a gzip archive"),
        ("m.tar", bytes(257) + b"ustar\0", "a tar archive"),
        ("notes.txt", b"hello", "a file, expected"),
        ("empty", b"", "a file, expected"),
    ],
)
def test_files(tmp_path: Path, name: str, data: object, what: str) -> None:
    path = tmp_path / name
    touched(path, data) if isinstance(data, bytes) else saved(path, data)
    with pytest.raises(NotACheckpoint, match=what):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("s3://bucket/run/step-10", "aws s3 cp --recursive s3://bucket/run/step-10 DIR"),
        ("gs://bucket/run", "gcloud storage cp -r gs://bucket/run DIR"),
        ("https://x.org/y", "download it first"),
        ("hf://org/model", "download it first"),
    ],
)
def test_urls(url: str, hint: str) -> None:
    for given in (url, Path(url)):
        with pytest.raises(NotACheckpoint, match="is a URL") as raised:
            open_checkpoint(given)
        assert hint in (raised.value.hint or "")


@pytest.mark.parametrize("path", ["C:/x", "nowhere", "a:b", "./s3:x"])
def test_what_is_no_url(path: str) -> None:
    with pytest.raises(NotACheckpoint, match="there is no directory"):
        open_checkpoint(path)


def test_a_hostile_directory_is_not_read_for_ever(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "model_world_size_2_rank_0.pt")
    os.mkfifo(tmp_path / "metadata.pkl")
    os.mkfifo(tmp_path / "x.pt")
    with pytest.raises(NotACheckpoint):
        open_checkpoint(tmp_path)
