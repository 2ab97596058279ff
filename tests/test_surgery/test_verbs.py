"""A verb is one file: what derives from its declaration, and verbs that other packages add."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import dcpctl
from dcpctl.documents.parsing import parse_toml
from dcpctl.surgery.edits.file import edits_schema
from dcpctl.surgery.verbs import all_verbs, options_of, own, summary, words_of
from tests.test_surgery.test_edits import EVERYTHING

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "contributing" / "verb.md"
SCHEMA = ROOT / "dcpctl" / "_data" / "dcpctl.edits-1.schema.json"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A place with a package that adds the verb of the contributing page."""
    found = re.search(r'```python title="dcpctl/surgery/note.py"\n(.*?)```', PAGE.read_text(), re.S)
    assert found is not None
    site = tmp_path / "site"
    install(site, "our-notes", "note = our_notes:Note")
    (site / "our_notes.py").write_text(found[1])
    return site


def install(site: Path, name: str, entry: str) -> None:
    """What an installer writes of a package's entry points."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[dcpctl.verbs]\n{entry}\n")


def run(site: Path, *words: str | Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dcpctl", *map(str, words)],
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_verb_of_another_package(site: Path, samples: Path, tmp_path: Path) -> None:
    source = samples / "healthy" / "step-8500"
    listed = run(site, "--help")
    assert re.search(
        r"^  note +Write notes into a checkpoint, each a text with a name\.$", listed, re.M
    )
    said = run(site, "note", "--help")
    assert "dcpctl note [OPTIONS] {SRC} [DST] [NAME=TEXT]..." in said
    assert "--below KEY" in said and "--in-place" in said

    run(site, "note", source, tmp_path / "a", "run=b3", "why=before the new data")
    (tmp_path / "edits.toml").write_text(
        '[[edits]]\nverb = "note"\nnotes = { by = "me" }\nbelow = "job"\n'
    )
    words = ("--note", "n=1", "--drop", "lr_scheduler", "--edits", tmp_path / "edits.toml")
    found = json.loads(run(site, "edit", tmp_path / "a", tmp_path / "b", *words, "--json"))
    assert [edit["verb"] for edit in found["edits"]] == ["note", "drop", "note"]
    with dcpctl.open_checkpoint(tmp_path / "b") as made:
        values = {fqn: made.entries[fqn].value for fqn in ("notes.why", "notes.n", "job.by")}  # type: ignore[union-attr]
    assert values == {"notes.why": "before the new data", "notes.n": "1", "job.by": "me"}

    assert "'notes.run' already" in run(
        site, "note", tmp_path / "a", tmp_path / "c", "run=x", code=4
    )
    assert "NAME=TEXT expected" in run(site, "note", tmp_path / "a", tmp_path / "c", code=2)
    assert not (tmp_path / "c").exists()


def test_a_broken_package_breaks_only_its_verb(tmp_path: Path, samples: Path) -> None:
    site = tmp_path / "site"
    install(site, "broken", "broken = no_such_module:Broken\ndrop = no_such_module:Drop")
    listed = run(site, "--help")
    assert "\n  broken" not in listed and "  drop       Leave out keys." in listed
    said = run(site, "broken", samples, tmp_path / "x", code=2)
    assert said.startswith("error[usage]: the verb 'broken' of 'no_such_module:Broken' cannot be")
    assert "Leave out keys." in run(site, "drop", "--help")


CLASHING = """
from dataclasses import dataclass
from dcpctl.surgery.options import Option, flag, given
from dcpctl.surgery.verbs import Verb

@dataclass(frozen=True)
class Clash(Verb):
    \"\"\"Has an option that every verb has.\"\"\"

    verb = "clash"
    only = "Clash."
    json: bool = given(Option(("--json",), flag(), help="Clash."))
"""


def test_an_option_that_every_verb_has_is_refused(samples: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "clash", "clash = clash:Clash\nother = clash:Clash\nundo = clash:Clash")
    (site / "clash.py").write_text(CLASHING)
    said = run(site, "clash", samples, tmp_path / "x", code=2)
    assert "the verb 'clash' has options of every verb: '--json'" in said
    said = run(site, "other", samples, tmp_path / "x", code=2)
    assert "'clash:Clash' is no dataclass of a verb 'other'" in said
    assert "Take back the last edit" in run(site, "undo", "--help")
    assert "--clash" in run(site, "edit", "--help")


def test_every_verb_declares_all() -> None:
    assert list(own()) == ["upgrade", "reshard", "rename", "drop", "select", "set", "merge", "cast"]
    for name, verb in own().items():
        assert verb.verb == name
        assert summary(verb).endswith(".") and "Examples:" in (verb.__doc__ or "")
        keys = [option.key for _, option in options_of(verb) if option.key]
        assert len(keys) == len(set(keys))
        for field, option in options_of(verb):
            assert option.help.endswith((".", "]", "...")), f"{name}.{field}"
        for field in verb.needs:
            assert field in {one for one, _ in options_of(verb)}
        assert verb.by_options or words_of(verb) or verb.only


def test_the_schema_is_that_of_the_verbs() -> None:
    """Written anew by `python -m tools.edits_schema`."""
    assert json.loads(SCHEMA.read_text()) == edits_schema()
    jsonschema.Draft202012Validator.check_schema(edits_schema())


def test_the_schema_knows_what_the_reader_reads() -> None:
    validator = jsonschema.Draft202012Validator(edits_schema())
    document = parse_toml(EVERYTHING)
    validator.validate(document)
    assert {edit["verb"] for edit in document["edits"]} == set(all_verbs())
    for wrong in (
        {"edits": []},
        {"edits": [{"verb": "explode"}]},
        {"edits": [{"verb": "drop"}]},
        {"edits": [{"verb": "drop", "key": "x"}]},
        {"edits": [{"verb": "cast", "keys": ["x"]}]},
        {"edits": [{"verb": "drop", "keys": "x", "section": "other"}]},
        {"edits": [{"verb": "reshard", "mesh": {"fsdp": "2"}}]},
        {"edits": [{"verb": "rename", "names": {"a": 1}}]},
        {"edits": [{"verb": "set", "values": {"lr": 1}, "fill": "yes"}]},
    ):
        assert not validator.is_valid(wrong), wrong
