"""Collecting demonstrations from a server that speaks Civitai's API as it is at its worst, and from pictures."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vernissage.cli import main
from vernissage.datasets import collect
from vernissage.datasets.collect import collect_civitai, collect_pictures, read_civitai_image, read_demonstrations
from vernissage.errors import BadInput, DriverError, RateLimited, Refused
from vernissage.records.demonstration import Demonstration
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Arguments, Plan


def item(number, **changes):
    meta = {"prompt": f"a cat {number} <lora:ink:0.8>", "negativePrompt": "blur", "sampler": "DPM++ 2M", "Schedule type": "Karras"}
    meta |= {"steps": "20", "cfgScale": 7, "seed": 5, "Size": "512x768", "Clip skip": "2", "Model": "dream"}
    values = {"id": number, "url": "https://x/1.png", "hash": "U", "nsfw": False, "nsfwLevel": "None", "meta": meta, "baseModel": "SD 1.5"}
    return values | {"stats": {"likeCount": 3, "heartCount": 2, "commentCount": 100}} | changes


class Server(ThreadingHTTPServer):
    """Five pages of four pictures each; `script` holds what goes wrong before a page is sent, in turn."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = [[item(4 * page + index) for index in range(4)] for page in range(5)]
        self.script, self.asked, self.headers = [], [], []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/api/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        options = parse_qs(urlsplit(self.path).query)
        place = int(options.get("cursor", ["0"])[0])
        self.server.asked.append(place)
        self.server.headers.append(dict(self.headers))
        trouble = self.server.script.pop(0) if self.server.script else None
        if trouble == "cut":
            self.send_response(200)
            self.send_header("content-length", "100000")
            self.end_headers()
            self.wfile.write(b'{"items": [')
            self.close_connection = True
            return
        if isinstance(trouble, tuple):
            status, headers = trouble
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        following = {"nextCursor": str(place + 1)} if place + 1 < len(self.server.pages) else {}
        body = trouble if isinstance(trouble, bytes) else json.dumps({"items": self.server.pages[place], "metadata": following}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def gather(server, tmp_path):
    waits = []

    def gather(**options):
        return collect_civitai(tmp_path / "out.jsonl", address=server.address, sleep=waits.append, **{"count": 100} | options)

    gather.waits = waits
    return gather


def ids(tmp_path):
    return [each.id for each in read_demonstrations(tmp_path / "out.jsonl")]


def test_all_pages_are_read_and_nothing_is_taken_twice(gather, server, tmp_path):
    server.pages[3][0] = server.pages[1][0]  # the list moved on while it was read
    found = gather()
    assert found == (19, {"collected already": 1})
    assert len(set(ids(tmp_path))) == 19
    assert server.asked == [0, 1, 2, 3, 4]
    (first, *_) = read_demonstrations(tmp_path / "out.jsonl")
    assert first == Demonstration(
        id="civitai:0",
        plan=Plan(
            prompt="a cat 0",
            negative_prompt="blur",
            model="dream",
            arguments=Arguments(
                sampler="DPM++ 2M Karras",
                steps=20,
                cfg_scale=7,
                width=512,
                height=768,
                seed=5,
                clip_skip=2,
                loras=({"name": "ink", "weight": 0.8},),
            ),
        ),
        popularity=5,
        base_model="SD 1.5",
        picture="https://x/1.png",
        look="U",
    )


def test_a_server_that_is_busy_fails_or_breaks_off_is_asked_again(gather, server, tmp_path):
    server.script = [(429, {"retry-after": "7"}), (503, {}), None, "cut", b"no json", b"[1]", None, (429, {})]
    assert gather().kept == 20
    assert gather.waits[0] == 7.0
    assert ids(tmp_path) == [f"civitai:{number}" for number in range(20)]


def test_a_wait_until_a_date_is_understood(gather, server):
    server.script = [(429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})]
    gather()
    assert gather.waits == [0.0]


@pytest.mark.parametrize(("trouble", "error"), [((429, {}), RateLimited), ((500, {}), DriverError), (b"{}", DriverError)])
def test_trouble_that_stays_ends_the_call_and_what_was_collected_is_kept(gather, server, tmp_path, trouble, error):
    server.script = [None, None] + [trouble] * 20
    with pytest.raises(error):
        gather(retries=2)
    assert len(ids(tmp_path)) == 8
    server.script = []
    assert gather().kept == 20
    assert server.asked[-3:] == [2, 3, 4], "the pages that were read are not read again"


def test_a_refusal_is_not_asked_again(gather, server):
    server.script = [(401, {})]
    with pytest.raises(Refused):
        gather()
    assert server.asked == [0]


@pytest.mark.parametrize("moment", ["before the lines", "after the lines", "within a line"])
def test_a_crash_in_a_page_loses_nothing_and_doubles_nothing(gather, server, tmp_path, monkeypatch, moment):
    real, calls = collect._append, []

    def crash(*_arguments):
        raise KeyboardInterrupt

    def append(path, lines):
        calls.append(1)
        if len(calls) != 3:
            real(path, lines)
            return
        if moment != "before the lines":
            real(path, lines)
        if moment == "within a line":
            path.write_bytes(path.read_bytes()[:-20])
        crash()

    with monkeypatch.context() as patched:
        patched.setattr(collect, "_append", append)
        with pytest.raises(KeyboardInterrupt):
            gather()
    assert gather().kept == 20
    assert ids(tmp_path) == [f"civitai:{number}" for number in range(20)]


def test_a_count_is_kept_and_can_be_raised_later(gather, tmp_path):
    assert gather(count=6).kept == 6
    assert gather(count=6).kept == 6
    assert gather(count=11).kept == 11
    assert ids(tmp_path) == [f"civitai:{number}" for number in range(11)]


def test_other_settings_do_not_mix_into_a_collection(gather):
    gather(count=6)
    with pytest.raises(BadInput, match="other settings"):
        gather(count=8, sort="Newest")


def test_what_is_not_taken_is_counted_by_reason(gather, server):
    server.pages = [
        [
            item(1, meta=None),
            item(2, meta={"prompt": "   "}),
            item(3, meta={"prompt": "a cat"}),
            item(4, nsfwLevel="X"),
            item(5, nsfwLevel=8),
            "nonsense",
            item(6, nsfwLevel="Soft"),
        ]
    ]
    found = gather()
    assert found.kept == 1
    assert found.dropped == {"no parameters": 2, "no model": 1, "not safe for work": 2, "no picture": 1}


def test_the_token_goes_into_a_header_and_nowhere_else(gather, server, tmp_path, monkeypatch):
    monkeypatch.setenv("CIVITAI_TOKEN", "s3cret")
    gather()
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert not any("s3cret" in path.read_text(encoding="utf-8") for path in tmp_path.glob("out*"))


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_no_item_however_odd_is_more_than_not_taken(value):
    for odd in (value, item(1, meta=value), item(1, stats=value, nsfwLevel=value, hash=value)):
        found = read_civitai_image(odd)
        assert isinstance(found, str | Demonstration)
    for key in ("prompt", "negativePrompt", "sampler", "steps", "cfgScale", "seed", "Size", "resources", "civitaiResources", "Model"):
        assert isinstance(read_civitai_image(item(1, meta=item(1)["meta"] | {key: value})), str | Demonstration)


def test_the_model_is_civitais_own_number_where_it_is_told():
    meta = item(1)["meta"] | {"civitaiResources": [{"type": "lora", "modelVersionId": 3}, {"type": "checkpoint", "modelVersionId": 77}]}
    assert read_civitai_image(item(1, meta=meta)).plan.model == "civitai:77"
    meta = item(1)["meta"] | {"resources": [{"type": "lora", "name": "ink"}, {"type": "model", "name": "juggernaut"}]}
    assert read_civitai_image(item(1, meta=meta)).plan.model == "juggernaut"


def test_pictures_that_carry_their_plan_are_collected_once(tmp_path):
    plan = Plan(prompt="a red cat", model="mini/neon", arguments=Arguments(steps=8, seed=3))
    Picture.of(Image.new("RGB", (8, 8)), Provenance(plan=plan)).save(tmp_path / "in" / "sub" / "a.png")
    Picture.of(Image.new("RGB", (8, 8))).save(tmp_path / "in" / "b.png")
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    out = tmp_path / "out.jsonl"
    assert collect_pictures(tmp_path / "in", out) == (1, {"no parameters": 1, "a picture that cannot be read": 1})
    assert collect_pictures(tmp_path / "in", out).dropped["collected already"] == 1
    (found,) = read_demonstrations(out)
    assert (found.id, found.plan.prompt, found.plan.arguments.steps) == ("sub/a.png", "a red cat", 8)


def test_the_command_tells_what_it_took_and_what_not(server, tmp_path, capsys):
    server.pages = [[item(1), item(2, meta=None)]]
    with pytest.raises(SystemExit) as ended:
        main(["data", "collect", "--address", server.address, "--out", str(tmp_path / "d.jsonl"), "--count", "5"])
    assert not ended.value.code
    assert capsys.readouterr().out.splitlines() == ["1 demonstrations", "1 not taken:", "  1 x no parameters", str(tmp_path / "d.jsonl")]


def test_reading_a_file_without_a_last_newline_changes_nothing_and_loses_nothing(tmp_path):
    path = tmp_path / "d.jsonl"
    lines = [read_civitai_image(item(number)).model_dump_json() for number in range(3)]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert len(read_demonstrations(path)) == 3
    assert path.read_text(encoding="utf-8") == "\n".join(lines)
    (tmp_path / "in").mkdir()
    assert collect_pictures(tmp_path / "in", path).kept == 3, "going on loses nothing either"


def test_a_line_with_a_mistake_is_named(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"id": "x"}\n', encoding="utf-8")
    with pytest.raises(BadInput, match="line 1"):
        read_demonstrations(tmp_path / "d.jsonl")
    with pytest.raises(BadInput, match=r"none\.jsonl"):
        read_demonstrations(tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="no folder"):
        collect_pictures(tmp_path / "none", tmp_path / "out.jsonl")
