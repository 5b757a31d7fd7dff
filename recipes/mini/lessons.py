"""What the mini MLLM is taught: questions of every kind with their exact answers, worded by the package's own prompts."""

from typing import NamedTuple

import numpy as np

from vernissage.painting.reply import PlanReply
from vernissage.prompts import load_prompt
from vernissage.records.chat import Turn
from vernissage.world import tell
from vernissage.world.chats import WorldChat, sample_chat
from vernissage.world.scene import Scene, sample_scene
from vernissage.zoo.card import Card
from vernissage.zoo.catalogue import load_catalogue

SHARES = {
    "plan": 0.40,
    "choose": 0.04,
    "caption": 0.16,
    "tree": 0.10,
    "answer": 0.16,
    "compare": 0.07,
    "rewrite": 0.03,
    "revise": 0.04,
}
SPECIALIST = {"neon": "mini/neon", "pixel art": "mini/pixel", "sketch": "mini/sketch", "watercolour": "mini/watercolour"}
CARDS = load_catalogue()


class Lesson(NamedTuple):
    """One question with the scenes of its pictures, and the answer to learn."""

    scenes: list[Scene]
    question: str
    answer: str


def best_model(style: str | None) -> Card:
    """The card that a perfect planner chooses."""
    return CARDS[SPECIALIST.get(style or "", "mini/general")]


def perfect_plan(chat: WorldChat) -> PlanReply:
    """The answer that a perfect planner gives."""
    card = best_model(chat.wanted.style)
    return PlanReply(
        prompt=tell.prompt(chat.scene, facts=chat.stated),
        negative_prompt=card.defaults.model_dump().get("negative_prompt", ""),
        model=card.id,
        sampler=card.defaults.sampler,
        steps=card.defaults.steps,
        cfg_scale=card.defaults.cfg_scale,
        width=card.width,
        height=card.height,
    )


def plan_question(chat: WorldChat) -> str:
    turns = [Turn(role=role, text=text) for role, text in chat.turns]
    return load_prompt("painting/plan").render(brief=True, turns=turns, cards=[])


def near(scene: Scene, rng: np.random.Generator) -> Scene:
    """Another scene of the training set that shares most facts with this one."""
    other = sample_scene(rng, pairs=1.0 if len(scene.groups) == 2 else 0.0)
    changes = {name: getattr(other, name) for name in ("place", "time", "style") if rng.random() < 0.3}
    if rng.random() < 0.5:
        groups = list(scene.groups)
        index = int(rng.integers(len(groups)))
        field = ("count", "colour")[rng.integers(2)]
        groups[index] = groups[index].model_copy(update={field: getattr(other.groups[index], field)})
        changes["groups"] = tuple(groups)
    return scene.model_copy(update=changes)


def sample_lesson(rng: np.random.Generator, task: str | None = None, scene: Scene | None = None) -> Lesson:
    """Draw a lesson by lot, of a task and about a scene where they are given."""
    task = task or list(SHARES)[rng.choice(len(SHARES), p=list(SHARES.values()))]
    if task == "plan":
        chat = sample_chat(rng)
        return Lesson([chat.reference] if chat.reference else [], plan_question(chat), perfect_plan(chat).model_dump_json())
    scene = scene or sample_scene(rng)
    stated = frozenset(fact for fact in sorted(tell.ALL_FACTS) if rng.random() < 0.85)

    def ask(prompt_id: str, **inputs: object) -> str:
        return load_prompt(prompt_id).render(brief=True, **inputs)

    match task:
        case "choose":
            model = best_model(scene.style if "style" in stated else None).id
            return Lesson([], ask("painting/choose", prompt=tell.prompt(scene, facts=stated), cards=[]), model)
        case "caption":
            return Lesson([scene], ask("repainting/caption"), tell.caption(scene))
        case "tree":
            return Lesson([scene], ask("repainting/tree"), tell.tree(scene).model_dump_json())
        case "answer":
            questions = tell.questions(scene, rng)
            question = questions[rng.integers(len(questions))]
            return Lesson([scene], ask("judging/answer", question=question.text), "yes" if question.answer else "no")
        case "compare":
            current = near(scene, rng)
            return Lesson([scene, current], ask("repainting/compare"), "; ".join(tell.differences(current, scene)) or "no change")
        case "rewrite":
            return Lesson([], ask("repainting/rewrite", prompt=tell.prompt(scene, rng)), tell.prompt(scene, rng))
        case _:
            current = near(scene, rng)
            feedback = "; ".join(tell.differences(current, scene)) or "no change"
            return Lesson([], ask("repainting/revise", prompt=tell.prompt(current), feedback=feedback), tell.prompt(scene))
