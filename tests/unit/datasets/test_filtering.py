"""Filtering demonstrations: what goes for which reason, and which of duplicates stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vernissage.datasets import filtering
from vernissage.datasets.filtering import DISTANCE, difference_hash, filter_demonstrations
from vernissage.records.demonstration import Demonstration
from vernissage.records.plan import Arguments, Plan


def shown(name, prompt=None, model="m", arguments=None, negative="", **changes):
    plan = Plan(prompt=prompt or f"a cat {name}", negative_prompt=negative, model=model, arguments=arguments or Arguments())
    return Demonstration(id=name, plan=plan, **changes)


def ids(filtered):
    return [each.id for each in filtered.kept]


def test_nothing_is_dropped_where_nothing_is_wrong():
    given = [shown(name, popularity=number % 3) for number, name in enumerate("abcdef")]
    assert filter_demonstrations(given) == (given, {})
    assert filter_demonstrations([]) == ([], {})


def test_every_reason_is_counted_and_what_stays_keeps_its_order():
    given = [
        shown("unsafe", nsfw=True),
        shown("old", base_model="sd 1.4"),
        shown("a"),
        shown("same plan", prompt="a cat a"),
        shown("b", look="L"),
        shown("same look", look="L"),
        shown("rare", model="rare"),
        shown("c", popularity=9, base_model="SDXL 1.0"),
    ]
    found = filter_demonstrations(given, outdated=("SD 1.4", "SD 2.0"))
    assert ids(found) == ["a", "b", "c"]
    assert found.dropped == {
        "not safe for work": 1,
        "an outdated model": 1,
        "the same plan as another": 1,
        "the same picture as another": 1,
        "a model with too few demonstrations": 1,
    }


def test_what_is_not_safe_for_work_stays_if_wanted():
    assert ids(filter_demonstrations([shown("a", nsfw=True)], nsfw=True, least=1)) == ["a"]


def test_of_doubles_the_most_popular_stays_and_of_equals_the_earlier():
    given = [shown("a", "x", popularity=1), shown("b", "x", popularity=5), shown("c", "x", popularity=5), shown("d", "y"), shown("e", "y")]
    assert ids(filter_demonstrations(given, least=1)) == ["b", "d"]


def test_what_is_dropped_takes_nothing_else_along():
    given = [
        shown("unsafe", "x", nsfw=True, popularity=9, look="L"),
        shown("old", "x", base_model="o", popularity=8),
        shown("a", "x", look="L"),
    ]
    assert ids(filter_demonstrations(given, least=1, outdated=("o",))) == ["a"]


@pytest.mark.parametrize(
    ("other", "double"),
    [
        ({"prompt": "A  cat,\nbig "}, True),
        ({"arguments": Arguments(steps=20, seed=2)}, True),
        ({"prompt": "a cat, small"}, False),
        ({"arguments": Arguments(steps=21, seed=1)}, False),
        ({"negative": "blur"}, False),
        ({"model": "n"}, False),
    ],
)
def test_plans_are_the_same_but_for_case_spaces_and_seed(other, double):
    base = {"prompt": "a cat, big", "arguments": Arguments(steps=20, seed=1)}
    found = filter_demonstrations([shown("a", **base), shown("b", **base | other)], least=1)
    assert ids(found) == (["a"] if double else ["a", "b"])


def test_a_model_is_rare_by_what_is_left_of_it():
    given = [shown(f"{number}", "same" if number < 3 else None) for number in range(5)]  # three are one plan
    assert ids(filter_demonstrations(given, least=3)) == ["0", "3", "4"]
    found = filter_demonstrations(given, least=4)
    assert (ids(found), found.dropped) == ([], {"a model with too few demonstrations": 5})


@given(
    st.lists(
        st.tuples(st.sampled_from("pqr"), st.sampled_from("mn"), st.integers(0, 3), st.booleans(), st.sampled_from(["", "L", "M"])),
        max_size=12,
    ),
    st.integers(1, 3),
)
def test_nothing_is_lost_uncounted_and_no_double_stays(drawn, least):
    given = [shown(str(n), p, m, popularity=k, nsfw=unsafe, look=look) for n, (p, m, k, unsafe, look) in enumerate(drawn)]
    steps = []
    found = filter_demonstrations(given, least=least, progress=lambda *step: steps.append(step))
    assert len(found.kept) + sum(found.dropped.values()) == len(given)
    assert [each for each in given if each in found.kept] == found.kept
    assert not any(each.nsfw for each in found.kept)
    plans = [(each.plan.prompt, each.plan.model) for each in found.kept]
    looks = [each.look for each in found.kept if each.look]
    assert len(set(plans)) == len(plans)
    assert len(set(looks)) == len(looks)
    assert all(sum(model == each.plan.model for _, model in plans) >= least for each in found.kept)
    assert all(0 < done <= total <= len(given) for done, total in steps)


# ------------------------------------------------------------------------------------------------------------- pictures


def test_the_hash_says_where_a_picture_grows_brighter():
    values = np.random.default_rng(0).permutation(256)[:72].reshape(8, 9).astype(np.uint8)
    expected = sum(1 << (8 * y + x) for y in range(8) for x in range(8) if int(values[y, x + 1]) > int(values[y, x]))
    assert difference_hash(Image.fromarray(values)) == expected
    large = Image.fromarray(values).resize((90, 80), Image.Resampling.NEAREST)
    assert difference_hash(large) == expected, "size does not matter"
    assert difference_hash(Image.merge("RGB", [large] * 3)) == expected


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=8), st.randoms())
def test_a_hash_nearby_is_found_and_no_other(others, hashed, flipped, random):
    near = hashed
    for bit in flipped:
        near ^= 1 << bit
    index = filtering._Nearby()
    stored = [*others, hashed]
    random.shuffle(stored)
    for each in stored:
        index.add(each)
    assert index.has(near) == any((each ^ near).bit_count() <= DISTANCE for each in stored)


def test_pictures_that_look_alike_are_doubles_and_others_not(tmp_path, noise_picture):
    for name, picture in {
        "a": noise_picture(1, (160, 128)),
        "smaller": noise_picture(1, (160, 128)).resize((80, 64)),
        "b": noise_picture(2, (160, 128)),
    }.items():
        picture.save(tmp_path / f"{name}.png")
    noise_picture(1, (160, 128)).save(tmp_path / "worse.jpg", quality=40)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    names = ["a.png", "smaller.png", "worse.jpg", "b.png", "broken.png", "none.png"]
    given = [shown(name, picture=str(tmp_path / name)) for name in names]
    given += [shown("address", picture="https://x/a.png"), shown("another address", picture="https://x/a.png"), shown("without")]
    found = filter_demonstrations(given)
    assert ids(found) == ["a.png", "b.png", "broken.png", "none.png", "address", "another address", "without"]
    assert found.dropped == {"a picture that looks like another": 2}


def test_plain_pictures_of_different_colours_do_not_look_alike(tmp_path):
    for colour in ("red", "blue"):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{colour}.png")
    given = [shown(colour, picture=str(tmp_path / f"{colour}.png")) for colour in ("red", "blue")]
    assert ids(filter_demonstrations(given, least=1)) == ["red", "blue"]


def test_what_only_a_rare_model_shares_is_no_duplicate():
    common = [shown(f"c{number}", model="common", look=f"L{number}") for number in range(3)]
    found = filter_demonstrations([*common, shown("r", model="rare", look="L0", popularity=9)])
    assert ids(found) == ["c0", "c1", "c2"]
    assert found.dropped == {"a model with too few demonstrations": 1}


def test_models_that_share_all_their_pictures_do_not_take_one_another_away():
    given = [shown(f"{model}{n}", model=model, look=f"L{n}", popularity=(model == "a") == (n < 2)) for model in "ab" for n in range(3)]
    found = filter_demonstrations(given)
    assert ids(found) == ["a0", "a1", "a2"]
    assert found.dropped == {"a model with too few demonstrations": 3}
