"""Scores of what a detector finds: GenEval's and T2I-CompBench's rules by hand, what is Unscored, what is kept, 3-in-1 with a tagger."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vernissage.drivers.encode_clip import ClipEncoder
from vernissage.drivers.fake import FakeDetector, FakeEncoder
from vernissage.errors import BadInput, DriverError
from vernissage.ports import Detection, Thresholds
from vernissage.records.picture import Picture
from vernissage.records.verdict import Score, Unscored
from vernissage.scoring.detected import (
    COLOURS,
    PUBLISHED,
    cut_out,
    geneval_labels,
    label_of,
    relation_holds,
    relation_labels,
    relative_position,
    score_geneval,
    score_relations,
)
from vernissage.scoring.layouts import Entry
from vernissage.scoring.questions import Metadata
from vernissage.scoring.registry import find_metrics
from vernissage.scoring.score import Sources, score_entries
from vernissage.scoring.things import spatial_relations

BLANK = Image.new("RGB", (200, 200))
KNOWN = frozenset({"cat", "dog", "mouse", "dining table", "table", "person"})


def at(name: str, x: float, y: float, confidence: float = 0.95, size: float = 20) -> Detection:
    return Detection(name, (x - size / 2, y - size / 2, x + size / 2, y + size / 2), confidence)


def thing(name: str, count: int = 1, **more: object) -> dict:
    return {"class": name, "count": count, **more}


class Colours:
    """A CLIP that tells the colour of a picture's middle, exactly."""

    name = "colours"

    def __init__(self):
        self.texts, self.images = [], []

    def encode_text(self, texts):
        self.texts += texts
        return np.array([[float(f" {colour}" in text) for colour in COLOURS] for text in texts])

    def encode(self, images):
        self.images += images
        middles = [image.getpixel((image.width // 2, image.height // 2)) for image in images]
        return np.array([[float(middle == Image.new("RGB", (1, 1), colour).getpixel((0, 0))) for colour in COLOURS] for middle in middles])

    encode_raw = encode


def geneval(metadata: dict, *found: Detection, image: Image.Image = BLANK, known=None, clip=None, thresholds=PUBLISHED) -> Score | Unscored:
    row = Metadata.model_validate(metadata)
    labels = geneval_labels(row, known)
    if isinstance(labels, Unscored):
        return labels
    return score_geneval([row], [labels], [image], [found], clip or Colours(), thresholds)[0]


# -------------------------------------------------------------------------------------------------------------- GenEval


@pytest.mark.parametrize(
    ("tag", "confidences", "value"),
    [
        ("counting", [0.95, 0.95], 1),
        ("counting", [0.95, 0.89], 0),
        ("counting", [0.95, 0.9], 0),
        ("counting", [0.95, 0.95, 0.95], 0),
        ("two_object", [0.31, 0.31], 1),
        ("two_object", [0.31, 0.3], 0),
        ("", [0.5, 0.5], 1),
    ],
)
def test_things_count_from_the_confidence_on_that_their_task_asks_for(tag, confidences, value):
    metadata = {"tag": tag, "include": [thing("cat", 2)], "exclude": [thing("cat", 3)]}
    assert geneval(metadata, *(at("cat", 50, 50, each) for each in confidences)).value == value


def test_what_is_wrong_is_told():
    both = {"include": [thing("cat"), thing("dog", 2)], "exclude": [thing("cat", 2)]}
    score = geneval(both, at("cat", 1, 1), at("cat", 9, 9), at("dog", 5, 5))
    assert score == Score(value=0.0, reason="1 dog found of 2; 2 cat found, not fewer than 2")
    assert geneval({"include": [thing("cat")]}, at("cat", 1, 1)) == Score(value=1.0, reason="all right")


def test_at_most_sixteen_of_a_kind_are_counted():
    many = [at("cat", 10 * n, 5) for n in range(20)]
    assert geneval({"exclude": [thing("cat", 16)]}, *many).reason == "16 cat found, not fewer than 16"
    assert geneval({"exclude": [thing("cat", 17)]}, *many).value == 1


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (50, 100, {"left of"}),
        (150, 100, {"right of"}),
        (100, 50, {"above"}),
        (100, 150, {"below"}),
        (50, 50, {"left of", "above"}),
        (97, 100, set()),  # a tenth of both sizes, 4, is no distance
        (90, 104, {"left of"}),
        (100, 100, set()),
    ],
)
def test_where_a_thing_is_goes_by_centres_and_sizes(x, y, told):
    assert relative_position(at("cat", x, y), at("dog", 100, 100)) == told


@given(x=st.floats(0, 400), y=st.floats(0, 400), size=st.floats(1, 100))
def test_what_is_left_of_another_has_that_on_its_right(x, y, size):
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    one, two = at("cat", x, y, size=size), at("dog", 200, 200)
    assert relative_position(two, one) == {opposite[how] for how in relative_position(one, two)}


def test_positions_are_those_of_the_surest_and_need_both_things():
    metadata = {"include": [thing("dog"), thing("cat", position=["left of", 0])]}
    dog = at("dog", 100, 100)
    assert geneval(metadata, dog, at("cat", 40, 100, 0.9), at("cat", 160, 100, 0.8)).value == 1
    assert geneval(metadata, dog, at("cat", 160, 100, 0.9), at("cat", 40, 100, 0.8)).reason == "cat not found left of dog"
    assert geneval(metadata, at("cat", 40, 100)).reason == "0 dog found of 1; nothing found that cat could be left of"


@pytest.mark.parametrize(
    ("include", "reason"),
    [
        ([thing("cat", position=["left of", 1]), thing("dog")], "the position of cat is not told by a thing before it"),
        ([thing("cat", position=["left of", 0])], "the position of cat is not told by a thing before it"),
        ([thing("dog"), thing("cat", position=["on top of", 0])], "GenEval knows no position on top of"),
        ([thing("cat", color="crimson")], "GenEval knows no colour crimson"),
        ([thing("cat", 17)], "GenEval counts to 16, not to 17"),
    ],
)
def test_what_geneval_has_no_rule_for_is_unscored(include, reason):
    assert geneval({"include": include}, at("cat", 40, 100), at("dog", 100, 100)) == Unscored(reason=reason)


def test_capitals_make_no_difference():
    metadata = {"tag": "Counting", "include": [thing("Dog"), thing("cat", color="RED", position=["LEFT OF", 0])]}
    found = [at("dog", 150, 100), at("Cat", 50, 100)]
    image = Image.new("RGB", (200, 200), "red")
    assert geneval(metadata, *found, image=image, known=frozenset({"dog", "Cat"})).value == 1
    assert geneval(metadata, *(each._replace(confidence=0.8) for each in found), image=image, known=frozenset({"dog", "Cat"})).value == 0


def test_colours_are_told_of_what_is_cut_out_by_three_descriptions_of_each():
    image = BLANK.copy()
    image.paste("red", (30, 30, 70, 70))
    image.paste("blue", (130, 130, 170, 170))
    clip = Colours()
    cats = [at("cat", 50, 50, 0.9), at("cat", 150, 150, 0.8)]
    red = {"include": [thing("cat", color="red")]}
    assert geneval(red, *cats, image=image, clip=clip).value == 1
    assert clip.texts[:3] == ["a photo of a red cat", "a photo of a red-colored cat", "a photo of a red object"]
    assert len(clip.texts) == len(set(clip.texts)) == 30
    assert [each.size for each in clip.images] == [(20, 20)], "the surest is looked at, as many as are wanted"
    assert geneval({"include": [thing("cat", color="blue")]}, *cats, image=image).reason == "cat found red, not blue"
    assert geneval({"include": [thing("cat", 2, color="red")]}, *cats, image=image).reason == "cat found red and blue, not red"


def test_colours_of_all_pictures_are_looked_at_together_and_are_their_own():
    images = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "green")]
    rows = [Metadata.model_validate({"include": [thing("cat", color=colour)]}) for colour in ("red", "red", "green")]
    clip = Colours()
    scores = score_geneval(rows, [{"cat": "cat"}] * 3, images, [[at("cat", 20, 20)], [at("cat", 20, 20)], []], clip)
    assert [each.value for each in scores] == [1, 0, 0]
    assert len(clip.images) == 2


def test_what_is_round_a_thing_is_grey_where_its_mask_is_known():
    mask = np.zeros((20, 20), dtype=bool)
    mask[:10] = True
    cut = cut_out(Image.new("RGB", (100, 100), "red"), Detection("cat", (10, 10, 30, 30), 0.9, mask))
    assert (cut.size, cut.getpixel((5, 5)), cut.getpixel((5, 15))) == ((20, 20), (255, 0, 0), (153, 153, 153))
    assert cut_out(BLANK, Detection("cat", (10.2, 10.2, 10.4, 10.4), 0.9)).size == (1, 1)


def test_of_a_long_thing_clip_sees_the_same_without_its_ends(clip_folder, noise_picture):
    clip = ClipEncoder(str(clip_folder), device="cpu")
    long = noise_picture(1, (400, 20))
    cut = cut_out(long, Detection("cat", (0, 0, 400, 20), 0.9))
    assert cut.size == (160, 20)
    assert np.allclose(clip.encode([cut]), clip.encode([long]), atol=1e-5)


def test_the_names_of_coco_are_known_to_be_geneval_s():
    assert geneval({"include": [thing("computer mouse")]}, at("mouse", 5, 5), known=KNOWN).value == 1
    assert geneval({"include": [thing("computer mouse")]}, at("computer mouse", 5, 5)).value == 1


@pytest.mark.parametrize("labels", ["motorbike aeroplane sofa pottedplant diningtable tvmonitor", "motorcycle airplane couch tv"])
def test_a_thing_is_known_by_each_of_its_names(labels):
    known = frozenset(labels.split())
    names = ["motorcycle", "motorbike", "airplane", "aeroplane", "couch", "sofa", "tv", "television"]
    assert {label_of(name, known) for name in names} <= known
    assert label_of("dining table", frozenset({"diningtable"})) == "diningtable"


def test_a_label_s_own_name_goes_before_a_plural_of_another():
    both = frozenset({"glass", "glasses", "person", "people"})
    found = [label_of(name, both) for name in ("glasses", "glass", "people", "person", "girls")]
    assert found == ["glasses", "glass", "people", "person", "person"]


def test_what_a_detector_cannot_find_is_unscored_and_not_missing():
    assert geneval({"include": [thing("cat"), thing("zebra")]}, at("cat", 5, 5), known=KNOWN) == Unscored(
        reason="the detector knows no zebra"
    )
    assert geneval({"exclude": [thing("zebra", 1)]}, known=KNOWN) == Unscored(reason="the detector knows no zebra")


def test_thresholds_may_be_others_for_detectors_that_are_less_sure():
    metadata = {"tag": "counting", "include": [thing("cat")]}
    assert geneval(metadata, at("cat", 5, 5, 0.2)).value == 0
    assert geneval(metadata, at("cat", 5, 5, 0.2), thresholds=Thresholds(0.1, 0.15, 0.1)).value == 1


# -------------------------------------------------------------------------------------------------------- T2I-CompBench


def relation(prompt: str, *found: Detection, size: tuple[int, int] = (480, 480), known=KNOWN) -> Score | Unscored:
    relations = spatial_relations(prompt)
    labels = relation_labels(relations, known)
    return labels if isinstance(labels, Unscored) else score_relations(relations, labels, size, found)


def test_a_relation_that_holds_scores_half_and_the_confidence_of_both_the_other_half():
    score = relation("a cat on the left of a dog", at("cat", 100, 200, 0.8), at("dog", 300, 200, 0.6))
    assert score.value == pytest.approx(0.25 * 1.4 + 0.5)
    assert relation("a cat on the right of a dog", at("cat", 100, 200, 1.0), at("dog", 300, 200, 0.9)).value == 0, "0.475 is below a half"
    assert relation("a cat on the right of a dog", at("cat", 100, 200, 1.0), at("dog", 300, 200, 1.0)).value == 0.5


def test_a_thing_that_is_not_found_is_told():
    assert relation("a cat near a white dining table", at("cat", 1, 1)) == Score(value=0.0, reason="not found: white dining table")
    assert relation("a cat near a dog", at("dog", 1, 1), at("cat", 1, 1, 0.49)) == Score(value=0.0, reason="not found: cat")


@pytest.mark.parametrize(
    ("how", "x", "y", "value"),
    [
        ("to the left of", 100, 240, 1),
        ("to the left of", 380, 240, 0),
        ("to the left of", 230, 100, 0),  # more above than left
        ("on top of", 240, 100, 1),
        ("above", 240, 100, 1),
        ("under", 240, 400, 1),
        ("under", 240, 100, 0),
        ("next to", 230, 10, 1),
        ("near", 40, 40, 150 / 200),
        ("beside", 85, 85, 150 / 155),
    ],
)
def test_relations_go_by_centres_in_pictures_of_480(how, x, y, value):
    assert relation_holds(how, at("cat", x, y), at("dog", 240, 240), (480, 479)) == pytest.approx(value, abs=1e-9)


def test_boxes_that_overlap_much_stand_less_surely_beside_one_another():
    one, two = at("cat", 200, 240, size=100), at("dog", 250, 240, size=100)
    assert relation_holds("to the left of", one, two, (480, 480)) == pytest.approx(0.1 / (50 / 150))


def test_boxes_without_area_overlap_in_nothing():
    flat = [Detection("cat", (10, 10, 10, 10), 0.9), Detection("dog", (30, 10, 30, 10), 0.9)]
    assert relation_holds("to the left of", *flat, (480, 480)) == 1


@pytest.mark.parametrize("size", [(960, 960), (960, 480), (300, 960)])
def test_distances_are_measured_alike_in_pictures_of_all_sizes(size):
    factor = max(size) / 480
    one, two = at("cat", 40 * factor, 40 * factor), at("dog", 240 * factor, 240 * factor)
    assert relation_holds("near", one, two, size) == pytest.approx(150 / 200, rel=3e-3)


def test_people_of_all_names_are_persons_and_plurals_are_their_things():
    people = [at("person", 100, 200, 1.0), at("person", 300, 200, 1.0)]
    assert relation("a girl on the left of a man", *people).value == 1, "the surest is the first, the next the second"
    assert relation("two dogs next to a woman", at("dog", 100, 100, 1.0), at("person", 150, 100, 1.0)).value == 1


def test_what_depth_decides_or_nobody_knows_is_unscored():
    assert "depth" in relation("a cat behind a dog", at("cat", 1, 1), at("dog", 2, 2)).reason
    assert relation("a cat near a zebra", at("cat", 1, 1)) == Unscored(reason="the detector knows no zebra")
    open_to_all = relation("a cat near a big zebra", at("cat", 1, 1, 1.0), at("big zebra", 2, 2, 1.0), known=None)
    assert open_to_all.value == 1


# ------------------------------------------------------------------------------------------------------- through `score`


@pytest.fixture
def entry(noise_picture):
    def entry(prompt: str | None = "a cat near a dog", metadata: dict | None = None, *, seed: int = 0) -> Entry:
        path = Path(f"in/{seed}.png")
        Picture.of(noise_picture(seed)).save(path)
        return Entry(path.name, path, prompt, metadata=Metadata.model_validate(metadata) if metadata else None)

    return entry


def score(metrics: str, *entries: Entry, cache: Path | None = None, **sources):
    return score_entries(list(entries), find_metrics(metrics.split(",")), Sources(**sources), cache=cache).pictures


NEAR = [at("cat", 10, 10, 1.0), at("dog", 12, 12, 1.0)]
WANTED = {"include": [thing("cat"), thing("dog")]}


def test_a_detector_that_knows_its_things_looks_once_for_all_metrics(entry):
    detector = FakeDetector(lambda image, names: NEAR, known=KNOWN)
    found = score("geneval-detector,compbench-spatial-detector", entry(metadata=WANTED), detector=detector, clip=FakeEncoder())
    assert [each[0].value for each in found.values()] == [1, 1]
    assert len(detector.asked) == 1


def test_a_detector_of_words_looks_for_those_of_each_prompt(entry):
    detector = FakeDetector(lambda image, names: NEAR)
    wanted = [entry("a cat near a dog"), entry("a red cup on the left of a dog", seed=1), entry("a cat", seed=2)]
    found = score("compbench-spatial-detector", *wanted, detector=detector)["compbench-spatial-detector"]
    assert detector.asked == [["cat", "dog"], ["red cup", "dog"]]
    assert found[0].value == 1
    assert found[1] == Score(value=0.0, reason="not found: red cup")
    assert found[2] == Unscored(reason="the prompt names no spatial relation of two things")


def test_a_picture_that_a_detector_cannot_read_or_that_has_no_metadata_is_unscored_and_the_others_are_not(entry, noise_picture):
    ill = noise_picture(1).tobytes()
    detector = FakeDetector(lambda image, names: DriverError("it is ill") if image.tobytes() == ill else NEAR)
    several = [entry(metadata=WANTED), entry(metadata=WANTED, seed=1), entry(seed=2)]
    found = score("geneval-detector", *several, detector=detector, clip=FakeEncoder())["geneval-detector"]
    assert found == [
        Score(value=1.0, reason="all right"),
        Unscored(reason="it is ill"),
        Unscored(reason="there are no GenEval metadata of this picture"),
    ]


@pytest.mark.parametrize("prompt", ["a cat behind a dog", "a cat near a zebra"])
def test_what_cannot_be_told_is_not_looked_for(entry, prompt):
    detector = FakeDetector(lambda image, names: NEAR, known=KNOWN)
    asked = entry(prompt, {"include": [thing("zebra")]})
    found = score("geneval-detector,compbench-spatial-detector", asked, detector=detector, clip=FakeEncoder())
    assert all(isinstance(each, Unscored) for (each,) in found.values())
    assert detector.asked == []


def test_a_row_that_wants_nothing_says_nothing_of_its_picture(entry):
    found = score("geneval-detector", entry(metadata={"prompt": "a cat"}), detector=FakeDetector(), clip=FakeEncoder())
    assert found["geneval-detector"] == [Unscored(reason="there are no GenEval metadata of this picture")]


@pytest.mark.parametrize("odd", [Detection("cat", (0, 0, float("inf"), 1), 0.9), Detection("cat", (0, 0, 1, 1), float("nan"))])
def test_numbers_that_are_none_are_unscored(entry, odd):
    found = score("geneval-detector", entry(metadata=WANTED), detector=FakeDetector(lambda image, names: [odd]), clip=FakeEncoder())
    assert found["geneval-detector"] == [Unscored(reason="the detector's numbers are not finite")]


def test_a_thing_whose_colour_cannot_be_told_costs_its_own_picture_alone(entry):
    class Ill(FakeEncoder):
        def encode(self, images):
            if any(image.size == (7, 7) for image in images):
                raise DriverError("it is ill")
            return super().encode(images)

    boxes = {32: (0, 0, 7, 7), 33: (0, 0, 9, 9)}
    detector = FakeDetector(lambda image, names: [Detection("cat", boxes[image.width], 0.9)])
    red = {"include": [thing("cat", color="red")]}
    several = [entry(metadata=red), entry(metadata=red, seed=1), entry(metadata={"include": [thing("cat")]}, seed=2)]
    Picture.of(Image.new("RGB", (32, 32), "red")).save(several[0].path)
    for each in several[1:]:
        Picture.of(Image.new("RGB", (33, 33), "red")).save(each.path)
    found = score("geneval-detector", *several, detector=detector, clip=Ill())["geneval-detector"]
    assert found[0] == Unscored(reason="it is ill")
    assert [each.reason == "it is ill" for each in found] == [True, False, False]
    assert found[2].value == 1


def test_other_thresholds_are_not_taken_for_what_was_kept(entry):
    def run(*thresholds: float) -> float:
        detector = FakeDetector(lambda image, names: [at("cat", 5, 5, 0.5)])
        detector.thresholds = Thresholds(*thresholds)
        wanted = entry(metadata={"include": [thing("cat")]})
        return score("geneval-detector", wanted, cache=Path("cache"), detector=detector, clip=FakeEncoder())["geneval-detector"][0].value

    assert (run(), run(0.6), run()) == (1, 0, 1)


def test_without_a_detector_it_is_said_what_is_missing(entry):
    with pytest.raises(BadInput, match="geneval-detector needs `detector`"):
        score("geneval-detector", entry(metadata=WANTED), clip=FakeEncoder())


@pytest.mark.parametrize(
    ("metadata", "anew"), [(WANTED, 0), ({"include": [thing("cat")]}, 1), (WANTED | {"tag": "counting"}, 1), (WANTED | {"other": 1}, 0)]
)
def test_what_was_detected_is_kept_and_other_metadata_are_looked_for_anew(entry, metadata, anew):
    def run(wanted: dict, name: str = "fake") -> int:
        detector = FakeDetector(lambda image, names: NEAR)
        detector.name = name
        score("geneval-detector", entry(metadata=wanted), cache=Path("cache"), detector=detector, clip=FakeEncoder())
        return len(detector.asked)

    assert run(WANTED) == 1
    assert run(metadata) == anew
    assert run(WANTED, "another") == 1


# --------------------------------------------------------------------------------------------------------- with a tagger


class Yes:
    """An MLLM that is sure of everything."""

    name, brief = "yes", False

    def choose(self, asks, options):
        return [np.array([1.0, 0.0]) for _ in asks]


def tagger(texts):
    return [[(word, "ADJ" if word in ("red", "big") else "NOUN") for word in text.split()] for text in texts]


def test_clip_reads_no_adjectives_in_three_in_one_where_a_tagger_tells_them(entry, noise_picture):
    clip = FakeEncoder()
    (found,) = score("compbench-3-in-1", entry("a red big cat"), mllm=Yes(), clip=clip, tagger=tagger)["compbench-3-in-1"]
    cosine = float(clip.encode([noise_picture(0)])[0] @ clip.encode_text(["a cat"])[0])
    assert found.value == pytest.approx((1 + cosine) / 2, abs=1e-6)
    both = score("clipscore,compbench-3-in-1", entry("a red big cat"), mllm=Yes(), clip=clip, tagger=tagger)
    whole = float(clip.encode([noise_picture(0)])[0] @ clip.encode_text(["a red big cat"])[0])
    assert both["clipscore"][0].value == pytest.approx(max(100 * whole, 0), abs=1e-4), "other scores read the whole prompt"


def test_of_a_prompt_of_adjectives_alone_clip_reads_nothing_as_the_authors_s_does(entry, noise_picture):
    clip = FakeEncoder()
    (found,) = score("compbench-3-in-1", entry("red big"), mllm=Yes(), clip=clip, tagger=tagger)["compbench-3-in-1"]
    cosine = float(clip.encode([noise_picture(0)])[0] @ clip.encode_text([""])[0])
    assert found.value == pytest.approx((1 + cosine) / 2, abs=1e-6)


def test_a_prompt_is_tagged_once(entry):
    seen = []
    several = [entry("a red cat", seed=seed) for seed in range(3)]
    score("compbench-3-in-1", *several, mllm=Yes(), clip=FakeEncoder(), tagger=lambda texts: [seen.extend(texts), *tagger(texts)][1:])
    assert seen == ["a red cat"]


def test_three_in_one_is_computed_anew_with_a_tagger(entry):
    kept = {"mllm": Yes(), "clip": FakeEncoder(), "cache": Path("cache")}
    without = score("compbench-3-in-1", entry("a red big cat"), **kept)
    with_one = score("compbench-3-in-1", entry("a red big cat"), tagger=tagger, **kept)
    assert without != with_one
    assert score("compbench-3-in-1", entry("a red big cat"), **kept) == without
