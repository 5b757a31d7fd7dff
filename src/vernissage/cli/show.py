"""What the commands show alike: a progress bar on stderr, a contact sheet, a plan step by step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image

from vernissage.ports import Progress
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan


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


def contact_sheet(images: Sequence[Image.Image], *, columns: int | None = None, gap: int = 6) -> Image.Image:
    """Pictures side by side on white, in rows, each in a cell of the largest one's size."""
    columns = columns or min(len(images), max(1, round(len(images) ** 0.5 + 0.49)))
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


def similarity_line(picture: Picture) -> str:
    """The similarity of picture and prompt with its scale; empty where it was not measured."""
    value = picture.provenance.similarity if picture.provenance else None
    return "" if value is None else f"{value:.3f} (CLIP cosine of picture and prompt, -1 to 1)"
