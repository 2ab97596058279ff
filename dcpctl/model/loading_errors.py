"""What torch raises in a load, and at which point of it; measured with 2.4.1, 2.13.0 and 2.15.0.

Source: torch/distributed/checkpoint/default_planner.py (`create_default_local_load_plan`),
planner_helpers.py (`_create_read_items`) and filesystem.py (`FileSystemReader.read_data`); read in
2.3.1, 2.4.1, 2.5.1, 2.6.0, 2.13.0 and 2.15.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dcpctl.formats.dtypes import DTYPES
from dcpctl.model.contract import Spec
from dcpctl.model.optimizer.catalogue import version_key

#: Points of a load, in their order: keys are planned, items looked up, bytes read.
PLANNING, LOOKING_UP, READING = range(3)


class Mismatch(NamedTuple):
    """One key under which the run and the checkpoint have different things.

    Attributes:
        fqn: the key.
        asked: what the run's state dict has there.
        stored: what the checkpoint has there.
    """

    fqn: str
    asked: Spec
    stored: Spec


class LoadError(NamedTuple):
    """An exception of a load.

    Attributes:
        phase: PLANNING, LOOKING_UP or READING; only the last leaves some tensors changed.
        kind: its class: `RuntimeError`, `ValueError`, ...
        text: its message.
        fqn: the key that it is about.
    """

    phase: int
    kind: str
    text: str
    fqn: str


@dataclass(frozen=True, slots=True)
class Release:
    """How a torch release loads.

    Attributes:
        raises_runtime_error: a missing key is a RuntimeError with a sentence; else a KeyError.
        falls_back: it tries the keys of 2.3 where the checkpoint has some that it did not ask for.
        compares_sizes: it refuses a tensor of another shape; else it copies the common part.
        opens_mappings: it asks for what holds no tensor key by key, else in one piece.
    """

    raises_runtime_error: bool = True
    falls_back: bool = True
    compares_sizes: bool = True
    opens_mappings: bool = True

    @classmethod
    def of(cls, torch: str | None) -> Release:
        """Return the facts of a release such as `2.13`; of the newest known for None."""
        if torch is None:
            return cls()
        minor = version_key(torch)[:2]
        return cls(
            raises_runtime_error=minor >= (2, 4),
            falls_back=minor >= (2, 5),
            compares_sizes=minor >= (2, 6),
            opens_mappings=minor >= (2, 4),
        )


def missing(fqn: str, release: Release) -> LoadError:
    """The exception for a key that the checkpoint lacks."""
    if release.raises_runtime_error:
        text = f"Missing key in checkpoint state_dict: {fqn}."
        return LoadError(PLANNING, "RuntimeError", text, fqn)
    return LoadError(PLANNING, "KeyError", repr(fqn), fqn)


def clash(pair: Mismatch, entry: Any, release: Release) -> LoadError | None:
    """The exception that loading one key raises; None if it is read.

    Args:
        pair: the key.
        entry: the checkpoint's entry.
        release: who loads.
    """
    fqn, asked, stored = pair
    if stored.shape is None:
        lost = getattr(entry, "file", 0) < 0
        return _unplaced(fqn, "None", "None") if lost else None
    if asked.shape is None:
        text = (
            f"Invalid checkpoint metadata for {fqn}, expected BytesStorageMetadata but found "
            "<class 'torch.distributed.checkpoint.metadata.TensorStorageMetadata'>"
        )
        return LoadError(PLANNING, "ValueError", text, fqn)
    if asked.shape != stored.shape and release.compares_sizes:
        text = f"Size mismatch between saved {size(stored.shape)} and current: {size(asked.shape)}"
        return LoadError(PLANNING, "ValueError", f"{text} for {fqn}", fqn)
    if not all(map(min, asked.shape, stored.shape)):
        return None  # an empty tensor: there is nothing to read
    if len(asked.shape) > len(stored.shape):
        return LoadError(PLANNING, "IndexError", "tuple index out of range", fqn)
    return _while_reading(pair, entry)


def size(shape: tuple[int, ...]) -> str:
    """A shape as torch prints it."""
    return f"torch.Size({list(shape)})"


def _while_reading(pair: Mismatch, entry: Any) -> LoadError | None:
    fqn, asked, stored = pair
    assert asked.shape is not None and stored.shape is not None
    chunks = getattr(entry, "chunks", None)
    if chunks is not None:
        lost = np.flatnonzero((chunks.file < 0) & (chunks.sizes > 0).all(axis=1))
        if len(lost):
            offsets = tuple(chunks.offsets[lost[0]].tolist())
            return _unplaced(fqn, size(offsets), str(lost[0]))
    if len(asked.shape) < len(stored.shape):
        sizes = stored.shape if chunks is None else chunks[0].sizes
        common = tuple(map(min, asked.shape, sizes))
        where = f"MetadataIndex(fqn={fqn!r}, offset={size((0,) * len(sizes))}, index=0)"
        sides = f"{size(common)} vs {size((*common, *sizes[len(common) :]))}"
        return LoadError(READING, "AssertionError", f"req {where} mismatch sizes {sides}", fqn)
    packed = [name for name in (asked.dtype, stored.dtype) if name and _is_packed(name)]
    if not packed or asked.dtype == stored.dtype:
        return None
    # `copy_` knows a packed dtype only with itself on the other side.
    cast = {asked.dtype, stored.dtype} == {"float32", "float4_e2m1fn_x2"}
    text = f'"{"copy_kernel" if cast else "copy_"}" not implemented for '
    return LoadError(READING, "NotImplementedError", f"{text}'{_scalar_type(packed[0])}'", fqn)


def _unplaced(fqn: str, offset: str, index: str) -> LoadError:
    """No storage item holds it: torch 2.0 to 2.3 lost what other ranks than the first saved."""
    text = f"MetadataIndex(fqn={fqn!r}, offset={offset}, index={index})"
    return LoadError(LOOKING_UP, "KeyError", text, fqn)


def _is_packed(dtype: str) -> bool:
    known = DTYPES.get(dtype)
    return known is not None and known.kind == "packed"


def _scalar_type(dtype: str) -> str:
    """The name of `c10::ScalarType`: `Int4`, `UInt4`, `Bits8`, `Float4_e2m1fn_x2`."""
    return "UInt" + dtype[4:] if dtype.startswith("uint") else dtype.capitalize()
