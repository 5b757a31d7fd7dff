"""How fast is a folder scored, what is sharing encoders worth, and does memory grow with the number of pictures?

Command:   pip install --no-deps torchmetrics lightning-utilities
           .venv/bin/python benchmarks/score_speed.py [--pictures 600] [--times 5] [--record]
Protocol:  drawn pictures of 128 pixels as PNG files with their prompts, another set as references; the mini CLIP and DINOv2; nothing kept
           between runs. Folder: CLIPScore of the folder against torchmetrics' CLIPScore with the same weights in a loop over files that
           opens each with Pillow, at batches of 1 and 32. Sharing: k metrics of one encoder at once against one after the other.
           Side by side in one run, in turn, medians after a warm-up. Memory: peak of a process that scores 1,000 or 20,000 pictures of 32
           pixels with three metrics and an encoder of 512 features that costs nothing, features kept on disk as the command line does it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from record import append_result
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from vernissage.drivers.encode_clip import ClipEncoder
from vernissage.drivers.encode_dinov2 import Dinov2Encoder
from vernissage.scoring.layouts import Entry
from vernissage.scoring.registry import find_metrics
from vernissage.scoring.score import Sources, score_entries
from vernissage.world import tell
from vernissage.world.draw import draw
from vernissage.world.scene import sample_scene
from vernissage.zoo.catalogue import package_folder

CLIP, DINOV2 = (str(package_folder("mini") / name) for name in ("clip", "dinov2"))
SHARED = {
    "CLIP": ("clip-image", "clip-fid", "clip-kid"),
    "DINOv2": ("dinov2", "fd-dinov2", "precision", "recall", "density", "coverage"),
}


def write_pictures(folder: Path, count: int, seed: int) -> list[Entry]:
    rng, entries = np.random.default_rng(seed), []
    for index in range(count):
        scene = sample_scene(rng)
        path = folder / f"{index:05d}.png"
        draw(scene, seed=index).image.save(path)
        entries.append(Entry(path.name, path, tell.prompt(scene)))
    return entries


def ours(entries: list[Entry], metrics: tuple[str, ...], reference: Path | None, batch_size: int = 32) -> list:
    sources = Sources(
        clip=ClipEncoder(CLIP, device="cpu", batch_size=batch_size) if any("clip" in name for name in metrics) else None,
        dinov2=Dinov2Encoder(DINOV2, device="cpu", batch_size=batch_size) if not any("clip" in name for name in metrics) else None,
    )
    scored = score_entries(entries, find_metrics(metrics), sources, reference=reference)
    return [[getattr(score, "value", None) for score in scores] for scores in (*scored.pictures.values(), list(scored.sets.values()))]


class TensorCLIP(CLIPModel):
    """With features as bare tensors, as torchmetrics 1.9 expects them and transformers before 5 gave them."""

    def get_image_features(self, *values, **named):
        return super().get_image_features(*values, **named).pooler_output

    def get_text_features(self, *values, **named):
        return super().get_text_features(*values, **named).pooler_output


def theirs(entries: list[Entry], batch_size: int) -> list[float]:
    """CLIPScore of each picture, by torchmetrics: its update adds up scores of a batch, so the functional form is called."""
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update

    model = TensorCLIP.from_pretrained(CLIP, dtype=torch.float32)
    processor = CLIPProcessor(CLIPImageProcessorPil.from_pretrained(CLIP), CLIPTokenizer.from_pretrained(CLIP))
    found: list[float] = []
    for start in range(0, len(entries), batch_size):
        part = entries[start : start + batch_size]
        images = [torch.from_numpy(np.array(Image.open(entry.path).convert("RGB"))).permute(2, 0, 1) for entry in part]
        with torch.inference_mode():
            scores, _ = _clip_score_update(images, [entry.prompt for entry in part], model, processor)
        found += scores.tolist()
    return found


def in_turn(ways: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Median seconds of each, run in turn after a warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(times + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


class Thumbnails:
    """Pictures and texts by random projection."""

    name = "thumbnails"
    _projection = np.random.default_rng(0).normal(size=(192, 512)).astype(np.float32)

    def encode_raw(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.stack([np.asarray(image.resize((8, 8)), dtype=np.float32).ravel() for image in images]) @ self._projection

    encode = encode_raw

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([np.random.default_rng(list(text.encode())).normal(size=512) for text in texts]).astype(np.float32)


def memory(count: int) -> float:
    """Peak memory in MB of a process of its own that scores so many small pictures."""
    done = subprocess.run([sys.executable, __file__, "--memory-of", str(count)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def score_small(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rng, entries = np.random.default_rng(0), []
        for index in range(count):
            path = Path(folder) / f"{index}.png"
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
            entries.append(Entry(path.name, path, f"picture {index % 50}"))
        sources = Sources(clip=Thumbnails())
        score_entries(
            entries, find_metrics(("clipscore", "clip-image", "clip-fid")), sources, reference=Path(folder), cache=Path(folder) / "cache"
        )
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # what rusage tells begins with the parent's peak
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        score_small(arguments.memory_of)
        return
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("mine", "theirs"):
            (Path(folder) / name).mkdir()
        entries = write_pictures(Path(folder) / "mine", arguments.pictures, 5)
        reference = Path(folder) / "theirs"
        write_pictures(reference, arguments.pictures, 6)
        for batch_size in (1, 32):
            (found, _) = ours(entries, ("clipscore",), None, batch_size)
            apart = max(abs(max(one, 0) - two) for one, two in zip(theirs(entries, batch_size), found, strict=True))
            ways = {
                "torchmetrics": lambda size=batch_size: theirs(entries, size),
                "ours": lambda size=batch_size: ours(entries, ("clipscore",), None, size),
                "ours, batches of 32": lambda: ours(entries, ("clipscore",), None, 32),
            }
            taken = in_turn(ways, arguments.times)
            figures[f"CLIPScore, batches of {batch_size}"] = taken | {
                "ratio": taken["torchmetrics"] / taken["ours"],
                "ratio_default": taken["torchmetrics"] / taken["ours, batches of 32"],
                "apart": apart,
            }
        for encoder, metrics in SHARED.items():
            taken = in_turn(
                {
                    "together": lambda metrics=metrics: ours(entries, metrics, reference),
                    "apart": lambda metrics=metrics: [ours(entries, (metric,), reference) for metric in metrics],
                },
                arguments.times,
            )
            figures[f"{len(metrics)} metrics of {encoder}"] = taken | {"ratio": taken["apart"] / taken["together"]}
    figures["peak memory, MB"] = {f"{count} pictures": memory(count) for count in (1_000, 20_000)}
    for name, values in figures.items():
        print(f"{name:<28} " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
    if arguments.record:
        append_result("score_speed", figures, pictures=arguments.pictures, times=arguments.times)


if __name__ == "__main__":
    main()
