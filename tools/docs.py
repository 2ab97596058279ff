"""Check the README against the program: `python -m tools.docs [--update]`.

Every command must have a section, every console example must print what it shows, every link into
the tree must lead somewhere, and every sample must be in the table. `--update` writes the examples
anew instead of comparing them.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from pathlib import Path

from tools import console

REPOSITORY = Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"


def command_names() -> list[str]:
    """Return the names of the CLI's visible commands."""
    from typer.main import get_command

    from dcpctl.cli.app import app

    commands = getattr(get_command(app), "commands", {})
    return sorted(name for name, command in commands.items() if not command.hidden)


def missing_sections(markdown: str) -> list[str]:
    """Return a problem for each command without a section of its own in the document."""
    return [
        f"no section '## dcpctl {name}'"
        for name in command_names()
        if not re.search(rf"^##+ `?dcpctl {name}`?", markdown, re.MULTILINE)
    ]


def broken_links(markdown: str) -> list[str]:
    """Return a problem for each link to a file of the tree that is not there."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", markdown)
    return [f"link to {t}, which is not there" for t in targets if not (REPOSITORY / t).exists()]


def sample_names() -> list[str]:
    """Return each sample's path below `sample_checkpoints`, as its truth file names it."""
    root = REPOSITORY / "sample_checkpoints"
    known = [p.relative_to(root).as_posix() for p in root.rglob("*.expected.json")]
    derived = ["interrupted", "flipped_bit", "hostile"]
    return sorted(name.removesuffix(".expected.json") for name in known) + derived


def unlisted_samples(markdown: str) -> list[str]:
    """Return a problem for each committed sample that the document does not name."""
    return [f"sample {name} is not in the table" for name in sample_names() if name not in markdown]


def wrong_examples(markdown: str, outputs: dict[int, list[str]]) -> list[str]:
    """Run the examples; return a problem for each that prints something else.

    Args:
        markdown: the document.
        outputs: filled with what each wrong example printed, by its line number.
    """
    problems = []
    found = console.examples(markdown)
    with console.shell(REPOSITORY) as environment:
        for example in found:
            printed = console.run(example, REPOSITORY, environment)
            if not console.matches(example.shown, printed):
                outputs[example.line] = printed
                diff = difflib.unified_diff(
                    example.shown, printed, "README.md", "printed", lineterm="", n=1
                )
                problems.append(f"line {example.line}: $ {example.command}\n  " + "\n  ".join(diff))
    print(f"README: {len(found)} examples run, {len(problems)} wrong")
    return problems


def main() -> int:
    """Check, or update; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the examples' output anew")
    update = parser.parse_args().update
    markdown = README.read_text()
    outputs: dict[int, list[str]] = {}
    wrong = wrong_examples(markdown, outputs)
    if update and outputs:
        README.write_text(console.rewritten(markdown, outputs))
        print(f"README: {len(outputs)} examples written anew")
        wrong = []
    problems = [
        *missing_sections(markdown),
        *broken_links(markdown),
        *unlisted_samples(markdown),
        *wrong,
    ]
    for problem in problems:
        print("README:", problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
