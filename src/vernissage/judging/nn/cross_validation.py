"""Cross-validation of a judge: each fold held out once, every picture judged by a model that never saw its prompt."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vernissage.datasets.judged import JudgedPicture
from vernissage.errors import BadInput
from vernissage.judging.nn.checkpoint import load_judge
from vernissage.judging.nn.training import check_same, content_hash, predict, split, train_judge
from vernissage.judging.recipe import JudgeRecipe
from vernissage.judging.spec import read_spec
from vernissage.local.device import pick_device
from vernissage.ports import Progress
from vernissage.records.files import write_whole

_DONE = "predictions.jsonl"


class Fold(NamedTuple):
    """One held-out fold: its pictures, and what a judge that never saw their prompts says of them."""

    number: int
    rows: list[JudgedPicture]
    said: list[dict[Any, float]]


def cross_validate(recipe: JudgeRecipe, rows: Sequence[JudgedPicture], *, progress: Callable[[int], Progress] | None = None) -> list[Fold]:
    """Train and test on every fold; one that is done already is read from its predictions.

    Args:
        recipe: Its `out` holds a folder for each fold; its `fold` is not used.
        rows: All judged pictures.
        progress: Gives for each fold who is told of its steps.

    Raises:
        BadInput: There are too few prompts, or the folder holds another training.
    """
    folds: list[Fold] = []
    backbones: set[str] = set()
    for number in range(recipe.folds):
        part = split(rows, recipe.model_copy(update={"fold": number}))
        folder = recipe.out / f"fold-{number}"
        of = folder / "predictions.of"
        chosen = recipe.model_copy(update={"fold": number})
        if (folder / _DONE).exists() and of.exists():
            check_same(folder, chosen, [*part.train, *part.validation])
            if of.read_text(encoding="utf-8") != content_hash(part.test):
                raise BadInput(f"{folder} holds predictions of other pictures.", hint="Choose another `out`, or delete that folder.")
        else:
            train_judge(chosen, part.train, part.validation, folder, progress=progress(number) if progress else None)
            model, spec = load_judge(folder, device=pick_device("auto"))
            said = predict(model, spec, part.test, batch_size=recipe.batch_size)
            _write(folder / _DONE, said)
            of.write_text(content_hash(part.test), encoding="utf-8")
            del model
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            shutil.rmtree(folder / "training", ignore_errors=True)  # the optimizer's state; the judge itself stays
        backbones.add(read_spec(folder).fingerprint)
        if len(backbones) > 1:
            raise BadInput(f"{folder} was trained on another backbone than the folds before it.", hint="Choose another `out`.")
        folds.append(Fold(number, part.test, _read(folder / _DONE)))
    return folds


def _write(path: Path, said: Sequence[dict[Any, float]]) -> None:
    lines = "".join(json.dumps({str(key): value for key, value in own.items()}) + "\n" for own in said)
    write_whole(path, lines)


def _read(path: Path) -> list[dict[Any, float]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{int(key) if key.isdecimal() else key: value for key, value in row.items()} for row in rows]
