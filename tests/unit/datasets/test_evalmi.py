"""EvalMi-50K: read from files of the authors' form, and from the real ones where they are at hand."""

import json
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openpyxl
import pytest

from vernissage.bench.evalmi import accuracy_table, human_leaderboard, judge_table, model_ranking, read_answers, read_predictions
from vernissage.bench.plots import bars, radar
from vernissage.cli import main
from vernissage.datasets.evalmi import DIMENSIONS, TASKS, folds, load_evalmi, task_of
from vernissage.errors import BadInput
from vernissage.metrics.interval import Estimate
from vernissage.records.table import read_rows

REAL = Path(__file__).parents[4] / "shared" / "data" / "evalmi-50k"
TAGS = ["single_class", "counting", "color_attr + detail", "style + OCR + color"]


def write_folder(folder, *, change=None):
    """Three models, four prompts; opinions that are easy to compute by hand."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"tag": tag, "prompt": f"prompt {number}"}) for number, tag in enumerate(TAGS, start=1)]
    (folder / "prompt_tasks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    questions, opinions = openpyxl.Workbook(), openpyxl.Workbook()
    questions.active.append(["prompt", "question_1", "question_2", "question_3", "question_4", "question_5"])
    for number in range(1, 5):
        first, *further = (
            ("Are both so? Answer yes or no.", "Is it?Answer yes or no.And that?Answer yes or no.")
            if number == 4
            else ("Is it? Answer yes or no.",)
        )
        questions.active.append([f"prompt {number}", first, *further])
    opinions.active.append(["ImageName", "MOS1", "MOS2", "Y/N", "YN_1", "YN_2", "YN_3", "YN_4"])
    for model, mean in (("good", 70), ("fair", 50), ("poor", 30)):
        for number in range(1, 5):
            row = [f"{model}/{number:03d}.png", mean + number, 100 - mean - number, int(mean > 40)]
            opinions.active.append(row + ([1, 0] if number == 4 else []))
    if change:
        change(opinions.active)
    questions.save(folder / "question.xlsx")
    opinions.save(folder / "AIGI2025_MOS_yn.xlsx")
    return folder


def test_the_authors_files_become_one_table(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    assert data.models == ("good", "fair", "poor")
    assert [(prompt.task, prompt.detailed) for prompt in data.prompts] == [
        ("single class", False),
        ("counting", False),
        ("colours", True),
        ("complex", False),
    ]
    assert data.opinions["perception"][0].tolist() == [71, 72, 73, 74]
    assert data.opinions["correspondence"][2].tolist() == [69, 68, 67, 66]
    assert data.prompts[0].questions == ("Is it? Answer yes or no.",)
    assert data.prompts[3].questions == ("Are both so? Answer yes or no.", "Is it?Answer yes or no.", "And that?Answer yes or no.")
    assert data.answers[1, 3] == pytest.approx([1, 1, 0, np.nan, np.nan], nan_ok=True), "Y/N, YN_1, YN_2"
    assert data.answers[2, 0, 0] == 0


def test_the_leaderboard_ranks_by_mean_and_says_how_sure_the_ranks_are(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    places = human_leaderboard(data, "perception")
    assert [(place.model, place.estimate.value, place.rank, place.rank_low, place.rank_high) for place in places] == [
        ("good", 72.5, 1, 1, 1),
        ("fair", 52.5, 2, 2, 2),
        ("poor", 32.5, 3, 3, 3),
    ]
    assert human_leaderboard(data, "correspondence", "counting")[0].model == "poor"
    data.opinions["perception"][1] = data.opinions["perception"][0][::-1]
    assert {(place.rank_low, place.rank_high) for place in human_leaderboard(data, "perception")[:2]} == {(1, 2)}
    with pytest.raises(BadInput, match="beauty"):
        human_leaderboard(data, "beauty")


def test_a_judge_is_measured_on_what_it_scored_and_the_rest_is_counted(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    lines = ["image,score"]
    for index, model in enumerate(data.models):
        for number in range(1, 5):
            lines.append(
                f"{model}/{number:03d}.png,{'' if (index, number) == (0, 1) else data.opinions['perception'][index, number - 1] / 7}"
            )
    (tmp_path / "scores.csv").write_text("\n".join(lines), encoding="utf-8")
    scores = read_predictions(tmp_path / "scores.csv", data)["scores"]
    rows = {row.task: row for row in judge_table(data, scores, "perception")}
    assert rows["all"].srcc == pytest.approx((1, 1, 1, 11))
    assert rows["all"].plcc == pytest.approx((1, 1, 1, 11))
    assert (rows["all"].n, rows["all"].asked) == (11, 12)
    assert (rows["single class"].srcc, rows["single class"].n, rows["single class"].asked) == (None, 2, 3)
    ranking = model_ranking(data, scores, "perception")
    assert ranking.srcc == pytest.approx(1)
    assert ranking.relative_rmse == pytest.approx(0, abs=1e-9)


def test_a_table_of_scores_is_a_judge_for_every_column_of_numbers(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    lines = ["image,group,clipscore,ssim,unscored", "somewhere/good/001.png,,0.25,,no reference", "somewhere/poor/004.png,,0.5,0.75,"]
    (tmp_path / "scores.csv").write_text("\n".join(lines), encoding="utf-8")
    scores = read_predictions(tmp_path / "scores.csv", data)
    assert list(scores) == ["clipscore", "ssim"]
    assert scores["clipscore"][0, 0] == 0.25
    assert scores["ssim"][2, 3] == 0.75
    assert (np.count_nonzero(~np.isnan(scores["clipscore"])), np.count_nonzero(~np.isnan(scores["ssim"]))) == (2, 1)
    (tmp_path / "none.csv").write_text("image,why\ngood/001.png,nobody knows\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"none\.csv has no scores"):
        read_predictions(tmp_path / "none.csv", data)


def test_the_command_puts_judges_side_by_side_with_intervals_and_keeps_the_table(tmp_path, capsys):
    data = load_evalmi(write_folder(tmp_path))
    names = [(index, model, number) for index, model in enumerate(data.models) for number in range(1, 5)]
    for name, sign in (("bad", -1), ("fine", 1)):
        lines = [f"{model}/{number:03d}.png,{sign * data.opinions['correspondence'][index, number - 1]}" for index, model, number in names]
        (tmp_path / f"{name}.csv").write_text("\n".join(["image,score", *lines]), encoding="utf-8")
    asked = ["bench", "evalmi", "--data", str(tmp_path), "--dimension", "correspondence", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--predictions", str(tmp_path / "bad.csv"), "--predictions", str(tmp_path / "fine.csv")])
    assert not ended.value.code
    shown = capsys.readouterr().out.splitlines()
    judges = [line.replace("│", " ").split()[:4] for line in shown if line.startswith(("│ fine ", "│ bad "))]
    assert judges == [["fine", "1.000", "[1.000,", "1.000]"], ["bad", "-1.000", "[-1.000,", "-1.000]"]], "best first"
    assert "fine, ranking of the 3 models: SRCC 1.000, relative RMSE 0.000" in shown
    rows = read_rows(tmp_path / "out" / "correspondence-judges.csv", "judges", ("judge", "task", "srcc_low"))
    assert [(row["judge"], row["srcc"], row["scored"]) for _, row in rows if row["task"] == "all"] == [
        ("bad", "-1.0", "12"),
        ("fine", "1.0", "12"),
    ]
    assert "fine" in (tmp_path / "out" / "correspondence-judges.svg").read_text(encoding="utf-8")


def test_a_judges_answers_are_counted_question_by_question(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    lines = [
        "image,score,question",
        "good/001.png,0.9,",
        "poor/001.png,0.8,1",
        "good/004.png,1,1",
        "good/004.png,0.6,2",
        "good/004.png,0.2,3",
    ]
    (tmp_path / "answers.csv").write_text("\n".join(lines), encoding="utf-8")
    rows = {row.task: row for row in accuracy_table(data, read_answers(tmp_path / "answers.csv", data))}
    assert rows["single class"].accuracy.value == 0.5, "people said yes of good, no of poor"
    assert (rows["complex"].accuracy.value, rows["complex"].n, rows["complex"].asked) == (1.0, 3, 9)
    assert (rows["all"].accuracy.value, rows["all"].n, rows["all"].asked) == (0.8, 5, 18)
    assert (rows["counting"].accuracy, rows["counting"].n) == (None, 0)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("good/001.png,1.5,1", "1.5 is no probability"),
        ("good/001.png,1,2", "has no question '2'"),
        ("good/004.png,1,first", "has no question 'first'"),
        ("good/004.png,1,3\ngood/004.png,0,3", "line 3: good/004.png is there twice"),
    ],
)
def test_a_bad_line_of_answers_is_named(tmp_path, line, complaint):
    data = load_evalmi(write_folder(tmp_path))
    (tmp_path / "answers.csv").write_text(f"image,score,question\n{line}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=complaint):
        read_answers(tmp_path / "answers.csv", data)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("best/001.png,1", "line 2: 'best/001.png' is no picture"),
        ("good/009.png,1", "line 2"),
        ("good/001.png,high", "'high', not a number"),
        ("good/001.png,nan", "score is 'nan'"),
        ("good/001.png,1\ngood/001.png,2", "line 3: good/001.png is there twice"),
    ],
)
def test_a_bad_line_of_predictions_is_named(tmp_path, line, complaint):
    data = load_evalmi(write_folder(tmp_path))
    (tmp_path / "scores.csv").write_text(f"image,score\n{line}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=complaint):
        read_predictions(tmp_path / "scores.csv", data)


def test_a_damaged_folder_is_told_by_file_and_row(tmp_path):
    with pytest.raises(BadInput, match=r"AIGI2025_MOS_yn.xlsx is not in"):
        load_evalmi(tmp_path)
    write_folder(tmp_path, change=lambda sheet: sheet.append(["somewhere", 1, 1, 1]))
    with pytest.raises(BadInput, match="row 14: 'somewhere'"):
        load_evalmi(tmp_path)
    write_folder(tmp_path, change=lambda sheet: sheet.append(["good/001.png", 1, "high", 1]))
    with pytest.raises(BadInput, match=r"row 14: good/001.png has an opinion that is no number"):
        load_evalmi(tmp_path)
    write_folder(tmp_path, change=lambda sheet: sheet.append(["good/001.png", 1, 1, 1, 0]))
    with pytest.raises(BadInput, match="row 14: the answers do not fit 1 questions"):
        load_evalmi(tmp_path)
    write_folder(tmp_path)
    (tmp_path / "prompt_tasks.jsonl").write_text('{"tag": "scene", "prompt": "a"}\n{"tag": "sce', encoding="utf-8")
    with pytest.raises(BadInput, match=r"prompt_tasks.jsonl, line 2"):
        load_evalmi(tmp_path)
    write_folder(tmp_path)
    (tmp_path / "question.xlsx").write_bytes(b"PK")
    with pytest.raises(BadInput, match="no Excel workbook"):
        load_evalmi(tmp_path)
    with pytest.raises(BadInput, match="no task"):
        task_of("dancing")


def test_bars_of_what_is_below_zero_go_to_the_left_of_its_line():
    rows = {"good": Estimate(0.6, 0.5, 0.7, 9), "bad": Estimate(-0.2, -0.3, 0.1, 9)}
    svg = bars(rows, "SRCC", digits=2)
    zero = 170 + 480 * 0.3 / 1.0
    assert f'<rect x="{zero:.1f}" y="32" width="{480 * 0.6:.1f}"' in svg
    assert f'<rect x="{zero - 480 * 0.2:.1f}" y="52" width="{480 * 0.2:.1f}"' in svg
    assert f'<path d="M170.0 59H{zero + 480 * 0.1:.1f}"' in svg, "its interval reaches both ways"
    assert f'<path d="M{zero:.1f} 26V70"' in svg
    assert 'stroke="#888"' not in bars({"good": rows["good"]}, "SRCC")


def test_plots_name_every_model_and_task(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    places = human_leaderboard(data, "perception")
    svg = bars({place.model: place.estimate for place in places}, "a < b")
    assert all(model in svg for model in data.models)
    assert "a &lt; b" in svg
    assert all(task in radar({"good": [1.0] * len(TASKS)}, TASKS, "t") for task in TASKS)


real = pytest.mark.skipif(not REAL.is_dir(), reason="the authors' files are not at hand")


@pytest.fixture(scope="module")
def data():
    return load_evalmi(REAL)


@real
def test_the_real_means_are_those_of_a_plain_computation_and_of_the_paper(data):
    book = openpyxl.load_workbook(REAL / "AIGI2025_MOS_yn.xlsx", read_only=True)
    rows = list(book.active.iter_rows(values_only=True))[1:]
    book.close()
    assert len(data.models) == 24
    assert len(data.prompts) == 2100
    for column, dimension in enumerate(DIMENSIONS, start=1):
        plain = {model: statistics.fmean(row[column] for row in rows if row[0].startswith(f"{model}/")) for model in data.models}
        ours = {place.model: place.estimate.value for place in human_leaderboard(data, dimension, draws=10)}
        assert ours == pytest.approx(plain)
    perception = [(place.model, round(place.estimate.value, 1)) for place in human_leaderboard(data, "perception", draws=10)]
    assert perception[:3] == [("playground", 61.6), ("Kolors", 61.1), ("Infinity", 60.9)]
    assert perception[-1] == ("LWM", 28.9)
    best = human_leaderboard(data, "correspondence", draws=10)[0]
    assert (best.model, round(best.estimate.value, 1)) == ("sd3_5_large", 58.4)


@real
def test_real_answers_belong_to_their_questions(data):
    asked = np.array([len(prompt.questions) for prompt in data.prompts])
    assert np.bincount(asked).tolist() == [0, 1918, 0, 29, 93, 60]
    assert ((~np.isnan(data.answers)).sum(axis=2) == asked).all()
    several = data.answers[:, asked > 1]
    assert (several[..., 0] == data.opinions["accuracy"][:, asked > 1]).all()
    # "Are … all correct?" is answered yes where all the others are, but for a few in a hundred: every vote has a majority of its own.
    assert (several[..., 0] == np.nanmin(several[..., 1:], axis=2)).mean() > 0.95


@real
def test_real_folds_hold_every_prompt_once_and_every_task_evenly(data):
    parts = folds(data)
    assert sorted(np.concatenate(parts).tolist()) == list(range(2100))
    for task in TASKS:
        shares = [sum(data.prompts[index].task == task for index in part) for part in parts]
        assert max(shares) - min(shares) <= 1
    assert [part.tolist() for part in folds(data)] == [part.tolist() for part in parts]


def test_one_half_is_no_yes_and_the_ranking_error_is_a_share_of_peoples_range():
    answers = np.array([[[0.0], [0.0]]])
    data = SimpleNamespace(rows=lambda task: np.arange(2), answers=answers, models=("a",), opinions={})
    assert accuracy_table(data, np.full(answers.shape, 0.5))[0].accuracy.value == 1
    opinions = {"perception": np.array([[10.0, 10], [20, 20], [60, 60]])}
    data = SimpleNamespace(rows=lambda task: np.arange(2), answers=answers, models=("a", "b", "c"), opinions=opinions)
    line = np.array([5.0, 30, 55])  # the straight line nearest to people's means
    expected = np.sqrt(((line - [10, 20, 60]) ** 2).mean()) / 50
    assert model_ranking(data, np.array([[1.0, 1], [2, 2], [3, 3]]), "perception").relative_rmse == pytest.approx(expected)


def test_ranks_are_told_for_nineteen_in_twenty_samples(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    noise = np.random.default_rng(0).normal(size=(2, 400))
    noise = (noise - noise.mean(axis=1, keepdims=True)) / noise.std(axis=1, keepdims=True)
    apart = 1.3 * np.std(noise[0] - noise[1]) / 20  # of the samples' means' differences: one in ten turns the two
    opinions = {"perception": np.stack([50 + noise[0], 50 + apart + noise[1], np.full(400, 80.0)])}
    prompts = data.prompts[:1] * 400
    (first, second, third) = human_leaderboard(data._replace(opinions=data.opinions | opinions, prompts=prompts), "perception")
    assert (first.rank_low, first.rank_high) == (1, 1)
    assert {(place.rank_low, place.rank_high) for place in (second, third)} == {(2, 3)}, "more than one sample in forty"


def test_a_judge_of_some_models_alone_is_measured_and_only_its_ranking_is_refused(tmp_path, capsys):
    data = load_evalmi(write_folder(tmp_path))
    lines = [f"good/{number:03d}.png,{data.opinions['perception'][0, number - 1]}" for number in range(1, 5)]
    (tmp_path / "some.csv").write_text("\n".join(["image,score", *lines]), encoding="utf-8")
    asked = ["bench", "evalmi", "--data", str(tmp_path), "--predictions", str(tmp_path / "some.csv")]
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--task", "counting"])
    assert not ended.value.code
    with pytest.raises(SystemExit) as ended:
        main(asked)
    told = capsys.readouterr()
    assert not ended.value.code
    assert "1.000 [1.000, 1.000]" in told.out
    assert "models: - (No picture of fair is scored" in told.out


def test_of_metrics_of_which_lower_is_better_the_negative_is_measured(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    (tmp_path / "scores.csv").write_text("image,niqe,clipscore,own\ngood/001.png,5,30,7\n", encoding="utf-8")
    found = read_predictions(tmp_path / "scores.csv", data)
    assert {name: scores[0, 0] for name, scores in found.items()} == {"niqe": -5, "clipscore": 30, "own": 7}


def test_an_answer_goes_to_the_question_that_was_asked_whatever_its_number(tmp_path):
    """The table of held-out answers numbers those that people answered; one that they left out would shift the others."""
    data = load_evalmi(write_folder(tmp_path))
    third = data.prompts[3].questions[2]
    (tmp_path / "a.csv").write_text(f'image,question,asked,score\ngood/004.png,2,"{third}",0.9\n', encoding="utf-8")
    answers = read_answers(tmp_path / "a.csv", data)
    assert answers[0, 3, 2] == 0.9
    assert np.isnan(answers[0, 3, :2]).all()


def test_judges_of_one_name_are_told_apart_by_their_files(tmp_path, capsys):
    data = load_evalmi(write_folder(tmp_path))
    files = []
    for folder, sign in (("a", 1), ("b", -1), ("c", 1)):
        lines = [f"good/{number:03d}.png,{sign * data.opinions['perception'][0, number - 1]}" for number in range(1, 5)]
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "perception.csv").write_text("\n".join(["image,score", *lines]), encoding="utf-8")
        files += ["--predictions", str(tmp_path / folder / "perception.csv")]
    with pytest.raises(SystemExit) as ended:
        main(["bench", "evalmi", "--data", str(tmp_path), *files, "--out", str(tmp_path / "out")])
    assert not ended.value.code
    judges = {row["judge"] for _, row in read_rows(tmp_path / "out" / "perception-judges.csv", "judges", ("judge",))}
    assert judges == {str(tmp_path / folder / "perception.csv") for folder in "abc"}
    assert "-1.000" in capsys.readouterr().out


def test_models_with_equal_means_share_their_rank(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    data.opinions["perception"][1] = data.opinions["perception"][0]
    places = human_leaderboard(data, "perception")
    assert [(place.rank, place.rank_low, place.rank_high) for place in places] == [(1, 1, 1), (1, 1, 1), (3, 3, 3)]


def test_a_share_that_is_always_right_has_an_interval_all_the_same(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    data.opinions["accuracy"][0] = 1.0
    (first, *_) = human_leaderboard(data, "accuracy")
    assert (first.estimate.value, first.estimate.high) == (1, 1)
    assert first.estimate.low < 0.8


def test_prompts_of_one_text_are_in_one_fold(tmp_path):
    data = load_evalmi(write_folder(tmp_path))
    same = [prompt._replace(text="twice") if index in (0, 3) else prompt for index, prompt in enumerate(data.prompts)]
    for seed in range(20):
        found = folds(data._replace(prompts=same), 2, seed=seed)
        assert sorted(index for fold in found for index in fold.tolist()) == [0, 1, 2, 3]
        assert any({0, 3} <= set(fold.tolist()) for fold in found)
