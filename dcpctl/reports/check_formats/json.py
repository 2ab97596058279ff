"""What `check` found as JSON: the contract `dcpctl.check/1`."""

from __future__ import annotations

from typing import TextIO

from dcpctl.check.finding import Checked
from dcpctl.reports.check_formats import Look
from dcpctl.reports.check_json import many_document, one_document
from dcpctl.reports.json_lines import document


def write(checked: Checked, stream: TextIO, look: Look) -> None:
    """For programs; the schema ships in the package."""
    if look.one and checked.results:
        head, lists = one_document(checked.results[0], strict=look.strict)
    else:
        head, lists = many_document(checked, strict=look.strict)
    stream.writelines(document(head, **lists))
