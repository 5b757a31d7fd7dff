"""`vernissage train judge`, `train planner` and `zoo import-judge` on tiny checkpoints: what is trained, printed, resumed, refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from vernissage.judging.spec import WEIGHTS
from vernissage.records.table import read_rows
from vernissage.zoo.catalogue import package_folder

SAID = ("perception", "correspondence", "answers")


@pytest.fixture
def recipe(tmp_path, internvl_folder):
    rng = np.random.default_rng(0)
    lines = []
    for index, light in enumerate(rng.integers(0, 256, 30).tolist()):
        Image.new("RGB", (32, 32), (light, light, light)).save(tmp_path / f"{index}.png")
        row = {"image": f"{index}.png", "prompt": f"a grey square {index}", "perception": light / 2.55}
        row |= {"correspondence": float(rng.integers(100)), "answers": {"Is it bright?": light > 127}}
        lines.append(json.dumps(row) + "\n")
    (tmp_path / "ratings.jsonl").write_text("".join(lines), encoding="utf-8")
    path = tmp_path / "judge.toml"
    path.write_text(
        f'backbone = "{internvl_folder}"\ndata = "ratings.jsonl"\nout = "trained"\nbrief = true\nhead = [4]\nrank = 2\nalpha = 4\n'
        'lr = 0.01\nepochs = 1\nevaluations = 1\nfolds = 3\nvalidation = 0.25\nprecision = "no"\n',
        encoding="utf-8",
    )
    return path


def test_a_recipe_becomes_a_judge_that_is_measured_on_prompts_it_never_saw_and_can_be_used(run, recipe, tmp_path):
    code, out, err = run("train", "judge", recipe)
    assert code == 0, err
    validation, *tests, folder = out.splitlines()
    assert validation.startswith("validation, 5 pictures: SRCC perception ")
    assert [line.split(":")[0] for line in tests[:3]] == ["test, perception", "test, correspondence", "test, answers"]
    assert tests[0].endswith("n = 10")
    assert [Path(line) for line in tests[3:]] == [tmp_path / "trained/test" / f"{name}.csv" for name in SAID]
    assert Path(folder) == tmp_path / "trained"
    (tmp_path / "vernissage.toml").write_text('judge = { driver = "trained", model = "./trained" }\n', encoding="utf-8")
    code, out, err = run("judge", "0.png", "--prompt", "a grey square", "--ask", "Is it bright?")
    assert code == 0, err
    assert "judged by trained" in err
    assert "unscored" not in out
    code, again, _ = run("train", "judge", recipe)
    assert (code, again.splitlines()) == (0, [validation, *tests, folder]), "a finished training is only measured again"


def test_cross_validation_judges_every_picture_once_and_resumes_with_the_same_numbers(run, recipe, tmp_path):
    code, out, err = run("train", "judge", recipe, "--cross-validate")
    assert code == 0, err
    lines = out.splitlines()
    told = [(place, dimension) for place in ("fold 0", "fold 1", "fold 2", "all folds") for dimension in SAID]
    assert [tuple(line.partition(":")[0].split(", ")) for line in lines[:12]] == told
    assert [line.rpartition(", ")[2] for line in lines[:12]] == ["n = 10"] * 9 + ["n = 30"] * 3
    rows = {name: [row for _, row in read_rows(tmp_path / "trained" / f"{name}.csv", "predictions", ("image", "score"))] for name in SAID}
    assert {name: sorted(int(row["image"].removesuffix(".png")) for row in own) for name, own in rows.items()} == {
        name: list(range(30)) for name in SAID
    }
    assert all(
        float(row["people"]) == pytest.approx(np.asarray(Image.open(tmp_path / row["image"])).mean() / 2.55) for row in rows["perception"]
    )
    ranks = stats.spearmanr(*([float(row[name]) for row in rows["perception"]] for name in ("score", "people"))).statistic
    assert lines[9].startswith(f"all folds, perception: SRCC {ranks:.3f} [")
    before = (tmp_path / "trained" / "fold-0" / WEIGHTS).stat().st_mtime_ns
    (tmp_path / "trained" / "fold-2" / "predictions.jsonl").unlink()  # as if it had been cut off there
    code, again, _ = run("train", "judge", recipe, "--cross-validate")
    assert again == out
    assert (tmp_path / "trained" / "fold-0" / WEIGHTS).stat().st_mtime_ns == before


def test_all_prompts_can_be_learnt_from(run, recipe):
    code, out, err = run("train", "judge", recipe, "--all")
    assert code == 0, err
    assert [line.partition(",")[0] for line in out.splitlines()][:1] == ["validation"]
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rank = 2": "rank = 0"}, "'rank'"),
        ({"rank = 2": "ranks = 2"}, "unknown key 'ranks'"),
        ({"folds = 3": "folds = 3\nfold = 3"}, "holds out fold 3 of 3"),
        ({"folds = 3": "folds = 300"}, "30 prompts cannot be split into 300 folds"),
        ({"ratings.jsonl": "none.jsonl"}, "none.jsonl"),
        ({"epochs = 1": "epochs ="}, "not valid TOML"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_with_the_fix(run, recipe, change, told):
    text = recipe.read_text(encoding="utf-8")
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    recipe.write_text(text, encoding="utf-8")
    code, out, err = run("train", "judge", recipe)
    assert (code, out) == (2, "")
    assert told in err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"image": "0.png", "perception": NaN}', "line 1: 'perception'"),
        ('{"image": "0.png", "perception": 1e999}', "line 1: 'perception'"),
        ('{"perception": 3}', "line 1: 'image'"),
        ('{"image": "0.png", "stars": 3}', "unknown key 'stars'"),
        ("nonsense", "line 1 is no JSON"),
        ("", "no judged pictures"),
    ],
)
def test_ratings_with_a_mistake_are_refused_with_their_line(run, recipe, tmp_path, line, told):
    (tmp_path / "ratings.jsonl").write_text(line + "\n", encoding="utf-8")
    code, _, err = run("train", "judge", recipe)
    assert code == 2
    assert told in err


def test_all_and_cross_validate_exclude_each_other(run, recipe):
    code, _, err = run("train", "judge", recipe, "--all", "--cross-validate")
    assert code == 2
    assert "Give one of the two" in err


def test_an_import_of_what_is_no_judge_is_refused(run, internvl_folder, tmp_path):
    code, _, err = run("zoo", "import-judge", internvl_folder, tmp_path / "out", "--dimension", "perception")
    assert code == 2
    assert "InternVLChat" in err


# ------------------------------------------------------------------------------------------------------------ planners


@pytest.fixture
def planner_recipe(tmp_path, internvl_folder):
    lines = []
    for number in range(6):
        thing, model = (("cat", "mini/neon"), ("dog", "mini/sketch"))[number % 2]
        query = {"id": str(number), "chat": {"turns": [{"text": f"{thing} {number}"}]}}
        lines.append(json.dumps(query | {"plan": {"prompt": f"a {thing}", "model": model, "arguments": {"steps": 8}}}) + "\n")
    (tmp_path / "queries.jsonl").write_text("".join(lines), encoding="utf-8")
    path = tmp_path / "planner.toml"
    path.write_text(
        f'kind = "evo"\nbackbone = "{internvl_folder}"\ndata = "queries.jsonl"\nout = "trained"\nbrief = true\nrank = 2\nalpha = 4\n'
        'lr = 0.01\nepochs = 2\nbatch_size = 3\nprecision = "no"\ntoken_lr = 0.1\ntoken_weight_decay = 0.0\ntoken_epochs = 40\n',
        encoding="utf-8",
    )
    return path


def test_a_recipe_becomes_a_planner_that_paint_can_use(run, planner_recipe, tmp_path):
    code, out, err = run("train", "planner", planner_recipe)
    assert code == 0, err
    about, tokens, folder = out.splitlines()
    assert about == "planner: evo, 6 queries, 2 models"
    assert tokens.startswith("ModelTokens: loss ")
    assert tokens.endswith("right on 100.0% of the training queries")
    assert Path(folder) == tmp_path / "trained"
    code, out, err = run("paint", "--planner", "trained", "--prompt", "a cat", "cat 0", "--plan-only", "--seed", "5")
    if code:  # arguments that a tiny model does not bring to an end
        assert "did not end its arguments" in err
    else:
        assert json.loads(out)["prompt"] == "a cat"
        assert json.loads(out)["model"] == "mini/neon"
    code, again, _ = run("train", "planner", planner_recipe)
    assert (code, again.splitlines()) == (0, [about, tokens, folder]), "a finished training is only said again"


def test_models_without_a_card_are_counted_because_later_ones_cannot_be_chosen_then(run, planner_recipe, tmp_path):
    (tmp_path / "cards").mkdir()
    shutil.copy(package_folder("mini") / "cards" / "neon.toml", tmp_path / "cards")
    planner_recipe.write_text(planner_recipe.read_text(encoding="utf-8") + 'cards = "cards"\n', encoding="utf-8")
    code, _, err = run("train", "planner", planner_recipe)
    assert code == 0, err
    assert "1 of 2 models have no card in `cards`" in err


def test_base_has_no_model_tokens_to_tell_of(run, planner_recipe):
    planner_recipe.write_text(planner_recipe.read_text(encoding="utf-8").replace('"evo"', '"base"'), encoding="utf-8")
    code, out, err = run("train", "planner", planner_recipe)
    assert code == 0, err
    assert out.splitlines()[0] == "planner: base, 6 queries"
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rank = 2": "rank = 0"}, "'rank'"),
        ({"rank = 2": "ranks = 2"}, "unknown key 'ranks'"),
        ({'"evo"': '"eva"'}, "'kind'"),
        ({'kind = "evo"\n': ""}, "'kind'"),
        ({"queries.jsonl": "none.jsonl"}, "none.jsonl"),
        ({"epochs = 2": "epochs ="}, "not valid TOML"),
        ({"epochs = 2": "epochs = 0"}, "'epochs'"),
    ],
)
def test_a_planners_recipe_with_a_mistake_is_refused_with_the_fix(run, planner_recipe, tmp_path, change, told):
    text = planner_recipe.read_text(encoding="utf-8")
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    planner_recipe.write_text(text, encoding="utf-8")
    code, out, err = run("train", "planner", planner_recipe)
    assert (code, out) == (2, "")
    assert told in err
    assert not (tmp_path / "trained").exists()


def test_a_planner_of_another_recipe_in_the_same_folder_is_refused(run, planner_recipe):
    assert run("train", "planner", planner_recipe).code == 0
    planner_recipe.write_text(planner_recipe.read_text(encoding="utf-8").replace("rank = 2", "rank = 3"), encoding="utf-8")
    code, _, err = run("train", "planner", planner_recipe)
    assert code == 2
    assert "another recipe" in err


@pytest.mark.parametrize("command", ["paint", "chat"])
def test_an_unknown_planner_is_named_with_those_there_are(run, monkeypatch, tmp_path, command):
    monkeypatch.setattr("vernissage.api.load_driver", lambda *_, **__: pytest.fail("a driver was loaded"))
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(command, "--planner", "no-such-folder", *(["a cat"] if command == "paint" else []))
    assert (code, out) == (2, "")
    assert "There is no planner 'no-such-folder'" in err
    for known in ("mllm", "evo", "base", "folder of a trained one"):
        assert known in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_holds_no_planner_is_named(run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run("paint", "--planner", "empty", "a cat", "--plan-only")
    assert code == 2
    assert "There is no planner in empty" in err


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("lr = 0.01", "lr = inf", "'lr'"),
        ("epochs = 1", "epochs = inf", "'epochs'"),
        ("head = [4]", "head = [-1]", "'head"),
        ("rank = 2", "rank = 2\nseed = -1", "'seed'"),
    ],
)
def test_a_number_that_nothing_can_be_trained_with_is_refused(run, recipe, old, new, told):
    recipe.write_text(recipe.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    code, _, err = run("train", "judge", recipe)
    assert (code, told in err) == (2, True), err


def test_a_training_whose_memory_is_damaged_says_which_file_to_delete(run, recipe, tmp_path):
    assert run("train", "judge", recipe)[0] == 0
    kept = tmp_path / "trained" / "recipe.json"
    text = kept.read_text(encoding="utf-8")
    for damaged in (text[:-20], "[]"):
        kept.write_text(damaged, encoding="utf-8")
        code, _, err = run("train", "judge", recipe)
        assert (code, f"{kept} is damaged" in err) == (1, True), err
    kept.write_text(text, encoding="utf-8")
    (state, *_) = sorted((tmp_path / "trained").rglob("state.pt"))
    state.write_bytes(b"nothing")
    for weights in (tmp_path / "trained").glob("judge.*"):
        weights.unlink()
    code, _, err = run("train", "judge", recipe)
    assert (code, "state.pt of a training is damaged. Delete it" in err) == (1, True), err


def test_a_training_is_not_gone_on_with_when_a_picture_was_exchanged(run, recipe, tmp_path):
    assert run("train", "judge", recipe)[0] == 0
    Image.new("RGB", (40, 40), "red").save(tmp_path / "7.png")
    code, _, err = run("train", "judge", recipe)
    assert (code, "other pictures" in err) == (2, True), err
