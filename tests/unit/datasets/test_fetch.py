"""Fetching pictures and what models are from a server at its worst: all that can be had, once, and the rest counted by reason."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from vernissage.cli import main
from vernissage.datasets import fetch
from vernissage.datasets.collect import read_demonstrations, write_demonstrations
from vernissage.datasets.fetch import ModelNote, fetch_models, fetch_pictures, read_models
from vernissage.errors import BadInput, DriverError
from vernissage.records.demonstration import Demonstration
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan
from vernissage.zoo import civitai


def encoded(colour, form="PNG"):
    buffer = io.BytesIO()
    Image.linear_gradient("L").rotate(colour).convert("RGB").save(buffer, form)
    return buffer.getvalue()


VERSION = {"id": 7, "name": "v2", "baseModel": "SDXL 1.0", "model": {"name": "Dream"}, "stats": {"downloadCount": 500}}
VERSION |= {"description": "<p>Soft &amp; warm.</p>"}


class Server(ThreadingHTTPServer):
    """Sends what `content` holds of a path; `trouble` holds statuses that come first, by path."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.trouble, self.asked, self.tokens = {}, {}, [], []

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.tokens.append(self.headers.get("authorization"))
        status = self.server.trouble.get(self.path, []).pop(0) if self.server.trouble.get(self.path) else 200
        body = self.server.content.get(self.path)
        self.send_response(404 if body is None else status)
        self.end_headers()
        if body is not None and status == 200:
            self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The waits that there would have been."""
    waits = []
    monkeypatch.setattr(civitai.time, "sleep", waits.append)
    return waits


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def shown(name, picture, model="civitai/7"):
    return Demonstration(id=name, plan=Plan(prompt=f"a cat {name}", model=model), picture=picture)


def test_pictures_are_fetched_once_and_what_cannot_be_had_is_counted(server, tmp_path):
    server.content = {"/a.png": encoded(0), "/b": encoded(90, "JPEG"), "/c.mp4": b"no picture", "/e.png": b"", "/f.png": b"x"}
    server.trouble = {"/a.png": [429, 503], "/f.png": [500] * 9}
    given = [shown(f"civitai:{path}", server.url(path)) for path in ("/a.png", "/b", "/c.mp4", "/d.png", "/e.png", "/f.png")]
    here = shown("mine", str(tmp_path / "mine.png"))
    told = []
    found = fetch_pictures([*given, here], tmp_path / "p", retries=2, progress=lambda *step: told.append(step))
    assert found.fetched == 2
    assert found.failed == {
        "no picture, or one too large": 2,
        "its server answered with status 404": 1,
        "its server failed with status 500": 1,
    }
    assert [Picture.open(each.picture).image.size for each in found.demonstrations[:2]] == [(256, 256)] * 2
    assert found.demonstrations[1].picture.endswith(".jpg"), "by its content, not its name"
    assert found.demonstrations[2:] == [*given[2:], here], "what could not be had stays an address"
    assert told[-1] == (6, 6)
    asked = len(server.asked)
    again = fetch_pictures(found.demonstrations, tmp_path / "p", retries=0)
    assert again.demonstrations == found.demonstrations
    assert set(server.asked[asked:]) == {"/c.mp4", "/d.png", "/e.png", "/f.png"}, "only what is missing is asked for again"
    cut = fetch_pictures(given[:2], tmp_path / "p")
    assert (cut.fetched, len(server.asked)) == (2, asked + 4), "those of a call that was cut off are found"


def test_a_picture_that_is_too_large_is_left_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "LARGEST", 100)
    server.content = {"/a.png": encoded(0)}
    assert fetch_pictures([shown("a", server.url("/a.png"))], tmp_path).failed == {"no picture, or one too large": 1}
    assert list(tmp_path.iterdir()) == []


def test_one_server_that_is_down_does_not_keep_the_others_pictures_away(server, tmp_path):
    server.content = {"/a.png": encoded(0)}
    given = [
        shown("a", server.url("/a.png")),
        shown("b", "http://127.0.0.1:9/b.png"),
        shown("c", "http://x\x00y/z"),
        shown("d", "ftp://x/a.png"),
    ]
    found = fetch_pictures(given, tmp_path, retries=1)
    assert found.fetched == 1
    assert sum(found.failed.values()) == 3
    assert "no picture, or one too large" in found.failed
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]


def test_where_nothing_answers_the_call_ends_and_what_was_fetched_is_kept(server, tmp_path, monkeypatch):
    server.content = {"/a.png": encoded(0)}
    monkeypatch.setattr(fetch, "AT_ONCE", 1)
    near = [shown(f"a{number}", server.url("/a.png?{number}")) for number in range(16)]
    server.content |= {"/a.png?{number}": encoded(0)}
    far = [shown(f"b{number}", f"http://127.0.0.1:9/{number}.png") for number in range(16)]
    with pytest.raises(DriverError, match="cannot be reached"):
        fetch_pictures([*near, *far], tmp_path, retries=1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"] * 16


def test_demonstrations_of_one_id_keep_their_own_pictures_and_one_address_is_fetched_once(server, tmp_path):
    server.content = {"/a.png": encoded(0), "/b.png": encoded(90)}
    given = [shown("same", server.url("/a.png")), shown("same", server.url("/b.png")), shown("same", server.url("/a.png"))]
    found = fetch_pictures(given, tmp_path)
    one, two, three = (Picture.open(each.picture).hash for each in found.demonstrations)
    assert one == three != two
    assert sorted(server.asked) == ["/a.png", "/b.png"]


def test_a_model_that_cannot_be_had_does_not_keep_the_others_away_and_is_counted(server, tmp_path):
    server.content = {"/api/model-versions/7": json.dumps(VERSION).encode(), "/api/model-versions/8": b"x"}
    server.trouble = {"/api/model-versions/8": [403]}
    found = fetch_models(["civitai/8", "civitai/7"], tmp_path / "m.jsonl", address=server.url("/api"))
    assert list(found.notes) == list(read_models(tmp_path / "m.jsonl")) == ["civitai/7"]
    assert list(found.failed.values()) == [1]


def test_a_note_whose_line_has_no_end_is_kept_apart_from_the_next(server, tmp_path):
    server.content = {f"/api/model-versions/{number}": json.dumps(VERSION).encode() for number in (7, 9)}
    path = tmp_path / "m.jsonl"
    fetch_models(["civitai/7"], path, address=server.url("/api"))
    path.write_bytes(path.read_bytes().rstrip())
    fetch_models(["civitai/9"], path, address=server.url("/api"))
    assert list(read_models(path)) == ["civitai/7", "civitai/9"]


def test_models_are_asked_about_once_and_those_that_are_gone_are_told(server, tmp_path):
    server.content = {"/api/model-versions/7": json.dumps(VERSION).encode(), "/api/model-versions/9": b'{"id": 9}'}
    server.trouble = {"/api/model-versions/9": [429]}
    path = tmp_path / "models.jsonl"
    names = ["civitai/7", "local/dream", "civitai/8", "civitai/7", "civitai/9"]
    found, _ = fetch_models(names, path, address=server.url("/api"))
    assert found == read_models(path)
    assert found == {
        "civitai/7": ModelNote(id="civitai/7", title="Dream v2", description="Soft & warm.", base_model="SDXL 1.0", downloads=500),
        "civitai/8": ModelNote(id="civitai/8", gone=True),
        "civitai/9": ModelNote(id="civitai/9", title="untitled"),
    }
    asked = len(server.asked)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id": "civi')  # cut off
    assert fetch_models(names, path, address=server.url("/api")).notes == found == read_models(path)
    assert len(server.asked) == asked


def test_the_token_goes_to_the_api_alone(server, tmp_path, monkeypatch):
    monkeypatch.setenv("CIVITAI_TOKEN", "secret")
    server.content = {"/a.png": encoded(0), "/api/model-versions/7": json.dumps(VERSION).encode()}
    fetch_models(["civitai/7"], tmp_path / "m.jsonl", address=server.url("/api"))
    fetch_pictures([shown("a", server.url("/a.png"))], tmp_path)
    assert server.tokens == ["Bearer secret", None]


@pytest.mark.parametrize("line", ["nonsense", '{"title": "x"}', '{"id": "a", "stars": 3}'])
def test_notes_with_a_mistake_are_refused_with_their_line(tmp_path, line):
    (tmp_path / "m.jsonl").write_text(f'{{"id": "civitai/1"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"m\.jsonl, line 2"):
        read_models(tmp_path / "m.jsonl")


def test_the_commands_fetch_filter_and_play_with_pictures_and_models(server, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server.content = {f"/{index}.png": encoded(30 * index) for index in range(4)} | {
        "/api/model-versions/7": json.dumps(VERSION).encode(),
        "/api/model-versions/9": json.dumps(VERSION | {"id": 9, "stats": {"downloadCount": 3}}).encode(),
    }
    models = ["civitai/7", "civitai/7", "civitai/8", "civitai/9"]
    write_demonstrations([shown(str(i), server.url(f"/{i}.png"), model) for i, model in enumerate(models)], tmp_path / "d.jsonl")
    with pytest.raises(SystemExit) as ended:
        main(["data", "fetch", "d.jsonl", "--out", "set/f.jsonl", "--address", server.url("/api")])
    assert not ended.value.code
    out = capsys.readouterr().out.splitlines()
    assert out == ["3 models in set/models.jsonl, 1 of them no longer on Civitai", "4 pictures in set/pictures", "set/f.jsonl"]
    assert json.loads((tmp_path / "set/f.jsonl").read_text(encoding="utf-8").splitlines()[0])["picture"].startswith("pictures/0-")
    with pytest.raises(SystemExit):
        main(["data", "filter", "set/f.jsonl", "--out", "k.jsonl", "--least", "1", "--models", "set/models.jsonl", "--downloads", "4"])
    assert "2 x an inactive model" in capsys.readouterr().out
    assert [each.plan.model for each in read_demonstrations(tmp_path / "k.jsonl")] == ["civitai/7"] * 2
    with pytest.raises(SystemExit):
        main(["data", "filter", "set/f.jsonl", "--downloads", "4"])
    assert "Give --models" in capsys.readouterr().err
