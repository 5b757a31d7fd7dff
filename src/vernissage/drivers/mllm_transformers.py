"""MLLMs through transformers: InternVL, Qwen-VL and every other AutoModelForImageTextToText, on this machine.

Questions are answered in batches. Typed replies are constrained while they are written (llguidance): a reply that is
complete always fits its JSON schema. No code from a checkpoint is ever run.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, final

import jinja2
import numpy as np
import torch
from numpy import ndarray
from PIL import Image
from pydantic import BaseModel
from torch import Tensor
from transformers import AutoModelForImageTextToText, LogitsProcessor, LogitsProcessorList

from vernissage.drivers.replies import read_reply
from vernissage.errors import DriverError, OutOfMemory, VernissageError
from vernissage.local.constrained import Constrained, guide_tokenizer, matchers
from vernissage.local.device import pick_device, pick_dtype, settle
from vernissage.local.dialogue import escape_special, special_tokens
from vernissage.local.pretrained import load_pretrained
from vernissage.local.streams import evenly
from vernissage.local.vision_inputs import load_inputs
from vernissage.ports import Ask, Reply

_SMALLER = "Lower the MLLM's batch_size, use a smaller model, or choose dtype = 'bfloat16'."
# What transformers, its image processors and chat templates raise when something is wrong with a model or a question.
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, jinja2.TemplateError)


class _Drawn(LogitsProcessor):
    """Draws words at random, each row with a seed of its own: with Gumbel noise on top, the likeliest word is such a draw.

    A row with a temperature of 0 keeps its scores.
    """

    def __init__(self, temperatures: Sequence[float], seeds: Sequence[int]) -> None:
        self._rows = [row for row, temperature in enumerate(temperatures) if temperature > 0]
        self._temperatures = torch.tensor([[temperatures[row]] for row in self._rows])
        self._generators = [torch.Generator("cpu").manual_seed(seeds[row] % 2**63) for row in self._rows]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        lots = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=generator) for generator in self._generators])
        noise = lots.clamp_(min=1e-30).log().to(scores.device)
        drawn = scores.to(torch.float32, copy=True)
        drawn[self._rows] = drawn[self._rows] / self._temperatures.to(scores.device) - noise
        return drawn


@final
class TransformersMLLM:
    """Answers with a multimodal language model in transformers format.

    Args:
        model: Local folder or hub id.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "auto", "float32", "float16", "bfloat16".
        batch_size: Questions in one pass.
        brief: Send the short prompts that the mini model is trained on.
        revision: Commit or tag of the hub repository.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 8,
        brief: bool = False,
        revision: str | None = None,
    ) -> None:
        self.name = f"transformers:{model}"
        self.brief = brief
        self.batch_size = batch_size
        self._device = pick_device(device)
        self._model = load_pretrained(
            AutoModelForImageTextToText,
            model,
            dtype=pick_dtype(dtype, self._device),
            use_safetensors=True,
            revision=revision,
        )
        settle(self._model, self._device)
        self._tokenizer, self._chat, self._make_inputs = load_inputs(model, self._model.config, revision=revision)
        self._special = special_tokens(self._tokenizer)
        self._guide: Any = None
        self._mistakes: dict[type[BaseModel], DriverError | None] = {}
        self._one_at_a_time = threading.Lock()

    def answer(self, asks: Sequence[Ask]) -> list[Reply | VernissageError]:
        """Answer all questions, in order. See `vernissage.ports.MLLM`."""
        with self._one_at_a_time:
            return self._answer(asks)

    def _answer(self, asks: Sequence[Ask]) -> list[Reply | VernissageError]:
        """Questions of every kind share batches; those of one kind, and of equal length, stand together, so that none waits for long."""
        results: dict[int, Reply | VernissageError] = {}
        kinds: dict[object, int] = {}
        groups: dict[int, list[int]] = {}
        for index, ask in enumerate(asks):
            kinds.setdefault((ask.reply, ask.temperature), len(kinds))
            if error := self._unkept(ask.reply):
                results[index] = error
            else:
                groups.setdefault(ask.max_tokens, []).append(index)
        for group in groups.values():
            group.sort(key=lambda index: (kinds[asks[index].reply, asks[index].temperature], _length(asks[index])))
            count = -(-len(group) // self.batch_size)  # each step of a batch costs much the same, however few it holds
            for indices in evenly(group, count):
                results |= zip(indices, self._answer_batch([asks[index] for index in indices]), strict=True)
        return [results[index] for index in range(len(asks))]

    def _unkept(self, reply: type[BaseModel] | None) -> DriverError | None:
        """Why replies cannot be kept to this record, if they cannot: said before it spoils the batch for others."""
        if reply is not None and reply not in self._mistakes:
            try:
                with self._explained("a question"):
                    matchers(self._guide_tokenizer(), reply, 1)
                self._mistakes[reply] = None
            except DriverError as error:
                self._mistakes[reply] = error
        return None if reply is None else self._mistakes[reply]

    def _answer_batch(self, asks: list[Ask]) -> list[Reply | VernissageError]:
        started = time.monotonic()
        try:
            said = self._generate(asks)
        except VernissageError as error:
            if len(asks) == 1:
                return [error]
            said = None
        if said is None:  # one of them is at fault, or all together are too large; only here is the memory of the attempt free
            return [reply for ask in asks for reply in self._answer_batch([ask])]
        seconds = (time.monotonic() - started) / len(asks)
        replies: list[Reply | VernissageError] = []
        for ask, (text, cut) in zip(asks, said, strict=True):
            try:
                replies.append(read_reply(text, ask.reply, seconds=seconds, cut=cut))
            except VernissageError as error:
                replies.append(error)
        return replies

    @torch.inference_mode()
    def _generate(self, asks: list[Ask]) -> list[tuple[str, bool]]:
        """The words of each answer, and whether they were cut off."""
        with self._explained(f"{len(asks)} questions"):
            inputs = self._inputs([self._prompt(ask) for ask in asks], [_images(ask) for ask in asks])
            length = inputs["input_ids"].shape[1]
            processors = LogitsProcessorList()
            if any(ask.reply is not None for ask in asks):
                processors.append(Constrained(self._guide_tokenizer(), [ask.reply for ask in asks], length, self._ends()[0]))
            if any(ask.temperature > 0 for ask in asks):
                processors.append(_Drawn([ask.temperature for ask in asks], [ask.seed for ask in asks]))
            output = self._model.generate(
                **inputs,
                max_new_tokens=asks[0].max_tokens,
                logits_processor=processors,
                pad_token_id=self._tokenizer.pad_token_id,
                # `_Drawn` does the drawing.
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
            )
        said = output[:, length:]
        ends = torch.tensor([*self._ends(), self._tokenizer.pad_token_id], device=said.device)
        cut = (said.shape[1] >= asks[0].max_tokens) & ~torch.isin(said[:, -1], ends)
        return list(zip(map(str.strip, self._tokenizer.batch_decode(said, skip_special_tokens=True)), cut.tolist(), strict=True))

    @contextmanager
    def _explained(self, work: str) -> Iterator[None]:
        """Turns what goes wrong inside into errors of ours."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(f"{self._device} is too small for {work} to {self.name}.", hint=_SMALLER) from error
        except _FAILURES as error:
            raise DriverError(f"{self.name} could not answer: {error}") from error

    def _ends(self) -> list[int]:
        """Tokens that end an answer, the usual one first."""
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return [self._tokenizer.eos_token_id] if ends[0] is None else ends

    def choose(self, asks: Sequence[Ask], options: Sequence[str]) -> list[ndarray | VernissageError]:
        """The probability of each option as the whole answer, exact, from the model's own likelihoods."""
        answers = [option + (self._tokenizer.eos_token or "") for option in options]
        chosen: list[ndarray | VernissageError] = []
        for ask in asks:
            try:
                with self._one_at_a_time:
                    chosen.append(self._choose_one(ask, answers))
            except VernissageError as error:
                chosen.append(error)
        return chosen

    @torch.inference_mode()
    def _choose_one(self, ask: Ask, answers: list[str]) -> ndarray:
        counts = [len(self._tokenizer(answer, add_special_tokens=False).input_ids) for answer in answers]
        with self._explained(f"{len(answers)} options"):
            prompt = self._prompt(ask)
            inputs = self._inputs([prompt + answer for answer in answers], [_images(ask)] * len(answers))
            # Padding is on the left, so the answers are at the end; the head is not asked about all the rest.
            kept = {"logits_to_keep": max(counts) + 1} if "logits_to_keep" in signature(self._model.forward).parameters else {}
            logits = self._model(**inputs, **kept).logits.float().log_softmax(dim=-1)
            ids = inputs["input_ids"]
            scores = [logits[row, -count - 1 : -1].gather(1, ids[row, -count:, None]).sum() for row, count in enumerate(counts)]
            chosen = torch.stack(scores).softmax(dim=0).cpu().numpy().astype(np.float64)
        if not np.isfinite(chosen).all():
            raise DriverError(f"{self.name} gave likelihoods that are no numbers.", hint="Choose dtype = 'bfloat16' or 'float32'.")
        return chosen

    def _prompt(self, ask: Ask) -> str:
        messages = [
            {
                "role": message.role,
                "content": [
                    *({"type": "image"} for _ in message.images),
                    {"type": "text", "text": escape_special(message.text, self._special)},
                ],
            }
            for message in ask.messages
        ]
        return self._chat.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def _inputs(self, prompts: list[str], images: Sequence[Sequence[Image.Image]]) -> Any:
        inputs = self._make_inputs(prompts, [[image.convert("RGB") for image in own] for own in images])
        return inputs.to(self._device, dtype=self._model.dtype)

    def _guide_tokenizer(self) -> Any:
        if self._guide is None:
            self._guide = guide_tokenizer(self._tokenizer, self._model.config)
        return self._guide


def _images(ask: Ask) -> list[Image.Image]:
    return [image for message in ask.messages for image in message.images]


def _length(ask: Ask) -> int:
    return sum(len(message.text) + 1000 * len(message.images) for message in ask.messages)
