"""Many keys in few words: whole modules as `model.layers.3.*`, layers alike as `layers.0-31`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dcpctl.model.checkpoint import Entry
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import is_index
from dcpctl.model.optimizer.naming import STATE


@dataclass(frozen=True, slots=True)
class KeyGroup:
    """Keys that are told as one.

    Attributes:
        words: a key, or all below it (`model.layers.3.*`), numbers that follow each other as one
            range (`model.layers.0-31.attention.*`).
        keys: which they are, in their order.
        tensors: tensors among them.
        nbytes: bytes of the tensors' numbers.
        of: keys that the words are about; more than `keys` where only some are among those to tell.
    """

    words: str
    keys: tuple[str, ...]
    tensors: int
    nbytes: int
    of: int


def group_keys(fqns: Collection[str], entries: Mapping[str, Entry]) -> list[KeyGroup]:
    """Put keys together: what is whole among all entries, then what differs in one number.

    Args:
        fqns: the keys to tell.
        entries: all entries of their checkpoint.

    Returns:
        The groups, that of most keys first.
    """
    stems: dict[str, list[str]] = {}
    whole = _whole_modules(fqns, entries)
    ends = _whole_ends(fqns, entries)
    for fqn in fqns:
        stem = next((f"{stem}.*" for stem in _stems(fqn) if stem in whole), None)
        stems.setdefault(stem or ends.get(_end(fqn), fqn), []).append(fqn)
    return _groups(_joined(stems), entries, None)


def shares(fqns: Collection[str], entries: Mapping[str, Entry]) -> list[KeyGroup]:
    """Put keys together by section and, in an optimizer's state, by slot.

    Args:
        fqns: the keys to tell.
        entries: all entries among which they are.
    """
    words: dict[str, list[str]] = {}
    for fqn in fqns:
        words.setdefault(_share(fqn), []).append(fqn)
    return _groups(words, entries, Counter(map(_share, entries)))


def _share(fqn: str) -> str:
    components = fqn.split(".")
    if STATE in components[:3] and len(components) > 3:
        return f"{'.'.join(components[: components.index(STATE) + 1])}.*.{components[-1]}"
    return f"{components[0]}.*" if len(components) > 1 else fqn


def _groups(
    words: Mapping[str, list[str]], entries: Mapping[str, Entry], totals: Counter[str] | None
) -> list[KeyGroup]:
    found = []
    for word, members in words.items():
        tensors = [e for f in members if isinstance(e := entries.get(f), TensorEntry)]
        nbytes = sum(entry.nbytes for entry in tensors)
        of = len(members) if totals is None else totals[word]
        found.append(KeyGroup(word, tuple(members), len(tensors), nbytes, of))
    return sorted(found, key=lambda group: -len(group.keys))


def _stems(fqn: str) -> Iterable[str]:
    """What encloses a key, the largest first: `model`, `model.layers`, `model.layers.0`."""
    place = fqn.find(".")
    while place > 0:
        yield fqn[:place]
        place = fqn.find(".", place + 1)


def _whole_modules(fqns: Collection[str], entries: Mapping[str, Entry]) -> set[str]:
    """Modules of several keys all of which are among those to tell."""
    asked: dict[str, int] = {}
    for fqn in fqns:
        for stem in _stems(fqn):
            asked[stem] = asked.get(stem, 0) + 1
    there = dict.fromkeys(asked, 0)
    for fqn in entries:
        for stem in _stems(fqn):
            if stem in there:
                there[stem] += 1
    return {stem for stem, count in asked.items() if count > 1 and count >= there[stem]}


def _end(fqn: str) -> tuple[str, str]:
    """What all state of one slot has in common: `optimizer.state` and `exp_avg`."""
    components = fqn.split(".")
    return (".".join(components[:2]), components[-1]) if len(components) > 3 else ("", fqn)


def _whole_ends(fqns: Collection[str], entries: Mapping[str, Entry]) -> dict[tuple[str, str], str]:
    """The ends of several keys all of which are among those to tell, as `optimizer.*.exp_avg`."""
    asked = Counter(_end(fqn) for fqn in fqns)
    there = Counter(_end(fqn) for fqn in entries)
    return {
        end: f"{end[0]}.*.{end[1]}"
        for end, count in asked.items()
        if end[0] and count > 1 and count >= there[end]
    }


def _joined(stems: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Join the stems that differ in their first number only."""
    alike: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for stem in stems:
        components = stem.split(".")
        place = next((n for n, part in enumerate(components) if is_index(part)), None)
        if place is None:
            alike[stem, ""] = [(0, stem)]
        else:
            key = (".".join(components[:place]), ".".join(components[place + 1 :]))
            alike.setdefault(key, []).append((int(components[place]), stem))
    found: dict[str, list[str]] = {}
    for (before, after), numbered in alike.items():
        words = numbered[0][1]
        if len(numbered) > 1:
            numbers = _ranges(sorted(number for number, _ in numbered))
            words = ".".join(part for part in (before, numbers, after) if part)
        found[words] = [fqn for _, stem in numbered for fqn in stems[stem]]
    return found


def _ranges(numbers: list[int]) -> str:
    """`0-3`, `0-3,8`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
