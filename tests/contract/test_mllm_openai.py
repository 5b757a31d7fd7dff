"""The OpenAI driver against a local server that speaks the chat-completions protocol and can be told to fail."""

import base64
import binascii
import io
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel, Field

from vernissage.drivers import mllm_openai
from vernissage.drivers.mllm_openai import OpenAIMLLM, strict_schema
from vernissage.errors import BadCard, BadInput, DriverError, NoProbabilities, RateLimited, Refused, ReplyError, TimedOut
from vernissage.painting.reply import PlanReply
from vernissage.ports import Ask, Message, Reply
from vernissage.records.tree import UnderstandingTree
from vernissage.repainting.replies import Objects

KEY = "sk-very-secret-0123456789"


class Friend(BaseModel):
    name: str
    kind: str = "cat"


class Cat(BaseModel):
    """`title` and `default` are also words of JSON Schema itself."""

    name: str = Field(min_length=1, description="What it is called")
    title: str = "none"
    default: int = 9
    best: Friend | None = None
    friends: tuple[Friend, ...] = ()


TOM = '{"name": "Tom", "title": "Sir", "default": 3, "best": null, "friends": []}'


class Server(ThreadingHTTPServer):
    """Speaks the protocol; `faults` are served first, one per request, then `content` answers."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/v1"
        self.faults: deque[Callable[[_Handler], None]] = deque()
        self.content: Callable[[dict[str, Any]], Any] = lambda body: f"You said: {words(body)}"
        self.refuse: Callable[[dict[str, Any]], str | dict[str, Any] | None] = lambda body: None
        self.probabilities: dict[str, float] | None = None
        self.seconds = 0.0
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.pictures: list[Image.Image] = []
        self.most = self.now = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.mistakes: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no mistake of the server's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.now += 1
            server.most = max(server.most, server.now)
            server.bodies.append(body)
            server.keys.append(self.headers.get("Authorization"))
            fault = server.faults.popleft() if server.faults else None
        try:
            time.sleep(server.seconds)
            if fault:
                fault(self)
            elif problem := check(self.path, self.headers, body) or server.refuse(body):
                told = problem if isinstance(problem, dict) else {"message": problem}
                self.send(400, {"error": {"type": "invalid_request_error"} | told})
            else:
                self.send(200, self.completion(body))
        finally:
            with server.lock:
                server.now -= 1

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        self.server.pictures += pictures(body)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice["message"] = {"role": "assistant", "content": self.server.content(body), "refusal": None}
        choice["logprobs"] = None
        if body.get("logprobs") and self.server.probabilities is not None:
            ranked = sorted(self.server.probabilities.items(), key=lambda item: -item[1])[: body.get("top_logprobs", 0)]
            top = [{"token": token, "logprob": float(np.log(p)), "bytes": list(token.encode())} for token, p in ranked]
            choice["logprobs"] = {"content": [top[0] | {"top_logprobs": top}]}
            choice["message"]["content"] = top[0]["token"]
        usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
        return {"id": "chatcmpl-1", "object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}

    def send(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data))}.items():
            if name.replace("-", "_") not in headers:
                self.send_header(name, value)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


def words(body: dict[str, Any]) -> str:
    """The last thing that was said."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def pictures(body: dict[str, Any]) -> list[Image.Image]:
    parts = [part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1], validate=True))) for url in urls]


def check(path: str, headers: Any, body: dict[str, Any]) -> str | None:
    """What the real service would complain of."""
    if path != "/v1/chat/completions" or headers["Content-Type"] != "application/json":
        return f"Invalid URL or content type: {path}"
    known = {
        "model",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "seed",
        "response_format",
        "logprobs",
        "top_logprobs",
    }
    if set(body) - known:
        return f"Unrecognized request arguments: {set(body) - known}"
    tokens = [body[name] for name in ("max_tokens", "max_completion_tokens") if name in body]
    if not (
        isinstance(body["model"], str) and body["messages"] and len(tokens) == 1 and tokens[0] > 0 and 0 <= body.get("temperature", 1) <= 2
    ):
        return "A parameter is missing or out of range."
    if body.get("top_logprobs", 0) > 20 or ("top_logprobs" in body and not body.get("logprobs")):
        return "Invalid value for 'top_logprobs'."
    for message in body["messages"]:
        if message["role"] not in ("system", "user", "assistant") or not isinstance(message["content"], str | list):
            return "Invalid message."
    try:
        if any(picture.format != "PNG" for picture in pictures(body)):
            return "Invalid image."
    except (binascii.Error, OSError):
        return "Invalid base64 image_url."
    return check_format(body.get("response_format"))


def check_format(asked: dict[str, Any] | None) -> str | None:
    if asked is None or asked == {"type": "json_object"}:
        return None
    shape = asked["json_schema"]
    if asked["type"] != "json_schema" or set(shape) != {"name", "strict", "schema"} or not re.fullmatch(r"[\w-]{1,64}", shape["name"]):
        return "Invalid value for 'response_format'."
    problem = check_schema(shape["schema"])
    return f"Invalid schema for response_format '{shape['name']}': {problem}" if problem else None


def check_schema(schema: Any) -> str | None:
    """OpenAI's rules of strict mode: all properties required and none besides, no default, no length of texts."""
    if isinstance(schema, list):
        return next(filter(None, map(check_schema, schema)), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return "'additionalProperties' is required to be supplied and to be false."
        if set(schema.get("required", ())) != set(schema["properties"]):
            return "'required' is required to be supplied and to be an array including every key in properties."
    if bad := {"default", "minLength", "maxLength"} & schema.keys():
        return f"{sorted(bad)} not permitted."
    children = [value for key, value in schema.items() if key not in ("properties", "$defs")]
    named = [value for key in ("properties", "$defs") for value in schema.get(key, {}).values()]
    return check_schema(children + named)


def ends(reason: str) -> Callable[[_Handler], None]:
    """Answers, and says that the answer ended so."""
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": "A red cat on a"}}
    return lambda handler: handler.send(200, {"choices": [choice]})


def fails(status: int, message: str = "Something broke.", **headers: str) -> Callable[[_Handler], None]:
    return lambda handler: handler.send(status, {"error": {"message": message}}, **headers)


def sends(data: bytes, **headers: str) -> Callable[[_Handler], None]:
    return lambda handler: handler.send(200, data, **headers)


def hangs(handler: _Handler) -> None:
    handler.close_connection = True
    handler.server.closing.wait(5)


def hangs_up(handler: _Handler) -> None:
    """Promises more bytes than it sends."""
    handler.send(200, b'{"choices": [', Content_Length="500")
    handler.close_connection = True


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def make(server):
    """Makes drivers, and closes their connections in the end."""
    made = []

    def make(**options: Any) -> OpenAIMLLM:
        options = {"base_url": server.address, "first_wait_s": 0.001, "timeout_s": 5.0} | options
        made.append(OpenAIMLLM("tiny", **options))
        return made[-1]

    yield make
    for driver in made:
        driver._client.close()


@pytest.fixture
def pauses(monkeypatch):
    """Pauses are noted instead of being made."""
    noted: list[float] = []
    clock = SimpleNamespace(sleep=noted.append, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(mllm_openai, "time", clock)
    return noted


def ask(text: str = "Hello", **options: Any) -> Ask:
    return Ask(messages=(Message(text=text),), **options)


def one(driver: OpenAIMLLM, question: Ask | None = None) -> Any:
    (reply,) = driver.answer([question or ask()])
    return reply


def test_a_question_is_answered_in_the_words_of_the_server(server, make):
    reply = one(make(), ask("Who are you?", max_tokens=20, temperature=0.5, seed=3))
    assert isinstance(reply, Reply)
    assert reply.text == "You said: Who are you?"
    assert reply.record is None
    assert reply.seconds > 0
    (body,) = server.bodies
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("tiny", 20, 0.5, 3)
    assert "response_format" not in body


def test_no_question_is_no_request(server, make):
    assert make().answer([]) == []
    assert make().choose([], ["a", "b"]) == []
    assert server.bodies == []


def test_pictures_travel_as_png_and_keep_their_pixels(server, make):
    picture = Image.new("RGB", (5, 3), (1, 2, 3))
    seen_through = Image.new("RGBA", (2, 2), (9, 8, 7, 255))
    reply = one(make(), Ask(messages=(Message(text="What is this?", images=(picture, seen_through)),)))
    assert reply.text == "You said: What is this?"
    assert [image.size for image in server.pictures] == [(5, 3), (2, 2)]
    assert server.pictures[0].getpixel((0, 0)) == (1, 2, 3)


def test_all_messages_travel_with_their_roles(server, make):
    messages = (Message(role="system", text="Be brief."), Message(text="Hi"), Message(role="assistant", text="Yes?"), Message(text="Bye"))
    assert one(make(), Ask(messages=messages)).text == "You said: Bye"
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["system", "user", "assistant", "user"]


def test_a_typed_reply_is_asked_for_by_a_strict_schema(server, make):
    server.content = lambda body: TOM
    reply = one(make(), ask(reply=Cat))
    assert reply.record == Cat(name="Tom", title="Sir", default=3)
    assert server.bodies[0]["response_format"]["json_schema"]["strict"] is True
    assert len(server.bodies) == 1


@pytest.mark.parametrize("record", [Cat, PlanReply])
def test_a_strict_schema_requires_every_property_and_none_besides(record):
    schema = strict_schema(record.model_json_schema())
    assert check_schema(schema) is None
    assert list(schema["properties"]) == list(record.model_fields)
    assert schema["required"] == list(record.model_fields)
    assert schema["additionalProperties"] is False


def test_a_strict_schema_keeps_properties_that_are_named_like_its_own_words():
    schema = strict_schema(Cat.model_json_schema())
    assert schema["properties"]["title"] == {"type": "string"}
    assert schema["properties"]["default"] == {"type": "integer"}
    assert schema["$defs"]["Friend"]["required"] == ["name", "kind"]


def test_a_record_with_free_keys_is_asked_for_as_a_json_object_where_schemas_must_be_strict(server, make):
    tree = {"caption": "a cat", "objects": [{"name": "cat", "features": {"colour": "red"}}]}
    server.content = lambda body: json.dumps(tree)
    reply = one(make(), ask(reply=UnderstandingTree))
    assert reply.record.objects[0].features == {"colour": "red"}
    assert [body["response_format"]["type"] for body in server.bodies] == ["json_schema", "json_object"]


def test_a_server_without_schemas_is_asked_for_an_object_then_in_words_and_the_driver_remembers(server, make):
    server.refuse = lambda body: "response_format is not supported here" if "response_format" in body else None
    server.content = lambda body: TOM
    driver = make()
    assert one(driver, ask(reply=Cat)).record.name == "Tom"
    assert one(driver, ask(reply=Cat)).record.name == "Tom"
    asked = [body.get("response_format", {}).get("type", "words") for body in server.bodies]
    assert asked == ["json_schema", "json_object", "words", "words"]
    assert "JSON schema" in words(server.bodies[-1])
    assert "friends" in words(server.bodies[-1])


def test_many_questions_at_once_find_the_shape_that_the_server_takes(server, make):
    server.refuse = lambda body: "json_schema: unknown field" if body.get("response_format", {}).get("type") == "json_schema" else None
    server.content = lambda body: TOM
    driver = make(concurrency=6)
    replies = driver.answer([ask(reply=Cat)] * 12)
    assert [reply.record.name for reply in replies] == ["Tom"] * 12
    server.bodies.clear()
    one(driver, ask(reply=Cat))
    assert [body["response_format"]["type"] for body in server.bodies] == ["json_object"]


def test_a_refusal_of_something_else_is_not_taken_for_one_of_the_format(server, make):
    server.refuse = lambda body: "The model 'tiny' does not exist."
    error = one(make(), ask(reply=Cat))
    assert isinstance(error, Refused)
    assert "does not exist" in str(error)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("reason", ["'max_tokens' is too large: 9000.", 'Invalid request: {"temperature": 0.0, "seed": 0}.'])
def test_a_refusal_of_one_request_leaves_the_parameters_of_others_alone(server, make, reason):
    server.faults.append(fails(400, reason))
    mllm = make()
    assert isinstance(one(mllm), Refused)
    assert one(mllm).text
    assert {"max_tokens", "temperature", "seed"} <= server.bodies[-1].keys()


def test_a_thought_is_only_what_stands_first(server, make):
    server.content = lambda body: '{"name": "a sign that says <think> and </think>"}'
    assert one(make(), ask(reply=Cat)).record.name == "a sign that says <think> and </think>"


@pytest.mark.parametrize("after", [" Done {}.", ' Note: {"note": "x"}'])
def test_the_last_object_that_has_a_key_of_the_record_counts(server, make, after):
    server.content = lambda body: TOM + after
    assert one(make(), ask(reply=Cat)).record.name == "Tom"


def test_ordinary_words_of_a_refusal_are_not_taken_for_the_format(server, make):
    server.refuse = lambda body: "This schema of a guided tour is not allowed." if "response_format" in body else None
    assert isinstance(one(make(), ask(reply=Cat)), Refused)
    assert len(server.bodies) == 1


def test_a_format_that_only_the_refusals_parameter_names_is_another_format(server, make):
    server.refuse = lambda body: {"message": "Not here.", "param": "response_format"} if "response_format" in body else None
    server.content = lambda body: TOM
    assert one(make(), ask(reply=Cat)).record.name == "Tom"


def reasons(body: dict[str, Any]) -> dict[str, Any] | None:
    """What OpenAI's reasoning models complain of, one thing at a time."""
    if "max_tokens" in body:
        message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        return {"message": message, "param": "max_tokens", "code": "unsupported_parameter"}
    if "temperature" in body:
        return {"message": "Only the default (1) value is supported.", "param": "temperature", "code": "unsupported_value"}
    return {"message": 'Unknown name "seed": Cannot find field.'} if "seed" in body else None


def test_parameters_that_a_reasoning_model_refuses_are_renamed_or_left_out_and_the_driver_remembers(server, make):
    server.refuse = reasons
    server.probabilities = {"A": 0.9, "B": 0.1}
    driver = make(retries=0)
    assert one(driver, ask(max_tokens=20)).text == "You said: Hello"
    assert len(server.bodies) == 4
    server.bodies.clear()
    assert one(driver, ask(max_tokens=20)).text == "You said: Hello"
    assert driver.choose([ask()], ["cat", "dog"])[0] == pytest.approx([0.9, 0.1])
    assert [body["max_completion_tokens"] for body in server.bodies] == [20, 1]
    assert not any({"max_tokens", "temperature", "seed"} & body.keys() for body in server.bodies)


def test_many_questions_at_once_find_the_parameters_that_the_server_takes(server, make):
    server.refuse = reasons
    assert [reply.text for reply in make(concurrency=6).answer([ask()] * 12)] == ["You said: Hello"] * 12


@pytest.mark.parametrize("message", ["The temperature of this seed is not allowed.", "'max_completion_tokens' is too large."])
def test_a_refusal_that_names_no_such_parameter_is_final(server, make, message):
    server.refuse = lambda body: message
    assert isinstance(one(make()), Refused)
    assert len(server.bodies) == 1


def test_halves_of_characters_are_replaced_in_what_is_sent_and_in_what_comes_back(server, make):
    server.probabilities = {"A": 0.9, "B": 0.1}
    driver = make()
    assert one(driver, ask("a \udcff cat")).text == "You said: a \N{REPLACEMENT CHARACTER} cat"
    assert driver.choose([ask()], ["a \ud800 cat", "a dog"])[0] == pytest.approx([0.9, 0.1])
    server.content = lambda body: "a \ud800 dog"
    assert one(driver).text == "a \N{REPLACEMENT CHARACTER} dog"
    server.content = lambda body: '{"name": "T\\ud800m"}'
    assert one(driver, ask(reply=Friend)).record.name == "T\N{REPLACEMENT CHARACTER}m"


def test_a_server_that_asks_to_wait_is_given_the_time_it_asks_for(server, make, pauses):
    server.faults += [fails(429, Retry_After="7"), fails(429, Retry_After="2.5")]
    assert one(make()).text == "You said: Hello"
    assert 7 <= pauses[0] < 10
    assert 2.5 <= pauses[1] < 5


def test_a_server_that_asks_to_wait_until_a_date_is_waited_for(server, make, pauses):
    server.faults.append(fails(429, Retry_After=formatdate(time.time() + 30, usegmt=True)))
    assert one(make()).text == "You said: Hello"
    assert 28 <= pauses[0] <= 31


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "Wed, 21 Oct 2015 07:28:00 GMT", ""])
def test_a_senseless_or_past_time_to_wait_is_no_time_to_wait(server, make, pauses, value):
    server.faults.append(fails(429, Retry_After=value))
    assert one(make()).text == "You said: Hello"
    assert 0 <= pauses[0] < 0.1


@pytest.mark.parametrize("value", ["3600", "inf", pytest.param(formatdate(time.time() + 3600, usegmt=True), id="date")])
def test_a_server_that_asks_to_wait_too_long_is_given_up_at_once(server, make, pauses, value):
    server.faults.append(fails(429, Retry_After=value))
    error = one(make(longest_wait_s=60))
    assert isinstance(error, RateLimited)
    assert error.retryable
    assert pauses == []
    assert len(server.bodies) == 1


def test_a_server_that_is_never_ready_is_given_up_and_its_reason_told(server, make, pauses):
    server.faults += [fails(429, "You exceeded your current quota.")] * 3
    error = one(make(retries=2))
    assert isinstance(error, RateLimited)
    assert "exceeded your current quota" in str(error)
    assert len(server.bodies) == 3
    assert len(pauses) == 2


def test_a_long_pause_once_does_not_make_the_next_ones_too_long(server, make, pauses):
    server.faults += [fails(429, Retry_After="40"), fails(429), fails(429)]
    assert one(make(longest_wait_s=60)).text == "You said: Hello"
    assert pauses[0] >= 40
    assert max(pauses[1:]) < 1


def test_failures_of_the_server_are_asked_again_with_growing_pauses(server, make, pauses):
    server.faults += [fails(500), fails(502), fails(503)]
    assert one(make(first_wait_s=1.0)).text == "You said: Hello"
    assert len(server.bodies) == 4
    assert pauses[0] < pauses[1] < pauses[2]
    assert sum(pauses) < 10


def test_a_server_that_fails_for_ever_becomes_an_error_that_says_why(server, make):
    server.faults += [fails(500, "CUDA is unhappy")] * 9
    error = one(make(retries=2))
    assert type(error) is DriverError
    assert error.retryable
    assert "500" in str(error)
    assert "CUDA is unhappy" in str(error)
    assert len(server.bodies) == 3


def test_no_retries_means_one_request(server, make):
    server.faults += [fails(500)] * 2
    assert isinstance(one(make(retries=0)), DriverError)
    assert len(server.bodies) == 1


def test_a_server_that_hangs_is_timed_out(server, make):
    server.faults += [hangs, hangs]
    error = one(make(timeout_s=0.1, retries=1))
    assert isinstance(error, TimedOut)
    assert "timeout_s" in str(error)
    assert len(server.bodies) == 2


def test_a_server_that_hangs_once_is_asked_again(server, make):
    server.faults.append(hangs)
    assert one(make(timeout_s=0.3)).text == "You said: Hello"


def test_a_server_that_is_not_there_is_named_with_its_address(make):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # bound, but nobody listens
        error = one(make(base_url=f"http://someone:secret@127.0.0.1:{port}/v1", retries=1))
    assert type(error) is DriverError
    assert f"127.0.0.1:{port}" in str(error)
    assert "running" in str(error)
    assert "secret" not in str(error)


def test_an_answer_that_is_cut_off_is_asked_again(server, make):
    server.faults += [hangs_up, sends(b'{"choices": [{"message": {"content": "Hel')]
    assert one(make()).text == "You said: Hello"
    assert len(server.bodies) == 3


@pytest.mark.parametrize("data", [b"<html>Bad gateway</html>", b"", b'{"choices": [', b"\xff\xfe\x00", b"[" * 100_000])
def test_an_answer_that_is_no_json_for_ever_keeps_what_was_sent(server, make, data):
    server.faults += [sends(data)] * 2
    error = one(make(retries=1))
    assert isinstance(error, ReplyError)
    assert error.reply == data.decode(errors="replace")[:2000]
    assert len(server.bodies) == 2


def test_an_answer_that_is_wrongly_packed_becomes_an_error(server, make):
    server.faults += [sends(b"this is not gzip", Content_Encoding="gzip")] * 2
    assert isinstance(one(make(retries=1)), DriverError)


def test_a_connection_that_breaks_off_for_ever_becomes_an_error(server, make):
    server.faults += [hangs_up] * 2
    error = one(make(retries=1))
    assert type(error) is DriverError
    assert error.retryable


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        None,
        "text",
        7,
        {"error": {"message": "overloaded"}},
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": "text"}]},
        {"choices": [{"message": {"role": "assistant"}}]},
        {"choices": [{"message": {"content": None}}]},
        {"choices": [{"message": {"content": ""}}]},
        {"choices": [{"message": {"content": " \n"}}]},
        {"choices": [{"message": {"content": []}}]},
        {"choices": [{"message": {"content": {"a": 1}}}]},
    ],
    ids=json.dumps,
)
def test_an_answer_without_words_is_a_reply_error_that_keeps_it(server, make, answer):
    server.faults.append(sends(json.dumps(answer).encode()))
    error = one(make())
    assert isinstance(error, ReplyError)
    assert error.reply == json.dumps(answer)


def test_an_answer_in_parts_is_put_together(server, make):
    server.content = lambda body: [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert one(make()).text == "Hello"


def test_a_model_that_declines_has_refused(server, make):
    message = {"role": "assistant", "content": None, "refusal": "I'm sorry, I cannot do that."}
    server.faults.append(sends(json.dumps({"choices": [{"message": message}]}).encode()))
    error = one(make(), ask(reply=Cat))
    assert isinstance(error, Refused)
    assert "cannot do that" in str(error)


def test_words_instead_of_json_are_asked_again_once_and_the_model_is_shown_what_was_wrong(server, make):
    answers = iter(["The cat is called Tom.", TOM])
    server.content = lambda body: next(answers)
    assert one(make(), ask(reply=Cat)).record.name == "Tom"
    second = server.bodies[1]["messages"]
    assert second[-2] == {"role": "assistant", "content": "The cat is called Tom."}
    assert "no complete JSON object" in second[-1]["content"]


@pytest.mark.parametrize("answer", ["The cat is called Tom.", '{"nam": "Tom"}', '{"name": "Tom"', "[1, 2]", '{"a":' * 3000])
def test_words_instead_of_json_twice_are_a_reply_error_that_keeps_them(server, make, answer):
    server.content = lambda body: answer
    error = one(make(), ask(reply=Cat))
    assert isinstance(error, ReplyError)
    assert error.reply == answer
    assert len(server.bodies) == 2


def test_thoughts_and_fences_around_the_json_do_no_harm(server, make):
    server.content = lambda body: '<think>{"name": "Jerry"}?</think> Here:\n```json\n' + TOM + "\n```"
    assert one(make(), ask(reply=Cat)).record.name == "Tom"


@pytest.mark.parametrize(
    "said",
    [
        "<think>A cat? {maybe}</think>\n\na red cat",
        "The template opened this thought.</think>a red cat",
        "<think>one</think>a red <think>two\n</think>cat",
        "a red cat<think>cut off in the mid",
        "a red cat",
    ],
)
def test_the_thoughts_of_a_model_are_no_part_of_a_free_answer(server, make, said):
    server.content = lambda body: said
    assert one(make()).text == "a red cat"


def test_a_model_that_never_ends_its_thoughts_answered_unusably(server, make):
    server.content = lambda body: "<think>a red cat, or rather"
    error = one(make())
    assert isinstance(error, ReplyError)
    assert "thoughts" in str(error)
    assert error.reply == "<think>a red cat, or rather"


@pytest.mark.parametrize(
    "said",
    [
        '{"objects":[{"name":"cat","type":"animal"},{"name":"do',
        '[{"name": "cat", "type": "animal"}, {"name": "dog"}]',
        '{"objects": [{"name": "cat"}],}',
        '[{"name": "cat"},',
        '{"name": "cat", "type": "animal"}',
        "{" * 3000,
    ],
)
def test_a_part_of_what_was_said_is_not_taken_for_the_whole(server, make, said):
    server.content = lambda body: said
    error = one(make(), ask(reply=Objects))
    assert isinstance(error, ReplyError)
    assert error.reply == said


@pytest.mark.parametrize(
    "said",
    ["Here [see {below}]: %s", "\\boxed{ %s }", "{%s}", '{"draft": {"name": 1},} Rather: %s', 'A {smile :-[ then %s {"and', "[1] %s [2]"],
)
def test_brackets_of_other_kinds_around_the_json_do_no_harm(server, make, said):
    server.content = lambda body: said % '{"objects": [{"name": "ca}t"}]}'
    assert [thing.name for thing in one(make(), ask(reply=Objects)).record.objects] == ["ca}t"]


def test_an_empty_object_is_an_answer_where_nothing_must_be_said(server, make):
    server.content = lambda body: "{}"
    assert one(make(), ask(reply=Objects)).record == Objects()


def test_a_model_or_an_address_that_is_not_there_says_what_to_check(server, make):
    server.faults.append(fails(404, "model my-model not found"))
    assert "model my-model not found. Check `model`, and `base_url`, which mostly ends in /v1." in str(one(make()))


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_refused_once_with_a_hint_and_is_never_shown(server, make, monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.faults.append(fails(status, f"Incorrect API key provided: {KEY}."))
    error = one(make())
    assert isinstance(error, Refused)
    assert not error.retryable
    assert "Is the key in $OPENAI_API_KEY right?" in str(error)
    assert "Incorrect API key" in str(error)
    server.faults.append(fails(status, "No key"))
    assert "No key. It wants a key: name its environment variable with api_key_variable." in str(one(make(api_key_variable="")))
    assert KEY not in str(error) + repr(error) + repr(error.__cause__)
    assert server.keys == [f"Bearer {KEY}", None]


def test_the_key_is_not_shown_where_the_server_sends_it_back(server, make, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.faults += [sends(f"Unknown {KEY}".encode()), sends(json.dumps({"key": KEY}).encode()), fails(500, KEY), fails(429, KEY)]
    for _ in range(4):
        error = one(make(retries=0))
        assert isinstance(error, ReplyError | DriverError)
        assert KEY not in str(error) + getattr(error, "reply", "")


def test_the_key_comes_from_the_variable_that_is_named(server, make, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")  # as `export MY_KEY=$(cat file)` may leave it
    one(make(api_key_variable="MY_KEY"))
    one(make(api_key_variable=""))
    assert server.keys == [f"Bearer {KEY}", None]


@pytest.mark.parametrize("key", ["sk-…", "sk-a\nb", "sk-\x00"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(make, monkeypatch, key):
    monkeypatch.setattr(mllm_openai.os, "environ", {"OPENAI_API_KEY": key})
    with pytest.raises(BadInput, match="OPENAI_API_KEY") as caught:
        make()
    assert key not in str(caught.value)


@pytest.mark.parametrize("address", ["localhost:8000/v1", "ftp://example.org", "http://", "http://[::1/v1", "/v1", "http://a:b:c"])
def test_an_address_that_is_none_is_refused_before_anything_is_asked(make, address):
    with pytest.raises(BadCard, match="base_url"):
        make(base_url=address)


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"retries": -1}, {"timeout_s": 0}, {"concurrency": -3}])
def test_an_option_that_makes_no_sense_is_refused_by_name(make, options):
    with pytest.raises(BadCard, match=next(iter(options))):
        make(**options)


def test_no_more_questions_are_in_flight_than_allowed_and_the_order_is_kept(server, make):
    server.seconds = 0.05
    replies = make(concurrency=4).answer([ask(f"question {number}") for number in range(20)])
    assert server.most == 4
    assert len(server.bodies) == 20
    assert [reply.text for reply in replies] == [f"You said: question {number}" for number in range(20)]


def test_one_question_that_fails_does_not_hurt_the_others(server, make):
    server.refuse = lambda body: "Your request was rejected." if "bad" in words(body) else None
    server.content = lambda body: TOM if "typed" in words(body) else "junk"
    asks = [ask("typed 1", reply=Cat), ask("bad"), ask("junk", reply=Cat), ask("typed 2", reply=Cat), ask("free")]
    replies = make(concurrency=3).answer(asks)
    assert [type(reply) for reply in replies] == [Reply, Refused, ReplyError, Reply, Reply]
    assert replies[3].record.name == "Tom"


def test_a_choice_is_read_from_the_probabilities_of_the_letters(server, make):
    server.probabilities = {"B": 0.5, " A": 0.2, "A": 0.1, "Sure": 0.15, "C": 0.05}
    (found,) = make().choose([ask("Which?")], ["cat", "dog", "bird", "fish"])
    assert found == pytest.approx(np.array([0.3, 0.5, 0.05, 0.0]) / 0.85)
    assert found.sum() == pytest.approx(1)
    (body,) = server.bodies
    assert (body["max_tokens"], body["logprobs"]) == (1, True)
    assert "B: dog" in words(body)
    assert words(body).startswith("Which?")


def test_a_choice_asks_for_a_letter_even_where_a_record_was_wanted(server, make):
    server.probabilities = {"A": 0.9, "B": 0.1}
    (found,) = make().choose([ask(reply=Cat)], ["cat", "dog"])
    assert found == pytest.approx([0.9, 0.1])
    assert "response_format" not in server.bodies[0]


@pytest.mark.parametrize("probabilities", [None, {"Sure": 0.9, "The": 0.1}])
def test_a_choice_without_probabilities_is_refused_instead_of_made_up(server, make, probabilities):
    server.probabilities = probabilities
    (error,) = make().choose([ask()], ["cat", "dog"])
    assert type(error) is (NoProbabilities if probabilities is None else Refused)  # of another word's it may tell those of the letters yet
    assert "log-probabilities" in str(error)


def test_a_choice_that_hardly_falls_on_the_options_is_refused_instead_of_scaled_up(server, make):
    server.probabilities = {"<think>": 0.92, "A": 0.04, "B": 0.03}
    (error,) = make().choose([ask()], ["cat", "dog"])
    assert isinstance(error, Refused)
    assert "0.07" in str(error)
    server.probabilities = {"<think>": 0.88, "A": 0.09, "B": 0.03}
    assert make().choose([ask()], ["cat", "dog"])[0] == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("logprobs", [{"content": None}, {"tokens": ["A"], "top_logprobs": [{"A": -0.1}]}])
def test_probabilities_in_no_form_that_the_protocol_has_are_none(server, make, logprobs):
    choice = {"index": 0, "message": {"role": "assistant", "content": "A"}, "logprobs": logprobs}
    server.faults.append(sends(json.dumps({"choices": [choice]}).encode()))
    (error,) = make().choose([ask()], ["cat", "dog"])
    assert type(error) is NoProbabilities


def test_a_choice_that_the_server_refuses_is_its_refusal(server, make):
    server.refuse = lambda body: "logprobs are not available" if body.get("logprobs") else None
    (error,) = make().choose([ask()], ["cat", "dog"])
    assert isinstance(error, NoProbabilities)
    assert "not available" in str(error)


def test_a_choice_among_more_options_than_the_protocol_can_weigh_is_refused(server, make):
    (error,) = make().choose([ask()], [f"model {number}" for number in range(21)])
    assert isinstance(error, NoProbabilities)
    assert "20" in str(error)
    assert server.bodies == []


@pytest.mark.parametrize(
    "logprobs",
    [[], "x", {"content": "x"}, {"content": [None]}, {"content": [{"top_logprobs": [{}]}]}, {"content": [{"top_logprobs": [None]}]}]
    + [{"content": [{"top_logprobs": [{"token": "A", "logprob": value}]}]} for value in (None, "x", [], float("nan"), float("inf"))]
    + [{"content": [{"top_logprobs": [{"token": None, "logprob": -1.0}]}]}, {"content": [{"top_logprobs": 5}]}],
    ids=json.dumps,
)
def test_malformed_probabilities_are_refused_and_do_not_hurt_the_other_choices(server, make, logprobs):
    server.probabilities = {"A": 0.75, "B": 0.25}
    choice = {"index": 0, "message": {"role": "assistant", "content": "A"}, "logprobs": logprobs}
    server.faults.append(sends(json.dumps({"choices": [choice]}).encode()))
    first, second = make(concurrency=1).choose([ask(), ask()], ["cat", "dog"])
    assert type(first) is Refused
    assert second == pytest.approx([0.75, 0.25])


def test_the_driver_is_named_after_its_model_and_brief_only_when_told(make):
    assert (make().name, make().brief, make(brief=True).brief) == ("openai:tiny", False, True)


def test_what_a_server_says_of_a_failure_is_words_that_can_be_written(server, make):
    def halves(handler):
        handler.send(400, {"error": {"message": "bad \ud800 thing"}})

    server.faults.append(halves)
    told = str(one(make(retries=0)))
    assert "bad" in told
    assert told.encode("utf-8")


@pytest.mark.parametrize("charset", ["rot13", "base64", "nonsense"])
def test_an_error_page_in_no_encoding_of_texts_is_told_all_the_same(server, make, charset):
    def page(handler):
        handler.send_response(400)
        handler.send_header("Content-Type", f"text/html; charset={charset}")
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"oops")

    server.faults.append(page)
    assert "oops" in str(one(make(retries=0)))


def test_a_web_page_is_no_answer_and_is_not_asked_for_again(server, make):
    def page(handler):
        handler.send_response(200)
        for name, value in (("Content-Type", "text/html"), ("Content-Length", "6")):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(b"<html>")

    server.faults += [page, page]
    error = one(make(retries=1, first_wait_s=0.0))
    assert isinstance(error, ReplyError)
    assert "sent a web page, no answer. Check `base_url`" in str(error)
    assert len(server.faults) == 1


def test_a_date_to_wait_for_that_is_none_is_passed_over(server, make):
    def busy(handler):
        handler.send_response(503)
        handler.send_header("Retry-After", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.faults.append(busy)
    assert isinstance(one(make(retries=1, first_wait_s=0.0)), Reply)


def test_a_reply_that_comes_byte_by_byte_is_given_up_when_its_time_is_over(server, make):
    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(60):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            if server.closing.wait(0.1):
                return

    server.faults.append(drip)
    started = time.monotonic()
    assert isinstance(one(make(retries=0, timeout_s=0.5)), TimedOut)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("option", ["timeout_s", "longest_wait_s", "first_wait_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, -1.0])
def test_a_time_that_is_none_is_refused_by_name(make, option, value):
    with pytest.raises(BadCard, match=f"The option {option}"):
        make(**{option: value})


def test_the_beginning_of_a_key_is_not_left_where_a_reason_is_cut(server, make, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def long(handler):
        handler.send(400, {"error": {"message": "x" * (500 - len(KEY) // 2) + KEY}})

    server.faults.append(long)
    assert KEY[:8] not in str(one(make(retries=0)))


def test_the_answer_is_the_last_object_and_not_the_example_before_it(server, make):
    server.content = lambda body: f'An example: {{"name": "Tim"}}. Mine: {TOM}'
    assert one(make(), ask("Which cat?", reply=Cat)).record.name == "Tom"


@pytest.mark.parametrize(("reason", "cut"), [("length", True), ("stop", False), (None, False)])
def test_an_answer_that_was_cut_off_says_so(server, make, reason, cut):
    server.faults.append(ends(reason))
    (reply,) = make().answer([Ask(messages=(Message(text="What is it?"),))])
    assert (reply.text, reply.cut) == ("A red cat on a", cut)


def test_an_answer_that_a_filter_ended_is_a_refusal(server, make):
    server.faults.append(ends("content_filter"))
    (reply,) = make().answer([Ask(messages=(Message(text="What is it?"),))])
    assert isinstance(reply, Refused)
    assert "filter" in str(reply)


def test_a_server_s_own_time_out_is_waited_for_and_asked_again(server, make):
    server.faults += [fails(408)] * 2
    (reply,) = make(first_wait_s=0, retries=2).answer([Ask(messages=(Message(text="Hi"),))])
    assert reply.text == "You said: Hi"
    server.faults += [fails(408)] * 2
    (reply,) = make(first_wait_s=0, retries=1).answer([Ask(messages=(Message(text="Hi"),))])
    assert isinstance(reply, TimedOut)
