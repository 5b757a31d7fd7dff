"""What every detector promises, on tiny checkpoints of five architectures, with numbers compared with transformers' own processing."""

import json
import shutil
import sys

import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    Mask2FormerForUniversalSegmentation,
)

from detectors import KINDS, LABELS, OF_WORDS
from vernissage.drivers.detect_transformers import TransformersDetector
from vernissage.drivers.fake import FakeDetector
from vernissage.errors import BadInput, DriverError, OutOfMemory
from vernissage.ports import Detection
from vernissage.wiring import DriverConfig, load_driver

NAMES = ["cat", "dog"]
ALL = {"threshold": 0.0, "counting_threshold": 0.0, "relation_threshold": 0.0}


@pytest.fixture
def detector(request, detector_folders):
    def make(kind: str, **options) -> TransformersDetector:
        return TransformersDetector(str(detector_folders[kind]), device="cpu", **(ALL | options))

    return make


@pytest.fixture
def pictures(noise_picture):
    return [noise_picture(seed, size) for seed, size in enumerate([(96, 64), (96, 64), (64, 64), (130, 100), (96, 64)])]


def clipped(things: list[Detection], size: tuple[int, int] = (96, 64)) -> list[Detection]:
    """The same with boxes that end where the picture does, surest first."""
    width, height = size
    boxes = [(max(left, 0), max(top, 0), min(right, width), min(bottom, height)) for left, top, right, bottom in (t.box for t in things)]
    kept = [t._replace(box=box) for t, box in zip(things, boxes, strict=True) if box[0] < box[2] and box[1] < box[3]]
    return sorted(kept, key=lambda each: -each.confidence)


def same(one: list[Detection], two: list[Detection]) -> bool:
    pairs = list(zip(one, two, strict=True))
    return all(
        a.name == b.name and a.box == pytest.approx(b.box, abs=1e-2) and a.confidence == pytest.approx(b.confidence, abs=1e-4)
        for a, b in pairs
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_gets_its_things_in_order_the_surest_first_whatever_the_batch(detector, pictures, kind):
    together = detector(kind, batch_size=2).detect(pictures, [NAMES] * len(pictures))
    alone = [detector(kind).detect([picture], [NAMES])[0] for picture in pictures]
    assert all(found and same(found, other) for found, other in zip(together, alone, strict=True))
    for found in together:
        assert [each.confidence for each in found] == sorted((each.confidence for each in found), reverse=True)
        assert {each.name for each in found} <= (set(NAMES) if kind in OF_WORDS else set(LABELS.values()))
        assert all(0 <= each.confidence <= 1 for each in found)


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_it_can_find_and_keeps_what_no_threshold_lets_count_to_itself(detector, pictures, kind):
    everything = detector(kind)
    assert everything.known == (None if kind in OF_WORDS else frozenset(LABELS.values()))
    (found,) = everything.detect(pictures[:1], [NAMES])
    middle = (found[0].confidence + found[-1].confidence) / 2
    (sure,) = detector(kind, threshold=1.0, counting_threshold=middle, relation_threshold=1.0).detect(pictures[:1], [NAMES])
    assert 0 < len(sure) < len(found)
    assert same(sure, [each for each in found if each.confidence > middle])


@pytest.mark.parametrize("kind", OF_WORDS)
def test_a_detector_of_words_looks_for_those_of_each_picture(detector, pictures, kind):
    found = detector(kind).detect(pictures[:3], [["cat"], ["dog", "cup"], []])
    assert {each.name for each in found[0]} == {"cat"}
    assert {each.name for each in found[1]} <= {"dog", "cup"}
    assert found[2] == []
    alone = [detector(kind).detect([picture], [names])[0] for picture, names in zip(pictures, [["cat"], ["dog", "cup"]], strict=False)]
    assert same(found[0], alone[0])
    assert same(found[1], alone[1])


def test_owl_looks_for_the_words_of_all_pictures_at_once(detector, noise_picture, monkeypatch):
    owl, passes = detector("owlv2", batch_size=8), []
    look = owl._model.forward
    monkeypatch.setattr(owl._model, "forward", lambda **given: (passes.append(1), look(**given))[1])
    owl.detect([noise_picture(seed, (64, 64)) for seed in range(8)], [[letter] for letter in "abcdefgh"])
    assert len(passes) == 1


def test_grounding_dino_reads_many_words_in_several_texts_and_refuses_one_that_is_too_long(detector, pictures):
    many = [f"{first}{second}" for first in "abcdefg" for second in "hijklmn"]
    dino = detector("grounding-dino")
    assert len(list(dino._texts(many))) == 3, "49 words of 3 tokens, and 62 tokens a text"
    (found,) = dino.detect(pictures[:1], [many])
    assert len(found) == len(dino.detect(pictures[:1], [many[:1]])[0]) * 3
    first, second = dino.detect(pictures[:2], [["cat"], ["a" * 70]])
    assert isinstance(first, list)
    assert "cannot read a name as long as" in str(second)


@pytest.mark.parametrize("kind", KINDS)
def test_no_box_ends_beyond_the_picture(detector, pictures, kind):
    for picture, found in zip(pictures, detector(kind).detect(pictures, [NAMES] * 5), strict=True):
        for each in found:
            left, top, right, bottom = each.box
            assert 0 <= left < right <= picture.width
            assert 0 <= top < bottom <= picture.height


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_whose_numbers_are_none_has_seen_nothing_and_says_so(detector, pictures, kind):
    ill = detector(kind)
    with torch.no_grad():
        for weights in ill._model.parameters():
            weights.fill_(torch.nan)
    (error,) = ill.detect(pictures[:1], [NAMES])
    assert isinstance(error, DriverError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_is_too_narrow_says_so_and_costs_no_other(detector, pictures, kind):
    first, second = detector(kind).detect([Image.new("RGB", (1, 300)), pictures[0]], [NAMES] * 2)
    assert "1 x 300 is too narrow" in str(first)
    assert isinstance(second, list)


@pytest.mark.parametrize("kind", KINDS)
def test_no_pictures_have_no_things(detector, kind):
    assert detector(kind).detect([], []) == []


@pytest.mark.parametrize("kind", ["yolos", "detr"])
def test_boxes_and_scores_are_those_of_transformers_own_processing(detector, detector_folders, pictures, kind):
    model = AutoModelForObjectDetection.from_pretrained(detector_folders[kind]).eval()
    processor = AutoImageProcessor.from_pretrained(detector_folders[kind])
    with torch.no_grad():
        outputs = model(**processor(images=pictures[0], return_tensors="pt"))
    (wanted,) = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[(64, 96)])
    (found,) = detector(kind).detect(pictures[:1], [NAMES])
    rows = zip(wanted["labels"].tolist(), wanted["boxes"].tolist(), wanted["scores"].tolist(), strict=True)
    assert same(found, clipped([Detection(LABELS[label], tuple(box), score) for label, box, score in rows]))


@pytest.mark.parametrize("kind", OF_WORDS)
def test_words_are_found_as_by_transformers_own_processing(detector, detector_folders, pictures, kind):
    model = AutoModelForZeroShotObjectDetection.from_pretrained(detector_folders[kind]).eval()
    processor = AutoProcessor.from_pretrained(detector_folders[kind])
    text = "cat. dog." if kind == "grounding-dino" else [["a photo of a cat", "a photo of a dog"]]
    inputs = processor(text=text, images=pictures[0], return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (wanted,) = processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=[(64, 96)])
    (found,) = detector(kind).detect(pictures[:1], [NAMES])
    if kind == "owlv2":
        rows = zip(wanted["labels"].tolist(), wanted["boxes"].tolist(), wanted["scores"].tolist(), strict=True)
        assert same(found, clipped([Detection(NAMES[label], tuple(box), score) for label, box, score in rows]))
    else:  # which counts tokens of no name, too, such as full stops
        rows = zip(wanted["boxes"].tolist(), wanted["scores"].tolist(), strict=True)
        theirs = sorted(clipped([Detection("", tuple(box), score) for box, score in rows]), key=lambda each: each.box)
        for each, other in zip(sorted(found, key=lambda each: each.box), theirs, strict=True):
            assert each.box == pytest.approx(other.box, abs=1e-2)
            assert each.confidence <= other.confidence + 1e-5


def test_a_thing_of_two_words_is_as_sure_as_its_surest_token(detector, detector_folders, pictures):
    model = AutoModelForZeroShotObjectDetection.from_pretrained(detector_folders["grounding-dino"]).eval()
    processor = AutoProcessor.from_pretrained(detector_folders["grounding-dino"])
    inputs = processor(text="big cat. dog.", images=pictures[0], return_tensors="pt")
    with torch.no_grad():
        chances = model(**inputs).logits[0].sigmoid()
    # [CLS] b ##i ##g c ##a ##t . d ##o ##g . [SEP]
    wanted = torch.stack([chances[:, 1:7].amax(dim=1), chances[:, 8:11].amax(dim=1)], dim=1).max(dim=1)
    (found,) = detector("grounding-dino").detect(pictures[:1], [["Big cat", "dog"]])
    rows = sorted(zip(wanted.values.tolist(), wanted.indices.tolist(), strict=True), reverse=True)
    assert [(each.confidence, each.name) for each in found] == [
        (pytest.approx(value, abs=1e-5), ("Big cat", "dog")[i]) for value, i in rows
    ]


def test_masks_are_those_of_transformers_own_processing_where_nothing_is_scaled(detector_folders, noise_picture):
    picture = noise_picture(5, (384, 384))  # what transformers scales masks to, whatever the picture
    processor = AutoImageProcessor.from_pretrained(detector_folders["mask2former"], size={"shortest_edge": 384, "longest_edge": 384})
    model = Mask2FormerForUniversalSegmentation.from_pretrained(detector_folders["mask2former"]).eval()
    with torch.no_grad():
        outputs = model(**processor(images=picture, return_tensors="pt"))
    (wanted,) = processor.post_process_instance_segmentation(outputs, threshold=0.0, target_sizes=[(384, 384)], return_binary_maps=True)
    tiny = TransformersDetector(str(detector_folders["mask2former"]), device="cpu", **ALL)
    tiny._processor.size = processor.size
    (found,) = tiny.detect([picture], [NAMES])
    rows = zip(wanted["segments_info"], wanted["segmentation"], strict=True)
    by_score = sorted(((info["score"], LABELS[info["label_id"]], mask.bool()) for info, mask in rows), key=lambda row: -row[0])
    kept = found[: len(by_score)]  # it takes as many pairs of query and class as there are queries
    assert len(by_score) == 6
    for score, name, mask in by_score:
        (own,) = [each for each in kept if each.confidence == pytest.approx(score, abs=2e-6)]
        assert own.name == name
        left, top, right, bottom = own.box
        inside = torch.zeros(384, 384, dtype=torch.bool)
        inside[top:bottom, left:right] = torch.from_numpy(own.mask)
        assert torch.equal(inside, mask)
        assert own.mask.any(axis=0)[[0, -1]].all()
        assert own.mask.any(axis=1)[[0, -1]].all()


def test_masks_of_pictures_that_are_padded_lie_where_the_things_are_and_hold_no_more(detector, pictures):
    for found in detector("mask2former").detect(pictures, [NAMES] * 5):
        for each in found:
            left, top, right, bottom = each.box
            assert each.mask.shape == (bottom - top, right - left)
            assert each.mask.base is None


def test_a_mask2former_that_is_set_to_squares_keeps_the_shape_of_pictures(detector_folders, tmp_path):
    shutil.copytree(detector_folders["mask2former"], tmp_path / "square")
    path = tmp_path / "square" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": {"height": 384, "width": 384}}))
    seen = TransformersDetector(str(tmp_path / "square"), device="cpu")._processor(images=[Image.new("RGB", (60, 30))], return_tensors="pt")
    assert seen["pixel_values"].shape == (1, 3, 672, 1344), "1333 on the long side, and whole cells of 32"


@pytest.mark.parametrize("option", ["threshold", "counting_threshold", "relation_threshold"])
def test_thresholds_beyond_0_to_1_are_refused(detector, option):
    with pytest.raises(BadInput, match="between 0 and 1"):
        detector("yolos", **{option: 1.5})


def test_a_checkpoint_that_needs_a_package_names_it(detector_folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    shutil.copytree(detector_folders["detr"], tmp_path / "timm")
    path = tmp_path / "timm" / "config.json"
    changed = {"use_timm_backbone": True, "backbone": "resnet50", "backbone_config": None}
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(DriverError, match=r"needs a package that is not installed.*timm"):
        TransformersDetector(str(tmp_path / "timm"))


def test_its_name_tells_its_weights(detector, detector_folders, tmp_path):
    shutil.copytree(detector_folders["yolos"], tmp_path / "yolos")
    one = TransformersDetector(str(tmp_path / "yolos"), device="cpu").name
    model = AutoModelForObjectDetection.from_pretrained(tmp_path / "yolos")
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(tmp_path / "yolos")
    assert TransformersDetector(str(tmp_path / "yolos"), device="cpu").name != one
    assert TransformersDetector(str(tmp_path / "yolos"), device="cpu", dtype="bfloat16").name.endswith("in bfloat16")


def test_what_is_no_detector_is_named(clip_folder, tmp_path):
    with pytest.raises(DriverError, match="of the kind clip, which is no detector"):
        TransformersDetector(str(clip_folder))
    with pytest.raises(DriverError, match="nowhere"):
        TransformersDetector(str(tmp_path / "nowhere"))


def test_a_batch_that_fails_is_tried_one_by_one_and_only_the_picture_that_fails_has_an_error(detector, pictures, monkeypatch):
    detector = detector("yolos", batch_size=4)
    look = detector._detect

    def fails(images: list[Image.Image], names: list[str]):
        if any(image is pictures[1] for image in images):
            raise RuntimeError("it is ill")
        return look(images, names)

    monkeypatch.setattr(detector, "_detect", fails)
    found = detector.detect(pictures, [NAMES] * 5)
    assert [isinstance(each, DriverError) for each in found] == [False, True, False, False, False]
    assert "it is ill" in str(found[1])


def test_too_little_memory_says_what_to_lower(detector, pictures, monkeypatch):
    detector = detector("yolos")

    def full(images, names):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(detector, "_detect", full)
    (error,) = detector.detect(pictures[:1], [NAMES])
    assert error.__traceback__ is error.__cause__ is error.__context__ is None, "they hold the batch's memory"
    assert isinstance(error, OutOfMemory)
    assert "batch_size" in str(error)


def test_it_is_reached_by_name(detector_folders):
    config = DriverConfig.model_validate({"driver": "transformers", "model": str(detector_folders["yolos"]), "device": "cpu"})
    assert load_driver("detector", config).thresholds == (0.3, 0.9, 0.5)


def test_the_fake_finds_what_it_is_told(noise_picture):
    cat = Detection("cat", (0, 0, 4, 4), 0.9)
    fake = FakeDetector(lambda image, names: [cat] if image.width == 40 else DriverError("it is ill"))
    found = fake.detect([noise_picture(0, (40, 40)), noise_picture(1, (50, 50))], [["cat"], ["dog"]])
    assert found[0] == [cat]
    assert isinstance(found[1], DriverError)
    assert fake.asked == [["cat"], ["dog"]]
