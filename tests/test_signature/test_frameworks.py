"""What frameworks print, write and export is read to the rows that they were given."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from dcpctl.errors import NoSteps
from dcpctl.signature.engine import diagnose
from dcpctl.signature.log import Log, Rows, Source
from dcpctl.signature.reading import read_logs
from dcpctl.signature.texts import read_text
from tests.test_signature import printed as frameworks
from tests.test_signature.printed import Printer, Row


@pytest.fixture(scope="module")
def rows(samples: Path) -> list[Row]:
    text = (samples / "logs" / "lost.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def read(text: str) -> Log:
    log = Log()
    read_text(io.StringIO(text, newline="\n"), Rows(log, Source("made", ""), {}))
    log.finish()
    return log


def check(log: Log, rows: list[Row], *, norm: bool = True) -> None:
    """The steps, the numbers, and the verdict are those of the run."""
    assert log.steps == [row["step"] for row in rows]
    assert log.columns["loss"] == pytest.approx([row["loss"] for row in rows], abs=2e-3)
    if norm:
        expected = [row["grad_norm"] for row in rows]
        assert log.columns["grad_norm"] == pytest.approx(expected, rel=1e-2, abs=1e-3)
    (one,) = diagnose(log).diagnoses
    assert (one.verdict.name, one.resume.step) == ("lost-optimizer", 400)
    assert one.resume.why[0].startswith("steps go back from 429 to 400")


@pytest.mark.parametrize("printer", frameworks.PRINTERS, ids=lambda one: one.__name__)
def test_what_is_printed(rows: list[Row], printer: Printer) -> None:
    norm = printer.__name__ not in ("nanogpt", "litgpt", "deepspeed")
    check(read("".join(frameworks.printed(rows, printer))), rows, norm=norm)


@pytest.mark.parametrize("printer", frameworks.EPOCHS, ids=lambda one: one.__name__)
def test_rows_without_steps_are_placed_by_their_epochs(rows: list[Row], printer: Printer) -> None:
    log = read("".join(frameworks.printed(rows, printer)))
    assert (log.placed, len(log)) == ("epoch", 230)
    (one,) = diagnose(log).diagnoses
    assert one.verdict.name == "lost-optimizer"
    assert one.resume.why == ("the epoch goes back from 4.29 to 4",)
    assert log.notes


def test_rows_without_any_place(rows: list[Row]) -> None:
    """`no resume` would be a claim; that nothing tells the steps is what is known."""
    log = read("".join(f"loss: {row['loss']}, grad norm: {row['grad_norm']}\n" for row in rows))
    assert (log.placed, len(log)) == ("row", 230)
    with pytest.raises(NoSteps) as caught:
        diagnose(log)
    assert caught.value.exit_code == 2
    assert "--map step=COLUMN" in str(caught.value.hint)
    assert "loss, grad norm" in str(caught.value.hint)


def test_epochs_that_many_rows_share(rows: list[Row]) -> None:
    """A resume in the middle of an epoch would not show; one that goes back an epoch does."""
    text = [f"epoch: {row['step'] // 1000} loss: {row['loss']}\n" for row in rows]
    with pytest.raises(NoSteps, match="would not show"):
        diagnose(read("".join(text)))
    text = [f"epoch: {row['step'] // 100} loss: {row['loss']}\n" for row in rows]
    again = [*text[:130], *(f"epoch: 3 loss: {row['loss']}\n" for row in rows[130:])]
    (one,) = diagnose(read("".join(again))).diagnoses
    assert one.resume.why == ("the epoch goes back from 4 to 3",)


def test_a_step_that_is_asked_for_where_there_are_none(rows: list[Row]) -> None:
    log = read("".join(frameworks.printed(rows, frameworks.transformers_printer)))
    with pytest.raises(NoSteps):
        diagnose(log, resume_step=400)


def test_rows_without_any_place_in_files_of_several_processes(
    rows: list[Row], tmp_path: Path
) -> None:
    for name, part in (("a.log", rows[:130]), ("b.log", rows[130:])):
        text = "".join(f"loss: {row['loss']}, grad norm: {row['grad_norm']}\n" for row in part)
        (tmp_path / name).write_text(text)
    (one,) = diagnose(read_logs([str(tmp_path / "a.log"), str(tmp_path / "b.log")])).diagnoses
    assert one.resume.why == ("another process writes",)
    assert one.resume.row == 130


def separated(rows: list[Row], names: dict[str, str], **more: object) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow([*names.values(), *more])
    for row in rows:
        writer.writerow([*(row[name] for name in names), *more.values()])
    return stream.getvalue()


def test_an_export_of_wandb(rows: list[Row]) -> None:
    """The chart's CSV: the run before each metric, and its least and greatest beside it."""
    names = {
        "step": "Step",
        "loss": "lr3e-4-test-7 - train/loss",
        "grad_norm": "x - train/grad_norm",
    }
    more = {"lr3e-4-test-7 - train/loss__MIN": 0.1, "lr3e-4-test-7 - train/loss__MAX": 9.9}
    check(read(separated(rows, names, **more)), rows)


def test_a_history_of_wandb(rows: list[Row]) -> None:
    lines = [
        {"_step": number, "_timestamp": 1.7e9 + number, "_runtime": number,
         "train/loss": row["loss"], "train/grad_norm": row["grad_norm"],
         "train/learning_rate": row["lr"], "train/global_step": row["step"], "train/epoch": 3.1}
        for number, row in enumerate(rows)
    ]  # fmt: skip
    check(read("\n".join(map(json.dumps, lines))), rows)


@pytest.mark.parametrize("orient", ["columns", "list", "split"])
def test_tables_of_pandas(rows: list[Row], orient: str) -> None:
    names = ("step", "loss", "grad_norm")
    if orient == "columns":
        made: object = {
            name: {str(number): row[name] for number, row in enumerate(rows)} for name in names
        }
    elif orient == "list":
        made = {name: [row[name] for row in rows] for name in names}
    else:
        made = {"columns": names, "index": [], "data": [[r[name] for name in names] for r in rows]}
    check(read(json.dumps(made)), rows)


def test_metrics_of_lingua(rows: list[Row]) -> None:
    """lingua/metrics.py writes flattened dicts into metrics.jsonl."""
    lines = [
        {"global_step": row["step"], "acc_step": 0, "speed/wps": 1e3, "speed/curr_iter_time": 0.8,
         "optim/grad_norm": row["grad_norm"], "optim/lr": row["lr"], "optim/total_tokens": 4096,
         "loss/out": row["loss"], "created_at": "2026-07-01T10:00:00"}
        for row in rows
    ]  # fmt: skip
    check(read("\n".join(map(json.dumps, lines))), rows)


def test_rows_of_automodel(rows: list[Row]) -> None:
    """nemo_automodel/components/loggers/metric_logger.py, `MetricsSample.to_dict`."""
    lines = [
        {"step": row["step"], "epoch": 0, "timestamp": "2026-07-01T10:00:00.587Z",
         "loss": row["loss"], "grad_norm": row["grad_norm"], "lr": row["lr"], "tps": 1000.5}
        for row in rows
    ]  # fmt: skip
    check(read("\n".join(map(json.dumps, lines))), rows)


def test_rows_of_swift_and_llama_factory(rows: list[Row]) -> None:
    swift = [
        {"loss": row["loss"], "grad_norm": row["grad_norm"],
         "global_step/max_steps": f"{row['step']}/500", "percentage": "60.00%"} for row in rows
    ]  # fmt: skip
    check(read("\n".join(map(json.dumps, swift))), rows)
    factory = [
        {"current_steps": row["step"], "total_steps": 500, "loss": row["loss"], "lr": row["lr"],
         "epoch": 3.1, "percentage": 60.0} for row in rows
    ]  # fmt: skip
    check(read("\n".join(map(json.dumps, factory))), rows, norm=False)


def test_lightnings_csv(rows: list[Row]) -> None:
    """`CSVLogger` leaves cells empty, and writes a row for each call."""
    lines = ["epoch,grad_norm,lr-AdamW,step,train_loss,val_loss"]
    for row in rows:
        lines.append(f"0,{row['grad_norm']},,{row['step']},{row['loss']},")
        lines.append(f",,{row['lr']},{row['step']},,")
    check(read("\n".join(lines) + "\n"), rows)


def test_composers_file_logger(rows: list[Row]) -> None:
    """Nested dicts, deeper than one level."""
    lines = [
        {"metrics": {"train": {"loss": {"total": row["loss"]}, "grad_norm": row["grad_norm"]}},
         "progress": {"step": row["step"]}} for row in rows
    ]  # fmt: skip
    check(read("\n".join(map(json.dumps, lines))), rows)


def test_evaluations_are_no_rows(rows: list[Row]) -> None:
    lines = []
    for row in rows:
        lines.append(f"step: {row['step']}  loss: {row['loss']}  grad_norm: {row['grad_norm']}")
        lines.append(f"validate step: {row['step']}  loss: 9.0  memory: 1.00GiB(1.00%)")
        lines.append(f'[val] name "c4" | step {row["step"]} | epoch 0 | loss 9.0 | lr 1.5e-01')
    check(read("\n".join(lines)), rows)


def test_a_bar_that_begins_again_is_of_the_next_epoch() -> None:
    """A bar without the number of its epoch: at its end it begins again, which is no resume."""
    parts = [
        f"\r 50%|█████     | {step}/100 [00:10<00:10,  1.20it/s, loss={1.5 + step / 1000}]"
        for _ in range(3)
        for step in range(1, 101)
    ]
    log = read("".join(parts) + "\n")
    assert log.steps == list(map(float, range(1, 301)))
    assert diagnose(log).diagnoses == ()


def test_a_bar_of_something_else_leaves_rows_where_they_are(rows: list[Row]) -> None:
    lines = []
    for row in rows:
        lines.append("\rLoading shards: 100%|██████████| 4/4 [00:01<00:00,  3.00it/s]\n")
        lines.append(frameworks.torchtune({**row, "step": int(row["step"])}))
    check(read("".join(lines)), rows)
