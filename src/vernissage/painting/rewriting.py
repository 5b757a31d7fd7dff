"""Fills the port `Planner` as ChatGen's Baseline does: the prompt reworded in context, one model, its default arguments."""

from collections.abc import Sequence
from typing import final

from PIL import Image

from vernissage.errors import ReplyError, UnknownName, VernissageError
from vernissage.ports import MLLM, Ask, Given, Message, Reply
from vernissage.prompts import load_prompt
from vernissage.records.chat import Chat
from vernissage.records.plan import Plan
from vernissage.zoo.catalogue import Catalogue

SHOWN = 3
"""Demonstrations of the model whose prompts are shown."""


@final
class RewritingPlanner:
    """A planner that neither chooses nor configures.

    Args:
        mllm: Who rewords.
        model: Who paints everything; the catalogue's first where left out.

    References:
        ChatGen (arXiv 2411.17176), the Baseline of its table.
    """

    def __init__(self, mllm: MLLM, model: str | None = None) -> None:
        self._mllm, self._model = mllm, model
        self.name = f"baseline with {mllm.name}"

    def plan(
        self, chats: Sequence[Chat], images: Sequence[Sequence[Image.Image]], catalogue: Catalogue, given: Sequence[Given] = ()
    ) -> list[Plan | VernissageError]:
        """A plan for each chat; see `ports.Planner`."""
        given = given or [Given()] * len(chats)
        prompt = load_prompt("painting/reword")
        asks = []
        for chat, own, fixed in zip(chats, images, given, strict=True):
            model = fixed.model or self._model or next(iter(catalogue.choosable))
            shown = [each.prompt for each in catalogue[model].demonstrations[:SHOWN]] if model in catalogue else []
            asked = prompt.render(brief=self._mllm.brief, turns=chat.turns, shown=shown)
            asks.append(Ask(messages=(Message(text=asked, images=tuple(own)),)))
        plans: list[Plan | VernissageError] = []
        for reply, fixed in zip(self._mllm.answer(asks), given, strict=True):
            try:
                card = catalogue[fixed.model or self._model or next(iter(catalogue.choosable))]
            except UnknownName as error:
                plans.append(error)
                continue
            if isinstance(reply, Reply) and (text := fixed.prompt or " ".join(reply.text.split())):
                plans.append(Plan(prompt=text, model=card.id, arguments=card.complete(card.defaults)))
            else:
                plans.append(reply if isinstance(reply, VernissageError) else ReplyError("The language model said nothing.", reply=""))
        return plans
