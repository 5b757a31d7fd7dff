"""The style-diverse reference set: captions crossed with styles, reworded by an MLLM and painted by a T2I model.

Each picture is written as soon as it is painted, so a set that was cut off is resumed. `header.json` beside them says what they
are painted from.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vernissage.errors import BadInput, VernissageError
from vernissage.ports import MLLM, T2I, Ask, Message, Progress, Reply
from vernissage.prompts import load_prompt
from vernissage.records.files import write_whole
from vernissage.records.picture import SUFFIXES, Picture
from vernissage.records.plan import Plan

OURS = Path(__file__).with_name("style_diverse.toml")
BATCH = 16
_ELSEWHERE = "Choose another folder with --out."


class Ingredients(BaseModel):
    """What is crossed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    captions: tuple[str, ...] = Field(min_length=1)
    styles: tuple[str, ...] = Field(min_length=1)


class Header(BaseModel):
    """What a folder was begun with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    card: str = ""
    """Hash of the model's card."""
    mllm: str = ""
    """Who reworded the captions."""
    seed: int
    ingredients: Ingredients


class Failed(NamedTuple):
    """A picture of the set that could not be made."""

    name: str
    reason: str


def load_ingredients(path: Path = OURS) -> Ingredients:
    """Captions and styles from a TOML file with two lists, `captions` and `styles`.

    Raises:
        BadInput: It cannot be read, or has other keys.
    """
    try:
        return Ingredients.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInput(f"Cannot read {path}: {error.strerror}.", hint="Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError, RecursionError) as error:
        raise BadInput(f"{path} does not hold two lists, captions and styles: {error}.", hint="Mend it.") from error


def build_style_diverse(
    folder: Path,
    ingredients: Ingredients,
    plan: Plan,
    mllm: MLLM,
    t2i: T2I,
    *,
    card: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Failed]:
    """Paint the set into a folder, as `<style>_<n>.png`, n counting the captions from 1.

    Args:
        folder: Pictures that are there already are left alone; they must be of the same model, MLLM, seed and ingredients.
        ingredients: Captions and styles.
        plan: Model and arguments; its prompt is replaced.
        mllm: Rewords every caption for its style.
        t2i: Paints.
        card: Hash of the model's card, so that a set is not gone on with another.
        seed: Caption n is painted with seed + n, in every style.
        progress: Called with (done, total) pictures.

    Returns:
        What could not be made, and why.

    Raises:
        BadInput: Two styles would share their files' names, the folder was begun with something else or holds other pictures, or it
            cannot be written.
    """
    _check_names(ingredients.styles)
    _begin(folder, Header(model=plan.model, card=card, mllm=mllm.name, seed=seed, ingredients=ingredients))
    wanted = [(caption, style, number) for style in ingredients.styles for number, caption in enumerate(ingredients.captions, start=1)]
    left = [row for row in wanted if not _path(folder, row[1], row[2]).exists()]
    failed: list[Failed] = []
    report = progress or (lambda _done, _total: None)
    report(len(wanted) - len(left), len(wanted))
    for start in range(0, len(left), BATCH):
        failed += _paint_batch(folder, left[start : start + BATCH], plan, mllm, t2i, seed)
        report(len(wanted) - len(left) + min(start + BATCH, len(left)), len(wanted))
    return failed


def _check_names(styles: Sequence[str]) -> None:
    named: dict[str, str] = {}
    for style in styles:
        if not any(map(str.isalpha, _slug(style))):
            raise BadInput(f"The style {style!r} has no letters to name its files by.", hint='Spell it out, such as "nineteen twenties".')
        if (other := named.get(_slug(style))) is not None:
            raise BadInput(f"The styles {other!r} and {style!r} would share their files' names.", hint="Rename one.")
        named[_slug(style)] = style


def _begin(folder: Path, header: Header) -> None:
    """Write down what the set is painted from, or see that it is what it was begun with."""
    path = folder / "header.json"
    try:
        if path.exists():
            begun = Header.model_validate_json(path.read_bytes())
            changed = [name for name in Header.model_fields if getattr(begun, name) != getattr(header, name)]
            if changed:
                raise BadInput(f"{folder} was begun with another value of {', '.join(changed)}.", hint=_ELSEWHERE)
        elif any(each.suffix.lower() in SUFFIXES for each in folder.glob("*")):
            raise BadInput(f"{folder} holds pictures, and no header.json that says what they were painted from.", hint=_ELSEWHERE)
        else:
            write_whole(path, header.model_dump_json(indent=2) + "\n", hint=_ELSEWHERE)
    except ValidationError as error:
        raise BadInput(f"{path} is damaged.", hint=_ELSEWHERE) from error
    except OSError as error:
        raise BadInput(f"Cannot read {path}: {error.strerror}.", hint=_ELSEWHERE) from error


def _paint_batch(folder: Path, rows: Sequence[tuple[str, str, int]], plan: Plan, mllm: MLLM, t2i: T2I, seed: int) -> list[Failed]:
    prompt = load_prompt("repainting/restyle")
    asks = [
        Ask(messages=(Message(text=prompt.render(brief=mllm.brief, caption=caption, style=style)),), temperature=0.7, seed=seed + number)
        for caption, style, number in rows
    ]
    failed: list[Failed] = []
    plans: dict[Path, Plan] = {}
    for (_, style, number), reply in zip(rows, mllm.answer(asks), strict=True):
        path = _path(folder, style, number)
        if isinstance(reply, Reply) and reply.text.strip():
            arguments = plan.arguments.model_copy(update={"seed": seed + number})
            plans[path] = plan.model_copy(update={"prompt": " ".join(reply.text.split()), "arguments": arguments})
        else:
            failed.append(Failed(path.stem, str(reply) if isinstance(reply, VernissageError) else "the MLLM answered nothing"))
    for path, picture in zip(plans, t2i.paint(list(plans.values())), strict=True):
        if isinstance(picture, Picture):
            picture.save(path)
        else:
            failed.append(Failed(path.stem, str(picture)))
    return failed


def _path(folder: Path, style: str, number: int) -> Path:
    return folder / f"{_slug(style)}_{number}.png"


def _slug(style: str) -> str:
    return re.sub(r"[\W_]+", "-", style).strip("-").lower()
