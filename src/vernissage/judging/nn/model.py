"""The judge as a network: a multimodal backbone, adapters on it, a regression head per dimension.

The hidden state that is scored is that of the last token before an answer would begin, or before the level word where the answer is a
sentence whose beginning is given. It is the state that chooses the level word in the first step of training, and it is found by counting
from the question's end, so templates of any length will do. The authors' released code takes position -4 of the whole text with an
answer such as "The quality of the image is excellent.", which is the same token: the one before the level word.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText

from vernissage.errors import BadInput, DriverError
from vernissage.judging.spec import Dimension, HeadSpec, JudgeSpec
from vernissage.local.adapters import use_adapter
from vernissage.local.branches import Branch, Packed, pack
from vernissage.local.device import pick_dtype, settle
from vernissage.local.dialogue import escape_special, special_tokens
from vernissage.local.positions import positions_of
from vernissage.local.pretrained import fingerprint, load_pretrained
from vernissage.local.vision_inputs import load_inputs
from vernissage.prompts import load_prompt

YES, NO = "yes", "no"
_GAP = "\N{LATIN SMALL LETTER EZH}\N{DOWNWARDS ARROW}gap"  # stands where a question will be


class Head(nn.Module):
    """Hidden state (…, width) to score (…)."""

    def __init__(self, width: int, spec: HeadSpec) -> None:
        super().__init__()
        sizes = [width, *spec.widths, 1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.last_relu, self.center, self.spread = spec.last_relu, spec.center, spec.spread

    def forward(self, hidden: Tensor) -> Tensor:
        """In float32 whatever the backbone runs in."""
        with torch.autocast(hidden.device.type, enabled=False):
            values = hidden.float()
            for index, layer in enumerate(self.layers):
                values = layer(values)
                if self.last_relu or index + 1 < len(self.layers):
                    values = F.relu(values)
            return self.center + self.spread * values[..., 0]


class Question(NamedTuple):
    """A question to a judge in words, and the answer to learn where there is one."""

    text: str
    answer: str = ""
    lead: str = ""
    """The beginning of the answer, which is given, not learnt."""


class Look(NamedTuple):
    """What one pass over a batch of pictures gives."""

    hidden: Tensor
    """Shape (branch, width): the state after each question, all of the first picture first."""
    spoken: Tensor
    """Shape (answer token, vocabulary): logits where answers are learnt."""
    packed: Packed


class Reader(NamedTuple):
    """How words and pictures become a backbone's inputs."""

    tokenizer: Any
    before: str
    """The template up to the question, the picture's placeholder in it."""
    after: str
    """The template from the question's end to where the answer begins."""
    inputs: Callable[..., Any]

    def branch(self, question: Question) -> Branch:
        """A question in tokens; what the tokenizer would take for a special token is broken up first."""
        text = escape_special(question.text, special_tokens(self.tokenizer))
        answer = self.ids(question.answer + (self.tokenizer.eos_token or "")) if question.answer else []
        return Branch(self.ids(text + self.after + question.lead), answer)

    def ids(self, text: str) -> list[int]:
        """Tokens of a text as it is."""
        return self.tokenizer(text, add_special_tokens=False).input_ids


class JudgeModel(nn.Module):
    """A backbone with heads; adapters lie inside the backbone.

    Args:
        backbone: Any `AutoModelForImageTextToText` whose `.model` gives hidden states and takes a 4-D mask.
        reader: Of the same checkpoint.
        fingerprint: Of the backbone as it is stored.
    """

    def __init__(self, backbone: Any, reader: Reader, fingerprint: str = "") -> None:
        super().__init__()
        self.backbone, self.reader, self.fingerprint = backbone, reader, fingerprint
        self.heads = nn.ModuleDict()
        self.resize: int | None = None
        """See `JudgeSpec`."""
        self.chosen: tuple[str, bool] | None = None
        """The adapter that works, and whether it learns."""
        self._reading = threading.Lock()  # a tokenizer that two threads use at once pads for the wrong one

    @property
    def width(self) -> int:
        """Length of a hidden state."""
        return self.backbone.config.get_text_config().hidden_size

    @property
    def projector(self) -> nn.Module:
        """What carries image features into the language model.

        Raises:
            DriverError: The backbone has none that is known here.
        """
        for name in ("multi_modal_projector", "visual.merger"):
            try:
                return self.backbone.model.get_submodule(name)
            except AttributeError:
                continue
        raise DriverError(f"{type(self.backbone).__name__} has no projector that is known here.")

    def look(self, images: Sequence[Image.Image], questions: Sequence[Sequence[Question]]) -> Look:
        """Encode each picture once and answer all questions about it in the same pass.

        Args:
            images: RGB.
            questions: About each picture, one or more.
        """
        if self.resize:
            images = [image.resize((self.resize, self.resize), Image.Resampling.BICUBIC) for image in images]
        with self._reading:
            seen = self.reader.inputs([self.reader.before] * len(images), [[image] for image in images])
            branches = [[self.reader.branch(question) for question in several] for several in questions]
        device, dtype = self.backbone.device, self.backbone.dtype
        trunks = [ids[kept.bool()].tolist() for ids, kept in zip(seen["input_ids"], seen["attention_mask"], strict=True)]
        packed = pack(trunks, branches, pad=self.reader.tokenizer.pad_token_id or 0, dtype=dtype)
        vision = {name: value.to(device) for name, value in seen.items() if name in ("pixel_values", "image_grid_thw")}
        vision["pixel_values"] = vision["pixel_values"].to(dtype)
        hidden = self.backbone.model(
            input_ids=packed.input_ids.to(device),
            attention_mask=packed.mask.to(device),
            position_ids=positions_of(self.backbone, packed, vision).to(device),
            use_cache=False,
            **vision,
        ).last_hidden_state
        ends, before = packed.ends.to(device), packed.before.to(device)
        spoken = self.backbone.get_output_embeddings()(hidden[before[:, 0], before[:, 1]])
        return Look(hidden[ends[:, 0], ends[:, 1]], spoken, packed)

    def yes(self, hidden: Tensor) -> Tensor:
        """Probability of yes rather than no as the next word, shape (branch,)."""
        words = [self.reader.ids(word)[0] for word in (YES, NO)]
        logits = self.backbone.get_output_embeddings()(hidden)[:, words]
        return logits.float().softmax(dim=-1)[:, 0]


def question(spec: JudgeSpec, prompt_id: str, **values: str) -> Question:
    """A question in the words that the judge was trained on."""
    if prompt_id not in spec.wording:
        text = load_prompt(prompt_id).render(brief=spec.brief, **values)
    else:
        text = spec.wording[prompt_id]
        for name, value in values.items():
            text = text.replace("{" + name + "}", value)
    return Question(text, lead=spec.leads.get(prompt_id, ""))


def load_backbone(model: str, *, device: torch.device, dtype: str = "auto", revision: str | None = None) -> JudgeModel:
    """A judge without adapters and heads.

    Raises:
        DriverError: The checkpoint cannot be loaded, or its template does not put the picture before the question.
        BadInput: yes and no are not told apart by their first tokens.
    """
    # As it is stored, so that its fingerprint is the same wherever and in whatever type it is used.
    backbone = load_pretrained(AutoModelForImageTextToText, model, dtype="auto", use_safetensors=True, revision=revision)
    stored = fingerprint(backbone)
    settle(backbone, device, pick_dtype(dtype, device)).requires_grad_(False)
    tokenizer, chat, inputs = load_inputs(model, backbone.config, revision=revision)
    content = [{"type": "image"}, {"type": "text", "text": _GAP}]
    text = chat.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
    before, gap, after = text.partition(_GAP)
    image = tokenizer.convert_ids_to_tokens(backbone.config.image_token_id)
    if not gap or image not in before:
        raise DriverError(f"The chat template of {model} does not put the picture before the question.")
    reader = Reader(tokenizer, before, after, inputs)
    if reader.ids(YES)[:1] == reader.ids(NO)[:1]:
        raise BadInput(f"The tokenizer of {model} begins yes and no alike.", hint="Use another backbone.")
    return JudgeModel(backbone, reader, stored)


def add_heads(model: JudgeModel, heads: dict[Dimension, HeadSpec]) -> None:
    """Fresh heads for these dimensions, in float32 on the backbone's device."""
    for dimension, spec in heads.items():
        model.heads[dimension] = Head(model.width, spec).to(model.backbone.device)


def by_adapter(spec: JudgeSpec) -> dict[str, list[str]]:
    """Which of perception, correspondence and answers are read under which adapter; one pass serves each."""
    groups: dict[str, list[str]] = {}
    for dimension, head in spec.heads.items():
        groups.setdefault(head.adapter, []).append(dimension)
    if spec.answers is not None:
        groups.setdefault(spec.answers, []).append("answers")
    return groups


def choose_adapter(model: JudgeModel, name: str, *, learning: bool = False) -> None:
    """Let the adapter of that name work, "" for none."""
    if model.chosen != (name, learning):
        use_adapter(model.backbone, name or None, learning=learning)
        model.chosen = (name, learning)
