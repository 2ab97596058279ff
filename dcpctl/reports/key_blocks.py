"""Keys of a checkpoint: the list, the tree, and everything about one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dcpctl.errors import DcpctlError, printable
from dcpctl.formats.pickles.packed import inner_tensors, logical_bytes, packed_bytes
from dcpctl.formats.pickles.standins import PackedTensor
from dcpctl.inspect.keys import Branch
from dcpctl.model.checkpoint import Checkpoint, Entry
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.model.layout import geometry
from dcpctl.model.packed import packed_or_none
from dcpctl.reports import values_text, words
from dcpctl.reports.blocks import (
    BAD,
    DIM,
    NAME,
    STRONG,
    Block,
    Column,
    Facts,
    Heading,
    Line,
    Literal,
    Node,
    Paragraph,
    Span,
    Table,
    Tree,
)


def keys_blocks(checkpoint: Checkpoint, fqns: Sequence[str]) -> Iterator[Block]:
    """List entries: FQN, dtype, shape, bytes, chunks, ranks; of objects the type and the value."""
    yield Table(
        [
            Column("key", folds=True),
            Column("dtype", folds=True),
            Column("shape", folds=True),
            Column("bytes", right=True),
            Column("chunks", right=True),
            Column("ranks", right=True),
        ],
        [_key_row(checkpoint, checkpoint[fqn]) for fqn in fqns],
    )
    tensors = [checkpoint.tensors[fqn] for fqn in fqns if fqn in checkpoint.tensors]
    nbytes = words.size(sum(entry.nbytes for entry in tensors))
    chosen = words.count(len(fqns), "key")
    all_of = "" if len(fqns) == len(checkpoint) else f" of {len(checkpoint):,}"
    yield Paragraph(Span(f"{chosen}{all_of}, {words.count(len(tensors), 'tensor')}, {nbytes}", DIM))


def _key_row(checkpoint: Checkpoint, entry: Entry) -> Sequence[Line]:
    held = checkpoint.packed.get(entry.fqn)
    ranks = words.ranges(entry.ranks) or "-"
    name = Span(entry.fqn, NAME)
    if isinstance(entry, TensorEntry):
        return (
            name,
            entry.dtype if held is None else f"{entry.dtype} ({printable(held.name)})",
            words.shape(entry.shape),
            f"{entry.nbytes:,}",
            f"{entry.num_chunks:,}",
            ranks,
        )
    kind, value = _decoded(entry)
    return (name, kind, value, Span("-", DIM), Span("-", DIM), ranks)


def _decoded(entry: BytesEntry) -> tuple[Line, Line]:
    """Type and value of an object in a word each; what cannot be read says so."""
    try:
        return Span(entry.type.removeprefix("builtins."), DIM), values_text.short(entry.value)
    except DcpctlError as error:
        return Span("unreadable", BAD), Span(error.id, BAD)


def tree_blocks(checkpoint: Checkpoint, root: Branch) -> Iterator[Block]:
    """Draw the tree of keys; branches of one structure are drawn once."""
    yield Heading(Span(str(checkpoint.path), STRONG), level=1)
    yield Tree([_node(child) for child in root.children.values()])


def _node(branch: Branch) -> Node:
    names = [branch.name]
    while len(branch.children) == 1 and branch.entry is None:
        (branch,) = branch.children.values()
        names.append(branch.name)
    line = (Span(".".join(names), NAME), Span("  " + _holds(branch), DIM))
    return Node(line, [_node(child) for child in branch.children.values()])


def _holds(branch: Branch) -> str:
    entry = branch.entry
    if not branch.children and isinstance(entry, TensorEntry):
        times = f"{branch.alike} x " if branch.alike > 1 else ""
        return f"{times}{entry.dtype} {words.shape(entry.shape)}"
    if not branch.children and isinstance(entry, BytesEntry):
        return "object" if branch.alike == 1 else f"{branch.alike} objects"
    parts = []
    if branch.alike > 1:
        parts.append(f"{branch.alike} alike")
    if branch.tensors:
        parts += [words.count(branch.tensors, "tensor"), words.size(branch.nbytes)]
    if branch.objects:
        parts.append(words.count(branch.objects, "object"))
    return ", ".join(parts)


def key_blocks(checkpoint: Checkpoint, entry: Entry) -> Iterator[Block]:
    """Say everything about one entry: its chunks and where they lie, or its decoded value."""
    yield Heading(Span(entry.fqn, STRONG), level=1)
    if isinstance(entry, TensorEntry):
        yield from _tensor(checkpoint, entry)
    else:
        yield from _object(checkpoint, entry)


def _tensor(checkpoint: Checkpoint, entry: TensorEntry) -> Iterator[Block]:
    stored = entry.stored
    rows: list[tuple[str, Line]] = [
        ("tensor", f"{entry.dtype} {words.shape(entry.shape)}"),
        ("holds", f"{words.count(entry.numel, 'element')}, {entry.nbytes:,} bytes"),
        (
            "layout",
            f"{words.count(entry.num_chunks, 'chunk')}: "
            f"{geometry(entry.shape, entry.chunks).words}",
        ),
        ("ranks", words.ranges(entry.ranks) or "-"),
    ]
    held = packed_or_none(entry)
    if held is not None:
        rows += _packed(held)
    if stored.requires_grad:
        rows.append(("requires grad", "yes"))
    if stored.strides is not None:
        rows.append(("strides", f"{stored.strides} of a saved shard"))
    if stored.layout != "strided":
        rows.append(("torch layout", stored.layout))
    if stored.transforms:
        rows.append(("stored through", ", ".join(stored.transforms)))
    if checkpoint.planner_data and entry.fqn in checkpoint.planner_data:
        rows.append(("object path", str(checkpoint.planner_data[entry.fqn])))
    yield Facts(rows)
    columns = [
        Column("chunk", right=True),
        Column("offsets"),
        Column("sizes"),
        Column("rank", right=True),
        Column("file", folds=True),
        Column("offset", right=True),
        Column("length", right=True),
    ]
    yield Table(columns, _chunk_rows(checkpoint, entry))


def _packed(held: PackedTensor) -> Iterator[tuple[str, Line]]:
    """The class of a packed tensor, and what an item of it is made of."""
    yield "class", Span(printable(held.form or held.type), STRONG)
    shown = logical_bytes(held)
    yield (
        "item",
        f"{packed_bytes(held):,} bytes" + (f" for {shown:,}" if shown is not None else ""),
    )
    for name, ref in inner_tensors(held).items():
        yield f"  {printable(name)}", f"{ref.dtype} {words.shape(ref.shape)}"


def _chunk_rows(checkpoint: Checkpoint, entry: TensorEntry) -> list[Sequence[Line]]:
    rows: list[Sequence[Line]] = []
    for number, chunk in enumerate(entry.chunks):
        file = checkpoint.files[chunk.file] if chunk.file >= 0 else None
        where: tuple[Line, ...] = ("-", Span("no storage item", BAD), "", "")
        if file is not None:
            rank = "-" if file.rank is None else str(file.rank)
            where = (rank, Span(file.name, NAME), f"{chunk.offset:,}", f"{chunk.length:,}")
        rows.append((str(number), words.shape(chunk.offsets), words.shape(chunk.sizes), *where))
    return rows


def _object(checkpoint: Checkpoint, entry: BytesEntry) -> Iterator[Block]:
    file = checkpoint.files[entry.file] if entry.file >= 0 else None
    rows: list[tuple[str, Line]] = []
    value = None
    try:
        rows.append(("object", entry.type))
        value = values_text.whole(entry.value)
    except DcpctlError as error:
        rows.append(("object", Span(f"cannot be read: {error.message}", BAD)))
    if file is None:
        rows.append(("file", Span("no storage item", BAD)))
    else:
        rank = "" if file.rank is None else f", rank {file.rank}"
        place = f" at {entry.offset:,}, {entry.length:,} bytes{rank}"
        rows.append(("file", (Span(file.name, NAME), Span(place))))
    if entry.stored.transforms:
        rows.append(("stored through", ", ".join(entry.stored.transforms)))
    if checkpoint.planner_data and entry.fqn in checkpoint.planner_data:
        rows.append(("object path", str(checkpoint.planner_data[entry.fqn])))
    yield Facts(rows)
    if value is not None:
        yield Literal(value)
