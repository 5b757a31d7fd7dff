"""Sets of queries: what is written is what is read, cut-off files are gone on with, and mistakes are named."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vernissage.datasets.queries import (
    Query,
    append_queries,
    content_hash,
    divide,
    read_queries,
    resume_queries,
    write_conversations,
    write_queries,
)
from vernissage.errors import BadInput
from vernissage.records.chat import Chat, Turn
from vernissage.records.plan import Arguments, Choice, Lora, Plan

ENDINGS = (".jsonl", ".json", ".parquet")


def query(name="1", text="a red cat, please", model="mini/neon", **changes):
    return Query(id=name, chat=Chat.of(text), plan=Plan(prompt="a red cat", model=model), **changes)


def full(folder):
    """A query that leaves nothing out."""
    turns = (
        Turn(text="one cat", images=(folder / "in" / "a.png",)),
        Turn(role="assistant", text='With "quotes",\nlines and \U0001f408?'),
        Turn(text="yes", images=(folder / "b.png", Path("/elsewhere/c.png"))),
    )
    arguments = Arguments(
        sampler="Euler a", steps=12, cfg_scale=3.5, width=128, height=64, seed=2**40, loras=(Lora(name="ink", weight=0.5),)
    )
    plan = Plan(
        prompt="caf\u00e9\u2028cat", negative_prompt="blur", model="m", arguments=arguments, choices=(Choice(model="m", probability=0.25),)
    )
    return Query(id="d#3", chat=Chat(turns=turns), plan=plan, division="few-shot", role="a baker", demonstration="d")


def rows(path, *values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def published(tmp_path, **changes):
    """What is read from one row in the manner of the release."""
    row = {"Question": "a cat", "Refined_Prompt": "a cat, best quality", "Model Name": "dream"} | changes
    (found,) = read_queries(rows(tmp_path / "published.jsonl", row))
    return found


# ------------------------------------------------------------------------------------------------------ there and back


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_what_is_read(tmp_path, ending):
    written = [full(tmp_path), query("2"), query("3", division="supervised")]
    write_queries(written, tmp_path / f"set{ending}")
    assert read_queries(tmp_path / f"set{ending}") == written
    assert [path.name for path in tmp_path.iterdir()] == [f"set{ending}"], "nothing is left beside it"


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=8)), max_size=4),
    st.text(min_size=1, max_size=8),
    st.text(max_size=8),
    st.none() | st.integers(-(2**62), 2**62),
)
def test_odd_texts_and_numbers_come_back_whole_from_every_form(tmp_path_factory, earlier, name, prompt, seed):
    turns = tuple(Turn(role=role, text=text) for role, text in [*earlier, ("user", "\r\n\x00\x85 end")])
    written = [Query(id=name, chat=Chat(turns=turns), plan=Plan(prompt=prompt, model="m", arguments=Arguments(seed=seed)))]
    for ending in ENDINGS:
        path = tmp_path_factory.getbasetemp() / f"odd{ending}"
        write_queries(written, path)
        assert read_queries(path) == written
    path = tmp_path_factory.getbasetemp() / "appended.jsonl"
    path.unlink(missing_ok=True)
    again = [each.model_copy(update={"id": f"{name} again"}) for each in written]
    append_queries(path, written)
    append_queries(path, again)
    assert read_queries(path) == written + again


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_set_travels_with_its_pictures(tmp_path, ending):
    path = tmp_path / "old" / f"set{ending}"
    written = Query(
        id="1",
        chat=Chat.of("this", images=(path.parent / "pictures" / "a.png", tmp_path / "outside.png")),
        plan=Plan(prompt="x", model="m"),
    )
    write_queries([written], path)
    (tmp_path / "old").rename(tmp_path / "new")
    (found,) = read_queries(tmp_path / "new" / path.name)
    assert found.chat.images == (tmp_path / "new" / "pictures" / "a.png", tmp_path / "outside.png")


def test_a_path_is_written_from_the_files_folder_wherever_the_command_runs(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path / "set")
    looked = Query(id="1", chat=Chat.of("this", images=(Path("a.png"),)), plan=Plan(prompt="x", model="m"))
    append_queries(tmp_path / "set" / "q.jsonl", [looked])
    write_queries([looked], Path("w.jsonl"))
    assert '"images":["a.png"]' in Path("q.jsonl").read_text(encoding="utf-8")
    assert '"images": ["a.png"]' in Path("w.jsonl").read_text(encoding="utf-8")
    monkeypatch.chdir("/")
    assert read_queries(tmp_path / "set" / "q.jsonl")[0].chat.images == (tmp_path / "set" / "a.png",)


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"not \.csv"):
        write_queries([query()], tmp_path / "set.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for write in (lambda path: write_queries([query()], path), lambda path: append_queries(path, [query()])):
        with pytest.raises(BadInput, match=r"Cannot write .*set\.jsonl"):
            write(tmp_path / "file" / "set.jsonl")


@pytest.mark.parametrize("write", [lambda path, each: write_queries([each], path), lambda path, each: append_queries(path, [each])])
def test_a_pictures_name_that_no_file_can_have_is_no_traceback(tmp_path, write):
    chat = {"turns": [{"text": "this", "images": ["\ud800.png"]}]}
    path = rows(tmp_path / "q.jsonl", {"id": "1", "chat": chat, "plan": {"prompt": "x", "model": "m"}})
    with pytest.raises(BadInput):
        write(tmp_path / "out.jsonl", *read_queries(path))


# -------------------------------------------------------------------------------------------------------- going on


def test_a_file_that_is_not_there_yet_holds_nothing(tmp_path):
    assert resume_queries(tmp_path / "q.jsonl") == set()
    assert not (tmp_path / "q.jsonl").exists()


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_last_line_that_was_cut_off_is_taken_out_and_written_again(tmp_path, cut):
    path = tmp_path / "q.jsonl"
    append_queries(path, [query("1"), query("2", "caf\u00e9 \U0001f408")])
    whole = path.read_bytes()
    append_queries(path, [query("3", "\U0001f408" * 30)])
    assert cut < len(path.read_bytes()) - len(whole)
    path.write_bytes(path.read_bytes()[: -cut - 1])
    assert resume_queries(path) == {"1", "2"}
    assert path.read_bytes() == whole
    append_queries(path, [query("3")])
    assert [each.id for each in read_queries(path)] == ["1", "2", "3"]


def test_a_file_whose_only_line_was_cut_off_begins_anew(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": "1", "chat"', encoding="utf-8")
    assert resume_queries(path) == set()
    append_queries(path, [query("1")])
    assert len(read_queries(path)) == 1


def test_a_mistake_in_an_earlier_line_is_no_cut_off_line(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": "1", "cha\n' + query("2").model_dump_json() + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"q\.jsonl"):
        resume_queries(path)


def test_a_whole_last_line_without_a_newline_is_kept(tmp_path):
    path = tmp_path / "q.jsonl"
    append_queries(path, [query("1"), query("2")])
    path.write_bytes(path.read_bytes()[:-1])
    assert resume_queries(path) == {"1", "2"}
    append_queries(path, [query("3")])
    assert [each.id for each in read_queries(path)] == ["1", "2", "3"]


@pytest.mark.parametrize("content", ["my diary\nthe end", "[]", '[{"id": "1"}]'])
def test_a_file_that_is_no_set_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "q.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadInput):
        resume_queries(path)
    assert path.read_text(encoding="utf-8") == content


def test_a_folder_cannot_be_gone_on_with(tmp_path):
    with pytest.raises(BadInput):
        resume_queries(tmp_path)


# -------------------------------------------------------------------------------------------------- as it was released


def test_a_released_row_is_a_query(tmp_path):
    found = published(tmp_path, **{"Negative-Prompt": "blur", "STEPS": "20", "CFG Scale": "7.5", "Size": "512 x 768", "Sampler": "Euler a"})
    assert found.chat == Chat.of("a cat")
    assert found.plan == Plan(
        prompt="a cat, best quality",
        negative_prompt="blur",
        model="dream",
        arguments=Arguments(sampler="Euler a", steps=20, cfg_scale=7.5, width=512, height=768),
    )
    assert (found.id, found.division, found.input_type) == ("1", None, "single")


@pytest.mark.parametrize("key", ["user_input", "Query", "INPUT", "freestyle", "user-Input"])
def test_the_question_goes_by_many_names(tmp_path, key):
    row = {key: "a dog", "prompt": "a dog, 8k", "model": "m"}
    assert read_queries(rows(tmp_path / "q.jsonl", row))[0].chat == Chat.of("a dog")


@pytest.mark.parametrize(
    "given",
    [
        {"arguments": {"Steps": "20", "cfgScale": "7", "width": 512, "height": "768", "sampler_name": "Euler"}},
        {"Args": {"steps": 20.0, "CFG scale": 7, "size": "512x768", "Sampler": "Euler"}, "steps": "99"},
        {"steps": 20, "cfg_scale": "7", "WIDTH": "512", "Height": 768, "sampler": "Euler", "size": "1x1"},
        {"parameters": {"steps": "20 ", "cfg_scale": 7.0, "SIZE": "512X768", "sampler": "Euler", "unknown": 3}},
    ],
)
def test_arguments_may_lie_in_a_table_of_their_own_and_numbers_may_be_texts(tmp_path, given):
    assert published(tmp_path, **given).plan.arguments == Arguments(sampler="Euler", steps=20, cfg_scale=7, width=512, height=768)


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (None, []),
        ("", []),
        ([], []),
        ("a boat", [("user", "a boat")]),
        (
            ["a boat", "here you are", "bigger", "so?"],
            [("user", "a boat"), ("assistant", "here you are"), ("user", "bigger"), ("assistant", "so?")],
        ),
        ([{"role": "user", "text": "a boat"}, {"role": "assistant", "text": "so?"}], [("user", "a boat"), ("assistant", "so?")]),
    ],
)
def test_earlier_turns_are_kept_with_their_speakers(tmp_path, history, told):
    found = published(tmp_path, history=history)
    assert [(turn.role, turn.text) for turn in found.chat.turns] == [*told, ("user", "a cat")]


def test_earlier_turns_in_pairs_are_user_and_assistant(tmp_path):
    found = published(tmp_path, history=[["a boat", "here you are"], ["bigger", "so?"]])
    told = [("user", "a boat"), ("assistant", "here you are"), ("user", "bigger"), ("assistant", "so?"), ("user", "a cat")]
    assert [(turn.role, turn.text) for turn in found.chat.turns] == told


@pytest.mark.parametrize("images", ["in/a.png", ["in/a.png"]])
def test_a_released_picture_lies_beside_the_file(tmp_path, images):
    found = published(tmp_path, Image=images)
    assert found.chat.images == (tmp_path / "in" / "a.png",)
    assert found.input_type == "multimodal"


def test_released_rows_have_the_ids_they_tell_or_their_numbers(tmp_path):
    row = {"question": "a cat", "prompt": "x", "model": "m"}
    path = rows(tmp_path / "q.jsonl", row, row | {"id": 77}, row | {"Index": "ab"})
    assert [each.id for each in read_queries(path)] == ["1", "77", "ab"]


def test_released_rows_numbered_from_zero_keep_their_numbers(tmp_path):
    row = {"question": "a cat", "prompt": "x", "model": "m"}
    path = rows(tmp_path / "q.jsonl", *(row | {"index": number} for number in range(3)))
    assert [each.id for each in read_queries(path)] == ["0", "1", "2"]


def test_a_released_set_may_be_parquet(tmp_path):
    table = {"Question": ["a cat", "a dog"], "prompt": ["cat", "dog"], "model": ["m", "n"], "steps": [20, None], "history": [["x"], None]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "q.parquet")
    first, second = read_queries(tmp_path / "q.parquet")
    assert (first.plan.arguments.steps, second.plan.arguments.steps) == (20, None)
    assert (len(first.chat.turns), len(second.chat.turns)) == (2, 1)


# --------------------------------------------------------------------------------------------------------- mistakes


GOOD = {"id": "1", "chat": {"turns": [{"text": "a cat"}]}, "plan": {"prompt": "a cat", "model": "m"}}


@pytest.mark.parametrize(
    ("bad", "key"),
    [
        (GOOD | {"chat": {"turns": []}}, "chat.turns"),
        (GOOD | {"chat": None}, "chat"),
        (GOOD | {"chat": 5}, "chat"),
        (GOOD | {"id": ""}, "id"),
        (GOOD | {"other": 1}, "other"),
        (GOOD | {"division": "many"}, "division"),
        (GOOD | {"plan": {"prompt": "x"}}, "plan.model"),
        ({"question": "a cat", "model": "m"}, "plan.prompt"),
        ({"question": "a cat", "prompt": 5, "model": "m"}, "plan.prompt"),
        ({"question": "a cat", "prompt": "x", "model": "m", "steps": "many"}, "steps"),
        ({"question": "a cat", "prompt": "x", "model": "m", "steps": [20]}, "steps"),
        ({"question": "a cat", "prompt": "x", "model": "m", "history": [{"text": 5}]}, "text"),
        ({"question": "a cat", "prompt": "x", "model": "m", "history": 5}, "text"),
    ],
)
@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_a_mistake_is_named_with_file_row_and_key(tmp_path, ending, bad, key):
    path = tmp_path / f"set{ending}"
    if ending == ".json":
        path.write_text(json.dumps([GOOD, bad]), encoding="utf-8")
    else:
        rows(path, GOOD, bad)
    with pytest.raises(BadInput, match=rf"set{ending}, query 2: .*{key}"):
        read_queries(path)


@pytest.mark.parametrize("images", [5, [5], [None], True])
def test_pictures_that_are_no_paths_are_a_mistake_too(tmp_path, images):
    with pytest.raises(BadInput, match="query 1"):
        published(tmp_path, images=images)


ASKED = "You translate requirements.\nHere is the content I need you to convert:\n"
ANSWER = {
    "prompt": "a cat, best quality",
    "negativePrompt": "blurry",
    "model": "dream",
    "args": {"Steps": "20", "CFG scale": 7, "Sampler": "DDIM"},
}


def conversation(*said, **others):
    return {"id": 4, "conversations": [{"from": who, "value": text} for who, text in said]} | others


def test_a_conversation_that_ends_in_a_plan_is_a_query(tmp_path):
    asked = ASKED + "Image-1: <image>\nImage-2: <image>\nA cat, y'know?"
    row = conversation(
        ("system", "Help."),
        ("human", ASKED + "a dog"),
        ("gpt", "Here you are."),
        ("human", asked),
        ("gpt", json.dumps(ANSWER)),
        image=["a.png", "b.png"],
    )
    (found,) = read_queries(rows(tmp_path / "q.jsonl", row))
    assert [(turn.role, turn.text) for turn in found.chat.turns] == [
        ("user", "a dog"),
        ("assistant", "Here you are."),
        ("user", "A cat, y'know?"),
    ]
    assert found.chat.turns[-1].images == (tmp_path / "a.png", tmp_path / "b.png")
    assert (found.id, found.plan.prompt, found.plan.negative_prompt, found.plan.model) == ("4", "a cat, best quality", "blurry", "dream")
    assert (found.plan.arguments.sampler, found.plan.arguments.steps, found.plan.arguments.cfg_scale) == ("DDIM", 20, 7)


def test_a_conversations_pictures_belong_where_their_places_are(tmp_path):
    answer = ("gpt", json.dumps(ANSWER))
    said = (("human", "<image>\nmy dog"), ("gpt", "Nice."), ("human", "<image>"), answer)
    (found,) = read_queries(rows(tmp_path / "q.jsonl", conversation(*said, images=["a.png", "b.png"])))
    assert [[image.name for image in turn.images] for turn in found.chat.turns] == [["a.png"], [], ["b.png"]]
    (found,) = read_queries(rows(tmp_path / "q.jsonl", conversation(("human", "like this"), answer, image="a.png")))
    assert [image.name for image in found.chat.images] == ["a.png"]


def test_only_a_conversations_answer_tells_the_plan_and_only_its_row_the_rest(tmp_path):
    row = conversation(
        ("human", "<image> a cat"),
        ("gpt", json.dumps({"id": "other", "image": "other.png", "refined prompt": "a cat, best", "model_name": "dream"})),
        image="a.png",
        width=897,
        height=1152,
        model="gpt-4o",
        prompt="x",
        role="a child",
    )
    (found,) = read_queries(rows(tmp_path / "q.jsonl", row))
    assert (found.id, found.role, found.plan.prompt, found.plan.model) == ("4", "a child", "a cat, best", "dream")
    assert (found.plan.arguments.width, found.plan.arguments.height) == (None, None)
    assert [image.name for image in found.chat.images] == ["a.png"]


@pytest.mark.parametrize(
    "said",
    [
        (),
        (("human", "a cat"),),
        (("human", "a cat"), ("gpt", "no object")),
        (("human", "a cat"), ("gpt", "[1]")),
        (("gpt", json.dumps(ANSWER)), ("human", "a cat")),
        (("human", 5), ("gpt", json.dumps(ANSWER))),
        (("human", "a cat"), ("gpt", "[" * 100_000)),
        (("human", "<image> a cat"), ("gpt", json.dumps(ANSWER))),
    ],
)
def test_a_conversation_that_ends_in_no_plan_is_a_mistake(tmp_path, said):
    with pytest.raises(BadInput, match="query 1"):
        read_queries(rows(tmp_path / "q.jsonl", conversation(*said)))


@pytest.mark.parametrize(
    "bad", [{"prompt": "x", "model": "m"}, {"question": "a cat", "prompt": "x"}, {"question": " ", "prompt": "x", "model": "m"}]
)
def test_a_released_row_that_asks_nothing_or_names_no_model_is_a_mistake(tmp_path, bad):
    with pytest.raises(BadInput, match="query 1"):
        read_queries(rows(tmp_path / "q.jsonl", bad))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.jsonl", b'{"id": "1"'),
        ("q.jsonl", b"nonsense\n"),
        ("q.jsonl", b"[1]\n5\n"),
        ("q.jsonl", b'"text"\n'),
        ("q.jsonl", b"\xff\xfe\n"),
        ("q.jsonl", b""),
        ("q.jsonl", b"\n \n"),
        ("q.jsonl", b'{"a": ' + b"[" * 100_000 + b"\n"),
        ("q.jsonl", b'{"a": ' + b"1" * 5000 + b"}\n"),
        ("q.json", b"[]"),
        ("q.json", b"{}"),
        ("q.json", b'[{"id": "1"}, 5]'),
        ("q.parquet", b"no parquet"),
        ("q.parquet", b""),
    ],
)
def test_what_is_no_set_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=name.replace(".", r"\.")):
        read_queries(tmp_path / name)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_set_that_is_not_there_is_told(tmp_path, ending):
    with pytest.raises(BadInput, match="none"):
        read_queries(tmp_path / f"none{ending}")
    with pytest.raises(BadInput):
        read_queries(tmp_path)


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = rows(tmp_path / "q.jsonl", GOOD, GOOD)
    path.write_text(path.read_text(encoding="utf-8") + "{nonsense\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"q\.jsonl.*(line|query) 3"):
        read_queries(path)


def test_a_parquet_row_whose_chat_is_no_json_is_named(tmp_path):
    write_queries([query("1"), query("2")], tmp_path / "q.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "q.parquet").to_pydict()
    table["chat"][1] = "{nonsense"
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "q.parquet")
    with pytest.raises(BadInput, match=r"q\.parquet, query 2"):
        read_queries(tmp_path / "q.parquet")


# --------------------------------------------------------------------------------------------------------- division


def test_a_model_with_few_training_queries_is_few_shot():
    trained = [query(str(number), model=model) for model, count in (("many", 4), ("few", 3), ("other", 50)) for number in range(count)]
    asked = [query("a", model="few"), query("b", model="many", division="few-shot"), query("c", model="never"), query("d", model="few")]
    found = divide(iter(asked), iter(trained), few=3)
    assert [each.division for each in found] == ["few-shot", "supervised", "few-shot", "few-shot"]
    assert [each.model_copy(update={"division": None}) for each in found] == [each.model_copy(update={"division": None}) for each in asked]
    assert [each.division for each in divide(asked, trained, few=0)] == ["supervised", "supervised", "few-shot", "supervised"]


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
def test_conversations_hold_the_same_chats_pictures_and_plans(tmp_path, ending):
    (tmp_path / "p").mkdir()
    turns = (
        Turn(text='a cat like this, "please"', images=(tmp_path / "p" / "a.png", tmp_path / "p" / "b.png")),
        Turn(role="assistant", text="Here."),
        Turn(text="redder \u2028 now", images=(tmp_path / "c.png",)),
    )
    plan = Plan(
        prompt="a red cat, \u00e9tude", negative_prompt="blur", model="mini/neon", arguments=Arguments(sampler="Euler a", cfg_scale=7.5)
    )
    written = [
        Query(id="one", plan=plan, chat=Chat(turns=turns), division="few-shot", role="a baker"),
        Query(id="two", plan=Plan(prompt="a dog", model="m", arguments=Arguments(steps=20, width=512, height=768)), chat=Chat.of("hm")),
    ]
    path = tmp_path / f"out{ending}"
    write_conversations(written, path)
    assert read_queries(path) == written
    first, second = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        if ending == ".jsonl"
        else json.loads(path.read_text(encoding="utf-8"))
    )
    assert [part["from"] for part in first["conversations"]] == ["human", "gpt", "human", "gpt"]
    assert first["conversations"][0]["value"].startswith("Image-1: <image>\nImage-2: <image>\na cat")
    assert (first["image"], "image" in second) == (["p/a.png", "p/b.png", "c.png"], False)
    with pytest.raises(BadInput, match=r"as \.jsonl or \.json"):
        write_conversations(written, tmp_path / "out.parquet")


def test_a_place_for_a_picture_that_somebody_typed_is_none(tmp_path):
    write_conversations([query("one", text="what does <image> mean")], tmp_path / "out.json")
    (found,) = read_queries(tmp_path / "out.json")
    assert (found.chat.turns[0].text, found.chat.images) == ("what does < image > mean", ())


def test_the_content_of_queries_is_also_that_of_their_pictures(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    asked = Query(id="1", chat=Chat(turns=(Turn(text="like this", images=(path,)),)), plan=Plan(prompt="x", model="m"))
    before = content_hash([asked])
    assert content_hash([asked]) == before
    path.write_bytes(b"two")
    assert content_hash([asked]) != before


def test_a_conversation_keeps_adapters_and_the_skipped_layers(tmp_path):
    arguments = Arguments(steps=20, clip_skip=2, loras=(Lora(name="ink", weight=0.8),), seed=4)
    write_conversations(
        [query("one").model_copy(update={"plan": Plan(prompt="a cat", model="m", arguments=arguments)})], tmp_path / "q.json"
    )
    (found,) = read_queries(tmp_path / "q.json")
    assert (found.plan.prompt, found.plan.arguments) == ("a cat", arguments.model_copy(update={"seed": None}))
    assert "a cat <lora:ink:0.8>" in (tmp_path / "q.json").read_text(encoding="utf-8"), "as people write them"


def test_what_conversations_tell_of_adapters_schedules_and_demonstrations_is_read_again(tmp_path):
    arguments = Arguments(sampler="DPM++ 2M Karras", steps=9, loras=(Lora(name="ink", weight=0.8),))
    query = Query(id="q", chat=Chat.of("a boat"), plan=Plan(prompt="one red boat", model="m", arguments=arguments), demonstration="d7")
    write_conversations([query], tmp_path / "c.json")
    assert read_queries(tmp_path / "c.json") == [query]
    flat = {
        "question": "a boat",
        "prompt": "one red boat <lora:ink:0.8>",
        "model": "m",
        "Sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "Steps": 9,
    }
    (tmp_path / "flat.jsonl").write_text(json.dumps(flat), encoding="utf-8")
    (found,) = read_queries(tmp_path / "flat.jsonl")
    assert (found.plan.prompt, found.plan.arguments) == ("one red boat", arguments)
