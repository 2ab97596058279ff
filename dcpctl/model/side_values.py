"""The values in the small files beside the shards, as `torch.save`, pickle and JSON keep them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dcpctl.documents.parsing import parse_json
from dcpctl.errors import DcpctlError
from dcpctl.formats.value_read import ValueReader
from dcpctl.storage.local import LocalStorage

_PICKLES = (".pt", ".pth", ".pkl", ".bin")
# Weights and random states hold no counts of the job, or such as are not its steps.
_OTHERS = re.compile(
    r"(?i)(?:.*[_.-])?(?:rng|random|model|weights|tokenizer|vocab|config)(?:[_.-].*)?"
)
_DIGITS = re.compile(r"\d+")
_JSON_BYTES, _PICKLE_BYTES, _FILES = 8 << 20, 1 << 20, 16


def has_state_file(root: Path) -> bool:
    """Whether a file lies directly in a directory that a job saved its state in, or may have."""
    try:
        with LocalStorage(root) as storage:
            return any(name.endswith(_PICKLES) for name in storage.names())
    except DcpctlError:
        return False


def values_beside(root: Path) -> Iterator[tuple[str, object]]:
    """Decode the small JSON and pickle files in a directory; nothing in them is executed.

    Of files that differ only in a number, such as a rank's, the first is read. What cannot be read
    is left out: no torch needs it to load the checkpoint.

    Args:
        root: the directory.

    Yields:
        File name and decoded value.
    """
    try:
        storage = LocalStorage(root)
    except DcpctlError:  # parts side by side have no directory of their own
        return
    with storage:
        seen: set[str] = set()
        for name, size in storage.names().items():
            alike = _DIGITS.sub("#", name)
            if alike in seen or len(seen) >= _FILES or _OTHERS.fullmatch(name):
                continue
            if name.endswith(".json") and size <= _JSON_BYTES and ".safetensors" not in name:
                seen.add(alike)
                yield from _read(storage, name, size, as_json=True)
            elif name.endswith(_PICKLES) and size <= _PICKLE_BYTES:
                seen.add(alike)
                yield from _read(storage, name, size, as_json=False)


def _read(
    storage: LocalStorage, name: str, size: int, *, as_json: bool
) -> Iterator[tuple[str, object]]:
    try:
        if as_json:
            yield name, parse_json(storage.read_all(name, _JSON_BYTES), name)
        elif storage.read(name, 0, min(4, size)).startswith(b"PK"):
            yield name, ValueReader(storage).read(name, 0, size, subject=name)
        else:
            yield name, ValueReader(storage).read_pickle(name, 0, size, subject=name)
    except DcpctlError:
        return
