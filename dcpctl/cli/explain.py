"""`dcpctl explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from dcpctl.cli.options import Color, ColorOption, FormOption, JsonOption, Output, OutputOption


def explain(
    rule: Annotated[
        str | None,
        typer.Argument(help="A rule, such as DCP103; all are listed without.", show_default=False),
    ] = None,
    form: FormOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
    color: ColorOption = Color.AUTO,
) -> None:
    """Explain a rule of check, or list them all.

    A rule's page says what a finding means, why it matters and how to fix it.

    Examples:
      dcpctl explain DCP103
      dcpctl explain
    """
    out = Output.of(form, json, output, None, color)
    from dcpctl.check.engine import all_rules
    from dcpctl.check.engine import explain as page_of
    from dcpctl.documents.addresses import rule_page
    from dcpctl.reports import rule_pages
    from dcpctl.reports.json_lines import document

    if rule is None:
        rules = all_rules()
        if out.is_json:
            out.pieces(document(rule_pages.HEAD, rules=rule_pages.rule_documents(rules)))
        else:
            out.blocks(rule_pages.list_blocks(rules))
        return
    page = page_of(rule)
    if out.is_json:
        name = rule.strip().upper()
        facts = {"rule": name, "page": page, "page_url": rule_page(name)}
        out.pieces(document({**rule_pages.HEAD, **facts}))
    elif out.is_markdown:
        out.pieces([page])
    else:
        out.blocks(rule_pages.page_blocks(page))
