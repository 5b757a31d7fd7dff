"""The front door for programs: what may be given, by which names, and what is said of something else."""

import importlib.metadata
import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vernissage as vs
from vernissage.api import Studio
from vernissage.errors import BadInput, BadPlan, UnknownName, UserError
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Plan
from vernissage.scoring.layouts import Entry
from vernissage.wiring import DriverConfig, StudioConfig

FAKE = DriverConfig(driver="fake")


@pytest.fixture
def studio():
    return Studio(StudioConfig(mllm=FAKE, t2i=FAKE, clip=FAKE, dinov2=FAKE))


def test_what_is_fixed_may_be_named_itself(studio):
    fixed = {"model": "mini/neon", "prompt": "a red cat", "seed": 3, "steps": 7}
    picture = vs.paint(studio=studio, **fixed)
    assert (picture.plan.model, picture.plan.prompt, picture.plan.arguments.seed, picture.plan.arguments.steps) == (
        "mini/neon",
        "a red cat",
        3,
        7,
    )
    with pytest.raises(UnknownName, match="Did you mean 'seed'"):
        vs.paint("a cat", seeds=3, studio=studio)
    with pytest.raises(BadInput, match=r"'arguments\.steps'"):
        vs.paint("a cat", steps="many", studio=studio)


def test_one_picture_may_be_given_where_many_may(studio, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), Picture.open(tmp_path / "a.png"), Image.new("RGB", (8, 8))):
        assert studio.plan("again", images=given, prompt="a cat", model="mini/neon").prompt == "a cat"
        assert len(studio.judge_several(given)) == 1
        assert studio.judge(given) == studio.judge_several(given)[0]


@pytest.mark.parametrize("verb", ["paint", "repaint", "judge"])
def test_a_road_takes_the_same_from_the_package_and_from_a_studio(verb):
    own, front = (inspect.signature(getattr(each, verb)).parameters for each in (Studio, vs))
    if any(each.kind is each.VAR_KEYWORD for each in front.values()):  # handed on as they are
        assert set(front) - {"studio", "options"} <= set(own)
    else:
        assert set(front) - {"studio"} == set(own) - {"self"}


def test_entries_may_come_one_by_one_and_prompts_may_be_none(studio, tmp_path):
    path = Picture.of(Image.new("RGB", (8, 8))).save(tmp_path / "a.png")
    entries = [Entry("a.png", path, "a cat"), Entry("b.png", path, "a dog")]
    assert len(studio.score(iter(entries), ["clipscore"]).pictures["clipscore"]) == 2
    assert len(studio.judge_several([path], prompts=None)) == 1
    assert len(studio.paint_several(prompt="a cat", model="mini/neon", count=np.int64(2), seed=1, steps=4)) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda s, p: s.score_texts(["a"], [None]),
        lambda s, p: s.score_texts([float("nan")], ["a"]),
        lambda s, p: s.repaint(p, model="mini/neon", colour="red"),
        lambda s, p: s.paint(None),
        lambda s, p: s.paint(b"x"),
        lambda s, p: s.paint("a", images=5),
        lambda s, p: s.paint("a", images=[np.zeros((4, 4, 3))]),
        lambda s, p: s.paint("a", history="user: x"),
        lambda s, p: s.paint("a", history=[{"role": "user", "text": "x"}]),
        lambda s, p: s.paint_several("a", count=0),
        lambda s, p: s.paint_several("a", count="2"),
        lambda s, p: s.repaint(p, model=None),
        lambda s, p: s.repaint(5, model="mini/neon"),
        lambda s, p: s.repaint(Image.new("RGB", (0, 4)), model="mini/neon"),
        lambda s, p: s.judge_several(5),
        lambda s, p: s.judge_several([p, None]),
        lambda s, p: s.judge_several([Image.new("RGB", (0, 0))]),
        lambda s, p: s.judge_several([p], questions=5),
        lambda s, p: s.judge_several([p], questions=[""]),
        lambda s, p: s.judge_several([p], questions=[5]),
        lambda s, p: s.judge_several([p, p], prompts="ab"),
        lambda s, p: s.judge_several([p], prompts=[5]),
        lambda s, p: s.score(5, ["ssim"]),
        lambda s, p: s.score(["a.png"], ["ssim"]),
        lambda s, p: s.score("x", 5),
    ],
)
def test_something_else_is_refused_with_the_fix(studio, tmp_path, call):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError) as told:
        call(studio, tmp_path / "a.png")
    assert told.value.hint


def test_a_picture_shows_itself_in_a_line_and_not_in_its_bytes():
    bare = Picture.of(Image.new("RGB", (8, 6)))
    assert repr(bare) == str(bare) == "<Picture 8x6>"
    painted = Picture.of(Image.new("RGB", (8, 6)), Provenance(plan=Plan(prompt="a cat", model="mini/neon")))
    assert repr(painted) == "<Picture 8x6, painted by mini/neon: 'a cat'>"
    assert repr(Picture(data=b"nothing")) == "<Picture, damaged, 7 bytes>"


def test_nothing_is_judged_by_half_a_character(studio):
    verdict = studio.judge(Image.new("RGB", (8, 8)), prompt="a \ud800 star")
    assert "\ud800" not in str(verdict)


def test_a_folder_that_is_none_is_named(studio):
    with pytest.raises(BadInput, match="There is no nowhere"):
        studio.score(Path("nowhere"), ["ssim"])


def test_the_package_tells_its_version_and_scores(studio, tmp_path):
    assert vs.__version__ == importlib.metadata.version("vernissage")
    Picture.of(Image.new("RGB", (8, 8)), Provenance(plan=Plan(prompt="a cat", model="m"))).save(tmp_path / "a.png")
    (found,) = vs.score(tmp_path, studio=studio).pictures["clipscore"]
    assert 0 <= found.value <= 100


def test_what_no_model_takes_is_not_told_as_the_fault_of_one(studio):
    with pytest.raises(BadPlan, match=r"None of the models that can be chosen takes this: .*width of 500"):
        studio.plan("a cat", width=500)
    with pytest.raises(BadPlan, match="clip_skip of 0"):
        studio.plan("a cat", model="mini/neon", clip_skip=0)
