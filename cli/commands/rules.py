"""``meshwright rules``: all rules as a table, or one with its law, source, moment and example."""

from __future__ import annotations

import json

import click

from cli.completion import rule_words
from cli.text.page import Page
from constraints.errors import RequestError
from constraints.problem import Origin
from constraints.registry import RULES, rule_named
from constraints.rule import Rule

__all__ = ["command"]


@click.command("rules")
@click.argument("rule_id", required=False, metavar="[ID]", shell_complete=rule_words)
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def command(rule_id: str | None, format_: str) -> int:
    """List every rule, or show one: its law, its source in Megatron, when it is noticed, what breaks it and what mends it."""
    chosen = RULES if rule_id is None else (_named(rule_id),)
    if format_ == "json":
        click.echo(json.dumps([mapping(rule) for rule in chosen], indent=1))
    elif rule_id is None:
        _list()
    else:
        click.echo(_page(chosen[0]), nl=False)
    return 0


def mapping(rule: Rule) -> dict[str, object]:
    """A rule as JSON holds it."""
    return {
        "rule": rule.id,
        "stratum": str(rule.stratum),
        "statement": rule.statement,
        "noticed": str(rule.noticed),
        "source": str(rule.source) if rule.source else None,
        "example": rule.example,
        "fix": rule.fix,
        "since": rule.since,
        "until": rule.until,
        "reads": [*rule.scope, *rule.reads],
        "relaxable": rule.relaxable,
    }


def _named(rule_id: str) -> Rule:
    rule = rule_named(rule_id)
    if rule is None:
        import difflib

        ids = [rule.id for rule in RULES]
        close = difflib.get_close_matches(rule_id, ids, n=3) or [i for i in ids if rule_id in i][:3]
        hint = f"; did you mean {', '.join(close)}?" if close else "; `meshwright rules` lists them"
        raise RequestError("ID", rule_id, Origin("flag", "command line"), f"is not a rule{hint}")
    return rule


def _list() -> None:
    page = Page()
    family = ""
    for rule in sorted(RULES, key=lambda rule: rule.id.split(".")[0]):
        if rule.id.split(".")[0] != family:
            family = rule.id.split(".")[0]
            page.line()
            page.line(click.style(family, bold=True))
        page.line(f"  {click.style(rule.id, fg='cyan')}  [{rule.stratum}]")
        page.entry("", rule.statement)
    click.echo(page.text(), nl=False)


def _generations(rule: Rule) -> list[str]:
    since = [f"since Megatron-Core {rule.since}"] if rule.since else []
    return since + ([f"before Megatron-Core {rule.until}"] if rule.until else [])


def _page(rule: Rule) -> str:
    page = Page()
    page.line(click.style(rule.id, bold=True))
    page.entry("law", rule.statement)
    body = " ".join(" ".join((rule.__doc__ or "").strip().splitlines()[1:]).split()).replace("``", "`")
    if body:
        page.entry("", body)
    page.entry("stratum", str(rule.stratum))
    page.entry("noticed", str(rule.noticed))
    page.entry("source", str(rule.source) if rule.source else "none: an addition of meshwright's")
    if rule.since or rule.until:
        page.entry("holds", " ".join(_generations(rule)))
    page.entry("reads", ", ".join([*rule.scope, *rule.reads]) or "nothing")
    if rule.example:
        page.entry("broken by", rule.example)
    page.entry("usual fix", rule.fix)
    if rule.relaxable:
        page.entry("relax", f"solve --relax {rule.id}")
    return page.text()
