"""Fills the port `Planner` with any multimodal language model, asked for the whole plan in one answer."""

from collections.abc import Sequence
from typing import final

from PIL import Image

from vernissage.errors import VernissageError
from vernissage.painting.road import choose, listen, plan_chats
from vernissage.ports import MLLM, Given
from vernissage.records.chat import Chat
from vernissage.records.plan import Plan
from vernissage.zoo.catalogue import Catalogue


@final
class MLLMPlanner:
    """A planner that was not trained to be one.

    Args:
        mllm: Who is asked.
    """

    def __init__(self, mllm: MLLM) -> None:
        self._mllm = mllm
        self.name = mllm.name

    def plan(
        self, chats: Sequence[Chat], images: Sequence[Sequence[Image.Image]], catalogue: Catalogue, given: Sequence[Given] = ()
    ) -> list[Plan | VernissageError]:
        """A plan for each chat; see `ports.Planner`. Where the prompt is given, only the model is chosen for it."""
        given = given or [Given()] * len(chats)
        plans: list[Plan | VernissageError | None] = [None] * len(chats)
        fixed = [row for row, known in enumerate(given) if known.prompt is not None]
        first = next(iter(catalogue.choosable))
        guesses = [Plan(prompt=given[row].prompt or "", model=given[row].model or first) for row in fixed]
        for row, plan in zip(fixed, choose(guesses, self._mllm, catalogue), strict=True):
            if isinstance(plan, Plan) and plan.choices:
                plans[row] = plan.model_copy(update={"model": given[row].model or plan.choices[0].model})
        left = [row for row, plan in enumerate(plans) if plan is None]
        # One that cannot tell likelihoods is asked to plan the prompt as if somebody had typed it.
        asked = [listen(given[row].prompt or "") if row in fixed else chats[row] for row in left]
        planned = plan_chats(asked, [images[row] for row in left], self._mllm, catalogue)
        open_rows = [place for place, row in enumerate(left) if isinstance(planned[place], Plan) and given[row].model is None]
        for place, plan in zip(open_rows, choose([planned[p] for p in open_rows], self._mllm, catalogue), strict=True):  # pyright: ignore
            planned[place] = plan
        for row, plan in zip(left, planned, strict=True):
            plans[row] = plan
        return plans  # pyright: ignore[reportReturnType]
