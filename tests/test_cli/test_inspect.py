"""`dcpctl inspect`: its views on real checkpoints, in every format."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpctl.cli import check, explain, inspect
from dcpctl.cli.app import app
from tests.test_check.helpers import adamw, forget

HEALTHY = "sample_checkpoints/healthy/step-8500"
VIEWS = [[], ["--keys"], ["--keys", "model.*"], ["--tree"], ["--key", "model.norm.weight"],
         ["--key", "optimizer.param_groups.0.params"], ["--files"], ["--optimizer"],
         ["--stats", "*norm*"]]  # fmt: skip


@pytest.fixture(autouse=True)
def _in_the_repository(repository: Path, monkeypatch) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.setenv("COLUMNS", "100")


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["inspect", *arguments])


def found(*arguments: str) -> dict:
    done = invoke(*arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("view", VIEWS, ids=" ".join)
@pytest.mark.parametrize("form", ["text", "table", "json", "markdown"])
def test_every_view_in_every_format(view: list[str], form: str) -> None:
    done = invoke(HEALTHY, *view, "--format", form)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")
    assert "\x1b" not in done.stdout
    assert not any(line != line.rstrip() for line in done.stdout.splitlines()) or form == "table"


def test_one_screen() -> None:
    lines = invoke(HEALTHY).stdout.splitlines()
    assert len(lines) < 40
    text = "\n".join(lines)
    for words in ("torch 2.9 to 2.14", "4 ranks, 4 shard files", "121 keys", "float32",
                  "FSDP 4-way, dim 0", "exp_avg 21/21, exp_avg_sq 21/21", "8500", "AdamW",
                  "betas (0.9, 0.95)", "Training can be resumed"):  # fmt: skip
        assert words in text


def test_the_contract(samples: Path) -> None:
    document = found(HEALTHY, "--chunks")
    truth = json.loads((samples / "healthy" / "step-8500.expected.json").read_text())
    entries = {entry["fqn"]: entry for entry in document["entries"]}
    assert len(entries) == len(document["entries"]) == len(truth["entries"])
    for fqn, expected in truth["entries"].items():
        entry = entries[fqn]
        assert entry["kind"] == ("tensor" if expected["kind"] == "tensor" else "bytes")
        if entry["kind"] == "tensor":
            assert (entry["dtype"], entry["shape"], entry["bytes"]) == (
                expected["dtype"],
                expected["shape"],
                expected["nbytes"],
            )
            assert len(entry["chunks"]) == entry["num_chunks"]
            for chunk in entry["chunks"]:
                assert chunk["file"].startswith(f"__{chunk['rank']}_")
    optimizer = document["optimizer"]
    assert (optimizer["verdict"], optimizer["kind"]) == ("complete", "AdamW")
    assert (optimizer["steps"], optimizer["missing"]) == ([8500], [])
    assert optimizer["slots"]["exp_avg"] == {"present": 21, "expected": 21}
    assert [group["weight_decay"] for group in optimizer["param_groups"]] == [0.1, 0.0]
    assert optimizer["param_groups"][0]["betas"] == [0.9, 0.95]
    assert len(optimizer["param_groups"][0]["params"]) == 16


def test_a_run_directory() -> None:
    saves = found("sample_checkpoints/silent_reset")["run"]
    assert [save["step"] for save in saves] == [9500, 9000, 8500]
    assert saves[0]["reset_after"].endswith("step-9000")
    assert saves[1]["reset_after"] is None
    text = invoke("sample_checkpoints/silent_reset").stdout
    assert "step-9500: the optimizer was reset after step-9000" in text
    assert "Newest before the reset: sample_checkpoints/silent_reset/step-9000" in text


def test_keys_without_a_glob_before_or_after_the_path() -> None:
    everything = found(HEALTHY, "--keys")["entries"]
    assert len(everything) == 121
    assert found("--keys", HEALTHY)["entries"] == everything
    assert found(HEALTHY, "--keys", "*")["entries"] == everything
    assert len(found(HEALTHY, "--keys", "model.layers.1")["entries"]) == 9


def test_an_entry_that_cannot_be_decoded_does_not_sink_the_rest(
    samples: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "step"
    copy.mkdir()
    for file in (samples / "healthy" / "step-8500").iterdir():
        if file.name != "__2_0.distcp":
            (copy / file.name).write_bytes(file.read_bytes())
    document = found(str(copy))
    broken = [entry for entry in document["entries"] if "error" in entry]
    assert broken
    for entry in broken:
        assert (entry["value"], entry["type"]) == (None, None)
        assert entry["error"]["id"] == "missing-file"
    assert len(document["entries"]) == 121
    text = invoke(str(copy))
    assert text.exit_code == 0
    assert "1 not there: __2_0.distcp" in text.stdout
    assert "unreadable" in invoke(str(copy), "--keys").stdout
    stats = invoke(str(copy), "--stats", "model.*")
    assert stats.exit_code == 3
    assert "error[missing-file]" in stats.stderr


def test_output_to_a_file(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    done = invoke(HEALTHY, "--json", "--output", str(target))
    assert (done.exit_code, done.output) == (0, "")
    assert json.loads(target.read_text())["schema"] == "dcpctl.inspect/1"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_output_to_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    done = invoke(HEALTHY, "--files", "--output", str(pipe))
    assert (done.exit_code, done.output) == (0, "")
    assert b"__0_0.distcp" in os.read(reader, 1 << 16)
    os.close(reader)
    assert pipe.is_fifo()


def test_output_through_a_link_changes_its_target(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(target)
    assert invoke(HEALTHY, "--files", "--output", str(link)).exit_code == 0
    assert link.is_symlink()
    assert "__0_0.distcp" in target.read_text()


def test_parts_are_read_as_one(tmp_path: Path) -> None:
    whole = adamw()
    for name, part in (("weights", "model."), ("moments", "optimizer.")):
        half = adamw()
        for fqn in [fqn for fqn in whole.entries if not fqn.startswith(part)]:
            forget(half, fqn)
        half.write(tmp_path / name)
    document = found(str(tmp_path))
    assert document["parts"] == ["moments", "weights"]
    assert document["optimizer"]["verdict"] == "complete"


@pytest.mark.parametrize("command", [inspect.inspect, check.check, explain.explain])
def test_the_examples_of_the_help_run_as_they_stand(
    command, samples: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "sample_checkpoints").symlink_to(samples.resolve())
    monkeypatch.chdir(tmp_path)  # some examples write
    lines = [line.strip() for line in (command.__doc__ or "").splitlines()]
    examples = [shlex.split(line)[1:] for line in lines if line.startswith("dcpctl ")]
    assert examples
    for example in examples:
        done = CliRunner().invoke(app, example)
        assert done.exit_code in (0, 1), (example, done.stderr)
        help_page = CliRunner().invoke(app, [example[0], "--help"]).stdout
        assert " ".join(example[:2]) in help_page


def test_help_keeps_examples_in_lines() -> None:
    page = invoke("--help").stdout
    assert f"\n    dcpctl inspect {HEALTHY}\n" in page
