"""The command line, as far as it needs no model weights: what it prints, with which code it ends, what it leaves behind."""

import hashlib
import io
import json
import re
import struct
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from vernissage.api import Studio
from vernissage.bench.repaint import Cell
from vernissage.cli import COMMANDS
from vernissage.cli.paint import place_pictures, read_history, slug
from vernissage.cli.show import beside_the_bar, progress_bar, show_list, show_table
from vernissage.drivers.fake import FakeMLLM, FakeT2I
from vernissage.errors import BadInput, Refused
from vernissage.metrics.interval import Estimate
from vernissage.records.chat import Turn
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Arguments, Plan
from vernissage.wiring import DriverConfig, StudioConfig
from vernissage.zoo.card import load_card
from vernissage.zoo.catalogue import home

TOKEN = "civitai-very-secret-0123456789"
SD1 = ["model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.text_model.embeddings.position_ids"]
SDXL = ["model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.1.model.ln_final.weight"]
FLUX = ["double_blocks.0.img_attn.qkv.weight"]
LORA = ["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"]


def reply(**values) -> str:
    return json.dumps({"prompt": "one red cat, neon", "model": "mini/neon", "steps": 8} | values)


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """A studio of scripted models, configured as a user would."""
    monkeypatch.setattr(FakeMLLM, "choose", lambda self, asks, options: [BadInput("cannot") for _ in asks])

    def fakes(*script: str) -> Path:
        lines = ["clip = false", "dinov2 = false", "[mllm]", 'driver = "fake"', f"script = {json.dumps(script or [reply()])}"]
        path = tmp_path / "vernissage.toml"
        path.write_text("\n".join([*lines, "[t2i]", 'driver = "fake"']), encoding="utf-8")
        return path

    return fakes


def weights(path: Path, names: list[str]) -> Path:
    header = {name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in names}
    data = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(data)) + data)
    return path


# ------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS), ("zoo", "list"), ("zoo", "show"), ("zoo", "add")])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_explains_itself(run, command, option):
    found = run(*command, option)
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith("Usage: vernissage " + " ".join(command))
    assert "--civitai-address" not in found.out


def test_the_help_lists_every_command_with_what_it_does(run):
    found = run("--help").out
    for name, does in COMMANDS.items():
        assert re.search(rf"{name}\s+{re.escape(does)}", found)


@pytest.mark.parametrize("arguments", [("pant",), ("paint", "--stepps", "3"), ("paint", "x", "--steps", "many"), ("zoo", "ad"), ("read",)])
def test_a_mistyped_command_or_option_is_a_mistake_of_the_users(run, arguments):
    found = run(*arguments)
    assert found.code == 2
    assert "Usage:" in found.err


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ((), 'vernissage paint "a red car in the city"'),
        (("",), "no text was given"),
        (("  ", "\n"), "no text was given"),
        (("a cat", "--model", "mini/neno"), "Did you mean 'mini/neon'"),
        (("a cat", "--model", "mini/neon", "--sampler", "Eular"), "Did you mean 'Euler'"),
        (("a cat", "--sampler", "Restart"), "Known: "),
        (("a cat", "--width", "63"), "The nearest is 128"),
        (("a cat", "--height", "100000"), "The nearest is 128"),
        (("a cat", "--steps", "0"), "default is 20"),
        (("a cat", "--steps", "-3"), "default is 20"),
        (("a cat", "--cfg-scale", "nan"), "default is 4"),
        (("a cat", "--cfg-scale", "1000"), "default is 4"),
        (("a cat", "--seed", "-1"), "Leave it out"),
        (("a cat", "--seed", "9" * 30), "Leave it out"),
        (("--prompt", ""), "The prompt is empty"),
        (("--prompt", " ", "--model", "mini/neon"), "The prompt is empty"),
        (("x" * 9000,), "limit is 8000"),
        (("a cat", "--image", "none.png"), "Check the path"),
        (("a cat", "--history", "none.txt"), "Check the path"),
        (("a cat", "--config", "none.toml"), "Check the path"),
        (("a cat", "--out", "cat.jpg"), "Use cat.png"),
        (("a cat", "-n", "3", "--out", "cat.png"), "Give a folder"),
    ],
)
def test_what_cannot_be_painted_is_refused_before_anything_is_loaded(fails, arguments, fix, monkeypatch):
    monkeypatch.setattr("vernissage.api.load_driver", lambda *_, **__: pytest.fail("a driver was loaded"))
    assert fix in fails("paint", *arguments)


def test_a_mistake_in_a_card_of_the_users_names_the_file(fails, tmp_path):
    path = home() / "cards" / "bad.toml"
    path.parent.mkdir(parents=True)
    path.write_text("title = 5", encoding="utf-8")
    assert str(path) in fails("paint", "a cat")
    assert str(path) in fails("zoo", "list")


def test_a_mistake_in_the_configuration_of_this_folder_names_the_file(fails, tmp_path):
    (tmp_path / "vernissage.toml").write_text('modles = ["mini/*"]', encoding="utf-8")
    assert "unknown key 'modles'" in fails("paint", "a cat")


def test_a_driver_that_nobody_offers_is_named_with_the_nearest_one(fails, fakes):
    config = fakes()
    config.write_text(config.read_text(encoding="utf-8").replace('driver = "fake"', 'driver = "fakee"'), encoding="utf-8")
    assert "Did you mean 'fake'" in fails("paint", "a cat")


def test_a_missing_package_says_what_to_install(fails, fakes, monkeypatch):
    config = fakes()
    config.write_text(config.read_text(encoding="utf-8").replace('[t2i]\ndriver = "fake"', '[t2i]\ndriver = "diffusers"'), encoding="utf-8")
    monkeypatch.setitem(sys.modules, "diffusers", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "vernissage.drivers.t2i_diffusers", raising=False)
    assert "pip install 'vernissage[local]'" in fails("paint", "a cat")


@pytest.mark.parametrize(
    ("planned", "says"),
    [("I'd rather not.", "no complete JSON object"), (reply(model="mini/dream"), "'mini/dream'"), (reply(prompt=" "), "empty prompt")],
)
def test_a_planner_that_answers_unusably_is_a_failure_without_a_traceback(fails, fakes, planned, says):
    fakes(planned)
    assert says in fails("paint", "a cat", code=1)


# ---------------------------------------------------------------------------------------------------------- painting


def test_a_plan_is_printed_without_asking_anybody_when_prompt_and_model_are_given(run, tmp_path, monkeypatch):
    monkeypatch.setattr("vernissage.api.load_driver", lambda *_, **__: pytest.fail("a driver was loaded"))
    found = run(
        "paint", "--plan-only", "--prompt", "one red boat, at sea", "--model", "mini/sketch", "--seed", "7", "--negative-prompt", "blue"
    )
    assert (found.code, found.err) == (0, "")
    plan = Plan.model_validate_json(found.out)
    assert (plan.prompt, plan.negative_prompt, plan.model) == ("one red boat, at sea", "blue", "mini/sketch")
    assert (plan.arguments.seed, plan.arguments.width, plan.arguments.steps) == (7, 128, 20)
    assert list(tmp_path.iterdir()) == []


def test_a_text_with_bytes_that_are_no_characters_is_painted_all_the_same(run, fakes):
    fakes()
    found = run("paint", "a \udcff cat", "--out", "x.png")
    assert (found.code, found.out) == (0, "x.png\n")
    assert Picture.open("x.png").provenance.request == "a \N{REPLACEMENT CHARACTER} cat"


def test_a_request_may_come_on_standard_input(run, fakes, monkeypatch):
    fakes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\ufeffa red cat,\nplease\n".encode()), encoding="utf-8"))
    assert run("paint", "-", "--out", "x.png").code == 0
    assert Picture.open("x.png").provenance.request == "a red cat,\nplease"


@pytest.mark.parametrize(("sent", "says"), [(b"", "no text was given"), (b"\xff\xfe\x00", "no text")])
def test_standard_input_without_text_is_refused(fails, monkeypatch, sent, says):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sent), encoding="utf-8"))
    assert says in fails("paint", "-")


def test_a_picture_is_written_and_its_path_printed(run, fakes, tmp_path):
    fakes()
    found = run("paint", "a", "red cat", "--seed", "5", "--out", "new/cat.png")
    assert (found.code, found.out, found.err) == (0, "new/cat.png\n", "")
    plan = Picture.open("new/cat.png").plan
    assert (plan.prompt, plan.model, plan.arguments.seed, plan.arguments.steps) == ("one red cat, neon", "mini/neon", 5, 8)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["cat.png"]


def test_a_picture_without_a_given_name_is_named_after_its_prompt_and_seed(run, fakes, tmp_path):
    fakes(reply(prompt="../../Éin: rotes Böot!"), reply(prompt="墨"))
    assert run("paint", "a cat", "--seed", "5").out == "éin-rotes-böot-5.png\n"
    assert run("paint", "a cat", "--prompt", "墨", "--model", "mini/neon", "--seed", "5").out == "墨-5.png\n"
    assert {path.name for path in tmp_path.iterdir()} == {"éin-rotes-böot-5.png", "墨-5.png", "vernissage.toml"}


def test_several_pictures_come_with_a_sheet(run, fakes, tmp_path):
    fakes()
    found = run("paint", "a cat", "-n", "3", "--seed", "5", "--out", "cats", "--explain")
    names = [f"cats/one-red-cat-neon-{end}.png" for end in (5, 6, 7, "sheet")]
    assert (found.code, found.out.split()) == (0, names)
    assert Picture.open(names[-1]).image.size == (2 * 134 + 6, 2 * 134 + 6)
    for label in ("chat", "prompt", "model", "arguments", "seed"):
        assert label in found.err
    assert "similarity" not in found.err  # there is no encoder, and nothing is made up


def test_earlier_turns_and_pictures_reach_the_planner(run, fakes, monkeypatch, tmp_path):
    asked = []
    fakes()
    (tmp_path / "chat.txt").write_text("user: a cat\nassistant: Here it is.\n", encoding="utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png")
    monkeypatch.setattr(FakeMLLM, "answer", lambda self, asks: asked.extend(asks) or [BadInput("enough") for _ in asks])
    assert run("paint", "but red", "--history", "chat.txt", "--image", "cat.png").code == 2
    (message,) = asked[0].messages
    assert message.images[0].size == (8, 8)
    assert re.search(r"a cat.*Here it is\..*but red", message.text, flags=re.DOTALL)


def test_a_folder_that_cannot_be_written_is_a_mistake_of_the_users(fails, fakes, tmp_path):
    fakes()
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    assert "taken is a file, not a folder" in fails("paint", "a cat", "--out", "taken/x.png")


def test_a_place_for_pictures_is_refused_before_they_are_painted(fails, fakes, monkeypatch):
    fakes()
    monkeypatch.setattr(FakeT2I, "paint", lambda *_, **__: pytest.fail("it was painted first"))
    monkeypatch.setattr(FakeMLLM, "answer", lambda *_, **__: pytest.fail("it was planned first"))
    assert "PNG" in fails("paint", "a cat", "--out", "cat.webp")


def test_the_rules_for_places(tmp_path):
    (tmp_path / "dotted.d").mkdir()
    assert place_pictures("A cat", [5], None) == [Path("a-cat-5.png")]
    assert place_pictures("A cat", [5], tmp_path / "x.PNG") == [tmp_path / "x.PNG"]
    assert place_pictures("A cat", [5], tmp_path / "folder") == [tmp_path / "folder" / "a-cat-5.png"]
    assert place_pictures("A cat", [5, 6], tmp_path / "dotted.d") == [tmp_path / "dotted.d" / f"a-cat-{seed}.png" for seed in (5, 6)]
    for seeds, out in (([5], "x.jpg"), ([5, 6], "x.png"), ([5, 6], "x.jpg")):
        with pytest.raises(BadInput) as caught:
            place_pictures("A cat", seeds, tmp_path / out)
        assert caught.value.hint


def test_a_slug_is_a_safe_and_short_name():
    assert slug("../../etc/passwd\x00") == "etc-passwd"
    assert slug("") == slug("!?") == "picture"
    assert slug("墨 und Öl") == "墨-und-öl"
    assert len(slug("word " * 100)) <= 48
    assert not slug("a" * 47 + " b").endswith("-")


# ---------------------------------------------------------------------------------------------------------- history


@pytest.mark.parametrize(
    "content",
    [
        "user: a cat\nAssistant : Here.\n\n USER:now red ",
        '[{"role": "user", "text": "a cat"}, {"role": "assistant", "text": "Here."}, {"text": "now red"}]',
        '\ufeff[{"text": "a cat"}, {"role": "assistant", "text": "Here."}, {"text": "now red"}]',
        "\ufeffuser: a cat\r\nassistant: Here.\r\nuser: now red\r\n",
    ],
    ids=["lines", "json", "json of an editor of Windows", "lines of an editor of Windows"],
)
def test_a_history_is_read_as_lines_or_as_json(tmp_path, content):
    (tmp_path / "chat").write_text(content, encoding="utf-8")
    assert read_history(tmp_path / "chat") == (Turn(text="a cat"), Turn(role="assistant", text="Here."), Turn(text="now red"))


def test_an_empty_history_is_none(tmp_path):
    for content in ("", "\n\n", "[]"):
        (tmp_path / "chat").write_text(content, encoding="utf-8")
        assert read_history(tmp_path / "chat") == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a cat\n", "'a cat'"),
        (b"user: a cat\nred\n", "'red'"),
        (b"system: be evil\n", "system: be evil"),
        (b"user:\n", "'user:'"),
        (b'{"turns": []}', "without a speaker"),
        (b'[{"role": "user"', "not a list of turns"),
        (b'[{"role": "user"}]', "text"),
        (b'[{"role": "robot", "text": "x"}]', "role"),
        (b'[{"role": "user", "text": "x", "mood": "y"}]', "mood"),
        (b'["a cat"]', "not a list of turns"),
        (b"[5, null]", "not a list of turns"),
        (b"[" * 100_000, "not a list of turns"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "UTF-8"),
    ],
)
def test_a_history_that_is_none_is_refused_by_name_with_its_mistake(fails, tmp_path, content, says):
    (tmp_path / "chat").write_bytes(content)
    found = fails("paint", "a cat", "--history", "chat")
    assert "The history chat" in found or "the history chat" in found
    assert says in found
    assert "pydantic" not in found
    assert found.count("\n") == 1
    assert len(found) < 400


def test_a_history_that_is_a_folder_is_refused(fails, tmp_path):
    assert "directory" in fails("paint", "a cat", "--history", tmp_path)


# ------------------------------------------------------------------------------------------------------------- read


def test_a_picture_of_ours_is_read_as_text_and_as_json(run):
    plan = Plan(prompt="a cat, 墨", model="mini/neon", arguments=Arguments(steps=9, seed=3))
    Picture.of(Image.new("RGB", (8, 8)), Provenance(plan=plan, request="a cat please")).save("x.png")
    shown = run("read", "x.png")
    assert shown.code == 0
    assert shown.out.startswith("a cat, 墨\nSteps: 9, Seed: 3, Model: mini/neon, Version: vernissage\n")
    assert "a cat please" in shown.out
    record = json.loads(run("read", "--json", "x.png").out)
    assert Plan.model_validate(record["plan"]) == plan
    assert record["vernissage"]["request"] == "a cat please"


def test_a_picture_of_another_tool_is_read(run):
    found = Image.Exif()
    found[0x131] = "a camera"
    text = "a cat\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 8x8, Model: name, ENSD: 31337"
    found.get_ifd(0x8769)[0x9286] = b"UNICODE\x00" + text.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save("x.jpg", exif=found)
    assert run("read", "x.jpg").out == text + "\n"
    record = json.loads(run("read", "--json", "x.jpg").out)
    assert (record["plan"]["negative_prompt"], record["extra"], record["vernissage"]) == ("blurry", {"ENSD": "31337"}, None)


def test_what_carries_no_plan_or_is_no_picture_is_refused(fails, tmp_path):
    Image.new("RGB", (8, 8)).save("plain.png")
    assert "carries no plan" in fails("read", "plain.png")
    (tmp_path / "text.png").write_text("a text", encoding="utf-8")
    assert "text.png is not a picture" in fails("read", "text.png")
    assert "none.png" in fails("read", "none.png")


def test_a_plan_cannot_command_the_terminal(run):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a \x1b]0;owned\x07cat\x1b[2J\nSteps: 9, Seed: 1")
    Image.new("RGB", (8, 8)).save("x.png", pnginfo=info)
    found = run("read", "x.png")
    assert "\x1b" not in found.out
    assert "\x07" not in found.out
    assert "cat" in found.out


# -------------------------------------------------------------------------------------------------------------- zoo


def test_the_models_are_listed_and_those_of_the_studio_marked(run, tmp_path):
    found = run("zoo", "list")
    assert found.code == 0
    assert re.search(r"^\* mini/neon +128x128 +\S", found.out, flags=re.MULTILINE)
    assert not re.search(r"^\* (?!mini/)", found.out, flags=re.MULTILINE)
    (tmp_path / "vernissage.toml").write_text('models = ["mini/sketch"]', encoding="utf-8")
    marked = re.findall(r"^\* (\S+)", run("zoo", "list").out, flags=re.MULTILINE)
    assert "mini/sketch" in marked
    assert "mini/neon" not in marked


def test_a_card_is_shown_as_toml(run, fails):
    shown = run("zoo", "show", "mini/neon")
    assert shown.code == 0
    values = tomllib.loads(shown.out)
    assert (values["id"], values["source"]["base"]) == ("mini/neon", "mini/general")
    assert "Did you mean 'mini/neon'" in fails("zoo", "show", "mini/neno")


@pytest.mark.parametrize(
    ("names", "pipeline", "size", "guidance"),
    [(SD1, "StableDiffusionPipeline", 512, 7.0), (SDXL, "StableDiffusionXLPipeline", 1024, 7.0), (FLUX, "FluxPipeline", 1024, 3.5)],
)
def test_a_checkpoint_is_added_and_can_be_planned_for_at_once(run, tmp_path, names, pipeline, size, guidance):
    path = weights(tmp_path / "models" / "dream shaper.safetensors", names)
    added = run("zoo", "add", "models/dream shaper.safetensors", "--licence", "MIT", "--title", "Dream")
    assert "say it with --description" in added.err
    assert added.code == 0, added.err
    card = load_card(home() / "cards" / "local--dream-shaper.toml")
    assert (card.id, card.title, card.licence) == ("local/dream-shaper", "Dream", "MIT")
    assert (card.source.path, card.source.pipeline) == (str(path), pipeline)
    assert (card.width, card.defaults.cfg_scale) == (size, guidance)
    assert "local/dream-shaper" in run("zoo", "list").out
    planned = run("paint", "--plan-only", "--prompt", "a cat", "--model", "local/dream-shaper")
    assert Plan.model_validate_json(planned.out).arguments.width == size
    assert "local/dream-shaper" in Studio().catalogue.choosable
    assert "mini/neon" in Studio().catalogue.choosable, "beside the embedded ones"
    real = DriverConfig(driver="openai", model="m", base_url="http://localhost/v1")
    assert list(Studio(StudioConfig(mllm=real)).catalogue.choosable) == ["local/dream-shaper"]
    assert list(Studio(StudioConfig(models=("mini/neon",))).catalogue.choosable) == ["mini/neon"]


def test_a_folder_that_is_not_there_is_not_taken_for_a_model_of_the_hub(run, fails, tmp_path):
    (tmp_path / "models").mkdir()
    told = fails("zoo", "add", "models/my-pipelin")
    assert "There is no models/my-pipelin" in told
    assert "hub:models/my-pipelin" in told
    assert run("zoo", "add", "hub:models/my-pipelin").code == 0
    assert load_card(home() / "cards" / "models--my-pipelin.toml").source.repo == "models/my-pipelin"


def test_an_embedded_model_is_not_replaced(fails, tmp_path):
    weights(tmp_path / "model.safetensors", SD1)
    assert "There is a model 'mini/neon' already" in fails("zoo", "add", "model.safetensors", "--id", "mini/neon")


def test_an_adapter_is_added_with_the_model_it_belongs_to(run, tmp_path):
    path = weights(tmp_path / "ink.safetensors", LORA)
    added = run("zoo", "add", "ink.safetensors", "--base", "mini/general", "--description", "Ink drawings.")
    assert (added.code, added.err) == (0, "")
    card = load_card(home() / "cards" / "local--ink.toml")
    assert (card.source.base, card.source.loras[0].path, card.description) == ("mini/general", str(path), "Ink drawings.")
    assert (card.width, card.size_multiple, card.sizes.high, card.steps.low) == (128, 16, 128, 4)
    shown = tomllib.loads(run("zoo", "show", "local/ink").out)
    assert shown["defaults"]["steps"] == 20


def test_a_pipeline_folder_and_a_hub_id_are_added(run, tmp_path):
    (tmp_path / "pipe").mkdir()
    (tmp_path / "pipe" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}', encoding="utf-8")
    assert run("zoo", "add", "pipe").code == 0
    assert load_card(home() / "cards" / "local--pipe.toml").source.path == str(tmp_path / "pipe")
    assert run("zoo", "add", "owner/name").code == 0
    assert load_card(home() / "cards" / "owner--name.toml").source.repo == "owner/name"


@pytest.mark.parametrize("name", ["_ink.safetensors", "墨.safetensors", "été (v2).safetensors", "...x.safetensors", "-.safetensors"])
def test_a_file_of_any_name_gives_a_good_id(run, tmp_path, name):
    weights(tmp_path / "folder" / name, SD1)
    added = run("zoo", "add", f"folder/{name}")
    assert added.code == 0, added.err
    assert re.match(r"local/[A-Za-z0-9]\S* is added", added.out)


def test_files_of_all_scripts_have_ids_of_their_own(run, tmp_path):
    for name in ("水墨", "油絵"):
        weights(tmp_path / f"{name}.safetensors", SD1)
        assert run("zoo", "add", f"{name}.safetensors").out.startswith(f"local/model-{name} is added")


def test_what_cannot_be_added_is_refused_with_the_fix(fails, tmp_path):
    weights(tmp_path / "ink.safetensors", LORA)
    weights(tmp_path / "model.safetensors", SD1)
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04.")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    (tmp_path / "empty").mkdir()
    assert "--base" in fails("zoo", "add", "ink.safetensors")
    assert "Did you mean 'mini/general'" in fails("zoo", "add", "ink.safetensors", "--base", "mini/genral")
    assert "Convert it" in fails("zoo", "add", "model.ckpt")
    assert "There is nothing at" in fails("zoo", "add", "none.safetensors")
    assert "hub id" in fails("zoo", "add", "nonsense")
    assert "hub id" in fails("zoo", "add", "civitai:x")
    assert "model_index.json" in fails("zoo", "add", "empty")
    assert "damaged" in fails("zoo", "add", "cut.safetensors")
    assert "'id'" in fails("zoo", "add", "model.safetensors", "--id", "../../evil")


def test_a_name_that_is_taken_is_refused_unless_it_is_given(run, fails, tmp_path):
    weights(tmp_path / "model.safetensors", SD1)
    assert run("zoo", "add", "model.safetensors").code == 0
    assert "--id" in fails("zoo", "add", "model.safetensors")
    assert run("zoo", "add", "model.safetensors", "--id", "my/other").code == 0
    assert run("zoo", "add", "model.safetensors", "--id", "local/model", "--title", "Again").code == 0
    assert load_card(home() / "cards" / "local--model.toml").title == "Again"


def test_a_card_does_not_take_the_file_of_another(run, fails, tmp_path):
    weights(tmp_path / "model.safetensors", SD1)
    assert run("zoo", "add", "model.safetensors", "--id", "my/a--b").code == 0
    assert "my--a--b.toml" in fails("zoo", "add", "model.safetensors", "--id", "my/a/b")


def test_a_home_that_cannot_be_written_is_a_mistake_of_the_users(fails, tmp_path, monkeypatch):
    weights(tmp_path / "model.safetensors", SD1)
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("VERNISSAGE_HOME", str(tmp_path / "taken"))
    assert "VERNISSAGE_HOME" in fails("zoo", "add", "model.safetensors")


# ---------------------------------------------------------------------------------------------------------- Civitai


class Civitai(ThreadingHTTPServer):
    """Speaks Civitai's v1 API for a few versions and their files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/api/v1"
        self.versions: dict[int, dict[str, Any]] = {}
        self.files: dict[int, bytes] = {}
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.cut = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no mistake of the server's."""

    def offer(self, number: int, path: Path, *, kind: str = "LORA", file: str = "ink.safetensors", **fields: Any) -> None:
        self.files[number] = data = path.read_bytes()
        answer: dict[str, Any] = {
            "name": file,
            "sizeKB": len(data) / 1024,
            "type": "Model",
            "primary": True,
            "hashes": {"SHA256": hashlib.sha256(data).hexdigest().upper()},
            "downloadUrl": f"http://127.0.0.1:{self.server_port}/files/{number}",
        }
        model = {"name": f"Ink {number}", "type": kind}
        self.versions[number] = {"id": number, "name": "v1", "model": model, "trainedWords": ["ink"], "files": [answer | fields]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Civitai

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization"), self.headers.get("Range")))
        number = int(self.path.rsplit("/", 1)[1])
        if self.path.startswith("/api/v1/model-versions/"):
            found = self.server.versions.get(number)
            self.send(200 if found else 404, json.dumps(found or {"error": "No version"}).encode())
        elif self.server.cut:
            self.send(200, self.server.files[number], keep=self.server.cut)
        elif wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            data = self.server.files[number]
            self.send(206, data[int(wanted[1]) :], Content_Range=f"bytes {wanted[1]}-{len(data) - 1}/{len(data)}")
        else:
            self.send(200, self.server.files[number])

    def send(self, status: int, data: bytes, *, keep: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data[:keep])
        self.close_connection = keep is not None


@pytest.fixture
def civitai(monkeypatch):
    monkeypatch.setenv("CIVITAI_TOKEN", TOKEN)
    server = Civitai()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_adapter_of_civitai_is_downloaded_and_added(run, civitai, tmp_path):
    civitai.offer(7, weights(tmp_path / "source.safetensors", LORA))
    found = run("zoo", "add", "civitai:7", "--base", "mini/general", "--civitai-address", civitai.address)
    assert found.code == 0, found.err
    card = load_card(home() / "cards" / "civitai--7.toml")
    assert (card.id, card.title, card.keywords, card.source.base) == ("civitai/7", "Ink 7 v1", ("ink",), "mini/general")
    assert Path(card.source.loras[0].path).read_bytes() == civitai.files[7]
    assert {key for _, key, _ in civitai.asked} == {f"Bearer {TOKEN}"}
    everything = found.out + found.err + "".join(path.read_text(encoding="utf-8") for path in home().rglob("*.toml"))
    assert TOKEN not in everything + " ".join(map(str, home().rglob("*")))


def test_a_checkpoint_of_civitai_keeps_its_hash(run, civitai, tmp_path):
    civitai.offer(8, weights(tmp_path / "source.safetensors", SD1), kind="Checkpoint", file="model.safetensors")
    assert run("zoo", "add", "civitai:8", "--civitai-address", civitai.address).code == 0
    card = load_card(home() / "cards" / "civitai--8.toml")
    assert card.source.sha256 == hashlib.sha256(civitai.files[8]).hexdigest()
    assert card.source.pipeline == "StableDiffusionPipeline"


def test_two_versions_whose_files_have_one_name_do_not_disturb_each_other(run, civitai, tmp_path):
    for number in (7, 8):
        civitai.offer(number, weights(tmp_path / f"{number}.safetensors", [*LORA, f"lora_{number}"]))
        assert run("zoo", "add", f"civitai:{number}", "--base", "mini/general", "--civitai-address", civitai.address).code == 0
    for number in (7, 8):
        card = load_card(home() / "cards" / f"civitai--{number}.toml")
        assert Path(card.source.loras[0].path).read_bytes() == civitai.files[number]


def test_an_adapter_without_its_base_is_refused_before_it_is_downloaded(fails, civitai, tmp_path):
    civitai.offer(7, weights(tmp_path / "source.safetensors", LORA))
    assert "--base" in fails("zoo", "add", "civitai:7", "--civitai-address", civitai.address)
    assert [path for path, _, _ in civitai.asked] == ["/api/v1/model-versions/7"]


@pytest.mark.parametrize("kind", ["TextualInversion", "VAE", "Controlnet", "Workflows", "Upscaler"])
def test_what_is_no_model_is_refused_before_it_is_downloaded(fails, civitai, tmp_path, kind):
    civitai.offer(7, weights(tmp_path / "source.safetensors", SD1), kind=kind)
    assert kind in fails("zoo", "add", "civitai:7", "--civitai-address", civitai.address)
    assert len(civitai.asked) == 1


def test_a_version_that_is_not_there_or_unsafe_is_refused(fails, civitai, tmp_path):
    assert "version" in fails("zoo", "add", "civitai:99", "--civitai-address", civitai.address)
    civitai.offer(7, weights(tmp_path / "source.safetensors", SD1), kind="Checkpoint", pickleScanResult="Danger")
    assert "scans" in fails("zoo", "add", "civitai:7", "--civitai-address", civitai.address)
    civitai.offer(8, tmp_path / "source.safetensors", kind="Checkpoint", file="model.ckpt")
    assert "pickles" in fails("zoo", "add", "civitai:8", "--civitai-address", civitai.address)


def test_a_download_that_was_cut_off_goes_on_when_the_command_is_given_again(run, civitai, tmp_path):
    civitai.offer(7, weights(tmp_path / "source.safetensors", LORA * 3))
    command = ("zoo", "add", "civitai:7", "--base", "mini/general", "--civitai-address", civitai.address)
    civitai.cut = 30
    broken = run(*command)
    assert (broken.code, broken.out) == (1, "")
    assert "goes on where it stopped" in broken.err
    assert "Traceback" not in broken.err
    civitai.cut = 0
    assert run(*command).code == 0
    assert civitai.asked[-1][2] == "bytes=30-"


def test_a_damaged_download_is_a_failure_that_leaves_no_card(run, civitai, tmp_path):
    civitai.offer(7, weights(tmp_path / "source.safetensors", SD1), kind="Checkpoint", hashes={"SHA256": "0" * 64})
    found = run("zoo", "add", "civitai:7", "--civitai-address", civitai.address)
    assert found.code == 1
    assert "SHA-256" in found.err
    assert not list(home().rglob("*.toml"))


def test_a_name_of_a_file_cannot_disturb_the_progress_bar(run, civitai, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # shows the bar, as on a terminal
    civitai.offer(7, weights(tmp_path / "source.safetensors", SD1), kind="Checkpoint", file="[/b][red]x.safetensors")
    found = run("zoo", "add", "civitai:7", "--civitai-address", civitai.address)
    assert found.code == 0, found.err
    assert "[/b][red]x.safetensors" in found.err


def test_a_civitai_that_is_not_there_is_a_failure_without_a_traceback(fails):
    assert "network" in fails("zoo", "add", "civitai:7", "--civitai-address", "http://127.0.0.1:9/api/v1", code=1)


def test_pictures_that_were_painted_are_kept_where_another_fails(run, fakes, monkeypatch, tmp_path):
    fakes()
    paint = FakeT2I.paint

    def failing(self, plans, **options):
        return [Refused("unsafe") if plan.arguments.seed == 6 else paint(self, [plan])[0] for plan in plans]

    monkeypatch.setattr(FakeT2I, "paint", failing)
    found = run("paint", "a cat", "-n", "3", "--seed", "5", "--out", "cats")
    assert (found.code, found.err.count("unsafe")) == (1, 1)
    assert sorted(path.name for path in (tmp_path / "cats").iterdir()) == [
        "one-red-cat-neon-5.png",
        "one-red-cat-neon-7.png",
        "one-red-cat-neon-sheet.png",
    ]


def test_seeds_beyond_the_last_are_refused(run, fakes):
    fakes()
    found = run("paint", "a cat", "-n", "2", "--seed", str(2**64 - 1))
    assert (found.code, "no 2 seeds" in found.err) == (2, True)


def test_no_earlier_picture_is_painted_over(run, fakes, tmp_path):
    fakes()
    names = [run("paint", "a cat", "--seed", "7", "--steps", steps).out.strip() for steps in ("8", "9", "8")]
    assert names == ["one-red-cat-neon-7.png", "one-red-cat-neon-7-2.png", "one-red-cat-neon-7.png"]
    assert [Picture.open(name).plan.arguments.steps for name in names[:2]] == [8, 9]
    assert slug("赤い船") == "赤い船"


def test_a_place_below_a_file_is_refused_before_anything_is_painted(run, fakes, monkeypatch, tmp_path):
    fakes()
    monkeypatch.setattr(FakeT2I, "paint", None)  # painting would be a traceback
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    found = run("paint", "a cat", "--out", "notes.txt/sub/x.png")
    assert (found.code, "notes.txt is a file" in found.err) == (2, True)


def test_pictures_of_a_history_lie_beside_it(tmp_path):
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "h.json"
    path.write_text(json.dumps([{"role": "user", "text": "like this", "images": ["x.png"]}]), encoding="utf-8")
    assert read_history(path)[0].images == (tmp_path / "sub" / "x.png",)


def test_a_card_that_would_build_on_itself_is_not_added(run, tmp_path):
    weights(tmp_path / "ink.safetensors", ["unet.x.lora_A.weight", "unet.x.lora_B.weight"])
    found = run("zoo", "add", "ink.safetensors", "--base", "stable-diffusion/1.5", "--id", "stable-diffusion/1.5")
    assert (found.code, "circle" in found.err) == (2, True)
    assert run("zoo", "list").code == 0


# ------------------------------------------------------------------------------------------------------------ terminals


@pytest.mark.parametrize(
    ("columns", "terminal", "brief", "below"),
    [(40, True, True, False), (60, True, False, True), (200, True, False, False), (60, False, False, False)],
)
def test_in_a_narrow_terminal_intervals_stand_below_and_in_a_very_narrow_one_nowhere(capsys, monkeypatch, columns, terminal, brief, below):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    cells = [Estimate(0.5, 0.25, 0.75, 8), Cell(Estimate(0.125, 0.1, 0.2, 3), 4), None]
    rows = [[model, *cells] for model in ("mini/general", "mini/neon", "mini/pixel")]
    show_table(["model", "clip", "dinov2", "ssim"], rows, title="last: mean [95 %]", kept="x.csv")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "mini/general" in shown
    assert ("50.0 [25.0, 75.0]" in shown, "[25.0, 75.0]" in shown, "3/4" in shown) == (not brief and not below, not brief, not brief)
    assert ("x.csv" in shown, "50.0" in shown, "12.5" in shown) == (brief, True, True)
    assert max(map(len, shown.splitlines())) <= max(columns, 0 if brief else 200)


@pytest.mark.parametrize(("columns", "close"), [(80, False), (50, True)])
def test_a_wide_table_of_few_models_is_shown_on_its_side_with_all_its_intervals(capsys, monkeypatch, columns, close):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    scores = [Cell(Estimate(place / 10, 0.25, 0.75, 8), 9) for place in range(7)]
    show_table(["model", *"abcdefg"], [["mini/general", *scores], ["mini/neon", *scores]], kept="x.csv")
    plain = re.sub(r"\x1b\[[0-9;]*m|[│┃]", "", capsys.readouterr().out)
    shown = [line.split() for line in plain.splitlines()]
    assert ["model", "mini/general", "mini/neon"] in shown
    assert (["g", "60.0", "60.0"] in shown) == close
    assert (["g", "60.0", "[25.0,", "75.0]", "8/9", "60.0", "[25.0,", "75.0]", "8/9"] in shown) == (not close)
    assert sum(line.count("75.0]") for line in shown) == 14


@pytest.mark.parametrize(
    ("columns", "terminal", "lines"),
    [
        (40, True, ["cat     one two three four five six", "        seven eight", "bigcat  nine"]),
        (40, False, ["cat     one two three four five six seven eight", "bigcat  nine"]),
        (12, True, ["cat     one two three four five six seven eight", "bigcat  nine"]),
    ],
)
def test_a_list_is_broken_between_words_in_a_terminal_that_has_room_and_nowhere_else(capsys, monkeypatch, columns, terminal, lines):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    show_list([("cat", "one two three four five six seven eight"), ("bigcat", "nine")])
    assert capsys.readouterr().out.splitlines() == lines


def test_a_bar_is_gone_while_something_is_printed(monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", property(lambda _console: True))
    monkeypatch.setenv("TERM", "xterm")
    done = []
    monkeypatch.setattr("rich.progress.Progress.stop", lambda bar: done.append("stop"))
    monkeypatch.setattr("rich.progress.Progress.start", lambda bar: done.append("start"))
    with progress_bar("x"), beside_the_bar():
        done.append("print")
    assert done == ["start", "stop", "print", "start", "stop"]
    with beside_the_bar():
        done.clear()
    assert done == []
