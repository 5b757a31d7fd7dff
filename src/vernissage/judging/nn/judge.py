"""Fills the port `Judge` with a trained judge: one look at each picture for both scores and all questions."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image

from vernissage.judging.levels import level_of
from vernissage.judging.nn.checkpoint import load_judge
from vernissage.judging.nn.model import by_adapter
from vernissage.judging.nn.scoring import Key, score_batch
from vernissage.judging.spec import DIMENSIONS, Dimension
from vernissage.local.adapters import merge_adapter
from vernissage.local.device import pick_device
from vernissage.local.streams import batches, side_by_side
from vernissage.records.verdict import NO_PROMPT, NOT_TRAINED, Answer, Level, Score, Unscored, Verdict

# What torch and image processors raise when a picture cannot be taken, or memory runs out.
_FAILURES = (RuntimeError, ValueError, TypeError, MemoryError)


@final
class TrainedJudge:
    """A judge that was trained on ratings.

    Args:
        model: Folder of the judge.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "auto", "float32", "float16", "bfloat16".
        batch_size: Pictures in one pass.
    """

    def __init__(self, model: str, *, device: str = "auto", dtype: str = "auto", batch_size: int = 16) -> None:
        self._device = pick_device(device)
        self._model, self.spec = load_judge(Path(model), device=self._device, dtype=dtype)
        self.name = self.spec.name
        self.batch_size = batch_size
        self._one_at_a_time = threading.Lock()
        groups = list(by_adapter(self.spec))
        self._one_adapter = len(groups) == 1  # several must take turns in the one backbone
        if self._one_adapter and groups[0]:
            merge_adapter(self._model.backbone, groups[0])

    def judge(self, images: Sequence[Image.Image], prompts: Sequence[str | None], questions: Sequence[Sequence[str]]) -> list[Verdict]:
        """Perception, correspondence and answers for each picture; see `ports.Judge`."""
        said = [text if text and text.strip() else None for text in prompts]
        verdicts: dict[int, Verdict] = {}

        def score(rows: Sequence[int]) -> list[dict[Key, float] | Unscored]:
            return self._score([images[row].convert("RGB") for row in rows], [said[r] for r in rows], [questions[r] for r in rows])

        # Alike shapes and lengths together, so that little is padding.
        order = sorted(range(len(images)), key=lambda row: (images[row].size, len("".join([said[row] or "", *questions[row]]))))
        with self._one_at_a_time:
            parts = batches(order, self.batch_size, self._device)
            done = side_by_side(score, parts, self._device) if self._one_adapter else [score(rows) for rows in parts]
        for row, own in zip(order, (each for part in done for each in part), strict=True):
            verdicts[row] = self._verdict(own, said[row], questions[row])
        return [verdicts[row] for row in range(len(images))]

    def _score(
        self, images: list[Image.Image], prompts: list[str | None], questions: list[Sequence[str]]
    ) -> list[dict[Key, float] | Unscored]:
        try:
            return list(score_batch(self._model, self.spec, images, prompts, questions))
        except _FAILURES as error:
            if len(images) == 1:  # this one picture is at fault, or too large
                reason = str(error).partition("\n")[0] or type(error).__name__
                return [Unscored(reason=f"{self.name} could not judge it: {reason}")]
        alone = zip(images, prompts, questions, strict=True)
        return [scored for image, prompt, several in alone for scored in self._score([image], [prompt], [several])]

    def _verdict(self, found: dict[Key, float] | Unscored, prompt: str | None, questions: Sequence[str]) -> Verdict:
        scores: dict[Dimension, Score | Unscored] = {}
        levels: dict[Dimension, Level | None] = {}
        for dimension in DIMENSIONS:
            head, levels[dimension] = self.spec.heads.get(dimension), None
            if isinstance(found, Unscored):
                scores[dimension] = found
            elif head is None:
                scores[dimension] = self._not_trained(dimension)
            elif dimension not in found:
                scores[dimension] = NO_PROMPT
            else:
                score = scores[dimension] = _score(found[dimension], 100)
                levels[dimension] = level_of(score.value, head.low, head.high) if isinstance(score, Score) else None
        answers = []
        for number, text in enumerate(questions):
            yes = found if isinstance(found, Unscored) else _score(found[number], 1) if number in found else self._not_trained("questions")
            answers.append(Answer(question=text, yes=yes))
        return Verdict(
            perception=scores["perception"],
            perception_level=levels["perception"],
            correspondence=scores["correspondence"],
            correspondence_level=levels["correspondence"],
            answers=tuple(answers),
            judge=self.name,
        )

    def _not_trained(self, what: str) -> Unscored:
        return Unscored(reason=f"{self.name} {NOT_TRAINED} {what}")


def _score(value: float, top: float) -> Score | Unscored:
    """A number on its scale; a head may reach a little beyond it."""
    if not np.isfinite(value):
        return Unscored(reason="the judge's number is not finite")
    return Score(value=float(np.clip(value, 0, top)))
