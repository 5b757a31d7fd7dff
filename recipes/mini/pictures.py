"""Draw the training pictures of the mini studio once, so that every recipe reads the same ones.

Command:   python recipes/mini/pictures.py [--count 32000]
Hardware:  2 CPU cores, 3 minutes; 1.6 GB of disk under build/mini
Result:    build/mini/pictures.npy (count, 128, 128, 3) uint8 and build/mini/scenes.jsonl (scene, boxes), train split
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from vernissage.world.draw import SIZE, draw
from vernissage.world.scene import Scene, sample_scene

BUILD = Path("build/mini")
CHUNK = 500


def draw_chunk(first: int, count: int) -> list[str]:
    pictures = np.lib.format.open_memmap(BUILD / "pictures.npy", mode="r+")
    lines = []
    for index in range(first, first + count):
        scene = sample_scene(np.random.default_rng([7, index]))
        drawing = draw(scene, seed=index)
        pictures[index] = np.asarray(drawing.image)
        lines.append(json.dumps({"scene": scene.model_dump(mode="json"), "boxes": drawing.boxes}))
    pictures.flush()
    return lines


def load_pictures() -> tuple[np.ndarray, list[Scene], list[list[tuple[float, float, float, int]]]]:
    """Pictures (n, 128, 128, 3) uint8, memory-mapped; their scenes; the boxes (x, y, radius, group) of every thing."""
    pictures = np.load(BUILD / "pictures.npy", mmap_mode="r")
    rows = [json.loads(line) for line in (BUILD / "scenes.jsonl").read_text(encoding="utf-8").splitlines()]
    return pictures, [Scene.model_validate(row["scene"]) for row in rows], [row["boxes"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=32_000)
    arguments = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    np.lib.format.open_memmap(BUILD / "pictures.npy", mode="w+", dtype=np.uint8, shape=(arguments.count, SIZE, SIZE, 3)).flush()
    starts = range(0, arguments.count, CHUNK)
    with ProcessPoolExecutor(2) as pool:
        chunks = list(pool.map(draw_chunk, starts, [min(CHUNK, arguments.count - start) for start in starts]))
    lines = [line for chunk in chunks for line in chunk]
    (BUILD / "scenes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
