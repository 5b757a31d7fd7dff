"""`vernissage paint`: from a chat to a picture."""

import json
import re
import sys
from pathlib import Path

import click
from pydantic import ValidationError

from vernissage.cli import config_option, harmless, named, numbered, remark
from vernissage.errors import BadInput, VernissageError
from vernissage.records.chat import Turn
from vernissage.zoo.card import explain


@click.command(name="paint")
@click.argument("text", nargs=-1)
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), help="A reference picture; may be given several times.")
@click.option("--history", type=click.Path(path_type=Path), help="Earlier turns: lines 'user: …', 'assistant: …', or a JSON list.")
@click.option("--prompt", help="Use this prompt instead of planning one.")
@click.option("--negative-prompt", "negative_prompt", help="What must not appear.")
@click.option("--model", help="Use this model; see `vernissage zoo list`.")
@click.option("--sampler", help='A1111 name, for example "DPM++ 2M Karras".')
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--cfg-scale", type=float, help="Guidance; 1 means none.")
@click.option("--width", type=int, help="Pixels.")
@click.option("--height", type=int, help="Pixels.")
@click.option("--seed", type=int, help="The same seed paints the same picture again.")
@click.option("--clip-skip", type=int, help="A1111 counting: 1 is the last layer.")
@click.option(
    "-n", "--count", type=click.IntRange(1, 64), default=1, show_default=True, help="Pictures; several come with a contact sheet."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="File, or folder for several; default: here.")
@click.option("--planner", help="evo, base, mllm, or the folder of a trained planner; default: as configured.")
@config_option
@click.option("--explain", is_flag=True, help="Show every step, with the models considered and their probabilities.")
@click.option("--plan-only", is_flag=True, help="Print the plan as JSON and paint nothing.")
def command(
    text: tuple[str, ...],
    images: tuple[Path, ...],
    history: Path | None,
    count: int,
    out: Path | None,
    planner: str | None,
    config: Path | None,
    explain: bool,
    plan_only: bool,
    prompt: str | None,
    negative_prompt: str | None,
    model: str | None,
    **numbers: object,
) -> None:
    """Paint what TEXT asks for, in your own words; "-" reads it from standard input.

    \b
    vernissage paint "two yellow stars over the sea at night, neon please"
    vernissage paint "the same, but as a watercolour" --image stars.png
    vernissage paint --prompt "one red boat, at sea" --model mini/sketch --seed 7
    """  # noqa: D301  click wants the character itself
    from vernissage.api import Studio
    from vernissage.cli.show import check_folder, contact_sheet, plan_lines, progress_bar, similarity_line
    from vernissage.cli.studio import open_studio
    from vernissage.records.picture import Picture
    from vernissage.world.facts import outside_the_world

    request = read_request() if text == ("-",) else " ".join(text)
    if not request.strip() and prompt is None and not images:
        raise BadInput("There is nothing to paint: no text was given.", hint='Try: vernissage paint "a red car in the city"')
    turns = read_history(history) if history else ()
    fixed = {"prompt": prompt, "negative_prompt": negative_prompt, "model": model, **numbers}
    studio: Studio = open_studio(config, planner=planner)
    for place in place_pictures(prompt or request, [None] * count, out):
        check_folder(place.parent)  # a place that will not do is told before anything is painted
    plan = studio.plan(request, images=images, history=turns, **fixed)
    if studio.is_mini and not images and (note := outside_the_world(" ".join([*(turn.text for turn in turns), prompt or request]))):
        remark(note)
    if plan_only:
        click.echo(plan.model_dump_json(indent=2))
        return
    if explain:
        _explain([("chat", f"{_several(len(turns) + 1, 'turn')}, {_several(len(images), 'picture')}: {request}"), *plan_lines(plan)])
    with progress_bar("painting") as progress:
        pictures = studio.paint_plan(plan, count=count, progress=progress, request=request)
    seeds = [picture.plan.arguments.seed if isinstance(picture, Picture) and picture.plan else 0 for picture in pictures]
    paths = place_pictures(plan.prompt, seeds, out)
    painted: list[Picture] = []
    for picture, place in zip(pictures, paths, strict=True):
        if isinstance(picture, VernissageError):
            click.echo(click.style("error: ", fg="red") + harmless(str(picture)), err=True)
            continue
        path = place if place == out else unused(place, picture.data)
        picture.save(path)
        painted.append(picture)
        if explain:
            _explain([("seed", str(picture.plan.arguments.seed if picture.plan else "")), ("similarity", similarity_line(picture))])
        click.echo(named(path))
    if len(painted) > 1:
        sheet = Picture.of(contact_sheet([picture.image for picture in painted]), sheet=True)
        click.echo(named(sheet.save(unused(paths[0].with_name(f"{slug(plan.prompt)}-sheet.png"), sheet.data))))
    if len(painted) < len(pictures):
        sys.exit(1)


def _explain(lines: list[tuple[str, str]]) -> None:
    for label, value in lines:
        if value:
            click.echo(click.style(f"{label:>11}  ", fg="cyan") + harmless(value), err=True)


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def slug(prompt: str, limit: int = 48) -> str:
    """A prompt as a safe file name.

    Example:
        >>> slug("Two yellow stars, at sea!"), slug("../../etc")
        ('two-yellow-stars-at-sea', 'etc')
    """
    words = re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")
    return words[:limit].rstrip("-") or "picture"


def place_pictures(prompt: str, seeds: list[int | None], out: Path | None) -> list[Path]:
    """Where each picture goes.

    Raises:
        BadInput: `out` is a file, or cannot hold several pictures.
    """
    if len(seeds) == 1 and out is not None and not out.is_dir() and out.suffix:
        if out.suffix.lower() != ".png":
            raise BadInput(f"Pictures are written as PNG, not {out.suffix}.", hint=f"Use {out.with_suffix('.png')}.")
        return [out]
    if out is not None and out.suffix and not out.is_dir():
        raise BadInput(f"{len(seeds)} pictures do not fit into the one file {out}.", hint="Give a folder with --out.")
    folder = out or Path()
    return [folder / f"{slug(prompt)}-{seed}.png" for seed in seeds]


def unused(path: Path, data: bytes) -> Path:
    """The path, with a number where it is another picture's."""
    places = (path.with_name(name + path.suffix) for name in numbered(path.stem))
    return next(each for each in places if not each.exists() or each.read_bytes() == data)


def read_request() -> str:
    """The request on standard input.

    Raises:
        BadInput: It is no text.
    """
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BadInput("What came on standard input is no text.", hint="It must be UTF-8 text.") from error


def read_history(path: Path) -> tuple[Turn, ...]:
    """Earlier turns from a file; pictures' paths start at its folder.

    Raises:
        BadInput: The file cannot be read as turns.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"Cannot read the history {path}: {error.strerror}.", hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The history {path} is no text.", hint="The file must be UTF-8 text.") from error
    if content.lstrip().startswith("["):
        try:
            turns = [Turn.model_validate(row) for row in json.loads(content)]
            return tuple(turn.model_copy(update={"images": tuple(path.parent / image for image in turn.images)}) for turn in turns)
        except (ValueError, RecursionError) as error:
            reason = explain(error) if isinstance(error, ValidationError) else error
            raise BadInput(f"The history {path} is not a list of turns: {reason}.", hint='Each needs "role" and "text".') from error
    turns: list[Turn] = []
    for line in content.splitlines():
        match = re.match(r"\s*(user|assistant)\s*:\s*(.+)", line, flags=re.IGNORECASE)
        if match:
            turns.append(Turn(role="user" if match[1].lower() == "user" else "assistant", text=match[2].strip()))
        elif line.strip():
            raise BadInput(
                f"The history {path} has a line without a speaker: {line.strip()[:60]!r}.", hint='Begin it with "user:" or "assistant:".'
            )
    return tuple(turns)
