"""Write docs/reference/commands.md from the commands' own help. Run: make docs. A test sees to it that the page is true."""

from pathlib import Path

import click

from vernissage.cli import cli

PAGE = Path(__file__).parent / "reference" / "commands.md"


def render() -> str:
    parts = ["# Commands", "", "Generated from `--help` by `make docs`; never edited."]
    for name, command in _walk("vernissage", cli):
        context = click.Context(command, info_name=name, terminal_width=110, max_content_width=110, help_option_names=["-h", "--help"])
        parts += ["", f"## {name}", "", "```", command.get_help(context).rstrip(), "```"]
    return "\n".join(parts) + "\n"


def _walk(name: str, command: click.Command):
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            yield from _walk(f"{name} {child}", command.get_command(context, child))


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
