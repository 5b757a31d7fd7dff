"""What the commands show alike: a progress bar on stderr, a contact sheet, a plan step by step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from vernissage.cli import harmless
from vernissage.errors import BadInput
from vernissage.ports import Progress
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan
from vernissage.records.regeneration import Round
from vernissage.records.tree import UnderstandingTree
from vernissage.zoo.catalogue import package_folder


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
        yield lambda done, total: bar.update(task, completed=done, total=total)


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
    Console(stderr=True).print(drawn)


def show_round(done: Round) -> None:
    """A finished round on stderr: what was to change, the best prompt, its scores."""
    from rich.console import Console
    from rich.text import Text

    from vernissage.repainting.drawing import score_text

    console = Console(stderr=True)
    console.print(Text(f"round {done.number}, {done.aspect}", style="bold cyan"))
    if done.feedback:
        console.print(Text(harmless(f"  feedback  {done.feedback}")))
    if done.best is None:
        console.print(Text("  nothing was painted", style="red"))
        return
    winner = done.candidates[done.best]
    console.print(Text(harmless(f"    prompt  {winner.prompt}")))
    console.print(Text("    scores  " + "  ".join(f"{name} {score_text(score)}" for name, score in winner.scores.items())))


def similarity_line(picture: Picture) -> str:
    """The similarity of picture and prompt with its scale; empty where it was not measured."""
    value = picture.provenance.similarity if picture.provenance else None
    return "" if value is None else f"{value:.3f} (CLIP cosine of picture and prompt, -1 to 1)"
