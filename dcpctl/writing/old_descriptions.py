"""What describes the source as it was, and is not so of the result.

Of the metadata's further fields it is left out or renamed; files beside the shards are named, since
nobody can rewrite them. What they are is not told by their names: a file that holds a key which the
result has no more describes the old keys, and files numbered as the ranks were belong to one rank
each.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from dcpctl.errors import listed, quote
from dcpctl.formats.pickles.standins import Record
from dcpctl.model.draft import Draft
from dcpctl.text import count
from dcpctl.writing.counts import Counts
from dcpctl.writing.side_files import SideFile, SideFiles

#: Larger files are data, and are not looked into.
_READ_BYTES = 8 << 20
#: What may be a key, in JSON and in a pickle that torch.save has left uncompressed alike.
_WORD = re.compile(rb"[\w./\-]{3,}")
_NUMBER = re.compile(r"\d+")


def old_descriptions(side: SideFiles, draft: Draft, counts: Counts) -> tuple[str, ...]:
    """Return a sentence on each file that says of the source what is not so of the result.

    Args:
        side: what lies beside the source's shards.
        draft: the result.
        counts: what becomes of the source's keys.

    Raises:
        ReadFailed: a file cannot be read.
    """
    return (*_of_keys(side, counts), *_of_ranks(side, draft), *_of_dtypes(side, draft, counts))


def kept_fields(fields: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    """Return the further fields of `.metadata` as they are for a result.

    Megatron-core keeps each rank's save plan in `all_local_plans`, and where the plans of its next
    save are the same, writes the metadata that it has loaded again instead of new ones
    (megatron/core/dist_checkpointing/strategies/torch.py, `validated_loaded_metadata_reuse`). They
    are not those of the result's chunks, and it does without them. What is kept for each key
    (`mcore_data`) goes with the key.
    """
    new = {
        entry.source.entry.fqn: fqn
        for fqn, entry in draft.entries.items()
        if entry.source.entry is not None
    }
    old = {fqn for source in draft.sources for fqn in source.entries}
    kept = {}
    for name, value in fields.items():
        if isinstance(value, list) and any(_is_plan(item) for item in value):
            continue
        if isinstance(value, dict) and value and old.issuperset(value):
            value = {new[fqn]: item for fqn, item in value.items() if fqn in new}
        kept[name] = value
    return kept


def _is_plan(value: object) -> bool:
    return isinstance(value, Record) and value.name.endswith("SavePlan")


def _of_keys(side: SideFiles, counts: Counts) -> Iterator[str]:
    gone = {old for old, _ in counts.renamed} | set(counts.removed)
    gone -= {new for _, new in counts.renamed}
    # A file often names parameters, which are keys without the root of the model.
    short = {fqn.partition(".")[2] for fqn in gone}
    words = {fqn.encode() for fqn in gone | short if "." in fqn}
    if not words:
        return
    for file in side.loose:
        found = sorted(word.decode() for word in words & _words(file))
        if found:
            yield (
                f"{quote(file.name)} is carried over as it is and names what is renamed or gone: "
                f"{listed(found, 3)}"
            )


def _words(file: SideFile) -> set[bytes]:
    data = file.read(_READ_BYTES)
    words = set(_WORD.findall(data))
    # A short string in a pickle follows its length, which may look like a letter.
    return words | {word[1:] for word in words} if not data.startswith(b"{") else words


def _of_ranks(side: SideFiles, draft: Draft) -> Iterator[str]:
    old = max((len({f.rank for f in source.files}) for source in draft.sources), default=0)
    new = draft.world_size
    if new is None or new == old:
        return
    for prefix, suffix in _one_a_rank(side, old):
        shown = quote(f"{prefix}{{0..{old - 1}}}{suffix}" if old > 1 else f"{prefix}0{suffix}")
        what = f"finds none for rank {old}" if new > old else f"reads {new} of them"
        yield (
            f"{shown} is one file for each of {count(old, 'rank')} and is carried over as it is; "
            f"a job on {count(new, 'rank')} {what}"
        )
    for file in side.loose:
        if file.name.endswith(".json") and old in _members(_parsed(file), ("world_size",)):
            yield f"{quote(file.name)} is carried over as it is and says world_size {old}"


def _one_a_rank(side: SideFiles, ranks: int) -> list[tuple[str, str]]:
    """What file names begin and end with that have the ranks' numbers in between, and no other."""
    families: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in (file.name for file in side.loose):
        for match in _NUMBER.finditer(name):
            families[(name[: match.start()], name[match.end() :])].add(int(match[0][:9]))
    wanted = set(range(ranks))
    return [
        family
        for family, numbers in families.items()
        if numbers == wanted and (ranks > 1 or "rank" in family[0].rpartition("/")[2])
    ]


def _of_dtypes(side: SideFiles, draft: Draft, counts: Counts) -> Iterator[str]:
    old = {
        entry.dtype
        for source in draft.sources
        for fqn in counts.cast
        if (entry := source.tensors.get(fqn)) is not None
    }
    if not old:
        return
    for file in side.loose:
        if file.name.endswith(".json"):
            said = _members(_parsed(file), ("torch_dtype", "dtype"))
            found = sorted(old & {str(value).removeprefix("torch.") for value in said})
            if found:
                yield f"{quote(file.name)} is carried over as it is and says {', '.join(found)}"


def _parsed(file: SideFile) -> Any:
    try:
        return json.loads(file.read(_READ_BYTES) or b"null")
    except (ValueError, RecursionError):
        return None


def _members(value: Any, keys: tuple[str, ...]) -> list[Any]:
    """The plain values that stand under some key, at any depth."""
    found = []
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left.extend(one.values())
            found += [v for k, v in one.items() if k in keys and isinstance(v, (int, str))]
        elif isinstance(one, list):
            left.extend(one)
    return found
