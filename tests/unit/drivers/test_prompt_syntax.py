"""A1111 prompt syntax: read as A1111 documents it, and handed on to compel so that compel's own parser reads the same."""

import math
import re

import pytest
from compel import Compel
from hypothesis import example, given
from hypothesis import strategies as st

from vernissage.drivers.prompt_syntax import Weighted, plain_text, read_weights, to_compel, unweighted
from vernissage.errors import BadPlan

SYNTAX = st.text(alphabet="ab ,.()[]:|\\+-=\"'1203\n", max_size=40)
WORDS = st.text(max_size=60).filter(lambda text: not re.search(r"[()\[\]\\]|\bAND\b|\bBREAK\b", text))
INEXPRESSIBLE = "=+-"  # compel has no weight for these: they keep their place and are neutral


def weights(prompt: str) -> list[tuple[str, float]]:
    """The stretches of a prompt without BREAK."""
    (part,) = read_weights(prompt)
    return [(text, pytest.approx(weight, abs=1e-5)) for text, weight in part]


def read_or_refused(prompt: str) -> list[list[Weighted]] | None:
    """The prompt as read; None where it is a bad plan. Nothing else may be raised."""
    try:
        return read_weights(prompt)
    except BadPlan:
        return None


def letters(stretches) -> list[tuple[str, float]]:
    """Each character with its weight; spaces do not matter to CLIP."""
    return [(letter, weight) for text, weight in stretches for letter in text if not letter.isspace()]


# The examples of A1111's own documentation of this syntax.
@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
    ],
)
def test_it_reads_what_a1111_documents(prompt, expected):
    assert weights(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("(cat:1.4)", [("cat", 1.4)]),
        ("( cat : 1.4 )", [(" cat ", 1.4)]),
        ("(cat:.5)", [("cat", 0.5)]),
        ("(cat:+1.5)", [("cat", 1.5)]),
        ("(cat:0)", [("cat", 0.0)]),
        ("((cat))", [("cat", 1.21)]),
        ("[cat]", [("cat", 1 / 1.1)]),
        ("[[cat]]", [("cat", 1 / 1.21)]),
        ("[(cat)]", [("cat", 1.0)]),
        ("((a:1.5) b:2)", [("a", 3.0), (" b", 2.0)]),
        ("(a [b] c)", [("a ", 1.1), ("b", 1.0), (" c", 1.1)]),
        ("[a][b]", [("ab", 1 / 1.1)]),
        ("(:1.3)cat", [("cat", 1.0)]),
        ("()", []),
    ],
)
def test_brackets_multiply(prompt, expected):
    assert weights(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (r"\(a\) \[b\] \\", [(r"(a) [b] " + "\\", 1.0)]),
        (r"(\(a\):1.5)", [("(a)", 1.5)]),
        (r"a\b", [(r"a\b", 1.0)]),
        (r"(a\)", [("a)", 1.1)]),
        (r"a\\(b)", [("a\\", 1.0), ("b", 1.1)]),
    ],
)
def test_a_backslash_makes_brackets_words(prompt, expected):
    assert weights(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a ((b", [("a ", 1.0), ("b", 1.21)]),
        ("a [b", [("a ", 1.0), ("b", 1 / 1.1)]),
        ("(a b) c)", [("a b", 1.1), (" c)", 1.0)]),
        ("a] b", [("a] b", 1.0)]),
        ("a:1.3) b", [("a:1.3) b", 1.0)]),
        ("(a [b:1.3)", [("a ", 1.3), ("b", 1.3 / 1.1)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1.0), (" c", 1 / 1.1)]),
    ],
)
def test_brackets_that_do_not_match_are_taken_as_a1111_takes_them(prompt, expected):
    assert weights(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("ratio 16:9", "ratio 16:9"),
        ("a: b", "a: b"),
        ("9:16) c", "9:16) c"),
        ("(a: b)", "a: b"),
        ("3:4:5", "3:4:5"),
        ("a | b", "a | b"),
        ("::", "::"),
    ],
)
def test_a_colon_alone_is_a_colon(prompt, words):
    assert unweighted(prompt) == words


def test_a_break_divides_a_prompt_and_brackets_may_span_it():
    assert read_weights("sky BREAK sea") == [[Weighted("sky", 1.0)], [Weighted("sea", 1.0)]]
    assert read_weights("(sky BREAK sea:1.5)") == [[Weighted("sky", 1.5)], [Weighted("sea", 1.5)]]
    assert read_weights("a\nBREAK\nb, c BREAK (d)") == [[Weighted("a", 1.0)], [Weighted("b, c", 1.0)], [Weighted("d", 1.1)]]
    assert len(read_weights("BREAKFAST at BREAK_POINT")) == 1


@pytest.mark.parametrize("prompt", ["a cat AND a dog", "AND", "cat AND dog :1.2", "a cat,AND a dog"])
def test_and_is_refused_by_name(prompt):
    with pytest.raises(BadPlan, match="AND"):
        read_weights(prompt)


@pytest.mark.parametrize("prompt", ["a cat and a dog", "SAND and LAND", "BRANDY"])
def test_words_that_only_contain_and_are_words(prompt):
    assert plain_text(prompt) == prompt


@pytest.mark.parametrize(
    "editing",
    [
        "[cat:dog:0.5]",
        "[cat:dog:10]",
        "[cat::0.5]",
        "[:dog:0.5]",
        "[cat:0.5]",
        "[cat|dog]",
        "[cat|dog|]",
        "[(a:1.2):b:0.5]",
        "[(a)|b]",
        "[a:b: .5 ]",
    ],
)
def test_prompt_editing_is_refused_by_name_and_quoted(editing):
    with pytest.raises(BadPlan, match="prompt editing") as caught:
        read_weights(f"a {editing} in a garden")
    assert repr(editing) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (r"\[cat:dog:0.5\]", "[cat:dog:0.5]"),
        (r"\[a|b\]", "[a|b]"),
        ("[cat: a dog]", "cat: a dog"),
        ("a|b [c]", "a|b c"),
        ("[a|b", "a|b"),
    ],
)
def test_what_only_looks_like_prompt_editing_is_not_refused(prompt, words):
    assert unweighted(prompt) == words


@pytest.mark.parametrize("prompt", ["(cat:-0.5)", "(cat:-1)", "(" * 60 + "cat", "(cat:1" + "0" * 400 + ")", "(cat:101)"])
def test_a_weight_nobody_can_paint_is_refused_with_the_range(prompt):
    with pytest.raises(BadPlan, match="from 0 to 100"):
        read_weights(prompt)


@given(st.text())
@example("\\")
@example("(:1)")
@example("[:]")
@example("(a:٣)")
@example("(a:1.)")
def test_any_text_can_be_read_or_is_a_bad_plan(text):
    parts = read_or_refused(text)
    assert parts is None or len(parts) >= 1
    for part in parts or []:
        assert all(stretch.text and math.isfinite(stretch.weight) and 0 <= stretch.weight <= 100 for stretch in part)


@given(SYNTAX)
def test_no_letter_is_lost_in_any_syntax(text):
    parts = read_or_refused(text)
    words = "".join(stretch.text for part in parts or [] for stretch in part)
    assert parts is None or [letter for letter in words if letter in "ab,"] == [letter for letter in text if letter in "ab,"]


@given(WORDS)
def test_text_without_syntax_is_kept_as_it_is(text):
    assert plain_text(text) == text
    assert "".join(stretch.text for stretch in read_weights(text)[0]) == text


@given(WORDS, st.floats(0, 100).map(lambda weight: round(weight, 3)))
def test_a_weight_is_read_back_for_any_text(text, weight):
    text = text.strip().replace(":", "") or "cat"
    ((found,),) = read_weights(f"({text}:{weight:.3f})")
    assert found == (text, pytest.approx(weight))


def test_long_nonsense_is_read_in_no_time():
    for nonsense in (":" + "1" * 20_000, "(" * 40 + "a" * 20_000, " " * 20_000 + "BREAK", "[" * 5_000 + "]" * 5_000, "\\" * 20_001):
        assert isinstance(read_weights(nonsense), list)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", "a cat"),
        ("a (cat:1.0)", "a cat"),
        (r"a cat \(cartoon\)", "a cat (cartoon)"),
        ("a (cat)", None),
        ("a [cat]", None),
        ("a BREAK b", None),
        ("[(a)]", "a"),
    ],
)
def test_plain_text_is_there_only_where_all_weights_are_neutral(prompt, expected):
    assert plain_text(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "in_compel"),
    [
        ("a (red:1.3) cat", "a (red)1.3 cat"),
        ("a (red:1.3), cat", "a (red)1.3, cat"),
        ("a cat", "a cat"),
        ("", ""),
        ("  ", ""),
        ("(a:2)", "(a)2"),
        ("(cat:0)", "(cat)0"),
        ("((a:1.5) b)", "((a)1.5 b)1.1"),
        ("((cat))", "((cat)1.1)1.1"),
        ("sky BREAK sea", '("sky", "sea").and()'),
        ("a (sky:1.2) BREAK [blue] sea", '("a (sky)1.2", "(blue)0.909091 sea").and()'),
        ("BREAK sea BREAK", "sea"),
        (r"a \(b\)", r"a \(b\)"),
        (r"(cat \(cartoon\):1.2) here", r"(cat \(cartoon\))1.2 here"),
        ('say "hi" (now:1.2)', r"say \"hi\" (now)1.2"),
        ("日本の猫 (赤い:1.2), naïve", "日本の猫 (赤い)1.2, naïve"),
        ("(unclosed [brackets", "(unclosed)1.1 (brackets)1.0"),
    ],
)
def test_compel_gets_what_its_own_parser_makes_of_the_same_prompt(prompt, in_compel):
    ours, parsed = to_compel(prompt), Compel.parse_prompt_string(in_compel)
    assert len(ours.prompts) == len(parsed.prompts)
    assert ours.weights == parsed.weights
    for one, other in zip(ours.prompts, parsed.prompts, strict=True):
        expected = [(fragment.text, pytest.approx(fragment.weight, abs=1e-5)) for fragment in other.children]
        assert [(fragment.text, fragment.weight) for fragment in one.children] == expected


@given(SYNTAX)
@example(r"foo(bar:1.3)baz \\\( (C++ = fun - sun +:1.3) cat.swap (dog:1.2)")
@example('useLora (red:1.3) --ar 16:9 BREAK "a\\n" (end\\\\:1.2)')
@example("tab\tnew\nline\x0b (x\u3000y:1.2)")
def test_compel_gets_each_letter_with_its_weight(prompt):
    parts = read_or_refused(prompt)
    found = to_compel(prompt).prompts if parts is not None else []
    expected = [letters(part) for part in parts or [] if letters(part)]
    assert [part for part in ([*letters((child.text, child.weight) for child in each.children)] for each in found) if part] == expected


def test_compel_never_gets_an_empty_stretch():
    assert [child.text for child in to_compel("a ( :0.5) (\n:1.2) b").prompts[0].children] == ["a", "b"]
