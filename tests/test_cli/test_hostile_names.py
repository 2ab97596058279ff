"""Names out of a checkpoint neither act on a terminal nor become markup, in any view or format."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpctl.cli.app import app

NAMES = [
    "\x1b]0;owned\x07\x1b[2J.weight",
    "[bold red]x[/bold red].weight",
    "[/][link=https://example.com]x.weight",
    "a\r\nerror[forged]: line.weight",
    "\u202egnp.weight",
    "a|b`c<img src=x onerror=alert(1)>.weight",
    "::error file=x::forged.weight",
    "a ##[add-mask]b ##vso[task.complete]c.weight",
    ".".join("deep" for _ in range(400)),
    "x" * 5000,
    "\ud800.weight",
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A safetensors checkpoint whose tensors have these names."""
    # Alone in its directory: beside it lie the checkpoints of other tests, among which `inspect`
    # would look for the optimizer.
    where = tmp_path_factory.mktemp("names") / "job" / "run" / "saved"
    where.mkdir(parents=True)
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
        for n, name in enumerate(NAMES[:-1])
    }
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + bytes(4 * len(header))
    (where / "model.safetensors").write_bytes(data)
    return where


VIEWS = [[], ["--keys"], ["--tree"], ["--files"], ["--optimizer"], ["--stats", "*"],
         *(["--key", name] for name in NAMES[:-1])]  # fmt: skip


@pytest.mark.parametrize("form", ["text", "table", "json", "markdown"])
@pytest.mark.parametrize("view", VIEWS, ids=range(len(VIEWS)))
def test_names_are_shown_and_not_obeyed(hostile: Path, view: list[str], form: str) -> None:
    done = CliRunner().invoke(
        app, ["inspect", str(hostile), *view, "--format", form], env={"COLUMNS": "80"}
    )
    assert (done.exit_code, done.stderr) == (0, "")
    assert not set(done.stdout) & {"\x1b", "\x07", "\r", "\u202e"}
    starts = [line.lstrip() for line in done.stdout.splitlines()]
    assert not any(line.startswith(("error[", "::")) for line in starts)
    assert not any(command in done.stdout for command in ("##[", "##vso["))
    if form == "markdown":
        assert "<img" not in done.stdout


def test_with_colour_too(hostile: Path) -> None:
    done = CliRunner().invoke(app, ["inspect", str(hostile), "--keys", "--color", "always"])
    assert "\x1b[36m" in done.stdout
    assert "\x1b]0;" not in done.stdout
    assert "\x1b[2J" not in done.stdout
    assert "[bold red]x[/bold red]" in done.stdout


@pytest.mark.parametrize("name", NAMES[:8])
def test_in_errors(hostile: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["inspect", str(hostile), "--key", name + "\x1b[0m?"])
    assert done.exit_code == 4
    assert not set(done.stderr) & {"\x1b", "\x07", "\r", "\u202e"}
    assert done.stderr.count("\n") <= 2
    assert not any(command in done.stderr for command in ("##[", "##vso["))
