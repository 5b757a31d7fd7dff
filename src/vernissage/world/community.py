"""A community of T2I models in the mini world, with the chats and demonstrations of the people who use them: a mini ChatGenBench.

Each model is for a style, a place, both or neither, and its people have habits in choosing arguments. Its name tells nothing of
that, as with most models that people share; its description does. Which model is right for a
chat, and with which arguments, is exactly known: it follows from what the chat states. Some models are rare, so that few
demonstrations of them are seen in training (the few-shot division).
"""

from collections import Counter
from typing import Literal, NamedTuple

import numpy as np

from vernissage.records.plan import Arguments, Plan
from vernissage.world import phrases, tell
from vernissage.world.chats import WorldChat, sample_chat
from vernissage.world.habits import SAMPLERS, SIDE, Habit, sample_habit
from vernissage.world.scene import PLACES, STYLES, Place, Scene, Split, Style
from vernissage.zoo.card import Card, Range, Source

RARE_SHARE = 0.25
"""Of the models; ChatGenBench has 4,324 few-shot of 14,564 queries."""
COMMON, RARE = 90, 5
"""Training chats of a model."""
SEED = 2411
_PAINTS: dict[Style | None, str] = {
    "neon": "mini/neon",
    "pixel art": "mini/pixel",
    "sketch": "mini/sketch",
    "watercolour": "mini/watercolour",
}


class Member(NamedTuple):
    """A model of the community."""

    id: str
    style: Style | None
    """None paints any."""
    place: Place | None
    habit: Habit
    rare: bool

    @property
    def description(self) -> str:
        """What its card says."""
        what = f"{self.style} pictures" if self.style else "pictures in any style"
        return f"{what} {phrases.PLACE_PHRASES[self.place][0] if self.place else 'of any place'}".capitalize() + "."

    def card(self) -> Card:
        """Its card: the weights are those of a mini model."""
        return Card(
            id=self.id,
            title=self.id.removeprefix("community/").title(),
            description=self.description,
            licence="MIT",
            source=Source(base=_PAINTS.get(self.style, "mini/general")),
            width=SIDE,
            height=SIDE,
            size_multiple=16,
            sizes=Range(low=SIDE, high=SIDE),
            samplers=SAMPLERS,
            steps=Range(low=4, high=60),
            cfg_scale=Range(low=1, high=10),
            defaults=self.habit.usual.model_copy(update={"width": None, "height": None}),
        )


class Asked(NamedTuple):
    """A chat with the plan that its people would have made."""

    chat: WorldChat
    plan: Plan
    division: Literal["supervised", "few-shot"]


def found_community(seed: int = SEED) -> list[Member]:
    """The models, always the same for a seed.

    Example:
        >>> members = found_community()
        >>> len(members), sum(member.rare for member in members), members[0].description
        (49, 12, 'Photo pictures at sea.')
    """
    rng = np.random.default_rng(seed)
    pairs: list[tuple[Style | None, Place | None]] = [(style, place) for style in (*STYLES, None) for place in (*PLACES, None)]
    rare = set(rng.permutation(len(pairs))[: int(RARE_SHARE * len(pairs))].tolist())
    names = sorted({"".join(_pick(rng) for _ in range(2)) for _ in range(3 * len(pairs))})
    drawn = rng.permutation(len(names))
    members = []
    for number, (style, place) in enumerate(pairs):
        name = names[drawn[number]]
        habit = sample_habit(rng, "time" if rng.random() < 0.7 else "")
        members.append(Member(f"community/{name}", style, place, habit, number in rare))
    return members


def _pick(rng: np.random.Generator) -> str:
    return "bdfgklmnprstvz"[rng.integers(14)] + "aeiou"[rng.integers(5)] + "lmnrsx"[rng.integers(6)]


def right_member(chat: WorldChat, members: list[Member]) -> Member:
    """The model whose style and place are those that the chat states."""
    style = chat.scene.style if "style" in chat.stated else None
    place = chat.scene.place if "place" in chat.stated else None
    return next(member for member in members if (member.style, member.place) == (style, place))


def right_plan(chat: WorldChat, member: Member) -> Plan:
    """What this model's people would have made of the chat."""
    return Plan(
        prompt=tell.prompt(chat.scene, facts=chat.stated),
        model=member.id,
        arguments=_arguments(chat.scene, "time" in chat.stated, member.habit),
    )


def _arguments(scene: Scene, timed: bool, habit: Habit) -> Arguments:
    """A habit about times cannot be followed where no time is stated."""
    return habit.usual if habit.fact == "time" and not timed else habit.arguments(scene)


def sample_asked(members: list[Member], quota: dict[str, int], *, seed: int, split: Split = "train") -> list[Asked]:
    """Chats for every model, as many as its quota, in the order in which they came up.

    Args:
        members: The community.
        quota: Chats wanted, by model.
        seed: Decides them.
        split: Whether scenes and voices are those of training or held out.
    """
    rng = np.random.default_rng([SEED, seed])
    if unknown := set(quota) - {member.id for member in members}:
        raise KeyError(f"no member is called {min(unknown)}")
    left = Counter(quota)
    found: list[Asked] = []
    while sum(left.values()):
        chat = sample_chat(rng, split=split)
        member = right_member(chat, members)
        if left[member.id] > 0:
            left[member.id] -= 1
            found.append(Asked(chat, right_plan(chat, member), "few-shot" if member.rare else "supervised"))
    return found
