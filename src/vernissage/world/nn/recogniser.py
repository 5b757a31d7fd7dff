"""The recogniser: a small network that reads a picture of the mini world back into facts.

It finds things as peaks of a heat map per kind, reads each peak's colour, and reads place, time and style from the
whole picture. Counting peaks makes it honest about counts: it reports what is there, not what is likely.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from vernissage.world.facts import Facts, GroupFacts
from vernissage.world.scene import COLOURS, KINDS, PLACES, STYLES, TIMES, Relation

SIZE = 128
GRID = 32
PEAK = 0.4  # heat above which a cell is a thing; drawn things peak near 1, bare ground near 0


class Output(NamedTuple):
    """Raw readings for a batch: logits of kind and colour per cell, and of style, place and time per picture."""

    kinds: Tensor
    colours: Tensor
    styles: Tensor
    places: Tensor
    times: Tensor


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.body(x))


@final
class Recogniser(nn.Module):
    """Picture (batch, 3, 128, 128) in [-1, 1] to readings on a 32x32 grid and of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 4, stride=2, padding=1), nn.SiLU(), nn.Conv2d(24, 40, 4, 2, 1), nn.SiLU())
        self.fine = nn.Sequential(_Residual(40), _Residual(40))
        self.middle = nn.Sequential(nn.Conv2d(40, 80, 4, 2, 1), nn.SiLU(), _Residual(80), _Residual(80))
        self.coarse = nn.Sequential(nn.Conv2d(80, 112, 4, 2, 1), nn.SiLU(), _Residual(112), _Residual(112))
        self.coarse_to_middle = nn.Conv2d(112, 80, 1)
        self.middle_to_fine = nn.Conv2d(80, 40, 1)
        self.merge = _Residual(40)
        self.cells = nn.Conv2d(40, len(KINDS) + len(COLOURS), 1)
        self.whole = nn.Sequential(nn.Linear(40 + 80 + 112, 128), nn.SiLU(), nn.Linear(128, len(STYLES) + len(PLACES) + len(TIMES)))
        nn.init.constant_(self.cells.bias[: len(KINDS)], -4.0)

    def forward(self, pictures: Tensor) -> Output:
        """Pictures (batch, 3, 128, 128) in [-1, 1] to raw readings."""
        fine = self.fine(self.stem(pictures))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        up = F.silu(middle + F.interpolate(self.coarse_to_middle(coarse), scale_factor=2.0, mode="nearest"))
        up = self.merge(fine + F.interpolate(self.middle_to_fine(up), scale_factor=2.0, mode="nearest"))
        kinds, colours = self.cells(up).split([len(KINDS), len(COLOURS)], dim=1)
        pooled = torch.cat([level.mean(dim=(2, 3)) for level in (fine, middle, coarse)], dim=1)
        styles, places, times = self.whole(pooled).split([len(STYLES), len(PLACES), len(TIMES)], dim=1)
        return Output(kinds, colours, styles, places, times)


def load_recogniser(folder: Path) -> Recogniser:
    """The trained recogniser of a folder with `model.safetensors`, on the CPU, ready to read."""
    recogniser = Recogniser()
    weights = load_file(folder / "model.safetensors")
    recogniser.load_state_dict({name: value.float() for name, value in weights.items()})
    return recogniser.eval()


def to_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Images of any size to (image, 3, 128, 128) in [-1, 1]."""
    arrays = [np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def read_pictures(recogniser: Recogniser, images: Sequence[Image.Image], *, batch: int = 64) -> list[Facts]:
    """The facts of each picture, its groups in the order of confidence."""
    facts: list[Facts] = []
    for start in range(0, len(images), batch):
        output = recogniser(to_tensor(images[start : start + batch]))
        heat = output.kinds.sigmoid()
        strongest = heat.amax(dim=1, keepdim=True)
        # A thing is one peak: the hottest kind of a cell that no cell within two of it outdoes.
        peaks = (heat == strongest) & (strongest == F.max_pool2d(strongest, 5, 1, 2)) & (heat > PEAK)
        colours = output.colours.softmax(dim=1)
        for index in range(len(heat)):
            facts.append(_facts(heat[index], peaks[index], colours[index], output, index))
    return facts


def _facts(heat: Tensor, peaks: Tensor, colours: Tensor, output: Output, index: int) -> Facts:
    found = []
    for kind, y, x in peaks.nonzero().tolist():
        found.append((kind, x, y, heat[kind, y, x].item(), colours[:, y, x]))
    groups, centres = [], []
    for kind in sorted({row[0] for row in found}, key=lambda kind: -max(row[3] for row in found if row[0] == kind)):
        members = [row for row in found if row[0] == kind]
        colour = torch.stack([row[4] for row in members]).mean(dim=0).argmax().item()
        groups.append(GroupFacts(kind=KINDS[kind], colour=COLOURS[int(colour)], count=len(members)))
        centres.append((np.mean([row[1] for row in members]), np.mean([row[2] for row in members])))
    return Facts(
        groups=tuple(groups),
        relation=_relation(centres),
        place=PLACES[int(output.places[index].argmax())],
        time=TIMES[int(output.times[index].argmax())],
        style=STYLES[int(output.styles[index].argmax())],
    )


def _relation(centres: list[tuple[float, float]]) -> Relation | None:
    if len(centres) < 2:
        return None
    (x, y), (other_x, other_y) = centres[:2]
    if abs(x - other_x) > abs(y - other_y):
        return "left of" if x < other_x else "right of"
    return "above" if y < other_y else "below"


@torch.no_grad()
def legibility(recogniser: Recogniser, images: Sequence[Image.Image], *, batch: int = 64) -> np.ndarray:
    """How clearly each picture shows anything at all, whatever it should show.

    Returns:
        Shape (image,), in [0, 1]: the mean, over the things found, of how sure kind and colour are, times how sure the style is; 0
        where nothing is found. Drawn pictures come near 1.
    """
    clear: list[float] = []
    for start in range(0, len(images), batch):
        output = recogniser(to_tensor(images[start : start + batch]))
        heat = output.kinds.sigmoid()
        strongest = heat.amax(dim=1)
        peaks = (strongest == F.max_pool2d(strongest, 5, 1, 2)) & (strongest > PEAK)
        sure = strongest * output.colours.softmax(dim=1).amax(dim=1)
        style = output.styles.softmax(dim=1).amax(dim=1)
        for index in range(len(heat)):
            clear.append(float(sure[index][peaks[index]].mean() * style[index]) if peaks[index].any() else 0.0)
    return np.array(clear)
