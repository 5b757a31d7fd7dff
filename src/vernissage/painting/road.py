"""The painting road, station after station: listen, plan, choose, arguments, paint, and how like the request it is.

Each station is a function from records to records with its ports passed in. A caller who fixes the prompt, the model or
an argument overrides that station alone.
"""

import math
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ValidationError

from vernissage.errors import BadInput, BadPlan, ReplyError, UnknownName, VernissageError
from vernissage.painting.reply import PlanReply
from vernissage.ports import MLLM, T2I, Ask, Message, Progress, Reply, TextImageEncoder
from vernissage.prompts import load_prompt
from vernissage.records.chat import Chat, Turn
from vernissage.records.parameters import extract_loras
from vernissage.records.picture import Picture
from vernissage.records.plan import Arguments, Choice, Plan, Text, whole_characters
from vernissage.zoo.card import Card, explain
from vernissage.zoo.catalogue import Catalogue

MAX_TEXT = 8000


def listen(request: str | Chat, *, images: Sequence[Image.Image] = (), history: Sequence[Turn] = ()) -> Chat:
    """What is asked for, as a chat.

    Raises:
        BadInput: There is nothing to go by, or far too much.
    """
    chat = request if isinstance(request, Chat) else Chat(turns=(*history, Turn(text=request.strip())))
    if not chat.turns[-1].text.strip() and not images and not chat.images:
        raise BadInput("There is nothing to paint: the text is empty.", hint='Say what you want, e.g. "a red car".')
    longest = max(len(turn.text) for turn in chat.turns)
    if longest > MAX_TEXT:
        raise BadInput(f"The text has {longest} characters; the limit is {MAX_TEXT}.", hint="Say it more briefly.")
    return chat


def plan_chats(
    chats: Sequence[Chat], images: Sequence[Sequence[Image.Image]], mllm: MLLM, catalogue: Catalogue, models: Sequence[str | None] = ()
) -> list[Plan | VernissageError]:
    """Plans for many chats in one batch; one that cannot be planned becomes its error.

    Args:
        chats: The requests.
        images: The reference pictures of each.
        mllm: Who plans.
        catalogue: The models to choose from.
        models: Of each request the model that is fixed already, whatever the reply says; none where left out.
    """
    prompt = load_prompt("painting/plan")
    asks = []
    for chat, pictures in zip(chats, images, strict=True):
        text = prompt.render(brief=mllm.brief, turns=chat.turns, cards=list(catalogue.choosable.values()))
        asks.append(Ask(messages=(Message(text=text, images=tuple(pictures)),), reply=PlanReply))
    replies = zip(mllm.answer(asks), models or [None] * len(asks), strict=True)
    return [_to_plan(reply, catalogue, model) for reply, model in replies]


def _to_plan(reply: Reply | VernissageError, catalogue: Catalogue, model: str | None) -> Plan | VernissageError:
    if isinstance(reply, VernissageError):
        return reply
    found = reply.record
    if not isinstance(found, PlanReply):
        return ReplyError("The planner answered without a plan.", reply=reply.text)
    if model is not None and model in catalogue:
        if model != found.model:  # another model than was planned brings its own arguments
            found = PlanReply(prompt=found.prompt, negative_prompt=found.negative_prompt, model=model)
        catalogue = Catalogue(catalogue.values())
    return plan_of_reply(found, catalogue, reply.text)


def plan_of_reply(found: PlanReply, catalogue: Catalogue, text: str) -> Plan | ReplyError:
    """A planner's answer as a plan that its model can paint, or why it is none.

    Args:
        found: The answer.
        catalogue: The models.
        text: The answer in words, for the error.
    """
    if found.model not in catalogue.choosable:
        return ReplyError(
            f"The planner chose {found.model!r}, which is not among the models it may choose.",
            reply=text,
            hint="Name the model yourself, with --model.",
        )
    prompt, loras = extract_loras(found.prompt)
    if not prompt.strip():
        return ReplyError("The planner answered with an empty prompt.", reply=text, hint="Give one with --prompt.")
    return Plan(
        prompt=prompt,
        negative_prompt=found.negative_prompt,
        model=found.model,
        arguments=fit_arguments(
            Arguments(
                sampler=found.sampler,
                steps=found.steps,
                cfg_scale=found.cfg_scale,
                width=found.width,
                height=found.height,
                loras=loras,
            ),
            catalogue[found.model],
        ),
    )


def choose(plans: Sequence[Plan], mllm: MLLM, catalogue: Catalogue) -> list[Plan | VernissageError]:
    """The plans with their runners-up: the probability of every model of the catalogue for the plan's prompt.

    The plan's own model stays. Probabilities come from the model's likelihoods; where it gives none, the plans come
    back without runners-up, and nothing is made up.
    """
    prompt = load_prompt("painting/choose")
    models = list(catalogue.choosable)
    asks = [
        Ask(messages=(Message(text=prompt.render(brief=mllm.brief, prompt=plan.prompt, cards=list(catalogue.choosable.values()))),))
        for plan in plans
    ]
    chosen: list[Plan | VernissageError] = []
    for plan, probabilities in zip(plans, mllm.choose(asks, models), strict=True):
        if isinstance(probabilities, VernissageError):
            chosen.append(plan)
            continue
        order = np.argsort(-probabilities, kind="stable")
        choices = tuple(Choice(model=models[i], probability=float(np.clip(probabilities[i], 0, 1))) for i in order)
        chosen.append(plan.model_copy(update={"choices": choices}))
    return chosen


def fit_arguments(arguments: Arguments, card: Card) -> Arguments:
    """A planner's arguments brought within the card's ranges, what is left open taken from the card.

    A model may well plan 200 steps or a width of 500; what a person sets is checked instead, see `override`.
    """
    steps = None if arguments.steps is None else int(min(max(arguments.steps, card.steps.low), card.steps.high))
    cfg_scale = arguments.cfg_scale
    if cfg_scale is not None:
        cfg_scale = None if math.isnan(cfg_scale) else min(max(cfg_scale, card.cfg_scale.low), card.cfg_scale.high)
    sampler = arguments.sampler if not card.samplers or arguments.sampler in card.samplers else None
    sampler = sampler or None  # a planner may leave it empty
    return card.complete(
        arguments.model_copy(
            update={
                "steps": steps,
                "cfg_scale": cfg_scale,
                "width": None if arguments.width is None else card.nearest_side(arguments.width),
                "height": None if arguments.height is None else card.nearest_side(arguments.height),
                "sampler": sampler,
            }
        )
    )


class Overrides(BaseModel):
    """What the caller fixes; None leaves it to the planner."""

    model_config = {"frozen": True, "extra": "forbid"}

    prompt: Text | None = None
    negative_prompt: Text | None = None
    model: str | None = None
    arguments: Arguments = Arguments()


def overrides_of(named: Mapping[str, Any]) -> Overrides:
    """What the caller fixed by name; None fixes nothing.

    Raises:
        UnknownName: There is nothing of a name.
        BadInput: A value is none of its kind.
    """
    plain, arguments = set(Overrides.model_fields) - {"arguments"}, set(Arguments.model_fields)
    for name in named:
        if name not in plain | arguments:
            raise UnknownName("option of painting", name, [*plain, *arguments, "count", "images", "history", "progress"])
    given = {name: value for name, value in named.items() if value is not None}
    try:
        fixed = {name: value for name, value in given.items() if name in arguments}
        return Overrides.model_validate({name: value for name, value in given.items() if name in plain} | {"arguments": fixed})
    except ValidationError as error:
        raise BadInput(f"What is fixed has a mistake: {explain(error)}.", hint="See painting.road.Overrides.") from error


def override(plan: Plan, overrides: Overrides, catalogue: Catalogue) -> Plan:
    """The plan with what the caller fixed put in its place, and checked.

    A different model brings its own default arguments along.

    Raises:
        UnknownName: There is no such model or sampler.
        BadPlan: A number is out of the model's range.
    """
    model = overrides.model or plan.model
    card = catalogue[model]
    planned = plan.arguments if model == plan.model else Arguments(seed=plan.arguments.seed, loras=plan.arguments.loras)
    given = {name: value for name, value in overrides.arguments if value not in (None, ())}
    merged = plan.model_copy(
        update={
            "prompt": plan.prompt if overrides.prompt is None else overrides.prompt,
            "negative_prompt": plan.negative_prompt if overrides.negative_prompt is None else overrides.negative_prompt,
            "model": model,
            "arguments": card.complete(planned.model_copy(update=given)),
        }
    )
    if not merged.prompt.strip():
        raise BadPlan("The prompt is empty.", hint='Give --prompt some words, e.g. "a red car".')
    card.check(merged)
    return merged


def check_overrides(overrides: Overrides, catalogue: Catalogue) -> None:
    """Find mistakes in what the caller fixed before any model is loaded; see `override`."""
    prompt = "x" if overrides.prompt is None else overrides.prompt
    if overrides.model is not None:
        override(Plan(prompt=prompt, model=overrides.model), overrides, catalogue)
    elif not prompt.strip() or not any(_accepts(card, overrides) for card in catalogue.values()):
        try:
            override(Plan(prompt=prompt, model=next(iter(catalogue))), overrides, catalogue)
        except BadPlan as error:
            if len(catalogue) < 2 or not prompt.strip():
                raise
            raise BadPlan(f"None of the models that can be chosen takes this: {error.message}", hint=error.hint) from error


def _accepts(card: Card, overrides: Overrides) -> bool:
    try:
        card.check(Plan(prompt="x", model=card.id, arguments=overrides.arguments))
    except (BadPlan, UnknownName):
        return False
    return True


def seeded(plan: Plan, count: int) -> list[Plan]:
    """The plan `count` times, with consecutive seeds from its own on, or from a random one.

    Raises:
        BadPlan: There are not so many.
    """
    first = plan.arguments.seed if plan.arguments.seed is not None else secrets.randbelow(2**32)
    if first + count > 2**64:
        raise BadPlan(f"There are no {count} seeds from {first} on.", hint="Choose a smaller seed.")
    return [plan.model_copy(update={"arguments": plan.arguments.model_copy(update={"seed": first + place})}) for place in range(count)]


def paint_plans(
    plans: Sequence[Plan],
    t2i: T2I,
    *,
    encoder: TextImageEncoder | None = None,
    request: str = "",
    progress: Progress | None = None,
) -> list[Picture | VernissageError]:
    """Pictures for plans, each with its similarity to the prompt where an encoder is given that can tell it."""
    pictures = t2i.paint(plans, progress=progress)
    painted = [index for index, picture in enumerate(pictures) if isinstance(picture, Picture)]
    similarity: dict[int, float] = {}
    if encoder is not None and painted:
        with suppress(VernissageError):  # no picture is lost for what only comes along with it
            seen = encoder.encode([pictures[index].image for index in painted])  # pyright: ignore
            said = encoder.encode_text([plans[index].prompt for index in painted])
            similarity = dict(zip(painted, (seen * said).sum(axis=1).tolist(), strict=True))
    results: list[Picture | VernissageError] = []
    for index, picture in enumerate(pictures):
        if isinstance(picture, Picture) and picture.provenance is not None:
            choices = plans[index].choices
            provenance = picture.provenance.model_copy(
                update={
                    "plan": picture.provenance.plan.model_copy(update={"choices": choices}),
                    "request": whole_characters(request),
                    "similarity": similarity.get(index),
                }
            )
            picture = Picture.of(picture.image, provenance)
        results.append(picture)
    return results
