"""What a checkpoint is, on one screen: form, files, sections, layout and verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dcpctl import torch_bridge
from dcpctl.errors import listed
from dcpctl.inspect.releases import Releases, tell_releases
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.copies import Copies, compare_copies
from dcpctl.model.entry import TensorEntry
from dcpctl.model.layout import Layouts, survey
from dcpctl.model.optimizer.verdict import ABSENT
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.packed import PackedClass, packed_classes
from dcpctl.model.releases import obstacles
from dcpctl.model.saves import optimizer_beside
from dcpctl.model.sections import SECTIONS, Sections, classify


@dataclass(frozen=True, slots=True)
class DTypeShare:
    """The tensors of one dtype.

    Attributes:
        dtype: torch's name without `torch.`.
        tensors: how many.
        nbytes: bytes of their numbers.
    """

    dtype: str
    tensors: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class SectionShare:
    """One section of the checkpoint.

    Attributes:
        name: as `model.sections` names it.
        tensors: tensor entries in it.
        objects: bytes entries in it.
        nbytes: bytes of its tensors' numbers.
        dtypes: of its tensors, that of most bytes first.
        layout: its tensors' layout in words; empty without tensors.
    """

    name: str
    tensors: int
    objects: int
    nbytes: int
    dtypes: tuple[str, ...]
    layout: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A checkpoint on one screen.

    Attributes:
        checkpoint: what was looked at.
        releases: which torch releases could have written it.
        sections: those that are not empty, in their fixed order.
        dtypes: that of most bytes first.
        layouts: how the tensors lie over the ranks.
        optimizer: what the optimizer's entries say.
        packed: tensors of a subclass and packed ones, by class.
        chunks: chunks of all tensors.
        nbytes: bytes of all tensors' numbers.
        disk_bytes: bytes of the shard files on disk; files that are not there count nothing.
        copies: what the copies come to that several ranks saved of the same; None without any.
        absent_files: shard files that the metadata names and that are not there.
        target: the torch release that the verdict is for; None if none was named or installed.
        obstacles: why that release does not load the checkpoint as it is, a clause each.
        optimizer_beside: the part beside it that holds the optimizer, where it has none itself.
    """

    checkpoint: Checkpoint
    releases: Releases
    sections: tuple[SectionShare, ...]
    dtypes: tuple[DTypeShare, ...]
    layouts: Layouts
    optimizer: OptimizerView
    packed: tuple[PackedClass, ...]
    chunks: int
    nbytes: int
    disk_bytes: int
    absent_files: tuple[str, ...]
    copies: Copies | None = None
    target: str | None = None
    obstacles: tuple[str, ...] = ()
    optimizer_beside: str = ""


def summarize(checkpoint: Checkpoint, torch: str | None = None) -> Summary:
    """Survey a checkpoint; reads hyperparameters and steps, and no tensor larger than one number.

    Args:
        checkpoint: an open checkpoint; the summary reads from it, so keep it open.
        torch: the release that is to load it; None for the installed one, if there is one.
    """
    target = torch or torch_bridge.installed_version()
    sections = classify(checkpoint)
    tensors = checkpoint.tensors
    copies = compare_copies(checkpoint)
    layouts = survey(tensors, checkpoint.files, copies)
    sizes = {fqn: entry.nbytes for fqn, entry in tensors.items()}
    view = OptimizerView(checkpoint, sections)
    return Summary(
        checkpoint=checkpoint,
        releases=tell_releases([part.stored for part in checkpoint.parts]),
        sections=tuple(_shares(checkpoint, sections, layouts, sizes)),
        dtypes=_dtypes(tensors, sizes),
        layouts=layouts,
        optimizer=view,
        packed=packed_classes(tensors.values(), checkpoint.packed),
        chunks=sum(entry.num_chunks for entry in tensors.values()),
        nbytes=sum(sizes.values()),
        disk_bytes=sum(file.size or 0 for file in checkpoint.files),
        copies=copies,
        absent_files=tuple(file.name for file in checkpoint.files if file.size is None),
        target=target,
        obstacles=() if target is None else tuple(_obstacles(checkpoint, view, target)),
        optimizer_beside=optimizer_beside(checkpoint.path) if view.verdict == ABSENT else "",
    )


def _obstacles(checkpoint: Checkpoint, view: OptimizerView, target: str) -> Iterator[str]:
    """Why a release does not load the checkpoint: its metadata first, then its param groups."""
    found = dict.fromkeys(
        reason for part in checkpoint.parts for reason in obstacles(part.stored, target)
    )
    if found:
        yield from found
    elif not view.param_groups_pickled:  # a whole list loads through torch's fallback
        keys = dict.fromkeys(gone.key for gone in view.missing_group_keys(target))
        if keys:
            yield f"its optimizer asks for {listed(list(keys))}, which the param groups lack"


def _dtypes(tensors: Mapping[str, TensorEntry], sizes: Mapping[str, int]) -> tuple[DTypeShare, ...]:
    found: dict[str, tuple[int, int]] = {}
    for fqn, entry in tensors.items():
        count, nbytes = found.get(entry.dtype, (0, 0))
        found[entry.dtype] = (count + 1, nbytes + sizes[fqn])
    shares = [DTypeShare(dtype, *counts) for dtype, counts in found.items()]
    return tuple(sorted(shares, key=lambda share: -share.nbytes))


def _shares(
    checkpoint: Checkpoint, sections: Sections, layouts: Layouts, sizes: Mapping[str, int]
) -> list[SectionShare]:
    members: dict[str, list[str]] = {name: [] for name in SECTIONS}
    for fqn, name in sections.of.items():
        members[name].append(fqn)
    shares = []
    for name, fqns in members.items():
        tensors = {fqn: checkpoint.tensors[fqn] for fqn in fqns if fqn in checkpoint.tensors}
        if fqns:
            shares.append(
                SectionShare(
                    name=name,
                    tensors=len(tensors),
                    objects=len(fqns) - len(tensors),
                    nbytes=sum(sizes[fqn] for fqn in tensors),
                    dtypes=tuple(share.dtype for share in _dtypes(tensors, sizes)),
                    layout=layouts.words_of(tensors),
                )
            )
    return shares
