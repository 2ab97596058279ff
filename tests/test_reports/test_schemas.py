"""Every JSON document that the commands print is what the shipped schemas say."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from dcpctl.cli.app import app

SAMPLES = ["healthy/step-8500", "legacy", "model_only/step-8500", "fsdp_tp_2x2", "zstd",
           "no_collectives", "silent_reset", "releases/1.13.1-optim_AdamW",
           "releases/2.0.1-optim_AdamW", "releases/2.13.0-hf_sharded",
           "releases/2.13.0-hf_consolidated", "releases/2.13.0-safetensors_format",
           "releases/2.15.0-optim_AdamW"]  # fmt: skip


def schema(name: str) -> dict:
    text = (resources.files("dcpctl") / "_data" / f"dcpctl.{name}-1.schema.json").read_text()
    return json.loads(text)


def validated(name: str, *arguments: str) -> dict:
    done = CliRunner().invoke(app, [name, *arguments, "--json"])
    assert done.exit_code in (0, 1), done.output

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    found = json.loads(done.stdout, parse_constant=refuse)
    jsonschema.validate(found, schema(name), cls=jsonschema.Draft202012Validator)
    return found


@pytest.mark.parametrize("name", ["inspect", "check", "contract", "baseline", "policy"])
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize("sample", SAMPLES)
def test_inspect(samples: Path, sample: str) -> None:
    found = (
        validated("inspect", str(samples / sample), "--chunks")
        if (sample != "silent_reset")
        else validated("inspect", str(samples / sample))
    )
    assert ("run" in found) == (sample == "silent_reset")
    assert ("entries" in found) != ("run" in found)


@pytest.mark.parametrize(
    "view", [["--keys"], ["--key", "model.norm.weight"], ["--tree"], ["--files"], ["--optimizer"],
             ["--stats", "*norm*"]],
    ids=lambda view: view[0],
)  # fmt: skip
def test_views(samples: Path, view: list[str]) -> None:
    validated("inspect", str(samples / "healthy" / "step-8500"), *view)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s != "silent_reset"] + ["flipped_bit"])
def test_check(samples: Path, sample: str) -> None:
    found = validated("check", str(samples / sample), "--verify-data")
    assert found["failed"] == (found["counts"]["error"] > 0)
