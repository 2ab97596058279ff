"""`dcpctl diff`: what it prints, and how it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from dcpctl.cli.app import app

SCHEMA = json.loads((resources.files("dcpctl") / "_data" / "dcpctl.diff-1.schema.json").read_text())


@pytest.fixture
def healthy(samples: Path) -> Path:
    return samples / "healthy" / "step-8500"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["diff", *map(str, arguments)])


def document(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code in (0, 1), done.output
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert found["same"] == (done.exit_code == 0)
    return found


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_same(healthy: Path) -> None:
    done = run(healthy, healthy)
    assert done.exit_code == 0
    assert done.stdout.startswith("the same in all that was compared\n")
    said = " ".join(done.stdout.split())
    assert "The same in both: 121 keys, shapes and dtypes, layout, optimizer settings and" in said
    assert "settings and steps, 36 objects" in said


def test_what_a_load_would_skip_is_said_first_and_loud(samples: Path, healthy: Path) -> None:
    done = run(healthy, samples / "model_only" / "step-8500")
    assert done.exit_code == 1
    said = " ".join(done.stdout.split())
    assert "SILENTLY SKIPS: 99 keys of A that B's state dict does not ask for" in said
    assert "start from zero moments for 21 parameters" in said
    assert said.index("SILENTLY SKIPS") < said.index("keys only in A")


def test_what_raises_is_said(samples: Path, healthy: Path) -> None:
    said = " ".join(run(samples / "model_only" / "step-8500", healthy).stdout.split())
    assert "raises: Missing key in checkpoint state_dict: " in said
    assert "(99 keys in all that A lacks)" in said
    assert "SILENTLY" not in said


@pytest.mark.parametrize(
    ("option", "aspects", "code"),
    [
        ("--keys-only", {"keys", "shapes"}, 0),
        ("--layout", {"layout"}, 1),
        ("--optimizer", {"optimizer"}, 1),
        ("--values", {"keys", "shapes", "objects", "values"}, 1),
    ],
)
def test_options_narrow(samples: Path, option: str, aspects: set[str], code: int) -> None:
    found = document(samples / "silent_reset" / "step-8500", samples / "fsdp_tp_2x2", option)
    assert set(found["counts"]) == aspects
    assert found["same"] == (code == 0)


def test_narrowing_options_add_up(samples: Path) -> None:
    a, b = samples / "silent_reset" / "step-8500", samples / "fsdp_tp_2x2"
    assert set(document(a, b, "--layout", "--keys-only")["counts"]) == {"keys", "shapes", "layout"}


def test_ignore(samples: Path, healthy: Path) -> None:
    b = samples / "model_only" / "step-8500"
    found = document(healthy, b, "--ignore", "optimizer.*", "--ignore", "lr_scheduler")
    assert found["keys"] == {"same": 22, "removed": 2, "added": 0, "renamed": 0}
    assert len(found["ignored"]) == 97 and found["optimizer"] is None
    assert found["load"]["skipped"] == ["train_state.step", "train_state.tokens_seen"]
    more = ("--ignore", "optimizer.*", "--ignore", "lr_scheduler", "--ignore", "train_state.*")
    assert run(healthy, b, *more).exit_code == 0


def test_exit_zero(samples: Path, healthy: Path) -> None:
    assert run(healthy, samples / "legacy", "--exit-zero").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--tolerance", "1"], 2, "--tolerance is for --values"),
        (["--values", "--tolerance", "-1"], 2, "--tolerance takes a number"),
        (["--values", "--tolerance", "x"], 2, "--tolerance takes a number"),
        (["--values", "--tolerance", "nan"], 2, "--tolerance takes a number"),
        (["--layout", "--layout-map", "model.norm.weight"], 2, "--layout-map is a view"),
        (["--layout-map", "model.nothing"], 4, "neither checkpoint has a tensor"),
    ],
)
def test_refusals(healthy: Path, arguments: list[str], code: int, message: str) -> None:
    done = run(healthy, healthy, *arguments)
    assert done.exit_code == code
    assert message in done.stderr


@pytest.mark.parametrize("sample", ["interrupted", "hostile", "nothing", "silent_reset"])
def test_what_is_no_checkpoint(samples: Path, healthy: Path, sample: str) -> None:
    for pair in ((healthy, samples / sample), (samples / sample, healthy)):
        done = run(*pair)
        assert done.exit_code == 3
        assert done.stderr.startswith("error[") and not done.stdout


def test_an_object_that_cannot_be_read(healthy: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(healthy, broken)
    (broken / "__3_0.distcp").unlink()
    done = run(healthy, broken)
    assert done.exit_code == 3
    said = " ".join(done.stdout.split())
    assert "not compared" in said and "'__3_0.distcp'" in said
    assert "error[missing-file]" in done.stderr


@pytest.mark.parametrize("form", ["text", "table", "markdown"])
@pytest.mark.parametrize("other", ["legacy", "fsdp_tp_2x2", "zstd", "releases/2.13.0-hf_sharded"])
def test_every_format(samples: Path, healthy: Path, form: str, other: str) -> None:
    done = run(healthy, samples / other, "--format", form, "--values")
    assert done.exit_code == 1 and not done.stderr
    assert str(samples / other) in done.stdout or form == "markdown"
    assert "\x1b" not in done.stdout


def test_narrow_terminals(samples: Path, healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = run(healthy, samples / "legacy")
    assert max(map(len, done.stdout.splitlines())) <= 60


@pytest.mark.parametrize(
    ("a", "b", "verbs"),
    [
        ("2.13.0/wrapped_names_w4", "2.13.0/fsdp2_list_fp32", ["rename"]),
        ("2.13.0/ddp_w4", "2.13.0/fsdp2_list_fp32", ["rename"]),
        ("2.13.0/model_only_nested", "2.13.0/model_only_flat", ["rename"]),
        ("2.13.0/model_only_flat", "2.13.0/model_only_nested", ["rename"]),
        ("2.13.0/single_raw_osd_fp32", "2.13.0/fsdp2_list_fp32", ["upgrade"]),
        ("2.9.1/wrapped_names_w4", "2.13.0/single_raw_osd_fp32", ["rename", "upgrade"]),
        ("2.0.1/single_raw_osd_fp32", "2.13.0/fsdp2_list_fp32", ["upgrade"]),
        ("2.0.1/fsdp2_list_fp32", "2.13.0/fsdp2_list_fp32", ["upgrade"]),
        ("2.13.0/fsdp2_list_fp32", "2.2.2/fsdp2_list_fp32", ["upgrade"]),
        ("2.13.0/wrapped_names_w4", "2.13.0/fsdp2_flat_fp32", ["rename", "upgrade"]),
        ("2.13.0/pp_like_w4", "2.13.0/ddp_w4", ["upgrade", "rename"]),
    ],
)
def test_the_commands_offered_rename(
    shared: Path, tmp_path: Path, a: str, b: str, verbs: list[str]
) -> None:
    source = shared / "checkpoints" / a / "ckpt"
    target = shared / "checkpoints" / b / "ckpt"
    commands = document(source, target)["rename_commands"]
    assert [verb for verb, *_ in commands] == verbs
    for number, (verb, *arguments) in enumerate(commands):
        result = tmp_path / str(number)
        done = CliRunner().invoke(app, [verb, str(source), str(result), *arguments])
        assert done.exit_code == 0, done.output
        source = result
    found = document(source, target)
    assert not found["renamed"] and found["regrouped"] is None and not found["rename_commands"]


def test_layout_map(samples: Path) -> None:
    a, b = samples / "fsdp_tp_2x2", samples / "silent_reset" / "step-8500"
    done = run(a, b, "--layout-map", "model.layers.0.attention.wo.weight")
    assert done.exit_code == 1
    drawn = [line for line in done.stdout.splitlines() if "+" in line or "|" in line]
    assert drawn[0] == "   0   +-----------+-----------+   +-----------------------+"
    assert sum("rank 3" in line for line in drawn) == 2 - ("rank 3" in drawn[-2])
    found = document(a, b, "--layout-map", "model.layers.0.attention.wo.weight")
    assert [box["rank"] for box in found["layout_map"]["a"]["boxes"]] == [0, 1, 2, 3]
    assert found["layout_map"]["b"]["boxes"][1] == {"rank": 1, "starts": [4, 0], "stops": [8, 16]}
    assert run(a, a, "--layout-map", "model.norm.weight").exit_code == 0


def test_torch_is_not_imported(samples: Path, healthy: Path) -> None:
    program = (
        "import sys; from dcpctl.cli.app import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    arguments = ["diff", str(healthy), str(samples / "fsdp_tp_2x2"), "--values", "--exit-zero"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
