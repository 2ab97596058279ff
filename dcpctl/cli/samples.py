"""`dcpctl samples`."""

from __future__ import annotations

import os
import shutil
from importlib import util
from pathlib import Path
from typing import Annotated, Any

import typer

from dcpctl.errors import ReadFailed, Refused, quote

#: Where they are written unless another directory is named: help's examples name it.
PLACE = Path("sample_checkpoints")
#: Where a built wheel has them (see `force-include` in pyproject.toml).
_PACKAGED = Path("_data/samples")
#: Makes the broken samples out of the others, which are packaged alone.
_RECIPE = "derived.py"


def samples(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="The directory to make. [default: sample_checkpoints]",
            show_default=False,
        ),
    ] = PLACE,
) -> None:
    """Write the sample checkpoints, so that the examples of each help run as they stand.

    They are small and real: healthy ones, a run that lost its optimizer, saves of old releases, and
    broken ones, such as one with a flipped bit or one whose .metadata would run a command. Training
    logs are among them. Nothing in them is executed by dcpctl.

    Examples:
      dcpctl samples out
      dcpctl inspect sample_checkpoints/healthy/step-8500
    """
    if directory.exists() or directory.is_symlink():
        raise Refused(f"{quote(directory)} exists", hint="name a directory that does not")
    source = _source()
    partial = directory.with_name(f".{directory.name}.partial-{os.getpid()}")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        _derive(source / _RECIPE, partial)
        partial.rename(directory)
    except OSError as error:
        raise ReadFailed(f"cannot write {quote(directory)}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    typer.echo(f"{directory}  written\n\n  dcpctl inspect {directory / 'healthy' / 'step-8500'}")


def _source() -> Path:
    """Where the samples lie: in the installed package, or in the clone that dcpctl runs from."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / _PACKAGED, package.parent / PLACE):
        if (place / _RECIPE).exists():
            return place
    raise ReadFailed("this installation has no samples", hint="pip install dcpctl brings them")


def _derive(recipe: Path, directory: Path) -> None:
    """Make the broken samples of those in `directory`."""
    spec = util.spec_from_file_location("dcpctl_samples", recipe)
    assert spec is not None
    assert spec.loader is not None
    made: Any = util.module_from_spec(spec)
    spec.loader.exec_module(made)
    made.HERE = directory
    made.main()
