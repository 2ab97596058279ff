"""What `dcpctl signature` prints and returns."""

from __future__ import annotations

import io
import json
import math
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from dcpctl.cli.app import app
from dcpctl.reports.json_lines import document
from dcpctl.reports.render import render
from dcpctl.reports.signature_blocks import gate_blocks, relative, signature_blocks
from dcpctl.reports.signature_json import resume_documents, signature_document
from dcpctl.reports.signature_plot import plot_blocks
from dcpctl.reports.signature_svg import signature_svg
from dcpctl.signature.engine import diagnose
from tests.test_signature.making import SEED_AFTER, SEED_BEFORE, log_of, seed_rows

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("change", "text"),
    [(0.0281, "+2.8%"), (-0.449, "-45%"), (0.0, "0.0%"), (-1e-9, "0.0%"), (1.5, "+150%"),
     (45.0, "x 46"), (1e9, "x 1e+09")],
)  # fmt: skip
def test_changes_as_people_say_them(change: float, text: str) -> None:
    assert relative(change) == text


@pytest.fixture
def logs(samples: Path) -> Path:
    return samples / "logs"


def signature(*arguments: object, given: str | None = None) -> Result:
    return CliRunner().invoke(app, ["signature", *map(str, arguments)], input=given)


def schema() -> dict:
    path = resources.files("dcpctl") / "_data" / "dcpctl.signature-1.schema.json"
    return json.loads(path.read_text())


def validated(text: str) -> dict:
    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    found = json.loads(text, parse_constant=refuse)
    jsonschema.validate(found, schema(), cls=jsonschema.Draft202012Validator)
    return found


@pytest.mark.parametrize(
    ("name", "options", "verdict", "code", "gate"),
    [
        ("lost.jsonl", [], "lost-optimizer", 1, 1),
        ("healthy.csv", [], "healthy", 0, 0),
        ("unseen.csv", [], "inconclusive", 0, 0),
        ("named.csv", ["--map", "loss=my/loss"], "divergence", 0, 1),
        ("titan.log", [], "data-change", 0, 1),
    ],
)
def test_samples(
    logs: Path, name: str, options: list[str], verdict: str, code: int, gate: int
) -> None:
    done = signature(logs / name, *options)
    assert done.exit_code == code, done.output
    assert verdict in done.stdout.splitlines()[0]
    expected = signature(logs / name, *options, "--expect-match")
    assert expected.exit_code == gate
    found = validated(signature(logs / name, *options, "--json").stdout)
    assert found["verdict"] == verdict
    assert found["failed"] == bool(code)
    assert found["matches"] == (not gate)
    assert [resume["step"] for resume in found["resumes"]] == [
        9001 if name == "unseen.csv" else 400
    ]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_standard_input(logs: Path) -> None:
    text = (logs / "lost.jsonl").read_text()
    assert signature("-", given=text).exit_code == 1
    assert signature("-", given="").exit_code != 0


@pytest.mark.parametrize("form", ["text", "table", "markdown"])
def test_forms(logs: Path, form: str) -> None:
    shown = signature(logs / "lost.jsonl", "--format", form, "--plot", "--expect-match").stdout
    for text in (
        "grad norm fell by",
        "do not match",
        "expected a match: not at step 400",
        "median",
    ):
        assert text in shown


def test_plot_takes_a_file_only_if_it_is_one(logs: Path, tmp_path: Path) -> None:
    picture = tmp_path / "resume.svg"
    assert "around step 400" in signature("--plot", logs / "lost.jsonl").stdout
    done = signature(logs / "lost.jsonl", "--plot", picture, "--json")
    validated(done.stdout)
    root = ElementTree.parse(picture).getroot()
    assert [line.get("stroke") for line in root.iter(f"{SVG}polyline")] == [
        *("#3465a4", "#cc3d3d", "#3465a4", "#cc3d3d")
    ]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[0] == "step 400: lost-optimizer, confidence high"
    assert signature(logs / "lost.jsonl", "--plot", "--json").exit_code == 2


def test_a_log_without_a_resume_does_not_pass_the_gate(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = list(seed_rows(SEED_BEFORE))
    path.write_text("\n".join(map(json.dumps, rows)))
    done = signature(path)
    assert done.exit_code == 0
    assert "no resume found" in done.stdout
    assert signature(path, "--expect-match").exit_code == 1
    assert signature(path, "--expect-match", "--resume-step", 8499).exit_code == 0
    assert validated(signature(path, "--json").stdout)["verdict"] is None
    assert "nothing to draw" in signature(path, "--plot").stdout


def test_a_suspicion_is_said(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, seed_rows(SEED_AFTER))))
    done = signature(path)
    assert done.exit_code == 0
    assert "--resume-step 8499 says more" in " ".join(done.stdout.split())
    assert validated(signature(path, "--json").stdout)["suspect_step"] == 8500
    assert "lost-optimizer" in signature(path, "--resume-step", 8499).stdout


def test_a_step_and_two_files(tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in seed_rows(SEED_AFTER)]
    (tmp_path / "before").write_text("\n".join(rows[:500]))
    (tmp_path / "after").write_text("\n".join(rows[500:]))
    (tmp_path / "all").write_text("\n".join(rows))
    two = signature(tmp_path / "before", tmp_path / "after", "--json")
    asked = signature(tmp_path / "all", "--resume-step", 8499, "--json")
    assert (two.exit_code, asked.exit_code) == (1, 1)
    assert validated(two.stdout)["verdict"] == validated(asked.stdout)["verdict"]


def test_many_resumes_are_listed_and_the_bad_one_is_explained() -> None:
    rows = list(seed_rows(SEED_BEFORE, resume=8_300))[:500]
    bad = list(seed_rows(SEED_AFTER, start=8_400, resume=8_500))[100:]
    log = log_of([*rows, *bad], None)
    log.sessions = [0] * 150 + [1] * 150 + [2] * 200 + [3] * 100
    result = diagnose(log)
    assert [one.verdict.name for one in result.diagnoses][:2] == ["inconclusive"] * 2
    assert result.worst is result.diagnoses[2]
    stream = io.StringIO()
    render(signature_blocks(result), stream, form="text", color=False, table_style="simple")
    assert stream.getvalue().count("resume at step") == 1
    assert "at step 8500; 3 resumes" in stream.getvalue()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["absent.csv"], 5, "io-failed"),
        (["--map", "x", "absent.csv"], 2, "QUANTITY=COLUMN"),
        (["--window", "3", "absent.csv"], 2, "less than 20"),
        ([], 2, "LOG"),
    ],
)
def test_errors(arguments: list[str], code: int, says: str) -> None:
    done = signature(*arguments)
    assert done.exit_code == code
    assert says in done.output
    assert "Traceback" not in done.output


def test_names_out_of_a_log_cannot_move_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    name = "\x1b[2J::error::\u202eloss"
    rows = [{"step": n % 30, name: 1.0, "attempt": f"\x1b[31m{n // 30}"} for n in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    for form in ("text", "table", "markdown", "json"):
        shown = signature(path, "--map", f"loss={name}", "--format", form).output
        assert "\x1b" not in shown
        assert "\u202e" not in shown


anything = st.one_of(st.floats(), st.floats(0.9, 1.1), st.sampled_from([0.0, 1.0, math.nan, 1e308]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 60), anything, anything), min_size=1, max_size=90))
def test_any_log_can_be_shown(rows: list[tuple[int, float, float]]) -> None:
    made = [{"step": float(a), "loss": b, "grad_norm": c, "lr": 1.0} for a, b, c in rows]
    result = diagnose(log_of(made, None), window=20, first=5)
    for blocks in (signature_blocks, plot_blocks, gate_blocks):
        render(blocks(result), io.StringIO(), form="text", color=False, table_style="simple")
    ElementTree.fromstring("".join(signature_svg(result)))
    validated(
        "".join(
            document(signature_document(result, failed=False), resumes=resume_documents(result))
        )
    )
