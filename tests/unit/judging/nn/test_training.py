"""Training a judge on tiny checkpoints: it learns, resumes, and refuses what it cannot learn from."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

from vernissage.datasets.judged import JudgedPicture
from vernissage.errors import BadCard, BadInput, IntegrityError
from vernissage.judging.nn import training
from vernissage.judging.nn.checkpoint import load_judge
from vernissage.judging.nn.cross_validation import cross_validate
from vernissage.judging.nn.judge import TrainedJudge
from vernissage.judging.nn.training import Agreement, agreement_of, train_judge
from vernissage.judging.recipe import JudgeRecipe
from vernissage.judging.spec import SPEC, WEIGHTS, read_spec
from vernissage.local import training as loop
from vernissage.records.verdict import Score


def grey_pictures(count=24):
    """The lighter the picture the better it is; a bright one is a day, and fits the prompt that says so."""
    rng = np.random.default_rng(0)
    rows = []
    for light in rng.integers(0, 256, count).tolist():
        image = Image.new("RGB", (32, 32), (light, light, light))
        day = bool(light > 127)
        rows.append(
            JudgedPicture(
                image=image,
                prompt="day" if len(rows) % 2 else "night",
                perception=light / 2.55,
                correspondence=90.0 if day == bool(len(rows) % 2) else 10.0,
                answers={"day?": day},
            )
        )
    return rows


def recipe_for(folder, tmp_path, **changes):
    values = {
        "backbone": str(folder),
        "data": tmp_path / "unused.jsonl",
        "out": tmp_path / "judge",
        "brief": True,
        "head": (8,),
        "rank": 2,
        "alpha": 4,
        "lr": 1e-2,
        "batch_size": 8,
        "level_epochs": 1,
        "epochs": 2,
        "evaluations": 2,
        "precision": "no",
    }
    return JudgeRecipe(**values | changes)


def test_a_judge_learns_which_pictures_are_better(internvl_folder, tmp_path):
    rows = grey_pictures()
    seen = []
    recipe = recipe_for(internvl_folder, tmp_path, epochs=12, answers=False, dimensions=("perception",))
    spec = train_judge(recipe, rows, rows[:8], tmp_path / "judge", progress=lambda done, total: seen.append((done, total)))
    assert spec.trained["validation"]["perception"] > 0.9
    assert seen[-1] == (3 + 36, 3 + 36)
    judge = TrainedJudge(str(tmp_path / "judge"), device="cpu")
    dark, bright = judge.judge([Image.new("RGB", (32, 32), c) for c in ("#181818", "#e0e0e0")], [None, "x"], [[], ["day?"]])
    assert dark.perception.value < bright.perception.value
    assert bright.correspondence.reason == "judge was not trained on correspondence"
    assert bright.answers[0].yes.reason == "judge was not trained on questions"


def test_other_prompts_count_like_pictures_of_their_own(internvl_folder, tmp_path):
    recipe = recipe_for(internvl_folder, tmp_path, levels=False, dimensions=("correspondence",), answers=False)
    rows = grey_pictures(4)
    spec = train_judge(recipe, rows, rows, tmp_path / "judge")
    model, _ = load_judge(tmp_path / "judge", device=torch.device("cpu"))
    prompts = {"day": 20.0, "night": 70.0, "dusk": 40.0}
    several = rows[0].model_copy(update={"prompt": "day", "correspondence": 20.0, "other_prompts": {"night": 70.0, "dusk": 40.0}})
    apart = [rows[0].model_copy(update={"prompt": prompt, "correspondence": score}) for prompt, score in prompts.items()]
    losses = training._Losses(model, spec, recipe, words=False)
    together, one_by_one = (losses("shared", some, [row.open() for row in some])["correspondence"].item() for some in ([several], apart))
    assert together == pytest.approx(one_by_one, rel=1e-5)
    assert together > 0


def test_other_prompts_tell_judged_pictures_apart_and_give_way_to_the_prompts_own_score(internvl_folder, tmp_path):
    row = grey_pictures(1)[0].model_copy(update={"prompt": "night", "correspondence": 20.0})
    several = [row.model_copy(update={"other_prompts": {"day": score}}) for score in (80.0, 30.0)]
    assert len({training.content_hash([each]) for each in (row, *several)}) == 3
    rows = [row.model_copy(update={"other_prompts": {"night": 90.0, "day": 80.0}}), row]
    recipe = recipe_for(internvl_folder, tmp_path, levels=False, dimensions=("correspondence",), answers=False)
    spec = train_judge(recipe, rows, rows, tmp_path / "judge")
    assert (spec.heads["correspondence"].low, spec.heads["correspondence"].high) == (20.0, 90.0)
    model, _ = load_judge(tmp_path / "judge", device=torch.device("cpu"))
    losses = training._Losses(model, spec, recipe, words=False)
    assert [score for _, _, score in losses._questions(rows[0], ["correspondence"])] == [20.0, 80.0]


def test_prompts_that_are_kept_for_testing_are_not_learnt_beside_another(tmp_path):
    names = [f"prompt {index}" for index in range(20)]
    rows = [
        JudgedPicture(image=f"{name}.png", prompt=name, other_prompts={other: 1.0 for other in names if other != name}) for name in names
    ]
    part = training.split(rows, recipe_for("unused", tmp_path))
    kept = {row.prompt for row in [*part.validation, *part.test]}
    assert len(kept) == 6
    for row in part.train:
        assert set(row.other_prompts) == set(names) - kept - {row.prompt}


@pytest.mark.parametrize("adapters", ["shared", "each"])
def test_a_training_that_was_cut_off_ends_like_one_that_was_not(internvl_folder, tmp_path, monkeypatch, adapters):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    rows = grey_pictures(16)
    recipe = recipe_for(internvl_folder, tmp_path, adapters=adapters)
    train_judge(recipe, rows, rows[:6], tmp_path / "whole")

    class Killed(Exception):
        pass

    def killer(limit):
        def report(done, total):
            if done == limit:
                raise Killed

        return report

    for limit in (1, 3, 5):
        with pytest.raises(Killed):
            train_judge(recipe, rows, rows[:6], tmp_path / "cut", progress=killer(limit))
    train_judge(recipe, rows, rows[:6], tmp_path / "cut")
    assert read_spec(tmp_path / "cut") == read_spec(tmp_path / "whole")
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_the_same_seed_gives_the_same_judge_and_another_seed_another(internvl_folder, tmp_path):
    rows = grey_pictures(12)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_judge(recipe_for(internvl_folder, tmp_path, seed=seed, levels=False), rows, rows[:6], tmp_path / name)
    first, second, third = ((tmp_path / name / WEIGHTS).read_bytes() for name in "abc")
    assert first == second != third


def test_two_processes_train_the_judge_that_one_trains(internvl_folder, tmp_path):
    rows = grey_pictures()
    for index, row in enumerate(rows):
        row.image.save(tmp_path / f"{index}.png")
    names = [{"image": f"{index}.png", "prompt": f"{row.prompt} {index}"} for index, row in enumerate(rows)]
    lines = [row.model_dump(mode="json", exclude={"image"}) | own for row, own in zip(rows, names, strict=True)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    tuned = 'brief = true\nhead = [8]\nrank = 2\nalpha = 4\nlr = 1e-2\nbatch_size = 8\nepochs = 2\nevaluations = 1\nprecision = "no"\n'
    found = {}
    for processes in (1, 2):
        recipe, out = tmp_path / f"{processes}.toml", tmp_path / f"judge-{processes}"
        recipe.write_text(f'backbone = "{internvl_folder}"\ndata = "data.jsonl"\nout = "{out}"\n{tuned}', encoding="utf-8")
        launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc_per_node", str(processes)]
        done = subprocess.run(
            [*launch, "-m", "vernissage", "train", "judge", str(recipe), "--all"],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("validation") == 1, "only one process tells"
        found[processes] = load_file(out / WEIGHTS)
    assert all(tensor.numpy() == pytest.approx(found[2][name].numpy(), abs=1e-4) for name, tensor in found[1].items())


def test_without_parts_the_backbone_stays_bare_and_only_heads_are_kept(internvl_folder, tmp_path):
    rows = grey_pictures(12)
    spec = train_judge(recipe_for(internvl_folder, tmp_path, parts=(), levels=False), rows, rows[:6], tmp_path / "judge")
    assert spec.adapters == {}
    model, _ = load_judge(tmp_path / "judge", device=torch.device("cpu"))
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_accumulated_gradients_give_the_step_of_the_whole_batch(internvl_folder, tmp_path):
    rows = [row.model_copy(update={"answers": {}}) for row in grey_pictures(16)]
    for name, accumulate in (("whole", 1), ("parts", 4)):
        changes = {"accumulate": accumulate, "levels": False, "epochs": 1, "evaluations": 1, "lr": 1e-4}
        train_judge(recipe_for(internvl_folder, tmp_path, **changes), rows, rows[:6], tmp_path / name)
    whole, parts = (TrainedJudge(str(tmp_path / name), device="cpu") for name in ("whole", "parts"))
    images = [row.open() for row in rows[:4]]
    for one, other in zip(*(judge.judge(images, ["day"] * 4, [[]] * 4) for judge in (whole, parts)), strict=True):
        assert one.perception.value == pytest.approx(other.perception.value, abs=1e-2)


def test_gradient_checkpointing_changes_memory_not_numbers(internvl_folder, tmp_path, monkeypatch):
    rows, real, passes = grey_pictures(12), transformers.modeling_utils.checkpoint, []
    monkeypatch.setattr(transformers.modeling_utils, "checkpoint", lambda *given, **options: passes.append(name) or real(*given, **options))
    for name, on in (("plain", False), ("checkpointed", True)):
        train_judge(recipe_for(internvl_folder, tmp_path, checkpointing=on, lr=1e-4), rows, rows[:6], tmp_path / name)
    assert set(passes) == {"checkpointed"}, "it was switched on"
    first, second = (TrainedJudge(str(tmp_path / name), device="cpu") for name in ("plain", "checkpointed"))
    images = [row.open() for row in rows[:3]]
    for one, other in zip(*(judge.judge(images, ["day"] * 3, [["day?"]] * 3) for judge in (first, second)), strict=True):
        assert one.perception.value == pytest.approx(other.perception.value, abs=1e-2)
        assert one.answers[0].yes.value == pytest.approx(other.answers[0].yes.value, abs=1e-3)


# ------------------------------------------------------------------------------------------------------------ faults


@pytest.fixture
def trained(internvl_folder, tmp_path):
    rows = grey_pictures(8)
    train_judge(recipe_for(internvl_folder, tmp_path, epochs=1, evaluations=1), rows, rows[:4], tmp_path / "judge")
    return tmp_path / "judge"


def test_a_dimension_without_two_different_scores_cannot_be_learnt(internvl_folder, tmp_path):
    rows = [row.model_copy(update={"correspondence": 50.0}) for row in grey_pictures(4)]
    with pytest.raises(BadInput, match="two different scores of correspondence"):
        train_judge(recipe_for(internvl_folder, tmp_path), rows, rows, tmp_path / "judge")


def test_a_folder_with_another_training_is_left_alone(internvl_folder, tmp_path, trained):
    rows = grey_pictures(8)
    with pytest.raises(BadInput, match="training of another recipe"):
        train_judge(recipe_for(internvl_folder, tmp_path, lr=1.0), rows, rows[:4], trained)


def test_a_training_is_not_gone_on_with_another_backbone(internvl_folder, tmp_path, trained):
    path = trained / "recipe.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(kept | {"backbone": "another"}), encoding="utf-8")
    rows = grey_pictures(8)
    with pytest.raises(BadInput, match="another backbone"):
        train_judge(recipe_for(internvl_folder, tmp_path, epochs=1, evaluations=1), rows, rows[:4], trained)


def test_a_training_of_an_older_version_that_kept_less_is_gone_on_with(internvl_folder, tmp_path, trained):
    path = trained / "recipe.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({name: value for name, value in kept.items() if name != "backbone"}), encoding="utf-8")
    rows = grey_pictures(8)
    train_judge(recipe_for(internvl_folder, tmp_path, epochs=1, evaluations=1), rows, rows[:4], trained)
    assert json.loads(path.read_text(encoding="utf-8")) == kept


def test_the_folds_of_another_recipe_are_not_taken_over(internvl_folder, tmp_path):
    rows = [row.model_copy(update={"prompt": f"prompt {index}"}) for index, row in enumerate(grey_pictures(12))]
    recipe = recipe_for(internvl_folder, tmp_path, folds=2, validation=0.5, epochs=1, evaluations=1, levels=False)
    folds = cross_validate(recipe, rows)
    assert cross_validate(recipe, rows) == folds
    with pytest.raises(BadInput, match="another recipe"):
        cross_validate(recipe.model_copy(update={"lr": 1.0}), rows)


def test_a_head_that_says_the_same_of_all_pictures_is_not_chosen_for_it(trained):
    spec = read_spec(trained)
    assert set(spec.heads) == {"perception", "correspondence"}
    assert Agreement(None, 0.8, 0.9).mean_of(spec) < Agreement(0.7, 0.8, 0.9).mean_of(spec)
    assert Agreement(0.6, 0.8, None).mean_of(spec.model_copy(update={"answers": None})) == pytest.approx(0.7)


def test_an_answer_that_is_no_number_is_not_peoples():
    rows = grey_pictures(2)
    said = [{"perception": 1.0, "correspondence": 1.0, 0: value} for value in (float("nan"), float(rows[1].answers["day?"]))]
    assert agreement_of(said, rows).accuracy == 0.5


def test_a_training_is_not_gone_on_with_other_pictures(internvl_folder, tmp_path, trained):
    rows = grey_pictures(8)
    recipe = recipe_for(internvl_folder, tmp_path, epochs=1, evaluations=1)
    changed = [rows[0].model_copy(update={"perception": 1.0}), *rows[1:]]
    for train, validation in ((changed, rows[:4]), (rows[1:], rows[:4]), (rows, rows[:3])):
        with pytest.raises(BadInput, match="another recipe, other pictures or another backbone"):
            train_judge(recipe, train, validation, trained)
    train_judge(recipe, rows, rows[:4], trained)


def test_a_judge_and_its_backbone_can_be_moved_together(internvl_folder, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(internvl_folder, tmp_path / "here" / "backbone")
    rows = grey_pictures(8)
    recipe = recipe_for(tmp_path / "here" / "backbone", tmp_path, epochs=1, evaluations=1)
    train_judge(recipe, rows, rows[:4], tmp_path / "here" / "judge")
    shutil.move(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir("/")
    assert TrainedJudge(str(tmp_path / "there" / "judge"), device="cpu").name == "judge"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_judge_is_known_again_whatever_number_type_it_is_used_in(trained, dtype):
    load_judge(trained, device=torch.device("cpu"), dtype=dtype)


def test_heads_work_in_full_precision_while_all_else_is_halved():
    from vernissage.judging.nn.model import Head
    from vernissage.judging.spec import HeadSpec

    head = Head(8, HeadSpec(adapter="", widths=(4,), center=50, spread=10, low=0, high=100))
    hidden = torch.randn(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(hidden), head(hidden.double().float()))
        assert head(hidden).dtype == torch.float32
        halved = head(hidden)
    assert torch.equal(halved, head(hidden))


def test_qwen_vl_can_learn_levels_though_its_projector_lies_in_its_eyes(qwen25_vl_folder, tmp_path):
    rows = grey_pictures(8)
    train_judge(recipe_for(qwen25_vl_folder, tmp_path, epochs=1, evaluations=1), rows, rows[:4], tmp_path / "judge")
    (verdict,) = TrainedJudge(str(tmp_path / "judge"), device="cpu").judge([rows[0].open()], ["day"], [["day?"]])
    assert isinstance(verdict.perception, Score)


def test_a_missing_picture_is_named(internvl_folder, tmp_path):
    rows = [*grey_pictures(4), JudgedPicture(image=tmp_path / "gone.png", perception=4.0)]
    with pytest.raises(BadInput, match=r"gone\.png"):
        train_judge(recipe_for(internvl_folder, tmp_path, epochs=5), rows, rows[:4], tmp_path / "judge")


@pytest.mark.parametrize("keep", [0, 100, -20])
def test_damaged_weights_are_refused(trained, keep):
    data = (trained / WEIGHTS).read_bytes()
    (trained / WEIGHTS).write_bytes(data[:keep])
    with pytest.raises(IntegrityError, match="damaged"):
        load_judge(trained, device=torch.device("cpu"))


def test_weights_that_are_not_finite_are_refused(trained):
    from safetensors.torch import load_file, save_file

    tensors = load_file(trained / WEIGHTS)
    tensors[next(iter(tensors))][:] = torch.nan
    save_file(tensors, trained / WEIGHTS)
    with pytest.raises(IntegrityError, match="not finite"):
        load_judge(trained, device=torch.device("cpu"))


def test_a_missing_tensor_a_surplus_one_and_a_wrong_shape_are_refused(trained):
    from safetensors.torch import load_file, save_file

    tensors = load_file(trained / WEIGHTS)
    name = min(tensors)
    cases = [
        ({k: v for k, v in tensors.items() if k != name}, "lack 1 tensors"),
        (tensors | {"more": torch.zeros(1)}, "have, unasked, 1 tensors"),
        (tensors | {name: torch.zeros(1)}, "not"),
    ]
    for changed, reason in cases:
        save_file(changed, trained / WEIGHTS)
        with pytest.raises(IntegrityError, match=reason):
            load_judge(trained, device=torch.device("cpu"))


def test_a_judge_of_another_backbone_is_refused(trained, internvl_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(internvl_folder, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    spec = json.loads((trained / SPEC).read_text())
    (trained / SPEC).write_text(json.dumps(spec | {"backbone": str(other)}))
    with pytest.raises(IntegrityError, match="another backbone"):
        load_judge(trained, device=torch.device("cpu"))


def test_a_judge_trained_on_other_words_is_refused(trained):
    spec = json.loads((trained / SPEC).read_text())
    spec["prompts"]["judging/answer"] = "0" * 16
    (trained / SPEC).write_text(json.dumps(spec))
    with pytest.raises(IntegrityError, match="other words of the prompt judging/answer"):
        load_judge(trained, device=torch.device("cpu"))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 2}'])
def test_a_description_with_a_mistake_is_refused(trained, text):
    (trained / SPEC).write_text(text)
    with pytest.raises(BadCard, match="mistake"):
        load_judge(trained, device=torch.device("cpu"))


def test_an_empty_folder_is_no_judge(tmp_path):
    with pytest.raises(BadCard, match="no judge"):
        load_judge(tmp_path, device=torch.device("cpu"))


def test_a_number_that_is_not_finite_becomes_unscored(trained):
    judge = TrainedJudge(str(trained), device="cpu")
    with torch.no_grad():
        judge._model.heads["perception"].layers[-1].bias.fill_(torch.nan)
    (verdict,) = judge.judge([Image.new("RGB", (32, 32))], ["day"], [["day?"]])
    assert verdict.perception.reason == "the judge's number is not finite"
    assert verdict.perception_level is None
    assert isinstance(verdict.correspondence, Score)


def test_one_picture_that_cannot_be_judged_does_not_take_the_others_with_it(trained, monkeypatch):
    judge = TrainedJudge(str(trained), device="cpu")
    real = training.score_batch

    def picky(model, spec, images, prompts, questions):
        if any(image.size == (7, 7) for image in images):
            raise RuntimeError("too odd\nwith details")
        return real(model, spec, images, prompts, questions)

    monkeypatch.setattr("vernissage.judging.nn.judge.score_batch", picky)
    odd, good = judge.judge([Image.new("RGB", (7, 7)), Image.new("RGB", (32, 32))], ["day", "day"], [["day?"], []])
    assert odd.perception.reason == odd.correspondence.reason == odd.answers[0].yes.reason == "judge could not judge it: too odd"
    assert isinstance(good.perception, Score)


def test_agreement_counts_only_what_both_said():
    rows = [JudgedPicture(image="x", perception=float(i), correspondence=None, answers={"a": i > 1}) for i in range(4)]
    said = [{"perception": 2.0 * i, "correspondence": 1.0, 0: 0.9} for i in range(4)]
    found = agreement_of(said, rows)
    assert found.perception == pytest.approx(1.0)
    assert found.correspondence is None
    assert found.accuracy == 0.5


def test_the_epoch_that_agrees_best_is_kept_not_the_last(internvl_folder, tmp_path, monkeypatch):
    said = iter([Agreement(0.9, 0.9, 0.9), Agreement(0.1, 0.1, 0.1)])
    monkeypatch.setattr(training, "agreement", lambda *_, **__: next(said))
    rows = grey_pictures(8)
    spec = train_judge(recipe_for(internvl_folder, tmp_path, levels=False), rows, rows[:4], tmp_path / "judge")
    assert (spec.trained["step"], spec.trained["validation"]["perception"]) == (1, 0.9)


def test_gradients_of_several_passes_are_as_long_as_those_of_one(internvl_folder, tmp_path, monkeypatch):
    lengths = []

    def measure(tensors, _most):
        lengths.append(sum(float(each.grad.norm()) ** 2 for each in tensors if each.grad is not None))
        return torch.tensor(1.0)

    monkeypatch.setattr(training.nn.utils, "clip_grad_norm_", measure)
    rows = [row.model_copy(update={"answers": {}}) for row in grey_pictures(8)]
    for accumulate in (1, 4):
        changes = {"accumulate": accumulate, "levels": False, "epochs": 1, "evaluations": 1}
        train_judge(recipe_for(internvl_folder, tmp_path, **changes), rows, rows[:6], tmp_path / str(accumulate))
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-3)
    assert lengths[0] > 0


def test_losses_are_the_distance_in_spreads_and_answers_by_their_weight(internvl_folder, tmp_path):
    rows = grey_pictures(6)
    recipe = recipe_for(internvl_folder, tmp_path, levels=False, epochs=1, evaluations=1, answer_weight=0.25)
    spec = train_judge(recipe, rows, rows, tmp_path / "judge")
    model, _ = load_judge(tmp_path / "judge", device=torch.device("cpu"))
    images = [row.open() for row in rows]
    found = training._Losses(model, spec, recipe, words=False)("shared", rows, images)
    apart = np.mean([abs(own["perception"] - row.perception) for own, row in zip(training.predict(model, spec, rows), rows, strict=True)])
    assert found["perception"].item() == pytest.approx(apart / spec.heads["perception"].spread, rel=1e-3)
    whole = training._Losses(model, spec, recipe.model_copy(update={"answer_weight": 1.0}), words=False)("shared", rows, images)
    assert found["words"].item() == pytest.approx(whole["words"].item() / 4, rel=1e-4)


def test_pictures_are_told_from_others_by_every_opinion():
    row = JudgedPicture(image="x.png", perception=1.0, correspondence=2.0, answers={"a": True})
    changes = ({"perception": 9.0}, {"correspondence": 9.0}, {"answers": {"a": False}}, {"prompt": "p"})
    assert len({training.content_hash([row]), *(training.content_hash([row.model_copy(update=each)]) for each in changes)}) == 5


def test_a_judge_that_lies_there_already_is_not_taken_for_what_was_trained(internvl_folder, tmp_path, trained):
    (trained / "recipe.json").unlink()
    before = (trained / "judge.safetensors").read_bytes()
    rows = grey_pictures(8)
    with pytest.raises(BadInput, match="not trained there"):
        train_judge(recipe_for(internvl_folder, tmp_path, epochs=1, evaluations=1), rows, rows[:4], trained)
    assert (trained / "judge.safetensors").read_bytes() == before


def test_a_correspondence_to_no_prompt_is_nothing_to_learn_from(internvl_folder, tmp_path):
    rows = [row.model_copy(update={"prompt": None, "correspondence": float(index)}) for index, row in enumerate(grey_pictures(8))]
    with pytest.raises(BadInput, match="two different scores of correspondence"):
        train_judge(recipe_for(internvl_folder, tmp_path), rows, rows, tmp_path / "judge")


def test_a_recipe_that_learns_nothing_is_refused(internvl_folder, tmp_path):
    rows = grey_pictures(8)
    with pytest.raises(BadInput, match="nothing to learn"):
        train_judge(recipe_for(internvl_folder, tmp_path, dimensions=(), answers=False), rows, rows, tmp_path / "judge")


def test_every_epoch_goes_through_all_pictures(internvl_folder, tmp_path):
    rows, steps = grey_pictures(9), []
    recipe = recipe_for(internvl_folder, tmp_path, epochs=5, batch_size=8, evaluations=1, levels=False)
    train_judge(recipe, rows, rows[:4], tmp_path / "judge", progress=lambda *each: steps.append(each))
    assert steps[-1] == (10, 10)


def test_a_batch_in_pieces_is_learnt_from_as_a_whole_whatever_ratings_are_missing(internvl_folder, tmp_path):
    rows = [row if index in (1, 6) else row.model_copy(update={"perception": None}) for index, row in enumerate(grey_pictures(8))]
    logs = []
    for accumulate in (1, 4):
        folder = tmp_path / f"judge-{accumulate}"
        recipe = recipe_for(internvl_folder, tmp_path, epochs=1, evaluations=1, batch_size=8, levels=False, accumulate=accumulate)
        train_judge(recipe, rows, rows[:4], folder)
        (line,) = (folder / "training" / "scores" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        logs.append(json.loads(line))
    for name in ("perception", "correspondence", "words"):
        assert logs[1][name] == pytest.approx(logs[0][name], rel=1e-4), name


def test_a_training_that_runs_away_ends_and_leaves_no_judge(internvl_folder, tmp_path):
    rows = grey_pictures(8)
    recipe = recipe_for(internvl_folder, tmp_path, lr=1e30, epochs=8, evaluations=8)
    with pytest.raises(BadInput, match="run away"):
        train_judge(recipe, rows, rows[:4], tmp_path / "judge")
    if (tmp_path / "judge" / "judge.json").exists():
        load_judge(tmp_path / "judge", device=torch.device("cpu"))  # what was saved before is whole
