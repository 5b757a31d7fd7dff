"""The painting road from end to end on the embedded mini studio, offline."""

import json
import subprocess
import sys

import numpy as np
import pytest

import vernissage as vs
from vernissage.painting.road import plan_chats
from vernissage.records.picture import Picture, read_plan
from vernissage.world import tell
from vernissage.world.chats import sample_chat
from vernissage.world.draw import draw
from vernissage.world.facts import check_facts, facts_of, read_text
from vernissage.world.nn.recogniser import load_recogniser, read_pictures
from vernissage.world.scene import sample_scene
from vernissage.zoo.catalogue import package_folder

SAMPLERS = ["Euler", "Euler a", "DPM++ 2M", "DPM++ 2M Karras", "DPM++ SDE Karras", "DDIM"]


def vernissage(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vernissage", *arguments], capture_output=True, text=True, check=False)


def test_a_chat_becomes_a_picture_on_disk_that_knows_how_it_was_made(tmp_path):
    out = tmp_path / "stars.png"
    done = vernissage("paint", "--explain", "--seed", "3", "--out", str(out), "two yellow stars over the sea at night, neon please")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    for station in ("chat", "prompt", "model", "considered", "arguments", "similarity"):
        assert station in done.stderr
    picture = Picture.open(out)
    assert picture.image.size == (128, 128)
    assert read_text(picture.plan.prompt).style == "neon"
    assert picture.plan.model == "mini/neon"
    assert read_plan(out.read_bytes()).plan.prompt == picture.plan.prompt
    shown = vernissage("read", "--json", str(out))
    assert json.loads(shown.stdout)["plan"]["arguments"]["seed"] == 3


def test_the_same_plan_paints_the_same_picture_alone_or_among_eight(mini):
    plan = mini.plan(prompt="two red cats, on a meadow, by day, cartoon", model="mini/general", seed=11, steps=6)
    eight, alone = mini.paint_plan(plan, count=8), mini.paint_plan(plan)[0]
    assert len({picture.hash for picture in eight}) == 8
    difference = np.abs(np.asarray(eight[0].image, dtype=int) - np.asarray(alone.image, dtype=int))
    assert difference.max() <= 2  # of 255; matrix products of other batch sizes round differently


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_that_matters_paints_what_was_asked(mini, sampler):
    prompt = "one red house, on a meadow, by day, cartoon, bold outlines, flat colours"
    picture = mini.paint(prompt=prompt, model="mini/general", sampler=sampler, steps=20, seed=1)
    recogniser = load_recogniser(package_folder("mini") / "recogniser")
    (seen,) = read_pictures(recogniser, [picture.image])
    right = [check.right for check in check_facts(read_text(prompt), seen)]
    assert sum(right) >= len(right) - 2, seen


def test_models_differ_in_skill(mini):
    rng = np.random.default_rng(8)
    scenes = [sample_scene(rng, split="held-out") for _ in range(16)]
    recogniser = load_recogniser(package_folder("mini") / "recogniser")
    share = {}
    for model in ("mini/general", "mini/early"):
        plans = [vs.Plan(prompt=tell.prompt(scene), model=model, arguments=vs.Arguments(seed=i)) for i, scene in enumerate(scenes)]
        pictures = mini.t2i.paint(plans)
        checks = [
            check
            for scene, seen in zip(scenes, read_pictures(recogniser, [picture.image for picture in pictures]), strict=True)
            for check in check_facts(facts_of(scene), seen)
        ]
        share[model] = sum(check.right for check in checks) / len(checks)
    assert share["mini/general"] > share["mini/early"] + 0.05
    assert share["mini/general"] > 0.7


def test_plans_of_all_three_input_types_are_valid_and_keep_what_was_asked(mini):
    rng = np.random.default_rng(5)
    chats = [sample_chat(rng, split="held-out", input_type=kind) for kind in ("single", "multimodal", "history") for _ in range(8)]
    pictures = [[draw(chat.reference, seed=i).image] if chat.reference else [] for i, chat in enumerate(chats)]
    asked = [vs.Chat(turns=tuple(vs.Turn(role=role, text=text) for role, text in chat.turns)) for chat in chats]
    plans = plan_chats(asked, pictures, mini.mllm, mini.catalogue)
    assert all(isinstance(plan, vs.Plan) for plan in plans)
    kept = [check.right for chat, plan in zip(chats, plans, strict=True) for check in check_facts(chat.wanted, read_text(plan.prompt))]
    assert sum(kept) / len(kept) > 0.75


def test_a_reference_picture_and_a_history_reach_the_planner(mini, tmp_path):
    path = tmp_path / "reference.png"
    scene = sample_scene(np.random.default_rng(3), style="cartoon")
    draw(scene, seed=1).image.save(path)
    plan = mini.plan("Turn this into a watercolour.", images=[path])
    assert plan.model == "mini/watercolour"
    assert {g.kind for g in read_text(plan.prompt).groups} & {g.kind for g in scene.groups}
    history = (vs.Turn(text="two red cars in the city"), vs.Turn(role="assistant", text="Which style would you like?"))
    assert mini.plan("pixel art", history=history).model == "mini/pixel"


def test_several_pictures_come_with_a_contact_sheet(tmp_path):
    prompt = "one blue boat, at sea, by day, sketch"
    done = vernissage("paint", "--prompt", prompt, "--model", "mini/sketch", "--steps", "4", "--seed", "5", "-n", "3", "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    paths = done.stdout.split()
    assert len(paths) == 4
    assert Picture.open(paths[-1]).image.width > 2 * 128


def test_the_probabilities_of_all_models_sum_to_one(mini):
    plan = mini.plan("a green umbrella in the desert by day as a pencil sketch")
    assert plan.choices[0].model == plan.model == "mini/sketch"
    assert sum(choice.probability for choice in plan.choices) == pytest.approx(1.0)
