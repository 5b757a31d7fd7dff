"""Collecting demonstrations from a server that speaks Civitai's API as it is at its worst, and from pictures."""

import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from pydantic import TypeAdapter

from vernissage.cli import main
from vernissage.datasets import collect
from vernissage.datasets.collect import (
    collect_civitai,
    collect_pictures,
    read_civitai_image,
    read_demonstrations,
    write_demonstrations,
)
from vernissage.errors import BadInput, DriverError, RateLimited, Refused
from vernissage.records.demonstration import Demonstration
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Arguments, Lora, Plan
from vernissage.zoo import civitai
from vernissage.zoo.card import Card, local_id


def item(number, **changes):
    meta = {"prompt": f"a cat {number} <lora:ink:0.8>", "negativePrompt": "blur", "sampler": "DPM++ 2M", "Schedule type": "Karras"}
    meta |= {"steps": "20", "cfgScale": 7, "seed": 5, "Size": "512x768", "Clip skip": "2", "Model": "dream"}
    values = {"id": number, "url": "https://x/1.png", "hash": "U", "nsfw": False, "nsfwLevel": "None", "meta": meta, "baseModel": "SD 1.5"}
    return values | {"stats": {"likeCount": 3, "heartCount": 2, "commentCount": 100}} | changes


def annotated(path, text):
    """A picture as other tools write it, in a colour of its own."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), tuple(hashlib.sha256(text.encode()).digest()[:3])).save(path, pnginfo=info)


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
def gather(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(civitai.time, "sleep", waits.append)

    def gather(**options):
        return collect_civitai(tmp_path / "out.jsonl", address=server.address, **{"count": 100} | options)

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
            model="local/dream",
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


def test_a_wait_that_is_too_long_ends_the_call_at_once_and_is_told(gather, server):
    server.script = [(429, {"retry-after": "3600"})]
    with pytest.raises(RateLimited, match="3600 seconds"):
        gather()
    assert (server.asked, gather.waits) == ([0], [])


def test_a_wait_until_a_date_is_understood(gather, server):
    server.script = [(429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})]
    gather()
    assert gather.waits == [0.0]


def test_a_date_to_wait_for_that_is_none_is_passed_over(gather, server):
    server.script = [(429, {"retry-after": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"})]
    assert gather().kept == 20
    assert gather.waits == [1.0]


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


@pytest.mark.parametrize("moment", ["before the lines", "after the lines", "within a line", "within a character"])
def test_a_crash_in_a_page_loses_nothing_and_doubles_nothing(gather, server, tmp_path, monkeypatch, moment):
    real, calls = collect.append_lines, []
    server.pages[2][3] = item(11, baseModel="猫")

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
        if moment == "within a character":
            path.write_bytes(path.read_bytes()[: path.read_bytes().rindex("猫".encode()) + 1])
        crash()

    with monkeypatch.context() as patched:
        patched.setattr(collect, "append_lines", append)
        with pytest.raises(KeyboardInterrupt):
            gather()
    assert gather().kept == 20
    assert ids(tmp_path) == [f"civitai:{number}" for number in range(20)]


@pytest.mark.parametrize("changes", [{}, {"sort": "Newest"}])
def test_a_collection_whose_file_is_gone_begins_anew(gather, server, tmp_path, changes):
    gather(count=12)
    (tmp_path / "out.jsonl").unlink()
    assert gather(**changes).kept == 20
    assert gather(**changes).kept == 20, "and is gone on with as it was begun"


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
    assert read_civitai_image(item(1, meta=meta)).plan.model == "civitai/77"
    meta = item(1)["meta"] | {"resources": [{"type": "lora", "name": "ink"}, {"type": "model", "name": "juggernaut"}]}
    assert read_civitai_image(item(1, meta=meta)).plan.model == "local/juggernaut"


@given(st.text())
def test_a_model_of_any_name_has_an_id_that_a_card_may_have(name):
    found = read_civitai_image(item(1, meta=item(1)["meta"] | {"Model": f"x{name}"}))
    assert TypeAdapter(Annotated[str, *Card.model_fields["id"].metadata]).validate_python(found.plan.model)


def test_different_models_keep_different_ids():
    names = ["dream", "dream v2", "水墨", "油絵", "水墨v2", "油絵v2", "été"]
    assert len({local_id(name) for name in names}) == len(names)


@pytest.mark.parametrize("schedule", ["Karras", "Simple", "Normal", "Automatic", "SGM Uniform", "Align Your Steps", ""])
@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M Karras"])
def test_a_schedule_is_told_alike_on_both_roads(tmp_path, sampler, schedule):
    annotated(tmp_path / "in" / "a.png", f"a cat\nSteps: 9, Sampler: {sampler}, Schedule type: {schedule}, Model: dream")
    collect_pictures(tmp_path / "in", tmp_path / "out.jsonl")
    (found,) = read_demonstrations(tmp_path / "out.jsonl")
    meta = {"prompt": "a cat", "sampler": sampler, "Schedule type": schedule, "Model": "dream"}
    assert read_civitai_image(item(1, meta=meta)).plan == found.plan.model_copy(
        update={"arguments": found.plan.arguments.model_copy(update={"steps": None})}
    )


def test_a_model_told_by_its_file_has_the_id_that_the_zoo_gives_it(tmp_path):
    for name, model in {"a": "dream shaper", "b": '"sdxl\\\\dream shaper.safetensors"', "c": "(v2) dream:x"}.items():
        annotated(tmp_path / "in" / f"{name}.png", f"cat {name}\nSteps: 9, Model: {model}")
    plan = Plan(prompt="a red cat", model="mini/neon")
    Picture.of(Image.new("RGB", (8, 8)), Provenance(plan=plan)).save(tmp_path / "in" / "d.png")
    collect_pictures(tmp_path / "in", tmp_path / "out.jsonl")
    models = [each.plan.model for each in read_demonstrations(tmp_path / "out.jsonl")]
    assert models == ["local/dream-shaper", "local/dream-shaper", "local/v2-dream-x", "mini/neon"]


def test_pictures_of_civitais_own_generator_tell_model_and_adapters_as_its_interface_does(tmp_path):
    resources = [
        {"type": "lora", "weight": 0.8, "modelVersionId": 77, "modelName": "More, details", "modelVersionName": "v1"},
        {"type": "checkpoint", "modelVersionId": 128713, "modelName": "DreamShaper", "modelVersionName": "8"},
        {"type": "embed", "modelVersionId": 5},
        "nonsense",
    ]
    last = f"Steps: 25, Sampler: Euler a, Seed: 3, Size: 512x768, Civitai resources: {json.dumps(resources)}, Civitai metadata: {{}}"
    annotated(tmp_path / "in" / "a.png", f"a cat\n{last}")
    annotated(tmp_path / "in" / "b.png", "a dog\nSteps: 9, Model: dream, Civitai resources: [broken, Seed: 2")
    collect_pictures(tmp_path / "in", tmp_path / "out.jsonl")
    one, two = (each.plan for each in read_demonstrations(tmp_path / "out.jsonl"))
    assert (one.model, one.arguments.loras) == ("civitai/128713", (Lora(name="civitai/77", weight=0.8),))
    assert (two.model, two.arguments.loras) == ("local/dream", ())
    told = read_civitai_image({"id": 1, "meta": {"prompt": "a cat", "civitaiResources": resources}})
    assert (told.plan.model, told.plan.arguments.loras) == (one.model, one.arguments.loras)


def test_pictures_that_tell_no_model_are_not_taken(tmp_path):
    annotated(tmp_path / "in" / "a.png", "a cat\nSteps: 9, Sampler: Euler, Seed: 1")
    assert collect_pictures(tmp_path / "in", tmp_path / "out.jsonl") == (0, {"no model": 1})


def test_pictures_of_one_name_in_two_folders_are_both_collected(tmp_path):
    out = tmp_path / "out.jsonl"
    for folder in ("a", "b"):
        annotated(tmp_path / folder / "00001.png", f"a cat in {folder}\nSteps: 9, Model: dream")
        annotated(tmp_path / folder / "00002.png", "the same cat\nSteps: 9, Model: dream")
    assert collect_pictures(tmp_path / "a", out).kept == 2
    for already in (1, 2):  # the second time nothing is new
        assert collect_pictures(tmp_path / "b", out) == (3, {"collected already": already})
    assert collect_pictures(tmp_path / "a", out) == (3, {"collected already": 2})
    found = read_demonstrations(out)
    assert [each.plan.prompt for each in found] == ["a cat in a", "the same cat", "a cat in b"]
    assert (found[0].id, len({each.id for each in found})) == ("00001.png", 3)


def test_going_on_reads_no_picture_that_was_collected_before(tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    annotated(tmp_path / "in" / "1.png", "a cat\nSteps: 9, Model: dream")
    collect_pictures(tmp_path / "in", out)
    annotated(tmp_path / "in" / "2.png", "a dog\nSteps: 9, Model: dream")
    read = []
    opened = Picture.open
    monkeypatch.setattr(Picture, "open", lambda path, **options: read.append(path.name) or opened(path, **options))
    assert collect_pictures(tmp_path / "in", out) == (2, {"collected already": 1})
    assert read == ["2.png"]


def test_pictures_are_found_from_wherever_the_next_step_runs(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    annotated(Path("set/in/a.png"), "a cat\nSteps: 9, Model: dream")
    collect_pictures(Path("set/in"), Path("set/out.jsonl"))
    assert '"picture":"in/a.png"' in Path("set/out.jsonl").read_text(encoding="utf-8")
    monkeypatch.chdir("elsewhere")
    (found,) = read_demonstrations(Path("../set/out.jsonl"))
    assert Path(found.picture).samefile("../set/in/a.png")
    write_demonstrations([found], Path("new/filtered.jsonl"))
    monkeypatch.chdir("new")
    (again,) = read_demonstrations(Path("filtered.jsonl"))
    assert Path(again.picture).samefile("../../set/in/a.png")


def test_a_picture_whose_name_no_file_can_hold_is_refused(tmp_path):
    broken = read_civitai_image(item(1)).model_copy(update={"picture": "a\0b.png"})
    with pytest.raises(BadInput, match="civitai:1"):
        write_demonstrations([broken], tmp_path / "d.jsonl")


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


def test_a_file_of_something_else_is_not_written_to(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "d.jsonl").write_text("my diary", encoding="utf-8")
    with pytest.raises(BadInput, match="line 1"):
        collect_pictures(tmp_path / "in", tmp_path / "d.jsonl")
    assert (tmp_path / "d.jsonl").read_text(encoding="utf-8") == "my diary"


def test_a_line_with_a_mistake_is_named(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"id": "x"}\n', encoding="utf-8")
    with pytest.raises(BadInput, match="line 1"):
        read_demonstrations(tmp_path / "d.jsonl")
    with pytest.raises(BadInput, match=r"none\.jsonl"):
        read_demonstrations(tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="no folder"):
        collect_pictures(tmp_path / "none", tmp_path / "out.jsonl")


@pytest.mark.parametrize(("level", "unsafe"), [(1, False), (3, False), (4, True), (8, True), ("Soft", False), ("Mature", True)])
def test_what_is_not_safe_for_work_is_told_by_its_level(level, unsafe):
    assert read_civitai_image(item(1, nsfwLevel=level)).nsfw is unsafe


def test_a_list_that_stands_still_ends(gather, server):
    server.script = [json.dumps({"items": [item(1)], "metadata": {"nextCursor": "1"}}).encode()] * 9
    with pytest.raises(DriverError, match="same page again"):
        gather()
    assert server.asked == [0, 1]


@pytest.mark.parametrize("seed", [1125899906842623, "18446744073709551615", 999999999999999])
def test_large_seeds_are_kept(seed):
    found = read_civitai_image(item(1, meta=item(1)["meta"] | {"seed": seed}))
    assert found.plan.arguments.seed == int(seed)


@pytest.mark.parametrize(
    ("changes", "unsafe"),
    [({"nsfw": "X", "nsfwLevel": None}, True), ({"nsfw": True, "nsfwLevel": ""}, True), ({"nsfw": "Soft", "nsfwLevel": None}, False)],
)
def test_what_is_unsafe_is_told_by_either_field(changes, unsafe):
    assert read_civitai_image(item(1, **changes)).nsfw is unsafe


def test_a_picture_that_has_changed_is_collected_anew(tmp_path):
    path = tmp_path / "in" / "x.png"
    annotated(path, "a cat\nSteps: 9, Model: m")
    collect_pictures(tmp_path / "in", tmp_path / "out.jsonl")
    annotated(path, "a dog\nSteps: 9, Model: m")
    later = (tmp_path / "out.jsonl").stat().st_mtime + 5
    os.utime(path, (later, later))
    assert collect_pictures(tmp_path / "in", tmp_path / "out.jsonl").kept == 2
    assert [each.plan.prompt for each in read_demonstrations(tmp_path / "out.jsonl")] == ["a cat", "a dog"]
