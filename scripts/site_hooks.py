"""What mkdocs calls while it builds the site: fences are made plain, and the list of commands is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

FENCE = re.compile(r"^(```\w+) \w+$", re.MULTILINE)
"""A fence with a second word, which only our tests read."""

COMMANDS = "<!-- commands -->"
"""Where a page wants the list of all commands."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page's text with plain fences ("```bash make" becomes "```bash") and with the commands it asks for."""
    plain = FENCE.sub(r"\1", markdown)
    return plain.replace(COMMANDS, "\n".join(all_commands())) if COMMANDS in plain else plain


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Refuse a page of the reference on which no name of ours is described: its module hands out nothing."""
    if "::: gangplan" in (page.markdown or "") and not re.search(r"doc-(function|class)", html):
        raise ValueError(f"{page.file.src_uri}: describes nothing: see scripts/site_faces.py")
    return html


def all_commands() -> Iterator[str]:
    """Return the lines that describe every command, in the order of `gangplan --help`."""
    import typer

    from gangplan.cli.app import app

    for name, command in typer.main.get_command(app).commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        yield from describe(f"gangplan {name}", command)


def describe(name: str, command: Any) -> Iterator[str]:
    """Return the lines for a command and those below it."""
    options = [option for option in command.params if not option.hidden]
    arguments = [option.name.upper() for option in options if option.param_type_name == "argument"]
    yield from ("", f"## `{' '.join([name, *arguments])}`", "", command.help or "")
    if options:
        yield from ("", "| option | default | meaning |", "|---|---|---|", *map(row, options))
    for inner, below in getattr(command, "commands", {}).items():
        yield from describe(f"{name} {inner}", below)


def row(option: Any) -> str:
    """Return an option's row: how it is written, its default, what it means."""
    written = option.name.upper() if option.param_type_name == "argument" else ", ".join(option.opts)
    default = "required" if option.required else "" if option.default in (None, False) else f"`{option.default}`"
    return f"| `{written}` | {default} | {(option.help or '').replace('|', chr(92) + '|')} |"
