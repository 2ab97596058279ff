"""An edit of names as rules of a rename, and as a person reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dcpctl.model.name_edits import ANY_NUMBER, Edit, Tokens
from dcpctl.model.rename_rules import Literal, Prefix, Regex, Rule


def replaced_words(edit: Edit) -> tuple[str, str]:
    """Return what goes and what comes, in words: `layers.N.`, `_orig_mod.`."""
    before = ".".join("N" if token == ANY_NUMBER else token for token in edit.at or ())
    if edit.shift:
        sign = "+" if edit.shift > 0 else "-"
        stem = f"{before}." if before else ""
        return f"{stem}N", f"{stem}N{sign}{abs(edit.shift)}"
    old, new = ".".join(edit.old), ".".join(edit.new)
    if old and new:
        return old, new
    stem = f"{before}." if before and not old else ""
    return f"{stem}{old}." if old else stem, f"{stem}{new}." if new else stem


def rules_of(edit: Edit, names: Sequence[Tokens], root: str, full: bool) -> tuple[Rule, ...]:
    """Return the rules that make an edit.

    Args:
        edit: the edit.
        names: what it is made on, numbers as `#` where the edit is not about them.
        root: what the model's keys begin with.
        full: name whole keys, where a parameter's name would do too.
    """
    stem = f"{root}." if root else ""
    if edit.shift:
        return _renumbered(edit, names, stem if full else "")
    old, new = ".".join(edit.old), ".".join(edit.new)
    if edit.at is None:
        if not new:
            return (_regex(rf"\b{re.escape(old)}\.", ""),)
        return (_regex(rf"\b{re.escape(old)}\b", _plain(new)),)
    if edit.at:
        context = r"\.".join(r"\d+" if t == ANY_NUMBER else re.escape(t) for t in edit.at)
        end = r"\." if all(len(name) > len(edit.at) for name in names) else r"(?=\.|$)"
        dot = "." if end == r"\." else ""
        pattern = rf"^({re.escape(stem)}{context}){end}"
        return (_regex(pattern, rf"\1.{_plain(new)}{dot}"),)
    if old and new:
        head = stem if full else ""
        return (Literal(f"{head}{old}", f"{head}{new}"),)
    before, after = f"{old}." if old else "", f"{new}." if new else ""
    return (Prefix(f"{stem}{before}", f"{stem}{after}"),)


def _regex(pattern: str, new: str) -> Regex:
    return Regex(re.compile(pattern), new)


def _plain(text: str) -> str:
    """A text as a replacement that stands for itself."""
    return text.replace("\\", r"\\")


def _renumbered(edit: Edit, names: Sequence[Tokens], stem: str) -> tuple[Rule, ...]:
    """One name after the other, in the order in which each new number is free already."""
    place = len(edit.at or ())
    numbers = {int(name[place]) for name in names}
    module = ".".join((*(edit.at or ()), ""))
    return tuple(
        Literal(f"{stem}{module}{number}", f"{stem}{module}{number + edit.shift}")
        for number in sorted(numbers, reverse=edit.shift > 0)
    )
