"""`rename`: other names for keys, parameters and modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcpctl.model.rename_rules import (
    Literal,
    Prefix,
    Rule,
    compiled,
    literal,
    prefix,
    regex,
    table,
)
from dcpctl.surgery.options import OPTIMIZER_OF, Option, flag, given, pairs, paths
from dcpctl.surgery.verbs import Open, Verb

if TYPE_CHECKING:
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Rename(Verb):
    r"""Rename keys, parameters and modules, everywhere they are named.

    A parameter's new name goes to its optimizer state, to params lists, to flattened and pickled
    param groups, to averages and to the planner data. A name is a whole key or a parameter's name
    within its model; OLD=NEW also renames all that lies below OLD at a dot. Rules apply one after
    the other: names, prefixes, expressions, maps; the names of one map file all at once. A model
    that moves as a whole (model. to net.) keeps the names of its parameters. Two keys that would
    become one are refused.

    Examples:
      dcpctl rename sample_checkpoints/healthy/step-8500 out/embed tok_embeddings=embed
      dcpctl rename sample_checkpoints/healthy/step-8500 out/net --prefix model.=net.
      dcpctl rename sample_checkpoints/legacy out/blocks --regex 'layers\.(\d+)=blocks.\1'
      dcpctl rename out/blocks norm=final_norm --in-place
    """

    verb = "rename"
    order = 30
    needs = ("rules",)

    rules: tuple[Rule, ...] = given(
        Option(
            (),
            pairs(literal, Literal),
            metavar="OLD=NEW",
            help="Of a key, a parameter or a module.",
            key="names",
            step="A key, parameter or module.",
        ),
        Option(
            ("--prefix",),
            pairs(prefix, Prefix),
            metavar="OLD=NEW",
            help="What names begin with; may be empty.",
            key="prefix",
            step="What names begin with.",
        ),
        Option(
            ("--regex",),
            pairs(regex, compiled),
            metavar="PATTERN=NEW",
            help=r"Matched anywhere; \1 is its first group.",
            key="regex",
            step="Matched anywhere.",
        ),
        Option(
            ("--map",),
            paths(table),
            metavar="FILE",
            help="Names in a file: a JSON object, or OLD NEW a line.",
            key="map",
            step="Names in a file.",
        ),
    )
    keys_only: bool = given(
        Option(
            ("--keys-only",),
            flag(),
            help="Leave the optimizer's names as they are.",
            key="keys_only",
        )
    )
    optimizer_of: tuple[tuple[str, str], ...] = given(OPTIMIZER_OF)

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit, as `names.renamer.rename` does."""
        from dcpctl.surgery.names.renamer import rename

        return rename(draft, self.rules, keys_only=self.keys_only)
