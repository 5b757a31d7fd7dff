"""Train the recogniser that reads pictures of the mini world back into facts.

Command:   python recipes/mini/recogniser.py
Hardware:  2 CPU cores, or a GPU where torch sees one; needs build/mini/pictures.npy
Result:    see recipes/mini/README.md; writes build/mini/recogniser/model.safetensors (fp16)

Training pictures are blurred, shrunk, noised and tinted by lot, so that painted pictures, which are never as crisp as
drawn ones, are read as well.
"""

import argparse

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from pictures import BUILD, load_pictures
from vernissage.local.training import DEVICE, Average, half_precision, training_steps
from vernissage.world.draw import draw
from vernissage.world.facts import check_facts, facts_of
from vernissage.world.nn.recogniser import GRID, Output, Recogniser, read_pictures
from vernissage.world.scene import COLOURS, KINDS, PLACES, STYLES, TIMES, Scene, sample_scene

FOLDER = BUILD / "recogniser-training"


def spoil(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Each quarter of the batch as it is, blurred, shrunk and enlarged, or noised; all slightly tinted."""
    n = len(pictures) // 4
    parts = list(pictures.split([n, n, n, len(pictures) - 3 * n]))
    kernel = torch.exp(-(torch.arange(-3, 4, device=DEVICE) ** 2) / (2 * rng.uniform(0.5, 1.6) ** 2))
    kernel = torch.outer(kernel, kernel / kernel.sum() ** 2).expand(3, 1, 7, 7)
    parts[1] = F.conv2d(F.pad(parts[1], (3, 3, 3, 3), mode="reflect"), kernel, groups=3)
    small = F.interpolate(parts[2], size=int(rng.integers(48, 112)), mode="bilinear", antialias=True)
    parts[2] = F.interpolate(small, size=128, mode="bicubic")
    parts[3] = parts[3] + torch.randn_like(parts[3]) * rng.uniform(0, 0.15)
    tint = torch.from_numpy(rng.uniform(-0.06, 0.06, size=(len(pictures), 3, 1, 1)).astype(np.float32)).to(DEVICE)
    return (torch.cat(parts) * rng.uniform(0.92, 1.08) + tint).clamp(-1, 1)


def targets(scenes: list[Scene], boxes: list) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Heat maps (n, kind, 32, 32), colour per cell (-100 where none), peak cells, and (style, place, time) per picture."""
    heat = torch.zeros(len(scenes), len(KINDS), GRID, GRID)
    colour = torch.full((len(scenes), GRID, GRID), -100)
    axis = torch.arange(GRID) + 0.5
    for index, (scene, things) in enumerate(zip(scenes, boxes, strict=True)):
        for x, y, radius, group in things:
            kind = KINDS.index(scene.groups[group].kind)
            cx, cy, sigma = x * GRID, y * GRID, max(0.8, radius * GRID / 4)
            bump = torch.exp(-((axis[None, :] - cx) ** 2 + (axis[:, None] - cy) ** 2) / (2 * sigma**2))
            row, column = min(int(cy), GRID - 1), min(int(cx), GRID - 1)
            bump[row, column] = 1.0
            heat[index, kind] = torch.maximum(heat[index, kind], bump)
            colour[index, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = COLOURS.index(scene.groups[group].colour)
    whole = torch.tensor([[STYLES.index(s.style), PLACES.index(s.place), TIMES.index(s.time)] for s in scenes])
    return heat, colour, heat == 1.0, whole


def loss_of(output: Output, heat: Tensor, colour: Tensor, peak: Tensor, whole: Tensor) -> dict[str, Tensor]:
    """Focal loss of the heat map (CenterNet, Zhou et al. 2019, eq. 1), cross entropy of the rest."""
    p = output.kinds.float().sigmoid().clamp(1e-5, 1 - 1e-5)
    found = (1 - p) ** 2 * p.log() * peak
    empty = (1 - heat) ** 4 * p**2 * (1 - p).log() * ~peak
    return {
        "things": -(found + empty).sum() / peak.sum(),
        "colour": F.cross_entropy(output.colours.float(), colour),
        "whole": sum(F.cross_entropy(logits.float(), whole[:, i]) for i, logits in enumerate(output[2:])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--lr", type=float, default=2e-3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    pictures, scenes, boxes = load_pictures()
    recogniser = Recogniser().to(DEVICE)
    average = Average(recogniser, 0.998)
    optimizer = torch.optim.AdamW(recogniser.parameters(), lr=arguments.lr, weight_decay=1e-2)
    loop = training_steps(FOLDER, arguments.steps, optimizer, peak=arguments.lr, modules={"net": recogniser}, averages={"net": average})
    for step, losses in loop:
        rng = np.random.default_rng([21, step])
        chosen = np.sort(rng.integers(len(pictures), size=arguments.batch))
        rng.shuffle(chosen)
        batch = torch.from_numpy(pictures[chosen]).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1
        wanted = [part.to(DEVICE) for part in targets([scenes[i] for i in chosen], [boxes[i] for i in chosen])]
        with half_precision():
            output = recogniser(spoil(batch, rng))
        parts = loss_of(output, *wanted)
        optimizer.zero_grad(set_to_none=True)
        sum(parts.values()).backward()
        torch.nn.utils.clip_grad_norm_(recogniser.parameters(), 5.0)
        optimizer.step()
        losses |= {name: value.item() for name, value in parts.items()}
    recogniser.load_state_dict(average.weights)
    (BUILD / "recogniser").mkdir(exist_ok=True)
    save_file(
        {name: value.half().cpu().contiguous() for name, value in recogniser.state_dict().items()},
        BUILD / "recogniser" / "model.safetensors",
    )
    rng = np.random.default_rng(99)
    held_out = [sample_scene(rng, split="held-out") for _ in range(500)]
    seen = read_pictures(recogniser.cpu().eval(), [draw(scene, seed=i).image for i, scene in enumerate(held_out)])
    checks = [c for scene, facts in zip(held_out, seen, strict=True) for c in check_facts(facts_of(scene), facts)]
    right = sum(check.right for check in checks)
    print(f"{right}/{len(checks)} facts right on 500 held-out drawn pictures ({right / len(checks):.2%})")


if __name__ == "__main__":
    main()
