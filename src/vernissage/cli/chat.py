"""`vernissage chat`: paint in a conversation, each turn refining the last picture."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vernissage.cli import config_option, harmless, named, numbered
from vernissage.errors import BadInput, VernissageError

if TYPE_CHECKING:
    from vernissage.api import Studio
    from vernissage.painting.conversation import Step


@click.command(name="chat")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("chat"), show_default=True, help="Folder for the pictures.")
@click.option("--planner", help="evo, base, mllm, or the folder of a trained planner; default: as configured.")
@click.option("--model", help="Paint with this model until told otherwise.")
@click.option("--seed", type=int, help="Paint with this seed until told otherwise.")
@config_option
@click.option("--explain", is_flag=True, help="Show every step, with the models considered and their probabilities.")
def command(out: Path, planner: str | None, model: str | None, seed: int | None, config: Path | None, explain: bool) -> None:
    """Paint in a conversation: each turn refines the last picture. /help lists the commands.

    \b
    vernissage chat
    > a red car in the city, as a sketch
    > nice, now make the car blue instead of red
    > /save car.png
    """  # noqa: D301  click wants the character itself
    from vernissage.cli.show import check_folder
    from vernissage.cli.studio import open_studio

    check_folder(out)
    talk = _Talk(open_studio(config, planner=planner), out, explain)
    if seed is not None:
        talk.seed = _seed(str(seed))
    if model is not None:
        talk.do("model", model)
    for line in _lines():
        try:
            if not talk.hear(line.strip()):
                return
        except VernissageError as error:
            click.echo(click.style("error: ", fg="red") + harmless(str(error)), err=True)


def _lines() -> Iterator[str]:
    """What is typed; from a pipe every line is shown as if it were."""
    if sys.stdin is None:  # closed
        return
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    typed = sys.stdin.isatty()
    while True:
        click.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            click.echo("", err=True)
            return
        if not typed:
            click.echo(harmless(line.rstrip("\n")), err=True)
        yield line


def _png_path(name: str) -> Path:
    """Where a picture is saved; numbered where something lies there.

    Raises:
        BadInput: No file can be called so.
    """
    try:
        path = Path(name).expanduser()
        path = path if path.suffix else path.with_suffix(".png")
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"No file can be called {name!r}: {error}.", hint="Give a file name, such as /save car.png.") from error
    if "\0" in name or path.is_dir():
        raise BadInput(f"No file can be called {name!r}.", hint="Give a file name, such as /save car.png.")
    if path.suffix.lower() != ".png":
        raise BadInput(f"Pictures are written as PNG, not {path.suffix}.", hint=f"Use {path.with_suffix('.png')}.")
    return next(place for name in numbered(path.stem) if not (place := path.with_name(name + path.suffix)).exists())


def _seed(text: str) -> int:
    """A seed as it is typed.

    Raises:
        BadInput: It is none.
    """
    if not (text.isdecimal() and len(text) <= 20 and int(text) < 2**64):
        raise BadInput(f"{text[:40]!r} is no seed.", hint="Give a whole number below 2^64, such as 7.")
    return int(text)


class _Talk:
    """A conversation with its settings."""

    def __init__(self, studio: "Studio", out: Path, explain: bool) -> None:
        self.studio, self.out, self.explain = studio, out, explain
        self.model: str | None = None
        self.seed: int | None = None
        self.keep_seed = True
        self.steps: list[Step] = []

    def hear(self, line: str) -> bool:
        """Act on a line; false where the conversation is over."""
        from vernissage.painting.conversation import read_command

        if not line:
            return True
        told = read_command(line)
        if told is None:
            self.paint(line)
            return True
        return self.do(*told)

    def do(self, name: str, argument: str) -> bool:
        """A command; false for the one that ends the conversation."""
        from vernissage.cli.show import plan_lines
        from vernissage.painting.conversation import COMMANDS

        match name:
            case "quit":
                return False
            case "help":
                for known, meaning in COMMANDS.items():
                    click.echo(f"/{known:<6} {meaning}")
            case "model":
                if argument:
                    self.studio.all_models[argument]
                self.model = argument or None
                click.echo(f"model: {self.model or 'as the planner chooses'}")
            case "seed":
                self.seed, self.keep_seed = _seed(argument) if argument else None, bool(argument)
                click.echo(f"seed: {'random' if self.seed is None else self.seed}")
            case "undo":
                gone = self._last(pop=True)
                click.echo(f"taken back: {harmless(gone.said)}")
            case "plan":
                for label, value in plan_lines(self._last().plan):
                    click.echo(f"{label:>11}  {harmless(value)}")
            case "save":
                if not argument:
                    raise BadInput("Where to?", hint="Give a file name, such as /save car.png.")
                path = _png_path(argument)
                self._last().picture.save(path)
                click.echo(named(path))
        return True

    def paint(self, text: str) -> None:
        """A turn of the chat: plan, paint, keep."""
        from vernissage.cli.show import plan_lines, progress_bar
        from vernissage.painting.conversation import Step, chat_after

        # The seed stays from turn to turn, so that a picture changes where it is asked to.
        last = self.steps[-1].plan.arguments.seed if self.steps and self.keep_seed else None
        seed = self.seed if self.seed is not None else last
        plan = self.studio.plan(chat_after(self.steps, text), model=self.model, seed=seed)
        if self.explain:
            for label, value in plan_lines(plan):
                click.echo(click.style(f"{label:>11}  ", fg="cyan") + harmless(value), err=True)
        with progress_bar("painting") as progress:
            (picture,) = self.studio.paint_plan(plan, progress=progress, request=text)
        if isinstance(picture, VernissageError):
            raise picture
        path = self.out / f"{self._number():03d}.png"
        picture.save(path)
        self.steps.append(Step(text, picture.plan or plan, picture))
        self.keep_seed = True
        click.echo(f"{path}  {harmless(plan.prompt)}")

    def _number(self) -> int:
        """One more than the pictures that lie in the folder, so that none is written over."""
        taken = [int(path.stem) for path in self.out.glob("*.png") if path.stem.isdecimal()]
        return max(taken, default=0) + 1

    def _last(self, *, pop: bool = False) -> "Step":
        if not self.steps:
            raise BadInput("Nothing was painted yet.", hint='Say what you want, e.g. "a red car".')
        return self.steps.pop() if pop else self.steps[-1]
