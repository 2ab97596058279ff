"""FQNs that would do something to a terminal, a table, a JSON document or a cache."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.draft import STEP, healthy
from tests.hostile.registry import case


def _named(directory: Path, *names: str) -> None:
    """Write a healthy draft with a tensor and a bytes entry of each name."""
    draft = healthy()
    for name in names:
        draft.tensor(name, (2,))
        draft.value(name + ".value", STEP)
    draft.write(directory)


@case()
def names_with_escape_codes(directory: Path) -> None:
    _named(directory, "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "bell\x07")


@case()
def names_with_rich_markup(directory: Path) -> None:
    _named(
        directory, "[red]w[/red]", "[/]", "[link=file:///etc/passwd]x[/link]", "[bold", ":smile:"
    )


@case()
def names_with_newlines(directory: Path) -> None:
    _named(directory, "a\nDCP103 error forged", "b\r", "c\x0b\x0c\x1c\x85\u2028", "\t")


@case()
def names_that_reverse_the_line(directory: Path) -> None:
    _named(directory, "\u202egnp.exe", "\u2066x\u2069", "\u200b", "\ufeff")


@case()
def names_with_surrogates(directory: Path) -> None:
    _named(directory, "\ud800", "a\udcffb")


@case()
def names_with_nul_and_slashes(directory: Path) -> None:
    _named(directory, "a\0b", "../../etc/passwd", "/abs", "")


@case()
def names_of_workflow_commands_and_html(directory: Path) -> None:
    _named(directory, "::error::forged", "<script>alert(1)</script>", "%0A::set-output", "|`x`|")


#: What rules look for in a name, and what may stand between.
_WORDS = "rank rank0 world_size dataloader epoch consumed tokens_seen layers.0 module rng_state ema"


@case()
def names_of_one_word_ten_thousand_times(directory: Path) -> None:
    """An expression that begins anew at each of them takes time with the square of that."""
    _named(
        directory,
        *(
            separator.join([word] * 10_000) + end
            for word in _WORDS.split()
            for separator, end in (("_", "-"), (".", "!"), ("", "_"))
        ),
    )


@case()
def name_of_a_megabyte(directory: Path) -> None:
    _named(directory, "n" * 1_000_000)


@case()
def names_of_a_thousand_dots(directory: Path) -> None:
    _named(directory, "." * 1000, "a." * 5000)


@case()
def names_like_optimizer_state_with_huge_numbers(directory: Path) -> None:
    _named(
        directory,
        "optimizer.state." + "9" * 5000 + ".exp_avg",
        "optimizer.param_groups." + "9" * 5000 + ".lr",
        "optimizer.state.\u0663.exp_avg",
        "optimizer.param_groups.-1.params",
    )


@case()
def names_that_collide_as_paths(directory: Path) -> None:
    _named(directory, "a", "a.b", "a.b.c", "a..b", ".a", "a.")
