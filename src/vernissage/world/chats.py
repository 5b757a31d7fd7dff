"""Freestyle chats for scenes: what people would type to get such a picture, in many voices and three input types.

A chat leaves open what people leave open (often the time, sometimes the place or the style); what it does state is its
`wanted` facts. Voices of the held-out set never appear in training.
"""

import tomllib
from functools import cache
from typing import NamedTuple

import numpy as np

from vernissage.records.chat import INPUT_TYPE_SHARES, InputType
from vernissage.world import tell
from vernissage.world.facts import Facts, facts_of
from vernissage.world.scene import (
    COLOURS,
    MAX_COUNT,
    PLACES,
    STYLES,
    TIMES,
    Group,
    Place,
    Scene,
    Split,
    Style,
    Time,
    sample_scene,
    split_of,
)
from vernissage.zoo.catalogue import package_folder

_PLACES: dict[Place, list[str]] = {
    "sea": ["by the sea", "out on the ocean", "at sea", "over the waves of the sea"],
    "desert": ["in the desert", "among sand dunes", "out in the hot desert"],
    "forest": ["in the woods", "in a forest", "deep in the forest"],
    "city": ["in the city", "downtown", "in front of a city skyline"],
    "mountains": ["in the mountains", "up in the alps", "in front of snowy mountains"],
    "meadow": ["on a meadow", "in a grassy meadow", "on a green pasture"],
}
_TIMES: dict[Time, list[str]] = {
    "day": ["by day", "in broad daylight", "on a sunny day", "at noon"],
    "dusk": ["at dusk", "at sunset", "in the evening", "as the sun goes down"],
    "night": ["at night", "by moonlight", "in the middle of the night", "under the stars"],
}
_STYLES: dict[Style, list[str]] = {
    "photo": ["a photo", "a real photograph", "something photorealistic"],
    "cartoon": ["a cartoon", "a comic drawing", "a cartoon with bold outlines"],
    "sketch": ["a pencil sketch", "a sketch", "a hand-drawn pencil drawing"],
    "neon": ["a neon sign", "glowing neon", "neon lights"],
    "pixel art": ["pixel art", "an 8-bit game picture", "retro pixels"],
    "watercolour": ["a watercolour", "a watercolour painting", "soft watercolours"],
}
_AGAIN = ["Paint this again.", "The same picture again, please.", "Can you redo this one?", "I'd like one just like this."]
_AGAIN_AS = ["The same, but as {style}.", "Turn this into {style}.", "This one as {style}, please.", "Can I have this as {style}?"]
_AGAIN_BUT = ["Like this, but {change}.", "Take this picture and {change}.", "Same as the picture, only {change}."]
_SHOWN = ["Here you are: {caption}", "Done. You see: {caption}", "This is what I painted: {caption}"]
_ASK_BACK = ["Which style would you like?", "Gladly! In what manner?", "Sure. What should it look like?"]
_NOW = ["Nice, now {change}.", "Almost. Please {change}.", "Hmm, {change}.", "Good, but {change}."]


class Voice(NamedTuple):
    """A way of asking."""

    name: str
    asks: list[str]
    styles: list[str]
    held_out: bool


class WorldChat(NamedTuple):
    """A chat with its truth. `reference` is the scene of the attached picture, for multimodal chats."""

    turns: list[tuple[str, str]]
    """(role, text), the user's last."""
    reference: Scene | None
    scene: Scene
    """A scene that fulfils the request."""
    stated: frozenset[tell.Fact]
    """Which of place, time and style are asked for."""
    input_type: InputType
    voice: str

    @property
    def wanted(self) -> Facts:
        """The facts that a picture must show to be what was asked for."""
        left_open = {fact: None for fact in tell.ALL_FACTS - self.stated}
        return facts_of(self.scene).model_copy(update=left_open)


@cache
def load_voices(split: Split) -> list[Voice]:
    """The voices of a set."""
    rows = tomllib.loads((package_folder("world") / "voices.toml").read_text(encoding="utf-8"))["voice"]
    voices = [Voice(row["name"], row["asks"], row["styles"], row.get("held_out", False)) for row in rows]
    return [voice for voice in voices if voice.held_out == (split == "held-out")]


def sample_chat(rng: np.random.Generator, *, split: Split = "train", input_type: InputType | None = None) -> WorldChat:
    """Draw a chat at random: a voice, a scene of the set, an input type (as frequent as in ChatGenBench)."""
    voices = load_voices(split)
    voice = voices[rng.integers(len(voices))]
    scene = sample_scene(rng, split=split)
    kind = input_type or list(INPUT_TYPE_SHARES)[rng.choice(3, p=list(INPUT_TYPE_SHARES.values()))]
    match kind:
        case "single":
            return _single(scene, voice, rng)
        case "multimodal":
            return _multimodal(scene, voice, rng, split)
        case _:
            return _history(scene, voice, rng, split)


def _pick(texts: list[str], rng: np.random.Generator) -> str:
    return texts[rng.integers(len(texts))]


def request(scene: Scene, voice: Voice, rng: np.random.Generator, *, stated: frozenset[tell.Fact]) -> str:
    """One request in a voice, stating the things and the given facts."""
    where = [_pick(_PLACES[scene.place], rng)] if "place" in stated else []
    where += [_pick(_TIMES[scene.time], rng)] if "time" in stated else []
    text = _pick(voice.asks, rng).format(things=tell.things_words(scene, rng), where=" ".join(where))
    text = text.replace(" .", ".").replace(" ,", ",").replace(" ?", "?").replace(" !", "!").replace(" ;", ";").strip()
    if "style" in stated:
        sentence = _pick(voice.styles, rng).format(style=_pick(_STYLES[scene.style], rng))
        text = f"{text.rstrip()} {sentence[0].upper() + sentence[1:] if text[-1] in '.!?' else sentence}"
    return text


def _stated(rng: np.random.Generator) -> frozenset[tell.Fact]:
    kept = {"place": 0.9, "time": 0.75, "style": 0.85}
    return frozenset(fact for fact in sorted(tell.ALL_FACTS) if rng.random() < kept[fact])


def _single(scene: Scene, voice: Voice, rng: np.random.Generator) -> WorldChat:
    stated = _stated(rng)
    return WorldChat([("user", request(scene, voice, rng, stated=stated))], None, scene, stated, "single", voice.name)


def _change_one(scene: Scene, rng: np.random.Generator, split: Split) -> Scene:
    """A scene of the same set that differs in a single fact."""
    while True:
        group = int(rng.integers(len(scene.groups)))
        match rng.integers(5):
            case 0:
                changed = scene.model_copy(update={"style": STYLES[rng.integers(len(STYLES))]})
            case 1:
                changed = scene.model_copy(update={"place": PLACES[rng.integers(len(PLACES))]})
            case 2:
                changed = scene.model_copy(update={"time": TIMES[rng.integers(len(TIMES))]})
            case 3:
                changed = _with_group(scene, group, count=int(rng.integers(1, MAX_COUNT + 1)))
            case _:
                changed = _with_group(scene, group, colour=COLOURS[rng.integers(len(COLOURS))])
        if changed != scene and split_of(changed) == split:
            return changed


def _with_group(scene: Scene, index: int, **update: object) -> Scene:
    groups = list(scene.groups)
    groups[index] = Group.model_validate(groups[index].model_dump() | update)
    return scene.model_copy(update={"groups": tuple(groups)})


def _multimodal(scene: Scene, voice: Voice, rng: np.random.Generator, split: Split) -> WorldChat:
    lot = rng.random()
    if lot < 0.25:
        text, reference = _pick(_AGAIN, rng), scene
    elif lot < 0.6:
        others = [style for style in STYLES if style != scene.style]
        reference = scene.model_copy(update={"style": others[rng.integers(len(others))]})
        text = _pick(_AGAIN_AS, rng).format(style=_pick(_STYLES[scene.style], rng))
    else:
        reference = _change_one(scene, rng, split)
        text = _pick(_AGAIN_BUT, rng).format(change=tell.differences(reference, scene)[0])
    return WorldChat([("user", text)], reference, scene, tell.ALL_FACTS, "multimodal", voice.name)


def _history(scene: Scene, voice: Voice, rng: np.random.Generator, split: Split) -> WorldChat:
    if rng.random() < 0.4:  # the assistant asks for the style
        style: tell.Fact = "style"
        stated: frozenset[tell.Fact] = _stated(rng) - {style}
        first = request(scene, voice, rng, stated=stated)
        answer = _pick(voice.styles, rng).format(style=_pick(_STYLES[scene.style], rng))
        turns = [("user", first), ("assistant", _pick(_ASK_BACK, rng)), ("user", answer)]
        return WorldChat(turns, None, scene, stated.union({style}), "history", voice.name)
    before = _change_one(scene, rng, split)
    turns = [
        ("user", request(before, voice, rng, stated=tell.ALL_FACTS)),
        ("assistant", _pick(_SHOWN, rng).format(caption=tell.caption(before))),
        ("user", _pick(_NOW, rng).format(change=tell.differences(before, scene)[0])),
    ]
    return WorldChat(turns, None, scene, tell.ALL_FACTS, "history", voice.name)
