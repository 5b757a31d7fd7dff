"""A judge without training: any MLLM, asked which of five words fits, and yes or no.

Where the MLLM tells probabilities, a score is the mean over the words' scores; where it only answers, the score of its word.
The verdict says which. Such a judge knows nothing of how people rate; its 0 to 100 is its own scale.
"""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.errors import NoProbabilities, VernissageError
from vernissage.judging.levels import expected_score, level_of, score_of
from vernissage.ports import MLLM, Ask, Message, Reply
from vernissage.prompts import load_prompt
from vernissage.records.verdict import LEVELS, NO_PROMPT, Answer, Level, Score, Unscored, Verdict, read_yes

_BY_PROBABILITY, _BY_WORD = "by the probabilities of its words", "by its word"


class ZeroShotJudge:
    """Fills the port `Judge` with an MLLM.

    Args:
        mllm: Who judges.
    """

    def __init__(self, mllm: MLLM) -> None:
        self.name = f"{mllm.name}, zero-shot"
        self._mllm = mllm
        self._tells: bool | None = None  # whether the MLLM tells probabilities: found out once, so that all verdicts compare

    def judge(self, images: Sequence[Image.Image], prompts: Sequence[str | None], questions: Sequence[Sequence[str]]) -> list[Verdict]:
        """Perception, correspondence and answers for each picture; see `ports.Judge`."""
        asked = [("judging/perception", index, {}) for index in range(len(images))]
        asked += [("judging/correspondence", index, {"prompt": text}) for index, text in enumerate(prompts) if text and text.strip()]
        scored = self._levels([_ask(prompt_id, images[index], self._mllm, **inputs) for prompt_id, index, inputs in asked])
        found = {(prompt_id, index): score for (prompt_id, index, _), score in zip(asked, scored, strict=True)}
        about = [(index, text) for index, several in enumerate(questions) for text in several]
        said = self._answers([_ask("judging/answer", images[index], self._mllm, question=text) for index, text in about])
        answers = dict(zip(about, said, strict=True))
        way = {True: f", {_BY_PROBABILITY}", False: f", {_BY_WORD}", None: ""}[self._tells]
        verdicts = []
        for index in range(len(images)):
            perception, correspondence = found["judging/perception", index], found.get(("judging/correspondence", index), (NO_PROMPT, None))
            verdicts.append(
                Verdict(
                    perception=perception[0],
                    perception_level=perception[1],
                    correspondence=correspondence[0],
                    correspondence_level=correspondence[1],
                    answers=tuple(Answer(question=text, yes=answers[index, text]) for text in questions[index]),
                    judge=f"{self.name}{way}",
                )
            )
        return verdicts

    def _chosen(self, asks: Sequence[Ask], options: Sequence[str]) -> list[ndarray | VernissageError] | None:
        """The probability of each option, or None where the MLLM tells none."""
        if not asks or self._tells is False:
            return None
        chosen = self._mllm.choose(asks, options)
        if any(isinstance(each, ndarray) for each in chosen):
            self._tells = True
        elif self._tells is None and all(isinstance(each, NoProbabilities) for each in chosen):
            self._tells = False  # a failure that passes is no reason to judge by words from now on
        return None if self._tells is False else chosen

    def _levels(self, asks: Sequence[Ask]) -> list[tuple[Score | Unscored, Level | None]]:
        chosen = self._chosen(asks, LEVELS)
        if not asks:
            return []
        return [_by_word(reply) for reply in self._mllm.answer(asks)] if chosen is None else [_by_probability(each) for each in chosen]

    def _answers(self, asks: Sequence[Ask]) -> list[Score | Unscored]:
        """The probability of yes for each question; 1 or 0 where the MLLM only answers."""
        chosen = self._chosen(asks, ("yes", "no"))
        if chosen is None:
            return [_yes(reply) for reply in self._mllm.answer(asks)] if asks else []
        usable = [_usable(each) for each in chosen]
        return [Score(value=float(np.clip(each[0], 0, 1))) if isinstance(each, ndarray) else each for each in usable]


def _ask(prompt_id: str, image: Image.Image, mllm: MLLM, **inputs: object) -> Ask:
    text = load_prompt(prompt_id).render(brief=mllm.brief, **inputs)
    return Ask(messages=(Message(text=text, images=(image,)),), max_tokens=16)


def _usable(probabilities: ndarray | VernissageError) -> ndarray | Unscored:
    if isinstance(probabilities, VernissageError):
        return Unscored(reason=str(probabilities))
    if not np.isfinite(probabilities).all() or probabilities.sum() <= 0:
        return Unscored(reason="the probabilities of the answers are no numbers")
    return probabilities


def _by_probability(chosen: ndarray | VernissageError) -> tuple[Score | Unscored, Level | None]:
    probabilities = _usable(chosen)
    if isinstance(probabilities, Unscored):
        return probabilities, None
    score = expected_score(probabilities / probabilities.sum(), 0, 100)
    return Score(value=score), level_of(score, 0, 100)


def _by_word(reply: Reply | VernissageError) -> tuple[Score | Unscored, Level | None]:
    if isinstance(reply, VernissageError):
        return Unscored(reason=str(reply)), None
    words = [word.strip(".,;:!()*\"'") for word in reply.text.lower().split()]
    named: list[Level] = [level for level in LEVELS if level in words]
    if len(named) != 1 or {"not", "isn't", "no", "never"} & set(words):
        return Unscored(reason=f"the answer names no one level: {reply.text[:80]!r}"), None
    return Score(value=score_of(named[0], 0, 100)), named[0]


def _yes(reply: Reply | VernissageError) -> Score | Unscored:
    return Unscored(reason=str(reply)) if isinstance(reply, VernissageError) else read_yes(reply.text)
