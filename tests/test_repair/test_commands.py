"""`dcpctl repair` and `dcpctl salvage` as they are typed."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from dcpctl.cli.app import app
from tests import corruptors
from tests.hostile.draft import Draft
from tests.test_repair.wrecks import SIBLING, WRECK, wreck
from tests.test_writing.building import hashes


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def valid(text: str) -> dict[str, Any]:
    """A document, having seen that it is what the shipped schema says."""
    schema = json.loads(
        (resources.files("dcpctl") / "_data" / "dcpctl.repair-1.schema.json").read_text()
    )
    jsonschema.Draft202012Validator.check_schema(schema)
    found: dict[str, Any] = json.loads(text)
    jsonschema.validate(found, schema, cls=jsonschema.Draft202012Validator)
    return found


def test_json_and_the_record_keep_the_schema(samples: Path, tmp_path: Path) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck")
    corruptors.truncate(source / "__3_0.distcp", -5_000)
    made = tmp_path / "made"
    command = ("repair", source, made, "--from", samples / SIBLING, "--allow-older", "--json")
    done = run(*command)
    assert done.exit_code == 0, done.output
    said = valid(done.stdout)
    record = valid((made / "dcpctl-repair.json").read_text())
    assert {key: said[key] for key in record if key in said and key not in ("source", "sibling")}
    assert said["lost"] == record["lost"] != []
    assert said["result"]["keys"] == 85
    salvaged = run("salvage", source, tmp_path / "good", "--from", samples / SIBLING, "--json")
    assert salvaged.exit_code == 0
    assert valid(salvaged.stdout)["result"]["keys"] < 85
    assert "keys lost" in salvaged.stderr


def test_a_dry_run_writes_nothing(samples: Path, tmp_path: Path) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck")
    before = hashes(tmp_path)
    command = ("repair", source, tmp_path / "made", "--from", samples / SIBLING, "--dry-run")
    done = run(*command)
    assert done.exit_code == 0
    assert "nothing is written" in done.stdout
    assert valid(run(*command, "--json").stdout)["dry_run"] is True
    assert hashes(tmp_path) == before


@pytest.mark.parametrize("form", ["text", "table", "markdown"])
def test_reports_name_files_and_keys(samples: Path, tmp_path: Path, form: str) -> None:
    done = run("salvage", samples / "flipped_bit", tmp_path / "good", "--format", form)
    assert done.exit_code == 0
    for word in ("__2_0.distcp", "damaged", "51 of 52", "model.tok_embeddings.weight", "84 keys"):
        assert word in done.stdout.replace("&#95;", "_")
    assert ("1 key lost" in done.stdout) == (form == "markdown")


def test_hardlinks_reach_through_to_the_source(samples: Path, tmp_path: Path) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck")
    made = tmp_path / "made"
    done = run("repair", source, made, "--from", samples / SIBLING, "--link", "hardlink")
    assert done.exit_code == 0
    assert (made / "__1_0.distcp").stat().st_ino == (source / "__1_0.distcp").stat().st_ino


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["repair", "{wreck}", "{made}"], 4, "the save did not finish"),
        (["salvage", "{wreck}", "{made}"], 4, "the save did not finish"),
        (["repair", "{whole}", "{made}"], 4, "nothing-to-repair"),
        (["repair", "{wreck}", "{made}", "--from", "{none}"], 3, "not-a-checkpoint"),
        (["repair", "{none}", "{made}"], 3, "not-a-checkpoint"),
        (["repair", "{wreck}", "{whole}", "--from", "{whole}", "--overwrite"], 4, "written over"),
        (["repair", "{wreck}", "{wreck}", "--from", "{whole}", "--overwrite"], 4, "is the source"),
        (["repair", "{wreck}", "{made}", "--allow-older"], 2, "--from"),
        (["repair", "{wreck}", "{made}", "--in-place"], 2, "no --in-place"),
        (["repair", "{wreck}"], 2, "DST"),
        (
            ["repair", "{wreck}", "{made}", "--drop-broken-state", "--fill-broken-state"],
            2,
            "contradict",
        ),
    ],
)
def test_exit_codes(
    samples: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    wreck(samples / WRECK, tmp_path / "wreck")
    places = {name: str(tmp_path / name) for name in ("wreck", "made", "none")}
    done = run(*(word.format(whole=samples / SIBLING, **places) for word in words))
    assert done.exit_code == code
    assert message in done.stderr
    assert not (tmp_path / "made").exists()


def test_the_save_before_it_is_offered(samples: Path, tmp_path: Path) -> None:
    for step in (8500, 9000, 9500):
        corruptors.copy(samples / f"silent_reset/step-{step}", tmp_path / f"step-{step}")
    (tmp_path / "step-9500" / ".metadata").unlink()
    done = run("repair", tmp_path / "step-9500", tmp_path / "made")
    assert done.exit_code == 4
    assert f"such as '{tmp_path}/step-9000'" in done.stderr


def test_a_part_that_is_interrupted_is_named(samples: Path, tmp_path: Path) -> None:
    """As accelerate lays a checkpoint out: the model whole, the optimizer not."""
    corruptors.copy(samples / WRECK, tmp_path / "save" / "pytorch_model_fsdp_0")
    wreck(samples / WRECK, tmp_path / "save" / "optimizer_0")
    done = run("repair", tmp_path / "save", tmp_path / "made", "--from", samples / SIBLING)
    assert done.exit_code == 3
    assert f"dcpctl repair '{tmp_path}/save/optimizer_0'" in done.stderr


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_an_interrupted_save_is_sent_here(samples: Path, command: str) -> None:
    done = run(command, samples / "interrupted")
    assert done.exit_code == 3
    assert "dcpctl repair" in done.output


@pytest.mark.parametrize("form", ["text", "table", "markdown", "json"])
def test_hostile_names_are_printed_harmless(tmp_path: Path, form: str) -> None:
    name = "\x1b[31mred\n::error::\u202e\ud800"
    draft = Draft()
    draft.tensor(name, (4,))
    draft.tensor("plain", (8,))
    draft.write(tmp_path / "save")
    corruptors.flip_bit(tmp_path / "save" / "__0_0.distcp", 70)
    wanted = ("--format", form, "--color", "never")
    done = run("salvage", tmp_path / "save", tmp_path / "good", *wanted)
    record = (tmp_path / "good" / "dcpctl-repair.json").read_text()
    for text in (done.stdout, done.stderr, record):
        assert not set(text) & {"\x1b", "\u202e", "\ud800"}
        assert not any(line.lstrip().startswith("::") for line in text.splitlines())
    assert "red" in done.stdout
    refused = run("repair", tmp_path / "save", tmp_path / "made")
    assert refused.exit_code == 4
    assert "\x1b" not in refused.stderr
