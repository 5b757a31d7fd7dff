"""Duels of planners' pictures: decided by a judge, or by people on a page that does not say who painted what."""

import re

import pytest
from PIL import Image

from vernissage.bench.duels import TIE, Asked, judged_duels, pairs_of, voted_duels, write_key, write_page
from vernissage.errors import BadInput
from vernissage.records.picture import Picture
from vernissage.records.table import read_rows
from vernissage.records.verdict import Score, Unscored
from vernissage.scoring.layouts import Entry

QUERIES = [f"q{number}" for number in range(12)]


@pytest.fixture
def pairs(tmp_path):
    return pairs_of(painted(tmp_path))


def painted(tmp_path, red=100):
    entries = {}
    for place, name in enumerate(("evo", "base")):
        (tmp_path / "painted" / name).mkdir(parents=True, exist_ok=True)
        entries[name] = []
        for number, query in enumerate(QUERIES[place:]):
            path = tmp_path / "painted" / name / f"{number}.png"
            Image.new("RGB", (8, 8), (red * place, 20 * number, 0)).save(path)
            entries[name].append(Entry(query, path))
    return entries


def voted(tmp_path, pairs, lines):
    (tmp_path / "votes.csv").write_text("pair,question,choice,voter\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return voted_duels(tmp_path / "votes.csv", pairs)


def test_a_judge_decides_where_both_are_scored_and_the_gap_is_more_than_a_tie():
    one = {"a": Score(value=50.0), "b": Score(value=50.0), "c": Score(value=50.0), "d": Unscored(reason="gone"), "e": Score(value=50.0)}
    two = {"a": Score(value=40.0), "b": Score(value=50.0 + TIE), "c": Score(value=52.0), "d": Score(value=1.0), "f": Score(value=1.0)}
    (duel,) = judged_duels({"evo": {"judge-perception": one}, "base": {"judge-perception": two}})
    assert (duel.first, duel.second, duel.measure, duel.wins, duel.ties, duel.losses) == ("evo", "base", "judge-perception", 1, 1, 1)
    assert (duel.lead.value, duel.lead.n) == (0, 3)


def test_pairs_are_of_the_queries_that_both_painted_with_sides_drawn_by_lot(pairs):
    assert sorted(pair.query for pair in pairs) == sorted(QUERIES[1:])
    assert {pair.first_is_left for pair in pairs} == {True, False}
    assert all(("evo" in str(pair.left)) == pair.first_is_left for pair in pairs)
    assert len({pair.id for pair in pairs}) == len(pairs)


def test_the_page_shows_every_pair_and_does_not_say_who_painted_it(pairs, tmp_path):
    reference = Picture.of(Image.new("RGB", (8, 8), "red")).save(tmp_path / "shown.png")
    asked = {query: Asked(f"please <b>{query}</b>", [reference] if query == "q3" else []) for query in QUERIES}
    write_page(pairs, asked, tmp_path / "duels.html")
    page = (tmp_path / "duels.html").read_text(encoding="utf-8")
    assert re.findall(r'data-pair="(\w+)"', page) == [pair.id for pair in pairs]
    assert "please &lt;b&gt;q3&lt;/b&gt;" in page
    assert "evo" not in page
    assert "base" not in page
    for pair in pairs:
        for side, picture in (("left", pair.left), ("right", pair.right)):
            assert f'src="duels/{pair.id}-{side}.png"' in page
            copy = Picture.open(tmp_path / "duels" / f"{pair.id}-{side}.png")
            assert copy.hash == Picture.open(picture).hash
            assert copy.told == {}, "metadata tell the model"
    assert page.count('alt="shown with the request"') == sum(pair.query == "q3" for pair in pairs)
    write_key(pairs, tmp_path / "key.csv")
    key = {row["pair"]: row for _, row in read_rows(tmp_path / "key.csv", "key", ("pair", "left", "right"))}
    assert all(key[pair.id]["left"] == ("evo" if pair.first_is_left else "base") for pair in pairs)


def test_votes_of_several_files_may_be_joined_and_a_question_must_be_one_of_those(pairs, tmp_path):
    head, path = "pair,question,choice,voter", tmp_path / "votes.csv"
    path.write_text(
        "\n".join([head, f"{pairs[0].id},quality,left,ann", head, f"{pairs[0].id}, quality ,left,bob"]) + "\n", encoding="utf-8"
    )
    (duel,) = voted_duels(path, pairs)
    assert duel.wins + duel.losses == 2
    path.write_text("\n".join([head, f"{pairs[0].id},qualty,left,ann"]) + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 2: the question is 'qualty'"):
        voted_duels(path, pairs)


def test_votes_are_refused_where_the_pictures_are_others(pairs, tmp_path):
    (tmp_path / "votes.csv").write_text(f"pair,question,choice\n{pairs[0].id},quality,left\n", encoding="utf-8")
    with pytest.raises(BadInput, match="no pair"):
        voted_duels(tmp_path / "votes.csv", pairs_of(painted(tmp_path, red=90)))


def test_a_planner_that_wins_throughout_leads_with_an_interval(tmp_path):
    scores = {name: {"judge-perception": {str(n): Score(value=value) for n in range(12)}} for name, value in (("a", 60.0), ("b", 40.0))}
    (duel,) = judged_duels(scores)
    assert duel.lead.value == 1 == duel.lead.high
    assert 0.4 < duel.lead.low < 0.6


def test_votes_are_turned_to_the_planners_and_those_on_one_chat_weigh_as_one(pairs, tmp_path):
    def choose(pair, first):
        return "left" if pair.first_is_left == first else "right"

    lines = [f"{pair.id},quality,{choose(pair, True)},ann" for pair in pairs[:4]]
    lines += [f"{pairs[0].id},quality,{choose(pairs[0], False)},bob", f"{pairs[4].id},quality, Tie ,bob"]
    lines += [f"{pairs[5].id},relevance,{choose(pairs[5], False)},bob"]
    quality, relevance = voted(tmp_path, pairs, lines)
    assert quality[:6] == ("evo", "base", "quality", 4, 1, 1)
    assert (quality.lead.value, quality.lead.n) == (pytest.approx((0 + 1 + 1 + 1 + 0) / 5), 5)
    assert relevance[:6] == ("evo", "base", "relevance", 0, 0, 1)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nobody,quality,left,ann", "line 3: this run has no pair 'nobody'"),
        ("{0},quality,both,ann", "line 3: the choice is 'both'. Write left, tie, right"),
        ("{0},quality,left,", "line 3: the pair {0} was voted on twice"),
    ],
)
def test_a_vote_with_a_mistake_is_refused_with_its_line(pairs, tmp_path, line, told):
    with pytest.raises(BadInput, match=told.format(pairs[0].id)):
        voted(tmp_path, pairs, [f"{pairs[0].id},quality,left,", line.format(pairs[0].id)])
