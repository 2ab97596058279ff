"""The command to run next for a finding: the last line of its rule's page, filled in.

A page ends with a fenced block such as `$ dcpctl upgrade PATH FIXED`. The words in capitals stand
for what only the finding knows:

| word | stands for |
|---|---|
| PATH | the checkpoint that was checked |
| FIXED | a new directory beside it |
| RUN | the directory around it |
| BEFORE | the save that it was compared with |
| SAVE | another save of the run: the one that it was compared with, if there is one |
| KEY | the key that the finding is about |

A word that stands for nothing known stays, for the reader to fill in.
"""

from __future__ import annotations

import shlex
from functools import cache

from dcpctl.check.finding import CheckResult, Finding
from dcpctl.check.registry import explain

_PROMPT = "$ "


@cache
def command_of(rule_id: str) -> str:
    """Return the command that the rule's page ends with, its words in capitals not filled in.

    Raises:
        NothingSelected: there is no such rule.
    """
    lines = [line for line in explain(rule_id).splitlines() if line.startswith(_PROMPT)]
    return lines[-1].removeprefix(_PROMPT)


def fix_for(result: CheckResult, finding: Finding) -> str:
    """Return the command to run next for a finding, quoted for a shell."""
    path, before = result.path, result.against
    known = {"PATH": str(path), "FIXED": f"{path}-fixed", "RUN": str(path.parent)}
    if before is not None:
        known |= {"BEFORE": str(before), "SAVE": str(before)}
    if _is_key(finding):
        known["KEY"] = finding.subject
    words = command_of(finding.rule).split(" ")
    return " ".join(shlex.quote(known[word]) if word in known else word for word in words)


def _is_key(finding: Finding) -> bool:
    """Whether the subject is a key: not a file, nor the optimizer as a whole."""
    named = finding.subject
    return bool(named) and named != finding.file and "/" not in named and "." in named.strip(".")
