"""What a path is that is no DCP checkpoint, and what can be done about it.

Told by magic bytes and by how files lie beside each other. Nothing is unpickled: what a torch.save
file holds is told by the strings in its pickle, which stands uncompressed at its beginning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcpctl.storage.paths import is_directory

_PEEKED = 256 << 10
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):/{1,2}([^/].*)")
#: The first record of a torch.save archive, and what torch.save wrote before 1.6.
_ZIP, _LEGACY = b"PK\3\4", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_MAGICS = (
    (b"\x89HDF", "an HDF5 file", "read it with h5py"),
    (b"GGUF", "a GGUF file of llama.cpp", "convert the checkpoint that it was made of instead"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"\x93NUMPY", "a NumPy array", "numpy.load reads it"),
)
_TAR = (257, b"ustar")
_TO_DCP = (
    "where it holds a whole state dict, torch_save_to_dcp of "
    "torch.distributed.checkpoint.format_utils makes a checkpoint of it"
)
_MEGATRON = (
    "Megatron-LM converts it as it loads: --ckpt-convert-format torch_dist --ckpt-convert-save DIR"
)
_WORLD = re.compile(r"(.*?)_?world_size_(\d+)_rank_(\d+)\.(?:pt|pth|bin)")
_ZERO = re.compile(r"(?:.*_)?(?:zero_pp_rank_\d+_)?mp_rank_\d+(?:_model_states|_optim_states)\.pt")
_MP_RANK = re.compile(r"mp_rank_\d+(_\d+)*")
_PICKLED_WEIGHTS = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")
_NUMBER = re.compile(r"\d+")
_SAVED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar")


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something that is no DCP checkpoint.

    Attributes:
        what: what it is, to follow "is": `a torch.save file`.
        hint: what can be done.
    """

    what: str
    hint: str


def url(path: str) -> Foreign | None:
    """What a path is that is written as a URL; `pathlib` leaves one slash of two."""
    match = _URL.fullmatch(path)
    if match is None or len(match[1]) < 2:
        return None
    scheme, rest = match[1].lower(), match[2]
    full = f"{scheme}://{rest}"
    get = {"s3": "aws s3 cp --recursive", "gs": "gcloud storage cp -r", "hf": "hf download"}
    how = f": {get[scheme]} {full} DIR" if scheme in ("s3", "gs") else ""
    return Foreign("a URL, and object stores are not supported yet", f"download it first{how}")


def file(path: Path) -> Foreign | None:
    """What a file is, by its first bytes; None where they say nothing.

    Raises:
        OSError: it cannot be read.
    """
    head = _head(path)
    if kind := _of_torch(head):
        return kind
    for magic, what, hint in _MAGICS:
        if head.startswith(magic):
            return Foreign(what, hint)
    if head[_TAR[0] :].startswith(_TAR[1]):
        return Foreign("a tar archive", "unpack it first")
    return None


def _of_torch(head: bytes) -> Foreign | None:
    """What a torch.save file holds."""
    if head.startswith(_LEGACY):
        return Foreign("a torch.save file in the form of torch before 1.6", _TO_DCP)
    if not head.startswith(_ZIP) or b"data.pkl" not in head[:512]:
        return None
    if b"pytorch-lightning_version" in head:
        return Foreign(
            "a Lightning checkpoint in one torch.save file",
            "Trainer with a ModelParallelStrategy, or FSDPStrategy(state_dict_type='sharded'), "
            "saves a distributed checkpoint instead",
        )
    if b"zero_stage" in head or b"ds_version" in head:
        return Foreign("a DeepSpeed torch.save file", _deepspeed_hint())
    if b"checkpoint_version" in head and b"iteration" in head:
        return Foreign("a Megatron-LM checkpoint of one rank, in a torch.save file", _MEGATRON)
    return Foreign("a torch.save file", _TO_DCP)


def _deepspeed_hint() -> str:
    return (
        "the zero_to_fp32.py that DeepSpeed put beside it makes one file of the weights; "
        "torch_save_to_dcp of torch.distributed.checkpoint.format_utils makes a checkpoint of that"
    )


def directory(path: Path) -> Foreign | None:
    """What a directory without any checkpoint below it holds; None where nothing is recognised.

    Looks at the directory and one level below it.

    Raises:
        OSError: it cannot be listed.
    """
    files, directories = _entries(path)
    found = _by_entries(path, files, directories)
    if found is not None:
        return found
    for name in directories:
        found = _by_entries(path / name, *_entries(path / name))
        if found is not None:
            return Foreign(f"{found.what}, in {name}/", found.hint)
    return None


def _by_entries(path: Path, files: list[str], directories: list[str]) -> Foreign | None:
    found = _by_files(path, files) or _by_directories(path, directories)
    return found or _saved(path, files)


def _by_files(path: Path, files: Sequence[str]) -> Foreign | None:
    there = set(files)
    ranks = [match for name in files if (match := _WORLD.fullmatch(name))]
    if ranks:
        size = ranks[0][2]
        return Foreign(
            f"sharded state as verl and FSDP1 save it, a torch.save file for each of {size} ranks "
            f"({len(ranks):,} files are here)",
            "verl's merger makes Hugging Face files of it, which dcpctl reads: python -m "
            "verl.model_merger merge --backend fsdp --local_dir DIR --target_dir OUT",
        )
    zero = [name for name in files if _ZERO.fullmatch(name)]
    if zero or {"zero_to_fp32.py", "latest"} <= there:
        return Foreign(
            f"a DeepSpeed checkpoint, {len(zero):,} torch.save files by rank"
            if zero
            else "a DeepSpeed checkpoint",
            _deepspeed_hint(),
        )
    if {"_CHECKPOINT_METADATA", "manifest.ocdbt"} & there:
        return Foreign("an orbax checkpoint of JAX", "orbax.checkpoint reads it")
    if ".zarray" in there or _says_zarr(path, there):
        return Foreign("a Megatron checkpoint of zarr arrays", _MEGATRON)
    if "metadata.pkl" in there and _head(path / "metadata.pkl").startswith(b"\x80"):
        return Foreign(
            "a checkpoint of torch_checkpointing, which is not supported yet",
            "load it there, and save it with torch.distributed.checkpoint",
        )
    if any(
        name.endswith(".index") and f"{name[:-6]}.data-00000-of-00001" in there for name in files
    ):
        return Foreign("a TensorFlow checkpoint", "tf.train.load_checkpoint reads it")
    weights = [name for name in files if _PICKLED_WEIGHTS.fullmatch(name)]
    if weights:
        return Foreign(
            f"a Hugging Face model in {len(weights):,} pickled file{'s' * (len(weights) > 1)}",
            "from_pretrained and save_pretrained(safe_serialization=True) make safetensors of it, "
            "which dcpctl reads",
        )
    return None


def _saved(path: Path, files: Sequence[str]) -> Foreign | None:
    """Files of torch.save, or of one kind that is named above, all of which look alike."""
    saved = [name for name in files if name.endswith(_SAVED)]
    kinds = [(name, kind) for name in saved if (kind := _of_torch(_head(path / name)))]
    if not kinds:
        return None
    if len(kinds) == 1:
        name, kind = kinds[0]
        return Foreign(f"{kind.what} ({name})", kind.hint)
    families = {_NUMBER.sub("#", name) for name, _ in kinds}
    each = ", one for each rank it seems" if len(families) == 1 else ""
    names = ", ".join(name for name, _ in kinds[:3])
    return Foreign(
        f"{len(kinds):,} torch.save files{each} ({names}{' ...' if len(kinds) > 3 else ''})",
        "load them in the job that saved them, and save with torch.distributed.checkpoint",
    )


def _by_directories(path: Path, directories: Sequence[str]) -> Foreign | None:
    ranks = [name for name in directories if _MP_RANK.fullmatch(name)]
    if ranks:
        return Foreign(
            f"a Megatron-LM checkpoint in its legacy form, a directory for each of {len(ranks):,} "
            "model-parallel ranks",
            _MEGATRON,
        )
    arrays = [name for name in directories if (path / name / ".zarray").is_file()]
    if arrays:
        return Foreign(f"a Megatron checkpoint of {len(arrays):,} zarr arrays", _MEGATRON)
    return None


def _says_zarr(path: Path, there: set[str]) -> bool:
    """Megatron-core's `metadata.json` names its backend."""
    if "metadata.json" not in there:
        return False
    said = _head(path / "metadata.json")
    return b"sharded_backend" in said and b"zarr" in said


def _head(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as held:
        try:
            return held.read(_PEEKED)
        except OSError:
            return b""


def _entries(path: Path) -> tuple[list[str], list[str]]:
    files: list[str] = []
    directories: list[str] = []
    for entry in _listed(path):
        (directories if is_directory(entry) else files).append(entry.name)
    return files, directories


def _listed(path: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as scan:
        yield from sorted(scan, key=lambda entry: entry.name)
