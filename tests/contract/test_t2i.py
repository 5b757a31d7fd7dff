"""What every T2I driver promises, and what the diffusers one promises besides, on tiny checkpoints of the true architectures."""

import hashlib
import inspect
import os
import re
import shutil
import signal
import threading

import diffusers
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from vernissage.drivers.fake import FakeT2I
from vernissage.drivers.samplers import NEAREST, SAMPLERS, SCHEDULE_OPTIONS, find_sampler
from vernissage.drivers.t2i_diffusers import DiffusersT2I, _quiet
from vernissage.errors import (
    BadCard,
    BadInput,
    BadPlan,
    DriverError,
    IntegrityError,
    MissingExtra,
    OutOfMemory,
    Refused,
    UnknownName,
    UserError,
    VernissageError,
)
from vernissage.records.picture import Picture
from vernissage.records.plan import Arguments, Lora, Plan
from vernissage.zoo.card import Card, LoraFile, Source
from vernissage.zoo.catalogue import Catalogue

TOLERANCE = 2  # of 255: sums in batched kernels are taken in another order
LONG = "a red cat on a blue roof under a green moon, " * 3  # every byte is a token here: more than 77 of them
SIGMAS = {"Karras": "use_karras_sigmas", "Exponential": "use_exponential_sigmas", "Beta": "use_beta_sigmas"}


def card(model: str = "tiny", **source) -> Card:
    return Card(
        id=model,
        title=model,
        description="Noise.",
        licence="MIT",
        source=Source(**{name: str(value) if name in ("path", "config") else value for name, value in source.items()}),
        width=64,
        height=64,
        defaults=Arguments(sampler="Euler", steps=2, cfg_scale=4.0),
    )


def plan(prompt: str = "a red cat", *, model: str = "tiny", negative: str = "", seed: int | None = 1, **arguments) -> Plan:
    return Plan(prompt=prompt, negative_prompt=negative, model=model, arguments=Arguments(seed=seed, **arguments))


def pixels(result: Picture | VernissageError) -> np.ndarray:
    if isinstance(result, VernissageError):
        raise result
    return np.asarray(result.image).astype(int)


def paint(painter, *plans: Plan) -> list[np.ndarray]:
    return [pixels(result) for result in painter.paint(plans)]


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one - other).max())


def by_diffusers(pipeline, **options) -> np.ndarray:
    """What a plain call of the pipeline gives for `plan()`."""
    with _quiet():
        image = pipeline(
            "a red cat",
            num_inference_steps=2,
            guidance_scale=4.0,
            width=64,
            height=64,
            generator=torch.Generator("cpu").manual_seed(1),
            **options,
        ).images[0]
    return np.asarray(image).astype(int)


def errors_of(painter, *plans: Plan) -> list[str]:
    """The texts of the `UserError`s that the plans give."""
    results = painter.paint(plans)
    assert all(isinstance(result, UserError) for result in results), results
    return [str(result) for result in results]


@pytest.fixture(scope="module")
def painters(request):
    """Drivers by name, made when first asked for, each with one model called "tiny"."""
    made = {"fake": FakeT2I(Catalogue([card(path="nowhere")]))}

    def get(name: str):
        if name not in made:
            made[name] = DiffusersT2I(Catalogue([card(path=request.getfixturevalue(f"{name}_folder"))]), device="cpu")
        return made[name]

    return get


@pytest.fixture(params=["fake", "sd15", "sdxl", "sd3"])
def painter(request, painters):
    return painters(request.param)


@pytest.fixture(params=["sd15", "sdxl", "sd3"])
def diffusers_painter(request, painters):
    return painters(request.param)


@pytest.fixture(params=["sd15", "sdxl"])
def clip_painter(request, painters):
    """Those whose prompts may carry weights and be long."""
    return painters(request.param)


@pytest.fixture
def sd15(painters):
    return painters("sd15")


# ------------------------------------------------------------------------------------------------ what all drivers do


def test_pictures_come_in_the_order_of_their_plans(painter):
    plans = [plan(seed=1), plan(seed=2, width=128), plan("a dog", seed=3), plan(seed=4, width=128), plan(seed=5, steps=3)]
    results = painter.paint(plans)
    assert [result.plan.arguments.seed for result in results] == [1, 2, 3, 4, 5]
    assert [result.image.size for result in results] == [(64, 64), (128, 64), (64, 64), (128, 64), (64, 64)]
    for found, alone in zip(results, plans, strict=True):
        assert distance(pixels(found), *paint(painter, alone)) <= TOLERANCE


def test_a_failed_plan_becomes_its_error_and_the_others_are_painted(painter):
    wrong = [plan(model="nobody"), plan(steps=0), plan(width=63)]
    results = painter.paint([wrong[0], plan(seed=7), wrong[1], plan(seed=8), wrong[2]])
    assert [type(result) for result in results] == [UnknownName, Picture, BadPlan, Picture, BadPlan]
    assert [results[index].plan.arguments.seed for index in (1, 3)] == [7, 8]


def test_a_picture_does_not_depend_on_its_batch(painter):
    plans = [plan(f"a cat and {n} dogs", seed=100 + n) for n in range(8)]
    together = paint(painter, *plans)
    for index in (0, 3, 7):
        assert distance(together[index], *paint(painter, plans[index])) <= TOLERANCE
    assert len({image.tobytes() for image in together}) == 8


def test_the_same_plan_gives_the_same_picture_again(painter):
    once, again = paint(painter, plan()), paint(painter, plan())
    assert np.array_equal(once, again)


def test_seed_and_prompt_decide_the_picture(painter):
    base, other_seed, other_prompt = paint(painter, plan(), plan(seed=2), plan("two blue dogs"))
    assert distance(base, other_seed) > TOLERANCE
    assert distance(base, other_prompt) > TOLERANCE


@pytest.mark.parametrize("size", [(64, 96), (128, 64), (80, 80)])
def test_a_picture_has_the_size_that_was_asked_for(painter, size):
    (image,) = paint(painter, plan(width=size[0], height=size[1]))
    assert image.shape == (size[1], size[0], 3)


def test_progress_rises_and_reaches_its_total_even_when_the_last_plan_fails(painter):
    seen = []
    painter.paint([plan(seed=1), plan(seed=2, steps=3), plan(steps=0)], progress=lambda done, total: seen.append((done, total)))
    assert len({total for _, total in seen}) == 1
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    assert all(done <= total for done, total in seen)


def test_no_plans_give_no_pictures(painter):
    assert painter.paint([]) == []


# ------------------------------------------------------------------------------------------- what is refused, and how


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"width": 63}, "multiples of 8 from 64 to 2048. The nearest is 64; its native size is 64x64."),
        ({"steps": 0}, "takes steps from 1 to 150, not 0. Its default is 2."),
        ({"sampler": "Eular"}, "Did you mean 'Euler'?"),
        ({"sampler": "Restart"}, "The nearest is 'Euler'."),
        ({"sampler": "Euler a Karras"}, "Use 'Euler a' alone."),
        ({"model": "tinny"}, "Did you mean 'tiny'?"),
        ({"clip_skip": 9}, "has 3 layers"),
        ({"loras": (Lora(name="ink"),)}, "Put ink.safetensors there."),
        ({"prompt": "a [cat:dog:0.5]"}, "Choose one of the words."),
        ({"negative": "a cat AND a dog"}, "Write one prompt."),
    ],
)
def test_a_plan_that_cannot_be_painted_is_refused_with_the_fix(sd15, arguments, fix):
    (message,) = errors_of(sd15, plan(**arguments))
    assert fix in message


def test_all_samplers_that_diffusers_lacks_are_refused_with_the_nearest(sd15):
    messages = errors_of(sd15, *(plan(sampler=f"{name} Karras") for name in NEAREST))
    assert all(f"The nearest is {nearest!r}." in message for nearest, message in zip(NEAREST.values(), messages, strict=True))


def test_a_flow_matching_model_refuses_other_samplers_and_names_its_own(painters):
    results = painters("sd3").paint([plan(sampler="DDIM"), plan(sampler="Euler Karras"), plan(sampler="Heun"), plan()])
    assert [type(result) for result in results] == [BadPlan, BadPlan, Picture, Picture]
    assert "It takes: Euler, Heun." in str(results[0])
    assert distance(pixels(results[2]), pixels(results[3])) > TOLERANCE


@pytest.fixture(scope="module")
def flux_folder(sd3_folder, tmp_path_factory):
    """A FLUX pipeline folder, with the text encoders of the tiny SD 3."""
    torch.manual_seed(9)
    parts = diffusers.StableDiffusion3Pipeline.from_pretrained(sd3_folder).components
    pipeline = diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=parts["vae"],
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig.from_dict(parts["text_encoder"].config.to_dict())),
        tokenizer=parts["tokenizer"],
        text_encoder_2=parts["text_encoder_3"],
        tokenizer_2=parts["tokenizer_3"],
    )
    folder = tmp_path_factory.mktemp("flux")
    pipeline.save_pretrained(folder)
    return folder


def test_a_flow_matching_model_that_sets_its_own_sigmas_refuses_the_sampler_that_takes_none(flux_folder):
    painter = DiffusersT2I(Catalogue([card(path=flux_folder)]), device="cpu")
    results = painter.paint([plan(sampler="Heun"), plan(sampler="Euler")])
    assert [type(result) for result in results] == [BadPlan, Picture]
    assert "cannot use the sampler 'Heun'" in str(results[0])
    assert "Leave the sampler out, or take Euler." in str(results[0])


def test_a_model_that_takes_no_weights_refuses_them_and_paints_the_others(painters):
    results = painters("sd3").paint([plan("a cat"), plan("a (cat:1.4)"), plan("a dog")])
    assert [type(result) for result in results] == [Picture, BadPlan, Picture]
    assert "without ( ) and [ ]" in str(results[1])


def test_missing_weights_are_a_mistake_of_the_card(tmp_path):
    painter = DiffusersT2I(Catalogue([card(path=tmp_path / "gone")]), device="cpu")
    (result,) = painter.paint([plan()])
    assert isinstance(result, BadCard)
    assert str(tmp_path / "gone") in str(result)
    assert "Correct `path`" in str(result)


def test_a_pickle_checkpoint_is_refused(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"whatever it is, it is not opened")
    (message,) = errors_of(DiffusersT2I(Catalogue([card(path=tmp_path / "model.ckpt")]), device="cpu"), plan())
    assert "pickle" in message
    assert "Convert it to safetensors" in message


def test_a_pipeline_folder_of_pickles_is_refused(sd15_folder, tmp_path):
    folder = shutil.copytree(sd15_folder, tmp_path / "pickles")
    for path in folder.rglob("*.safetensors"):
        torch.save(load_file(path), path.with_name({"model": "pytorch_model"}.get(path.stem, path.stem) + ".bin"))
        path.unlink()
    (message,) = errors_of(DiffusersT2I(Catalogue([card(path=folder)]), device="cpu"), plan())
    assert "no safetensors weights" in message


def test_a_pickle_lora_is_refused(sd15_folder, tmp_path):
    (tmp_path / "ink.pt").write_bytes(b"whatever it is, it is not opened")
    inked = card(path=sd15_folder, loras=(LoraFile(path=str(tmp_path / "ink.pt")),))
    (message,) = errors_of(DiffusersT2I(Catalogue([inked]), device="cpu"), plan())
    assert "pickle" in message


def test_a_file_with_another_hash_is_refused(sd15_file, sd15_folder):
    wrong = card(path=sd15_file, config=sd15_folder, sha256="0" * 64)
    (result,) = DiffusersT2I(Catalogue([wrong]), device="cpu").paint([plan()])
    assert isinstance(result, IntegrityError)
    assert "000000000000" in str(result)
    assert "Download it again." in str(result)


def test_a_file_with_the_right_hash_is_taken(sd15_file, sd15_folder):
    right = card(path=sd15_file, config=sd15_folder, sha256=hashlib.sha256(sd15_file.read_bytes()).hexdigest().upper())
    (image,) = paint(DiffusersT2I(Catalogue([right]), device="cpu"), plan())
    assert image.std() > 0


def test_a_damaged_file_is_an_error_and_no_crash(sd15_file, sd15_folder, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(sd15_file.read_bytes()[:5000])
    painter = DiffusersT2I(Catalogue([card(path=path, config=sd15_folder)]), device="cpu")
    (result,) = painter.paint([plan()])
    assert isinstance(result, DriverError)
    assert "cannot be loaded" in str(result)


def test_a_damaged_lora_is_an_error_and_the_others_are_painted(sd15, tmp_path):
    (tmp_path / "home/loras").mkdir(parents=True)
    (tmp_path / "home/loras/torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0torn")
    results = sd15.paint([plan("a cat <lora:torn:1>"), plan("a cat")])
    assert [type(result) for result in results] == [DriverError, Picture]


def test_an_unknown_pipeline_class_is_a_mistake_of_the_card(sd15_file, sd15_folder):
    wrong = card(path=sd15_file, config=sd15_folder, pipeline="StableDifusionPipeline")
    (result,) = DiffusersT2I(Catalogue([wrong]), device="cpu").paint([plan()])
    assert isinstance(result, BadCard)
    assert "StableDifusionPipeline" in str(result)


@pytest.mark.parametrize(
    ("options", "fix"), [({"device": "cuda"}, "device = 'auto'"), ({"device": "gpu"}, "'auto'"), ({"dtype": "fp16"}, "float16")]
)
def test_a_device_or_type_that_does_not_exist_is_refused_with_those_that_do(options, fix, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=next(iter(options.values()))) as caught:
        DiffusersT2I(Catalogue([]), **{"device": "cpu"} | options)
    assert fix in str(caught.value)


def test_a_picture_that_a_safety_checker_blacked_out_is_refused_and_the_others_stay(sd15_folder, monkeypatch):
    def check(pipeline, image, device, dtype):
        return image, [False, True, False]

    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "run_safety_checker", check)
    painter = DiffusersT2I(Catalogue([card(path=sd15_folder)]), device="cpu", batch_size=3)
    results = painter.paint([plan(seed=seed) for seed in range(3)])
    assert [type(result) for result in results] == [Picture, Refused, Picture]
    assert "safety checker of tiny" in str(results[1])
    assert not results[1].retryable


def test_too_little_memory_is_said_with_what_to_do(sd15, monkeypatch):
    def too_much(*_args, **_options):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "__call__", too_much)
    (result,) = sd15.paint([plan()])
    assert isinstance(result, OutOfMemory)
    assert "Lower batch_size" in str(result)


def test_a_schedule_that_needs_scipy_says_so(sd15, monkeypatch):
    monkeypatch.setattr("diffusers.schedulers.scheduling_euler_discrete.is_scipy_available", lambda: False)
    (result,) = sd15.paint([plan(sampler="Euler Beta")])
    assert isinstance(result, MissingExtra)
    assert "scipy" in str(result)


# ------------------------------------------------------------------------------------------------- where weights lie


def test_painting_is_what_diffusers_itself_does(diffusers_painter):
    pipeline = diffusers_painter._load(diffusers_painter.catalogue["tiny"]).pipeline
    for negative in (None, "blurry"):
        (found,) = paint(diffusers_painter, plan(negative=negative or ""))
        assert distance(found, by_diffusers(pipeline, negative_prompt=negative)) <= TOLERANCE


def test_a_single_file_paints_as_the_folder_it_came_from(sd15, sd15_file, sd15_folder):
    single = card(path=sd15_file, config=sd15_folder, pipeline="StableDiffusionPipeline")
    (found,) = paint(DiffusersT2I(Catalogue([single]), device="cpu", local_only=True), plan())
    assert distance(found, *paint(sd15, plan())) <= TOLERANCE


def test_a_card_may_name_its_files_relative_to_itself(sd15, sd15_folder):
    beside = card(path=sd15_folder.name).model_copy(update={"folder": sd15_folder.parent})
    (found,) = paint(DiffusersT2I(Catalogue([beside]), device="cpu"), plan())
    assert distance(found, *paint(sd15, plan())) <= TOLERANCE


def test_a_replaced_part_changes_the_picture_and_the_rest_is_shared(sd15_folder, tmp_path):
    shutil.copytree(sd15_folder / "unet", tmp_path / "unet")
    weights = load_file(tmp_path / "unet/diffusion_pytorch_model.safetensors")
    weights["conv_out.weight"] = -weights["conv_out.weight"]
    save_file(weights, tmp_path / "unet/diffusion_pytorch_model.safetensors")
    cards = [card(path=sd15_folder), card("tuned", base="tiny", parts={"unet": str(tmp_path / "unet")})]
    painter = DiffusersT2I(Catalogue(cards), device="cpu")
    base, tuned = paint(painter, plan(), plan(model="tuned"))
    assert distance(base, tuned) > TOLERANCE
    whole, exchanged = (painter._load(each).pipeline for each in cards)
    assert exchanged.vae is whole.vae
    assert exchanged.text_encoder is whole.text_encoder
    assert exchanged.unet is not whole.unet
    assert np.array_equal(base, *paint(painter, plan()))


def test_a_pipeline_with_replaced_parts_keeps_the_settings_of_its_base(sdxl_folder, tmp_path):
    folder = shutil.copytree(sdxl_folder, tmp_path / "sdxl")
    index = folder / "model_index.json"
    text = index.read_text(encoding="utf-8")
    index.write_text(text.replace('"force_zeros_for_empty_prompt": true', '"force_zeros_for_empty_prompt": false'), encoding="utf-8")
    cards = [card(path=folder), card("tuned", base="tiny", parts={"unet": str(folder / "unet")})]
    base, tuned = paint(DiffusersT2I(Catalogue(cards), device="cpu"), plan(), plan(model="tuned"))
    assert distance(base, tuned) <= TOLERANCE


@pytest.mark.parametrize("parts", [{"unet": "nowhere"}, {"transformer": "sd15/unet"}])
def test_a_part_that_is_missing_or_does_not_fit_is_a_mistake_of_the_card(sd15_folder, parts, tmp_path):
    shutil.copytree(sd15_folder / "unet", tmp_path / "sd15/unet")
    cards = [card(path=sd15_folder), card("tuned", base="tiny", parts={name: str(tmp_path / path) for name, path in parts.items()})]
    results = DiffusersT2I(Catalogue(cards), device="cpu").paint([plan(model="tuned"), plan()])
    assert [type(result) for result in results] == [BadCard, Picture]
    assert "Correct `parts`" in str(results[0])


def test_a_part_without_weights_is_an_error_and_the_others_are_painted(sd15_folder, tmp_path):
    (tmp_path / "unet").mkdir()
    cards = [card(path=sd15_folder), card("tuned", base="tiny", parts={"unet": str(tmp_path / "unet")})]
    results = DiffusersT2I(Catalogue(cards), device="cpu").paint([plan(model="tuned"), plan()])
    assert isinstance(results[0], VernissageError)
    assert isinstance(results[1], Picture)


def test_only_so_many_pipelines_stay_loaded(sd15_folder):
    painter = DiffusersT2I(Catalogue([card(f"tiny{n}", path=sd15_folder) for n in range(3)]), device="cpu", keep=2)
    images = paint(painter, *(plan(model=f"tiny{n % 3}") for n in range(4)))
    assert all(distance(image, images[0]) <= TOLERANCE for image in images)
    assert list(painter._pipelines) == ["tiny1", "tiny2"]


# ------------------------------------------------------------------------------------------------------------ prompts


@pytest.mark.parametrize("prompt", ["a (cat:1.4)", "a [cat]", "a ((cat))", "a cat BREAK on a roof", "a (cat:0.3) on a roof"])
def test_weights_and_breaks_change_the_picture(clip_painter, prompt):
    neutral, weighted = paint(clip_painter, plan(re.sub(r"[()\[\]]|:[\d.]+|BREAK ", "", prompt)), plan(prompt))
    assert distance(neutral, weighted) > TOLERANCE


@pytest.mark.parametrize("prompt", ["a (red:1.0) cat", "(a red cat:1)", "a ([red]) cat", "a red (:1.3)cat"])
def test_neutral_weights_change_nothing(clip_painter, prompt):
    assert np.array_equal(*paint(clip_painter, plan("a red cat"), plan(prompt)))


def test_escaped_brackets_are_words(clip_painter):
    plain, escaped, weighted = paint(clip_painter, plan("a cat"), plan(r"a \(cat\)"), plan("a (cat)"))
    assert distance(plain, escaped) > TOLERANCE
    assert distance(weighted, escaped) > TOLERANCE


def test_weights_in_a_negative_prompt_count(clip_painter):
    neutral, weighted = paint(clip_painter, plan(negative="a dog"), plan(negative="a (dog:1.5)"))
    assert distance(neutral, weighted) > TOLERANCE


def test_a_weight_close_to_neutral_gives_nearly_the_neutral_picture(clip_painter):
    neutral, weighted = paint(clip_painter, plan("a red cat"), plan("a (red:1.00001) cat"))
    assert distance(neutral, weighted) <= TOLERANCE


def test_the_end_of_a_long_prompt_matters(clip_painter):
    one, other = paint(clip_painter, plan(f"{LONG} at night"), plan(f"{LONG} at noon"))
    assert distance(one, other) > TOLERANCE


def test_a_long_negative_prompt_is_taken_whole(clip_painter):
    one, other = paint(clip_painter, plan(negative=f"{LONG} blurry"), plan(negative=f"{LONG} ugly"))
    assert distance(one, other) > TOLERANCE


def test_long_and_weighted_neighbours_do_not_change_a_picture(clip_painter):
    plans = [
        plan("a red cat"),
        plan("a red cat on a blue roof, " * 4, seed=2),  # too long for the tokenizer, yet not long to look at
        plan("a (red:1.4) cat", seed=3),
        plan(LONG, seed=4, negative="blurry"),
        plan("a dog", seed=5, negative="blurry"),
        plan("a dog", seed=6, negative="(blurry:1.3)"),
    ]
    together = paint(clip_painter, *plans)
    for image, alone in zip(together, plans, strict=True):
        assert distance(image, *paint(clip_painter, alone)) <= TOLERANCE


def test_a_long_prompt_may_carry_weights_below_one(clip_painter):
    one, other = paint(clip_painter, plan(f"{LONG} (at night:0.5)"), plan(f"{LONG} at night"))
    assert distance(one, other) > TOLERANCE


@pytest.mark.parametrize(
    "prompt", ['a "red" cat, 3+ eyes = C++ -- wow-', "(a = b + c - d:1.3)", "(-1- +2+:0.7)", '(say "hi":1.2)', "::", "(,:1.2)"]
)
def test_no_punctuation_upsets_the_reading_of_weights(sd15, prompt):
    (image,) = paint(sd15, plan(f"{prompt} (cat:1.1)"))
    assert image.std() > 0


def test_clip_skip_changes_the_picture_as_diffusers_counts_it(sd15, sd15_folder):
    last, first, skipped, weighted, weighted_skipped = paint(
        sd15,
        plan(),
        plan(clip_skip=1),
        plan(clip_skip=2),
        plan("a (red:1.3) cat"),
        plan("a (red:1.3) cat", clip_skip=2),
    )
    assert np.array_equal(last, first)
    assert distance(last, skipped) > TOLERANCE
    assert distance(weighted, weighted_skipped) > TOLERANCE
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(sd15_folder)
    pipeline.text_encoder.encoder.layers = pipeline.text_encoder.encoder.layers[:-1]  # skipping a layer is not having it
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    assert distance(skipped, by_diffusers(pipeline)) <= TOLERANCE


def test_sdxl_skips_its_last_layer_of_itself(painters):
    one, two, three, weighted, weighted_three = paint(
        painters("sdxl"), *(plan(clip_skip=n) for n in (1, 2, 3)), plan("a (red:1.3) cat"), plan("a (red:1.3) cat", clip_skip=3)
    )
    assert np.array_equal(one, two)
    assert distance(two, three) > TOLERANCE
    assert distance(weighted, weighted_three) > TOLERANCE


def test_pooled_features_of_sdxl_come_from_the_words_and_not_from_the_brackets(painters, monkeypatch):
    pooled = []
    original = diffusers.StableDiffusionXLPipeline.__call__

    def spy(self, *args, **options):
        pooled.append(options["pooled_prompt_embeds"])
        return original(self, *args, **options)

    spy.__signature__ = inspect.signature(original)
    monkeypatch.setattr(diffusers.StableDiffusionXLPipeline, "__call__", spy)
    paint(painters("sdxl"), plan("a (red:1.3) cat"), plan("a (red:1.6) cat"), plan("a (blue:1.3) cat"))
    assert torch.equal(pooled[0], pooled[1])
    assert not torch.allclose(pooled[0], pooled[2])


# ----------------------------------------------------------------------------------------------------------- adapters


def test_a_lora_changes_the_picture_and_leaves_no_trace(sd15_folder, write_lora, tmp_path):
    inked = card("inked", base="tiny", loras=(LoraFile(path=str(write_lora(tmp_path / "ink.safetensors", text=True))),))
    painter = DiffusersT2I(Catalogue([card(path=sd15_folder), inked]), device="cpu")
    (before,) = paint(painter, plan())
    (with_lora,) = paint(painter, plan(model="inked"))
    (after,) = paint(painter, plan())
    (again,) = paint(painter, plan(model="inked"))
    assert distance(before, with_lora) > TOLERANCE
    assert np.array_equal(before, after)
    assert np.array_equal(with_lora, again)


def test_a_tag_in_the_prompt_finds_its_lora_in_the_home_folder(sd15, write_lora, tmp_path):
    write_lora(tmp_path / "home/loras/ink.safetensors")
    base, tagged, weaker, listed, none = paint(
        sd15,
        plan("a red cat"),
        plan("a red cat <lora:ink:0.8>"),
        plan("a red cat <lora:ink:0.2>"),
        plan("a red cat", loras=(Lora(name="ink", weight=0.8),)),
        plan("a red cat <lora:ink:0>"),
    )
    assert distance(base, tagged) > TOLERANCE
    assert distance(tagged, weaker) > TOLERANCE
    assert np.array_equal(tagged, listed)
    assert distance(base, none) <= TOLERANCE


def test_a_missing_lora_fails_its_own_plan_and_no_other(sd15, write_lora, tmp_path):
    write_lora(tmp_path / "home/loras/ink.safetensors")
    results = sd15.paint([plan("a cat <lora:inc:1>"), plan("a cat"), plan("a cat <lora:ink:1>")])
    assert [type(result) for result in results] == [BadPlan, Picture, Picture]
    assert "Known: ink." in str(results[0])


def test_a_card_that_builds_on_another_has_its_adapters_too(sd15_folder, write_lora, tmp_path):
    for seed, name in enumerate(["ink", "gold"]):
        write_lora(tmp_path / f"{name}/{name}.safetensors", seed=seed)
    inked = card("inked", base="tiny", loras=(LoraFile(path="ink.safetensors"),)).model_copy(update={"folder": tmp_path / "ink"})
    gilded = card("gilded", base="inked", loras=(LoraFile(path="gold.safetensors"),)).model_copy(update={"folder": tmp_path / "gold"})
    tuned = card("tuned", base="inked", parts={"unet": str(sd15_folder / "unet")})
    both = tuple(LoraFile(path=str(tmp_path / f"{name}/{name}.safetensors")) for name in ("ink", "gold"))
    cards = [card(path=sd15_folder), inked, gilded, tuned, card("both", base="tiny", loras=both)]
    painter = DiffusersT2I(Catalogue(cards), device="cpu")
    images = dict(zip("ab", paint(painter, plan(model="gilded"), plan(model="both")), strict=True))
    assert distance(images["a"], images["b"]) <= TOLERANCE
    assert distance(images["a"], *paint(painter, plan(model="inked"))) > TOLERANCE
    assert distance(*paint(painter, plan(model="inked"), plan(model="tuned"))) <= TOLERANCE


def test_a_missing_lora_is_noticed_before_any_weights_are_loaded(tmp_path):
    painter = DiffusersT2I(Catalogue([card(path=tmp_path / "gone")]), device="cpu")
    (message,) = errors_of(painter, plan("a cat <lora:inc:1>"))
    assert "There is no LoRA 'inc'" in message


def test_two_loras_of_one_file_name_are_two(sd15_folder, write_lora, tmp_path):
    files = [write_lora(tmp_path / f"{n}/pytorch_lora_weights.safetensors", seed=n) for n in (1, 2)]
    cards = [card(path=sd15_folder)]
    for name, paths in {"first": files[:1], "second": files[1:], "both": files}.items():
        cards.append(card(name, base="tiny", loras=tuple(LoraFile(path=str(path)) for path in paths)))
    first, second, both = paint(DiffusersT2I(Catalogue(cards), device="cpu"), *(plan(model=name) for name in ("first", "second", "both")))
    assert distance(first, second) > TOLERANCE
    assert distance(both, first) > TOLERANCE
    assert distance(both, second) > TOLERANCE


def test_a_lora_may_be_a_folder(sd15_folder, write_lora, tmp_path):
    path = write_lora(tmp_path / "ink/pytorch_lora_weights.safetensors")
    cards = [
        card(path=sd15_folder),
        card("folder", base="tiny", loras=(LoraFile(path=str(path.parent)),)),
        card("file", base="tiny", loras=(LoraFile(path=str(path)),)),
    ]
    base, folder, file = paint(DiffusersT2I(Catalogue(cards), device="cpu"), plan(), plan(model="folder"), plan(model="file"))
    assert distance(base, folder) > TOLERANCE
    assert np.array_equal(folder, file)


def test_a_lora_of_one_pipeline_does_not_reach_another_that_shares_its_parts(sd15_folder, write_lora, tmp_path):
    write_lora(tmp_path / "home/loras/ink.safetensors", text=True)
    cards = [card(path=sd15_folder), card("tuned", base="tiny", parts={"unet": str(sd15_folder / "unet")})]
    painter = DiffusersT2I(Catalogue(cards), device="cpu")
    (untouched,) = paint(painter, plan(model="tuned"))
    (inked,) = paint(painter, plan("a red cat <lora:ink:1>"))
    (after,) = paint(painter, plan(model="tuned"))
    (both,) = paint(painter, plan("a red cat <lora:ink:1>", model="tuned"))
    assert np.array_equal(untouched, after)
    assert distance(untouched, inked) > TOLERANCE
    assert distance(inked, both) <= TOLERANCE


# ----------------------------------------------------------------------------------------------------------- samplers


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_paints(sd15, name):
    pictures = paint(sd15, plan(sampler=name, steps=4), plan(sampler=name, steps=4, seed=2))
    assert all(image.std() > 1 for image in pictures)
    assert distance(*pictures) > TOLERANCE


def sigma_variants():
    for name in SAMPLERS:
        for schedule in ("Karras", "Exponential"):
            try:
                find_sampler(f"{name} {schedule}")
            except BadPlan:
                continue
            yield f"{name} {schedule}"


def test_only_schedulers_without_a_choice_of_sigmas_refuse_the_schedules():
    refused = {name for name in SAMPLERS if f"{name} Karras" not in set(sigma_variants())}
    takes_none = {
        name
        for name, sampler in SAMPLERS.items()
        if "use_karras_sigmas" not in getattr(diffusers, sampler.scheduler)._get_init_keys(getattr(diffusers, sampler.scheduler))
    }
    assert refused == takes_none


@pytest.mark.parametrize("schedule", [name for name, options in SCHEDULE_OPTIONS.items() if options])
def test_a_schedule_that_the_scheduler_would_ignore_is_refused(schedule):
    for name, sampler in SAMPLERS.items():
        known = inspect.signature(getattr(diffusers, sampler.scheduler).__init__).parameters
        if SCHEDULE_OPTIONS[schedule].keys() <= known.keys() and (name, schedule) != (
            "LCM",
            "SGM Uniform",
        ):  # which LCM takes and never reads
            assert find_sampler(f"{name} {schedule}").options == sampler.options | SCHEDULE_OPTIONS[schedule]
        else:
            with pytest.raises(BadPlan, match=f"does not take the schedule '{schedule}'"):
                find_sampler(f"{name} {schedule}")


@pytest.mark.parametrize("name", list(sigma_variants()))
def test_every_schedule_that_is_allowed_changes_the_picture(sd15, name):
    base = find_sampler(name.rsplit(" ", 1)[0])
    plain, scheduled = paint(sd15, plan(sampler=name.rsplit(" ", 1)[0], steps=4), plan(sampler=name, steps=4))
    assert base.scheduler == find_sampler(name).scheduler
    assert scheduled.std() > 1
    assert not np.array_equal(plain, scheduled)


@pytest.mark.parametrize("lingering", ["DPM++ 2M Karras", "Euler Exponential", "Euler SGM Uniform", "DPM++ 3M SDE", "LMS Beta"])
@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M", "DEIS", "UniPC"])
def test_nothing_of_one_sampler_lingers_in_the_next(sd15, lingering, sampler):
    (before,) = paint(sd15, plan(sampler=sampler, steps=4))
    paint(sd15, plan(sampler=lingering, steps=4))
    (after,) = paint(sd15, plan(sampler=sampler, steps=4))
    assert np.array_equal(before, after)


def test_without_any_sampler_a_model_paints_with_its_own(sd15_folder):
    silent = card(path=sd15_folder).model_copy(update={"defaults": Arguments(steps=4, cfg_scale=4.0)})
    painter = DiffusersT2I(Catalogue([silent]), device="cpu")
    own, _, again, named = (paint(painter, plan(sampler=sampler))[0] for sampler in (None, "Euler a", None, "PNDM"))
    assert np.array_equal(own, again)
    assert distance(own, named) <= TOLERANCE


def test_a_sampler_keeps_the_noise_schedule_and_prediction_type_of_the_model(sd15_folder, tmp_path):
    folder = shutil.copytree(sd15_folder, tmp_path / "v")
    diffusers.EulerDiscreteScheduler(
        beta_start=0.001, beta_end=0.02, beta_schedule="linear", prediction_type="v_prediction", timestep_spacing="trailing"
    ).save_pretrained(folder / "scheduler")
    painter = DiffusersT2I(Catalogue([card(path=folder)]), device="cpu")
    pipeline = painter._load(painter.catalogue["tiny"]).pipeline
    for name, sampler in SAMPLERS.items():
        paint(painter, plan(sampler=name))
        config = pipeline.scheduler.config
        assert type(pipeline.scheduler).__name__ == sampler.scheduler
        assert (config.beta_start, config.beta_end, config.beta_schedule) == (0.001, 0.02, "linear")
        assert (config.prediction_type, config.timestep_spacing) == ("v_prediction", "trailing")
        # Latents are not pixels: they may leave [-1, 1].
        assert not config.get("clip_sample", False)


def test_batches_painted_side_by_side_are_those_painted_alone(diffusers_painter, four_threads):
    # Prompts of every length: threads that share a tokenizer pad by one another's.
    plans = [plan("a red cat " * (number % 9 + 1), seed=number, steps=3) for number in range(40)]
    seen, threads = [], set()

    def progress(done, total):
        threads.add(threading.get_ident())
        seen.append((done, total))

    together = [pixels(result) for result in diffusers_painter.paint(plans, progress=progress)]
    assert len(threads) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (120, 120)
    for number in range(0, 40, 7):
        assert distance(together[number], *paint(diffusers_painter, plans[number])) <= TOLERANCE


def test_an_adapter_reaches_all_batches_side_by_side_and_then_nobody(sd15_folder, write_lora, tmp_path, four_threads):
    write_lora(tmp_path / "a.safetensors")
    base = card("base", path=sd15_folder)
    changed = card("changed", base="base", loras=(LoraFile(path=str(tmp_path / "a.safetensors")),))
    painter = DiffusersT2I(Catalogue([base, changed]), device="cpu")
    plans = [plan(model=model, seed=number) for model in ("changed", "base") for number in range(16)]
    together = paint(painter, *plans)
    for number in (0, 15, 16, 31):
        assert distance(together[number], *paint(painter, plans[number])) <= TOLERANCE
    assert distance(together[15], together[31]) > TOLERANCE


def test_a_batch_that_fails_side_by_side_leaves_the_others(sd15_folder, monkeypatch, four_threads):
    painter = DiffusersT2I(Catalogue([card(path=sd15_folder)]), device="cpu", batch_size=4)
    loaded, whole = painter._load(painter.catalogue["tiny"]), diffusers.StableDiffusionPipeline.__call__

    def fail_for_dogs(self, prompt, **options):
        if "a dog" in prompt:
            raise RuntimeError("dogs are too much")
        return whole(self, prompt, **options)

    fail_for_dogs.__signature__ = inspect.signature(whole)
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "__call__", fail_for_dogs)
    results = painter.paint([plan("a dog" if number == 6 else "a cat", seed=number) for number in range(16)])
    assert [index for index, result in enumerate(results) if isinstance(result, VernissageError)] == [6, 7]
    assert "dogs are too much" in str(results[7])
    assert loaded.pipeline in loaded.idle


def test_a_keyboard_interrupt_stops_all_batches_at_their_next_step(sd15, four_threads, monkeypatch):
    seen = []

    def progress(done, total):
        seen.append(done)
        if len(seen) == 20:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            sd15.paint([plan(seed=number, steps=150) for number in range(16)], progress=progress)
    finally:
        signal.signal(signal.SIGINT, before)
    assert max(seen) < 1200, "of 2400 steps"
    assert torch.get_num_threads() == 4
    assert distance(*paint(sd15, plan()), *paint(sd15, plan())) == 0


@pytest.mark.parametrize(("size", "threads"), [(1, 4), (3, 4), (4, 4), (8, 4), (4, 16)])
def test_no_more_pictures_are_in_work_at_once_than_the_batch_size(sd15_folder, monkeypatch, size, threads, four_threads):
    torch.set_num_threads(threads)
    painter = DiffusersT2I(Catalogue([card(path=sd15_folder)]), device="cpu", batch_size=size)
    whole, lock, now, most = diffusers.StableDiffusionPipeline.__call__, threading.Lock(), [0], [0]

    def counted(self, prompt, **options):
        with lock:
            now[0] += len(prompt)
            most[0] = max(most[0], now[0])
        try:
            return whole(self, prompt, **options)
        finally:
            with lock:
                now[0] -= len(prompt)

    counted.__signature__ = inspect.signature(whole)
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "__call__", counted)
    for count in (1, 2, 9, 17):
        assert len(paint(painter, *[plan(seed=number) for number in range(count)])) == count
    assert 0 < most[0] <= size


@pytest.mark.parametrize(("side", "most"), [(64, 16), (512, 8), (1024, 2), (4096, 1), (None, 8)])
def test_by_default_as_many_pictures_are_in_work_as_main_memory_holds(sd15_folder, side, most):
    painter = DiffusersT2I(Catalogue([card(path=sd15_folder)]), device="cpu")
    assert painter._size(Plan(prompt="a cat", model="tiny", arguments=Arguments(width=side, height=side))) == most


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_of_no_pictures_is_refused(sd15_folder, size):
    with pytest.raises(BadInput, match=f"A batch cannot have {size} pictures"):
        DiffusersT2I(Catalogue([card(path=sd15_folder)]), device="cpu", batch_size=size)


def test_in_half_precision_sdxl_paints_one_batch_after_the_other(sdxl_folder, four_threads):
    painter = DiffusersT2I(Catalogue([card(path=sdxl_folder)]), device="cpu", dtype="float16")
    assert all(isinstance(each, Picture) for each in painter.paint([plan(seed=number) for number in range(16)]))


def test_a_pipeline_that_cannot_be_copied_costs_its_batch_alone(sd15_folder, monkeypatch, four_threads):
    painter = DiffusersT2I(Catalogue([card(path=sd15_folder)]), device="cpu")

    tried = []

    def fails(self, memo):
        tried.append(1)
        raise TypeError("no copy of this")

    monkeypatch.setattr(type(painter._load(painter.catalogue["tiny"]).pipeline.tokenizer), "__deepcopy__", fails, raising=False)
    results = painter.paint([plan(seed=number) for number in range(16)])
    assert tried
    assert any(isinstance(each, Picture) for each in results)
    assert {str(each) for each in results if isinstance(each, VernissageError)} <= {"tiny could not paint: no copy of this"}


def test_replaced_parts_do_not_inherit_the_sampler_that_the_base_painted_with_last(sd15_folder):
    silent = Arguments(steps=4, cfg_scale=4.0)
    cards = [card(path=sd15_folder), card("tuned", base="tiny", parts={"unet": str(sd15_folder / "unet")})]
    cards = [each.model_copy(update={"defaults": silent}) for each in cards]
    (expected,) = paint(DiffusersT2I(Catalogue(cards), device="cpu"), plan(model="tuned"))
    painter = DiffusersT2I(Catalogue(cards), device="cpu")
    _, found = paint(painter, plan(sampler="Euler a"), plan(model="tuned"))
    assert distance(found, expected) == 0


def test_an_adapter_of_which_only_a_part_fits_does_not_stay_on(sd15_folder, write_lora, tmp_path):
    path = write_lora(tmp_path / "home/loras/ink.safetensors", text=True)
    wide = {
        name: tensor if name.startswith("unet") else torch.cat([tensor, tensor], dim=1 if "lora_A" in name else 0)
        for name, tensor in load_file(path).items()
    }
    save_file(wide, path)
    painter = DiffusersT2I(Catalogue([card(path=sd15_folder)]), device="cpu")
    (before,) = paint(painter, plan())
    for _ in range(2):
        (failed,) = painter.paint([plan("a red cat <lora:ink:1>")])
        assert isinstance(failed, BadCard)
        assert "ink.safetensors does not fit" in str(failed), "and not that the adapter is there already"
        assert len(str(failed)) < 300
    assert distance(before, *paint(painter, plan())) == 0


def test_samplers_that_call_the_model_twice_a_step_count_each_step_once(sd15):
    for sampler in ("Heun", "DPM2", "PNDM"):
        seen = []
        sd15.paint([plan(sampler=sampler, steps=4), plan(seed=2)], progress=lambda done, total, seen=seen: seen.append((done, total)))
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert max(done for done, _ in seen) == 6
        assert seen[-1] == (6, 6)


def test_a_plan_without_a_seed_is_painted_again_from_what_its_picture_says(sd15):
    first, second = sd15.paint([plan(seed=None), plan(seed=None)])
    assert first.plan.arguments.seed != second.plan.arguments.seed
    assert distance(pixels(first), *paint(sd15, first.plan)) <= TOLERANCE


def test_a_picture_says_everything_that_decided_it(sd15, write_lora, tmp_path):
    write_lora(tmp_path / "home/loras/ink.safetensors")
    (picture,) = sd15.paint([plan("a (red:1.2) cat <lora:ink:0.8>", negative="blurry")])
    arguments = picture.plan.arguments
    assert (arguments.sampler, arguments.steps, arguments.cfg_scale, arguments.width, arguments.height) == ("Euler", 2, 4.0, 64, 64)
    assert arguments.loras == (Lora(name="ink", weight=0.8),)
    assert picture.provenance.versions["diffusers"] == diffusers.__version__
    assert np.array_equal(pixels(picture), *paint(sd15, picture.plan))
