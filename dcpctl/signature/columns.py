"""What the columns of a training log hold, told by the words in their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from dcpctl.errors import UsageError, printable, quote

STEP, LOSS, GRAD_NORM, LR = "step", "loss", "grad_norm", "lr"
THROUGHPUT, TIME, SESSION, EPOCH = "throughput", "time", "session", "epoch"

#: Every quantity that is read, in the order of reports.
QUANTITIES = (STEP, LOSS, GRAD_NORM, LR, THROUGHPUT, TIME, SESSION, EPOCH)

#: What the counter of a progress bar is called, which has no name of its own.
PROGRESS = "N/M of the progress bar"

#: `TotalGradNorm` -> Total, Grad, Norm; `lr-AdamW/pg1` -> lr, Adam, W, pg, 1; `LR` -> LR.
_WORDS = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
#: Longest name that is looked at.
_LONGEST = 300


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EVALUATION = _words(
    "eval evals evaluation evaluate validation validate valid val dev test heldout"
)
#: Words that make a quantity another one: a loss scale is no loss, seconds per step are no step.
_NOT_STEP = _words(
    "time timing timer duration elapsed seconds second secs sec s ms per size tokens token samples "
    "sample loss lr rate grad gradient norm max min total remaining left eta skipped skip nan "
    "number interval freq every warmup speed data length len seq flops mfu resume resumed from "
    "micro accumulation acc metrics memory offset worker rank"
)
_NOT_LOSS = _words(
    "scale scaler scaling aux auxiliary z balancing balance balanced router kl weight weights "
    "coef coefficient mask sum std var variance min max minimum maximum best delta diff ratio "
    "count num vf value critic distill distillation mtp spike spikes change target ppl perplexity "
    "entropy accuracy acc skipped nan"
)
_NOT_NORM = _words(
    "max min std var ratio after clipped zeros zero num param params parameter parameters weight "
    "weights update moment embedding embed head layer layers block bias clips threshold "
    "coef skipped"
)
_NOT_LR = _words("loss norm grad min max warmup decay scale mult multiplier")
_NOT_THROUGHPUT = _words("flops tflops tflop flop mfu hfu max min loss time day total eta memory")
#: Words that say what everybody means anyway.
_PLAIN = _words(
    "train training trainer global avg average mean reduced lm out metrics metric optim optimizer "
    "log perf stats progress"
)
_STEPS = _words("step steps iter iters iteration iterations update updates batch ba")
_TIMES = _words("time timestamp wall unix datetime date created at utc clock asctime")
_SESSIONS = _words("session attempt restart restarts")
_COUNTED = _words("tokens token tok toks samples sample sequences words steps it iter")
_SECONDS = _words("s sec secs second seconds")


@lru_cache(maxsize=4096)
def meaning(name: str) -> tuple[str, float] | None:
    """Return the quantity that a column holds, as far as its name says, and how sure that is.

    Returns:
        Quantity and cost: 0 for the plain name, more with each word that nothing needs. None where
        the name is of nothing that is read, or of an evaluation.
    """
    if name == PROGRESS:
        return STEP, 8.0
    # Exports of Weights & Biases put the run before the name: `glad-fire-7 - train/loss`.
    words = [word.lower() for word in _WORDS.findall(name[-_LONGEST:].rpartition(" - ")[2])]
    if not words or not _EVALUATION.isdisjoint(words):
        return None
    cost = 0.25 * name.startswith("_")  # wandb's own count, beside that of the trainer
    found = [
        (quantity, cost + extra)
        for quantity, rank in _RANKS.items()
        if (extra := rank(words)) is not None
    ]
    return min(found, key=lambda one: one[1], default=None)


def _extra(words: Iterable[str], *needed: frozenset[str] | str) -> float:
    """Cost of the words that a name has besides those that it needs."""
    cost = 0.0
    for word in words:
        if word in needed or any(word in some for some in needed if isinstance(some, frozenset)):
            continue
        cost += 0.1 if word in _PLAIN else 0.0 if word == "0" else 1.0
    return cost


def _step(words: list[str]) -> float | None:
    # `time/batch` is Composer's count of batches; `batch_time` is a duration.
    counted = words[1:] if words[0] == "time" and len(words) > 1 else words
    if _STEPS.isdisjoint(counted) or not _NOT_STEP.isdisjoint(counted):
        return None
    if "epoch" in counted and "in" in counted:
        return None  # `batch_in_epoch` begins again with each
    cost = _extra(words, _STEPS, "global", "n", "num", "current", "curr")
    cost += 0.0 if not {"step", "steps"}.isdisjoint(counted) else 0.05
    return cost + (1.0 if not {"batch", "ba"}.isdisjoint(counted) else 0.0)


def _loss(words: list[str]) -> float | None:
    words = [part for word in words for part in _split_loss(word)]
    crossed = "ce" in words or "crossentropy" in words or "cross" in words
    if "loss" not in words and not (crossed and "entropy" in words) and "nll" not in words:
        return None
    if not (_NOT_LOSS - ({"entropy"} if crossed else set())).isdisjoint(words):
        return None
    if "total" in words and crossed:
        return None
    needed = _words("loss total step ce cross entropy nll crossentropy")
    cost = _extra(words, needed) + (0.5 if "loss" not in words else 0.0)
    # A mean over the ranks is what is wanted; `loss` beside it is that of one, or smoothed.
    cost -= 0.4 if "reduced" in words or {"global", "avg"} <= set(words) else 0.0
    # Means over an epoch, or smoothed, blur what happens at a resume.
    return cost + 2.0 * len({"epoch", "smooth", "smoothed", "ema", "running"}.intersection(words))


def _split_loss(word: str) -> tuple[str, ...]:
    if word.endswith("loss") and word != "loss":
        return (*_split_loss(word[:-4]), "loss")
    return ("cross", "entropy") if word == "crossentropy" else (word,) if word else ()


def _grad_norm(words: list[str]) -> float | None:
    joined = not {"gradnorm", "gnorm", "gradientnorm"}.isdisjoint(words)
    gradient = not {"grad", "grads", "gradient", "gradients"}.isdisjoint(words)
    if not joined and not (gradient and ("norm" in words or "l" in words)):
        # lingua calls it `grad`.
        return 2.0 if gradient and len(words) == 1 else None
    if not _NOT_NORM.isdisjoint(words) or ("clip" in words and "before" not in words):
        return None
    if any(word.isdigit() and word not in "02" for word in words):
        return None  # of one layer
    needed = _words("gradnorm gnorm gradientnorm grad grads gradient gradients norm total l 2")
    return _extra(words, needed, "before", "clip", "step")


def _lr(words: list[str]) -> float | None:
    named = "lr" in words or ("learning" in words and "rate" in words)
    if not named or not _NOT_LR.isdisjoint(words):
        return None
    return 0.5 * _extra(words, _words("lr learning rate group pg"))


def _throughput(words: list[str]) -> float | None:
    if not _NOT_THROUGHPUT.isdisjoint(words):
        return None
    told = not {"throughput", "tps", "wps", "sps", "tgs"}.isdisjoint(words)
    rate = not _COUNTED.isdisjoint(words) and not _SECONDS.isdisjoint(words)
    if not told and not rate:
        return None
    needed = _words("throughput tps wps sps tgs per gpu device")
    return 0.5 * _extra(words, needed, _COUNTED, _SECONDS)


def _time(words: list[str]) -> float | None:
    if not set(words) <= _TIMES or words in (["at"], ["created"], ["clock"]):
        return None
    return 0.0 if "timestamp" in words or "time" not in words or len(words) > 1 else 0.2


def _session(words: list[str]) -> float | None:
    if len(words) == 1 and words[0] in _SESSIONS:
        return 0.0
    if words in (["restart", "count"], ["run", "id"], ["job", "id"], ["session", "id"]):
        return 0.0
    return None


def _epoch(words: list[str]) -> float | None:
    return _extra(words, "epoch") if "epoch" in words and len(words) <= 2 else None


_RANKS = {
    STEP: _step, LOSS: _loss, GRAD_NORM: _grad_norm, LR: _lr,
    THROUGHPUT: _throughput, TIME: _time, SESSION: _session, EPOCH: _epoch,
}  # fmt: skip


def named_columns(names: Iterable[str]) -> str:
    """Return the first columns of a log for a message."""
    few = list(dict.fromkeys(names))
    if not few:
        return "there are no columns"
    return f"the columns are {', '.join(printable(name[:80]) for name in few[:12])}" + (
        f" and {len(few) - 12:,} more" if len(few) > 12 else ""
    )


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
