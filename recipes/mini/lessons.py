"""What the mini MLLM is taught: questions of every kind with their exact answers, worded by the package's own prompts."""

from typing import NamedTuple

import numpy as np

from vernissage.judging.levels import level_of
from vernissage.painting.reply import PlanReply
from vernissage.prompts import load_prompt
from vernissage.records.chat import Turn
from vernissage.records.regeneration import ASPECTS, Aspect
from vernissage.records.verdict import LEVELS
from vernissage.repainting.replies import FEATURES, MOST_OBJECTS, NamedObject, Objects, Overall, Rating, Relations
from vernissage.world import tell
from vernissage.world.chats import WorldChat, sample_chat
from vernissage.world.defects import DEFECTS, STRONGEST, Defect
from vernissage.world.facts import check_facts, facts_of
from vernissage.world.scene import Scene, sample_scene, split_of
from vernissage.zoo.card import Card
from vernissage.zoo.catalogue import load_catalogue

SHARES = {
    "plan": 0.16,
    "choose": 0.01,
    "caption": 0.05,
    "overall": 0.01,
    "objects": 0.10,
    "features": 0.10,
    "relations": 0.06,
    "describe": 0.03,
    "direct": 0.04,
    "answer": 0.18,
    "compare": 0.09,
    "rewrite": 0.03,
    "revise": 0.04,
    "rate consistency": 0.03,
    "rate perception": 0.02,
    "rate match": 0.01,
    "level perception": 0.02,
    "level correspondence": 0.02,
}
SPECIALIST = {"neon": "mini/neon", "pixel art": "mini/pixel", "sketch": "mini/sketch", "watercolour": "mini/watercolour"}
CARDS = load_catalogue()
_HOW = ("", "slightly", "clearly", "strongly", "completely")
FLAW: dict[Defect, list[str]] = {
    "blur": [f"{how} blurred" for how in _HOW],
    "noise": [f"{how} noisy" for how in _HOW],
    "warp": [f"{how} bent out of shape" for how in _HOW],
}


class Lesson(NamedTuple):
    """One question with the scenes of its pictures, and the answer to learn."""

    scenes: list[Scene]
    question: str
    answer: str
    defect: tuple[Defect, int] | None = None
    """What the picture is spoiled with, and how strongly."""


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
    """Another scene of the same set, training or held-out, that shares most facts with this one."""
    while True:
        other = sample_scene(rng, pairs=1.0 if len(scene.groups) == 2 else 0.0)
        changes = {name: getattr(other, name) for name in ("place", "time", "style") if rng.random() < 0.3}
        if rng.random() < 0.5:
            groups = list(scene.groups)
            index = int(rng.integers(len(groups)))
            field = ("count", "colour")[rng.integers(2)]
            groups[index] = groups[index].model_copy(update={field: getattr(other.groups[index], field)})
            changes["groups"] = tuple(groups)
        if split_of(found := scene.model_copy(update=changes)) == split_of(scene):
            return found


def ask(prompt_id: str, **inputs: object) -> str:
    return load_prompt(prompt_id).render(brief=True, **inputs)


def sample_lesson(rng: np.random.Generator, task: str | None = None, scene: Scene | None = None) -> Lesson:
    """Draw a lesson by lot, of a task and about a scene where they are given."""
    task = task or list(SHARES)[rng.choice(len(SHARES), p=list(SHARES.values()))]
    if task == "plan":
        chat = sample_chat(rng)
        return Lesson([chat.reference] if chat.reference else [], plan_question(chat), perfect_plan(chat).model_dump_json())
    scene = scene or sample_scene(rng)
    if task in ("choose", "rewrite", "revise", "describe"):
        return _about_words(task, scene, rng)
    if task in ("compare", "rate consistency", "rate match", "level correspondence"):
        return _about_two(task, scene, rng)
    return _about_a_picture(task, scene, rng)


def _about_words(task: str, scene: Scene, rng: np.random.Generator) -> Lesson:
    match task:
        case "choose":
            stated = frozenset(fact for fact in sorted(tell.ALL_FACTS) if rng.random() < 0.85)
            model = best_model(scene.style if "style" in stated else None).id
            return Lesson([], ask("painting/choose", prompt=tell.prompt(scene, facts=stated), cards=[]), model)
        case "rewrite":
            return Lesson([], ask("repainting/rewrite", prompt=tell.prompt(scene, rng)), tell.prompt(scene, rng))
        case "describe":
            return Lesson([], ask("repainting/describe", tree=tell.tree(scene).outline()), tell.prompt(scene))
        case _:
            current = near(scene, rng)
            aspect = list(ASPECTS)[rng.integers(len(ASPECTS))]
            changes = tell.differences(current, scene, aspect)
            question = ask("repainting/revise", prompt=tell.prompt(current, rng), feedback="; ".join(changes) or "no change")
            return Lesson([], question, tell.prompt(_changed(current, scene, aspect), rng))


def _changed(current: Scene, wanted: Scene, aspect: Aspect) -> Scene:
    """What `current` becomes when it is made like `wanted` in one respect."""
    if aspect == "style":
        return current.model_copy(update={"style": wanted.style, "time": wanted.time})
    if aspect == "overall image":
        return wanted
    groups = {group.kind: group for group in current.groups}
    if aspect == "colour":
        colours = {group.kind: group.colour for group in wanted.groups}
        changed = [group.model_copy(update={"colour": colours.get(kind, group.colour)}) for kind, group in groups.items()]
        return current.model_copy(update={"groups": tuple(changed)})
    kept = [
        group if group.kind not in groups else group.model_copy(update={"colour": groups[group.kind].colour}) for group in wanted.groups
    ]
    return current.model_copy(update={"groups": tuple(kept), "relation": wanted.relation, "place": wanted.place})


def _about_two(task: str, scene: Scene, rng: np.random.Generator) -> Lesson:
    """Lessons about a wanted scene and another that is like it."""
    current = near(scene, rng) if rng.random() < (0.85 if task == "compare" else 0.6) else sample_scene(rng)
    if task == "compare":
        aspect = list(ASPECTS)[rng.integers(len(ASPECTS))]
        caption = tell.caption(scene if rng.random() < 0.85 else near(scene, rng))  # what is read off a picture may be wrong
        question = ask("repainting/compare", aspect=aspect, meaning="", caption=caption, tree="")
        return Lesson([scene, current], question, "; ".join(tell.differences(current, scene, aspect)) or "no change")
    checks = check_facts(facts_of(scene), facts_of(current))
    share = sum(check.right for check in checks) / len(checks)
    if task == "level correspondence":
        return Lesson([current], ask("judging/correspondence", prompt=tell.prompt(scene, rng)), level_of(share, 0, 1))
    rating = Rating(reason="; ".join(tell.differences(current, scene)) or "no change", rating=1 + round(4 * share)).model_dump_json()
    if task == "rate match":
        return Lesson([current], ask("repainting/rate_match", prompt=tell.prompt(scene, rng)), rating)
    return Lesson([scene, current], ask("repainting/rate_consistency"), rating)


def _about_a_picture(task: str, scene: Scene, rng: np.random.Generator) -> Lesson:
    tree = tell.tree(scene)
    match task:
        case "caption":
            return Lesson([scene], ask("repainting/caption"), tell.caption(scene))
        case "overall":
            values = {name: getattr(tree, name) for name in ("style", "lighting", "colour_palette", "composition")}
            return Lesson([scene], ask("repainting/overall"), Overall(**values).model_dump_json())
        case "objects":
            named = Objects(objects=[NamedObject(name=thing.name, type=thing.type) for thing in tree.objects])
            return Lesson([scene], ask("repainting/objects", most=MOST_OBJECTS), named.model_dump_json())
        case "features":
            thing = tree.objects[rng.integers(len(tree.objects))]
            question = ask("repainting/features", name=thing.name, type=thing.type, features=[])
            return Lesson([scene], question, FEATURES[thing.type](**thing.features).model_dump_json(exclude_defaults=True))
        case "relations":
            names = [thing.name for thing in tree.objects]
            return Lesson([scene], ask("repainting/relations", names=names), Relations(relations=list(tree.relations)).model_dump_json())
        case "direct":
            return Lesson([scene], ask("repainting/direct"), tell.prompt(scene))
        case "rate perception" | "level perception":
            defect, strength = DEFECTS[rng.integers(len(DEFECTS))], int(rng.integers(STRONGEST + 1))
            if task == "level perception":
                return Lesson([scene], ask("judging/perception"), LEVELS[STRONGEST - strength], (defect, strength))
            reason = FLAW[defect][strength] if strength else "clean and sharp"
            rating = Rating(reason=reason, rating=5 - strength).model_dump_json()
            return Lesson([scene], ask("repainting/rate_perception"), rating, (defect, strength))
        case _:
            questions = tell.questions(scene, rng)
            question = questions[rng.integers(len(questions))]
            return Lesson([scene], ask("judging/answer", question=question.text), "yes" if question.answer else "no")
