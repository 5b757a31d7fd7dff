"""MLLMs through transformers: InternVL, Qwen-VL and every other AutoModelForImageTextToText, on this machine.

Questions are answered in batches. Typed replies are constrained while they are written (llguidance): a reply that is
complete always fits its JSON schema. No code from a checkpoint is ever run.
"""

import json
import time
from collections.abc import Sequence
from typing import Any, final

import llguidance
import llguidance.hf
import numpy as np
import torch
import transformers
from numpy import ndarray
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, LogitsProcessor, LogitsProcessorList

from vernissage.drivers.features import load_pretrained
from vernissage.drivers.replies import parse_reply
from vernissage.drivers.t2i_diffusers import pick_device, pick_dtype
from vernissage.drivers.vision_inputs import load_inputs
from vernissage.errors import DriverError, OutOfMemory, VernissageError
from vernissage.ports import Ask, Reply

_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
_SMALLER = "Lower the MLLM's batch_size, use a smaller model, or choose dtype = 'bfloat16'."


class _Constrained(LogitsProcessor):
    """Allows at each step only the tokens that a JSON schema allows, row by row."""

    def __init__(self, tokenizer: llguidance.LLTokenizer, schema: str, rows: int, prompt_length: int) -> None:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, defaults=_COMPACT)
        self._matchers = [llguidance.LLMatcher(tokenizer, grammar) for _ in range(rows)]
        self._length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        allowed = np.zeros(scores.shape, dtype=bool)
        for row, matcher in enumerate(self._matchers):
            if input_ids.shape[1] > self._length and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[row, -1]))
            if matcher.is_stopped():
                allowed[row] = True  # the row is finished; what is drawn now is padding
            else:
                bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
                allowed[row, : len(bits)] = bits[: scores.shape[1]]
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)


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
        transformers.logging.set_verbosity_error()
        self._model = load_pretrained(
            AutoModelForImageTextToText,
            model,
            dtype=pick_dtype(dtype, self._device),
            use_safetensors=True,
            revision=revision,
        )
        self._model.to(self._device).eval()
        self._tokenizer, self._chat, self._make_inputs = load_inputs(model, self._model.config, revision=revision)
        self._guide: llguidance.LLTokenizer | None = None

    def answer(self, asks: Sequence[Ask]) -> list[Reply | VernissageError]:
        """Answer all questions, in order. See `vernissage.ports.MLLM`."""
        results: dict[int, Reply | VernissageError] = {}
        groups: dict[object, list[int]] = {}
        for index, ask in enumerate(asks):
            seed = ask.seed if ask.temperature > 0 else 0
            groups.setdefault((ask.reply, ask.temperature, ask.max_tokens, seed), []).append(index)
        for group in groups.values():
            group.sort(key=lambda index: _length(asks[index]))  # equal lengths together, so that little is padding
            for start in range(0, len(group), self.batch_size):
                indices = group[start : start + self.batch_size]
                for index, reply in zip(indices, self._answer_batch([asks[index] for index in indices]), strict=True):
                    results[index] = reply
        return [results[index] for index in range(len(asks))]

    def _answer_batch(self, asks: list[Ask]) -> list[Reply | VernissageError]:
        started = time.monotonic()
        try:
            texts = self._generate(asks)
        except VernissageError as error:
            return [error] * len(asks)
        seconds = (time.monotonic() - started) / len(asks)
        replies: list[Reply | VernissageError] = []
        for ask, text in zip(asks, texts, strict=True):
            try:
                replies.append(Reply(text=text, record=parse_reply(text, ask.reply), seconds=seconds))
            except VernissageError as error:
                replies.append(error)
        return replies

    @torch.inference_mode()
    def _generate(self, asks: list[Ask]) -> list[str]:
        inputs = self._inputs([self._prompt(ask) for ask in asks], [image for ask in asks for m in ask.messages for image in m.images])
        length = inputs["input_ids"].shape[1]
        constraint = LogitsProcessorList()
        if asks[0].reply is not None:
            schema = json.dumps(asks[0].reply.model_json_schema())
            constraint.append(_Constrained(self._guide_tokenizer(), schema, len(asks), length))
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if asks[0].temperature > 0:
            sampling = {"do_sample": True, "temperature": asks[0].temperature, "top_p": 1.0, "top_k": 0}
        try:
            with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
                torch.manual_seed(asks[0].seed)
                output = self._model.generate(
                    **inputs,
                    max_new_tokens=asks[0].max_tokens,
                    logits_processor=constraint,
                    pad_token_id=self._tokenizer.pad_token_id,
                    **sampling,
                )
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(f"{self._device} is too small for {len(asks)} questions to {self.name}.", hint=_SMALLER) from error
        except (RuntimeError, ValueError) as error:
            raise DriverError(f"{self.name} could not answer: {error}") from error
        return [text.strip() for text in self._tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)]

    @torch.inference_mode()
    def choose(self, asks: Sequence[Ask], options: Sequence[str]) -> list[ndarray | VernissageError]:
        """The probability of each option as the whole answer, exact, from the model's own likelihoods."""
        end = self._tokenizer.eos_token or ""
        return [self._choose_one(ask, [option + end for option in options]) for ask in asks]

    def _choose_one(self, ask: Ask, answers: list[str]) -> ndarray | VernissageError:
        images = [image for message in ask.messages for image in message.images]
        prompt = self._prompt(ask)
        try:
            inputs = self._inputs([prompt + answer for answer in answers], images * len(answers))
            logits = self._model(**inputs).logits.float().log_softmax(dim=-1)
        except (torch.OutOfMemoryError, MemoryError) as error:
            return OutOfMemory(f"{self._device} is too small for {len(answers)} options.", hint=_SMALLER).with_traceback(error.__traceback__)
        ids = inputs["input_ids"]
        scores = []
        for row, answer in enumerate(answers):  # padding is on the left, so the answer is at the end
            count = len(self._tokenizer(answer, add_special_tokens=False).input_ids)
            scores.append(logits[row, -count - 1 : -1].gather(1, ids[row, -count:, None]).sum())
        return torch.stack(scores).softmax(dim=0).cpu().numpy().astype(np.float64)

    def _prompt(self, ask: Ask) -> str:
        messages = [
            {
                "role": message.role,
                "content": [*({"type": "image"} for _ in message.images), {"type": "text", "text": message.text}],
            }
            for message in ask.messages
        ]
        return self._chat.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def _inputs(self, prompts: list[str], images: list[Image.Image]) -> Any:
        inputs = self._make_inputs(prompts, [image.convert("RGB") for image in images])
        return inputs.to(self._device, dtype=self._model.dtype)

    def _guide_tokenizer(self) -> llguidance.LLTokenizer:
        if self._guide is None:
            self._guide = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._model.config.get_text_config().vocab_size)
        return self._guide


def _length(ask: Ask) -> int:
    return sum(len(message.text) + 1000 * len(message.images) for message in ask.messages)
