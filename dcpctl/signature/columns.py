"""What people call the columns of a training log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from dcpctl.errors import UsageError, quote

STEP, LOSS, GRAD_NORM, LR = "step", "loss", "grad_norm", "lr"
THROUGHPUT, TIME, SESSION = "throughput", "time", "session"

#: Every quantity that is read, in the order of reports.
QUANTITIES = (STEP, LOSS, GRAD_NORM, LR, THROUGHPUT, TIME, SESSION)

#: Quantity to the names it goes by, the likeliest first, written as `_plain` writes them; wandb's
#: `_step` counts its own calls, and stands beside a step that the trainer counted. They are
#: those of torchtitan, Megatron, Hugging Face's Trainer, Lightning, OLMo, nanoGPT and wandb.
_NAMES: Mapping[str, tuple[str, ...]] = {
    STEP: ("step", "global_step", "train_global_step", "trainer_global_step", "train_step",
           "iteration", "iter", "steps", "n_iter", "update", "optimizer_step", "num_steps", "batch",
           "_step"),
    LOSS: ("loss", "train_loss", "training_loss", "lm_loss", "loss_train", "global_avg_loss",
           "loss_metrics_global_avg_loss", "train_loss_step", "loss_step", "train_lm_loss",
           "train_total_loss", "total_loss", "ce_loss", "train_ce_loss", "crossentropyloss",
           "train_crossentropyloss", "train_cross_entropy_loss", "lm_loss_training"),
    GRAD_NORM: ("grad_norm", "train_grad_norm", "gradient_norm", "gnorm", "total_grad_norm",
                "optim_total_grad_norm", "optim_grad_norm", "optimizer_grad_norm",
                "grad_norm_total", "global_grad_norm", "train_gradient_norm", "gradnorm",
                "grad_norm_step",
                "grad_2_0_norm_total", "grad_norm_before_clip", "train_total_grad_norm"),
    LR: ("lr", "learning_rate", "train_lr", "train_learning_rate", "optim_lr",
         "optim_learning_rate", "optim_learning_rate_group0", "lr_0", "lr_group_0", "lr_adamw",
         "lr_adam", "lr_adamw_pg1", "lr_adam_pg1", "lr_adamw_group_0", "optimizer_lr"),
    THROUGHPUT: ("throughput", "tokens_per_second", "tokens_per_sec", "tokens_s", "tok_s", "tps",
                 "throughput_tps", "train_tokens_per_second", "train_tokens_per_sec",
                 "throughput_tokens_per_sec", "throughput_device_tps", "samples_per_second",
                 "train_samples_per_second", "samples_per_sec", "steps_per_second",
                 "train_steps_per_second", "it_s", "iter_per_sec", "words_per_second", "wps"),
    TIME: ("time", "timestamp", "wall_time", "datetime", "date", "unix_time", "created_at",
           "_timestamp"),
    SESSION: ("session", "attempt", "restart", "restarts", "restart_count", "run_id", "job_id"),
}  # fmt: skip


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]+", "_", name.lower()).rstrip("_")


def parse_map(texts: Iterable[str]) -> dict[str, str]:
    """Return `--map loss=my/loss ...` as quantity -> column.

    Raises:
        UsageError: a text is no pair, or names no quantity.
    """
    found: dict[str, str] = {}
    for text in texts:
        quantity, equals, column = text.partition("=")
        if not equals or not column or quantity not in QUANTITIES:
            raise UsageError(
                f"--map takes QUANTITY=COLUMN, not {quote(text)}",
                hint=f"such as loss=my/loss; the quantities are {', '.join(QUANTITIES)}",
            )
        found[quantity] = column
    return found


def choose(columns: Iterable[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Say which column holds which quantity.

    Args:
        columns: the names in the log.
        mapping: quantity -> column, which goes before what is known.

    Returns:
        Quantity -> column, without the quantities that no column holds.
    """
    present = list(dict.fromkeys(columns))
    by_plain: dict[str, str] = {}
    for column in present:
        by_plain.setdefault(_plain(column), column)
    chosen = {quantity: column for quantity, column in mapping.items() if column in present}
    for quantity, names in _NAMES.items():
        if quantity not in mapping:
            name = next((name for name in names if name in by_plain), None)
            if name is not None:
                chosen[quantity] = by_plain[name]
    return chosen
