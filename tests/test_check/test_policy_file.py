"""A policy is read strictly: what is in it and not known is an error with its line."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcpctl import limits
from dcpctl.check.options import CheckOptions
from dcpctl.check.policy import Expected, Policy, SizeLimits
from dcpctl.check.policy_file import read_policy
from dcpctl.check.policy_find import PolicyError, find_policy
from dcpctl.documents.lines import toml_line
from dcpctl.documents.parsing import parse_toml
from dcpctl.errors import InputError, ReadFailed
from dcpctl.model.contract import Contract, Spec, contract_of
from dcpctl.model.contract_file import MalformedContract, contract_lines
from dcpctl.model.opening import open_checkpoint
from tests.test_reports.test_schemas import schema

FULL = """\
[check]
strict = true
verify_data = true
values = true
torch = "2.13"
max_findings = 50
baseline = "baseline.json"
may_skip = "dataloader.*"

[check.rules]
DCP404 = "error"
DCP4xx = "off"
DCP5 = "info"

[check.expect]
sections = ["model", "optimizer"]
optimizer = "AdamW"
optimizer_state = "complete"
contract = "contract.json"
step_advance = 500

[check.dtypes]
"model.*" = "bfloat16"
"*" = ["float32", "float16"]

[check.limits]
max_size = "40G"
min_size = 1_000
max_file_size = "1.5GiB"
"""
CONTRACT = Contract({"a": Spec((2,), "float32")}, "AdamW", (("lr",),))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "contract.json").write_text("".join(contract_lines(CONTRACT)))
    return tmp_path


def policy(directory: Path, text: str, name: str = "dcpctl.toml") -> Policy:
    path = directory / name
    path.write_text(text)
    return read_policy(path)


def test_all_that_a_policy_can_say(directory: Path) -> None:
    made = policy(directory, FULL)
    severities = dict(made.severities)
    assert severities.pop("DCP404") == "error"
    assert {severities.pop(rule) for rule in ("DCP401", "DCP409")} == {"off"}
    assert {severities[rule] for rule in severities if rule.startswith("DCP5")} == {"info"}
    assert made.expect == Expected(
        ("model", "optimizer"), ("AdamW",), "complete", CONTRACT, directory / "contract.json", 500
    )
    assert made.dtypes == (("model.*", ("bfloat16",)), ("*", ("float32", "float16")))
    assert made.limits == SizeLimits(40 << 30, 1000, 3 << 29)
    assert (made.torch, made.max_findings) == ("2.13", 50)
    assert made.baseline == directory / "baseline.json"
    assert made.may_skip == ("dataloader.*",)
    assert made.strict is made.verify_data is made.values is True


def test_the_schema_knows_what_the_reader_knows(directory: Path) -> None:
    document = parse_toml(FULL)
    jsonschema.validate(document, schema("policy"), cls=jsonschema.Draft202012Validator)
    known = schema("policy")["properties"]["check"]["properties"]
    assert set(document["check"]) == set(known)
    for table in ("expect", "limits"):
        assert set(document["check"][table]) == set(known[table]["properties"])


def test_the_same_in_pyproject(directory: Path) -> None:
    text = 'line = 1\n[project]\nname = "x"\n\n' + FULL.replace("[check", "[tool.dcpctl.check")
    made = policy(directory, text, "pyproject.toml")
    assert made == Policy(**{**_fields(policy(directory, FULL)), "path": made.path})
    with pytest.raises(PolicyError, match=r"pyproject.toml', line 6: unknown key 'stric'"):
        policy(directory, text.replace("strict", "stric"), "pyproject.toml")
    with pytest.raises(PolicyError, match=r"has no \[tool.dcpctl\]"):
        policy(directory, "[tool.ruff]\n", "pyproject.toml")


def _fields(made: Policy) -> dict[str, object]:
    return {name: getattr(made, name) for name in Policy.__dataclass_fields__}


def test_the_policy_in_the_docs_is_one(directory: Path, repository: Path) -> None:
    blocks = (repository / "docs/reference/policy.md").read_text().split("```toml\n")[1:]
    shown = next(block for block in blocks if block.startswith("[check]")).split("```")[0]
    made = policy(directory, shown)
    assert set(parse_toml(shown)["check"]) == set(parse_toml(FULL)["check"])
    assert made.expect.contract == CONTRACT


def test_an_empty_policy_asks_for_nothing(directory: Path) -> None:
    made = policy(directory, "")
    assert made == Policy(made.path)
    assert made.applied(CheckOptions(max_findings=7)) == CheckOptions(policy=made, max_findings=7)


def test_options_count_more_than_the_policy(directory: Path) -> None:
    made = policy(directory, '[check]\ntorch = "2.4"\nmax_findings = 0\n')
    options = made.applied(CheckOptions(torch="2.13", strict=True, max_findings=7))
    assert (options.torch, options.strict, options.max_findings) == ("2.13", True, None)
    assert made.applied(CheckOptions()).torch == "2.4"


@pytest.mark.parametrize(
    ("before", "after", "says", "hint"),
    [
        ("strict", "stric", "line 2: unknown key 'stric' in [check]", "did you mean 'strict'?"),
        ("[check.limits]", "[check.limit]", "line 26: unknown key 'limit'", "'limits'"),
        ("[check]", "[chek]", "line 1: unknown key 'chek' in the policy", "did you mean 'check'?"),
        ("max_size", "size", "line 27: unknown key 'size' in [check.limits]", "_size'"),
        ("strict = true", "strict = 1", "line 2: 'strict' is 1, expected true or false", None),
        ("= 50\n", "= true\n", "line 6: 'max_findings' is True, expected a whole number", None),
        ("= 50\n", "= -1\n", "line 6: 'max_findings' is -1, which is less than 0", None),
        ('"2.13"', '"new"', "line 5: 'new' is no release such as 2.13", None),
        ("DCP404", "DCP999", "line 11: 'DCP999' is no rule and no family of rules", "DCP"),
        ("DCP4xx", "DCP40", "line 12: 'DCP40' is no rule and no family of rules", "DCP4"),
        ("DCP4xx", "F", "line 12: 'F' is no rule", "dcpctl explain lists the rules"),
        ("DCP4xx", "E501", "line 12: 'E501' is no rule", "did you mean 'DCP501'?"),
        ('"off"', '"of"', "line 12: DCP4xx: unknown 'of'", "did you mean 'off'?"),
        ('"optimizer"]', '"optim"]', "line 16: sections: unknown 'optim'", "'optimizer'"),
        ('["model"', '[1, "model"', "line 16: 'sections' is neither a text nor a list", None),
        ('"AdamW"', "{}", "line 17: 'optimizer' is neither a text nor a list", None),
        ('"complete"', '"whole"', "line 18: optimizer_state: unknown 'whole'", "complete"),
        ('"contract.json"', '"no.json"', "line 19: there is no ", None),
        ('"bfloat16"', '"bfloat"', "line 23: model.*: unknown 'bfloat'", "'bfloat16'"),
        ('"40G"', '"40 parsecs"', "line 27: 'max_size': '40 parsecs' is no size", "256M"),
        ('"40G"', "1.5", "line 27: 'max_size': 1.5 is no size", "256M"),
        ("[check.rules]\n", "", "unknown key 'DCP404' in [check]", None),
        ("[check.dtypes]", "[check.dtypes", "cannot be parsed: Expected ']'", None),
        (FULL, "check = 3", "line 1: 'check' is no table", None),
        (FULL, "check = {limits = {max = 3}}", "line 1: unknown key 'max'", "max_size"),
        (FULL, "check.expect.sektions = []", "line 1: unknown key 'sektions'", "'sections'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_policy_cannot_say(
    directory: Path, before: str, after: str, says: str, hint: str | None
) -> None:
    assert before in FULL
    with pytest.raises(PolicyError) as caught:
        policy(directory, FULL.replace(before, after, 1))
    assert says in str(caught.value)
    assert caught.value.exit_code == 2
    assert (hint or "") in (caught.value.hint or "")


def test_a_file_that_is_none(directory: Path) -> None:
    with pytest.raises(ReadFailed):
        read_policy(directory / "nothing.toml")
    (directory / "dcpctl.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match="not UTF-8"):
        read_policy(directory / "dcpctl.toml")
    (directory / "dcpctl.toml").write_text("#" * (2 << 20))
    with pytest.raises(PolicyError, match="too large"):
        read_policy(directory / "dcpctl.toml")
    (directory / "contract.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(MalformedContract):
        policy(directory, FULL)


def test_a_checkpoint_is_a_contract(directory: Path, samples: Path) -> None:
    reference = samples / "silent_reset" / "step-9000"
    made = policy(directory, f'[check.expect]\ncontract = "{reference}"')
    with open_checkpoint(reference) as checkpoint:
        assert made.expect.contract == contract_of(checkpoint)


def test_lines_of_keys_that_repeat_in_several_tables() -> None:
    text = "[a]\nx = 1\n[b] # [a]\n  \"x\" = 2\n'x y'.z = 3\n[b.c]\n"
    keys = [("a", "x"), ("b", "x"), ("b", "x y", "z")]
    assert [toml_line(text, where, 64) for where in keys] == [2, 4, 5]
    assert toml_line(text, ("b", "c"), 64) == 6
    assert toml_line(text, ("nothing",), 64) is None


def test_where_a_policy_is_found(tmp_path: Path) -> None:
    here = tmp_path / "repository"
    run = here / "runs" / "step-1"
    run.mkdir(parents=True)
    assert find_policy([run], here) is None
    (here / "pyproject.toml").write_text("[tool.ruff]\n")
    assert find_policy([run], here) is None
    (here / "pyproject.toml").write_text("# dcpctl\n[tool.ruff]\n")
    assert find_policy([run], here) is None
    for text in (
        "[tool.dcpctl.check]",
        "[tool . 'dcpctl']",
        '["tool"]\ndcpctl = {}',
        "tool.dcpctl.check.strict = true",
        "tool = {dcpctl = {}}",
    ):
        (here / "pyproject.toml").write_text(f"[project]\n{text}\n" if text[0] == "[" else text)
        assert find_policy([run], here) == here / "pyproject.toml"
    (here / "dcpctl.toml").write_text("")
    assert find_policy([run], here) == here / "dcpctl.toml"
    assert find_policy([run], here / "runs") is None, "not that of a parent"


def test_a_checkpoint_brings_no_policy_along(tmp_path: Path, monkeypatch) -> None:
    run = tmp_path / "run"
    (run / "step-1").mkdir(parents=True)
    for directory in (run, run / "step-1"):
        (directory / "dcpctl.toml").write_text("")
        monkeypatch.chdir(directory)
        assert find_policy([run]) is None
        assert find_policy([Path()]) is None
        assert find_policy([tmp_path / "other"]) == Path("dcpctl.toml")


def test_a_directory_that_is_gone_has_none(tmp_path: Path, monkeypatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert find_policy([loop], tmp_path) is None
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert find_policy([tmp_path / "other"]) is None
    finally:
        monkeypatch.chdir(tmp_path)


KEYS = st.sampled_from(
    [
        "check",
        "rules",
        "expect",
        "dtypes",
        "limits",
        "sections",
        "contract",
        "max_size",
        "torch",
        "strict",
        "max_findings",
        "baseline",
        "may_skip",
        "optimizer",
        "DCP404",
        "DCP4xx",
        "*",
        "",
    ]
)
VALUES = st.recursive(
    st.booleans() | st.integers(-3, 2**70) | st.floats() | st.sampled_from(["", "off", "3", "x\n"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {as_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value) if "e" not in repr(value) else "0.5"
    return json.dumps(value)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4) | VALUES, max_size=4))
def test_whatever_it_says_there_is_an_answer(tmp_path_factory, tables: dict) -> None:
    directory = tmp_path_factory.getbasetemp()
    nested = {"check": tables}
    text = "".join(f"{json.dumps(key)} = {as_toml(value)}\n" for key, value in nested.items())
    path = directory / "dcpctl.toml"
    path.write_text(text)
    try:
        read_policy(path)
    except (PolicyError, InputError, ReadFailed) as error:
        assert error.message.count("\n") == 0


def test_globs_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GLOBS", 2)
    path = tmp_path / "dcpctl.toml"
    path.write_text("[check.dtypes]\n" + "".join(f'"{c}*" = ["float32"]\n' for c in "abc"))
    with pytest.raises(PolicyError, match="3 globs, more than 2"):
        read_policy(path)
