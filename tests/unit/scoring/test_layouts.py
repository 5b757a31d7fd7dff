"""Which pictures are found in which layout, with which prompts and groups, and what is refused."""

import json
from pathlib import Path

import pytest
from PIL import Image

from vernissage.errors import BadInput
from vernissage.records.picture import SUFFIXES, Picture, Provenance
from vernissage.records.plan import Plan
from vernissage.scoring.layouts import find_entries


def touch(*paths: str) -> None:
    """Pictures are not opened to be found, so empty files will do."""
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def text(path: str, content: str, encoding: str = "utf-8") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content, encoding=encoding, newline="")
    return Path(path)


def found(source: str, prompts: Path | None = None) -> list[tuple[str, str | None, str]]:
    entries = find_entries(Path(source), prompts=prompts)
    assert all(entry.path == Path(source).joinpath(entry.name) or not Path(source).is_dir() for entry in entries)
    return [(entry.name, entry.prompt, entry.group) for entry in entries]


# ----------------------------------------------------------------------------------------------------- plain folders


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_of_every_kind_is_found_in_a_folder(suffix):
    touch(f"in/a{suffix}", f"in/b{suffix.upper()}", "in/notes.txt", "in/c.png.part")
    assert [name for name, _, _ in found("in")] == [f"a{suffix}", f"b{suffix.upper()}"]


def test_pictures_of_a_plain_folder_come_in_the_order_of_their_numbers_without_prompt_and_group():
    touch("in/10.png", "in/9.png", "in/b2/1.png", "in/b10/1.png", "in/1.jpg", "in/x.png")
    assert found("in") == [(name, None, "") for name in ("1.jpg", "9.png", "10.png", "b2/1.png", "b10/1.png", "x.png")]


def test_a_folder_whose_name_reads_like_a_pattern_or_a_picture_is_a_folder():
    touch("[in].png/a.png", "[in].png/deep.png/b.png")
    assert [name for name, _, _ in found("[in].png")] == ["a.png", "deep.png/b.png"]


@pytest.mark.parametrize("name", ["none", "empty", "empty/notes.txt/none.csv"])
def test_where_there_are_no_pictures_that_is_said(name):
    touch("empty/notes.txt")
    with pytest.raises(BadInput, match=f"{name}"):
        find_entries(Path(name))


# ----------------------------------------------------------------------------------------------------------- GenEval


def test_geneval_folders_tell_prompt_and_tag_of_each_picture():
    for index, (prompt, tag) in enumerate([("a photo of a bench", "single_object"), ("ein Bär, \u201eblau\u201c", "colors")]):
        touch(*(f"in/{index:05}/samples/{n:04}.png" for n in range(2)), f"in/{index:05}/grid.png")
        text(f"in/{index:05}/metadata.jsonl", json.dumps({"tag": tag, "include": [], "prompt": prompt}, ensure_ascii=False) + "\n")
    assert found("in") == [
        ("00000/samples/0000.png", "a photo of a bench", "single_object"),
        ("00000/samples/0001.png", "a photo of a bench", "single_object"),
        ("00001/samples/0000.png", "ein Bär, \u201eblau\u201c", "colors"),
        ("00001/samples/0001.png", "ein Bär, \u201eblau\u201c", "colors"),
    ]


def test_geneval_metadata_without_a_tag_gives_no_group():
    touch("in/00000/samples/0.png")
    text("in/00000/metadata.jsonl", '\n{"prompt": "a cat"}\n{"prompt": "never read"}')
    assert found("in") == [("00000/samples/0.png", "a cat", "")]


@pytest.mark.parametrize("content", ["", "\n\n", "nonsense", "[]", "5", '"a cat"', '{"tag": "x"}', "\x80"])
def test_geneval_metadata_with_a_mistake_are_named(content):
    touch("in/00000/samples/0.png")
    text("in/00000/metadata.jsonl", content, "latin-1")
    with pytest.raises(BadInput, match=r"00000/metadata\.jsonl"):
        find_entries(Path("in"))


# ------------------------------------------------------------------------------------------------------ T2I-CompBench


def test_compbench_names_tell_the_prompt():
    touch("in/samples/a green bench and a blue bowl_000000.png", "in/samples/a cat_on_a mat_000001.png")
    assert found("in") == [
        ("samples/a cat_on_a mat_000001.png", "a cat_on_a mat", ""),
        ("samples/a green bench and a blue bowl_000000.png", "a green bench and a blue bowl", ""),
    ]


def test_compbench_folders_side_by_side_are_groups():
    touch("in/color/samples/a cat_000000.png", "in/shape/samples/a dog_000000.png")
    assert found("in") == [("color/samples/a cat_000000.png", "a cat", "color"), ("shape/samples/a dog_000000.png", "a dog", "shape")]


def test_the_samples_folder_itself_may_be_given():
    touch("run/samples/a cat_000000.png", "run/samples/a cat_000001.png")
    assert found("run/samples") == [("a cat_000000.png", "a cat", ""), ("a cat_000001.png", "a cat", "")]


@pytest.mark.parametrize("name", ["00000", "a cat", "a cat_0", "_000000", "a cat_00000a"])
def test_a_samples_folder_whose_names_hold_no_prompt_is_a_plain_folder(name):
    touch(f"in/samples/{name}.png")
    assert found("in") == [(f"samples/{name}.png", None, "")]


# ------------------------------------------------------------------------------------------------------------- HPSv2


def hps(count: int = 2) -> None:
    for style in ("anime", "concept-art", "paintings", "photo"):
        touch(*(f"in/{style}/{number:05}.jpg" for number in range(count)))


def test_hpsv2_styles_are_groups():
    hps()
    touch("in/other/00000.jpg", "in/photo.jpg", "in/deep/photo/1.jpg")
    groups = {name: group for name, _, group in found("in")}
    assert groups["concept-art/00001.jpg"] == "concept-art"
    assert [groups[name] for name in ("other/00000.jpg", "photo.jpg", "deep/photo/1.jpg")] == ["", "", ""]


def test_a_list_of_hpsv2_is_for_the_style_that_it_is_named_after():
    hps()
    prompts = text("anime.json", '["one", "two"]')
    assert [prompt for _, prompt, _ in found("in", prompts)] == ["one", "two", *[None] * 6]


def test_where_pictures_of_hpsv2_are_missing_the_others_keep_their_prompts():
    hps()
    Path("in/anime/00001.jpg").rename("in/anime/00002.jpg")
    prompts = text("anime.json", '["one", "two", "three"]')
    assert [prompt for _, prompt, _ in found("in", prompts)][:2] == ["one", "three"]


def test_a_list_of_hpsv2_that_is_too_short_for_its_style_is_refused():
    hps()
    with pytest.raises(BadInput, match="1 prompts for 2 pictures"):
        find_entries(Path("in"), prompts=text("anime.json", '["one"]'))


# ------------------------------------------------------------------------------------------------------------ tables


def test_a_csv_table_names_pictures_from_its_own_folder_on():
    path = text("data/t.csv", 'group,prompt,image\nx,"a ""red"", old\ncat",a.png\n,,sub/b.png\n', "utf-8-sig")
    entries = find_entries(path)
    assert [tuple(entry)[:4] for entry in entries] == [
        ("a.png", Path("data/a.png"), 'a "red", old\ncat', "x"),
        ("sub/b.png", Path("data/sub/b.png"), None, ""),
    ]


def test_a_table_may_hold_whole_paths_and_rows_that_are_cut_short():
    path = text("data/t.csv", "image,prompt,group,remark\n/pictures/a.png\nb.png,a cat,,hm,,\n")
    entries = find_entries(path)
    assert [(entry.path, entry.prompt) for entry in entries] == [(Path("/pictures/a.png"), None), (Path("data/b.png"), "a cat")]


def test_a_jsonl_table_is_read_line_by_line():
    path = text("t.JSONL", '\ufeff{"image": "b.png", "prompt": "日本の猫", "group": "x"}\r\n\r\n{"image": "a.png", "prompt": null}\n')
    assert found(str(path)) == [("b.png", "日本の猫", "x"), ("a.png", None, "")]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", "picture,prompt\na.png,x\n", "lacks the column image"),
        ("t.csv", "image,prompt\na.png,x\n,y\n", "line 3 names no image"),
        ("t.csv", f"image\n{'a' * 200_000}\n", "field larger"),
        ("t.csv", "image\n\xff\xfe\n", "UTF-8"),
        ("t.jsonl", '{"image": "a.png"}\n{"prompt": "x"}\n', "line 2: there is no image"),
        ("t.jsonl", '["a.png"]\n', "line 1: there is no image"),
        ("t.jsonl", '{"image": "a.png"}\n{"image": "b', "line 2: there is no image"),
        ("t.csv", "", "lacks the column image"),
        ("t.csv", "image,prompt\n", "no pictures"),
        ("t.jsonl", "\n", "no pictures"),
    ],
)
def test_a_table_with_a_mistake_is_refused(name, content, told):
    text(name, content, "latin-1")
    with pytest.raises(BadInput, match=told):
        find_entries(Path(name))


# ----------------------------------------------------------------------------------------------------------- prompts


def test_prompts_of_a_text_are_given_in_the_order_of_the_pictures():
    touch("in/10.png", "in/2.png")
    assert [prompt for _, prompt, _ in found("in", text("p.txt", "\ufeff one, two \r\n\r\n\u2028three\x85 four\n"))] == [
        "one, two",
        "three\x85 four",
    ]


def test_prompts_by_name_fit_paths_bare_names_and_nobody_else():
    touch("in/a.png", "in/sub/b.png", "in/sub/c.png", "in/d.png")
    prompts = text("p.csv", "image,prompt\nsub/b.png,by path\nelsewhere/a.png,by name\nc.png,by bare name\nd.jpg,of another\n")
    assert found("in", prompts) == [
        ("a.png", "by name", ""),
        ("d.png", "", ""),
        ("sub/b.png", "by path", ""),
        ("sub/c.png", "by bare name", ""),
    ]


def test_prompts_by_name_go_before_those_of_the_layout_which_stay_where_there_are_none():
    touch("in/samples/a cat_000000.png", "in/samples/a dog_000000.png", "in/samples/a fox_000000.png")
    prompts = text("p.jsonl", '{"image": "a cat_000000.png", "prompt": "a tom"}\n{"image": "a fox_000000.png", "prompt": ""}\n')
    assert [prompt for _, prompt, _ in found("in", prompts)] == ["a tom", "a dog", "a fox"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("p.txt", "one\n", "1 prompts for 2 pictures"),
        ("p.txt", "", "0 prompts for 2 pictures"),
        ("p.json", '["one", "two", "three"]', "3 prompts for 2 pictures"),
        ("p.json", '{"a.png": "one"}', "no list of prompts"),
        ("p.json", '["one", 2]', "no list of prompts"),
        ("p.json", '["one", ', "Cannot read the prompts"),
        ("p.csv", "image,prompt\nc.png,x\n", "names none of the pictures"),
        ("p.csv", "image,prompt\na.png,\n", "names none of the pictures"),
        ("p.csv", "a.png,x\n", "lacks the column image, prompt"),
        ("p.csv", "name,prompt\na.png,x\n", "lacks the column image"),
        ("p.jsonl", "nonsense", "line 1: there is no image and prompt"),
        ("p.txt", "\xff", "UTF-8"),
        ("p.txt", None, "Cannot read the prompts"),
        ("p.csv", None, "Cannot read"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(name, content, told):
    touch("in/a.png", "in/b.png")
    if content is not None:
        text(name, content, "latin-1")
    with pytest.raises(BadInput, match=told):
        find_entries(Path("in"), prompts=Path(name))


# --------------------------------------------------------------------------------------------- questions of a layout


def asked(entry) -> list[str]:
    return [check.question for check in entry.checks]


def geneval(name: str = "00000", **metadata: object) -> Path:
    touch(f"in/{name}/samples/0.png", f"in/{name}/samples/1.png")
    return text(f"in/{name}/metadata.jsonl", json.dumps({"prompt": "a photo", "tag": "t"} | metadata))


def test_geneval_metadata_become_questions_of_each_of_their_pictures():
    geneval("00000", include=[{"class": "bench", "count": 1}])
    geneval("00001", include=[{"class": "dog", "count": 2, "color": "red"}], exclude=[{"class": "dog", "count": 3}])
    geneval("00002", include=[])
    assert [asked(entry) for entry in find_entries(Path("in"))] == [
        *[["Is there a bench?"]] * 2,
        *[["Are there exactly 2 dogs?", "Are the dogs red?"]] * 2,
        *[[]] * 2,
    ]


def thing(**changes: object) -> dict:
    return {"class": "dog", "count": 1} | changes


@pytest.mark.parametrize(
    "metadata",
    [
        {"include": 5},
        {"include": "dog"},
        {"include": {"class": "dog"}},
        {"include": ["dog"]},
        {"include": [None]},
        {"include": [[[[]]]]},
        {"include": [{"count": 1}]},
        {"include": [thing(count="two")]},
        {"include": [thing(count=None)]},
        {"include": [thing(count=[1])]},
        {"include": [thing(count=float("nan"))]},
        {"include": [thing(), thing(position=["left of", 7])]},
        {"include": [thing(), thing(position=["left of", None])]},
        {"include": [thing(), thing(position=["left of", "first"])]},
        {"include": [thing(), thing(position=["left of"])]},
        {"include": [thing(), thing(position="left of")]},
        {"include": [thing(), thing(position=5)]},
        {"include": [thing(**{"class": 5})]},
        {"include": [thing(**{"class": None})]},
        {"include": [thing(**{"class": ["dog"]})]},
        {"include": [thing()], "exclude": "cat"},
        {"include": [thing()], "exclude": [{"class": "cat"}]},
        {"include": [thing()], "exclude": [{"count": 2}]},
        {"include": [thing()], "exclude": [thing(**{"class": ["cat"]})]},
        {"include": [thing()], "exclude": [thing(**{"class": 5})]},
        {"include": [thing(count=float("inf"))]},
        {"include": [thing(), thing(position=["left of", float("inf")])]},
        {"exclude": [thing(count=float("inf"))]},
        {"include": [thing(), thing(position=["left of", -1])]},
        {"include": [thing(count=-1)]},
        {"include": [thing(count=2.7)]},
        {"include": [thing(color=["red", "blue"])]},
        {"include": [thing(color=5)]},
        {"include": [thing(), thing(position=[5, 0])]},
        {"include": [thing(**{"class": ""})]},
    ],
)
def test_geneval_metadata_with_an_odd_thing_are_named(metadata):
    geneval("00000", **metadata)
    with pytest.raises(BadInput, match=r"00000/metadata\.jsonl"):
        find_entries(Path("in"))


@pytest.mark.parametrize("count", ["9" * 5000, "1" + "[" * 100_000])
def test_geneval_metadata_that_no_parser_takes_are_named(count):
    touch("in/00000/samples/0.png")
    text("in/00000/metadata.jsonl", f'{{"prompt": "a", "include": [{{"class": "dog", "count": {count}}}]}}')
    with pytest.raises(BadInput, match=r"00000/metadata\.jsonl"):
        find_entries(Path("in"))


@pytest.mark.parametrize("unused", [{"color": None}, {"color": ""}, {"position": None}, {"position": []}, {"count": "1"}, {"extra": [1]}])
def test_geneval_metadata_with_an_empty_attribute_ask_for_the_thing_alone(unused):
    geneval(include=[thing(**unused)])
    assert asked(find_entries(Path("in"))[0]) == ["Is there a dog?"]


def test_line_ends_alone_end_geneval_s_metadata():
    touch("in/00000/samples/0.png")
    text("in/00000/metadata.jsonl", json.dumps({"prompt": "a\u2028cat", "include": [thing()]}, ensure_ascii=False) + "\n")
    assert found("in")[0][1] == "a\u2028cat"


def test_half_a_character_in_geneval_s_metadata_never_gets_to_a_server():
    geneval(include=[thing(**{"class": "\ud800"})])
    asked(find_entries(Path("in"))[0])[0].encode()


# ---------------------------------------------------------------------------------------------- questions of a file


def own(*rows: dict, name: str = "q.jsonl") -> Path:
    return text(name, "".join(json.dumps(row) + "\n" for row in rows))


def one(question: str, **by: object) -> dict:
    return by | {"questions": [{"question": question}]}


def test_questions_are_found_by_the_name_of_a_picture_or_by_its_prompt():
    touch("in/a.png", "in/sub/b.jpg", "in/samples/a cat_000000.png", "in/samples/a dog_000001.png")
    questions = own(one("by name?", id="a"), one("by bare name?", id="b"), one("by prompt?", prompt=" a cat"))
    entries = find_entries(Path("in"), questions=questions)
    assert {entry.name: asked(entry) for entry in entries} == {
        "a.png": ["by name?"],
        "sub/b.jpg": ["by bare name?"],
        "samples/a cat_000000.png": ["by prompt?"],
        "samples/a dog_000001.png": [],
    }


def test_a_name_goes_before_a_prompt_and_a_prompt_of_a_file_is_a_prompt():
    touch("in/a.png", "in/b.png")
    prompts = text("p.csv", "image,prompt\na.png,a cat\nb.png,a cat\n")
    entries = find_entries(Path("in"), prompts=prompts, questions=own(one("cat?", prompt="a cat"), one("a?", id="a")))
    assert [asked(entry) for entry in entries] == [["a?"], ["cat?"]]


def test_questions_of_a_file_go_before_those_of_the_layout_which_stay_where_there_are_none():
    geneval("00000", prompt="a cat", include=[thing()])
    geneval("00001", prompt="a dog", include=[thing()])
    entries = find_entries(Path("in"), questions=own(one("cat?", prompt="a cat")))
    assert [asked(entry) for entry in entries] == [*[["cat?"]] * 2, *[["Is there a dog?"]] * 2]


def test_questions_are_found_for_tables_too():
    table = text("t.csv", "image,prompt\nx/a.png,a cat\nb.png,\n")
    entries = find_entries(table, questions=own(one("cat?", prompt="a cat"), one("b?", id="b")))
    assert [asked(entry) for entry in entries] == [["cat?"], ["b?"]]


def test_a_name_with_dots_is_a_name():
    touch("in/v1.5.png", "in/v1.png")
    assert [asked(entry) for entry in find_entries(Path("in"), questions=own(one("dots?", id="v1.5")))] == [["dots?"], []]


@pytest.mark.parametrize("name", ["a.png", "sub/a.png", "sub/a"])
def test_a_picture_may_be_named_with_its_suffix_or_path(name):
    touch("in/sub/a.png")
    assert [asked(entry) for entry in find_entries(Path("in"), questions=own(one("a?", id=name)))] == [["a?"]]


def test_questions_are_found_by_the_prompt_that_a_picture_carries():
    carried = Provenance(plan=Plan(prompt="a cat", model="mini/neon"))
    Picture.of(Image.new("RGB", (8, 8)), carried).save("in/a.png")
    assert [asked(entry) for entry in find_entries(Path("in"), questions=own(one("cat?", prompt="a cat")))] == [["cat?"]]


@pytest.mark.parametrize("row", [one("?", id="c"), one("?", id="A"), one("?", prompt="a dog"), one("?", prompt="A cat"), one("?", id="")])
def test_questions_about_none_of_the_pictures_are_refused(row):
    touch("in/samples/a cat_000000.png")
    with pytest.raises(BadInput, match=r"q\.jsonl"):
        find_entries(Path("in"), questions=own(row))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.jsonl", "nonsense"),
        ("q.jsonl", "[" * 100_000),
        ("q.json", '[{"id": "a", "caption": "p", "question": "?", "choices": "yes", "answer": "yes"}]'),
        ("q.json", '[{"id": "a", "caption": "p", "question": "?", "choices": ["yes"], "answer": "no"}]'),
        ("q.csv", "id,question\na,?\n"),
        ("q.json", "\xff"),
        ("q.json", None),
    ],
)
def test_a_broken_file_of_questions_is_refused_by_name(name, content):
    touch("in/a.png")
    if content is not None:
        text(name, content, "latin-1")
    with pytest.raises(BadInput, match=name):
        find_entries(Path("in"), questions=Path(name))


def test_pictures_are_looked_for_before_questions():
    Path("empty").mkdir()
    with pytest.raises(BadInput, match="no pictures in empty"):
        find_entries(Path("empty"), questions=Path("none.json"))


def test_a_row_in_a_folder_gives_no_prompt_to_another_folders_picture_of_that_name():
    touch("in/a/1.png", "in/b/1.png", "in/2.png")
    prompts = text("p.csv", "image,prompt\na/1.png,a cat\nmoved/2.png,a dog\n")
    assert found("in", prompts) == [("2.png", "a dog", ""), ("a/1.png", "a cat", ""), ("b/1.png", "", "")]


def test_two_prompts_for_one_picture_are_refused_and_the_same_twice_is_not():
    touch("in/a.png", "in/b.png")
    with pytest.raises(BadInput, match=r"several prompts for a\.png"):
        find_entries(Path("in"), prompts=text("p.csv", "image,prompt\na.png,a cat\na.png,a dog\n"))
    twice = text("q.csv", "image,prompt\na.png,a cat\na.png,a cat\n")
    assert [entry.prompt for entry in find_entries(Path("in"), prompts=twice)] == ["a cat", ""]


def test_numbers_that_stand_for_two_pictures_find_no_prompt():
    touch("in/a/00000.png", "in/b/00000.png")
    with pytest.raises(BadInput, match="3 prompts for 2 pictures"):
        find_entries(Path("in"), prompts=text("p.json", '["a cat", "a dog", "a cup"]'))


def test_a_name_with_two_prompts_elsewhere_is_refused():
    touch("in/a/1.png", "in/b/2.png")
    prompts = text("p.csv", "image,prompt\nx/1.png,a cat\ny/1.png,a dog\nb/2.png,a cup\n")
    with pytest.raises(BadInput, match=r"several prompts for pictures called 1\.png"):
        find_entries(Path("in"), prompts=prompts)


def test_two_prompts_for_one_picture_are_refused_however_its_path_is_written():
    touch("in/1.png")
    prompts = text("p.csv", "image,prompt\n1.png,a cat\n./1.png,a dog\n")
    with pytest.raises(BadInput, match=r"several prompts for 1\.png"):
        find_entries(Path("in"), prompts=prompts)


def test_a_group_without_a_list_has_no_prompts_not_even_those_that_its_pictures_carry():
    touch("in/anime/00000.png")
    Picture.of(Image.new("RGB", (4, 4)), Provenance(plan=Plan(prompt="a cat", model="m"))).save("in/photo/00000.png")
    text("lists/anime.json", '["a dog"]')
    assert [entry.prompt for entry in find_entries(Path("in"), prompts=Path("lists"))] == ["a dog", ""]
