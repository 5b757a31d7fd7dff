"""Fills the port `Planner` with a trained planner: Base in one answer, Evo in one dialogue (prompt, model, arguments)."""

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, final

import torch
from PIL import Image
from pydantic import ValidationError, create_model
from torch import Tensor

from vernissage.datasets.collect import read_demonstrations
from vernissage.errors import DriverError, OutOfMemory, ReplyError, VernissageError
from vernissage.local.adapters import merge_adapter
from vernissage.local.device import pick_device
from vernissage.painting.likeness import Shelf
from vernissage.painting.nn.network import ADAPTER, Said, chat_question, load_planner
from vernissage.painting.planner_spec import DEMONSTRATIONS
from vernissage.painting.reply import ArgumentsReply, PlanReply
from vernissage.painting.road import fit_arguments, plan_of_reply
from vernissage.ports import Given
from vernissage.records.chat import Chat, Turn
from vernissage.records.demonstration import Demonstration
from vernissage.records.parameters import extract_loras
from vernissage.records.plan import Arguments, Choice, Plan
from vernissage.zoo.catalogue import Catalogue

MOST_TEXTS = 8
"""Demonstrations that a model is known by, besides its description."""
CHOICES = 10
"""Runners-up that a plan remembers."""
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError)


class _Rows(NamedTuple):
    """Models and their rows of W_M."""

    models: list[str]
    tokens: Tensor


@final
class TrainedPlanner:
    """A planner that was trained on queries.

    Args:
        model: Folder of the planner.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "auto", "float32", "float16", "bfloat16".
        batch_size: Chats in one pass.
    """

    def __init__(self, model: str, *, device: str = "auto", dtype: str = "auto", batch_size: int = 8) -> None:
        folder = Path(model)
        self._network, self.spec, weights = load_planner(folder, device=pick_device(device), dtype=dtype)
        if self.spec.adapter is not None:
            merge_adapter(self._network.backbone, ADAPTER)
        self._tokens, self._map = weights.tokens, weights.row_map
        self._added: dict[str, Tensor] = {}
        self.name = self.spec.name
        self.batch_size = batch_size
        shown: dict[str, list[Demonstration]] = {}
        if (folder / DEMONSTRATIONS).exists():
            for each in read_demonstrations(folder / DEMONSTRATIONS):
                shown.setdefault(each.plan.model, []).append(each)
        self._shelves = {name: Shelf(own) for name, own in shown.items()}
        self._one_at_a_time = threading.Lock()

    def plan(
        self, chats: Sequence[Chat], images: Sequence[Sequence[Image.Image]], catalogue: Catalogue, given: Sequence[Given] = ()
    ) -> list[Plan | VernissageError]:
        """A plan for each chat; see `ports.Planner`."""
        given = given or [Given()] * len(chats)
        order = sorted(range(len(chats)), key=lambda row: (len(images[row]), sum(len(turn.text) for turn in chats[row].turns)))
        plans: dict[int, Plan | VernissageError] = {}
        with self._one_at_a_time:
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                planned = self._batch([chats[r] for r in rows], [images[r] for r in rows], catalogue, [given[r] for r in rows])
                plans |= dict(zip(rows, planned, strict=True))
        return [plans[row] for row in range(len(chats))]

    def _batch(
        self, chats: list[Chat], images: list[Sequence[Image.Image]], catalogue: Catalogue, given: list[Given]
    ) -> list[Plan | VernissageError]:
        make = self._evo if self.spec.kind == "evo" else self._base
        try:
            return make(chats, images, catalogue, given)
        except (torch.OutOfMemoryError, MemoryError) as error:
            trouble: VernissageError = OutOfMemory(f"{self.name} needs more memory.", hint="Lower the planner's batch_size.")
            trouble.__cause__ = error
        except VernissageError as error:
            trouble = error
        except _FAILURES as error:
            trouble = DriverError(f"{self.name} could not plan: {error}")
        if len(chats) == 1:
            return [trouble]
        rows = zip(chats, images, given, strict=True)
        return [plan for chat, own, fixed in rows for plan in self._batch([chat], [own], catalogue, [fixed])]

    def _base(
        self, chats: list[Chat], images: list[Sequence[Image.Image]], catalogue: Catalogue, given: list[Given]
    ) -> list[Plan | VernissageError]:
        openings = [chat_question(self._network, "painting/plan", chat, len(own)) for chat, own in zip(chats, images, strict=True)]
        said = self._network.begin(openings, images, reply=_known_plan(tuple(catalogue.choosable)), most=512)
        plans: list[Plan | VernissageError] = []
        for text, fixed in zip(said.answers, given, strict=True):
            try:
                reply = PlanReply.model_validate_json(text)
            except ValidationError:
                plans.append(ReplyError(f"{self.name} did not end its plan.", reply=text))
                continue
            # Base answers at once: what is given takes the place of its own words, and changes nothing else that it says.
            plan = plan_of_reply(reply.model_copy(update={"model": fixed.model or reply.model}), Catalogue(catalogue.values()), text)
            if isinstance(plan, Plan) and fixed.prompt is not None:
                plan = plan.model_copy(update={"prompt": fixed.prompt})
            plans.append(plan)
        return plans

    def _evo(
        self, chats: list[Chat], images: list[Sequence[Image.Image]], catalogue: Catalogue, given: list[Given]
    ) -> list[Plan | VernissageError]:
        said = self._say_prompts(chats, images, given)
        chosen = self._choose(said.ended, catalogue, given)
        models = [choices[0].model for choices in chosen]
        shown = [
            self._shelves[model].nearest(prompt, self.spec.shown) if model in self._shelves else []
            for model, prompt in zip(models, said.answers, strict=True)
        ]
        told = [[shown_as(each) for each in own] for own in shown]
        questions = [
            self._network.question("painting/arguments", model=model, demonstrations=own) for model, own in zip(models, told, strict=True)
        ]
        likely = [[each["answer"] for each in own] for own in told]
        answers = self._network.finish(said, questions, likely, reply=ArgumentsReply, most=128)
        plans: list[Plan | VernissageError] = []
        for prompt, whole, choices, own, text, fixed in zip(said.answers, said.whole, chosen, shown, answers, given, strict=True):
            if not whole:
                plans.append(ReplyError(f"{self.name} did not end its prompt.", reply=prompt, hint="Give one with --prompt."))
                continue
            card = catalogue[choices[0].model]
            words, loras = (fixed.prompt, ()) if fixed.prompt is not None else extract_loras(prompt)
            if not words.strip():
                plans.append(ReplyError(f"{self.name} answered with an empty prompt.", reply=prompt, hint="Give one with --prompt."))
                continue
            try:
                # Without demonstrations there is nothing to read arguments off: the card's own are taken.
                reply = ArgumentsReply.model_validate_json(text) if own else ArgumentsReply()
            except ValidationError:
                plans.append(ReplyError(f"{self.name} did not end its arguments.", reply=text))
                continue
            arguments = Arguments(**reply.model_dump(exclude={"negative_prompt"}), loras=loras)
            plans.append(
                Plan(
                    prompt=words,
                    negative_prompt=reply.negative_prompt,
                    model=card.id,
                    arguments=fit_arguments(arguments, card),
                    choices=tuple(choices),
                )
            )
        return plans

    def _say_prompts(self, chats: list[Chat], images: list[Sequence[Image.Image]], given: list[Given]) -> Said:
        """Prompts said or, where all are given, recited."""
        openings = [chat_question(self._network, "painting/prompt", chat, len(own)) for chat, own in zip(chats, images, strict=True)]
        if all(fixed.prompt is not None for fixed in given):
            return self._network.recite(openings, images, [fixed.prompt or "" for fixed in given])
        said = self._network.begin(openings, images)
        if all(fixed.prompt is None for fixed in given):
            return said
        recited = self._network.recite(openings, images, [fixed.prompt or own for fixed, own in zip(given, said.answers, strict=True)])
        return recited._replace(whole=[fixed.prompt is not None or own for fixed, own in zip(given, said.whole, strict=True)])

    def _rows(self, catalogue: Catalogue) -> "_Rows":
        """W_M for the models that may be chosen; those that nobody trained get a row from what their cards say."""
        known = [number for number, model in enumerate(self.spec.models) if model in catalogue.choosable]
        models = [self.spec.models[number] for number in known]
        tokens = self._tokens[known] if self._tokens is not None else torch.empty(0, 0)
        added = [card for model, card in catalogue.choosable.items() if model not in self.spec.models]
        if not added or self._map is None or self._tokens is None:
            return _Rows(models, tokens)
        new = [card for card in added if card.id not in self._added]
        if new:
            features = torch.stack(
                [
                    self._network.states(*about(card.description, [shown.prompt for shown in card.demonstrations])).mean(dim=0)
                    for card in new
                ]
            )
            self._added |= dict(zip([card.id for card in new], self._map.rows(self._tokens, features), strict=True))
        return _Rows([*models, *(card.id for card in added)], torch.cat([tokens, *(self._added[card.id][None] for card in added)]))

    def _choose(self, hidden: Tensor, catalogue: Catalogue, given: list[Given]) -> list[list[Choice]]:
        """Each chat's models, most likely first, the given one before all others."""
        rows = self._rows(catalogue)
        if not rows.models:
            raise DriverError(f"None of the models that {self.name} knows is in the catalogue.", hint="Add their cards.")
        likely = (hidden.float().to(rows.tokens.device) @ rows.tokens.T).softmax(dim=1)
        chosen = []
        for row, fixed in zip(likely, given, strict=True):
            best = row.topk(min(CHOICES, len(rows.models)))
            choices = [Choice(model=rows.models[i], probability=float(p)) for p, i in zip(best.values, best.indices.tolist(), strict=True)]
            if fixed.model is not None:
                first = [each for each in choices if each.model == fixed.model]
                known = float(row[rows.models.index(fixed.model)]) if fixed.model in rows.models else 0.0
                choices = (first or [Choice(model=fixed.model, probability=known)]) + [each for each in choices if each not in first]
            chosen.append(choices)
        return chosen


@lru_cache(maxsize=8)
def _known_plan(models: tuple[str, ...]) -> type[PlanReply]:
    """Base's answer with a model that there is: without this it spells names that nobody has heard of."""
    return create_model("KnownPlan", __base__=PlanReply, model=(Literal[models], ...))


def about(description: str, prompts: Sequence[str]) -> tuple[list[Chat], list[list[Image.Image]], list[str]]:
    """Texts about a model as if they were chats and their prompts, for `Network.states`."""
    texts = [text for text in [description, *prompts[:MOST_TEXTS]] if text.strip()] or ["a picture"]
    return [Chat(turns=(Turn(text=text),)) for text in texts], [[] for _ in texts], texts


def shown_as(demonstration: Demonstration) -> dict[str, str]:
    """A demonstration as the prompt `painting/arguments` shows it."""
    values = demonstration.plan.arguments.model_dump(include=set(ArgumentsReply.model_fields))
    answer = ArgumentsReply(negative_prompt=demonstration.plan.negative_prompt, **values)
    return {"prompt": demonstration.plan.prompt, "answer": answer.model_dump_json()}
