"""Check the documentation against the program: `python -m tools.docs [--update | --made]`.

The documentation is README.md and the pages in docs/. Every command must have a page, every console
and Python example must print what it shows, every link must lead somewhere, every sample must be in
the table of samples, and what is made from the program (`tools.reference`) must be what the program
makes. The examples in the commands' own help are run too. `--update` writes the console examples
and the made parts anew instead of comparing them, `--made` the made parts alone. `--site DIR`
builds the site.
"""

from __future__ import annotations

import argparse
import difflib
import doctest
import io
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tools import console, reference, site

REPOSITORY = Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"
PAGES = REPOSITORY / "docs"
#: A page that must name every sample.
SAMPLES_PAGE = PAGES / "samples.md"
#: Lines that the README may have: it is what a newcomer reads to the end.
README_LINES = 250


@dataclass
class Document:
    """A page, and what was found wrong with it.

    Attributes:
        path: the file.
        text: what is in it.
        problems: a sentence for each thing that is wrong.
        outputs: line number of a wrong example -> what it printed.
    """

    path: Path
    text: str
    problems: list[str] = field(default_factory=list)
    outputs: dict[int, list[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's path in the repository."""
        return self.path.relative_to(REPOSITORY).as_posix()


def documents() -> list[Document]:
    """Return the README and the pages."""
    return [Document(path, path.read_text()) for path in (README, *sorted(PAGES.rglob("*.md")))]


def missing_pages() -> Iterator[str]:
    """Yield a problem for each command without a page of its own."""
    directory = PAGES / "reference"
    for name in reference.command_helps():
        page = directory / f"{name}.md"
        text = page.read_text() if page.exists() else ""
        for part in ("help", "options"):
            if f"<!-- made: {part} {name} -->" not in text:
                yield f"docs/reference/{name}.md has no part '<!-- made: {part} {name} -->'"


def broken_links(path: Path, markdown: str) -> Iterator[str]:
    """Yield a problem for each link to a file or a heading of the tree that is not there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", console.without_code(markdown)):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", name):
            continue
        file = (path.parent / name) if name else path
        if not file.exists():
            yield f"link to {target}, which is not there"
        elif anchor and anchor not in _anchors(file.read_text()):
            yield f"link to {target}: {file.name} has no such heading"


def _anchors(markdown: str) -> set[str]:
    """The anchors of the headings, as GitHub and the site's generator make them."""
    plain = re.sub(console.FENCED, "", markdown, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one).strip().lower().replace(" ", "-") for one in headings}


def sample_names() -> list[str]:
    """Return each sample's path below `sample_checkpoints`, as its truth file names it."""
    root = REPOSITORY / "sample_checkpoints"
    known = [p.relative_to(root).as_posix() for p in root.rglob("*.expected.json")]
    derived = ["interrupted", "flipped_bit", "hostile"]
    return sorted(name.removesuffix(".expected.json") for name in known) + derived


def unlisted_samples(markdown: str) -> Iterator[str]:
    """Yield a problem for each committed sample that the document does not name."""
    return (f"sample {name} is not in the table" for name in sample_names() if name not in markdown)


def remade(document: Document) -> str:
    """Return a document with its made parts made anew."""
    place = os.path.relpath(PAGES / "reference", document.path.parent)
    return reference.renewed(document.text, "" if place == "." else f"{place}/")


def run_examples(document: Document, environment: dict[str, str]) -> int:
    """Run the examples of a document, and note those that print something else; return how many."""
    found = console.examples(document.text)
    if not found:
        return 0
    with console.workplace(REPOSITORY, console.files(document.text)) as place:
        for example in found:
            printed = console.run(example, place, environment)
            if not console.matches(example.shown, printed):
                document.outputs[example.line] = printed
                diff = difflib.unified_diff(
                    example.shown, printed, document.name, "printed", lineterm="", n=1
                )
                text = "\n  ".join([f"line {example.line}: $ {example.command}", *diff])
                document.problems.append(text)
    return len(found)


def wrong_help_examples(name: str, text: str, environment: dict[str, str]) -> list[str]:
    """Run the examples in a command's help; return a problem for each that does not work.

    They must exit with 0 or, where the answer is no, with 1.
    """
    found = reference.examples_of(text)
    problems = [] if found else [f"the help of {name} has no example"]
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
            session = doctest.DocTestParser().get_doctest(match[1], {}, "session", None, line)
            report = io.StringIO()
            runner = doctest.DocTestRunner(verbose=False)
            runner.run(session, out=report.write)
            if runner.failures:
                problems.append(f"line {line + 1}: {report.getvalue()}")
    finally:
        os.chdir(before)
    return problems


def static_problems(document: Document) -> Iterator[str]:
    """Yield what is wrong with a document that shows without running anything."""
    yield from broken_links(document.path, document.text)
    if remade(document) != document.text:
        yield "is not what the program makes; python -m tools.docs --made writes it anew"
    if document.path == SAMPLES_PAGE:
        yield from unlisted_samples(document.text)
    lines = document.text.count("\n")
    if document.path == README and lines > README_LINES:
        yield f"has {lines} lines; {README_LINES} are enough, all else belongs into docs/"


def check(pages: list[Document]) -> list[str]:
    """Fill the documents' problems in; return those of the helps."""
    for page in pages:
        page.problems += [*static_problems(page), *wrong_sessions(page.text)]
    # The longest first, so that no processor waits for it at the end.
    longest = sorted(pages, key=lambda page: -len(console.examples(page.text)))
    with (
        console.shell(REPOSITORY) as environment,
        ThreadPoolExecutor(max_workers=os.cpu_count()) as pool,
    ):
        counts = [pool.submit(run_examples, page, environment) for page in longest]
        helps = [
            pool.submit(wrong_help_examples, name, text, environment)
            for name, text in reference.command_helps().items()
        ]
        problems = [problem for one in helps for problem in one.result()]
        ran = sum(one.result() for one in counts)
    wrong = sum(len(page.outputs) for page in pages)
    print(f"docs: {ran} examples run in {len(pages)} documents, {wrong} wrong")
    return problems


def add_pages() -> None:
    """Begin a page for each command that has none."""
    for name in reference.command_helps():
        page = PAGES / "reference" / f"{name}.md"
        if not page.exists():
            parts = [f"<!-- made: {part} {name} -->\n<!-- end -->" for part in ("help", "options")]
            page.write_text(f"# dcpctl {name}\n\n{parts[0]}\n\n## Options\n\n{parts[1]}\n")


def write_made(pages: list[Document]) -> None:
    """Write the parts anew that are made from the program."""
    for page in pages:
        made = remade(page)
        if made != page.text:
            page.text = made
            page.path.write_text(made)
            print(f"docs: {page.name} made anew")


def write_examples(pages: list[Document]) -> None:
    """Write the examples anew that printed something else, and forget that they were wrong."""
    for page in pages:
        if page.outputs:
            page.path.write_text(console.rewritten(page.text, page.outputs))
            print(f"docs: {len(page.outputs)} examples of {page.name} written anew")
            page.problems = [one for one in page.problems if not re.match(r"line \d+: \$ ", one)]


def main() -> int:
    """Check, or update, or build; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write examples and made parts anew")
    parser.add_argument("--made", action="store_true", help="write the made parts anew, and stop")
    parser.add_argument("--site", type=Path, metavar="DIR", help="build the site, and stop")
    arguments = parser.parse_args()
    if arguments.site:
        return 0 if site.build(arguments.site) else 1
    if arguments.update or arguments.made:
        add_pages()
    pages = documents()
    if arguments.update or arguments.made:
        write_made(pages)
    if arguments.made:
        return 0
    problems = [*missing_pages(), *check(pages)]
    if arguments.update:
        write_examples(pages)
    problems += [f"{page.name}: {problem}" for page in pages for problem in page.problems]
    for problem in problems:
        print("docs:", problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
