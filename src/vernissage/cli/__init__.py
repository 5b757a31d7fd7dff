"""The command line: one file per command, loaded when it is called, so that --help is instant."""

import importlib
import math
import os
import re
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import click

from vernissage.errors import MissingExtra, UserError, VernissageError

COMMANDS = {
    "paint": "Paint a picture from a chat, in your own words.",
    "chat": "Paint in a conversation, each turn refining the last picture.",
    "repaint": "Let a model paint a picture again, and score it.",
    "judge": "Say how good pictures are, and answer about them.",
    "score": "Score a folder of pictures with many metrics.",
    "statistics": "Keep what FID and related metrics need of a reference set.",
    "train": "Train a judge on ratings, or a planner on queries.",
    "data": "Collect and prepare what planners learn from.",
    "bench": "Run a benchmark, with tables and a report.",
    "read": "Show the plan that a picture file carries.",
    "zoo": "List, show and add the models that can be chosen.",
}


config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="A vernissage.toml; default: ./vernissage.toml where there is one."
)


def harmless(text: str) -> str:
    r"""A text from outside without the control characters that command a terminal, and without halves of characters.

    Example:
        >>> harmless("a cat\x1b[2J")
        'a cat[2J'
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text).encode("utf-8", "replace").decode()


def named(path: Path) -> str:
    """A path to be shown, whatever its name is made of."""
    from vernissage.records.plan import whole_characters

    return harmless(whole_characters(str(path))).replace("\n", " ")


def remark(text: str) -> None:
    """Something to know, on stderr."""
    click.echo(click.style("note: ", fg="yellow") + harmless(text), err=True)


def numbered(name: str) -> Iterator[str]:
    """A name, and then the same with numbers, for what must not be written over.

    Example:
        >>> names = numbered("cat")
        >>> next(names), next(names), next(names)
        ('cat', 'cat-2', 'cat-3')
    """
    yield name
    yield from (f"{name}-{number}" for number in count(2))


class FiniteRange(click.FloatRange):
    """A number within bounds that is one: `nan` lies within all of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or an error that names the option."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return found


class _Lazy(click.Group):
    """A group that imports a command's file when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"vernissage.cli.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vernissage")
def cli() -> None:
    """Paint, repaint and judge pictures made by text-to-image models.

    Works offline with an embedded mini studio; real models are configured in a vernissage.toml.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; mistakes of the user end with a message and exit code 2, other failures with 1."""
    try:
        code = cli.main(args=arguments, prog_name="vernissage", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("Aborted: what was finished is kept.", err=True)
        if arguments is None:  # the program itself: answers that threads still wait for are in vain
            sys.stdout.flush()
            os._exit(1)
        sys.exit(1)
    except VernissageError as error:
        click.echo(click.style("error: ", fg="red") + harmless(str(error)), err=True)
        sys.exit(2 if isinstance(error, UserError | MissingExtra) else 1)
    sys.exit(code if isinstance(code, int) else 0)
