"""`dcpctl rename`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcpctl.cli.surgery_options import (
    OptimizerOfOption,
    Run,
    SourceArgument,
    TargetArgument,
    pairs_of,
    with_run,
)


@with_run
def rename(
    source: SourceArgument,
    target: TargetArgument = None,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OLD=NEW", help="Of a key, a parameter or a module.", show_default=False
        ),
    ] = None,
    prefix: Annotated[
        list[str] | None,
        typer.Option("--prefix", metavar="OLD=NEW", help="What names begin with; may be empty."),
    ] = None,
    regex: Annotated[
        list[str] | None,
        typer.Option(
            "--regex", metavar="PATTERN=NEW", help=r"Matched anywhere; \1 is its first group."
        ),
    ] = None,
    map_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--map", metavar="FILE", help="Names in a file: a JSON object, or OLD NEW a line."
        ),
    ] = None,
    keys_only: Annotated[
        bool, typer.Option("--keys-only", help="Leave the optimizer's names as they are.")
    ] = False,
    optimizer_of: OptimizerOfOption = None,
    *,
    run: Run,
) -> None:
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
    from dcpctl.model import rename_rules as rules
    from dcpctl.surgery.edits import Rename

    path, olds = run.destination(target, names, "" if prefix or regex or map_file else "OLD=NEW")
    made: list[rules.Rule] = [rules.literal(text) for text in olds]
    made += [rules.prefix(text) for text in prefix or ()]
    made += [rules.regex(text) for text in regex or ()]
    made += [rules.table(path) for path in map_file or ()]
    edit = Rename(tuple(made), keys_only, pairs_of(optimizer_of))
    run.carry_out("rename", source, path, [edit])
