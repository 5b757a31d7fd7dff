"""Fills the port `Planner` with any multimodal language model, asked for the whole plan in one answer."""

from collections.abc import Sequence
from typing import final

from PIL import Image

from vernissage.errors import BadInput, UnknownName, VernissageError
from vernissage.painting.road import choose, listen, plan_chats
from vernissage.ports import MLLM, Given
from vernissage.records.chat import Chat
from vernissage.records.plan import Arguments, Plan
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
        plans: dict[int, Plan | VernissageError] = {}
        fixed = [row for row, known in enumerate(given) if known.prompt is not None]
        first = next(iter(catalogue.choosable))
        guesses = [Plan(prompt=given[row].prompt or "", model=given[row].model or first) for row in fixed]
        for row, plan in zip(fixed, choose(guesses, self._mllm, catalogue), strict=True):
            if isinstance(plan, Plan) and (plan.choices or given[row].model is not None):
                plans[row] = plan.model_copy(update={"model": given[row].model or plan.choices[0].model})
        left = [row for row in range(len(chats)) if row not in plans]
        # One that cannot tell likelihoods is asked to plan the prompt as if somebody had typed it.
        asked: dict[int, Chat] = {}
        for row in left:
            try:
                asked[row] = listen(given[row].prompt or "") if row in fixed else chats[row]
            except BadInput as error:
                plans[row] = error
        models = [given[row].model for row in asked]
        planned = plan_chats(list(asked.values()), [images[row] for row in asked], self._mllm, catalogue, models)
        plans |= dict(zip(asked, planned, strict=True))
        open_rows = [(row, plan) for row in left if isinstance(plan := plans[row], Plan) and given[row].model is None]
        chosen = choose([plan for _, plan in open_rows], self._mllm, catalogue)
        plans |= dict(zip([row for row, _ in open_rows], chosen, strict=True))
        return [_kept(plans[row], given[row], catalogue) for row in range(len(chats))]


def _kept(plan: Plan | VernissageError, given: Given, catalogue: Catalogue) -> Plan | VernissageError:
    """The plan with what was given in its place; another model than was planned brings its own arguments."""
    if isinstance(plan, VernissageError):
        return plan
    model = given.model or plan.model
    try:
        card = catalogue[model]
    except UnknownName as error:
        return error
    arguments = plan.arguments if model == plan.model else Arguments(seed=plan.arguments.seed)
    return plan.model_copy(update={"prompt": given.prompt or plan.prompt, "model": model, "arguments": card.complete(arguments)})
