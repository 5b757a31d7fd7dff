"""What the commands show alike: a progress bar on stderr, a contact sheet, a plan step by step."""

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from PIL import Image

from vernissage.cli import harmless
from vernissage.errors import BadInput
from vernissage.metrics.interval import Estimate
from vernissage.ports import Progress
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan
from vernissage.records.regeneration import Round
from vernissage.records.tree import UnderstandingTree
from vernissage.zoo.catalogue import package_folder

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from vernissage.wiring import DriverConfig


_NARROW = 20
"""Columns: where no more are left, lines are not broken between words."""
_live: "list[Bar]" = []
"""Bars that are shown now."""


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A bar on stderr that appears with the first step and is gone when done; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        _live.append(bar)
        try:
            yield lambda done, total: bar.update(task, completed=done, total=total)
        finally:
            _live.remove(bar)


@contextmanager
def beside_the_bar() -> Iterator[None]:
    """Take a bar that is shown away while something else is printed, so that they do not run into one another."""
    shown = [bar for bar in _live if not bar.disable]
    for bar in shown:
        bar.stop()
    try:
        yield
    finally:
        for bar in shown:
            bar.start()


def mini_note(configs: Sequence["DriverConfig | None"]) -> str:
    """Which of those who look at pictures are embedded ones and know the mini world alone; empty where none is."""
    models = [str(config.options.get("model", "")) for config in configs if config is not None]
    found = list(dict.fromkeys(model for model in models if model.startswith("mini/")))
    if not found:
        return ""
    knows = "knows" if len(found) == 1 else "know"
    return f"{', '.join(found)} {knows} pictures of the mini world alone; for others see docs/how-to/real-models.md."


def show_table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "", kept: str = "") -> None:
    """A table on stdout; in a narrow terminal with intervals below their estimates, or on its side; in a very narrow one without intervals.

    Args:
        headings: Of the columns; the first is never cut.
        rows: Cells: estimates, cells of a board, or texts.
        title: What it shows.
        kept: Where the intervals are to be found all the same.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def plain(text: str) -> Text:  # brackets are no markup
        return Text("\n".join(map(harmless, text.split("\n"))))

    def drawn(told: Callable[[object], str], lines: Sequence[Sequence[object]], *, brief: bool = False, close: bool = False) -> Table:
        name = title.partition(" [")[0] if brief else title
        table = Table(title=name or None, box=box.SIMPLE if close else box.HEAVY_HEAD, padding=(0, 0) if close else (0, 1))
        for index, heading in enumerate(lines[0]):
            table.add_column(plain(told(heading)), no_wrap=not index, overflow="fold")
        for row in lines[1:]:
            table.add_row(*(plain(told(cell)) for cell in row), end_section=close and not brief)
        return table

    upright = [headings, *rows]
    on_its_side = list(zip(*upright, strict=True))
    unbounded = Console(width=10_000)
    console = Console() if sys.stdout.isatty() else unbounded
    forms = [(_whole, upright, False), (_stacked, upright, True), (_whole, on_its_side, False), (_stacked, on_its_side, True)]
    for told, lines, close in forms:
        table = drawn(told, lines, close=close)
        if unbounded.measure(table).maximum <= console.width:
            console.print(table)
            return
    console.print(drawn(_brief, upright, brief=True, close=True))
    console.print(f"Intervals: in a wider terminal{kept and f', or in {kept}'}.", style="dim", highlight=False)


def show_list(rows: Sequence[tuple[str, str]]) -> None:
    """Names with what is said of them on stdout: a line each, in a terminal broken between words beside the names."""
    margin = max((len(name) for name, _ in rows), default=0) + 2
    room = shutil.get_terminal_size().columns - margin if sys.stdout.isatty() else 0
    for name, said in rows:
        lines = textwrap.wrap(harmless(said), room) if room >= _NARROW else [harmless(said)]
        click.echo(f"{harmless(name):<{margin}}" + f"\n{' ' * margin}".join(lines))


def _whole(cell: object) -> str:
    return "-" if cell is None else str(cell)


def _stacked(cell: object) -> str:
    """An estimate, its interval and its count below one another.

    Example:
        >>> _stacked("50.0 [25.0, 75.0]  3/4").splitlines()
        ['50.0', '[25.0, 75.0]', '3/4']
    """
    return _whole(cell).replace(" [", "\n[").replace("]  ", "]\n")


def _brief(cell: object) -> str:
    estimate = getattr(cell, "estimate", cell)
    return f"{100 * estimate.value:.1f}" if isinstance(estimate, Estimate) else _whole(cell).partition(" [")[0]


def names_of(listed: str) -> tuple[str, ...]:
    """Names with commas between; "none" stands for none.

    Example:
        >>> names_of("clip, dinov2"), names_of("none")
        (('clip', 'dinov2'), ())
    """
    names = tuple(name.strip() for name in listed.split(",") if name.strip())
    return () if names == ("none",) else names


def weights_of(listed: str | None) -> dict[str, dict[str, float]]:
    """Weights like "clip=1,match=0.5" as settings; nothing where none are given.

    Raises:
        BadInput: It does not read like that.

    Example:
        >>> weights_of("clip=1, match=0.5"), weights_of(None)
        ({'weights': {'clip': 1.0, 'match': 0.5}}, {})
    """
    from vernissage.repainting.loop import Settings

    if listed is None:
        return {}
    try:
        pairs = [part.split("=") for part in listed.split(",")]
        return {"weights": Settings(weights={name.strip(): float(weight) for name, weight in pairs}).weights}
    except ValueError as error:
        raise BadInput(
            f"The weights {listed!r} cannot be read.", hint='Write them like "clip=1,dinov2=1", none below 0, one above.'
        ) from error


def check_folder(out: Path) -> None:
    """Refuse a place that can be no folder before any work is done for it.

    Raises:
        BadInput: It, or what it should lie in, is a file.
    """
    for part in (out, *out.parents):
        if part.exists():
            if not part.is_dir():
                raise BadInput(f"{part} is a file, not a folder.", hint="Choose another folder.")
            return


def who(name: str) -> str:
    """The name of whoever scored, an embedded model without the place where this package is installed."""
    return harmless(name.replace(str(package_folder("mini")), "mini"))


def contact_sheet(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures side by side on white, in rows, each in a cell of the largest one's size."""
    gap, columns = 6, min(len(images), max(1, round(len(images) ** 0.5 + 0.49)))
    rows = -(-len(images) // columns)
    width, height = max(image.width for image in images), max(image.height for image in images)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for index, image in enumerate(images):
        sheet.paste(image, (gap + index % columns * (width + gap), gap + index // columns * (height + gap)))
    return sheet


def plan_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    """A plan as (label, text) lines, the choice of model with its runners-up."""
    yield "prompt", plan.prompt
    if plan.negative_prompt:
        yield "negative", plan.negative_prompt
    yield "model", plan.model
    if plan.choices:
        shown = [f"{choice.model} {choice.probability:.1%}" for choice in plan.choices[:4]]
        yield "considered", ", ".join(shown)
    values = {name: value for name, value in plan.arguments if value not in (None, ())}
    yield "arguments", ", ".join(f"{name} {value}" for name, value in values.items())


def show_tree(tree: UnderstandingTree) -> None:
    """The understanding tree on stderr, drawn with branches."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    drawn = Tree(Text(harmless(tree.caption), style="bold"))
    for name, value in tree.overall().items():
        drawn.add(Text(harmless(f"{name}: {value}")))
    for thing in tree.objects:
        branch = drawn.add(Text(harmless(f"{thing.name} ({thing.type})")))
        for name, value in thing.features.items():
            branch.add(Text(harmless(f"{name}: {value}")))
    for phrase in tree.relations:
        drawn.add(Text(harmless(f"relation: {phrase}")))
    with beside_the_bar():
        Console(stderr=True).print(drawn)


def show_round(done: Round) -> None:
    """A finished round on stderr: what was to change, the best prompt, its scores."""
    from rich.console import Console
    from rich.text import Text

    from vernissage.repainting.drawing import score_text

    lines = [Text(f"round {done.number}, {done.aspect}", style="bold cyan")]
    if done.feedback:
        lines.append(Text(harmless(f"  feedback  {done.feedback}")))
    if done.best is None:
        lines.append(Text("  nothing was painted", style="red"))
    else:
        winner = done.candidates[done.best]
        lines.append(Text(harmless(f"    prompt  {winner.prompt}")))
        lines.append(Text("    scores  " + "  ".join(f"{name} {score_text(score)}" for name, score in winner.scores.items())))
    with beside_the_bar():
        Console(stderr=True).print(*lines, sep="\n")


def similarity_line(picture: Picture) -> str:
    """The similarity of picture and prompt with its scale; empty where it was not measured."""
    value = picture.provenance.similarity if picture.provenance else None
    return "" if value is None else f"{value:.3f} (CLIP cosine of picture and prompt, -1 to 1)"
