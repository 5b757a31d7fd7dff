"""Pictures with opinions: read from a file or from EvalMi-50K, and split so that no prompt is on both sides."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vernissage.datasets.evalmi import EvalMi, EvalPrompt
from vernissage.datasets.judged import JudgedPicture, folds_by_prompt, judged_evalmi, load_judged, read_judged
from vernissage.errors import BadInput


def test_pictures_are_sought_beside_the_file(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    (tmp_path / "r.jsonl").write_text('{"image": "a.png", "perception": 4}\n\n', encoding="utf-8")
    (row,) = read_judged(tmp_path / "r.jsonl")
    assert row.open().getpixel((0, 0)) == (255, 0, 0)
    assert (row.perception, row.correspondence, row.prompt, row.answers) == (4.0, None, None, {})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"image": "a.png", "prompt": "a cat", "prompt": "a dog"}', "line 2 cannot be read: 'prompt' stands twice"),
        ('{"image": "a.png", "answers": {"red?": true, "red?": false}}', "'red\\?' stands twice"),
        ('{"image": "a.png", "perception": true}', "line 2: 'perception'"),
        ('{"image": "a.png", "perception": "50"}', "line 2: 'perception'"),
    ],
)
def test_what_does_not_say_one_thing_names_its_line(tmp_path, line, told):
    path = tmp_path / "judged.jsonl"
    path.write_text(f'{{"image": "b.png", "perception": 50}}\n{line}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=told):
        read_judged(path)


def test_odd_line_ends_within_a_prompt_end_no_line(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"image": "a.png", "prompt": "a\u2028b\u0085c"}\n', encoding="utf-8")
    assert read_judged(tmp_path / "r.jsonl")[0].prompt == "a\u2028b\u0085c"


def test_other_prompts_are_read_and_their_scores_checked(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"image": "a.png", "prompt": "a", "other_prompts": {"b": 4, "c": 5.5}}\n', encoding="utf-8")
    assert read_judged(tmp_path / "r.jsonl")[0].other_prompts == {"b": 4.0, "c": 5.5}
    (tmp_path / "r.jsonl").write_text('{"image": "a.png", "other_prompts": {"b": "NaN"}}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"line 1.*other_prompts"):
        read_judged(tmp_path / "r.jsonl")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"none\.jsonl"):
        read_judged(tmp_path / "none.jsonl")


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "e", None]), min_size=6, max_size=40), st.integers(2, 5), st.integers(0, 3))
def test_every_row_is_in_one_fold_and_every_prompt_in_one(prompts, count, seed):
    rows = [JudgedPicture(image=f"{number}.png", prompt=prompt) for number, prompt in enumerate(prompts)]
    if len({prompt or index for index, prompt in enumerate(prompts)}) < count:
        with pytest.raises(BadInput, match="cannot be split"):
            folds_by_prompt(rows, count, seed=seed)
        return
    folds = folds_by_prompt(rows, count, seed=seed)
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(rows)))
    for prompt in set(prompts) - {None}:
        assert sum(any(rows[index].prompt == prompt for index in fold) for fold in folds) == 1
    sizes = [len({rows[index].prompt or index for index in fold}) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    again = folds_by_prompt(rows, count, seed=seed)
    assert all(np.array_equal(one, other) for one, other in zip(folds, again, strict=True))


def evalmi():
    prompts = tuple(EvalPrompt(number, f"prompt {number}", "scene", False, ("Is it?",)) for number in (1, 2))
    opinions = {"perception": np.array([[10.0, 20.0], [30.0, np.nan]]), "correspondence": np.array([[1.0, 2.0], [3.0, 4.0]])}
    answers = np.full((2, 2, 5), np.nan)
    answers[:, :, 0] = [[1, 0], [0, 1]]
    return EvalMi(("A", "B"), prompts, opinions, answers)


def test_evalmi_rows_are_the_pictures_that_are_there_with_all_their_opinions(tmp_path):
    for name in ("A/001.png", "A/0002.jpg", "B/002.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    rows = judged_evalmi(evalmi(), tmp_path)
    assert [(row.image.name, row.model, row.perception, row.correspondence, row.answers) for row in rows] == [
        ("001.png", "A", 10.0, 1.0, {"Is it?": True}),
        ("0002.jpg", "A", 20.0, 2.0, {"Is it?": False}),
    ], "B/002 has no perception, B/001 no picture"


def test_a_folder_of_evalmi_needs_to_know_where_its_pictures_are(tmp_path):
    with pytest.raises(BadInput, match=r"where are its pictures\? Name their folder with --images"):
        load_judged(tmp_path)
    with pytest.raises(BadInput, match=r"AIGI2025_MOS_yn\.xlsx is not in"):
        load_judged(tmp_path, tmp_path)
    (tmp_path / "r.jsonl").write_text('{"image": "a.png", "perception": 4}\n', encoding="utf-8")
    assert load_judged(tmp_path / "r.jsonl") == read_judged(tmp_path / "r.jsonl")


def test_evalmi_without_any_picture_says_how_they_are_named(tmp_path):
    with pytest.raises(BadInput, match=r"A/0001\.png"):
        judged_evalmi(evalmi(), tmp_path)


def test_a_picture_with_several_prompts_is_in_one_fold_alone():
    rows = [JudgedPicture(image=Path(f"{n // 2}.png"), prompt=f"p{n % 7}" if n < 14 else f"q{n}") for n in range(40)]
    rows += [JudgedPicture(image=Path(f"b{n // 3}.png"), perception=float(n)) for n in range(12)]
    folds = folds_by_prompt(rows, 3)
    assert sorted(index for fold in folds for index in fold.tolist()) == list(range(len(rows)))
    for one, fold in enumerate(folds):
        for other in folds[one + 1 :]:
            for told in (lambda row: row.image, lambda row: row.prompt):
                shared = {told(rows[i]) for i in fold} & {told(rows[i]) for i in other}
                assert shared <= {None}


def test_pictures_of_their_own_are_dealt_by_prompt_as_ever():
    rows = [JudgedPicture(image=Path(f"{n}.png"), prompt=f"p{n % 10}") for n in range(30)]
    dealt = {f"p{place}": number % 5 for number, place in enumerate(np.random.default_rng(4).permutation(10))}
    for number, fold in enumerate(folds_by_prompt(rows, 5, seed=4)):
        assert {rows[index].prompt for index in fold} == {prompt for prompt, own in dealt.items() if own == number}
