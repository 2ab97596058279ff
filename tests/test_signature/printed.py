"""How frameworks print a step: the format strings of their loggers, filled with a row.

Each function stands for one logger; its docstring names the file that the format comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

Row = dict[str, float]
Printer = Callable[[Row], str]

#: A bar as tqdm draws it, to 500 steps.
_BAR = "{share:3.0f}%|{full}{empty}| {n}/500 [00:10<00:10,  1.20it/s{more}]"


def bar(n: int, more: str = "") -> str:
    """A state of tqdm's bar."""
    full = n // 50
    return _BAR.format(share=n / 5, full="█" * full, empty=" " * (10 - full), n=n, more=more)


def torchtitan(row: Row) -> str:
    """torchtitan/components/metrics.py, `MetricsProcessor.log`, with the colours of its `Color`."""
    return (
        f"[titan] 2026-07-01 10:00:00,587 - root - INFO - \x1b[31mstep: {row['step']:2}  "
        f"\x1b[32mloss: {row['loss']:8.5f}  \x1b[38;2;180;60;0mgrad_norm: {row['grad_norm']:7.4f}  "
        f"\x1b[38;2;54;234;195mmemory: {1:5.2f}GiB({1:.2f}%)  \x1b[34mtps: {1000:,}  "
        f"\x1b[36mtflops: {0.72:,.2f}  \x1b[35mmfu: {0.23:.2f}%\x1b[39m\n"
    )


def transformers_printer(row: Row) -> str:
    """transformers/trainer_callback.py, `PrinterCallback.on_log` of 5.x: values are texts."""
    return str(_trainer(row, lambda value: f"{value:.4g}")) + "\n"


def transformers_numbers(row: Row) -> str:
    """The same of 4.x: values are numbers."""
    return str(_trainer(row, lambda value: round(value, 4))) + "\n"


def _trainer(row: Row, shown: Callable[[float], object]) -> dict[str, object]:
    return {
        "loss": shown(row["loss"]), "grad_norm": shown(row["grad_norm"]),
        "learning_rate": shown(row["lr"]), "epoch": shown(row["step"] / 100),
    }  # fmt: skip


def transformers_bar(row: Row) -> str:
    """`ProgressCallback.on_log`: tqdm wipes its bar, writes the dict, and draws the bar again."""
    before, drawn = bar(int(row["step"]) - 1), bar(int(row["step"]))
    return f"\r{before}\r{' ' * len(drawn)}\r{transformers_printer(row)}\r{drawn}"


def swift(row: Row) -> str:
    """swift/trainers/callback.py of ms-swift, `ProgressCallbackNew.on_log`."""
    more = {"global_step/max_steps": f"{row['step']:.0f}/500", "elapsed_time": "1h 2m",
            "train_speed(s/it)": "0.83"}  # fmt: skip
    return str({**_trainer(row, lambda value: round(value, 4)), **more}) + "\n"


def automodel(row: Row) -> str:
    """nemo_automodel/recipes/llm/train_ft.py, `log_train_metrics`."""
    return (
        f"2026-07-01 10:00:00 | INFO | root | step {row['step']} | epoch 0 | "
        f"loss {row['loss']:.4f} | grad_norm {row['grad_norm']:.4f} | lr {row['lr']:.2e} | "
        "mem 1.00 GiB | tps 1000.00(1000.00/gpu) | num_label_tokens 4096\n"
    )


def composer(row: Row) -> str:
    """composer/loggers/console_logger.py, `log_to_console`, for a duration in batches."""
    return f"[batch={row['step']}/500]:\n" + _composer(row)


def composer_epochs(row: Row) -> str:
    """The same for a duration in epochs, of 350 batches each."""
    epoch, batch = divmod(int(row["step"]) - 1, 350)
    return f"[epoch={epoch + 1}][batch={batch + 1}/350]:\n" + _composer(row)


def _composer(row: Row) -> str:
    return (
        f"\t Train loss/train/total: {row['loss']:.4f}\n"
        f"\t Train metrics/train/LanguageCrossEntropy: {1.01 * row['loss']:.4f}\n"
        f"\t Train l2_norm/grad/global: {row['grad_norm']:.4f}\n"
        f"\t Train lr-DecoupledAdamW/group0: {row['lr']:.4f}\n"
        f"\t Train throughput/tokens_per_sec: 1000.0000\n\t Train time/batch: {row['step']}\n"
        "[Eval batch=1/10] Eval on eval data\n[Eval batch=10/10] Eval on eval data:\n"
        "\t Eval metrics/eval/LanguageCrossEntropy: 1.2000\n"
    )


def olmo_core(row: Row) -> str:
    """olmo_core/train/callbacks/console_logger.py, `ConsoleLoggerCallback.log_metrics`."""
    return (
        "2026-07-01 10:00:00.587\tnode:0\tolmo_core.train.callbacks.console_logger:93\tINFO\t"
        f"[step={row['step']}/500,epoch=1,eta=1h 2m]\n    train/CE loss={row['loss']:.4f}\n"
        f"    train/PPL={2.718 ** row['loss']:.3f}\n    train/Z loss=0.0010\n"
        f"    optim/total grad norm={row['grad_norm']:.4f}\n"
        f"    optim/LR (group 0)={row['lr']:.4f}\n"
        "    optim/step skipped=0.0\n    throughput/device/TPS=1,000\n"
    )


def fms_fsdp(row: Row) -> str:
    """fms_fsdp/utils/train_utils.py, `train`."""
    return (
        f"step: {row['step']}\nloss: {row['loss']}\nLR: {row['lr']}\ntokens seen: 4096\n"
        f"gradient norm: {row['grad_norm']}\nreserved memory: 4096\nallocated memory: 4096\n"
        "current step time: 0.8\noverall step time: 0.8\ncurrent token per gpu per sec: 1000\n"
        "overall token per gpu per sec: 1000\noverall token per day: 86400000\n"
    )


def torchtune(row: Row) -> str:
    """torchtune/training/metric_logging.py, `StdoutLogger.log_dict` and `DiskLogger`."""
    return (
        f"Step {row['step']} | loss:{row['loss']} lr:{row['lr']} "
        f"tokens_per_second_per_gpu:1000.5 grad_norm:{row['grad_norm']} \n"
    )


def prime_rl(row: Row) -> str:
    """src/prime_rl/trainer/sft/train.py, `step_message`, through loguru."""
    return (
        f"\x1b[32m10:00:00\x1b[0m \x1b[32mSUCCESS\x1b[0m Step {row['step']} | Time: 0.83s | "
        f"Loss: {row['loss']:.4f} | Grad. Norm: {row['grad_norm']:.4f} | LR: {row['lr']:.2e} | "
        "Throughput: 1000 tokens/s | MFU: 10.0% | Peak Mem.: 1.0/80.0 GiB (1.2%)\n"
    )


def prime_rl_new(row: Row) -> str:
    """The same since its pairs have no colons."""
    return (
        f"10:00:00 SUCCESS Step {row['step']} |   0.83s | Loss {row['loss']:.4f} | "
        f"Grad. Norm {row['grad_norm']:.4f} | LR {row['lr']:.2e} | Throughput 1000 tokens/s | "
        "MFU 10.0% | Peak Mem. 1.0/80.0 GiB (1.2%)\n"
    )


def nemo(row: Row) -> str:
    """nemo/lightning/pytorch/callbacks/progress_printer.py, `on_train_batch_end`."""
    return (
        f"Training epoch 0, iteration {row['step']}/499 | lr: {row['lr']:.4g} | "
        f"global_batch_size: 8 | global_step: {row['step']} | max_memory_reserved: 4096 | "
        f"reduced_train_loss: {row['loss']:.4g} | grad_norm: {row['grad_norm']:.4g} | "
        "train_step_timing in s: 0.8 | consumed_samples: 2400\n"
    )


def nemo_bar(row: Row) -> str:
    """The bar of NeMo 1, with metrics beside it."""
    more = (
        f", loss=2.43, v_num=5563, reduced_train_loss={row['loss']:.3f}, "
        f"gradient_norm={row['grad_norm']:.3f}, global_step={row['step']:.1f}, lr={row['lr']}"
    )
    return f"\rEpoch 0: {bar(int(row['step']), more)}"


def lingua(row: Row) -> str:
    """apps/main/train.py of lingua; `iter` is a duration."""
    return (
        f"0: INFO    26-07-01 10:00:00.587 - 0:00:10 - step: {row['step']}  acc: 0  "
        f"loss: {round(row['loss'], 4):>7}  grad: {row['grad_norm']:.2e}  flops: 1.00e+14  "
        f"wps: 1.00e+03  iter:  0.8321  data: 0.001  lr: {row['lr']:.2e}  mem: 1%  pow: 300.0 W\n"
    )


def megatron(row: Row) -> str:
    """megatron/training/training.py, `training_log`."""
    return (
        f" [2026-07-01 10:00:00.587123] iteration {row['step']:8d}/{500:8d} | "
        f"consumed samples: {4096:12d} | elapsed time per iteration (ms): 830.1 | "
        f"throughput per GPU (TFLOP/s/GPU): 100.0 | learning rate: {row['lr']:.6E} | "
        f"global batch size:   256 | lm loss: {row['loss']:.6E} | loss scale: 1.0 | "
        f"load_balancing_loss: 1.0E+00 | grad norm: {row['grad_norm']:.3f} | "
        "number of skipped iterations:   0 | number of nan iterations:   0 |\n"
    )


def verl(row: Row) -> str:
    """verl/utils/logger/aggregate_logger.py, `concat_dict_to_str`, of a NumPy 2 scalar."""
    return (
        f"\x1b[36m(TaskRunner pid=123)\x1b[0m step:{row['step']} - "
        f"train/loss:np.float64({row['loss']}) - train/grad_norm:{row['grad_norm']} - "
        f"train/lr(1e-3):{1000 * row['lr']} - train/global_tokens:4096\n"
    )


def lightning_bar(row: Row) -> str:
    """lightning's `TQDMProgressBar`: the bar is drawn with the metrics before, and with its own."""
    epoch, batch = divmod(int(row["step"]) - 1, 350)
    drawn = (
        f"\rEpoch {epoch}:  50%|█████     | {batch + 1}/350 [00:10<00:10, 28.10it/s, v_num=0, "
        "train_loss_step={loss}, grad_norm={norm}]"
    )
    return drawn.format(loss=9.0, norm=9.0) + drawn.format(
        loss=f"{row['loss']:.3f}", norm=f"{row['grad_norm']:.3f}"
    )


def nanogpt(row: Row) -> str:
    """nanoGPT's train.py, with the evaluation that it prints beside."""
    said = (
        f"step {row['step']}: train loss 1.7000, val loss 1.8000\n"
        if row["step"] % 100 == 0
        else ""
    )
    return said + f"iter {row['step']}: loss {row['loss']:.4f}, time 12.00ms, mfu 3.20%\n"


def litgpt(row: Row) -> str:
    """litgpt/pretrain.py."""
    return (
        f"Epoch 1 | iter {4 * row['step']} step {row['step']} | loss train: {row['loss']:.3f}, "
        "val: n/a | iter time: 500.00 ms (step) remaining time: 1:02:03\n"
    )


def deepspeed(row: Row) -> str:
    """deepspeed/runtime/pipe/engine.py, `train_batch`."""
    return (
        f"steps: {row['step']} loss: {row['loss']:0.4f} iter time (s): 0.832 samples/sec: 20.012\n"
    )


def fairseq(row: Row) -> str:
    """fairseq/logging/progress_bar.py, `SimpleProgressBar`."""
    return (
        f"2026-07-01 10:00:00 | INFO | train_inner | epoch 001:    {row['step']} / 500 "
        f"loss={row['loss']:.3f}, ppl=3.5, wps=1000.0, ups=1.2, wpb=4096, bsz=8, "
        f"num_updates={row['step']}, lr={row['lr']:g}, gnorm={row['grad_norm']:.3f}, wall=10\n"
    )


def plain(row: Row) -> str:
    """What people print themselves."""
    return (
        f"step {row['step']}: loss={row['loss']:.4f} grad_norm={row['grad_norm']:.4f} lr=1.5e-1\n"
    )


PRINTERS: tuple[Printer, ...] = (
    torchtitan, transformers_bar, swift, automodel, composer, composer_epochs, olmo_core, fms_fsdp,
    torchtune, prime_rl, prime_rl_new, nemo, nemo_bar, lingua, megatron, verl, lightning_bar,
    nanogpt, litgpt, deepspeed, fairseq, plain,
)  # fmt: skip
#: Those that print no step: their epoch says where they are.
EPOCHS: tuple[Printer, ...] = (transformers_printer, transformers_numbers)


def printed(rows: list[Row], printer: Printer) -> Iterator[str]:
    """Yield a log as a framework prints it, with what else stands in the output of a job."""
    yield "W0701 10:00:00.000000 123 torch/distributed/run.py:766] ****\n"
    yield "Loading 12 shards in 3.4s\n"
    for number, row in enumerate(rows):
        if number and row["step"] <= rows[number - 1]["step"]:
            yield "\nSaving the checkpoint took 1.25 seconds.\nTraining starts at step 400\n"
        yield printer({**row, "step": int(row["step"])})
    yield "\nTraining completed\n"
