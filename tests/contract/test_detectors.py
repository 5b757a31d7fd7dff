"""What every detector promises, on tiny checkpoints of five architectures, with numbers compared with transformers' own processing."""

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
    rows = sorted(zip(wanted["labels"].tolist(), wanted["boxes"].tolist(), wanted["scores"].tolist(), strict=True), key=lambda row: -row[2])
    assert same(found, [Detection(LABELS[label], tuple(box), score) for label, box, score in rows])


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
        given = [Detection(NAMES[label], tuple(box), score) for label, box, score in rows]
        assert same(found, sorted(given, key=lambda each: -each.confidence))
    else:  # which counts tokens of no name, too, such as full stops
        rows = sorted(zip(wanted["boxes"].tolist(), wanted["scores"].tolist(), strict=True))
        for each, (box, score) in zip(sorted(found, key=lambda each: each.box), rows, strict=True):
            assert each.box == pytest.approx(box, abs=1e-2)
            assert each.confidence <= score + 1e-5


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


def test_masks_of_pictures_that_are_padded_lie_where_the_things_are(detector, pictures):
    for picture, found in zip(pictures, detector("mask2former").detect(pictures, [NAMES] * 5), strict=True):
        for each in found:
            left, top, right, bottom = each.box
            assert 0 <= left < right <= picture.width
            assert 0 <= top < bottom <= picture.height
            assert each.mask.shape == (bottom - top, right - left)


@pytest.mark.parametrize("option", ["threshold", "counting_threshold", "relation_threshold"])
def test_thresholds_beyond_0_to_1_are_refused(detector, option):
    with pytest.raises(BadInput, match="between 0 and 1"):
        detector("yolos", **{option: 1.5})


def test_what_is_no_detector_is_named(clip_folder, tmp_path):
    with pytest.raises(DriverError, match="clip, which is no detector"):
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
