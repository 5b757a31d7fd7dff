"""MLLMs behind an OpenAI-compatible server: OpenAI, vLLM, Ollama, LM Studio, `transformers serve` and others.

Typed replies are asked for by JSON schema; a server that refuses schemas is asked for a JSON object, and one that
refuses that is asked in words. Refusals of load (429), failures (5xx) and time-outs are retried with growing pauses;
what is asked together is sent together, a bounded number at a time. Keys never appear in errors or logs.
"""

import base64
import io
import json
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any, Literal, final

import httpx
import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.drivers.replies import in_words, parse_reply
from vernissage.errors import DriverError, RateLimited, Refused, ReplyError, TimedOut, VernissageError
from vernissage.ports import Ask, Message, Reply

_SHAPES: tuple[Literal["json_schema", "json_object", "words"], ...] = ("json_schema", "json_object", "words")


@final
class OpenAIMLLM:
    """Asks a chat-completions server.

    Args:
        model: The model's name on the server.
        base_url: The server's address up to and including "/v1".
        api_key_variable: Environment variable that holds the key; empty for none.
        concurrency: Questions in flight at once.
        timeout_s: Patience for one reply.
        retries: How often a failed question is sent again.
        longest_wait_s: A server that asks for a longer pause is given up with `RateLimited`.
        brief: Send the short prompts that the mini model is trained on.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "https://api.openai.com/v1",
        api_key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout_s: float = 120.0,
        retries: int = 4,
        longest_wait_s: float = 60.0,
        first_wait_s: float = 0.5,
        brief: bool = False,
    ) -> None:
        self.name = f"openai:{model}"
        self.brief = brief
        self.model = model
        self.concurrency = concurrency
        self.retries = retries
        self.longest_wait_s = longest_wait_s
        self.first_wait_s = first_wait_s
        key = os.environ.get(api_key_variable, "") if api_key_variable else ""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=base_url.rstrip("/") + "/", headers=headers, timeout=timeout_s)
        self._shape = 0  # how typed replies are asked for; moves on when the server refuses

    def answer(self, asks: Sequence[Ask]) -> list[Reply | VernissageError]:
        """Answer all questions, in order. See `vernissage.ports.MLLM`."""
        if not asks:
            return []
        with ThreadPoolExecutor(min(self.concurrency, len(asks))) as pool:
            return list(pool.map(self._answer_or_error, asks))

    def choose(self, asks: Sequence[Ask], options: Sequence[str]) -> list[ndarray | VernissageError]:
        """The probability of each option, from the server's log-probabilities of the letters that stand for them.

        A server without log-probabilities gives `Refused`: no number is made up.
        """
        letters = [chr(ord("A") + index) for index in range(len(options))]
        listed = "\n".join(f"{letter}: {option}" for letter, option in zip(letters, options, strict=True))

        def one(ask: Ask) -> ndarray | VernissageError:
            last = ask.messages[-1]
            text = f"{last.text}\n\nAnswer with one letter only:\n{listed}"
            body = self._body(ask.model_copy(update={"messages": (*ask.messages[:-1], last.model_copy(update={"text": text}))}))
            body |= {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
            try:
                choice = self._send(body)["choices"][0]
                top = ((choice.get("logprobs") or {}).get("content") or [{}])[0].get("top_logprobs") or []
            except (VernissageError, KeyError, IndexError, TypeError, AttributeError) as error:
                return error if isinstance(error, VernissageError) else Refused(f"{self.name} gave no log-probabilities.")
            weights = np.zeros(len(options))
            for token in top:
                if token["token"].strip() in letters:
                    weights[letters.index(token["token"].strip())] += np.exp(token["logprob"])
            return weights / weights.sum() if weights.sum() > 0 else Refused(f"{self.name} gave no log-probabilities of the options.")

        with ThreadPoolExecutor(min(self.concurrency, max(1, len(asks)))) as pool:
            return list(pool.map(one, asks))

    def _answer_or_error(self, ask: Ask) -> Reply | VernissageError:
        started = time.monotonic()
        try:
            text = self._ask(ask)
            try:
                record = parse_reply(text, ask.reply)
            except ReplyError as unusable:  # asked once more, shown what was wrong
                text = self._ask(_again(ask, text, str(unusable)))
                record = parse_reply(text, ask.reply)
        except VernissageError as error:
            return error
        return Reply(text=text, record=record, seconds=time.monotonic() - started)

    def _ask(self, ask: Ask) -> str:
        while True:
            shape = self._shape
            try:
                answer = self._send(self._body(ask))
            except Refused as error:
                if ask.reply is None or shape + 1 >= len(_SHAPES) or not _about_format(str(error)):
                    raise
                self._shape = max(self._shape, shape + 1)
                continue
            try:
                content = answer["choices"][0]["message"]["content"]
            except (KeyError, IndexError, TypeError) as error:
                raise ReplyError(f"{self.name} sent no answer.", reply=json.dumps(answer)[:2000]) from error
            if not content:
                raise ReplyError(f"{self.name} sent an empty answer.", reply=json.dumps(answer)[:2000])
            return str(content)

    def _body(self, ask: Ask) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [_message(message) for message in ask.messages],
            "max_tokens": ask.max_tokens,
            "temperature": ask.temperature,
            "seed": ask.seed,
        }
        if ask.reply is not None:
            match _SHAPES[self._shape]:
                case "json_schema":
                    schema = {"name": ask.reply.__name__, "strict": True, "schema": strict_schema(ask.reply.model_json_schema())}
                    body["response_format"] = {"type": "json_schema", "json_schema": schema}
                case "json_object":
                    body["response_format"] = {"type": "json_object"}
                    body["messages"].append({"role": "user", "content": in_words(ask.reply)})
                case "words":
                    body["messages"].append({"role": "user", "content": in_words(ask.reply)})
        return body

    def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        wait = self.first_wait_s
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                response = self._client.post("chat/completions", json=body)
            except httpx.TimeoutException as error:
                if last:
                    raise TimedOut(f"{self.name} did not answer in time.", hint="Raise timeout_s.") from error
            except httpx.TransportError as error:
                if last:
                    address = self._client.base_url
                    raise DriverError(f"{self.name} cannot be reached at {address}: {error}.", hint="Is the server running?") from error
            else:
                if response.is_success:
                    try:
                        return response.json()
                    except ValueError as error:
                        if last:
                            raise ReplyError(f"{self.name} sent broken JSON.", reply=response.text[:2000]) from error
                elif response.status_code == 429:
                    wait = max(wait, _asked_pause(response))
                    if last or wait > self.longest_wait_s:
                        raise RateLimited(f"{self.name} asks to wait {wait:.0f} s.", hint="Lower the concurrency or wait.")
                elif response.status_code >= 500:
                    if last:
                        raise DriverError(f"{self.name} failed with status {response.status_code}: {_reason(response)}")
                else:
                    hint = "Check the key's environment variable." if response.status_code in (401, 403) else ""
                    raise Refused(f"{self.name} refused ({response.status_code}): {_reason(response)}", hint=hint)
            time.sleep(min(wait * random.uniform(0.8, 1.2), self.longest_wait_s))  # noqa: S311
            wait *= 2
        raise AssertionError("the last attempt returns or raises")


def _again(ask: Ask, text: str, problem: str) -> Ask:
    more = (
        Message(role="assistant", text=text),
        Message(text=f"That answer cannot be used: {problem} Answer again, with the JSON object only."),
    )
    return ask.model_copy(update={"messages": ask.messages + more})


def _message(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images]
    return {"role": message.role, "content": [*parts, {"type": "text", "text": message.text}]}


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _about_format(message: str) -> bool:
    return any(word in message.lower() for word in ("response_format", "json_schema", "json_object", "schema", "guided"))


def _reason(response: httpx.Response) -> str:
    try:
        error = response.json().get("error", response.text)
        return str(error.get("message", error) if isinstance(error, dict) else error)[:500]
    except (ValueError, AttributeError):
        return response.text[:500]


def _asked_pause(response: httpx.Response) -> float:
    """Seconds of the Retry-After header, which holds a number or a date; 0 without one."""
    value = response.headers.get("retry-after", "")
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def strict_schema(schema: Any) -> Any:
    """A JSON schema as strict servers want it: every property required, none besides, no defaults."""
    if isinstance(schema, list):
        return [strict_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict_schema(value) for key, value in schema.items() if key not in ("default", "title")}
    if schema.get("type") == "object" and "properties" in schema:
        schema |= {"required": list(schema["properties"]), "additionalProperties": False}
    return schema
