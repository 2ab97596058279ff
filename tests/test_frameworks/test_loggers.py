"""`dcpctl signature` reads what the frameworks' own loggers print and write."""

from __future__ import annotations

import contextlib
import io
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcpctl.signature.engine import diagnose
from dcpctl.signature.log import Log
from dcpctl.signature.reading import read_logs

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows(samples: Path) -> list[Row]:
    text = (samples / "logs" / "lost.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def read(path: Path, text: str) -> Log:
    path.write_text(text, newline="")
    return read_logs([str(path)])


def check(log: Log, rows: list[Row], *, norm: bool = True) -> None:
    assert log.steps == [row["step"] for row in rows]
    assert log.columns["loss"] == pytest.approx([row["loss"] for row in rows], abs=2e-3)
    if norm:
        norms = [row["grad_norm"] for row in rows]
        assert log.columns["grad_norm"] == pytest.approx(norms, rel=1e-2, abs=1e-3)
    (one,) = diagnose(log).diagnoses
    assert (one.verdict.name, one.resume.step) == ("lost-optimizer", 400)


def processes(rows: list[Row]) -> Iterator[list[Row]]:
    """The rows of each process: steps go back where another begins."""
    begin = 0
    for number in range(1, len(rows) + 1):
        if number == len(rows) or rows[number]["step"] <= rows[number - 1]["step"]:
            yield rows[begin:number]
            begin = number


def logs(row: Row) -> dict[str, float]:
    return {
        "loss": round(row["loss"], 4), "grad_norm": row["grad_norm"],
        "learning_rate": row["lr"], "epoch": round(row["step"] / 100, 2),
    }  # fmt: skip


def test_transformers_between_states_of_its_bar(tmp_path: Path, rows: list[Row]) -> None:
    pytest.importorskip("transformers")
    from transformers.trainer_callback import ProgressCallback, TrainerState

    printed = io.StringIO(newline="")
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        for process in processes(rows):
            state = TrainerState(max_steps=500)
            state.is_world_process_zero = state.is_local_process_zero = True
            callback: Any = ProgressCallback()
            callback.on_train_begin(None, state, None)
            for row in process:
                state.global_step = row["step"]
                callback.on_step_end(None, state, None)
                callback.on_log(None, state, None, logs=logs(row))
            callback.on_train_end(None, state, None)
    check(read(tmp_path / "log", printed.getvalue()), rows)


def test_transformers_without_a_bar(tmp_path: Path, rows: list[Row]) -> None:
    pytest.importorskip("transformers")
    from transformers.trainer_callback import PrinterCallback, TrainerState

    state = TrainerState(max_steps=500)
    state.is_local_process_zero = True
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for row in rows:
            callback: Any = PrinterCallback()
            callback.on_log(None, state, None, logs=logs(row))
    log = read(tmp_path / "log", printed.getvalue())
    assert (log.placed, len(log)) == ("epoch", 230)
    assert [one.verdict.name for one in diagnose(log).diagnoses] == ["lost-optimizer"]


@pytest.mark.parametrize("duration", ["500ba", "2ep"])
def test_composer(tmp_path: Path, rows: list[Row], duration: str) -> None:
    pytest.importorskip("composer")
    from composer.core import Time, Timestamp
    from composer.loggers import ConsoleLogger

    printed = io.StringIO()
    logger: Any = ConsoleLogger(log_interval="1ba", stream=printed)
    for row in rows:
        step = row["step"]
        moment = Timestamp(epoch=step // 350, batch=step, batch_in_epoch=step % 350)
        state = types.SimpleNamespace(
            max_duration=Time.from_timestring(duration), timestamp=moment, dataloader_len=350
        )
        metrics = {
            "loss/train/total": row["loss"],
            "metrics/train/LanguageCrossEntropy": 1.01 * row["loss"],
            "l2_norm/grad/global": row["grad_norm"],
            "lr-DecoupledAdamW/group0": row["lr"],
            "time/batch": step,
        }
        logger.log_to_console(metrics, state, prefix="Train ")
    check(read(tmp_path / "log", printed.getvalue()), rows)


def test_olmo_core(tmp_path: Path, rows: list[Row], caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("olmo_core")
    from olmo_core.train.callbacks.console_logger import ConsoleLoggerCallback

    callback: Any = ConsoleLoggerCallback()
    callback._trainer = types.SimpleNamespace(
        training_progress=types.SimpleNamespace(time_remaining=None),
        max_steps=500, epoch=1, hard_stop=None,
    )  # fmt: skip
    with caplog.at_level("INFO"):
        for row in rows:
            metrics = {
                "train/CE loss": row["loss"], "train/Z loss": 0.001,
                "optim/LR (group 0)": row["lr"], "optim/total grad norm": row["grad_norm"],
                "throughput/device/TPS": 1000.0,
            }  # fmt: skip
            callback.log_metrics(row["step"], metrics)
    check(read(tmp_path / "log", "\n".join(caplog.messages) + "\n"), rows)


def test_lightnings_csv(tmp_path: Path, rows: list[Row]) -> None:
    pytest.importorskip("lightning")
    from lightning.pytorch.loggers import CSVLogger

    paths = []
    for number, process in enumerate(processes(rows)):
        logger = CSVLogger(str(tmp_path), name="run", version=number)
        for row in process:
            metrics = {"train_loss": row["loss"], "grad_norm": row["grad_norm"]}
            logger.log_metrics(metrics, step=row["step"])
            logger.log_metrics({"lr-AdamW": row["lr"]}, step=row["step"])
        logger.save()
        paths.append(str(Path(logger.log_dir) / "metrics.csv"))
    check(read_logs(paths), rows)


def test_lightnings_bar(tmp_path: Path, rows: list[Row]) -> None:
    pytest.importorskip("lightning")
    import lightning
    import torch
    from lightning.pytorch.callbacks import TQDMProgressBar

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, number: int) -> Any:
            row = rows[number]
            loss = self.linear(batch[0]).mean() * 0 + row["loss"]
            self.log("train_loss", loss, prog_bar=True)
            self.log("grad_norm", row["grad_norm"], prog_bar=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-3)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(100, 1)))
    printed = io.StringIO(newline="")
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_model_summary=False, callbacks=[TQDMProgressBar(refresh_rate=1)],
        ).fit(Module(), data)  # fmt: skip
    log = read(tmp_path / "log", printed.getvalue())
    assert log.steps == list(map(float, range(1, 201)))
    losses = [row["loss"] for row in rows[:100]] * 2
    assert log.columns["loss"] == pytest.approx(losses, abs=6e-3)
    assert diagnose(log).diagnoses == ()
