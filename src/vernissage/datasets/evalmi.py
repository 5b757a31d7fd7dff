"""EvalMi-50K: what people said of 24 T2I models' pictures of 2,100 prompts (LMM4LMM, arXiv 2504.08358).

Reads the authors' files as they are: AIGI2025_MOS_yn.xlsx (MOS1 is perception, MOS2 correspondence, Y/N the majority's answer to a
prompt's first question, YN_1… those to its further ones), question.xlsx and prompt_tasks.jsonl. Where a prompt has several questions,
the first asks whether all the others are to be answered yes. Knows nothing of pictures.
"""

import json
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput, MissingExtra

DIMENSIONS = ("perception", "correspondence", "accuracy")
QUESTIONS = 5
"""Of a prompt, at most."""
_QUESTION_END = re.compile(r"(?<=Answer yes or no\.)\s*(?=\S)")
"""Some cells hold two questions, one after the other."""
FILES = {"opinions": "AIGI2025_MOS_yn.xlsx", "questions": "question.xlsx", "prompts": "prompt_tasks.jsonl"}
_TASKS = {
    "single_class": "single class",
    "two_class": "two class",
    "counting": "counting",
    "colors": "colours",
    "color_attr": "colours",
    "position": "position",
    "shapes": "shapes",
    "texture": "texture",
    "scene": "scene",
    "style": "style",
    "ocr": "OCR",
    "hoi": "HOI",
    "human": "human",
    "emotion": "emotion",
    "linguistic structures": "linguistic structure",
    "view": "view",
    "world knowledge": "world knowledge",
    "face": "face",
    "imagination": "imagination",
    "time and light": "time and light",
}
TASKS = (*dict.fromkeys(_TASKS.values()), "complex")


class EvalPrompt(NamedTuple):
    """One of the prompts."""

    number: int
    """Counted from 1, as in the pictures' names."""
    text: str
    task: str
    detailed: bool
    """Whether it is the long form of a prompt."""
    questions: tuple[str, ...]


class EvalMi(NamedTuple):
    """The whole table."""

    models: tuple[str, ...]
    prompts: tuple[EvalPrompt, ...]
    opinions: dict[str, ndarray]
    """Dimension to shape (model, prompt): perception and correspondence as MOS on 0 to 100, accuracy as 0 or 1."""
    answers: ndarray
    """Shape (model, prompt, question), 0 or 1, NaN where there is no such question."""

    def rows(self, task: str | None = None) -> ndarray:
        """Indices of the prompts of a task, or of all."""
        return np.array([index for index, prompt in enumerate(self.prompts) if task in (None, prompt.task)], dtype=int)


def task_of(tag: str) -> tuple[str, bool]:
    """The task that the authors' tag stands for, and whether it is the detailed form.

    A tag that joins several tasks is "complex", whether or not it is detailed.

    Raises:
        BadInput: An unknown tag.

    Example:
        >>> task_of("color_attr + detail"), task_of("style + OCR + color")
        (('colours', True), ('complex', False))
    """
    parts = [part.strip() for part in tag.split("+")]
    detailed = parts[-1].lower() in ("detail", "details")
    parts = parts[: len(parts) - detailed]
    if len(parts) > 1:
        return "complex", detailed
    if parts[0].lower() not in _TASKS:
        raise BadInput(f"EvalMi-50K has no task {tag!r}.", hint="Use the authors' prompt_tasks.jsonl.")
    return _TASKS[parts[0].lower()], detailed


def load_evalmi(folder: Path) -> EvalMi:
    """Read the three files of a folder; two seconds.

    Raises:
        BadInput: A file is missing, or does not hold what it should; names the row.
        MissingExtra: openpyxl is not installed.
    """
    for name in FILES.values():
        if not (folder / name).is_file():
            raise BadInput(f"EvalMi-50K's {name} is not in {folder}.", hint="Give the folder that holds the authors' files.")
    prompts = _prompts(folder / FILES["prompts"])
    asked = list(_sheet(folder / FILES["questions"]))[1:]
    if len(asked) != len(prompts):
        raise BadInput(f"{FILES['questions']} has {len(asked)} prompts, {FILES['prompts']} {len(prompts)}.", hint="Download both again.")
    known = []
    for number, ((text, tag), row) in enumerate(zip(prompts, asked, strict=True), start=1):
        questions = tuple(part.strip() for cell in row[1:] if cell for part in _QUESTION_END.split(str(cell)))
        if len(questions) > QUESTIONS:
            raise BadInput(f"{FILES['questions']}, row {number + 1}: there are {len(questions)} questions.", hint="Download it again.")
        known.append(EvalPrompt(number, text, *task_of(tag), questions))
    return _fill(known, list(_sheet(folder / FILES["opinions"]))[1:])


def _prompts(path: Path) -> list[tuple[str, str]]:
    """Text and tag of each prompt."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found.append((str(row["prompt"]), str(row["tag"])))
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path.name}, line {number}: there is no prompt with its tag.", hint="Download it again.") from error
    return found


def _fill(prompts: list[EvalPrompt], rows: list[tuple[Any, ...]]) -> EvalMi:
    models = {name: index for index, name in enumerate(dict.fromkeys(str(row[0]).rpartition("/")[0] for row in rows))}
    opinions = {dimension: np.full((len(models), len(prompts)), np.nan) for dimension in DIMENSIONS}
    answers = np.full((len(models), len(prompts), QUESTIONS), np.nan)
    for line, row in enumerate(rows, start=2):
        match = re.fullmatch(r"(?P<model>.+)/(?P<number>\d+)\.\w+", str(row[0]))
        if match is None or not 1 <= int(match["number"]) <= len(prompts):
            raise BadInput(f"{FILES['opinions']}, row {line}: {row[0]!r} is no picture of EvalMi-50K.", hint="Download it again.")
        place = models[match["model"]], int(match["number"]) - 1
        try:
            values = np.array([np.nan if value is None else value for value in row[1:]], dtype=float)
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{FILES['opinions']}, row {line}: {row[0]} has an opinion that is no number.", hint="Download it again."
            ) from error
        asked = len(prompts[place[1]].questions)
        if len(values) < len(DIMENSIONS) or not np.isnan(values[2 + asked :]).all():
            raise BadInput(f"{FILES['opinions']}, row {line}: the answers do not fit {asked} questions.", hint="Download it again.")
        for dimension, value in zip(DIMENSIONS, values[:3], strict=True):
            opinions[dimension][place] = value
        given = values[2 : 2 + asked]  # Y/N, then YN_1 and so on
        answers[place][: len(given)] = given
    return EvalMi(tuple(models), tuple(prompts), opinions, answers)


def _sheet(path: Path) -> Iterable[tuple[Any, ...]]:
    """The rows of a workbook's first sheet."""
    try:
        import openpyxl
    except ModuleNotFoundError as error:
        raise MissingExtra("openpyxl", extra="data") from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is no Excel workbook: {error}.", hint="Download it again.") from error
    try:
        yield from book[book.sheetnames[0]].iter_rows(values_only=True)
    finally:
        book.close()


def folds(data: EvalMi, count: int = 5, *, seed: int = 0) -> list[ndarray]:
    """Test prompts of each fold: every prompt in exactly one, every task spread evenly.

    Splitting by the prompt's text, not by picture, keeps all 24 pictures of a prompt on one side.

    Raises:
        BadInput: Fewer than 2 folds.
    """
    if count < 2:
        raise BadInput(f"{count} folds cannot be split.", hint="Use 2 or more.")
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(count)]
    of_text: dict[str, int] = {}
    for task in TASKS:
        rows = [int(index) for index in rng.permutation(data.rows(task))]
        rows.sort(key=lambda index: data.prompts[index].text not in of_text)  # a few prompts stand there twice; where they go is settled
        own = [0] * count
        for index in rows:
            fewest = min(range(count), key=lambda part: (own[part], len(parts[part])))
            part = of_text.setdefault(data.prompts[index].text, fewest)
            parts[part].append(index)
            own[part] += 1
    return [np.array(sorted(part)) for part in parts]
