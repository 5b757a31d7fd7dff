"""The repainting road on the mini studio: a reference picture, its tree, four rounds, a result, offline."""

import json

import numpy as np
import pytest

from vernissage.api import mini_studio
from vernissage.cli import main
from vernissage.records.picture import Picture
from vernissage.records.regeneration import Regeneration
from vernissage.records.verdict import Score
from vernissage.repainting.loop import Settings
from vernissage.repainting.revise import is_no_change
from vernissage.world.draw import draw
from vernissage.world.scene import Group, Scene

SCENE = Scene(groups=(Group(kind="house", colour="red", count=1),), place="meadow", time="day", style="cartoon")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return Picture.of(draw(SCENE, seed=5).image).save(tmp_path_factory.mktemp("references") / "scene_1.png")


def test_a_reference_is_understood_painted_in_four_rounds_and_scored(reference):
    regeneration, pictures = mini_studio().repaint(reference, model="mini/general")
    assert regeneration.tree is not None
    assert "house" in [thing.name for thing in regeneration.tree.objects]
    assert "house" in regeneration.prompt
    assert [each.aspect for each in regeneration.rounds] == ["overall image", "style", "colour", "detailed content"]
    assert all(each.feedback for each in regeneration.rounds[1:])
    assert len(pictures) == len({c.picture for each in regeneration.rounds for c in each.candidates})
    best, first = regeneration.best, regeneration.rounds[0].candidates[regeneration.rounds[0].best]
    assert best.selection.value >= first.selection.value
    assert set(best.scores) == {"clip", "dinov2", "ssim", "consistency", "perception"}
    assert all(isinstance(score, Score) for score in best.scores.values())
    kept = sum(is_no_change(each.feedback) for each in regeneration.rounds)
    assert regeneration.cost.pictures == 12 - kept
    assert not regeneration.failures
    unrelated = np.asarray(mini_studio().clip.encode([draw(SCENE.model_copy(update={"place": "sea", "time": "night"}), seed=1).image]))
    own = mini_studio().clip.encode([Picture.open(reference).image])
    assert best.scores["clip"].value > float(own[0] @ unrelated[0]), "closer than a picture of another place and time"


def test_two_references_in_one_run_are_each_understood_as_if_alone(reference):
    other = draw(SCENE.model_copy(update={"style": "neon", "time": "night"}), seed=6).image
    settings = Settings(rounds=1, candidates=1, rate=())
    together = mini_studio().repaint_several([reference, other], model="mini/general", settings=settings)
    for one, image in zip(together, (reference, other), strict=True):
        alone = mini_studio().repaint(image, model="mini/general", **settings.model_dump(exclude_unset=True)).regeneration
        assert one.regeneration.tree == alone.tree
        assert one.regeneration.prompt == alone.prompt
        mine, own = (each.rounds[0].candidates[0].scores["dinov2"].value for each in (one.regeneration, alone))
        assert mine == pytest.approx(own, abs=0.01), "a batch decides last digits only"


def test_the_commands_leave_everything_that_was_tried(reference, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["repaint", str(reference), "--model", "mini/early", "--rounds", "2", "--candidates", "2"]
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 0
    folder = tmp_path / "repainted" / "scene_1"
    assert {path.name for path in folder.iterdir()} == {
        "strip.png",
        "best.png",
        "last.png",
        "tree.svg",
        "regeneration.json",
        "settings.json",
    }
    kept = Regeneration.model_validate_json((folder / "regeneration.json").read_text(encoding="utf-8"))
    assert len(kept.rounds) == 2
    assert Picture.open(folder / "best.png").plan.model == "mini/early"
    assert "round 2, style" in capsys.readouterr().err

    bench = ["bench", "repaint", "--models", "mini/early,mini/general", "--data", str(reference.parent), "--out", "run"]
    bench += ["--rounds", "1", "--candidates", "1", "--rate", "none"]
    for _ in range(2):  # the second time everything is there already
        with pytest.raises(SystemExit) as end:
            main(bench)
        assert end.value.code == 0
        assert "1/1" in capsys.readouterr().out
    items = [json.loads(line) for line in (tmp_path / "run" / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(item["model"], item["reference"], item["kind"]) for item in items] == [
        ("mini/early", "scene_1", "scene"),
        ("mini/general", "scene_1", "scene"),
    ]
    assert "mini/general" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
