"""Check the README and the help against the program: `python -m tools.docs [--update]`.

Every command must have a section, every console and Python example must print what it shows, every
link into the tree must lead somewhere, and every sample must be in the table. `--update` writes the
console examples anew instead of comparing them. The examples in the commands' own help are run too.
"""

from __future__ import annotations

import argparse
import difflib
import doctest
import io
import os
import re
import sys
from pathlib import Path

from tools import console

REPOSITORY = Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"


def command_helps() -> dict[str, str]:
    """Return the CLI's visible commands, name -> help text."""
    from typer.main import get_command

    from dcpctl.cli.app import app

    commands = getattr(get_command(app), "commands", {})
    return {name: c.help or "" for name, c in sorted(commands.items()) if not c.hidden}


def missing_sections(markdown: str) -> list[str]:
    """Return a problem for each command without a section of its own in the document."""
    return [
        f"no section '## dcpctl {name}'"
        for name in command_helps()
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
    with console.shell(REPOSITORY) as environment, console.workplace(REPOSITORY) as place:
        for example in found:
            printed = console.run(example, place, environment)
            if not console.matches(example.shown, printed):
                outputs[example.line] = printed
                diff = difflib.unified_diff(
                    example.shown, printed, "README.md", "printed", lineterm="", n=1
                )
                problems.append(f"line {example.line}: $ {example.command}\n  " + "\n  ".join(diff))
    print(f"README: {len(found)} examples run, {len(problems)} wrong")
    return problems


def wrong_help_examples() -> list[str]:
    """Run the examples in the commands' help; return a problem for each that does not work.

    An example is a line of the help that begins with `dcpctl `, after `$ ` or not. It must exit
    with 0 or, where the answer is no, with 1.
    """
    problems = []
    with console.shell(REPOSITORY) as environment:
        for name, text in command_helps().items():
            found = re.findall(r"^\s*(?:\$ )?(dcpctl .*)$", text, re.MULTILINE)
            if not found:
                problems.append(f"the help of {name} has no example")
            with console.workplace(REPOSITORY) as place:
                for command in found:
                    asked = console.Example(0, command + ' >/dev/null; echo "exit $?"', [])
                    printed = console.run(asked, place, environment)
                    if printed[-1] not in ("exit 0", "exit 1"):
                        problems.append(f"help of {name}: $ {command}\n  " + "\n  ".join(printed))
    return problems


def wrong_sessions(markdown: str) -> list[str]:
    """Run the `pycon` blocks in the repository; return a problem for each that prints otherwise."""
    problems = []
    before = Path.cwd()
    os.chdir(REPOSITORY)  # the sessions name samples as a reader in the repository would
    try:
        for match in re.finditer(r"^```pycon\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL):
            line = markdown.count("\n", 0, match.start())
            session = doctest.DocTestParser().get_doctest(match[1], {}, "README.md", None, line)
            report = io.StringIO()
            runner = doctest.DocTestRunner(verbose=False)
            runner.run(session, out=report.write)
            if runner.failures:
                problems.append(f"line {line + 1}: {report.getvalue()}")
    finally:
        os.chdir(before)
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
        *wrong_sessions(markdown),
        *wrong_help_examples(),
        *wrong,
    ]
    for problem in problems:
        print("docs:", problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
