"""Hostile documents, maps and logs end in a named error, soon, in little memory; nothing runs."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dcpctl.check.baseline_file import read_baseline
from dcpctl.check.policy_file import read_policy
from dcpctl.errors import DcpctlError
from dcpctl.model.contract_file import read_contract
from dcpctl.model.receipt import read_receipt
from dcpctl.model.rename_rules import table
from dcpctl.signature.reading import read_logs
from dcpctl.surgery.edits.file import read_edits
from dcpctl.surgery.layouts.placements import read_placements
from tests.hostile import text_grammar as grammar
from tests.hostile.test_corpus import CONTROL, Server, harmless
from tests.hostile.text_grammar import Hostile

CONTRACT = {
    "schema": "dcpctl.contract/1",
    "optimizer": "AdamW",
    "group_keys": [["lr", "betas"]],
    "entries": {"model.w": {"kind": "tensor", "dtype": "float32", "shape": [2, 3]}},
}
RECEIPT = {
    "schema": "dcpctl.receipt/1",
    "time": "2026-01-02T03:04:05+00:00",
    "torch": "2.13.0",
    "dcpctl": "0.1.0",
    "world_size": 2,
    "checkpoint": {"saved_as": "a", "save_id": None},
    "loaded": ["model.w"],
    "skipped": [{"key": "rng", "ignored": True}],
    "filled": [{"key": "lr", "value": 1.5}],
    "missing": [],
}
WAIVER = {"rule": "DCP404", "subject": "a", "message": "b", "severity": "error", "count": 2}
BASELINE = {"schema": "dcpctl.baseline/1", "waivers": [WAIVER]}
POLICY = """\
[check]
strict = true
torch = "2.13"
max_findings = 50
may_skip = "dataloader.*"
[check.rules]
DCP4xx = "off"
[check.dtypes]
"model.*" = ["bfloat16", "float32"]
[check.limits]
max_size = "40G"
"""
EDITS = """\
[[edits]]
verb = "rename"
prefix = { "model." = "net." }
[[edits]]
verb = "set"
values = { lr = 1e-4, "optimizer.param_groups.0.betas" = [0.9, 0.99] }
[[edits]]
verb = "drop"
keys = ["lr_scheduler"]
"""
PLACEMENTS = '"*.wo.weight" = ["S(1)"]\n"*" = ["R"]\n'
LOG = "".join(
    f'{{"step": {n}, "loss": {2 - n / 99}, "lr": 0.1, "a": {{"b": 1}}}}\n' for n in range(30)
)


@dataclass(frozen=True)
class Form:
    """A form of text.

    Attributes:
        file: what a file of it may be called.
        command: that reads it; CKPT, DST and FILE stand for their paths.
        read: the reader.
        example: one that is read.
        cases: the hostile ones.
    """

    file: str
    command: str
    read: Callable[[Path], object]
    example: bytes
    cases: Callable[[], Iterator[Hostile]]


def _json(example: dict[str, object]) -> bytes:
    return json.dumps(example, indent=1).encode()


def _log(path: Path) -> object:
    return read_logs([str(path)])


FORMS = {
    "contract": Form(
        "c.json", "check CKPT --select DCP7xx --like FILE", read_contract, _json(CONTRACT),
        lambda: grammar.json_texts(CONTRACT, ("optimizer", "group_keys", "entries", "digest")),
    ),
    "receipt": Form(
        "r.json", "check CKPT --select DCP7xx --receipt FILE", read_receipt, _json(RECEIPT),
        lambda: grammar.json_texts(RECEIPT, ("loaded", "filled", "world_size", "checkpoint")),
    ),
    "baseline": Form(
        "b.json", "check CKPT --select DCP1xx --baseline FILE", read_baseline, _json(BASELINE),
        lambda: grammar.json_texts(BASELINE, ("waivers", "more")),
    ),
    "policy": Form(
        "p.toml", "check CKPT --select DCP1xx --policy FILE", read_policy, POLICY.encode(),
        lambda: grammar.toml_texts(POLICY, "min_size"),
    ),
    "edits": Form(
        "e.toml", "edit CKPT DST --dry-run --edits FILE", read_edits, EDITS.encode(),
        lambda: grammar.toml_texts(EDITS, "keys_of_mine"),
    ),
    "map": Form(
        "m.txt", "rename CKPT DST --dry-run --map FILE", table, b"model net\noptimizer.a b\n",
        grammar.map_texts,
    ),
    "map in JSON": Form(
        "m.json", "rename CKPT DST --dry-run --map FILE", table, b'{"model": "net", "o": "p"}',
        lambda: grammar.json_texts({"model": "net"}, ("model", "other")),
    ),
    "placements": Form(
        "p.toml", "reshard CKPT DST --dry-run --mesh a=2 --placements FILE", read_placements,
        PLACEMENTS.encode(), lambda: grammar.toml_texts(PLACEMENTS, "model"),
    ),
    "log": Form("log", "signature FILE", _log, LOG.encode(), grammar.log_texts),
    "events": Form(
        "events.out.tfevents.1.h", "signature FILE", _log,
        next(grammar.event_texts()).make(), grammar.event_texts,
    ),
}  # fmt: skip
CASES = [(name, case) for name, form in FORMS.items() for case in form.cases()]
#: Things that are no files, by what makes them.
NO_FILES: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a directory": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a file that nobody may have written": lambda path: path.symlink_to("/proc/self/mem"),
}
_MUTANTS = 60


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Server]:
    made = Server(repository)
    yield made
    made.close()


def run(form: Form, server: Server, samples: Path, directory: Path) -> dict[str, object]:
    """Run the form's command on its file in a directory, and assert what holds for all of them."""
    paths = {
        "CKPT": samples / "healthy" / "step-8500",
        "DST": directory / "dst",
        "FILE": directory / form.file,
    }
    words = [str(paths.get(word, word)) for word in form.command.split()]
    before = sorted(directory.iterdir())
    answer = server.ask(directory, words)
    # A plan looks whether its filesystem has reflinks: by a file that never gets a name.
    probe = f"open {str(directory)!r} None {os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC}"
    answer["did"] = [deed for deed in answer["did"] if not deed.startswith(probe)]
    harmless(answer)
    said = answer["out"] + answer["err"]
    assert "Traceback" not in said
    assert answer["code"] in (0, 1, 2, 3, 4, 5), answer["err"]
    assert (answer["code"] > 1) == ("error[" in answer["err"])
    assert not CONTROL.search(said)
    assert max(map(len, answer["err"].splitlines()), default=0) < 2_000
    assert sorted(directory.iterdir()) == before
    return answer


@pytest.mark.parametrize("name", FORMS)
def test_the_example_is_one(name: str, server: Server, samples: Path, tmp_path: Path) -> None:
    form = FORMS[name]
    path = tmp_path / form.file
    path.write_bytes(form.example)
    form.read(path)
    # Read it is, whatever comes of it with this checkpoint.
    answer = run(form, server, samples, tmp_path)
    assert form.file not in str(answer["err"])


@pytest.mark.parametrize(("name", "case"), CASES, ids=lambda it: getattr(it, "name", it))
def test_texts(name: str, case: Hostile, server: Server, samples: Path, tmp_path: Path) -> None:
    (tmp_path / FORMS[name].file).write_bytes(case.make())
    answer = run(FORMS[name], server, samples, tmp_path)
    assert not case.refused or answer["code"] in (2, 3, 4, 5), answer


@pytest.mark.parametrize("what", NO_FILES)
@pytest.mark.parametrize("name", FORMS)
def test_no_files(name: str, what: str, server: Server, samples: Path, tmp_path: Path) -> None:
    form = FORMS[name]
    NO_FILES[what](tmp_path / form.file)
    assert run(form, server, samples, tmp_path)["code"] in (2, 3, 4, 5)


@pytest.mark.parametrize("name", FORMS)
def test_mutants(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    path = tmp_path / form.file
    for seed in range(_MUTANTS):
        path.write_bytes(grammar.mutants(form.example, seed ^ zlib.crc32(name.encode())))
        begin = time.process_time()
        try:
            form.read(path)
        except DcpctlError as error:
            assert error.exit_code in (2, 3, 4, 5), seed
            assert "\n" not in error.message, seed
        assert time.process_time() - begin < 5, seed
