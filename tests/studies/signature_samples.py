"""Write the logs in `sample_checkpoints/logs`: `python -m tests.studies.signature_samples`.

The logs are those of real runs in the form of one tool or another. Times are made up: two seconds
a step, and half an hour between the processes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from tests.studies.signature_logs import Run, runs

LOGS = Path(__file__).resolve().parents[2] / "sample_checkpoints" / "logs"
START, STEP, PAUSE = 1_760_000_000, 2, 1_800
REGIME = "edge"


def the_run(scenario: str, regime: str = REGIME) -> Run:
    """Return the first recorded run of a scenario."""
    return next(run for run in runs() if run.scenario == scenario and run.regime == regime)


def timed(run: Run, *, abandoned: bool) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield process and row, with a time."""
    for number, (process, row) in enumerate(run.rows(abandoned=abandoned)):
        yield process, {**row, "time": START + STEP * number + PAUSE * process}


def write_json_lines(path: Path, run: Run) -> None:
    """Write rows as many write them by hand."""
    lines = [json.dumps(row) for _, row in timed(run, abandoned=True)]
    path.write_text("\n".join(lines) + "\n")


def write_csv(
    path: Path, run: Run, names: dict[str, str], *, abandoned: bool = False, later: int = 0
) -> None:
    """Write CSV; a process that appends to the file of another writes its header again.

    Args:
        path: the file.
        run: its rows.
        names: column -> the name that it gets.
        abandoned: with the rows that the first process wrote after its save.
        later: what is added to each step.
    """
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        last = -1
        for process, row in timed(run, abandoned=abandoned):
            if process != last:
                writer.writerow([names.get(name, name) for name in row])
                last = process
            writer.writerow({**row, "step": row["step"] + later}.values())


def write_console(path: Path, run: Run) -> None:
    """Write what torchtitan prints."""
    lines = [
        f"[titan] - root - INFO - step: {row['step']:2}  loss: {row['loss']:7.4f}  "
        f"grad_norm: {row['grad_norm']:7.4f}  memory:  1.02GiB(1.28%)  tps: 1,234  tflops: 10.43"
        for _, row in timed(run, abandoned=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def write_events(directory: Path, run: Run) -> None:
    """Write event files as TensorBoard's writer does, one for each process."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    directory.mkdir(exist_ok=True)
    writers: dict[int, RecordWriter] = {}
    for process, row in timed(run, abandoned=True):
        if process not in writers:
            began = int(row["time"])
            file = (directory / f"events.out.tfevents.{began}.node-0").open("wb")
            writers[process] = RecordWriter(file)
            first = Event(wall_time=began, file_version="brain.Event:2")
            writers[process].write(first.SerializeToString())
        for name, tag in (("loss", "train/loss"), ("grad_norm", "train/grad_norm"), ("lr", "lr")):
            value = Summary.Value(tag=tag, simple_value=row[name])
            event = Event(
                wall_time=row["time"], step=int(row["step"]), summary=Summary(value=[value])
            )
            writers[process].write(event.SerializeToString())
    for writer in writers.values():
        writer.close()


def main() -> None:
    """Write all samples."""
    LOGS.mkdir(exist_ok=True)
    write_json_lines(LOGS / "lost.jsonl", the_run("all of it"))
    write_csv(LOGS / "healthy.csv", the_run("exact"), {}, abandoned=True)
    # A reset that its log does not show, at the step of the one in the samples of `silent_reset`.
    lost = the_run("all of it, other data order", "calm")
    write_csv(LOGS / "unseen.csv", lost, {}, later=9_001 - lost.resume)
    write_csv(
        LOGS / "named.csv",
        the_run("all gradients have the wrong sign"),
        {"loss": "my/loss", "grad_norm": "gnorm", "step": "update"},
    )
    write_console(LOGS / "titan.log", the_run("a tenth of the targets is noise"))
    write_events(LOGS / "tensorboard", the_run("all of it"))


if __name__ == "__main__":
    main()
