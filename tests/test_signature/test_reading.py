"""Every form of log is read to the same rows, and what cannot be read is counted."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpctl import limits
from dcpctl.errors import (
    DcpctlError,
    LimitExceeded,
    MissingDependency,
    NotALog,
    ReadFailed,
    UsageError,
)
from dcpctl.signature.columns import meaning, parse_map
from dcpctl.signature.log import Log, Rows, Source
from dcpctl.signature.reading import read_logs
from dcpctl.signature.texts import read_text

ROWS = [
    {"step": 10 * n, "loss": 4.0 - n / 8, "grad_norm": 0.5 + n / 4, "lr": 3e-4} for n in range(1, 6)
]


def read(text: str, mapping: dict[str, str] | None = None) -> Log:
    log = Log()
    read_text(io.StringIO(text), Rows(log, Source("made", ""), mapping or {}))
    log.finish()
    return log


def check(log: Log, form: str) -> None:
    assert log.sources[0].form == form
    assert log.steps == [row["step"] for row in ROWS]
    for name in ("loss", "grad_norm"):
        assert log.columns[name] == pytest.approx([row[name] for row in ROWS])


def separated(delimiter: str) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return stream.getvalue()


def test_json_lines() -> None:
    check(read("".join(json.dumps(row) + "\n" for row in ROWS)), "JSON lines")


def test_nested_json() -> None:
    lines = [
        {"step": row["step"], "train": {"loss": row["loss"], "grad_norm": row["grad_norm"]}}
        for row in ROWS
    ]
    check(read("\n".join(map(json.dumps, lines))), "JSON lines")


@pytest.mark.parametrize("indent", [None, 2])
def test_trainer_state(indent: int | None) -> None:
    history = [
        {"step": r["step"], "loss": r["loss"], "grad_norm": r["grad_norm"], "learning_rate": 3e-4}
        for r in ROWS
    ]
    history.insert(3, {"step": 30, "eval_loss": 9.0, "eval_runtime": 2.0})
    state = {"best_metric": None, "log_history": history, "stateful_callbacks": {}}
    log = read(json.dumps(state, indent=indent))
    check(log, "JSON")
    assert log.sources[0].without == 1
    assert log.columns["lr"] == [3e-4] * 5


def test_a_list_of_rows() -> None:
    check(read(json.dumps(ROWS)), "JSON")


@pytest.mark.parametrize(("delimiter", "form"), [(",", "CSV"), ("\t", "TSV")])
def test_separated(delimiter: str, form: str) -> None:
    check(read(separated(delimiter)), form)


def test_torchtitan() -> None:
    lines = [
        f"\x1b[31m[rank0]:2025-10-09 08:00:0{n},123 - root - INFO - \x1b[36mstep: {row['step']:2}  "
        f"\x1b[32mloss: {row['loss']:7.4f}  grad_norm: {row['grad_norm']:7.4f}  \x1b[34mmemory: "
        f" 1.02GiB(1.28%)  tps: 1,234  mfu: 6.10%\x1b[39m"
        for n, row in enumerate(ROWS)
    ]
    log = read("[titan] Starting\n" + "\n".join(lines) + "\nDestroying process group\n")
    check(log, "console")
    assert log.columns["throughput"] == [1234.0] * 5
    times = [time for time in log.columns["time"] if time is not None]
    assert [after - times[0] for after in times] == pytest.approx([0, 1, 2, 3, 4])


def test_megatron() -> None:
    lines = [
        f" [2025-10-09 08:00:0{n}] iteration {row['step']:8}/  500000 | consumed samples: 2560 | "
        f"elapsed time per iteration (ms): 1234.5 | learning rate: 3.000000E-04 | "
        f"global batch size:   256 | lm loss: {row['loss']:.6E} | "
        f"loss scale: 1.0 | grad norm: {row['grad_norm']:.3f} |"
        for n, row in enumerate(ROWS)
    ]
    log = read("\n".join(lines))
    check(log, "console")
    assert log.columns["lr"] == [3e-4] * 5


def test_rows_for_each_quantity_are_put_together() -> None:
    """Lightning and wandb write a row for each call, all with the same step."""
    lines = [
        {"global_step": row["step"], name: row[name]}
        for row in ROWS
        for name in ("loss", "grad_norm")
    ]
    check(read("\n".join(map(json.dumps, lines))), "JSON lines")


def test_bad_rows_are_counted() -> None:
    text = "\n".join(map(json.dumps, ROWS)).replace("\n", '\nnot json\n{"step": 3\n[1]\n\n', 1)
    log = read(text)
    check(log, "JSON lines")
    assert log.sources[0].bad == 3


def test_a_row_that_was_cut_off_is_counted() -> None:
    log = read(separated(",") + "60,3.1")
    check(log, "CSV")
    assert log.sources[0].bad == 1


def test_a_header_again_is_another_process() -> None:
    log = read(separated(",") + separated(","))
    assert log.sessions == [0] * 5 + [1] * 5
    assert log.sources[0].bad == 0


def test_sessions_that_some_rows_do_not_name() -> None:
    rows = [{"step": n, "loss": 1.0} for n in range(6)]
    rows[0]["attempt"] = rows[2]["attempt"] = 0
    rows[4]["attempt"] = 1
    assert read("\n".join(map(json.dumps, rows))).sessions == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("text", ["NaN", "nan", "Infinity", "-inf"])
def test_numbers_that_are_none_are_kept(text: str) -> None:
    (value,) = read(f"step,loss\n1,{text}\n").columns["loss"]
    assert value is not None
    assert not math.isfinite(value)


@pytest.mark.parametrize("step", ["nan", "inf", "1e300", "x"])
def test_steps_that_are_none_are_those_of_the_row_before(step: str) -> None:
    assert read(f"step,loss\n7,2.0\n{step},1.9\n9,1.8\n").steps == [7.0, 7.0, 9.0]


def test_cells_that_are_empty_are_missing() -> None:
    log = read("step,loss,grad_norm\n1,2.0,\n2,1.9,0.5\n")
    assert log.columns["grad_norm"] == [None, 0.5]


def test_without_steps_rows_are_counted() -> None:
    log = read("loss,lr\n2.0,1\n1.9,1\n")
    assert log.steps == [1.0, 2.0]
    assert log.notes


def test_a_long_line_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_LINE_CHARACTERS", 64)
    log = read('{"step": 1, "loss": 2}\n{"x": "' + "y" * 1000 + '"}\n{"step": 2, "loss": 1}\n')
    assert log.steps == [1.0, 2.0]
    assert log.sources[0].bad == 1
    monkeypatch.setattr(limits, "LOG_DOCUMENT_BYTES", 100)
    with pytest.raises(LimitExceeded):
        read("[\n" + '{"loss": 1},\n' * 100 + "]")


def test_a_document_of_many_values_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LOG_DOCUMENT_VALUES", 100)
    with pytest.raises(LimitExceeded, match="a JSON document of 202 values, more than 100"):
        read("[\n" + '{"loss": []},\n' * 67 + "]")


@pytest.mark.parametrize(
    ("column", "quantity"),
    [("train/loss", "loss"), ("Train Loss", "loss"), ("lm loss", "loss"),
     ("loss_metrics/global_avg_loss", "loss"), ("train/CrossEntropyLoss", "loss"),
     ("train/grad_norm", "grad_norm"), ("optim/total_grad_norm", "grad_norm"),
     ("gnorm", "grad_norm"), ("learning_rate", "lr"), ("train/learning_rate", "lr"),
     ("lr-AdamW", "lr"), ("lr-AdamW/pg1", "lr"),
     ("_step", "step"), ("train/global_step", "step"), ("iter", "step"), ("tokens/s", "throughput"),
     ("throughput(tps)", "throughput"), ("train_samples_per_second", "throughput"),
     ("_timestamp", "time"), ("wall_time", "time")],
)  # fmt: skip
def test_names_that_people_use(column: str, quantity: str) -> None:
    found = meaning(column)
    assert found is not None
    assert found[0] == quantity


@pytest.mark.parametrize(
    "column",
    ["eval/loss", "val_loss", "eval_grad_norm", "validation loss", "loss scale", "train/Z loss",
     "load_balancing_loss", "elapsed time per iteration (ms)", "number of skipped iterations",
     "global batch size", "iter time (s)", "total_steps", "tokens_per_step", "max_steps",
     "grad_norm/layers.3", "params norm", "loss_metrics/global_max_loss", "run - loss__MAX",
     "mfu", "optim/step skipped", "warmup_steps", "lr_decay", "batch_in_epoch"],
)  # fmt: skip
def test_names_of_other_things(column: str) -> None:
    assert meaning(column) is None


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (["_step", "train/global_step", "train/loss"],
         {"step": "train/global_step", "loss": "train/loss"}),
        (["loss", "lm loss", "step"], {"step": "step", "loss": "loss"}),
        (["train_loss_epoch", "train_loss_step", "step"],
         {"step": "step", "loss": "train_loss_step"}),
        (["smoothed_loss", "loss/out", "global_step"], {"step": "global_step", "loss": "loss/out"}),
        (["loss", "lr_1", "lr_0", "step"], {"step": "step", "loss": "loss", "lr": "lr_0"}),
    ],
)  # fmt: skip
def test_the_plainest_name_is_taken(columns: list[str], chosen: dict[str, str]) -> None:
    log = read(",".join(columns) + "\n" + ",".join(["1"] * len(columns)) + "\n")
    assert log.sources[0].columns == chosen


def test_a_map_goes_before_what_is_known() -> None:
    mapping = parse_map(["loss=my/loss", "lr=a=b"])
    assert mapping == {"loss": "my/loss", "lr": "a=b"}
    log = read("step,loss,my/loss\n1,2,3\n", {"loss": "my/loss"})
    assert log.sources[0].columns == {"step": "step", "loss": "my/loss"}
    assert log.columns["loss"] == [3.0]


@pytest.mark.parametrize("text", ["loss", "loss=", "los=x", "=x"])
def test_a_map_that_is_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_map([text])


@pytest.mark.parametrize("text", ["", "\n\n", "{", "[1, 2", '{"a": 1}', '"text"', "hello\nworld"])
def test_what_is_no_log(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(NotALog):
        read_logs([str(path)])


def test_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\0\1\2\3")
    with pytest.raises(NotALog, match="no text"):
        read_logs([str(path)])
    with pytest.raises(NotALog, match="no event files"):
        read_logs([str(tmp_path)])
    with pytest.raises(ReadFailed, match="No such file"):
        read_logs([str(tmp_path / "absent")])
    with pytest.raises(ReadFailed, match="No such file"):
        read_logs([str(tmp_path / "events.out.tfevents.1.absent")])


def test_columns_that_nobody_knows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,mine,yours\n1,2,3\n")
    with pytest.raises(NotALog) as caught:
        read_logs([str(path)])
    assert "step, mine, yours" in str(caught.value.hint)
    assert read_logs([str(path)], {"loss": "mine"}).columns["loss"] == [2.0]


def test_several_files_are_several_processes(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(separated(","))
    log = read_logs([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    assert log.sessions == [0] * 5 + [1] * 5
    assert [one.rows for one in log.sources] == [5, 5]


def test_event_files(samples: Path) -> None:
    pytest.importorskip("tensorboard")
    log = read_logs([str(samples / "logs" / "tensorboard")])
    same = read_logs([str(samples / "logs" / "lost.jsonl")])
    assert log.steps == same.steps
    for name in ("loss", "grad_norm", "lr", "time"):
        assert log.columns[name] == pytest.approx(same.columns[name])
    assert log.sessions == [0] * 130 + [1] * 100
    assert {one.form for one in log.sources} == {"TensorBoard"}


def test_an_event_file_that_is_cut_off(samples: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    whole = next((samples / "logs" / "tensorboard").glob("*")).read_bytes()
    path = tmp_path / "events.out.tfevents.1.cut"
    path.write_bytes(whole[: len(whole) // 2 + 5])
    assert 0 < len(read_logs([str(path)])) < 130
    path.write_bytes(b"nonsense" * 10)
    with pytest.raises(NotALog):
        read_logs([str(path)])


def test_event_files_need_tensorboard(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "tensorboard.backend.event_processing.event_file_loader"
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependency) as caught:
        read_logs([str(samples / "logs" / "tensorboard")])
    assert "pip install 'dcpctl[tensorboard]'" in str(caught.value.hint)


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(["step", "loss", ",", ":", "=", "1", "1e999", '"', "{", "}", "[",
                                  "\n", "\t", " ", "nan", "null", "\r", "٣"])).map("".join),
        st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
                     lambda inner: st.lists(inner) | st.dictionaries(
                         st.sampled_from(["loss", "step", "time", "x"]), inner)).map(json.dumps),
    )
)  # fmt: skip
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        log = read(text)
    except DcpctlError:
        return
    assert len({len(column) for column in log.columns.values()} | {len(log)}) == 1
