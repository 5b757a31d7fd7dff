"""The OpenAI driver against a real model behind the real protocol: the mini MLLM, served on this machine."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from vernissage.drivers.mllm_openai import OpenAIMLLM
from vernissage.painting.reply import PlanReply
from vernissage.painting.road import plan_chats
from vernissage.ports import Ask, Message, Reply
from vernissage.records.chat import Chat, Turn
from vernissage.records.plan import Plan
from vernissage.world.chats import sample_chat
from vernissage.world.draw import draw

RECORDS = {"PlanReply": PlanReply}


def to_message(message: dict) -> Message:
    """An OpenAI message as our own."""
    if isinstance(message["content"], str):
        return Message(role=message["role"], text=message["content"])
    images = [
        Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].split(",", 1)[1])))
        for part in message["content"]
        if part["type"] == "image_url"
    ]
    text = "".join(part["text"] for part in message["content"] if part["type"] == "text")
    return Message(role=message["role"], text=text, images=tuple(images))


@pytest.fixture(scope="module")
def address():
    """A chat-completions server on the mini MLLM; questions queue up for the one model."""
    from vernissage.api import mini_studio

    mllm, turn = mini_studio().mllm, threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            wanted = body.get("response_format", {}).get("json_schema", {}).get("name")
            ask = Ask(messages=tuple(to_message(m) for m in body["messages"]), reply=RECORDS.get(wanted), max_tokens=body["max_tokens"])
            with turn:
                (reply,) = mllm.answer([ask])
            text = reply.text if isinstance(reply, Reply) else getattr(reply, "reply", "")
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            answer = json.dumps({"object": "chat.completion", "model": body["model"], "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def test_a_served_model_plans_as_it_does_at_home(address, mini):
    rng = np.random.default_rng(21)
    drawn = [sample_chat(rng, split="held-out", input_type=kind) for kind in ("single", "multimodal", "history")]
    chats = [Chat(turns=tuple(Turn(role=role, text=text) for role, text in chat.turns)) for chat in drawn]
    pictures = [[draw(chat.reference, seed=1).image] if chat.reference else [] for chat in drawn]
    served = plan_chats(chats, pictures, OpenAIMLLM("mini", base_url=address, brief=True), mini.catalogue)
    at_home = plan_chats(chats, pictures, mini.mllm, mini.catalogue)
    assert all(isinstance(plan, Plan) for plan in served)
    assert [plan.model for plan in served] == [plan.model for plan in at_home]
    assert [plan.prompt for plan in served] == [plan.prompt for plan in at_home]
