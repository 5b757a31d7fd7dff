"""Put a reference picture into a prompt: by its tree, directly, or in the way of CLIP-interrogator."""

import tomllib
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from vernissage.errors import BadPlan
from vernissage.ports import TextImageEncoder
from vernissage.records.tree import UnderstandingTree
from vernissage.repainting.lockstep import Encodings, Features, Questions, Replies, Work
from vernissage.repainting.understand import question, understand, words_of

Words = Literal["tree", "direct", "interrogate"]

PHRASES = Path(__file__).with_name("phrases.toml")
_FLAVOURS = 3
"""Phrases taken from the bank of free details; CLIP-interrogator's fast mode takes as many as fit its prompt."""


def describe(image: Image.Image, words: Words, *, brief: bool, clip: TextImageEncoder | None) -> Work:
    """A prompt that stands for a picture.

    Args:
        image: The reference.
        words: "tree" writes the prompt from the understanding tree; "direct" asks the MLLM for it at once;
            "interrogate" takes a caption and adds, of each bank of phrases, those that CLIP finds most like the picture.
        brief: Whether the MLLM wants the short form of prompts.
        clip: Needed by "interrogate".

    Returns:
        (prompt, tree or None, failures)

    Raises:
        VernissageError: The MLLM gave no usable answer.
        BadPlan: "interrogate" without CLIP.
    """
    if words == "tree":
        tree, failures = yield from understand(image, brief=brief)
        prompt = yield from describe_tree(tree, brief=brief)
        return prompt, tree, failures
    if words == "direct":
        replies: Replies = yield Questions([question("repainting/direct", (image,), brief=brief)])
        return words_of(replies[0]), None, ()
    if clip is None:
        raise BadPlan("Interrogating a picture needs CLIP.", hint="Configure `clip`, or choose --words tree or direct.")
    replies = yield Questions([question("repainting/caption", (image,), brief=brief)])
    seen: Features = yield Encodings([image])
    return ", ".join([words_of(replies[0]).rstrip("."), *closest_phrases(seen["clip"][0], clip)]), None, ()


def describe_tree(tree: UnderstandingTree, *, brief: bool) -> Work[str]:
    """The prompt that an MLLM writes from a tree."""
    replies: Replies = yield Questions([question("repainting/describe", (), brief=brief, tree=tree.outline())])
    return words_of(replies[0])


@cache
def phrase_banks() -> dict[str, tuple[str, ...]]:
    """The phrases that `interrogate` ranks, by bank."""
    return {name: tuple(phrases) for name, phrases in tomllib.loads(PHRASES.read_text(encoding="utf-8")).items()}


@lru_cache(maxsize=4)
def _encoded_phrases(clip: TextImageEncoder) -> np.ndarray:
    """CLIP features of all phrases, shape (phrase, feature), the same for every picture."""
    return clip.encode_text([phrase for phrases in phrase_banks().values() for phrase in phrases])


def closest_phrases(image: np.ndarray, clip: TextImageEncoder) -> Sequence[str]:
    """Of each bank the phrase most like the picture, of the bank `detail` the three most like it.

    Args:
        image: CLIP features of the picture, shape (feature,), unit length.
        clip: Encodes the phrases.
    """
    banks, said = phrase_banks(), _encoded_phrases(clip)
    similarity = dict(zip([(bank, phrase) for bank, phrases in banks.items() for phrase in phrases], said @ image, strict=True))
    chosen: list[str] = []
    for bank, phrases in banks.items():
        ranked = sorted(phrases, key=lambda phrase, bank=bank: -similarity[bank, phrase])
        chosen += ranked[: _FLAVOURS if bank == "detail" else 1]
    return chosen
