"""DCP7xx: what a policy asks of a checkpoint, and the severities that it gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.engine import run_checks
from dcpctl.check.finding import CheckResult
from dcpctl.check.options import CheckOptions
from dcpctl.check.policy import Expected, Policy, SizeLimits
from dcpctl.errors import NothingSelected
from dcpctl.model.contract import Contract, Spec, contract_of
from dcpctl.model.opening import open_checkpoint
from tests.hostile.draft import Draft
from tests.test_check.helpers import adamw, check, rules, skipped, the

PATH = Path("dcpctl.toml")


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    adamw().write(tmp_path / "ckpt")
    return tmp_path / "ckpt"


def contract_at(path: Path) -> Contract:
    with open_checkpoint(path) as checkpoint:
        return contract_of(checkpoint)


def judged(path: Path, *select: str, against: Path | None = None, **policy: object) -> CheckResult:
    return check(path, *(select or ("DCP7",)), policy=Policy(PATH, **policy), against=against)


def by_contract(path: Path, contract: Contract) -> dict[str, str]:
    result = judged(path, expect=Expected(contract=contract))
    return {f"{f.rule} {f.subject}": f.message for f in result.findings}


def changed(contract: Contract, without: str = "", **entries: Spec) -> Contract:
    kept = {fqn: spec for fqn, spec in contract.entries.items() if fqn != without}
    return Contract({**kept, **entries}, contract.optimizer, contract.group_keys)


def test_without_a_policy_nothing_is_asked(ckpt: Path) -> None:
    result = check(ckpt)
    assert not [rule for rule in result.rules_run if rule.startswith("DCP7")]
    assert not [rule for rule in skipped(result) if rule.startswith("DCP7")]
    assert result.policy is None
    named = check(ckpt, "DCP7")
    assert named.rules_run == ()
    assert skipped(named)["DCP701"] == "no policy names a contract"
    assert skipped(named)["DCP711"] == "there is no policy"


def test_only_what_the_policy_asks_is_run(ckpt: Path) -> None:
    result = check(ckpt, policy=Policy(PATH, expect=Expected(("model",))))
    assert [rule for rule in result.rules_run if rule.startswith("DCP7")] == ["DCP711"]
    assert result.policy == PATH
    assert not rules(result, "error", "warning")


def test_a_checkpoint_keeps_its_own_contract(ckpt: Path) -> None:
    result = judged(ckpt, expect=Expected(contract=contract_at(ckpt)))
    assert result.rules_run == ("DCP701", "DCP702", "DCP703", "DCP704", "DCP705")
    assert not result.findings


def test_keys_that_come_and_go(ckpt: Path) -> None:
    own = contract_at(ckpt)
    weight = "model.layers.0.weight"
    assert by_contract(ckpt, changed(own, weight)) == {
        f"DCP702 {weight}": f"1 key that the contract does not have: '{weight}'"
    }
    assert by_contract(ckpt, changed(own, **{"model.new": Spec((2,), "float32")})) == {
        "DCP701 model.new": f"1 key of {len(own.entries) + 1} in the contract is missing: "
        "'model.new'"
    }


def test_other_shapes_kinds_and_dtypes(ckpt: Path) -> None:
    own = contract_at(ckpt)
    slots = ("exp_avg", "exp_avg_sq")
    moments = [f"optimizer.state.layers.{n}.weight.{slot}" for n in (0, 1) for slot in slots]
    other = {fqn: Spec((4,), "bfloat16") for fqn in moments}
    other |= {"model.layers.0.weight": Spec((2, 2), "float32"), "model.layers.1.weight": Spec()}
    lr = "optimizer.param_groups.layers.0.weight.lr"
    assert by_contract(ckpt, changed(own, **other, **{lr: Spec((), "float32")})) == {
        "DCP703 model.layers.0.weight": "is [4], [2, 2] in the contract",
        "DCP703 model.layers.1.weight": "is [4], no tensor in the contract",
        f"DCP703 {lr}": "is no tensor, [] in the contract",
        f"DCP704 {moments[0]}": "is float32, bfloat16 in the contract; so are 3 more, the last is "
        f"'{moments[-1]}'",
    }


def test_another_optimizer_and_other_group_keys(ckpt: Path) -> None:
    own = contract_at(ckpt)
    keys = own.group_keys[0]
    assert by_contract(ckpt, Contract(own.entries, "Lion", ((*keys[1:], "nesterov"),))) == {
        "DCP705 optimizer": "the optimizer is AdamW, in the contract it is Lion",
        "DCP705 optimizer.param_groups": f"group keys differ: 'nesterov' missing; '{keys[0]}' not "
        "in the contract",
    }
    assert by_contract(ckpt, Contract(own.entries, "AdamW", (keys[:3], keys[3:]))) == {
        "DCP705 optimizer.param_groups": "group keys differ: the same keys in other groups"
    }


def test_sections(ckpt: Path) -> None:
    found = the(judged(ckpt, expect=Expected(("model", "dataloader"))))
    assert (found.rule, found.severity, found.subject) == ("DCP711", "error", "dataloader")
    assert found.message == "there is no dataloader; the checkpoint has model, optimizer"


@pytest.mark.parametrize(
    ("expected", "says"),
    [(("AdamW",), None), (("Lion",), "Lion"), (("AdamW", "Muon"), "AdamW + Muon")],
)
def test_kinds_of_optimizer(ckpt: Path, expected: tuple[str, ...], says: str | None) -> None:
    result = judged(ckpt, expect=Expected(optimizer=expected))
    assert result.rules_run == ("DCP712",)
    if says is None:
        assert not result.findings
    else:
        assert the(result).message == f"the optimizer is AdamW, expected {says}"


def test_no_optimizer_at_all(tmp_path: Path) -> None:
    draft = Draft()
    draft.tensor("model.weight", (4,))
    draft.write(tmp_path / "weights")
    expect = Expected(optimizer=("AdamW",), optimizer_state="complete")
    result = judged(tmp_path / "weights", expect=expect)
    assert [found.rule for found in result.findings] == ["DCP712", "DCP713"]
    assert result.findings[0].message == "the optimizer is none, expected AdamW"
    assert result.findings[1].message.startswith("optimizer state is absent, expected complete: ")
    assert not judged(tmp_path / "weights", expect=Expected(optimizer_state="absent")).findings


def test_the_first_glob_that_matches_decides(ckpt: Path) -> None:
    rows = (("optimizer.*.step", ("int64",)), ("optimizer", ("float16", "float32")))
    result = judged(ckpt, dtypes=(*rows, ("*", ("bfloat16",)), ("modl.*", ("float32",))))
    assert [(f.severity, f.subject, f.message) for f in result.findings] == [
        (
            "error",
            "optimizer.state.layers.0.weight.step",
            "2 tensors of 'optimizer.*.step' are float32, allowed is int64: "
            "'optimizer.state.layers.0.weight.step', 'optimizer.state.layers.1.weight.step'",
        ),
        (
            "error",
            "model.layers.0.weight",
            "2 tensors of '*' are float32, allowed is bfloat16: 'model.layers.0.weight', "
            "'model.layers.1.weight'",
        ),
        ("warning", "modl.*", "'modl.*' of the policy decides about no tensor of the checkpoint"),
    ]


def test_sizes(ckpt: Path) -> None:
    total = sum(path.stat().st_size for path in ckpt.glob("*.distcp"))
    largest = max(path.stat().st_size for path in ckpt.glob("*.distcp"))
    assert not judged(ckpt, limits=SizeLimits(total, total, largest)).findings
    messages = {
        f.subject: f.message
        for limits in (SizeLimits(total - 1), SizeLimits(max_file_size=largest - 1))
        for f in judged(ckpt, limits=limits).findings
    }
    assert f"({total:,} bytes), allowed are" in messages.pop("checkpoint")
    assert all(f"({largest:,} bytes), allowed are" in message for message in messages.values())
    assert messages
    too_small = the(judged(ckpt, limits=SizeLimits(min_size=total + 1)))
    assert "are expected" in too_small.message


def test_steps_from_one_save_to_the_next(ckpt: Path, tmp_path: Path) -> None:
    adamw(step=503).write(tmp_path / "later")
    expect = Expected(step_advance=500)
    alone = check(ckpt, policy=Policy(PATH, expect=expect))
    assert skipped(alone)["DCP716"] == "there is no earlier save to compare with"
    assert not judged(tmp_path / "later", "DCP716", expect=expect, against=ckpt).findings
    found = the(judged(ckpt, "DCP716", expect=expect, against=tmp_path / "later"))
    assert found.message == (
        "the optimizer went from step 503 in 'later' to 3, expected 500 steps more"
    )
    (draft := Draft()).tensor("model.weight", (4,))
    draft.write(tmp_path / "weights")
    blind = judged(tmp_path / "weights", "DCP716", expect=expect, against=ckpt)
    assert skipped(blind) == {"DCP716": "no step can be told from one of the two saves"}


def test_severities(ckpt: Path) -> None:
    wrong = {"expect": Expected(("rng",)), "dtypes": (("modl.*", ("float32",)),)}
    plain = judged(ckpt, **wrong)
    assert [f.severity for f in plain.findings] == ["error", "warning"]
    other = judged(ckpt, **wrong, severities={"DCP711": "info", "DCP714": "error"})
    assert [f.severity for f in other.findings] == ["info", "error"]
    assert (other.counts["info"], other.counts["error"]) == (1, 1)
    off = judged(ckpt, **wrong, severities={"DCP711": "off"})
    assert rules(off) == {"DCP714"}
    assert "DCP711" not in {*off.rules_run, *skipped(off)}
    with pytest.raises(NothingSelected, match=r"the policy 'dcpctl.toml' turns them off"):
        judged(ckpt, "DCP711", severities={"DCP711": "off"})


def test_settings_of_a_policy(ckpt: Path) -> None:
    made = Policy(PATH, strict=True, values=True, torch="2.4", max_findings=3)
    options = made.applied(CheckOptions())
    assert run_checks(ckpt, options).target == "2.4"
    assert (options.strict, options.values, options.max_findings) == (True, True, 3)
