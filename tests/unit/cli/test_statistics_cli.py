"""`vernissage statistics`: what it writes is what scoring reads, and faults are told."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vernissage.drivers.fake import FakeEncoder


@pytest.fixture(autouse=True)
def config():
    Path("vernissage.toml").write_text('clip = { driver = "fake" }\ndinov2 = false\n', encoding="utf-8")


def pictures(folder: str, count: int, seed: int) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    found = [Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(count)]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(found):
        image.save(f"{folder}/{index}.png")
    return found


def test_the_file_holds_mean_and_covariance_of_the_features_of_the_readable_pictures(run):
    found = pictures("ref", 9, 1)
    Path("ref/cut.png").write_bytes(Path("ref/0.png").read_bytes()[:60])
    found_out = run("statistics", "ref", "-o", "deep/ref.npz")
    assert found_out.code == 0, found_out.err
    assert "9 pictures, 8 features by clip; 1 could not be read" in found_out.out
    features = FakeEncoder().encode_raw(found).astype(float)
    with np.load("deep/ref.npz") as file:
        assert file["mu"] == pytest.approx(features.mean(axis=0), rel=1e-6)
        assert file["sigma"] == pytest.approx(np.cov(features.T), rel=1e-6)
        assert int(file["n"]) == 9


def test_scoring_against_the_file_is_scoring_against_the_folder(run):
    pictures("in", 12, 2)
    pictures("ref", 12, 3)
    assert run("statistics", "ref", "-o", "ref.npz").code == 0
    found = []
    for reference in ("ref", "ref.npz"):
        assert run("score", "in", "--metrics", "clip-fid", "--reference", reference, "-o", f"out-{reference}").code == 0
        found.append(json.loads(Path(f"out-{reference}/summary.json").read_text(encoding="utf-8"))[0]["value"])
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert found[0] > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("none",), "There is no none"),
        (("one",), "Fewer than two pictures of one"),
        (("ref", "--encoder", "dinov2"), "no encoder `dinov2`"),
        (("ref", "--encoder", "inception"), "no encoder `inception`"),
        (("ref", "-o", "ref.txt"), "does not end in .npz"),
        (("ref", "-o", "ref/0.png/x.npz"), "Cannot write"),
    ],
)
def test_what_hinders_statistics_is_told(fails, arguments, told):
    pictures("ref", 3, 4)
    pictures("one", 1, 5)
    assert told in fails("statistics", *arguments)
