"""The tools that make and check the documentation find what they should."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import console, docs, gate, pythons

DOCUMENT = """
Text.

```console
$ echo one; echo two >&2
one
two
$ printf 'a\\nb\\nc\\n'
a
...
```

```bash
$ not an example
```
"""


def test_examples_are_found() -> None:
    found = console.examples(DOCUMENT)
    assert [(e.line, e.command) for e in found] == [
        (5, "echo one; echo two >&2"),
        (8, "printf 'a\\nb\\nc\\n'"),
    ]
    assert found[1].shown == ["a", "..."]


def test_examples_run(repository: Path) -> None:
    with console.shell(repository) as environment:
        for example in console.examples(DOCUMENT):
            printed = console.run(example, repository, environment)
            assert console.matches(example.shown, printed)


def test_examples_write_beside_the_repository(repository: Path) -> None:
    with console.shell(repository) as environment, console.workplace(repository) as place:
        example = console.Example(0, "mkdir out && rm -r sample_checkpoints && ls -d */ R*", [])
        assert console.run(example, place, environment) == [
            *("README.md", "dcpctl/", "docs/", "out/", "tests/", "tools/")
        ]
    assert (repository / "sample_checkpoints").is_dir()
    assert not (repository / "out").exists()


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        (["a."], ["ab"], False),
        (["a", "..."], ["a"], True),
        (["...", "c"], ["a", "b", "c"], True),
        (["a", "...", "c"], ["a", "b", "d"], False),
        ([], [], True),
        ([], ["a"], False),
    ],
)
def test_matching(shown: list[str], printed: list[str], same: bool) -> None:
    assert console.matches(shown, printed) is same


def test_rewriting_changes_only_what_was_wrong() -> None:
    new = console.rewritten(DOCUMENT, {5: ["three"]})
    assert "$ echo one; echo two >&2\nthree\n$ printf" in new
    assert console.rewritten(DOCUMENT, {}) == DOCUMENT


def test_broken_links_and_samples_are_found() -> None:
    text = "[a](../README.md#verbs) [b](nowhere.md) [c](https://example.org) `[e](f)`\n"
    text += "[d](../README.md#no)"
    assert [*docs.broken_links(docs.PAGES / "page.md", text)] == [
        "link to nowhere.md, which is not there",
        "link to ../README.md#no: README.md has no such heading",
    ]
    assert "sample hostile is not in the table" in [*docs.unlisted_samples("healthy")]


WORKED = """
```python title="lab/lab_greeting.py"
def greet():
    print("hello from", __name__)
```

```toml title="lab/pyproject.toml"
[project]
name = "lab-greeting"

[project.entry-points."dcpctl.greetings"]
greet = "lab_greeting:greet"
```

```json title="sample_checkpoints/fsdp_tp_2x2.expected.json"
{"added": 1}
```

````markdown title="docs/page.md"
```console
$ not an example
```
````

```console
$ cat docs/page.md | head -1
```console
```
"""


def test_files_that_a_document_shows_stand_where_its_examples_run(repository: Path) -> None:
    shown = console.files(WORKED)
    assert list(shown) == [
        *("lab/lab_greeting.py", "lab/pyproject.toml"),
        *("sample_checkpoints/fsdp_tp_2x2.expected.json", "docs/page.md"),
    ]
    (example,) = console.examples(WORKED)
    assert example.command == "cat docs/page.md | head -1"
    code = (
        "from importlib.metadata import entry_points; import json, dcpctl; "
        "(one,) = entry_points(group='dcpctl.greetings'); one.load()(); "
        "known = json.load(open('sample_checkpoints/fsdp_tp_2x2.expected.json')); "
        "print(known['added'], len(known) > 1)"
    )
    with console.shell(repository) as environment, console.workplace(repository, shown) as place:
        assert console.run(example, place, environment) == ["```console"]
        asked = console.Example(0, f'{sys.executable} -c "{code}"', [])
        assert console.run(asked, place, environment) == ["hello from lab_greeting", "1 True"]
    assert not (repository / "docs" / "page.md").exists()


def test_wrong_python_sessions_are_found() -> None:
    assert docs.wrong_sessions("```pycon\n>>> 1 + 1\n2\n```\n") == []
    assert "Expected:" in docs.wrong_sessions("```pycon\n>>> 1 + 1\n3\n```\n")[0]


def test_this_python_is_found() -> None:
    assert pythons.supported_pythons()


def test_what_the_quick_gate_runs_is_there(repository: Path) -> None:
    assert set(gate.QUICK) <= set(gate.STEPS)
    paths = [word for word in gate.UNIT if word.startswith("tests/")]
    assert len(paths) > 10
    assert all((repository / path).exists() for path in paths)
    assert "tests" in gate.PLAIN  # which has all that the quick one runs
