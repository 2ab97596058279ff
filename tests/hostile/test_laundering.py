"""What `check` refuses is never laundered: an edit refuses it, or leaves what there is to find."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.hostile.corpus import CASES, Case
from tests.hostile.test_corpus import _SAID, Server, harmless, server

__all__ = ["server"]  # pytest finds the fixture by its name

#: Edits that keep every entry, in the ways of the writer: items stay, are copied, or are cut anew.
VERBS = {
    "reshard": ["--world-size", "1"],
    "upgrade": ["--torch", "2.13"],
    "set": ["--add", "of.the.edit=1"],
}
CHECK = ["--json", "--verify-data", "--values", "--strict", "--torch", "2.13"]
#: Those that are a checkpoint; of the others no command gets hold.
OPENING = {name: case for name, case in CASES.items() if not case.opens}
#: Exit codes of what cannot be read, is refused, or failed in the filesystem.
REFUSED = (3, 4, 5)
#: Findings that an edit takes away with their cause: bytes and files that nothing refers to, what
#: stands twice, items that are shared.
MENDED = {"DCP104", "DCP203", "DCP205", "DCP206", "DCP213"}
WRITTEN_ANEW = {
    # Of no elements, and so of no bytes that could be wrong.
    ("empty-tensor-of-huge-dims", "DCP109"),
}


def _writes_below(act: str, directory: Path) -> bool:
    """Whether this is work on files, and on none elsewhere that it names by a whole path."""
    if act.split(" ", 1)[0] in ("os.system", "os.exec", "os.posix_spawn", "os.fork"):
        return False
    if act == "ctypes.dlopen (None,)":  # the C library, for renameat2
        return True
    paths = re.findall("'(/[^']*)'", act)
    return act.startswith(("open ", "os.", "shutil.rmtree ")) and all(
        f"{path}/".startswith(f"{directory}/") for path in paths
    )


def _laundered(case: Case, verb: str, server: Server, tmp_path: Path) -> None:
    source, made = tmp_path / "checkpoint", tmp_path / "made"
    case.make(source)
    edit = server.ask(source, [verb, str(source), str(made), *VERBS[verb]])
    # An edit writes, and where it was asked to.
    edit["did"] = [act for act in edit["did"] if not _writes_below(act, tmp_path)]
    harmless(edit)
    if edit["code"] in REFUSED:
        assert not made.exists()
        return
    assert edit["code"] == 0, edit["err"]
    assert not case.opens
    checked = server.ask(made, ["check", str(made), *CHECK])
    findings = json.loads(checked["out"])["findings"]
    rules = {found["rule"] for found in findings}
    if case.finding not in MENDED and (case.name, case.finding) not in WRITTEN_ANEW:
        assert case.finding in rules or not case.finding, rules
    if case.runs and case.finding != "DCP213":  # what is beside the shards may be left there
        assert any(f["severity"] == "error" and _SAID.search(f["message"]) for f in findings)


@pytest.mark.parametrize("number", range(len(OPENING)), ids=list(OPENING))
def test_by_one_verb(number: int, server: Server, tmp_path: Path) -> None:
    verb = list(VERBS)[number % len(VERBS)]
    _laundered(list(OPENING.values())[number], verb, server, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_by_every_verb(case: Case, verb: str, server: Server, tmp_path: Path) -> None:
    _laundered(case, verb, server, tmp_path)
