"""The functions of `dcpctl` say what the command line says."""

from __future__ import annotations

import importlib
import json
import pickle
import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dcpctl
from dcpctl.errors import InputError, NotACheckpoint, Refused, UsageError
from tests import corruptors

HEALTHY, MODEL_ONLY = "healthy/step-8500", "model_only/step-8500"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict]:
    """The exit code and the JSON document of a command."""
    from dcpctl.cli.app import app

    with pytest.raises(SystemExit) as end:
        app([*map(str, arguments), "--json"])
    return end.value.code, json.loads(capsys.readouterr().out)


def test_inspect(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = samples / HEALTHY
    result = dcpctl.inspect(path, torch="2.13")
    assert (0, result.to_dict()) == printed(capsys, "inspect", path, "--torch", "2.13")
    assert result.ok
    assert result.value.optimizer.verdict == "complete"
    assert "Training can be resumed" in repr(result)
    with dcpctl.open_checkpoint(path) as checkpoint:
        assert dcpctl.inspect(checkpoint, torch="2.13").to_dict() == result.to_dict()
        assert checkpoint["train_state.step"].value == 8500  # it is still open


def test_inspect_of_a_run(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = samples / "silent_reset"
    result = dcpctl.inspect(path)
    assert (0, result.to_dict()) == printed(capsys, "inspect", path)
    assert len(result.value[0].saves) == 3
    with pytest.raises(NotACheckpoint):
        dcpctl.inspect(samples / "logs")


@pytest.mark.parametrize("sample", [HEALTHY, "flipped_bit", "silent_reset"])
def test_check(samples: Path, capsys: pytest.CaptureFixture[str], sample: str) -> None:
    result = dcpctl.check(samples / sample, verify_data=True, torch="2.13")
    code, document = printed(
        capsys, "check", samples / sample, "--verify-data", "--torch", "2.13", "--no-policy"
    )
    assert result.to_dict() == document
    assert result.ok is (code == 0)


def test_check_selects(samples: Path) -> None:
    result = dcpctl.check(samples / "flipped_bit", select="DCP3xx", verify_data=True)
    (only,) = result.value.results
    assert {finding.rule[:4] for finding in only.findings} == {"DCP3"}
    with pytest.raises(InputError):
        dcpctl.check(samples / "hostile")


def test_diff(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = samples / HEALTHY, samples / MODEL_ONLY
    result = dcpctl.diff(a, b)
    assert (1, result.to_dict()) == printed(capsys, "diff", a, b)
    assert not result.ok
    assert "SILENTLY SKIPS" in repr(result)
    assert dcpctl.diff(a, a, values=True).ok
    with pytest.raises(UsageError, match="values=True"):
        dcpctl.diff(a, b, tolerance=0.1)


SURGERY: list[tuple[str, dict[str, Any], list[str]]] = [
    ("rename", {"prefix": {"model.": "net."}}, ["--prefix", "model.=net."]),
    ("rename", {"names": {"norm": "final"}}, ["norm=final"]),
    ("drop", {"keys": ["lr_scheduler"]}, ["lr_scheduler"]),
    ("select", {"keys": "model"}, ["model"]),
    ("set", {"values": {"lr": 1e-4}}, ["lr=1e-4"]),
    (
        "cast",
        {"dtype": "bfloat16", "keys": "model", "allow_lossy": True},
        ["model", "--dtype", "bfloat16", "--allow-lossy"],
    ),
    ("reshard", {"world_size": 2}, ["--world-size", "2"]),
    ("upgrade", {"torch": "2.13"}, ["--torch", "2.13"]),
]


@pytest.mark.parametrize(("verb", "options", "words"), SURGERY, ids=[str(s[0]) for s in SURGERY])
def test_surgery(
    samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    options: dict[str, Any],
    words: list[str],
) -> None:
    source = samples / ("legacy" if verb == "upgrade" else HEALTHY)
    target = tmp_path / "out"
    function = getattr(dcpctl, verb)
    plan = function(source, target, dry_run=True, **options)
    assert not target.exists()
    told = printed(capsys, verb, source, target, *words, "--dry-run")
    assert (0, plan.to_dict()) == told
    done = function(source, target, **options)
    assert done.to_dict()["dry_run"] is False
    assert repr(done).strip()
    with dcpctl.open_checkpoint(target) as made:
        assert len(made)
    with pytest.raises(Refused, match="--overwrite"):
        function(source, target, **options)


def test_merge_takes_several(samples: Path, tmp_path: Path) -> None:
    parts = [tmp_path / "model", tmp_path / "rest"]
    dcpctl.select(samples / HEALTHY, parts[0], keys=["model"])
    dcpctl.drop(samples / HEALTHY, parts[1], keys=["model"])
    result = dcpctl.merge(parts, tmp_path / "whole")
    assert result.to_dict()["sources"] == [str(part) for part in parts]
    assert dcpctl.diff(samples / HEALTHY, tmp_path / "whole", keys_only=True).ok
    with pytest.raises(UsageError, match="takes one checkpoint, not 2"):
        dcpctl.drop(parts, tmp_path / "no", keys=["model"])


def test_edit_in_place_and_undo(samples: Path, tmp_path: Path) -> None:
    path = corruptors.copy(samples / HEALTHY, tmp_path / "copy")
    before = dcpctl.inspect(path).to_dict()["keys"]
    edits = [{"verb": "drop", "keys": ["lr_scheduler"]}, {"verb": "set", "values": {"lr": 0.5}}]
    done = dcpctl.edit(path, edits=edits, in_place=True)
    assert [one["verb"] for one in done.to_dict()["edits"]] == ["drop", "set"]
    assert dcpctl.inspect(path).to_dict()["keys"] == before - 8
    dcpctl.undo(path)
    assert dcpctl.inspect(path).to_dict()["keys"] == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "out", "keys": ["x"], "dry_rum": True}, "unknown option 'dry_rum'"),
        ({"target": "out", "keyz": ["x"]}, "unknown option 'keyz'"),
        ({"keys": ["x"]}, "no destination"),
        ({"target": "out"}, "keys"),
        ({"target": "out", "keys": 3}, "keys is '3', expected str or list"),
    ],
)
def test_wrong_options_are_named(samples: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dcpctl.drop(samples / HEALTHY, **options)


def test_repair_and_salvage(samples: Path, tmp_path: Path) -> None:
    broken, sibling = samples / "flipped_bit", samples / "silent_reset" / "step-8500"
    done = dcpctl.repair(broken, tmp_path / "whole", sibling=sibling)
    assert done.to_dict()["verb"] == "repair"
    assert dcpctl.check(tmp_path / "whole", verify_data=True, torch="2.13").ok
    saved = dcpctl.salvage(broken, tmp_path / "some")
    assert saved.to_dict()["verb"] == "salvage"
    with pytest.raises(UsageError, match="needs one"):
        dcpctl.repair(broken, tmp_path / "older", allow_older=True)


def test_signature(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = samples / "logs" / "lost.jsonl"
    result = dcpctl.signature(log)
    assert (1, result.to_dict()) == printed(capsys, "signature", log)
    assert result.value.lost
    assert not result.ok


def test_notebooks_get_html_in_which_nothing_is_markup(samples: Path) -> None:
    shown = dcpctl.inspect(samples / HEALTHY)._repr_html_()
    assert shown.startswith("<pre>")
    assert "Training can be resumed" in shown
    with dcpctl.open_checkpoint(samples / HEALTHY) as checkpoint:
        table = checkpoint._repr_html_()
    assert "<td>model.norm.weight</td><td>float32</td><td>[16]</td>" in table
    assert "and 71 more" in table


def test_entries_are_arrays(samples: Path) -> None:
    with dcpctl.open_checkpoint(samples / HEALTHY) as checkpoint:
        entry = checkpoint["model.layers.0.attention.wq.weight"]
        array = np.asarray(entry)
        assert (array.shape, array.dtype) == ((16, 16), np.float32)
        assert (array == entry.numpy()).all()
        assert np.asarray(entry, dtype=np.float64).dtype == np.float64
        first = entry.chunks[:2]
        assert [*first] == [entry.chunks[0], entry.chunks[1]]


def test_a_mistyped_key_gets_near_names(samples: Path) -> None:
    with dcpctl.open_checkpoint(samples / HEALTHY) as checkpoint:
        with pytest.raises(KeyError) as caught:
            checkpoint["model.norm.wieght"]
        error = caught.value
        assert isinstance(error, dcpctl.DcpctlError)
        assert "'model.norm.weight'" in str(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        with pytest.raises(KeyError, match=r"there is 'model\.norm\.weight'"):
            checkpoint["norm.weight"]
        assert checkpoint.get("nothing like it") is None


def test_packages_of_verbs_are_both() -> None:
    code = (
        "import dcpctl.check.engine as engine, dcpctl\n"
        "assert callable(dcpctl.check) and dcpctl.check.engine is engine\n"
        "from dcpctl import inspect, diff, rename\n"
        "import sys\nassert callable(inspect) and callable(diff) and callable(rename)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_is_light() -> None:
    code = "import dcpctl, sys; print({'numpy', 'torch', 'typer', 'rich'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_help_shows_the_names_that_matter() -> None:
    shown = pydoc.plain(pydoc.render_doc(dcpctl))
    for name in ("open_checkpoint", "Result", "rename", "salvage", "signature(log, ...)"):
        assert name in shown
    rename = pydoc.plain(pydoc.render_doc(dcpctl.rename))
    assert "prefix: What names begin with" in rename
    assert set(importlib.import_module("dcpctl").__all__) <= set(dir(dcpctl))
