"""A planner as a network: a multimodal backbone, an adapter on it, and rows W_M appended to its head (ChatGen-Evo).

Everything that is read or said in a dialogue stays in one cache: the chat, the prompt, the model's demonstrations and the
arguments.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from pydantic import BaseModel
from torch import Tensor
from transformers import AutoModelForImageTextToText, LogitsProcessorList

from vernissage.errors import IntegrityError
from vernissage.local.adapters import adapter_tensors, add_adapter, use_adapter
from vernissage.local.branches import Branch, Packed, pack
from vernissage.local.constrained import Constrained, guide_tokenizer, matchers
from vernissage.local.device import pick_dtype, settle
from vernissage.local.dialogue import Dialogue, load_dialogue
from vernissage.local.positions import positions_of
from vernissage.local.pretrained import fingerprint, load_pretrained
from vernissage.local.tensors import read_tensors, restore, save_tensors
from vernissage.painting.nn.drafting import Writer
from vernissage.painting.nn.new_models import RowMap
from vernissage.painting.planner_spec import SPEC, WEIGHTS, PlannerSpec, read_spec
from vernissage.prompts import load_prompt
from vernissage.records.chat import Chat
from vernissage.records.files import write_whole
from vernissage.zoo.catalogue import model_place

ADAPTER = "planner"
PROMPTS = {"base": ("painting/plan",), "evo": ("painting/prompt", "painting/arguments")}


STATES = 32
"""Chats whose hidden states are computed in one pass."""


class Weights(NamedTuple):
    """What is trained besides the adapter."""

    tokens: Tensor | None = None
    """W_M, shape (model, width); Base has none."""
    row_map: RowMap | None = None
    """Gives models that were not trained a row; only where their cards were at hand in training."""


class Said(NamedTuple):
    """Dialogues as far as they have come: what the model has read and said, with its cache."""

    ids: Tensor
    """Shape (dialogue, token)."""
    mask: Tensor
    """Shape (dialogue, token): 1 where a token counts."""
    cache: Any
    """Of all tokens but the last ones that were not read yet."""
    answers: list[str]
    """The last answer of each."""
    ended: Tensor
    """Shape (dialogue, width): the hidden state where each last answer ended, that is where a ModelToken would follow."""
    whole: list[bool]
    """Whether each last answer came to its end, and not to that of the tokens it may have."""


class Network:
    """A backbone that plans.

    Args:
        backbone: Any `AutoModelForImageTextToText` whose `.model` gives hidden states.
        dialogue: Of the same checkpoint.
        stored: Fingerprint of the backbone as it is stored.
        brief: Use the short form of each prompt.
    """

    def __init__(self, backbone: Any, dialogue: Dialogue, stored: str, *, brief: bool) -> None:
        self.backbone, self.dialogue, self.fingerprint, self.brief = backbone, dialogue, stored, brief
        self._guide: Any = None

    def question(self, prompt_id: str, **values: object) -> str:
        """A question in the words of a prompt file."""
        return load_prompt(prompt_id).render(brief=self.brief, **values)

    def read(
        self, openings: Sequence[str], pictures: Sequence[Sequence[Image.Image]], branches: Sequence[Sequence[Branch]]
    ) -> tuple[Tensor, Packed]:
        """One pass over openings with what follows them, for training and for hidden states.

        Args:
            openings: Each the trunk of a row; see `Dialogue.opening`.
            pictures: Of each opening.
            branches: What follows each, every branch by itself.

        Returns:
            Hidden states, shape (row, token, width), and how the rows are laid out.
        """
        seen = self.dialogue.batch(openings, pictures)
        trunks = [ids[kept.bool()].tolist() for ids, kept in zip(seen["input_ids"], seen["attention_mask"], strict=True)]
        device, dtype = self.backbone.device, self.backbone.dtype
        packed = pack(trunks, branches, pad=self.dialogue.tokenizer.pad_token_id or 0, dtype=dtype)
        vision = {name: value.to(device) for name, value in seen.items() if name in ("pixel_values", "image_grid_thw")}
        if "pixel_values" in vision:
            vision["pixel_values"] = vision["pixel_values"].to(dtype)
        hidden = self.backbone.model(
            input_ids=packed.input_ids.to(device),
            attention_mask=packed.mask.to(device),
            position_ids=positions_of(self.backbone, packed, vision).to(device),
            use_cache=False,
            **vision,
        ).last_hidden_state
        return hidden, packed

    @torch.inference_mode()
    def begin(self, openings: Sequence[str], pictures: Sequence[Sequence[Image.Image]], *, reply: Any = None, most: int = 256) -> Said:
        """Read openings and answer them, greedily; a reply with a shape is kept to it."""
        inputs = self.dialogue.batch(openings, pictures)
        inputs = inputs.to(self.backbone.device, dtype=self.backbone.dtype)
        return self._answer(dict(inputs), None, reply, most)

    @torch.inference_mode()
    def recite(self, openings: Sequence[str], pictures: Sequence[Sequence[Image.Image]], answers: Sequence[str]) -> Said:
        """Read openings with answers that are given, as if they had been said."""
        texts = [opening + self.dialogue.escape(answer) for opening, answer in zip(openings, answers, strict=True)]
        inputs = self.dialogue.batch(texts, pictures)
        inputs = inputs.to(self.backbone.device, dtype=self.backbone.dtype)
        # By way of an answer without words, because generating knows best where each family's tokens stand.
        return self._answer(dict(inputs), None, None, 0)._replace(answers=list(answers), whole=[True] * len(answers))

    @torch.inference_mode()
    def states(self, chats: Sequence[Chat], pictures: Sequence[Sequence[Image.Image]], prompts: Sequence[str]) -> Tensor:
        """The hidden state after chat and prompt, where the ModelToken is said; shape (chat, width), float32, on the CPU."""
        found: list[Tensor] = []
        for start in range(0, len(chats), STATES):
            part, own = chats[start : start + STATES], pictures[start : start + STATES]
            openings = [chat_question(self, "painting/prompt", chat, len(several)) for chat, several in zip(part, own, strict=True)]
            branches = [[Branch(self.dialogue.ids(self.dialogue.escape(text)))] for text in prompts[start : start + STATES]]
            hidden, packed = self.read(openings, own, branches)
            found.append(hidden[packed.ends[:, 0], packed.ends[:, 1]].float().cpu())
        return torch.cat(found)

    @torch.inference_mode()
    def go_on(self, said: Said, questions: Sequence[str], *, reply: Any = None, most: int = 256) -> Said:
        """Ask a next question in each dialogue and answer it, in the cache that is there."""
        rows = [self.dialogue.ids(self.dialogue.next_question(text)) for text in questions]
        ids, mask = self._append(said.ids, said.mask, rows)
        return self._answer({"input_ids": ids, "attention_mask": mask}, said.cache, reply, most)

    @torch.inference_mode()
    def finish(
        self,
        said: Said,
        questions: Sequence[str],
        drafts: Sequence[Sequence[str]],
        *,
        reply: type[BaseModel] | None = None,
        most: int = 256,
    ) -> list[str]:
        """Ask a last question in each dialogue, along drafts of the answers; the dialogues end with it, for their cache is used up.

        Args:
            said: The dialogues.
            questions: One for each.
            drafts: Likely answers to each, the likeliest first. They change the time it takes and nothing else.
            reply: The shape of the answers.
            most: Tokens in an answer.
        """
        guides = [None] * len(drafts) if reply is None else matchers(self._guide_tokenizer(), reply, len(drafts))
        writers = [
            Writer([self.dialogue.ids(text) for text in own], self.ends, most, guide) for own, guide in zip(drafts, guides, strict=True)
        ]
        unread = [self.dialogue.ids(self.dialogue.next_question(text)) for text in questions]
        ids, mask, cache, left = said.ids, said.mask, said.cache, list(range(len(writers)))
        while True:
            proposed = [writers[row].ahead() for row in left]
            ids, mask = self._append(ids, mask, [own + new for own, new in zip(unread, proposed, strict=True)])
            hidden, cache = self._read_on(ids, mask, cache)
            for place, (row, new) in enumerate(zip(left, proposed, strict=True)):
                kept = writers[row].check(new, self.backbone.get_output_embeddings()(hidden[place, -1 - len(new) :]).float())
                mask[place, mask.shape[1] - len(new) + kept :] = 0  # what was not said must not be seen
            going = [place for place, row in enumerate(left) if writers[row].unread]
            if not going:
                break
            left = [left[place] for place in going]
            unread = [writers[row].unread for row in left]
            if len(going) < len(ids):
                ids, mask = ids[going], mask[going]
                cache.batch_select_indices(torch.tensor(going, device=ids.device))
                if getattr(self.backbone.model, "rope_deltas", None) is not None:  # where each row's pictures have put Qwen-VL's positions
                    self.backbone.model.rope_deltas = self.backbone.model.rope_deltas[going]
        answers = self.dialogue.tokenizer.batch_decode([writer.said for writer in writers], skip_special_tokens=True)
        return [text.strip() for text in answers]

    def _answer(self, inputs: dict[str, Tensor], cache: Any, reply: Any, most: int) -> Said:
        length = inputs["input_ids"].shape[1]
        processors = LogitsProcessorList()
        if reply is not None:
            processors.append(Constrained(self._guide_tokenizer(), [reply] * len(inputs["input_ids"]), length, self.end))
        before_words: list[Tensor] = []  # what the head saw at each step
        watch = self.backbone.get_output_embeddings().register_forward_pre_hook(lambda _, seen: before_words.append(seen[0][:, -1]))
        try:
            output = self._generate(inputs, cache, most + 1, processors)
        finally:
            watch.remove()
        cached = output.past_key_values.get_seq_length()  # the last word was said and not read, so one more than wanted is
        said = output.sequences[:, length:cached]
        # Up to the end of each answer; what a row was padded with while others went on does not count.
        own = torch.isin(said, torch.tensor(self.ends, device=said.device)).int().cumsum(dim=1) == 0
        answers = self.dialogue.tokenizer.batch_decode([row[kept] for row, kept in zip(said, own, strict=True)], skip_special_tokens=True)
        mask = torch.cat([inputs["attention_mask"], own.to(inputs["attention_mask"].dtype)], dim=1)
        steps = own.sum(dim=1).clamp(max=len(before_words) - 1)
        ended = torch.stack(before_words, dim=1)[torch.arange(len(steps), device=steps.device), steps]
        whole = torch.isin(output.sequences[:, length:], torch.tensor(self.ends, device=said.device)).any(dim=1).tolist()
        return Said(output.sequences[:, :cached], mask, output.past_key_values, [text.strip() for text in answers], ended, whole)

    def _generate(self, inputs: dict[str, Tensor], cache: Any, tokens: int, processors: LogitsProcessorList) -> Any:
        """Greedily, whatever a checkpoint's own settings are: they are for conversation."""
        return self.backbone.generate(
            **inputs,
            **({} if cache is None else {"past_key_values": cache}),
            max_new_tokens=tokens,
            logits_processor=processors,
            pad_token_id=self.dialogue.tokenizer.pad_token_id,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
            return_dict_in_generate=True,
        )

    def _append(self, ids: Tensor, mask: Tensor, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Tokens behind those of each dialogue, padded on the left; always new tensors."""
        length, pad = max(map(len, rows)), self.dialogue.tokenizer.pad_token_id or 0
        new = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows], device=ids.device)
        own = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=ids.device)
        return torch.cat([ids, new], dim=1), torch.cat([mask, own.to(mask.dtype)], dim=1)

    def _read_on(self, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Hidden states of the tokens that are not in the cache yet, and the cache with them."""
        seen: list[Tensor] = []
        watch = self.backbone.model.register_forward_hook(lambda _module, _inputs, output: seen.append(output.last_hidden_state))
        try:  # by way of generating, which knows best where each family's tokens stand
            output = self._generate({"input_ids": ids, "attention_mask": mask}, cache, 1, LogitsProcessorList())
        finally:
            watch.remove()
        return seen[0], output.past_key_values

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer, the one to learn first."""
        ends = self.backbone.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return [self.dialogue.tokenizer.eos_token_id] if ends[0] is None else ends

    @property
    def end(self) -> int:
        """The token that ends an answer where one is learnt."""
        return self.ends[0]

    def _guide_tokenizer(self) -> Any:
        if self._guide is None:
            self._guide = guide_tokenizer(self.dialogue.tokenizer, self.backbone.config)
        return self._guide


def chat_question(network: Network, prompt_id: str, chat: Chat, pictures: int) -> str:
    """The opening that asks for a chat's prompt or plan."""
    values = {"turns": chat.turns} | ({"cards": []} if prompt_id == "painting/plan" else {})
    return network.dialogue.opening(network.question(prompt_id, **values), pictures)


def load_network(model: str, *, device: torch.device, dtype: str = "auto", brief: bool = False, revision: str | None = None) -> Network:
    """A network without adapter.

    Raises:
        DriverError: The checkpoint cannot be loaded.
    """
    backbone = load_pretrained(AutoModelForImageTextToText, model, dtype="auto", use_safetensors=True, revision=revision)
    stored = fingerprint(backbone)
    settle(backbone, device, pick_dtype(dtype, device)).requires_grad_(False)
    return Network(backbone, load_dialogue(model, backbone.config, revision=revision), stored, brief=brief)


def trained_tensors(network: Network, weights: Weights) -> dict[str, Tensor]:
    """Every tensor of a planner that is not its backbone's, by name."""
    tensors: dict[str, Tensor] = {f"adapter.{name}": tensor for name, tensor in adapter_tensors(network.backbone).items()}
    tensors |= {} if weights.tokens is None else {"model_tokens": weights.tokens}
    return tensors | ({} if weights.row_map is None else {f"row_map.{name}": tensor for name, tensor in weights.row_map._asdict().items()})


def save_planner(folder: Path, network: Network, spec: PlannerSpec, weights: Weights, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a planner's description and weights; each file appears whole or not at all."""
    save_tensors(trained_tensors(network, weights), folder / WEIGHTS, dtype=dtype)
    write_whole(folder / SPEC, spec.model_dump_json(indent=2) + "\n")


def load_planner(folder: Path, *, device: torch.device, dtype: str = "auto") -> tuple[Network, PlannerSpec, Weights]:
    """Read a planner with its backbone.

    Raises:
        BadCard: There is no planner, or its description has a mistake.
        IntegrityError: The weights are damaged, do not fit the description, or were trained on another backbone or other prompts.
        DriverError: The backbone cannot be loaded.
    """
    spec = read_spec(folder)
    for prompt_id, known in spec.prompts.items():
        if load_prompt(prompt_id).hash != known:
            raise IntegrityError(f"The planner {spec.name} was trained on other words of the prompt {prompt_id} than this version's.")
    network = load_network(model_place(spec.backbone, folder), device=device, dtype=dtype, brief=spec.brief, revision=spec.revision)
    if (found := network.fingerprint) != spec.fingerprint:
        raise IntegrityError(
            f"The planner {spec.name} was trained on another backbone than {spec.backbone} is now ({spec.fingerprint}, not {found})."
        )
    if spec.adapter is not None:
        add_adapter(network.backbone, ADAPTER, parts=spec.adapter.parts, rank=spec.adapter.rank, alpha=spec.adapter.alpha)
        use_adapter(network.backbone, ADAPTER)
    width = network.backbone.config.get_text_config().hidden_size
    stored = read_tensors(folder / WEIGHTS)
    anchors = len(stored["row_map.features"]) if "row_map.features" in stored else 0
    weights = Weights(
        torch.zeros(len(spec.models), width) if spec.kind == "evo" else None,
        RowMap(torch.zeros(anchors, width), torch.zeros(anchors, dtype=torch.long), torch.zeros(2)) if anchors else None,
    )
    restore(trained_tensors(network, weights), stored, spec.name)
    network.backbone.requires_grad_(False).eval()
    return network, spec, weights
