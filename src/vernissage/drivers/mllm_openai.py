"""MLLMs behind an OpenAI-compatible server: OpenAI, vLLM, Ollama, LM Studio, `transformers serve` and others.

Typed replies are asked for by JSON schema; a server that refuses schemas is asked for a JSON object, and one that
refuses that is asked in words. Refusals of load (429), failures (5xx) and time-outs are retried with growing pauses;
what is asked together is sent together, a bounded number at a time. Keys never appear in errors or logs.
"""

import base64
import io
import json
import math
import os
import random
import re
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Literal, final

import httpx
import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.drivers.replies import in_words, read_reply
from vernissage.errors import BadCard, BadInput, DriverError, NoProbabilities, RateLimited, Refused, ReplyError, TimedOut, VernissageError
from vernissage.ports import Ask, Message, Reply
from vernissage.processes import Pool
from vernissage.records.plan import whole_characters

_SHAPES: tuple[Literal["json_schema", "json_object", "words"], ...] = ("json_schema", "json_object", "words")
_MOST_OPTIONS = 20  # the protocol's limit of top_logprobs
_LONGEST = 86_400.0  # seconds; more than any wait is worth
_LEAST_MASS = 0.1  # of the letters' probabilities together; with less, the model was about to say something else, perhaps to think
_CHANGEABLE = ("max_tokens", "temperature", "seed")  # what reasoning models refuse: the first under that name, the others altogether


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
        first_wait_s: The first pause; each further one is twice as long.
        brief: Send the short prompts that the mini model is trained on.

    Raises:
        BadCard: The address is none, or a number makes no sense.
        BadInput: The key cannot be one.
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
        times = (("timeout_s", timeout_s, 1e-3), ("longest_wait_s", longest_wait_s, 0), ("first_wait_s", first_wait_s, 0))
        for option, value, least in (("concurrency", concurrency, 1), ("retries", retries, 0), *times):
            if not least <= value <= _LONGEST:
                raise BadCard(f"The option {option} of the driver 'openai' is {value}.", hint=f"It must be from {least} to {_LONGEST}.")
        self.name = f"openai:{model}"
        self.brief = brief
        self.model = model
        self.concurrency = concurrency
        self.retries = retries
        self.timeout_s = timeout_s
        self.longest_wait_s = longest_wait_s
        self.first_wait_s = first_wait_s
        self._key, self._key_variable = _key(api_key_variable), api_key_variable
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx.Client(base_url=_address(base_url), headers=headers, timeout=timeout_s)
        self._shape = 0  # how typed replies are asked for; moves on when the server refuses
        self._refused: set[str] = set()  # parameters that the server does not take

    def answer(self, asks: Sequence[Ask]) -> list[Reply | VernissageError]:
        """Answer all questions, in order. See `vernissage.ports.MLLM`."""
        if not asks:
            return []
        with Pool(min(self.concurrency, len(asks))) as pool:
            return list(pool.map(self._answer_or_error, asks))

    def choose(self, asks: Sequence[Ask], options: Sequence[str]) -> list[ndarray | VernissageError]:
        """The probability of each option, from the server's log-probabilities of the letters that stand for them.

        A server without log-probabilities gives `NoProbabilities`: no number is made up.
        """
        if len(options) > _MOST_OPTIONS:
            refused = NoProbabilities(f"{self.name} can weigh {_MOST_OPTIONS} options at most, not {len(options)}.")
            return [refused for _ in asks]
        letters = [chr(ord("A") + index) for index in range(len(options))]
        listed = "\n".join(f"{letter}: {option}" for letter, option in zip(letters, options, strict=True))

        def one(ask: Ask) -> ndarray | VernissageError:
            last = ask.messages[-1]
            text = f"{last.text}\n\nAnswer with one letter only:\n{listed}"
            messages = (*ask.messages[:-1], last.model_copy(update={"text": text}))
            body = self._body(ask.model_copy(update={"messages": messages, "reply": None}))
            body |= {"max_tokens": 1, "logprobs": True, "top_logprobs": _MOST_OPTIONS}
            try:
                answer = self._send(body)
                told = answer["choices"][0].get("logprobs")
                if told is None or (isinstance(told, dict) and told.get("content") is None):
                    return NoProbabilities(f"{self.name} gave no log-probabilities.")
                weights = _weigh(answer, letters)
            except Refused as error:
                return NoProbabilities(str(error)) if "logprobs" in str(error) else error
            except VernissageError as error:
                return error
            except (KeyError, IndexError, TypeError, AttributeError, ValueError):
                return Refused(f"{self.name} gave log-probabilities that cannot be read.")
            if (mass := weights.sum()) < _LEAST_MASS:
                return Refused(f"{self.name} gave the log-probabilities of other words: the options have {mass:.2g} of 1 together.")
            return weights / mass

        with Pool(min(self.concurrency, max(1, len(asks)))) as pool:
            return list(pool.map(one, asks))

    def _answer_or_error(self, ask: Ask) -> Reply | VernissageError:
        started = time.monotonic()
        try:
            text, cut = self._ask(ask)
            try:
                return read_reply(text, ask.reply, seconds=time.monotonic() - started, cut=cut)
            except ReplyError as unusable:
                if ask.reply is None:
                    raise
                text, _ = self._ask(_again(ask, text, str(unusable)))  # once more, shown what was wrong
                return read_reply(text, ask.reply, seconds=time.monotonic() - started)
        except VernissageError as error:
            return error

    def _ask(self, ask: Ask) -> tuple[str, bool]:
        """The words of the answer, and whether they were cut off."""
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
                message, ended = answer["choices"][0]["message"], answer["choices"][0].get("finish_reason")
                text, refusal = _text(message["content"]), message.get("refusal")
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                raise ReplyError(f"{self.name} sent no answer.", reply=self._cut(json.dumps(answer))) from error
            if refusal and not text.strip():
                raise Refused(f"{self.name} declined: {self._cut(str(refusal), 500)}")
            if ended == "content_filter":
                raise Refused(f"{self.name} declined: its filter ended the answer.")
            if not text.strip():
                raise ReplyError(f"{self.name} sent an empty answer.", reply=self._cut(json.dumps(answer)))
            return text, ended == "length"

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

    def _send(self, body: dict[str, Any]) -> Any:
        """The server's answer, whatever JSON it is; a parameter that it refuses is renamed or left out from then on."""
        while True:
            sent = {name: value for name, value in body.items() if name not in self._refused}
            if "max_tokens" not in sent:
                sent["max_completion_tokens"] = body["max_tokens"]
            try:
                return self._post(sent)
            except Refused as error:
                named = [name for name in _CHANGEABLE if name in sent and _refuses(name, str(error))]
                if not named:
                    raise
                self._refused.add(named[0])

    def _post(self, body: dict[str, Any]) -> Any:
        """The server's answer, asked again where that may help."""
        wait = self.first_wait_s
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            asked = 0.0
            try:
                response = self._exchange(body)
            except httpx.TimeoutException as error:
                if last:
                    raise TimedOut(f"{self.name} did not answer in time.", hint="Raise timeout_s.") from error
            except httpx.RequestError as error:
                if last:
                    address = self._client.base_url.copy_with(userinfo=b"")
                    raise DriverError(f"{self.name} cannot be reached at {address}: {error}.", hint="Is the server running?") from error
            else:
                if response.is_success:
                    try:
                        return response.json()
                    except (ValueError, RecursionError) as error:
                        page = "html" in response.headers.get("content-type", "")
                        if page:
                            told = f"{self.name} sent a web page, no answer. Check `base_url`, which mostly ends in /v1."
                            raise ReplyError(told, reply=self._cut(_body_of(response))) from error
                        if last:
                            told = f"{self.name} sent broken JSON: {self._cut(_body_of(response), 80)!r}."
                            raise ReplyError(told, reply=self._cut(_body_of(response))) from error
                else:
                    asked = self._pause_after(response, last=last)
            # What the server asks for is the least; only our own pause is varied and bounded.
            time.sleep(max(asked, min(wait * random.uniform(0.8, 1.2), self.longest_wait_s)))
            wait *= 2
        raise AssertionError("the last attempt returns or raises")

    def _exchange(self, body: dict[str, Any]) -> httpx.Response:
        """The server's response, whole.

        Raises:
            httpx.ReadTimeout: It takes longer than `timeout_s` in all, however little at a time.
        """
        ends = time.monotonic() + self.timeout_s
        with self._client.stream("POST", "chat/completions", json=body) as response:
            parts = []
            for part in response.iter_raw():
                parts.append(part)
                if time.monotonic() > ends:
                    raise httpx.ReadTimeout("the reply takes too long", request=response.request)
            headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-length"]
            return httpx.Response(response.status_code, headers=headers, content=b"".join(parts), request=response.request)

    def _pause_after(self, response: httpx.Response, *, last: bool) -> float:
        """Seconds that a server in trouble asks to wait; an error where it is to be given up."""
        asked, reason = _asked_pause(response), self._reason(response)
        if response.status_code == 408:  # the server's word for a time-out
            if last:
                raise TimedOut(f"{self.name} did not answer in time.", hint="Raise timeout_s.")
        elif response.status_code == 429:
            if last or asked > self.longest_wait_s:
                pause = f" {asked:.0f} s" if asked else ""
                raise RateLimited(f"{self.name} asks to wait{pause}: {reason}", hint="Lower the concurrency or wait.")
        elif response.status_code >= 500:
            if last:
                raise DriverError(f"{self.name} failed with status {response.status_code}: {reason}")
        else:
            raise Refused(f"{self.name} refused ({response.status_code}): {reason.rstrip('.')}.", hint=self._remedy(response.status_code))
        return min(asked, self.longest_wait_s)

    def _remedy(self, status: int) -> str:
        if status in (401, 403):
            named = self._key_variable
            return f"Is the key in ${named} right?" if named else "It wants a key: name its environment variable with api_key_variable."
        return "Check `model`, and `base_url`, which mostly ends in /v1." if status == 404 else ""

    def _reason(self, response: httpx.Response) -> str:
        try:
            error = response.json().get("error", _body_of(response))
            if not isinstance(error, dict):
                return self._cut(str(error), 500)
            message, named = self._cut(str(error.get("message", error)), 500), f"'{self._cut(str(error.get('param') or ''), 100)}'"
            return message if named in message or named == "''" else f"{message} ({named})"
        except (ValueError, AttributeError, RecursionError):
            return self._cut(_body_of(response), 500)

    def _cut(self, text: str, limit: int = 2000) -> str:
        """The beginning of what the server sent, without the key, which some servers send back."""
        return whole_characters((text.replace(self._key, "(key)") if self._key else text)[:limit])


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip() if variable else ""
    if not (key.isascii() and key.isprintable()):
        raise BadInput(f"The key in ${variable} has characters that no key has.", hint="Copy it once more.")
    return key


def _address(base_url: str) -> httpx.URL:
    hint = 'Give it as base_url = "http://localhost:8000/v1", say.'
    try:
        url = httpx.URL(base_url.rstrip("/") + "/")
        _ = url.host  # decoded when it is asked for
    except (httpx.InvalidURL, UnicodeError) as error:
        raise BadCard(f"The base_url of the driver 'openai' is no address: {error}.", hint=hint) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise BadCard("The base_url of the driver 'openai' does not begin with http:// or https:// and a host.", hint=hint)
    return url


def _text(content: Any) -> str:
    """The words of an answer, which some servers send in parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return whole_characters(content) if isinstance(content, str) else ""


def _weigh(answer: Any, letters: Sequence[str]) -> ndarray:
    """The probability of each letter as the first token, shape (letter,); " A" counts for "A".

    Raises:
        ValueError: One of them is no number.
    """
    weights = np.zeros(len(letters))
    for token in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        if token["token"].strip() in letters:
            if math.isnan(logprob := float(token["logprob"])) or logprob == math.inf:
                raise ValueError(f"a log-probability of {logprob}")
            weights[letters.index(token["token"].strip())] += math.exp(min(0.0, logprob))
    return weights


def _again(ask: Ask, text: str, problem: str) -> Ask:
    more = (
        Message(role="assistant", text=text),
        Message(text=f"That answer cannot be used: {problem} Answer again, with the JSON object only."),
    )
    return ask.model_copy(update={"messages": ask.messages + more})


def _message(message: Message) -> dict[str, Any]:
    text = whole_characters(message.text)
    if not message.images:
        return {"role": message.role, "content": text}
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images]
    return {"role": message.role, "content": [*parts, {"type": "text", "text": text}]}


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _refuses(name: str, message: str) -> bool:
    """Whether a refusal says that this parameter, or its value, is not taken at all."""
    quoted, no = f"['\"`]{name}['\"`]", r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|only the default"
    return re.search(rf"(?i:{no})[^{{}}]{{0,120}}{quoted}|{quoted}[^{{}}]{{0,120}}(?i:{no})", message) is not None


def _about_format(message: str) -> bool:
    return any(name in message for name in ("response_format", "json_schema", "json_object"))


def _asked_pause(response: httpx.Response) -> float:
    """Seconds of the Retry-After header, which holds a number or a date; 0 without one."""
    value = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _body_of(response: httpx.Response) -> str:
    """Its text, whatever encoding it claims."""
    return response.content.decode("utf-8", "replace")


def strict_schema(schema: Any) -> Any:
    """A JSON schema as strict servers want it: every property required, none besides, no defaults, no lengths of texts.

    What is left out here is checked when the reply is parsed.
    """
    if isinstance(schema, list):
        return [strict_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):  # their keys are names, and may well be "title" or "default"
            strict[key] = {name: strict_schema(part) for name, part in value.items()}
        elif key not in ("default", "title", "minLength", "maxLength"):
            strict[key] = strict_schema(value)
    if strict.get("type") == "object" and "properties" in strict:
        strict |= {"required": list(strict["properties"]), "additionalProperties": False}
    return strict
