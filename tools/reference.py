"""The parts of the documentation that are made from the program.

A document marks such a part with `<!-- made: NAME -->` and `<!-- end -->`; what stands between is
written by `python -m tools.docs --made` and compared by `python -m tools.docs`. The parts are
`verbs` (a table of all commands), `fields` (what stands in `edits.toml`), and of one command `help
VERB` (what its help says, usage and examples) and `options VERB`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from typer.models import ArgumentInfo, ParameterInfo

_PART = re.compile(r"^(<!-- made: ([a-z]+)(?: (\S+))? -->\n)(.*?)^<!-- end -->$", re.M | re.S)
#: The panel of a help in which the arguments stand.
ARGUMENTS = "Arguments"
#: What stands for a value whose option has no word of its own for it.
_KINDS = {int: "N", Path: "PATH", str: "TEXT"}


def command_helps() -> dict[str, str]:
    """Return the commands' help texts, by name, in the order of the program's help."""
    return {name: (one.help or "").replace("\b\n", "") for name, one in _commands().items()}


def examples_of(text: str) -> list[str]:
    """Return the commands that a help text shows: its lines that begin with `dcpctl `."""
    return re.findall(r"^\s*(?:\$ )?(dcpctl .*)$", text, re.MULTILINE)


def renewed(markdown: str, place: str) -> str:
    """Return a document with the parts in it that are made from the program made anew.

    Args:
        markdown: the document.
        place: path of the directory of the reference pages as seen from the document.
    """

    def part(match: re.Match[str]) -> str:
        kind, name = match[2], match[3] or ""
        if kind == "help":
            made = _help(name)
        elif kind == "options":
            made = _options(name)
        else:
            made = _fields() if kind == "fields" else _verbs(place)
        return f"{match[1]}\n{made}\n\n<!-- end -->"

    return _PART.sub(part, markdown)


def _commands() -> dict[str, Any]:
    from typer.main import get_command

    from dcpctl.cli.app import app

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return {name: one for name, one in commands.items() if not one.hidden}


def _verbs(place: str) -> str:
    """A table of the commands: what each does, and the first example of it in its help."""
    rows = ["| verb | does | for example |", "|---|---|---|"]
    for name, text in command_helps().items():
        sentence = " ".join(text.partition("\n\n")[0].split())
        own = (one for one in examples_of(text) if one.startswith(f"dcpctl {name} "))
        example = next(own).replace("|", "\\|")
        rows.append(f"| [{name}]({place}{name}.md) | {_prose(sentence)} | `{example}` |")
    return "\n".join(rows)


def _fields() -> str:
    """A table of what the verbs of surgery take in a file."""
    from dcpctl.surgery.verbs import all_verbs, options_of

    rows = ["| verb | field | is | |", "|---|---|---|---|"]
    for name, verb in all_verbs().items():
        shown = f"`{name}`"
        for _, option in options_of(verb):
            if option.key:
                what = _prose(option.help).replace("\n", " ")
                rows.append(
                    f"| {shown} | `{option.key}` | {_written(option.kind.schema)} | {what} |"
                )
                shown = ""
    return "\n".join(rows)


def _written(schema: Mapping[str, Any]) -> str:
    """How a value is written in TOML, in words."""
    if "enum" in schema:
        return " or ".join(f'`"{value}"`' for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_written(one) for one in schema["anyOf"])
    words = {"string": "text", "boolean": "true or false", "integer": "integer", "object": "table"}
    if schema.get("type") == "array":
        return f"list of {_written(schema['items'])}s"
    return words.get(schema.get("type", ""), "any value")


def _help(name: str) -> str:
    """What the help of a command says, and how it is called."""
    prose, _, shown = command_helps()[name].partition("\n\nExamples:\n")
    words = [one.usage for one in _parameters(name) if one.is_argument]
    usage = " ".join(["dcpctl", name, *words, "[OPTIONS]"])
    examples = "\n".join(examples_of(shown))
    return f"{_prose(prose)}\n\n```text\n{usage}\n```\n\n```bash\n{examples}\n```"


def _options(name: str) -> str:
    """The arguments and options of a command in tables, one for each panel of its help."""
    parameters = list(_parameters(name))
    panels = {one.panel: None for one in parameters}
    order = sorted(panels, key=lambda panel: (panel == "Output", panel == "Writing"))
    return "\n\n".join(
        _table(panel or "Options", [one for one in parameters if one.panel == panel])
        for panel in order
    )


def _prose(text: str) -> str:
    """A help's paragraphs; what is code in them looks like it, since Markdown has marks for it."""
    marked = re.sub(r"(?<![`\w-])(--[a-z][a-z-]*[a-z])", r"`\1`", _escaped(text))
    return re.sub(r"(?<!`)(dcpctl [a-z]+ DCP\d{3})(?!`)", r"`\1`", marked)


def _table(title: str, parameters: list[_Parameter]) -> str:
    rows = [f"| {title} | |", "|---|---|"]
    rows += [f"| {one.shown} | {_prose(one.text)} |" for one in parameters]
    return "\n".join(rows)


def _escaped(text: str) -> str:
    """Text of a help as Markdown; what it quotes with backticks stays as it is."""
    parts = text.split("`")
    plain = (re.sub(r"([*<>|\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", part) for part in parts[::2])
    quoted = [f"`{part}`" for part in parts[1::2]]
    return "".join(a + b for a, b in zip(plain, [*quoted, ""], strict=False))


class _Parameter:
    """An argument or option of a command, as its function's signature declares it."""

    def __init__(self, name: str, kind: Any, info: Any, default: Any) -> None:
        self.is_argument = isinstance(info, ArgumentInfo)
        self.panel: str | None = ARGUMENTS if self.is_argument else info.rich_help_panel
        word = info.metavar or (name.upper() if self.is_argument else _kind(kind))
        if self.is_argument:
            many = "..." if get_origin(kind) is list and not word.endswith("...") else ""
            required = default is inspect.Parameter.empty
            self.usage = f"{word}{many}" if required else f"[{word}]{many}"
            self.shown = f"`{word}`"
        else:
            decls = [one for one in (info.default, *(info.param_decls or ())) if _is_name(one)]
            decls = sorted(decls or [f"--{name.replace('_', '-')}"], key=len)
            value = "" if kind is bool else f" {word}"
            self.shown = f"`{', '.join(decls).replace('/', ' / ')}{value}`".replace("|", "\\|")
        self.text = (info.help or "") + _default(info, default)


def _parameters(name: str) -> Iterator[_Parameter]:
    signature = inspect.signature(_commands()[name].callback, eval_str=True)
    for parameter in signature.parameters.values():
        kind, info = (*get_args(parameter.annotation), None, None)[:2]
        if isinstance(info, ParameterInfo) and not info.hidden:
            yield _Parameter(parameter.name, _present(kind), info, parameter.default)


def _present(kind: Any) -> Any:
    """What a value is where it is given: `int | None` is an int."""
    kinds = [one for one in get_args(kind) if one is not type(None)]
    return kinds[0] if kinds and get_origin(kind) is not list else kind


def _is_name(word: object) -> bool:
    return isinstance(word, str) and word.startswith("-")


def _kind(kind: Any) -> str:
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(member.value for member in kind)
    return _KINDS.get(kind, "VALUE")


def _default(info: Any, default: Any) -> str:
    """The default, unless the help tells it or there is none."""
    if "[default" in (info.help or "") or info.show_default is False:
        return ""
    if default in (None, False, inspect.Parameter.empty) or isinstance(default, bool):
        return ""
    value = default.value if isinstance(default, Enum) else default
    return f" [default: {value}]"
