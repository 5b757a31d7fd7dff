"""Splitting: which queries of a model are tested, what is kept out of training, what people and language models refuse."""

import csv
import math

import numpy as np
import pytest

from vernissage.datasets import splitting
from vernissage.datasets.queries import Query
from vernissage.datasets.splitting import colloquialism, read_review, split_queries, words_of, write_review
from vernissage.drivers.fake import FakeMLLM
from vernissage.errors import BadInput
from vernissage.metrics.bert_score import TokenFeatures, match_tokens
from vernissage.records.chat import Chat, Turn
from vernissage.records.plan import Plan


def query(name, text, model="m", demonstration="", turns=()):
    return Query(id=str(name), chat=Chat(turns=(*turns, Turn(text=text))), plan=Plan(prompt="x", model=model), demonstration=demonstration)


def many(count, model="m", seed=0, **options):
    """Requests that read like people's, of words drawn from few, so that some are more distinct than others."""
    rng = np.random.default_rng([seed, *model.encode()])
    return [
        query(f"{model}{n}", "can you make me " + " ".join(f"w{w}" for w in rng.integers(30, size=6)), model, **options)
        for n in range(count)
    ]


def by_hand(queries, encoder, count):
    """Ids of the most distinct: smallest highest F with any other."""
    features = [TokenFeatures(*each) for each in encoder.encode_tokens([each.chat.turns[-1].text for each in queries])]
    highest = [max(match_tokens(a, b).f for b in features if b is not a) for a in features]
    return {queries[row].id for row in sorted(range(len(queries)), key=lambda row: highest[row])[:count]}


# ------------------------------------------------------------------------------------------------------------- choosing


def test_of_each_model_the_share_is_tested_rounded_down(encoder):
    counts = {"a": 4, "b": 5, "c": 24, "d": 1}
    queries = [each for model, count in counts.items() for each in many(count, model)]
    found = split_queries(queries, encoder)
    assert found.returned == {}
    for model, count in counts.items():
        assert sum(each.plan.model == model for each in found.test) == math.floor(count / 5)
    assert sorted(map(repr, found.train + found.test)) == sorted(map(repr, queries))


def test_the_most_distinct_are_tested_and_both_sets_keep_their_order(encoder):
    a, b = many(30, "a"), many(20, "b")
    queries = [each for pair in zip(a, b, strict=False) for each in pair] + a[20:]
    found = split_queries(queries, encoder, share=0.3)
    assert {each.id for each in found.test} == by_hand(a, encoder, 9) | by_hand(b, encoder, 6)
    assert found.test == [each for each in queries if each in found.test]
    assert found.train == [each for each in queries if each not in found.test]


def test_of_a_model_with_very_many_the_odd_ones_are_still_found(encoder, monkeypatch):
    monkeypatch.setattr(splitting, "EXACT", 20)
    rng = np.random.default_rng(1)
    common = [query(n, "can you make me " + " ".join(rng.permutation(["red", "cats", "by", "sea"]))) for n in range(90)]
    odd = [query(f"odd{n}", f"hey{n} please{n} draw{n} i{n} would like{n} that{n} so{n}") for n in range(10)]
    found = split_queries([*common, *odd], encoder, share=0.1, colloquial=0)
    assert {each.id for each in found.test} == {each.id for each in odd}
    assert found == split_queries([*common, *odd], encoder, share=0.1, colloquial=0)


def test_no_share_is_no_test_and_nobody_need_compare():
    steps = []
    found = split_queries(many(10), None, share=0.0, progress=lambda *step: steps.append(step))
    assert (len(found.train), found.test, found.returned, steps) == (10, [], {}, [(1, 1)])
    assert split_queries([], None) == ([], [], {}, 0)


def test_a_share_that_comes_out_even_is_not_one_less(encoder):
    assert len(split_queries(many(100), encoder, share=0.29).test) == 29


# ------------------------------------------------------------------------------------------------------- leaks and losses


def siblings(demonstrations, each=5, model="m"):
    rng = np.random.default_rng(5)
    texts = ["could you make me " + " ".join(f"w{w}" for w in rng.integers(40, size=6)) for _ in range(demonstrations * each)]
    return [query(f"{n}#{k}", texts[n * each + k], model, demonstration=f"d{n}") for n in range(demonstrations) for k in range(each)]


def test_nothing_made_from_a_tested_demonstration_is_trained_on_and_all_that_is_left_out_is_counted(encoder):
    queries = [*siblings(12, 3), *many(20, "other")]
    found = split_queries(queries, encoder)
    tested = {each.demonstration for each in found.test if each.demonstration}
    assert tested
    assert not tested & {each.demonstration for each in found.train}
    gone = found.returned.get("in neither set: made from a tested demonstration", 0)
    assert len(found.train) + len(found.test) + gone == len(queries)
    assert sum(each.plan.model == "other" for each in found.train + found.test) == 20, "queries of no demonstration have no siblings"


def test_no_query_is_lost_where_whole_demonstrations_can_be_tested(encoder):
    found = split_queries(siblings(20, 5), encoder)
    assert len(found.train) + len(found.test) == 100
    assert 10 <= len(found.test) <= 20


# ------------------------------------------------------------------------------------------------------------------ unfit


def talk(count):
    return tuple(Turn(role=("user", "assistant")[n % 2], text="can you please") for n in range(count))


@pytest.mark.parametrize(
    ("text", "turns", "reason"),
    [
        ("make one", (), "not 3 to 60 words"),
        ("can you " + "really " * 59, (), "not 3 to 60 words"),
        ("can you " + "really " * 58, (), None),
        ("can you draw", (), None),
        ("can you draw", talk(6), None),
        ("can you draw", talk(8), "more than 7 turns"),
        ("cat, sea, masterpiece, 8k, best quality", (), "reads like a prompt"),
        ("!?! \U0001f408", (), "not 3 to 60 words"),
    ],
)
def test_what_is_not_for_testing_is_trained_on_with_its_reason(encoder, text, turns, reason):
    found = split_queries([query(1, text, turns=turns), query(2, text, turns=turns)], encoder, share=0.5)
    assert len(found.test) == (reason is None)
    assert found.returned == ({reason: 1} if reason else {})
    assert len(found.train) + len(found.test) == 2


def test_words_are_the_users_alone():
    asked = query(
        1, "Now\u2019s the time: I\u2019d like caf\u00e9s!", turns=(Turn(text="A CAT"), Turn(role="assistant", text="which one?"))
    )
    assert words_of(asked) == ["a", "cat", "now's", "the", "time", "i'd", "like", "caf\u00e9s"]
    assert colloquialism(asked) == 2 / 8
    assert colloquialism(query(1, "...")) == 0.0


def test_people_are_told_by_the_parts_of_speech_where_a_tagger_tells_them(encoder):
    tags = {"draw": "VERB", "it": "PRON", "now": "ADV", "cat": "NOUN", "roof": "NOUN", "oh": "INTJ", "!": "PUNCT"}
    seen = []

    def tagger(texts):
        seen.extend(texts)
        return [[(word, tags[word]) for word in text.split()] for text in texts]

    said = query(1, "draw it now !", turns=(Turn(text="cat"), Turn(role="assistant", text="which one")))
    assert colloquialism(said, tagger) == 1 / 4
    assert seen == ["cat", "draw it now !"]
    half = [query(n, text) for n, text in enumerate(["oh cat roof", "cat roof cat"])]
    assert split_queries(half, encoder, share=1, tagger=tagger).returned == {"reads like a prompt": 1}


def test_how_colloquial_a_request_must_be_can_be_said(encoder):
    half = [query(n, f"can you draw cats{n}") for n in range(2)]
    assert len(split_queries(half, encoder, share=0.5, colloquial=0.5).test) == 1
    assert split_queries(half, encoder, share=0.5, colloquial=0.51).returned == {"reads like a prompt": 1}


# ------------------------------------------------------------------------------------------------------- language models


def test_a_language_model_sends_candidates_back_that_it_finds_unnatural(encoder):
    queries = many(40)
    candidates = split_queries(queries, encoder).test
    bad = {each.chat.turns[0].text for each in candidates[:3]}
    mllm = FakeMLLM(
        lambda ask: '{"reason": "r", "natural": %s}' % ("false" if any(text in ask.messages[0].text for text in bad) else "true")
    )
    found = split_queries(queries, encoder, mllm=mllm)
    assert found.returned == {"a language model finds it unnatural": 3}
    assert found.test == candidates[3:]
    assert len(found.train) == 35
    assert len(mllm.asked) == 8, "only candidates are judged"


@pytest.mark.parametrize("reply", ["I do not know.", '{"reason": "x"}', '{"natural": "maybe"}'])
def test_a_judgement_that_is_none_changes_nothing(encoder, reply):
    mllm = FakeMLLM(lambda ask: reply)
    found = split_queries(many(10), encoder, mllm=mllm)
    assert (found._replace(unjudged=0), found.unjudged) == (split_queries(many(10), encoder), 2)
    assert len(mllm.asked) == 2


def test_what_is_unfit_anyway_is_not_judged(encoder):
    mllm = FakeMLLM(lambda ask: '{"natural": false}')
    found = split_queries([query(n, f"cats{n}, sea{n}, sun{n}") for n in range(10)], encoder, mllm=mllm)
    assert (found.returned, mllm.asked) == ({"reads like a prompt": 2}, [])


# ---------------------------------------------------------------------------------------------------------------- review


def decide(path, **decisions):
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([row | {"keep": decisions.get(row["id"], row["keep"])} for row in rows])
    return rows


def test_a_review_goes_to_people_and_back(tmp_path):
    path = tmp_path / "review.csv"
    odd = query("a,1", 'say "hi",\nplease\r\n\u00fc', turns=(Turn(text="x"), Turn(role="assistant", text="y")))
    write_review([odd, query("b", "can you"), query("c", "hm")], path)
    assert read_review(path) == {"a,1": True, "b": True, "c": True}
    rows = decide(path, b="no", c=" N ")
    assert list(rows[0].values()) == ["a,1", "yes", 'user: x / assistant: y / user: say "hi",\nplease\r\n\u00fc', "x", "m", ""]
    assert rows[1]["request"] == "can you"
    assert read_review(path) == {"a,1": True, "b": False, "c": False}


def test_no_cell_of_a_review_is_taken_for_a_formula_and_ids_come_back_as_they_were(tmp_path):
    path, names = tmp_path / "review.csv", ["=1+1", "'=a", "plain", "'quoted'"]
    write_review([query(name, "@SUM(A1:A9) a cat") for name in names], path, dict.fromkeys(names, False))
    with path.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert cells
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert read_review(path) == dict.fromkeys(names, False)


def test_a_review_that_a_spreadsheet_wrote_is_read(tmp_path):
    (tmp_path / "r.csv").write_bytes("\ufeffkeep,remark,id\r\nYES,,a\r\n0,bad,b\r\n".encode())
    assert read_review(tmp_path / "r.csv") == {"a": True, "b": False}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"id,keep\na,yes\nb,perhaps\n", "line 3.*'perhaps'"),
        (b"id,keep\na,\n", "line 2"),
        (b"id,keep\na\n", "line 2"),
        (b"id,decision\na,no\n", "lacks the column keep"),
        (b"keep\nyes\n", "lacks the column id"),
        (b"id;keep\na;no\n", "lacks the column id, keep"),
        (b"id,keep\n\xff,yes\n", "UTF-8"),
        (b"id,keep\n" + b"x" * 200_000 + b",yes\n", "field larger"),
        (None, "no such file"),
    ],
)
def test_a_review_with_a_mistake_is_refused(tmp_path, content, told):
    if content is not None:
        (tmp_path / "review.csv").write_bytes(content)
    with pytest.raises(BadInput, match=rf"(?s)review\.csv.*{told}"):
        read_review(tmp_path / "review.csv")


@pytest.mark.parametrize("content", ["", "id,decision\n"])
def test_a_review_without_its_columns_is_refused(tmp_path, content):
    (tmp_path / "review.csv").write_text(content, encoding="utf-8")
    with pytest.raises(BadInput):
        read_review(tmp_path / "review.csv")


def test_a_review_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(BadInput):
        write_review([query("a", "b")], tmp_path)


def test_requests_made_from_a_tested_demonstration_do_not_train_planners_of_other_models(encoder):
    def made(name, model, demonstration):
        chat = Chat.of(f"could you make me a {name}")
        return Query(id=name, chat=chat, plan=Plan(prompt="x", model=model), demonstration=demonstration)

    queries = [made(f"thing{n}", "m", f"d{n}") for n in range(20)] + [made(f"other{n}", f"rare{n}", f"d{n}") for n in range(20)]
    found = split_queries(queries, encoder)
    tested = {each.demonstration for each in found.test}
    assert len(tested) == 4
    assert not tested & {each.demonstration for each in found.train}
    assert found.returned["in neither set: made from a tested demonstration"] == 4
