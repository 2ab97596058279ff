"""The on-disk forms of a checkpoint directory, and what can be said of one without reading it."""

from __future__ import annotations

from dataclasses import dataclass

Release = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Form:
    """What all checkpoints of one form have in common; owned by the module that reads it.

    Attributes:
        name: as JSON documents have it; stable.
        title: as people read it.
        pickled: its metadata are pickles of torch's `Metadata`, as DCP's writers leave them.
        per_rank: each rank has metadata of its own.
        safetensors: its shard files hold safetensors, whose headers belong to no item.
        checksums: its items record checksums of their own.
        placed: it says where in a tensor each chunk lies.
        first: oldest torch release that writes it; None where torch does not.
        shows: what about it tells that release; empty where nothing does.
        read_from: oldest torch release that reads it; None where releases differ by more than
            the form, as those of a pickle do.
        unread: why no torch release can read it, a clause; empty where one can.
    """

    name: str
    title: str
    pickled: bool = False
    per_rank: bool = False
    safetensors: bool = False
    checksums: bool = False
    placed: bool = True
    first: Release | None = None
    shows: str = ""
    read_from: Release | None = None
    unread: str = ""
