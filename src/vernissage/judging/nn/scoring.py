"""One look at a batch of pictures: the numbers that heads and answers give. Knows no verdicts."""

from collections.abc import Sequence

import torch
from PIL import Image

from vernissage.judging.nn.model import JudgeModel, Question, by_adapter, choose_adapter, question
from vernissage.judging.spec import DIMENSIONS, Dimension, JudgeSpec

Key = Dimension | int
"""What was asked of a picture: a dimension, or the number of a question."""


@torch.inference_mode()
def score_batch(
    model: JudgeModel,
    spec: JudgeSpec,
    images: Sequence[Image.Image],
    prompts: Sequence[str | None],
    questions: Sequence[Sequence[str]],
) -> list[dict[Key, float]]:
    """Everything that the judge can tell of some pictures, one pass for each of its adapters.

    Returns:
        For each picture its scores by dimension, on the scale of the training scores and maybe beyond, and by number of each
        question the probability of yes. What was not trained, and correspondence without a prompt, is left out.
    """
    found: list[dict[Key, float]] = [{} for _ in images]
    for adapter, tasks in by_adapter(spec).items():
        asked = [_questions(spec, tasks, prompt, several) for prompt, several in zip(prompts, questions, strict=True)]
        rows = [row for row, own in enumerate(asked) if own]
        if not rows:
            continue
        choose_adapter(model, adapter)
        look = model.look([images[row] for row in rows], [list(asked[row].values()) for row in rows])
        keys = [(row, key) for row in rows for key in asked[row]]
        for dimension in DIMENSIONS:
            here = [index for index, (_, key) in enumerate(keys) if key == dimension]
            if here:
                for index, value in zip(here, model.heads[dimension](look.hidden[here]).tolist(), strict=True):
                    found[keys[index][0]][dimension] = value
        here = [index for index, (_, key) in enumerate(keys) if isinstance(key, int)]
        if here:
            for index, value in zip(here, model.yes(look.hidden[here]).tolist(), strict=True):
                row, key = keys[index]
                found[row][key] = value
    return found


def _questions(spec: JudgeSpec, tasks: Sequence[str], prompt: str | None, questions: Sequence[str]) -> dict[Key, Question]:
    asked: dict[Key, Question] = {}
    if "perception" in tasks:
        asked["perception"] = question(spec, "judging/perception")
    if "correspondence" in tasks and prompt:
        asked["correspondence"] = question(spec, "judging/correspondence", prompt=prompt)
    if "answers" in tasks:
        asked |= {number: question(spec, "judging/answer", question=text) for number, text in enumerate(questions)}
    return asked
