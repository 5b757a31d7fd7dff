"""The `parameters` text of A1111, Forge and Civitai, and ComfyUI's graphs: read as they occur, written so that they are read."""

import json
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vernissage.drivers.samplers import SAMPLERS
from vernissage.records.parameters import extract_loras, read_comfyui, read_parameters, split_sampler, write_parameters
from vernissage.records.plan import Arguments, Lora, Plan

quick = settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

# ------------------------------------------------------------------------------------------------------ round trips

WORDS = [
    "a cat",
    "(red:1.3)",
    "[[old]]",
    "été",
    "墨",
    '"quoted"',
    "50% off",
    "colon: here",
    "\\(escaped\\)",
    "BREAK",
    "e-mail",
    "AND",
    "😀",
]
SCHEDULES = ["", " Karras", " Exponential", " Beta", " SGM Uniform", " Simple"]
lines = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(", ".join)
names = (
    st.text(st.characters(whitelist_categories=["L", "N"], whitelist_characters="_-. "), min_size=1, max_size=20)
    .map(str.strip)
    .filter(bool)
)
model_names = st.sampled_from(["mini/neon", "m", "v1, final", 'the "best"', "a: b", "日本", "x\\y", "C:\\models\\x"]) | names.filter(
    str.strip
)
plans = st.builds(
    Plan,
    prompt=st.lists(lines, min_size=1, max_size=3).map("\n".join),
    negative_prompt=st.just("") | st.lists(lines, min_size=1, max_size=2).map("\n".join),
    model=model_names,
    arguments=st.builds(
        Arguments,
        sampler=st.none() | st.builds("{}{}".format, st.sampled_from(sorted(SAMPLERS)), st.sampled_from(SCHEDULES)),
        steps=st.none() | st.integers(1, 150),
        cfg_scale=st.none() | st.integers(10, 300).map(lambda tenth: tenth / 10),
        seed=st.none() | st.integers(0, 2**64 - 1),
        clip_skip=st.none() | st.integers(1, 12),
        loras=st.lists(st.builds(Lora, name=names, weight=st.integers(-200, 200).map(lambda part: part / 100)), max_size=2).map(tuple),
    ),
)
sizes = st.none() | st.tuples(st.integers(8, 4096), st.integers(8, 4096))


@quick
@given(plan=plans, size=sizes)
def test_a_plan_that_is_written_is_read_again_as_it_was(plan, size):
    if size:
        plan = plan.model_copy(update={"arguments": plan.arguments.model_copy(update={"width": size[0], "height": size[1]})})
    text = write_parameters(plan, extra={"Version": "vernissage", "Note": 'a "b", c: d'})
    found = read_parameters(text)
    assert found.plan == plan
    assert found.extra == {"Version": "vernissage", "Note": 'a "b", c: d'}
    assert write_parameters(found.plan, extra=found.extra) == text


@pytest.mark.parametrize("arguments", [{}, {"seed": 5}, {"sampler": "Euler"}, {"width": 64, "height": 64}, {"steps": 1}])
def test_a_plan_with_hardly_any_arguments_is_read_again_as_it_was(arguments):
    plan = Plan(prompt="a cat", negative_prompt="blurry", model="mini/neon", arguments=Arguments(**arguments))
    assert read_parameters(write_parameters(plan)).plan == plan


def test_what_a1111_wrote_is_written_again_in_its_newer_form():
    text = (
        "a cat\nNegative prompt: blurry\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 123, Size: 512x768, Model: name, Clip skip: 2, "
        'Model hash: 6ce0161689, Lora hashes: "a: 1f2e, b: 3c4d", Version: v1.10.1'
    )
    found = read_parameters(text)
    assert write_parameters(found.plan, extra=found.extra) == text


# -------------------------------------------------------------------------------------------------- as they occur

A1111 = """masterpiece, (best quality:1.2), 1girl, <lora:ink_v2:0.8>, hair: red,
standing in a [garden|park], BREAK
soft light
Negative prompt: lowres, (bad: 1.4),
text, watermark
Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 5731905642, Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, \
VAE hash: 735e4c3a44, VAE: vae-ft-mse-840000-ema-pruned.safetensors, Denoising strength: 0.45, Clip skip: 2, ENSD: 31337, RNG: CPU, \
Hires upscale: 2, Hires steps: 15, Hires upscaler: 4x-UltraSharp, Lora hashes: "ink_v2: 1f2e3d4c5b6a, other: aabbccddeeff", \
TI hashes: "easynegative: c74b4e810b03", Version: v1.10.1"""


def test_a_full_text_of_a1111_is_read():
    found = read_parameters(A1111)
    plan = found.plan
    assert plan.prompt == "masterpiece, (best quality:1.2), 1girl, hair: red,\nstanding in a [garden|park], BREAK\nsoft light"
    assert plan.negative_prompt == "lowres, (bad: 1.4),\ntext, watermark"
    assert plan.model == "v1-5-pruned-emaonly"
    assert plan.arguments == Arguments(
        sampler="DPM++ 2M Karras",
        steps=28,
        cfg_scale=7.5,
        seed=5731905642,
        width=512,
        height=768,
        clip_skip=2,
        loras=(Lora(name="ink_v2", weight=0.8),),
    )
    assert found.extra == {
        "Model hash": "6ce0161689",
        "VAE hash": "735e4c3a44",
        "VAE": "vae-ft-mse-840000-ema-pruned.safetensors",
        "Denoising strength": "0.45",
        "ENSD": "31337",
        "RNG": "CPU",
        "Hires upscale": "2",
        "Hires steps": "15",
        "Hires upscaler": "4x-UltraSharp",
        "Lora hashes": "ink_v2: 1f2e3d4c5b6a, other: aabbccddeeff",
        "TI hashes": "easynegative: c74b4e810b03",
        "Version": "v1.10.1",
    }


@pytest.mark.parametrize(
    ("pairs", "sampler"),
    [
        ("Sampler: DPM++ 2M Karras", "DPM++ 2M Karras"),
        ("Sampler: DPM++ 2M, Schedule type: Karras", "DPM++ 2M Karras"),
        ("Sampler: DPM++ 2M Karras, Schedule type: Karras", "DPM++ 2M Karras"),
        ("Sampler: Euler a, Schedule type: Automatic", "Euler a"),
        ("Sampler: Euler, Schedule type: SGM Uniform", "Euler SGM Uniform"),
        ("Sampler: Euler, Schedule type: Normal", "Euler"),
        ("Sampler: ", None),
        ("Seed: 1", None),
    ],
)
def test_sampler_and_schedule_become_one_name(pairs, sampler):
    found = read_parameters(f"a cat\nSteps: 9, {pairs}")
    assert found.plan.arguments.sampler == sampler
    assert "Schedule type" not in found.extra


def test_a_schedule_that_nobody_knows_is_kept_apart():
    found = read_parameters("a cat\nSteps: 9, Sampler: Euler, Schedule type: Align Your Steps")
    assert (found.plan.arguments.sampler, found.extra) == ("Euler", {"Schedule type": "Align Your Steps"})


def test_civitais_lists_of_resources_are_kept_whole():
    resources = (
        '[{"type":"checkpoint","modelVersionId":128713,"modelName":"Dream, Shaper: 8"},{"type":"lora","weight":0.7,"tags":["a","b"]}]'
    )
    metadata = '{"remixOfId":11111100000}'
    text = (
        "a cat\nNegative prompt: blurry\nSteps: 8, Sampler: Euler, CFG scale: 1, Seed: 12346789098, Size: 832x1216, Clip skip: 2, "
        f"Created Date: 2024-12-22T01:01:01.0222111Z, Civitai resources: {resources}, Civitai metadata: {metadata}, Model: last"
    )
    found = read_parameters(text)
    assert found.extra == {
        "Created Date": "2024-12-22T01:01:01.0222111Z",
        "Civitai resources": resources,
        "Civitai metadata": metadata,
    }
    assert found.plan.model == "last"
    assert found.plan.arguments.seed == 12346789098
    assert read_parameters(write_parameters(found.plan, extra=found.extra)) == found


def test_a_list_that_is_broken_does_not_hide_the_pairs_after_it():
    found = read_parameters('a cat\nSteps: 8, Civitai resources: [{"a":1, Seed: 5, Hashes: {"b":2}}}, Model: m')
    assert (found.plan.arguments.seed, found.plan.model) == (5, "m")


def test_prompts_may_span_lines_and_hold_empty_ones():
    found = read_parameters("a cat\n\non a mat\r\nNegative prompt: blurry\n\nSteps: 9, Seed: 1\n\n")
    assert (found.plan.prompt, found.plan.negative_prompt) == ("a cat\n\non a mat", "blurry")
    assert (found.plan.arguments.steps, found.plan.arguments.seed) == (9, 1)


def test_either_prompt_may_be_missing():
    assert read_parameters("a cat\nSteps: 9, Seed: 1").plan.negative_prompt == ""
    only = read_parameters("Negative prompt: blurry\nSteps: 9, Seed: 1").plan
    assert (only.prompt, only.negative_prompt) == ("", "blurry")
    none = read_parameters("Steps: 9, Sampler: Euler, Seed: 1").plan
    assert (none.prompt, none.negative_prompt, none.arguments.steps) == ("", "", 9)


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat on a mat",
        "a (cat:1.2), (dog:1.3), (bird:1.4), sky",
        "portrait, hair: red, eyes: blue, dress: green",
        "hair: red, eyes: blue, dress: green",
        "how to build stairs, Steps: of stone",
        "style: ink",
        "a cat\nmood: calm, weather: rain, time: night",
        "12:30, 13:30, 14:30",
    ],
)
def test_a_prompt_without_a_last_line_stays_a_prompt(prompt):
    found = read_parameters(prompt)
    assert found.plan == Plan(prompt=prompt, model="unknown")
    assert found.extra == {}


def test_numbers_that_are_none_are_kept_as_they_are():
    junk = {"Steps": "many", "CFG scale": "nan", "Seed": "1.5", "Size": "big", "Clip skip": "two"}
    found = read_parameters("a cat\n" + ", ".join(f"{key}: {value}" for key, value in junk.items()))
    assert found.plan == Plan(prompt="a cat", model="unknown")
    assert found.extra == junk


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_a_number_of_very_many_digits_is_kept_as_it_is(digits):
    found = read_parameters(f"a cat\nSteps: 9, Seed: {'9' * digits}, CFG scale: {'9' * digits}, Clip skip: -{'9' * digits}")
    assert found.plan.arguments.seed is None
    assert found.plan.arguments.clip_skip is None
    assert found.extra["Seed"] == "9" * digits


@pytest.mark.parametrize("seed", [0, 2**32, 2**53 + 1, 2**64 - 1])
def test_large_seeds_are_exact(seed):
    assert read_parameters(f"a cat\nSteps: 9, Seed: {seed}").plan.arguments.seed == seed


def test_halves_of_characters_do_no_harm():
    found = read_parameters('a \ud800 cat\nSteps: 9, Model: "\\ud800m", Note: \udfff')
    assert found.plan.prompt.startswith("a ")
    assert found.model_dump_json()


@pytest.mark.parametrize(
    ("tag", "weight"),
    [
        ("<lora:ink>", 1),
        ("<lora:ink:0.8>", 0.8),
        ("<lora:ink:.5>", 0.5),
        ("<lora:ink:-1>", -1),
        ("<lora:ink:+0.5>", 0.5),
        ("<lora:ink:1e-05>", 1e-5),
        ("<lora:ink:1.>", 1),
        ("<lora: ink : 0.7 >", 0.7),
        ("<lora:ink:0.8:0.5>", 0.8),
        ("<lora:ink:0.8:lbw=OUTALL>", 0.8),
        ("<lora:ink:strong>", 1),
    ],
)
def test_adapters_are_taken_out_of_the_prompt(tag, weight):
    assert extract_loras(f"a cat {tag}, at night") == ("a cat, at night", (Lora(name="ink", weight=weight),))


def test_a_prompt_without_adapters_is_not_touched():
    for prompt in ("a  cat , <b>", "<lora:>", "<lora:ink", "<lora:\n>", "  "):
        assert extract_loras(prompt) == (prompt, ())


def test_a_schedule_is_split_from_a_sampler_once():
    assert split_sampler("Euler SGM Uniform") == ("Euler", "SGM Uniform")
    assert split_sampler("karras") == ("karras", None)
    assert split_sampler("DPM++ 2M SDE karras") == ("DPM++ 2M SDE", "Karras")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 99_000,
        " " * 99_000 + "x",
        "x\nSteps: 9, " + "a " * 49_000,
        "x\nSteps: 9, A: " + '"' * 99_000,
        "x\nSteps: 9, A: " + "[" * 99_000,
        "x\n" + 'Steps: 9, A: "\\' * 7_000,
        "x\n" + "Steps: 9, A: [1, " * 5_800,
        "x\n" + "Steps: 9, A: [1, " * 100_000,
        "<lora:" + "a" * 500_000,
        "<lora:a" * 100_000,
        "<lora:a:" * 100_000,
        "<lora:a:1>" * 10_000,
        "<lora: >" * 50_000,
        "\nNegative prompt: " * 50_000,
    ],
    ids=["letters", "spaces", "words", "quotes", "brackets", "open quotes", "open lists", "very many open lists"]
    + ["open tag", "open tags", "open tags with weight", "tags", "empty tags", "lines"],
)
def test_a_text_that_is_made_to_be_slow_is_read_in_no_time(text):
    started = time.process_time()
    assert read_parameters(text).plan.model == "unknown"
    assert time.process_time() - started < 3


# -------------------------------------------------------------------------------------------------------- anything

pieces = st.sampled_from(
    [
        "Steps: ",
        "9",
        ", ",
        "Sampler: ",
        "Euler",
        " Karras",
        "Schedule type: ",
        "Seed: ",
        "Size: ",
        "64x64",
        "\n",
        "Negative prompt: ",
        '"',
        "\\",
    ]
    + ["<lora:", ":", ">", "1e999", "-", "nan", "[", "]", "{", "}", "\r\n", "Model: ", "a cat", "\ud800", "\x00", "²", "٣", "9" * 400]
)


@quick
@given(text=st.text(st.characters(exclude_categories=[])) | st.lists(pieces, max_size=30).map("".join))
@example(text="Steps: 1\nNegative prompt:\nSteps: ²")
def test_whatever_the_text_reading_never_fails_and_what_was_read_can_be_written(text):
    found = read_parameters(text)
    assert found.model_dump_json()
    again = read_parameters(write_parameters(found.plan, extra=found.extra))
    assert again.plan.arguments.seed == found.plan.arguments.seed


# --------------------------------------------------------------------------------------------------------- ComfyUI


def graph(**changes) -> dict:
    """A graph as ComfyUI writes it: checkpoint, two adapters, two texts, one sampler."""
    nodes = {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 156680208700286,
                "steps": 20,
                "cfg": 8.0,
                "sampler_name": "dpmpp_2m",
                "scheduler": "karras",
                "denoise": 1.0,
                "model": ["11", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["11", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["11", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "ink.safetensors", "strength_model": 0.8, "model": ["4", 0]}},
        "11": {"class_type": "LoraLoader", "inputs": {"lora_name": "grain.safetensors", "strength_model": 0.5, "model": ["10", 0]}},
    }
    return nodes | changes


def read(nodes: object):
    return read_comfyui(json.dumps(nodes))


def test_a_graph_is_read_with_its_chain_of_adapters():
    found = read(graph())
    assert (found.plan.prompt, found.plan.negative_prompt, found.plan.model) == ("a cat", "blurry", "v1-5.safetensors")
    assert found.plan.arguments == Arguments(
        sampler="DPM++ 2M Karras",
        steps=20,
        cfg_scale=8,
        seed=156680208700286,
        width=512,
        height=768,
        loras=(Lora(name="grain", weight=0.5), Lora(name="ink", weight=0.8)),
    )


def test_a_text_may_come_through_other_nodes():
    found = read(
        graph(
            **{
                "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["20", 0], "clip": ["4", 1]}},
                "20": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a dog"}},
                "7": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["21", 0]}},
                "21": {"class_type": "CLIPTextEncodeSDXL", "inputs": {"text_g": "ugly", "text_l": "bad"}},
            }
        )
    )
    assert (found.plan.prompt, found.plan.negative_prompt) == ("a dog", "ugly")


def test_an_advanced_sampler_a_unet_loader_and_unknown_names_are_read():
    sampler = graph()["3"]["inputs"] | {"noise_seed": 7, "sampler_name": "res_2s", "scheduler": "bong_tangent", "model": ["4", 0]}
    del sampler["seed"]
    loader = {"class_type": "UNETLoader", "inputs": {"ckpt_name": "", "unet_name": "flux.safetensors"}}
    found = read(graph(**{"3": {"class_type": "KSamplerAdvanced", "inputs": sampler}, "4": loader}))
    assert found.plan.model == "flux.safetensors"
    assert (found.plan.arguments.seed, found.plan.arguments.sampler, found.plan.arguments.loras) == (7, "res_2s", ())


def test_a_node_that_only_chooses_a_sampler_is_not_taken_for_one():
    nodes = {"1": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}}
    assert read(nodes) is None
    assert read(nodes | graph()).plan.prompt == "a cat"


@pytest.mark.parametrize("name", ["sub\\ink.safetensors", "sub/ink.SAFETENSORS", "ink.pt", "ink"])
def test_an_adapter_is_called_as_tags_call_it(name):
    node = {"class_type": "LoraLoader", "inputs": {"lora_name": name, "strength_model": 0.8, "model": ["4", 0]}}
    assert read(graph(**{"11": node})).plan.arguments.loras == (Lora(name="ink", weight=0.8),)


def test_texts_are_found_behind_control_and_combinations():
    control = {"class_type": "ControlNetApplyAdvanced", "inputs": {"positive": ["6", 0], "negative": ["31", 0], "strength": 1.0}}
    both = {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["7", 0], "conditioning_2": ["6", 0]}}
    sampler = {"class_type": "KSampler", "inputs": graph()["3"]["inputs"] | {"positive": ["30", 0], "negative": ["30", 1]}}
    found = read(graph(**{"3": sampler, "30": control, "31": both}))
    assert (found.plan.prompt, found.plan.negative_prompt) == ("a cat", "blurry")


def test_a_sampler_in_parts_is_read():
    """The graph that ComfyUI shows for FLUX."""
    parts = {
        "13": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {"noise": ["25", 0], "guider": ["22", 0], "sampler": ["16", 0], "sigmas": ["17", 0], "latent_image": ["5", 0]},
        },
        "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": 9}},
        "22": {"class_type": "BasicGuider", "inputs": {"model": ["12", 0], "conditioning": ["26", 0]}},
        "26": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
        "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "17": {"class_type": "BasicScheduler", "inputs": {"scheduler": "simple", "steps": 20, "denoise": 1.0, "model": ["12", 0]}},
        "12": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}},
    }
    nodes = graph() | parts
    del nodes["3"]
    found = read(nodes).plan
    assert (found.prompt, found.negative_prompt, found.model) == ("a cat", "", "flux1-dev.safetensors")
    assert found.arguments == Arguments(sampler="Euler", steps=20, seed=9, width=512, height=768)


def test_what_begins_with_an_empty_picture_comes_before_what_refines_one():
    second = {"class_type": "KSampler", "inputs": graph()["3"]["inputs"] | {"steps": 9, "latent_image": ["2", 0]}}
    nodes = {"1": second, "2": {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0], "width": 1024, "height": 1536}}}
    found = read(nodes | graph()).plan.arguments
    assert (found.steps, found.width, found.height) == (20, 512, 768)


@pytest.mark.parametrize(
    ("sampler", "told"), [("DPM++ 2M", "Uniform"), ("DPM2 a", "Uniform"), ("DPM++ 2M Karras", "Karras"), ("Euler", "")]
)
def test_a_schedule_is_told_where_a1111_would_choose_one_itself(sampler, told):
    text = write_parameters(Plan(prompt="a cat", model="m", arguments=Arguments(sampler=sampler, steps=9)))
    assert (f"Schedule type: {told}" in text) is bool(told)
    assert ("Schedule type" in text) is bool(told)
    assert read_parameters(text).plan.arguments.sampler == sampler


def test_a_chain_that_runs_in_a_circle_ends():
    first, second = graph()["10"], graph()["11"]
    found = read(graph(**{"10": {**first, "inputs": first["inputs"] | {"model": ["11", 0]}}, "11": second}))
    assert found.plan.model == "unknown"
    assert len(found.plan.arguments.loras) == 2
    loop = {"class_type": "CLIPTextEncode", "inputs": {"text": ["6", 0]}}
    assert read(graph(**{"6": loop})).plan.prompt == ""


@pytest.mark.parametrize(
    "value", [None, True, "x", "20", [], ["4", 0], ["99", 0], [None], [[]], {}, -1, 1e400, 10**400, float("nan"), "\ud800"]
)
@pytest.mark.parametrize("key", ["seed", "steps", "cfg", "sampler_name", "scheduler", "model", "positive", "latent_image"])
def test_a_sampler_with_a_value_of_another_kind_is_read_as_far_as_possible(key, value):
    node = {"class_type": "KSampler", "inputs": graph()["3"]["inputs"] | {key: value}}
    found = read(graph(**{"3": node}))
    assert found.plan.negative_prompt == "blurry"
    assert found.model_dump_json()


@pytest.mark.parametrize("value", [None, "x", [], ["3", 0], {}, True, float("nan"), 10**400])
def test_an_adapter_whose_strength_is_no_number_counts_fully(value):
    node = {"class_type": "LoraLoader", "inputs": {"lora_name": "ink", "strength_model": value, "model": ["4", 0]}}
    found = read(graph(**{"11": node}))
    assert found.plan.arguments.loras == (Lora(name="ink", weight=1.0),)
    assert found.plan.model == "v1-5.safetensors"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "5", '"KSampler"', "{}", '{"1": 5}', '{"1": {"class_type": null}}', "[" * 100_000, "a cat"]
)
def test_what_is_no_graph_with_a_sampler_is_none(text):
    assert read_comfyui(text) is None


links = st.tuples(st.sampled_from(["1", "2", "3", 4, None]), st.integers(0, 2)).map(list)
anything = (
    links
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("a\ud800", max_size=2)
    | st.just([])
    | st.just({})
    | st.just([[]])
)
keys = st.sampled_from(
    ["text", "text_g", "value", "string", "conditioning", "model", "positive", "negative", "latent_image", "lora_name", "strength_model"]
    + ["ckpt_name", "unet_name", "seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "width", "height"]
)
nodes = st.fixed_dictionaries(
    {"class_type": st.sampled_from(["KSampler", "KSamplerAdvanced", "LoraLoader", "CLIPTextEncode", 5, None])},
    optional={"inputs": st.dictionaries(keys, anything, max_size=8) | anything},
)


@quick
@given(nodes=st.dictionaries(st.sampled_from("1234"), nodes | anything, max_size=4))
def test_whatever_the_graph_reading_never_fails(nodes):
    found = read(nodes)
    assert found is None or found.model_dump_json()


def test_two_colons_in_a_prompt_are_no_settings():
    assert read_parameters("a cat\nSize: big, mood: calm").plan.prompt == "a cat\nSize: big, mood: calm"
