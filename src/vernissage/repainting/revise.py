"""Words for the next round: synonyms of a prompt, feedback on the best picture, prompts revised by it (stage 2, steps 1 and 4)."""

import re
from collections.abc import Sequence

from PIL import Image

from vernissage.errors import VernissageError
from vernissage.ports import Ask
from vernissage.records.regeneration import ASPECTS, Aspect
from vernissage.records.tree import UnderstandingTree
from vernissage.repainting.lockstep import Questions, Replies, Work
from vernissage.repainting.understand import question, words_of

TEMPERATURE = 0.5
"""Of rewriting and revising, so that the candidates of a round differ; ours, the paper does not say."""


def rewrite(prompt: str, count: int, *, seed: int, brief: bool) -> Work[tuple[list[str], list[str]]]:
    """`count` prompts that mean the same: the prompt itself and synonyms of it.

    T2I models read synonyms unevenly, so one good prompt can give a bad picture.

    Returns:
        (prompts, failures)
    """
    asks = [question("repainting/rewrite", (), brief=brief, prompt=prompt)] * (count - 1)
    return (yield from _several(asks, prompt, first=[prompt], seed=seed))


def give_feedback(
    reference: Image.Image, picture: Image.Image, aspect: Aspect, *, tree: UnderstandingTree | None, brief: bool
) -> Work[str]:
    """What must change in the picture to match the reference in one aspect.

    Raises:
        VernissageError: The MLLM gave no usable answer.
    """
    ask = question(
        "repainting/compare",
        (reference, picture),
        brief=brief,
        aspect=aspect,
        meaning=ASPECTS[aspect],
        caption=tree.caption if tree else "",
        tree=tree.outline() if tree else "(nothing was written down)",
    )
    replies: Replies = yield Questions([ask])
    return words_of(replies[0])


_NO_CHANGE = re.compile(
    r"(there (is|are) )?no changes?( (is|are))?( (needed|necessary|required))?|nothing (must|needs to|has to) (change|be changed)"
)


def is_no_change(feedback: str) -> bool:
    """Whether the feedback is that nothing must change, which `repainting/compare` asks to be said as "no change".

    Example:
        >>> is_no_change("**No change.**"), is_no_change("No change in style; make the sky bluer")
        (True, False)
    """
    words = " ".join(re.findall(r"\w+", feedback.lower()))
    return _NO_CHANGE.fullmatch(words) is not None


def revise(prompt: str, feedback: str, count: int, *, seed: int, brief: bool) -> Work[tuple[list[str], list[str]]]:
    """`count` prompts that follow the feedback.

    Returns:
        (prompts, failures)
    """
    asks = [question("repainting/revise", (), brief=brief, prompt=prompt, feedback=feedback)] * count
    return (yield from _several(asks, prompt, first=[], seed=seed))


def _several(asks: Sequence[Ask], fallback: str, *, first: list[str], seed: int) -> Work[tuple[list[str], list[str]]]:
    """The answers to questions that differ in their seed only; the first revision is the likeliest one.

    In the place of an answer that could not be had stands the prompt that was to be changed: another picture of it is
    worth having, and the failure is told.
    """
    drawn = [
        ask.model_copy(update={"temperature": TEMPERATURE if first or index else 0.0, "seed": seed + index})
        for index, ask in enumerate(asks)
    ]
    replies: Replies = yield Questions(drawn)
    prompts, failures = list(first), []
    for reply in replies:
        try:
            prompts.append(words_of(reply))
        except VernissageError as error:
            prompts.append(fallback)
            failures.append(f"a rewritten prompt: {error}")
    return prompts, failures
