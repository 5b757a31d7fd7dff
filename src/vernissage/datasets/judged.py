"""Pictures with what people said of them, for training and testing judges: a JSONL file, or EvalMi-50K with its pictures.

A line of the file has `image` (path from the file on), and any of `prompt`, `perception`, `correspondence` (0 to 100),
`answers` (questions with true or false), `other_prompts` (each with its correspondence) and `model` (who painted it).
"""

import hashlib
import json
import math
import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy import ndarray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vernissage.datasets.evalmi import EvalMi, load_evalmi
from vernissage.errors import BadInput, reason_of
from vernissage.records.files import write_whole
from vernissage.records.picture import Picture
from vernissage.zoo.card import explain

MOS = Annotated[float, Field(ge=-100, le=200, allow_inf_nan=False, strict=True)]


class JudgedPicture(BaseModel):
    """A picture with opinions of it; what nobody said is None."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    image: Path | Image.Image
    prompt: str | None = None
    perception: MOS | None = None
    correspondence: MOS | None = None
    answers: dict[str, bool] = {}
    other_prompts: dict[str, MOS] = {}
    """Further prompts, and how well the picture shows each; learnt from, not tested on."""
    model: str = ""

    def open(self) -> Image.Image:
        """The picture, RGB.

        Raises:
            BadInput: It cannot be read.
        """
        return self.image.convert("RGB") if isinstance(self.image, Image.Image) else Picture.open(self.image).image

    def without_prompts(self, prompts: Container[str | None]) -> "JudgedPicture":
        """The same picture with none of these among its other prompts."""
        kept = {prompt: score for prompt, score in self.other_prompts.items() if prompt not in prompts}
        return self.model_copy(update={"other_prompts": kept})


def read_judged(path: Path) -> list[JudgedPicture]:
    """The pictures of a JSONL file; whether each is there is found out when it is opened.

    Raises:
        BadInput: The file cannot be read, or a line has a mistake; names the line.
    """
    if path.suffix.lower() in (".csv", ".parquet"):
        raise BadInput(f"{path} is a table, not JSONL.", hint="Of ratings `vernissage data mos --out judged.jsonl` makes one.")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Cannot read the judged pictures {path}: {reason_of(error)}.", hint="It must be a JSONL file in UTF-8.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line, parse_constant=lambda _: math.nan, object_pairs_hook=_told_once)
            row = JudgedPicture.model_validate(values)
        except ValidationError as error:
            raise BadInput(f"{path}, line {number}: {explain(error)}.", hint="Mend or delete that line.") from error
        except (ValueError, RecursionError) as error:
            told = f"is no JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else f"cannot be read: {error}"
            raise BadInput(f"{path}, line {number} {told}.", hint="Mend or delete that line.") from error
        rows.append(row.model_copy(update={"image": path.parent / row.image}))  # pyright: ignore[reportOperatorIssue]
    if not rows:
        raise BadInput(f"There are no judged pictures in {path}.", hint="Give one JSON object a line.")
    return rows


def write_judged(path: Path, rows: Sequence[JudgedPicture]) -> None:
    """Write pictures that lie in files, as `read_judged` reads them: their paths go from the file on.

    Raises:
        BadInput: The file cannot be written.
    """
    lines = []
    for row in rows:
        assert isinstance(row.image, Path)
        place = os.path.relpath(row.image.absolute(), path.parent.absolute())
        values = row.model_dump(exclude={"image"}, exclude_defaults=True)
        lines.append(json.dumps({"image": Path(place).as_posix(), **values}, ensure_ascii=False) + "\n")
    write_whole(path, "".join(lines), hint="Choose another file.")


def _told_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; of a key that stands twice nobody knows which value is meant."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice")
    return values


def load_judged(data: Path, images: Path | None = None) -> list[JudgedPicture]:
    """The judged pictures of a JSONL file, or of the folder of EvalMi-50K's files with that of its pictures.

    Raises:
        BadInput: They cannot be read, or the folder of pictures is not told.
        MissingExtra: openpyxl is not installed.
    """
    if not data.is_dir():
        return read_judged(data)
    if images is None:
        raise BadInput(f"{data} is the folder of EvalMi-50K's files; where are its pictures?", hint="Name their folder with --images.")
    return judged_evalmi(load_evalmi(data), images)


def judged_evalmi(data: EvalMi, images: Path) -> list[JudgedPicture]:
    """EvalMi-50K's opinions with its pictures, `images`/MODEL/0001.png as the authors name them; without those that are missing.

    Raises:
        BadInput: None of the pictures is there.
    """
    rows = []
    for model, name in enumerate(data.models):
        for index, prompt in enumerate(data.prompts):
            found = next((path for path in _names(images / name, prompt.number) if path.is_file()), None)
            perception, correspondence = (data.opinions[dimension][model, index] for dimension in ("perception", "correspondence"))
            if found is None or np.isnan([perception, correspondence]).any():
                continue
            answers = {text: said == 1 for text, said in zip(prompt.questions, data.answers[model, index], strict=False) if said in (0, 1)}
            rows.append(
                JudgedPicture(
                    image=found,
                    prompt=prompt.text,
                    perception=float(perception),
                    correspondence=float(correspondence),
                    answers=answers,
                    model=name,
                )
            )
    if not rows:
        raise BadInput(f"None of EvalMi-50K's pictures is in {images}.", hint=f"They must be named like {data.models[0]}/0001.png.")
    return rows


def _names(folder: Path, number: int) -> list[Path]:
    """What a picture may be called: both ways of counting are about."""
    return [folder / f"{number:0{digits}d}{suffix}" for digits in (3, 4) for suffix in (".png", ".jpg")]


def folds_by_prompt(rows: Sequence[JudgedPicture], count: int, *, seed: int = 0) -> list[ndarray]:
    """Rows of each fold, all of a prompt in one, and all of a picture; pictures without a prompt each stand for themselves.

    Raises:
        BadInput: There are fewer prompts than folds, or fewer than 2 folds.

    Example:
        >>> rows = [JudgedPicture(image=f"{n}.png", prompt=text) for n, text in enumerate(("a cat", "a dog", "a cat"))]
        >>> sorted(fold.tolist() for fold in folds_by_prompt(rows, 2))
        [[0, 2], [1]]
    """
    keys = _together([row.prompt or f"\0{index}" for index, row in enumerate(rows)], [_of_picture(row) for row in rows])
    prompts = sorted(set(keys))
    if not 2 <= count <= len(prompts):
        raise BadInput(f"{len(prompts)} prompts cannot be split into {count} folds.", hint="Use 2 folds or more, and no more than prompts.")
    dealt = {prompts[place]: number % count for number, place in enumerate(np.random.default_rng(seed).permutation(len(prompts)))}
    fold_of = np.array([dealt[key] for key in keys])
    return [np.flatnonzero(fold_of == number) for number in range(count)]


def _of_picture(row: JudgedPicture) -> str:
    return hashlib.sha256(row.image.tobytes()).hexdigest() if isinstance(row.image, Image.Image) else str(row.image.resolve())


def _together(prompts: Sequence[str], pictures: Sequence[str]) -> list[str]:
    """For each row the first prompt, in their order as texts, of all that hang together with it by prompts and pictures."""
    first: dict[str, str] = {}

    def find(name: str) -> str:
        while first.setdefault(name, name) != name:
            first[name] = name = first[first[name]]
        return name

    shown: dict[str, str] = {}
    for prompt, picture in zip(prompts, pictures, strict=True):
        one, other = sorted((find(prompt), find(shown.setdefault(picture, prompt))))
        first[other] = one
    return [find(prompt) for prompt in prompts]
