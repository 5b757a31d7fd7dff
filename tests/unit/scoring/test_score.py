"""Scores of folders: against plain computations, each picture looked at once, with broken pictures, and going on after a cut."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import transformers
from numpy import ndarray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vernissage.drivers.encode_clip import ClipEncoder
from vernissage.drivers.encode_dinov2 import Dinov2Encoder
from vernissage.drivers.fake import FakeDetector, FakeEncoder, FakeMLLM
from vernissage.errors import BadInput, DriverError, UnknownName
from vernissage.metrics.distribution import gather, kernel_distance, manifold_scores, save_statistics
from vernissage.ports import Ask
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Plan
from vernissage.records.verdict import Score, Unscored, Verdict
from vernissage.scoring.layouts import Entry, find_entries
from vernissage.scoring.questions import Metadata
from vernissage.scoring.registry import METRICS, find_metrics
from vernissage.scoring.score import Scored, Sources, score_entries
from vernissage.wiring import find_driver

CLOSE = 1e-5
REFERENCE = Path("ref")
METADATA = Metadata.model_validate({"include": [{"class": "cat"}]})


class Counting:
    """A fake encoder that counts how often it was given each picture; ill for those in `ill`."""

    def __init__(self, name: str = "counting", *, fails_after: int | None = None) -> None:
        self.name = name
        self.images: Counter[bytes] = Counter()
        self.texts: list[str] = []
        self.ill: set[bytes] = set()
        self._fails_after = fails_after

    def encode(self, images) -> ndarray:
        rows = self.encode_raw(images)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_raw(self, images) -> ndarray:
        self.images.update(image.tobytes() for image in images)
        if self._fails_after is not None and self.images.total() > self._fails_after:
            raise KeyboardInterrupt
        rows = FakeEncoder().encode_raw(images)
        rows[[image.tobytes() in self.ill for image in images]] = np.nan
        return rows

    def encode_text(self, texts) -> ndarray:
        self.texts += texts
        return FakeEncoder().encode_text(texts)


class FakeJudge:
    """Finds a picture as good as its first pixel is red, and as fitting as its prompt is long; keeps what it was asked."""

    name = "fake judge"

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def judge(self, images, prompts, questions) -> list[Verdict]:
        assert len(images) == len(prompts) == len(questions)
        self.asked += prompts
        return [
            Verdict(
                perception=Score(value=float(image.getpixel((0, 0))[0])),
                correspondence=Score(value=float(len(prompt))) if prompt else Unscored(reason="no prompt was given"),
                judge=self.name,
            )
            for image, prompt in zip(images, prompts, strict=True)
        ]


@pytest.fixture
def save(noise_picture):
    """Writes a picture of noise that carries a prompt."""

    def save(path: str, seed: int = 0, prompt: str = "", size: tuple[int, int] = (40, 32)) -> Image.Image:
        image = noise_picture(seed, size)
        if path.endswith(".png"):
            Picture.of(image, Provenance(plan=Plan(prompt=prompt, model="mini/neon")) if prompt else None).save(path)
        else:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        return image

    return save


@pytest.fixture
def folders(save):
    """So many pictures with prompts in `in`, and likewise named ones in `ref`."""

    def folders(count: int, *, others: int | None = None) -> tuple[list[Image.Image], list[Image.Image]]:
        mine = [save(f"in/{index}.png", index, f"a cat {index} on the left of a dog") for index in range(count)]
        return mine, [save(f"ref/{index}.png", 1000 + index) for index in range(count if others is None else others)]

    return folders


def score(
    metrics: str, source: str | Path = "in", *, reference: Path | None = None, cache: Path | None = None, progress=None, **sources
) -> Scored:
    return score_entries(
        [entry._replace(metadata=METADATA) for entry in find_entries(Path(source))],
        find_metrics(metrics.split(",")),
        Sources(**sources),
        reference=reference,
        cache=cache,
        progress=progress,
    )


def values(scored: Scored, metric: str) -> list[float | None]:
    return [getattr(found, "value", None) for found in scored.pictures[metric]]


def reasons(scored: Scored, metric: str) -> list[str]:
    return [found.reason for found in scored.pictures[metric]]


class FakeScorer:
    """A learned metric: the picture's first pixel, by green; keeps the prompts that it was asked about."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str | None] = []

    def score(self, images, prompts, references) -> list[Score | Unscored]:
        assert len(images) == len(prompts) == len(references)
        self.asked += prompts
        return [Score(value=float(image.getpixel((0, 0))[1])) for image in images]


LEARNED = [name for name, metric in METRICS.items() if "scorer" in metric.needs]
ALL = ",".join(METRICS)


class Classifying(Counting):
    """A fake encoder that also tells classes."""

    def probabilities(self, features) -> ndarray:
        chances = np.exp(features)
        return chances / chances.sum(axis=1, keepdims=True)


def reply(ask: Ask) -> str:
    """A rating, or questions to a prompt."""
    return '{"reason": "fair", "rating": 4}' if "rat" in ask.messages[0].text else '{"questions": [{"question": "Is there a cat?"}]}'


def everybody() -> dict:
    scorers = {name: FakeScorer(name) for name in LEARNED}
    encoders = {"clip": Counting("clip"), "dinov2": Counting("dinov2"), "inception": Classifying("inception")}
    return encoders | {"mllm": FakeMLLM(reply), "judge": FakeJudge(), "detector": FakeDetector(), "scorers": scorers}


# ------------------------------------------------------------------------------------------------------------ registry


def test_every_metric_scores_where_everything_that_it_needs_is_there(save):
    for index in range(12):
        save(f"in/{index}.png", index, "a cat on the left of a dog")
        save(f"ref/{index}.png", 1000 + index)
    scored = score(ALL, reference=REFERENCE, **everybody())
    assert {*scored.pictures, *scored.sets} == set(METRICS)
    assert {name for name, metric in METRICS.items() if metric.of_set} == set(scored.sets)
    for name in scored.pictures:
        assert all(isinstance(found, Score) for found in scored.pictures[name]), name
        assert len(scored.pictures[name]) == 12
    for name, found in scored.sets.items():
        assert isinstance(found, Score), name


def test_every_learned_metric_names_a_driver_that_there_is_and_every_metric_a_licence():
    for metric in METRICS.values():
        assert metric.licence
        assert bool(metric.driver) == ("scorer" in metric.needs), metric.name
        if metric.driver:
            assert find_driver("scorer", metric.driver)


def test_metrics_are_found_by_name_each_once_in_the_order_asked_for():
    assert [metric.name for metric in find_metrics(["ssim", "clipscore", "ssim"])] == ["ssim", "clipscore"]
    with pytest.raises(UnknownName, match="clipscore"):
        find_metrics(["clip-score"])


@pytest.mark.parametrize(
    ("metrics", "given", "told"),
    [
        ("clipscore", {}, "clip"),
        ("vqascore", {}, "mllm"),
        ("judge-perception", {}, "judge"),
        ("aesthetic", {}, "checkpoint"),
        ("fd-dinov2", {"reference": REFERENCE}, "dinov2"),
        ("ssim", {}, "--reference"),
        ("clip-fid", {"clip": FakeEncoder()}, "--reference"),
        ("psnr", {"reference": Path("none")}, "There is no none"),
        ("clip-fid", {"clip": FakeEncoder(), "reference": Path("empty")}, "no pictures in empty"),
        ("psnr", {"reference": Path("empty")}, "no pictures in empty"),
        ("psnr", {"reference": Path("statistics.npz")}, "no folder of reference pictures"),
        ("clip-fid", {"clip": FakeEncoder(), "reference": Path("in/0.png")}, "no FID statistics"),
    ],
)
def test_what_a_metric_needs_and_lacks_is_told(folders, metrics, given, told):
    folders(2)
    Path("empty").mkdir()
    save_statistics(Path("statistics.npz"), gather(np.eye(8)))
    with pytest.raises(BadInput, match=told):
        score(metrics, **given)


# ----------------------------------------------------------------------------------------------- against plain numbers


@pytest.fixture
def tiny(clip_folder, dinov2_folder):
    """The tiny checkpoints: our encoders, and the features that transformers itself gives."""
    clip, dinov2 = (
        transformers.CLIPModel.from_pretrained(clip_folder).eval(),
        transformers.Dinov2Model.from_pretrained(dinov2_folder).eval(),
    )
    clip_pixels = transformers.CLIPImageProcessorPil.from_pretrained(clip_folder)
    dinov2_pixels = transformers.BitImageProcessorPil.from_pretrained(dinov2_folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(clip_folder)

    @torch.inference_mode()
    def texts(prompts: list[str]) -> ndarray:
        tokens = tokenizer(prompts, padding=True, return_tensors="pt")
        return clip.text_projection(clip.text_model(**tokens).pooler_output).numpy()

    @torch.inference_mode()
    def images(pictures: list[Image.Image], encoder: str = "clip") -> ndarray:
        if encoder == "dinov2":
            return dinov2(**dinov2_pixels(images=pictures, return_tensors="pt")).last_hidden_state[:, 0].numpy()
        return clip.visual_projection(clip.vision_model(**clip_pixels(images=pictures, return_tensors="pt")).pooler_output).numpy()

    sources = {"clip": ClipEncoder(str(clip_folder), device="cpu"), "dinov2": Dinov2Encoder(str(dinov2_folder), device="cpu")}
    return sources, images, texts


def cosines(one: ndarray, two: ndarray) -> ndarray:
    return (one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)


def test_clipscore_is_a_hundred_times_the_cosine_of_transformers_and_never_below_zero(tiny, save):
    sources, images, texts = tiny
    prompts = [f"{letter} cat" for letter in "abcdefghijkl"]
    pictures = [save(f"in/{index:02}.png", index, prompt) for index, prompt in enumerate(prompts)]
    expected = cosines(images(pictures), texts(prompts))
    assert values(score("clipscore", clip=sources["clip"]), "clipscore") == pytest.approx(100 * np.clip(expected, 0, None), abs=100 * CLOSE)
    assert np.abs(expected).max() > 0.01


def test_a_cosine_below_zero_is_a_clipscore_of_zero(folders):
    pictures, _ = folders(20)
    found = cosines(
        FakeEncoder().encode(pictures), FakeEncoder().encode_text([f"a cat {index} on the left of a dog" for index in range(20)])
    )
    assert (found < 0).any()
    assert values(score("clipscore", clip=FakeEncoder()), "clipscore") == pytest.approx(100 * np.maximum(found, 0), abs=100 * CLOSE)


def test_likenesses_by_features_are_cosines_of_transformers(tiny, folders):
    sources, images, _ = tiny
    mine, theirs = folders(5)
    scored = score("clip-image,dinov2", reference=REFERENCE, **sources)
    assert values(scored, "clip-image") == pytest.approx(cosines(images(mine), images(theirs)), abs=CLOSE)
    assert values(scored, "dinov2") == pytest.approx(cosines(images(mine, "dinov2"), images(theirs, "dinov2")), abs=CLOSE)


def test_likenesses_by_pixels_are_those_of_scikit_image_with_the_reference_at_the_size_of_the_picture(save):
    pictures = [save("in/a.png", 0), save("in/b.png", 1, size=(31, 57))]
    references = [save("ref/a.png", 2), save("ref/b.png", 3, size=(90, 20))]
    scored = score("ssim,psnr", reference=REFERENCE)
    scaled = [each.resize(picture.size, Image.Resampling.BICUBIC) for picture, each in zip(pictures, references, strict=True)]
    pairs = [(np.asarray(picture), np.asarray(each)) for picture, each in zip(pictures, scaled, strict=True)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "channel_axis": -1}
    assert values(scored, "ssim") == pytest.approx([structural_similarity(*pair, **options) for pair in pairs], abs=1e-9)
    assert values(scored, "psnr") == pytest.approx([peak_signal_noise_ratio(*pair, data_range=255) for pair in pairs], abs=1e-9)


def test_frechet_distances_are_those_of_a_matrix_root_of_the_features_of_transformers(tiny, folders):
    sources, images, _ = tiny
    mine, theirs = folders(70, others=90)
    scored = score("clip-fid,fd-dinov2", reference=REFERENCE, **sources)
    for name, encoder in (("clip-fid", "clip"), ("fd-dinov2", "dinov2")):
        one, two = images(mine, encoder).astype(float), images(theirs, encoder).astype(float)
        first, second = np.cov(one.T), np.cov(two.T)
        apart = one.mean(axis=0) - two.mean(axis=0)
        expected = apart @ apart + np.trace(first) + np.trace(second) - 2 * np.trace(scipy.linalg.sqrtm(first @ second).real)
        assert scored.sets[name].value == pytest.approx(expected, rel=1e-5)
        assert scored.sets[name].reason == "", "there are more pictures than features"


def test_set_scores_are_computed_of_features_as_they_are(folders):
    mine, theirs = folders(9, others=12)
    clip, dinov2 = FakeEncoder().encode_raw(mine), FakeEncoder().encode_raw(theirs)
    scored = score("clip-kid,precision,recall,density,coverage", reference=REFERENCE, clip=FakeEncoder(), dinov2=FakeEncoder())
    assert scored.sets["clip-kid"].value == pytest.approx(kernel_distance(clip, dinov2).mean, rel=1e-6)
    manifold = manifold_scores(dinov2, clip)._asdict()
    assert {name: scored.sets[name].value for name in manifold} == manifold


def test_a_set_is_no_distance_from_itself(folders):
    folders(12)
    scored = score("clip-fid,precision,recall", reference=Path("in"), clip=FakeEncoder(), dinov2=FakeEncoder())
    assert scored.sets["clip-fid"].value == pytest.approx(0, abs=1e-5)
    assert scored.sets["precision"].value == scored.sets["recall"].value == 1


def test_statistics_may_stand_for_the_reference_pictures(folders):
    _, theirs = folders(12)
    save_statistics(Path("ref.npz"), gather(FakeEncoder().encode_raw(theirs)))
    by_folder = score("clip-fid", reference=REFERENCE, clip=FakeEncoder())
    by_file = score("clip-fid,clip-kid,precision", reference=Path("ref.npz"), clip=FakeEncoder(), dinov2=FakeEncoder())
    assert by_file.sets["clip-fid"].value == pytest.approx(by_folder.sets["clip-fid"].value, rel=1e-9)
    for name in ("clip-kid", "precision"):
        assert isinstance(by_file.sets[name], Unscored)
        assert name in by_file.sets[name].reason


def test_statistics_as_pytorch_fid_writes_them_without_a_count_serve(folders):
    _, theirs = folders(12)
    features = FakeEncoder().encode_raw(theirs).astype(float)
    np.savez("ref.npz", mu=features.mean(axis=0), sigma=np.cov(features.T))
    expected = score("clip-fid", reference=REFERENCE, clip=FakeEncoder()).sets["clip-fid"].value
    assert score("clip-fid", reference=Path("ref.npz"), clip=FakeEncoder()).sets["clip-fid"].value == pytest.approx(expected, rel=1e-9)


def test_statistics_of_another_encoder_give_no_score(folders):
    folders(12)
    save_statistics(Path("ref.npz"), gather(np.random.default_rng(0).normal(size=(30, 9))))
    found = score("clip-fid", reference=Path("ref.npz"), clip=FakeEncoder()).sets["clip-fid"]
    assert isinstance(found, Unscored)
    assert "9" in found.reason


@pytest.mark.parametrize(("count", "others"), [(1, 8), (8, 1), (1, 1)])
def test_sets_of_one_picture_give_no_distance(folders, count, others):
    folders(count, others=others)
    scored = score("clip-fid,clip-kid,fd-dinov2,precision", reference=REFERENCE, clip=FakeEncoder(), dinov2=FakeEncoder())
    assert all(isinstance(found, Unscored) and found.reason for found in scored.sets.values())


@pytest.mark.parametrize(("count", "others"), [(5, 6), (6, 5)])
def test_sets_of_no_more_pictures_than_neighbours_have_no_precision(folders, count, others):
    folders(count, others=others)
    scored = score("precision,recall,density,coverage,clip-fid", reference=REFERENCE, clip=FakeEncoder(), dinov2=FakeEncoder())
    assert [name for name, found in scored.sets.items() if isinstance(found, Score)] == ["clip-fid"]
    assert "neighbours" in scored.sets["recall"].reason


def test_a_distance_of_fewer_pictures_than_features_says_that_it_is_biased(folders):
    folders(8, others=20)
    found = score("clip-fid", reference=REFERENCE, clip=FakeEncoder()).sets["clip-fid"]
    assert isinstance(found, Score)
    assert "8 pictures for 8 features" in found.reason


def test_vqascore_is_the_probability_of_yes(folders, monkeypatch):
    folders(3)
    asked = []

    def choose(self, asks, options):
        assert tuple(options) == ("yes", "no")
        asked.extend(asks)
        return [np.array([share, 1 - share]) for share in (0.25, 1.0, 0.0)]

    monkeypatch.setattr(FakeMLLM, "choose", choose)
    assert values(score("vqascore", mllm=FakeMLLM()), "vqascore") == [0.25, 1.0, 0.0]
    for index, ask in enumerate(asked):
        (message,) = ask.messages
        assert f"a cat {index} on the left of a dog" in message.text
        assert len(message.images) == 1


def test_the_judge_says_how_good_and_how_fitting_each_picture_is(save):
    images = [save("in/a.png", 0, "a cat"), save("in/b.png", 1)]
    judge = FakeJudge()
    scored = score("judge-perception,judge-correspondence", judge=judge)
    assert values(scored, "judge-perception") == [image.getpixel((0, 0))[0] for image in images]
    assert values(scored, "judge-correspondence") == [5.0, None]


# ----------------------------------------------------------------------------------------------------------------- once


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_each_picture_is_encoded_once_by_each_encoder_however_many_metrics_share_it(folders, monkeypatch, chunk):
    monkeypatch.setattr("vernissage.scoring.score.CHUNK", chunk)
    mine, theirs = folders(12)
    sources = everybody()
    score(ALL, reference=REFERENCE, cache=Path("cache"), **sources)
    for encoder in (sources["clip"], sources["dinov2"]):
        assert encoder.images == Counter(image.tobytes() for image in [*mine, *theirs])
    assert Counter(sources["judge"].asked) == Counter(f"a cat {index} on the left of a dog" for index in range(12))
    assert len(sources["mllm"].asked) == 9 * 12
    assert all(len(scorer.asked) == 12 for scorer in sources["scorers"].values())


def test_each_picture_is_encoded_once_where_nothing_is_kept(folders):
    mine, theirs = folders(12)
    sources = everybody()
    score("clipscore,clip-image,dinov2,judge-perception,judge-correspondence", reference=REFERENCE, **sources)
    for encoder in (sources["clip"], sources["dinov2"]):
        assert encoder.images == Counter(image.tobytes() for image in [*mine, *theirs])
    assert len(sources["judge"].asked) == 12


def test_the_same_picture_under_two_names_is_encoded_once(save):
    for name in ("a", "b", "c"):
        save(f"in/{name}.png", 0, "a cat")
    encoder = Counting()
    assert len(set(values(score("clipscore", clip=encoder), "clipscore"))) == 1
    assert encoder.images.total() == 1


def test_a_prompt_of_many_pictures_is_encoded_once(save):
    for index in range(6):
        save(f"in/{index}.png", index, "a cat" if index % 2 else "a dog")
    encoder = Counting()
    score("clipscore", clip=encoder)
    assert sorted(encoder.texts) == ["a cat", "a dog"]


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_scores_do_not_depend_on_how_many_pictures_are_worked_on_at_once(folders, monkeypatch, chunk):
    folders(12, others=11)
    Path("in/3.png").write_bytes(b"no picture")
    expected = score(ALL, reference=REFERENCE, **everybody())
    monkeypatch.setattr("vernissage.scoring.score.CHUNK", chunk)
    found = score(ALL, reference=REFERENCE, **everybody())
    assert found.pictures == expected.pictures
    for name, one in expected.sets.items():
        assert getattr(found.sets[name], "value", None) == pytest.approx(getattr(one, "value", None), rel=1e-9)


@pytest.mark.parametrize("metrics", ["clipscore", "clipscore,clip-fid"])
def test_progress_goes_up_to_all_pictures_those_of_a_reference_set_too(folders, monkeypatch, metrics):
    monkeypatch.setattr("vernissage.scoring.score.CHUNK", 2)
    folders(3, others=5)
    told = []
    score(metrics, reference=REFERENCE, clip=FakeEncoder(), progress=lambda *step: told.append(step))
    total = 3 if metrics == "clipscore" else 8
    assert told[-1] == (total, total)
    assert all(one[0] < two[0] and two[1] == total for one, two in itertools.pairwise(told))


# -------------------------------------------------------------------------------------------------------------- faults


def odd_pictures(upright: Image.Image) -> dict[str, tuple[Image.Image, Image.Image]]:
    """The picture in many modes, each with how it looks."""
    grey = upright.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    clear = upright.convert("RGBA")
    clear.putalpha(0)
    half = Image.blend(upright, Image.new("RGB", upright.size, "white"), 0.5)
    veiled = upright.convert("RGBA")
    veiled.putalpha(128)
    return {
        "16-bit": (deep, grey.convert("RGB")),
        "alpha": (clear, Image.new("RGB", upright.size, "white")),
        "veil": (veiled, half),
        "palette": (upright.quantize(256), upright.quantize(256).convert("RGB")),
        "grey": (grey, grey.convert("RGB")),
        "bits": (grey.convert("1"), grey.convert("1").convert("RGB")),
    }


def test_pictures_in_odd_modes_are_scored_as_they_look(noise_picture):
    Path("in").mkdir()
    REFERENCE.mkdir()
    kinds = odd_pictures(noise_picture(0))
    for name, (odd, plain) in kinds.items():
        odd.save(f"in/{name}.png")
        plain.save(f"ref/{name}.png")
    scored = score("psnr,clip-image", reference=REFERENCE, clip=FakeEncoder())
    found = dict(zip((entry.name for entry in scored.entries), values(scored, "psnr"), strict=True))
    assert all(value > 45 for value in found.values()), found
    assert len(found) == len(kinds)


def test_a_picture_that_lies_on_its_side_is_scored_upright(noise_picture):
    upright = noise_picture(0)
    for folder in ("in", "ref"):
        Path(folder).mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    upright.transpose(Image.Transpose.ROTATE_90).save("in/a.png", exif=exif)
    upright.save("ref/a.png")
    assert values(score("psnr,ssim", reference=REFERENCE), "psnr") == [100]


def test_a_jpeg_in_printing_colours_is_scored_as_it_looks(noise_picture):
    for folder in ("in", "ref"):
        Path(folder).mkdir()
    noise_picture(0).convert("CMYK").save("in/a.jpg", quality=100, subsampling=0)
    noise_picture(0).save("ref/a.png")
    (found,) = values(score("psnr", reference=REFERENCE), "psnr")
    assert found > 30


def test_a_picture_of_one_pixel_is_scored_where_that_is_possible(tiny):
    sources, _, _ = tiny
    for folder in ("in", "ref"):
        Picture.of(Image.new("RGB", (1, 1), "red")).save(f"{folder}/a.png")
    scored = score("psnr,ssim,clip-image,dinov2", reference=REFERENCE, **sources)
    assert [values(scored, name)[0] for name in ("psnr", "clip-image", "dinov2")] == pytest.approx([100, 1, 1], abs=CLOSE)
    assert "11 pixels" in reasons(scored, "ssim")[0]


def broken(name: str, good: bytes) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.stem:
        case "cut":
            path.write_bytes(good[: len(good) // 2])
        case "empty":
            path.touch()
        case "text":
            path.write_bytes(b"no picture")
        case "flipped":
            path.write_bytes(good[:60] + b"\xff" * 40 + good[100:])


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "flipped"])
def test_a_broken_picture_has_no_score_in_any_metric_and_says_why(folders, kind):
    folders(12)
    broken(f"in/{kind}.png", Path("in/0.png").read_bytes())
    broken(f"ref/{kind}.png", Path("in/0.png").read_bytes())
    scored = score(ALL, reference=REFERENCE, **everybody())
    for name in scored.pictures:
        *good, bad = scored.pictures[name]
        assert isinstance(bad, Unscored), name
        assert f"in/{kind}.png" in bad.reason
        assert all(isinstance(found, Score) for found in good)
    assert all(isinstance(found, Score) for found in scored.sets.values())


def test_a_broken_picture_does_not_move_the_distance_of_the_others(folders):
    folders(10)
    expected = score("clip-fid", reference=REFERENCE, clip=FakeEncoder()).sets["clip-fid"]
    for folder in ("in", "ref"):
        Path(folder, "cut.png").write_bytes(Path("in/0.png").read_bytes()[:80])
    found = score("clip-fid", reference=REFERENCE, clip=FakeEncoder()).sets["clip-fid"]
    assert found.value == expected.value


def test_one_broken_picture_in_twenty_stops_no_run_and_moves_no_score(folders, monkeypatch):
    monkeypatch.setattr("vernissage.scoring.score.CHUNK", 7)
    folders(40)
    before = score("clipscore,psnr,judge-perception", reference=REFERENCE, **everybody())
    for index in (7, 33):
        Path(f"in/{index}.png").write_bytes(Path(f"in/{index}.png").read_bytes()[:100])
    after = score("clipscore,psnr,judge-perception", reference=REFERENCE, **everybody())
    for name, found in after.pictures.items():
        assert [index for index, each in enumerate(found) if isinstance(each, Unscored)] == [7, 33]
        assert all(one == two for one, two in zip(found, before.pictures[name], strict=True) if isinstance(one, Score))


def test_where_no_picture_can_be_read_there_is_no_score(save):
    broken("in/text.png", b"")
    save("ref/text.png")
    scored = score(ALL, reference=REFERENCE, **everybody())
    assert all(isinstance(found, Unscored) for found in [*scored.sets.values(), *(each for (each,) in scored.pictures.values())])


def test_files_that_a_table_names_and_that_are_not_there_are_told(save):
    save("in/a.png", 0, "a cat")
    Path("in/t.csv").write_text("image\na.png\nnone.png\n.\n..\n", encoding="utf-8")
    scored = score("clipscore", "in/t.csv", clip=FakeEncoder())
    assert [isinstance(found, Score) for found in scored.pictures["clipscore"]] == [True, False, False, False]
    assert "none.png" in reasons(scored, "clipscore")[1]


def test_a_picture_without_a_prompt_or_reference_lacks_only_scores_that_need_it(save):
    for index, prompt in enumerate(("a cat", "")):
        save(f"in/{index}.png", index, prompt)
    save("ref/0.png", 5)
    scored = score(
        "clipscore,vqascore,judge-correspondence,clip-image,dinov2,ssim,psnr,judge-perception", reference=REFERENCE, **everybody()
    )
    for name, found in scored.pictures.items():
        assert isinstance(found[0], Score), name
        assert isinstance(found[1], Score) == (name == "judge-perception"), name
    assert reasons(scored, "clipscore")[1] == "no prompt is known"
    assert reasons(scored, "ssim")[1] == "there is no reference picture of that name"


def test_a_picture_whose_features_are_no_numbers_has_no_likeness(folders):
    mine, theirs = folders(4)
    encoder = Counting()
    encoder.ill = {mine[1].tobytes(), theirs[2].tobytes()}
    scored = score("clip-image,dinov2", reference=REFERENCE, clip=encoder, dinov2=encoder)
    for name in ("clip-image", "dinov2"):
        assert [isinstance(found, Score) for found in scored.pictures[name]] == [True, False, False, True]
        assert "not finite" in reasons(scored, name)[1]


def test_a_question_that_fails_costs_one_score_and_is_asked_again_next_time(folders, monkeypatch):
    folders(3)
    asked = []

    def choose(self, asks, options):
        asked.extend(asks)
        return [DriverError("it is ill") if "a cat 1" in ask.messages[0].text and len(asked) <= 3 else np.array([0.5, 0.5]) for ask in asks]

    monkeypatch.setattr(FakeMLLM, "choose", choose)
    first = score("vqascore", mllm=FakeMLLM(), cache=Path("cache"))
    assert values(first, "vqascore") == [0.5, None, 0.5]
    assert "it is ill" in reasons(first, "vqascore")[1]
    assert values(score("vqascore", mllm=FakeMLLM(), cache=Path("cache")), "vqascore") == [0.5, 0.5, 0.5]
    assert len(asked) == 4, "only the one that failed is asked again"


def test_an_mllm_that_tells_no_probabilities_gives_no_vqascore(folders, monkeypatch):
    folders(2)
    monkeypatch.setattr(FakeMLLM, "choose", lambda self, asks, options: [DriverError("no probabilities") for _ in asks])
    assert all(isinstance(found, Unscored) for found in score("vqascore", mllm=FakeMLLM()).pictures["vqascore"])


# ------------------------------------------------------------------------------------------------------------- prompts


def test_a_picture_is_scored_by_the_prompt_that_it_carries_unless_another_is_given(save):
    for name in ("a", "b"):
        save(f"in/{name}.png", 0, "carried")
    entries = find_entries(Path("in"))
    encoder = Counting()
    score_entries([entries[0], entries[1]._replace(prompt="given")], find_metrics(["clipscore"]), Sources(clip=encoder))
    assert sorted(encoder.texts) == ["carried", "given"]


def test_prompts_of_a1111_are_read_from_png_and_jpeg(noise_picture):
    Path("in").mkdir()
    tail = "\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 40x32, Model: some"
    info = Image.Exif()
    info.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + f"a red dog{tail}".encode("utf-16-be")
    noise_picture(1).save("in/b.jpg", exif=info)
    chunk = PngInfo()
    chunk.add_text("parameters", f"a cat, (old:1.2) <lora:x:1>{tail}")
    noise_picture(0).save("in/a.png", pnginfo=chunk)
    encoder = Counting()
    score("clipscore", clip=encoder)
    assert encoder.texts == ["a cat, (old:1.2)", "a red dog"]


# ---------------------------------------------------------------------------------------------------------- references


def matches(pictures: list[str], references: list[str], save) -> list[str | None]:
    """Which reference each picture was compared with, told by their colours."""
    for seed, name in enumerate(references):
        save(f"ref/{name}", seed)
    found: list[str | None] = []
    for name in pictures:
        fits = []
        for seed, other in enumerate(references):
            save(f"in/{name}", seed)
            if values(score("psnr", reference=REFERENCE), "psnr") == [100]:
                fits.append(other)
        Path("in", name).unlink()
        found.append(fits[0] if fits else None)
    return found


def test_references_are_matched_by_relative_path_and_where_that_is_unique_by_bare_name(save):
    references = ["x/1.png", "y/1.png", "x/2.png", "3.png"]
    assert matches(["x/1.png", "y/1.png", "2.png", "deep/in/3.png"], references, save) == ["x/1.png", "y/1.png", "x/2.png", "3.png"]


def test_references_may_have_another_suffix(save):
    assert matches(["1.png", "deep/v1.5.png"], ["1.webp.png", "1.bmp", "v1.5.tiff"], save) == ["1.bmp", "v1.5.tiff"]


def test_a_bare_name_that_several_references_have_matches_none(save):
    assert matches(["1.png", "z/1.png", "x/1.png"], ["x/1.png", "y/1.png", "z/deep/1.png"], save) == [None, None, "x/1.png"]


def test_a_reference_in_a_folder_is_not_that_of_pictures_of_its_name_in_other_folders(save):
    for name in ("in/a/1.png", "in/b/1.png", "in/b/2.png"):
        save(name, 3)
    save("ref/a/1.png", 3)
    save("ref/elsewhere/2.png", 3)
    found = score("psnr", reference=REFERENCE).pictures["psnr"]
    assert [isinstance(each, Score) for each in found] == [True, False, True], "only one picture is called 2"
    save("other/val/1.png", 3)
    assert all(isinstance(each, Score) for each in score("psnr", reference=Path("other")).pictures["psnr"][:2]), "no picture's own"
    save("flat/1.png", 3)
    assert all(isinstance(each, Score) for each in score("psnr", reference=Path("flat")).pictures["psnr"][:2])


# ----------------------------------------------------------------------------------------------------------- the cache


def test_a_second_run_encodes_and_asks_nothing_and_finds_the_same(folders):
    folders(12)
    first = score(ALL, reference=REFERENCE, cache=Path("cache"), **everybody())
    again = everybody()
    second = score(ALL, reference=REFERENCE, cache=Path("cache"), **again)
    assert (second.pictures, second.sets) == (first.pictures, first.sets)
    assert again["clip"].images.total() == again["dinov2"].images.total() == 0
    assert again["mllm"].asked == again["judge"].asked == []
    assert all(scorer.asked == [] for scorer in again["scorers"].values())
    plain = score(ALL, reference=REFERENCE, **everybody())
    assert (plain.pictures, plain.sets) == (first.pictures, first.sets)


def test_what_is_kept_goes_by_content_and_not_by_name(folders, save):
    folders(4)
    score("clipscore,vqascore", cache=Path("cache"), clip=Counting(), mllm=FakeMLLM())
    Path("in/0.png").rename("in/7.png")
    save("in/1.png", 50, "a cat 1")
    sources = {"clip": Counting(), "mllm": FakeMLLM()}
    score("clipscore,vqascore", cache=Path("cache"), **sources)
    assert sources["clip"].images.total() == 1
    assert len(sources["mllm"].asked) == 1


def test_a_slow_score_is_computed_anew_for_another_prompt_or_another_model(folders):
    folders(2)
    entries = find_entries(Path("in"))
    metrics = find_metrics(["vqascore", "judge-correspondence"])

    def run(changed: list[Entry], name: str = "fake", **identities: str) -> tuple[int, int]:
        sources = Sources(mllm=FakeMLLM(), judge=FakeJudge(), identities=identities)
        sources.mllm.name = sources.judge.name = name
        score_entries(changed, metrics, sources, cache=Path("cache"))
        return len(sources.mllm.asked), len(sources.judge.asked)

    assert run(entries) == (2, 2)
    assert run(entries) == (0, 0)
    assert run([entries[0]._replace(prompt="a dog"), entries[1]]) == (1, 1)
    assert run(entries, "another") == (2, 2)
    assert run(entries, judge="other weights") == (0, 2), "called the same"
    assert run(entries, judge="other weights") == (0, 0)


@pytest.mark.parametrize("fails_after", [0, 2, 5, 11, 14])
def test_a_run_that_was_cut_off_goes_on_with_equal_results(folders, monkeypatch, fails_after):
    monkeypatch.setattr("vernissage.scoring.score.CHUNK", 2)
    folders(8)
    metrics = "clipscore,vqascore,judge-perception,clip-image,clip-fid,clip-kid"
    expected = score(metrics, reference=REFERENCE, **everybody())
    first = everybody() | {"clip": Counting("clip", fails_after=fails_after)}
    with pytest.raises(KeyboardInterrupt):
        score(metrics, reference=REFERENCE, cache=Path("cache"), **first)
    second = everybody()
    found = score(metrics, reference=REFERENCE, cache=Path("cache"), **second)
    assert found.pictures == expected.pictures
    assert {name: each.value for name, each in found.sets.items()} == {name: each.value for name, each in expected.sets.items()}
    assert second["clip"].images.total() >= 16 - fails_after
    assert second["clip"].images.total() <= 16 - fails_after + 3
    assert len(first["judge"].asked) + len(second["judge"].asked) == 8
    assert len(first["mllm"].asked) + len(second["mllm"].asked) == 8


@pytest.mark.parametrize("rest", ['{"key": "0123", "val', "", "nonsense\n", '{"key": "0", "value": NaN, "reason": ""}\n', "[]\nnull\n5\n"])
def test_a_journal_with_a_damaged_end_gives_what_is_whole(folders, rest):
    folders(4)
    first = score("vqascore", mllm=FakeMLLM(), cache=Path("cache"))
    journal = Path("cache/scores.jsonl")
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 4
    assert all(json.loads(line)["value"] == 1.0 for line in lines)
    journal.write_text("".join(lines[:3]) + rest, encoding="utf-8")
    mllm = FakeMLLM()
    assert score("vqascore", mllm=mllm, cache=Path("cache")).pictures == first.pictures
    assert len(mllm.asked) == 1


def test_a_journal_that_is_no_text_is_begun_anew(folders):
    folders(2)
    Path("cache").mkdir()
    Path("cache/scores.jsonl").write_bytes(b"\xff\xfe\0\n\x80")
    assert values(score("vqascore", mllm=FakeMLLM(), cache=Path("cache")), "vqascore") == [1.0, 1.0]


class Telling:
    """A learned distance that tells the reference's first pixel, and is ill of the pictures that it is told."""

    name = "telling"

    def __init__(self, ill=()):
        self.ill = ill

    def score(self, images, prompts, references):
        if any(image.getpixel((0, 0)) in self.ill for image in images):
            raise DriverError("it is ill")
        return [Score(value=float((each or image).getpixel((0, 0))[0])) for image, each in zip(images, references, strict=True)]


def plain(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.of(Image.new("RGB", (8, 8), (level, 0, 0)), Provenance(plan=Plan(prompt="a cat", model="m"))).save(path)


def test_scores_of_pairs_that_were_kept_are_those_of_their_references(tmp_path):
    for name, level in (("in", 1), ("one", 20), ("two", 30)):
        plain(tmp_path / name / "a.png", level)
    given = {"metrics": find_metrics(["lpips"]), "sources": Sources(scorers={"lpips": Telling()}), "cache": tmp_path / "cache"}
    found = [
        score_entries(find_entries(tmp_path / "in"), **given, reference=tmp_path / name).pictures["lpips"][0].value
        for name in ("one", "two", "one")
    ]
    assert found == [20, 30, 20]


def test_a_picture_that_makes_a_learned_metric_fail_costs_none_of_the_others(tmp_path):
    for index in range(3):
        plain(tmp_path / f"{index}.png", index)
    sources = Sources(scorers={"pickscore": Telling(ill=[(1, 0, 0)])}, clip=FakeEncoder())
    found = score_entries(find_entries(tmp_path), find_metrics(["pickscore"]), sources).pictures["pickscore"]
    assert [getattr(each, "value", None) for each in found] == [0.0, None, 2.0]
    assert "it is ill" in found[1].reason


def test_a_picture_that_cannot_be_read_keeps_its_place_in_later_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("vernissage.scoring.score.CHUNK", 2)
    for index in range(5):
        plain(tmp_path / f"{index}.png", index)
    (tmp_path / "3.png").write_bytes(b"no picture")
    scored = score_entries(find_entries(tmp_path), find_metrics(["clipscore"]), Sources(clip=FakeEncoder()))
    assert list(scored.unread) == [3]
    assert list(scored.prompts) == ["a cat", "a cat", "a cat", None, "a cat"]
