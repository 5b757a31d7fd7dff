"""What the mini MLLM is taught: questions of every kind with their exact answers, worded by the package's own prompts."""

from typing import NamedTuple

import numpy as np

from vernissage.judging.levels import level_of
from vernissage.painting.reply import ArgumentsReply, PlanReply
from vernissage.prompts import load_prompt
from vernissage.records.chat import Turn
from vernissage.records.plan import Arguments
from vernissage.records.regeneration import ASPECTS, Aspect
from vernissage.records.verdict import LEVELS, Rating
from vernissage.repainting.replies import FEATURES, MOST_OBJECTS, NamedObject, Objects, Overall, Relations
from vernissage.world import tell
from vernissage.world.chats import WorldChat, sample_chat
from vernissage.world.defects import DEFECTS, STRONGEST, Defect
from vernissage.world.facts import check_facts, facts_of
from vernissage.world.habits import sample_habit
from vernissage.world.scene import Scene, sample_scene, split_of
from vernissage.zoo.card import Card
from vernissage.zoo.catalogue import load_catalogue

WORD_SHARES = {"plan": 0.45, "prompt": 0.12, "arguments": 0.25, "choose": 0.02, "describe": 0.06, "rewrite": 0.04, "revise": 0.06}
"""How often each lesson without a picture comes; plans and prompts may have a reference picture."""
MOST_QUESTIONS = 10
NEXT_ANSWER, NEXT_QUESTION = "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>user\n"
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


def turns_of(chat: WorldChat) -> list[Turn]:
    return [Turn(role=role, text=text) for role, text in chat.turns]


def plan_question(chat: WorldChat) -> str:
    return load_prompt("painting/plan").render(brief=True, turns=turns_of(chat), cards=[])


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


def word_lesson(rng: np.random.Generator, task: str | None = None) -> Lesson:
    """Draw a lesson about words by lot, of a task where one is given; a chat may bring a reference picture."""
    task = task or list(WORD_SHARES)[rng.choice(len(WORD_SHARES), p=list(WORD_SHARES.values()))]
    if task in ("plan", "prompt"):
        chat = sample_chat(rng)
        pictures = [chat.reference] if chat.reference else []
        if task == "plan":
            return Lesson(pictures, plan_question(chat), perfect_plan(chat).model_dump_json())
        return Lesson(pictures, ask("painting/prompt", turns=turns_of(chat)), tell.prompt(chat.scene, facts=chat.stated))
    scene = sample_scene(rng)
    match task:
        case "arguments":
            return _arguments(scene, rng)
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


def _arguments(scene: Scene, rng: np.random.Generator) -> Lesson:
    """Arguments read off demonstrations, as the second turn of a chat whose first ended in the prompt."""
    habit = sample_habit(rng)
    shown = [near(scene, rng) if rng.random() < 0.5 else sample_scene(rng) for _ in range(int(rng.integers(1, 6)))]
    if all(habit.arguments(other) != habit.arguments(scene) for other in shown):  # else nobody could know
        shown.append(scene.model_copy(update={"groups": sample_scene(rng, pairs=float(len(scene.groups) == 2)).groups}))
    shown = [other for other in shown if split_of(other) == split_of(scene)] or [scene]
    shown.sort(key=lambda other: -sum(getattr(other, name) == getattr(scene, name) for name in ("place", "time", "style")))
    rows = [{"prompt": tell.prompt(other), "answer": arguments_answer(habit.arguments(other))} for other in shown[:4]]
    before = sample_chat(rng)
    head = f"{ask('painting/prompt', turns=turns_of(before)[-1:])}{NEXT_ANSWER}{tell.prompt(scene)}{NEXT_QUESTION}"
    return Lesson([], head + ask("painting/arguments", model="", demonstrations=rows), arguments_answer(habit.arguments(scene)))


def arguments_answer(arguments: Arguments) -> str:
    return ArgumentsReply(**arguments.model_dump(include=set(ArgumentsReply.model_fields))).model_dump_json()


def pair_lessons(wanted: Scene, current: Scene, rng: np.random.Generator) -> list[Lesson]:
    """Everything that is asked about a reference and an attempt to paint it: differences by aspect, and how alike they are."""
    # What is read off a picture may be wrong.
    captions = [tell.caption(wanted if rng.random() < 0.85 else near(wanted, rng)) for _ in ASPECTS]
    return [
        Lesson(
            [wanted, current],
            ask("repainting/compare", aspect=aspect, meaning="", caption=caption, tree=""),
            "; ".join(tell.differences(current, wanted, aspect)) or "no change",
        )
        for aspect, caption in zip(ASPECTS, captions, strict=True)
        if rng.random() < 0.6
    ] + [Lesson([wanted, current], ask("repainting/rate_consistency"), _rated(wanted, current).model_dump_json())]


def _share(wanted: Scene, current: Scene) -> float:
    checks = check_facts(facts_of(wanted), facts_of(current))
    return sum(check.right for check in checks) / len(checks)


def _rated(wanted: Scene, current: Scene) -> Rating:
    reason = "; ".join(tell.differences(current, wanted)) or "no change"
    return Rating(reason=reason, rating=1 + round(4 * _share(wanted, current)))


def neighbour(scene: Scene, rng: np.random.Generator) -> Scene:
    """Another scene that may be like this one, or not."""
    return near(scene, rng) if rng.random() < 0.75 else sample_scene(rng)


def picture_lessons(scene: Scene, rng: np.random.Generator) -> list[Lesson]:
    """What is asked about a picture: its tree, prompts for it, questions, how it matches another scene's prompt.

    The long answers that are learnt early come now and then, the short ones always.
    """
    tree = tell.tree(scene)
    # What is seen first may be named first.
    names = [tree.objects[place].name for place in rng.permutation(len(tree.objects))]
    overall = Overall(**{name: getattr(tree, name) for name in ("style", "lighting", "colour_palette", "composition")})
    named = Objects(objects=[NamedObject(name=thing.name, type=thing.type) for thing in tree.objects])
    wanted = neighbour(scene, rng)
    asked = [
        (0.4, ask("repainting/caption"), tell.caption(scene)),
        (0.15, ask("repainting/overall"), overall.model_dump_json()),
        (0.4, ask("repainting/objects", most=MOST_OBJECTS), named.model_dump_json()),
        (0.4, ask("repainting/direct"), tell.prompt(scene)),
        (0.5, ask("repainting/relations", names=names), Relations(relations=list(tree.relations)).model_dump_json()),
        (0.5, ask("repainting/rate_match", prompt=tell.prompt(wanted, rng)), _rated(wanted, scene).model_dump_json()),
        (1.0, ask("judging/correspondence", prompt=tell.prompt(wanted, rng)), level_of(_share(wanted, scene), 0, 1)),
    ]
    for thing in tree.objects:
        question = ask("repainting/features", name=thing.name, type=thing.type, features=[])
        asked.append((1.0, question, FEATURES[thing.type](**thing.features).model_dump_json(exclude_defaults=True)))
    questions = tell.questions(scene, rng)
    for index in rng.permutation(len(questions))[:MOST_QUESTIONS]:
        question = questions[index]
        asked.append((1.0, ask("judging/answer", question=question.text), "yes" if question.answer else "no"))
    return [Lesson([scene], question, answer) for often, question, answer in asked if rng.random() < often]


def spoiled_lessons(scene: Scene, rng: np.random.Generator) -> list[Lesson]:
    """How good a picture looks, its facts aside."""
    defect, strength = DEFECTS[rng.integers(len(DEFECTS))], int(rng.integers(STRONGEST + 1))
    reason = FLAW[defect][strength] if strength else "clean and sharp"
    rating = Rating(reason=reason, rating=5 - strength).model_dump_json()
    return [
        Lesson([scene], ask("repainting/rate_perception"), rating, (defect, strength)),
        Lesson([scene], ask("judging/perception"), LEVELS[STRONGEST - strength], (defect, strength)),
    ]
