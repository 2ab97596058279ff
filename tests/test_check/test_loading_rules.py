"""DCP8xx: what a load will do, and what it did."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dcpctl.check.finding import CheckResult
from dcpctl.check.like import Like, read_like
from dcpctl.model.contract import Spec, contract_of
from dcpctl.model.contract_file import MalformedContract, contract_lines
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.receipt import FilledKey, Receipt, SkippedKey
from tests.test_check.helpers import adamw, check, skipped, the


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    draft = adamw()
    draft.value("scheduler.last_epoch", b"\x80\x02K\x03.")
    draft.write(tmp_path / "ckpt")
    return tmp_path / "ckpt"


def asked_at(path: Path, *without: str, **changed: Spec) -> dict[str, Spec]:
    with open_checkpoint(path) as checkpoint:
        entries = contract_of(checkpoint).entries
    kept = {f: s for f, s in entries.items() if not f.startswith(without or ("\n",))}
    return {**kept, **changed}


def foreseen(
    path: Path, asked: dict[str, Spec], *, paths: object = None, **options: object
) -> CheckResult:
    return check(path, "DCP80", like=Like(Path("like"), asked, paths), **options)


def test_who_names_no_run_is_asked_nothing(ckpt: Path) -> None:
    result = check(ckpt)
    assert not [rule for rule in (*result.rules_run, *skipped(result)) if rule.startswith("DCP8")]
    assert set(skipped(check(ckpt, "DCP80")).values()) == {"--like names no run that would load it"}


def test_the_run_that_saved_it_loads_all_of_it(ckpt: Path) -> None:
    result = foreseen(ckpt, asked_at(ckpt))
    assert not result.findings
    assert len(result.rules_run) == 6
    assert result.notes[-1] == "Loads were predicted for a run like 'like'."


def test_a_run_without_optimizer_resets_it_silently(ckpt: Path) -> None:
    found = the(foreseen(ckpt, asked_at(ckpt, "optimizer")))
    assert (found.rule, found.severity) == ("DCP803", "error")
    assert found.message.startswith(
        "the run asks for none of the optimizer: 28 entries of 2 parameters (72 B) would stay "
        "on disk, torch would not say so, and training would continue from zero moments: "
    )
    part = the(foreseen(ckpt, asked_at(ckpt, "optimizer.state.layers.1")))
    assert "asks for a part of the optimizer only: 3 entries of 1 parameter" in part.message


def test_what_else_stays_on_disk_is_a_warning(ckpt: Path) -> None:
    asked = asked_at(ckpt, "scheduler")
    found = the(foreseen(ckpt, asked))
    assert (found.rule, found.severity, found.subject) == (
        "DCP804",
        "warning",
        "scheduler.last_epoch",
    )
    assert not foreseen(ckpt, asked, may_skip=("sched*",)).findings
    assert not foreseen(ckpt, asked_at(ckpt, "optimizer"), may_skip=("optimizer",)).findings


def test_what_raises(ckpt: Path) -> None:
    new = {"model.b": Spec((2,), "float32"), "model.a": Spec((2,), "float32")}
    missing = the(foreseen(ckpt, asked_at(ckpt, **new)))
    assert missing.message.endswith("'model.a', 'model.b'; torch raises for one of them")
    paths = {fqn: tuple(fqn.split(".")) for fqn in new}
    missing = the(foreseen(ckpt, asked_at(ckpt, **new), paths=paths))
    assert (missing.rule, missing.severity) == ("DCP801", "error")
    assert missing.message == (
        "the run asks for 2 keys that the checkpoint does not have: 'model.b', 'model.a'; torch "
        "raises: Missing key in checkpoint state_dict: model.b."
    )
    two = {f"model.layers.{n}.weight": Spec((5,), "float32") for n in (0, 1)}
    shapes = the(foreseen(ckpt, asked_at(ckpt, **two), paths=paths))
    assert shapes.rule == "DCP802"
    assert shapes.message == (
        "is float32 [4] here and float32 [5] in the run (so is 1 more, as "
        "'model.layers.1.weight'); torch raises: Size mismatch between saved torch.Size([4]) and "
        "current: torch.Size([5]) for model.layers.0.weight"
    )
    kinds = the(foreseen(ckpt, asked_at(ckpt, **{"model.layers.0.weight": Spec()})))
    assert "is float32 [4] here and an object in the run; torch raises: " in kinds.message


def test_dtypes_are_converted_silently(ckpt: Path) -> None:
    other = {f"model.layers.{n}.weight": Spec((4,), d) for n, d in ((0, "float64"), (1, "float16"))}
    result = foreseen(ckpt, asked_at(ckpt, **other))
    assert [(f.rule, f.severity, f.message) for f in result.findings] == [
        (
            "DCP805",
            "warning",
            "1 tensor would be converted from float32 to float16, which holds less: "
            "'model.layers.1.weight'",
        ),
        (
            "DCP805",
            "info",
            "1 tensor would be converted from float32 to float64: 'model.layers.0.weight'",
        ),
    ]


def test_tensors_that_are_not_loaded_as_a_whole(ckpt: Path) -> None:
    asked = asked_at(ckpt, **{"scheduler.last_epoch": Spec((), "int64")})
    found = the(foreseen(ckpt, asked))
    assert (found.rule, found.severity) == ("DCP806", "error")
    assert "the tensor would keep its numbers: 'scheduler.last_epoch'" in found.message
    longer = asked_at(ckpt, **{"model.layers.0.weight": Spec((5,), "float32")})
    cut = the(foreseen(ckpt, longer, torch="2.4"))
    assert cut.rule == "DCP806"
    assert "torch 2.4 would copy the part that both have and say nothing" in cut.message


def test_a_run_is_named_by_a_contract_or_by_what_it_saved(ckpt: Path, tmp_path: Path) -> None:
    with open_checkpoint(ckpt) as checkpoint:
        contract = contract_of(checkpoint)
    file = tmp_path / "contract.json"
    file.write_text("".join(contract_lines(contract)))
    for path in (file, ckpt):
        like = read_like(path)
        assert dict(like.asked) == contract.entries
        assert not check(ckpt, "DCP80", like=like).findings
    file.write_text("{}")
    with pytest.raises(MalformedContract):
        read_like(file)


def receipt_of(path: Path, *skips: str, ignored: bool = False, **more: object) -> Receipt:
    fqns = asked_at(path)
    left = tuple(SkippedKey(fqn, ignored) for fqn in fqns if fqn.startswith(skips or ("\n",)))
    loaded = tuple(fqn for fqn in fqns if not fqn.startswith(skips or ("\n",)))
    return dataclasses.replace(Receipt(None, None, loaded, left), **more)


def gated(path: Path, receipt: Receipt, **options: object) -> CheckResult:
    return check(path, "DCP81", receipt=receipt, **options)


def test_a_whole_load_passes(ckpt: Path) -> None:
    result = gated(ckpt, receipt_of(ckpt))
    assert not result.findings
    assert len(result.rules_run) == 5
    assert set(skipped(check(ckpt, "DCP81")).values()) == {"--receipt names no receipt of a load"}


def test_a_load_that_left_state_on_disk(ckpt: Path) -> None:
    lost = the(gated(ckpt, receipt_of(ckpt, "optimizer.state")))
    assert (lost.rule, lost.severity) == ("DCP812", "error")
    assert lost.message.startswith(
        "the load left 6 of 28 entries of the optimizer on disk, so the run continued from zero "
        "moments: "
    )
    other = the(gated(ckpt, receipt_of(ckpt, "scheduler")))
    assert (other.rule, other.severity) == ("DCP813", "warning")
    assert other.message == "the load left 1 key on disk: 'scheduler.last_epoch'"
    assert not gated(ckpt, receipt_of(ckpt, "optimizer", ignored=True)).findings
    assert not gated(ckpt, receipt_of(ckpt, "optimizer"), may_skip=("optimizer.*",)).findings


def test_keys_that_were_not_read(ckpt: Path) -> None:
    filled = tuple(FilledKey(f"a.{n}", n == 0) for n in range(5))
    result = gated(ckpt, receipt_of(ckpt, filled=filled, missing=("model.new",)))
    assert [(f.rule, f.severity, f.message) for f in result.findings] == [
        (
            "DCP814",
            "info",
            "5 keys that the checkpoint does not have were filled: a.0 = True, a.1 = False, a.2 = "
            "False and 2 more",
        ),
        (
            "DCP815",
            "error",
            "1 key of the run is not in the checkpoint and kept what the program had put there: "
            "'model.new'",
        ),
    ]


def test_the_receipt_of_another_load_says_nothing(ckpt: Path) -> None:
    result = gated(ckpt, receipt_of(ckpt, loaded=("model.other",)))
    assert the(result).rule == "DCP811"
    assert set(skipped(result)) == {"DCP812", "DCP813", "DCP814", "DCP815"}
    assert result.rules_run == ("DCP811",)


def test_a_receipt_on_the_command_line(ckpt: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from dcpctl.cli.app import app

    def run(*arguments: str | Path):
        words = ["check", *map(str, arguments), "--select", "DCP8", "--torch", "2.13"]
        return CliRunner().invoke(app, words)

    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps(receipt_of(ckpt, "optimizer", torch="2.13").document()))
    done = run(ckpt, "--receipt", receipt)
    assert done.exit_code == 1
    assert "DCP812" in done.stdout
    assert run(ckpt, "--receipt", receipt, "--may-skip", "optimizer.*").exit_code == 0
    assert run(ckpt, "--like", ckpt).exit_code == 0
    assert run(ckpt, ckpt.parent / "nothing", "--receipt", receipt).exit_code == 2
    assert run(ckpt, "--like", receipt).exit_code == 3
    assert run(ckpt, "--receipt", tmp_path / "nothing").exit_code == 5


def test_a_model_only_resume_is_foreseen(samples: Path) -> None:
    """The seed's bug: the run asks for the model alone."""
    like = read_like(samples / "model_only" / "step-8500")
    result = check(samples / "healthy" / "step-8500", "DCP80", like=like)
    assert [f.rule for f in result.findings] == ["DCP803", "DCP804"]
    assert "torch" not in result.findings[0].message.partition(" would not say so")[2]
