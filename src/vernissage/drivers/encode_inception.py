"""Inception's features as FID, KID and the Inception Score want them: the network of 2015 as TensorFlow ran it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from numpy import ndarray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vernissage.drivers.features import FeatureCache, to_rows, unit_length
from vernissage.errors import DriverError
from vernissage.local.device import pick_device
from vernissage.local.pretrained import read_tensors

SIDE, WIDTH, CLASSES = 299, 2048, 1008
Way = Literal["torch-fidelity", "pytorch-fid", "clean-fid"]
Branch = tuple[str, ...]
# Each block's branches, convolutions in order; the pooling that a block has, and whether the pooled goes through a convolution.
_BLOCKS: dict[str, tuple[tuple[Branch, ...], str]] = {
    **dict.fromkeys(
        ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
        ((("branch1x1",), ("branch5x5_1", "branch5x5_2"), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")), "mean"),
    ),
    "Mixed_6a": ((("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")), "stride"),
    **dict.fromkeys(
        ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
        (
            (
                ("branch1x1",),
                ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
                tuple(f"branch7x7dbl_{number}" for number in range(1, 6)),
            ),
            "mean",
        ),
    ),
    "Mixed_7a": ((("branch3x3_1", "branch3x3_2"), tuple(f"branch7x7x3_{number}" for number in range(1, 5))), "stride"),
    "Mixed_7b": ((("branch1x1",), ("branch3x3_1", "branch3x3_2"), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")), "mean"),
    "Mixed_7c": ((("branch1x1",), ("branch3x3_1", "branch3x3_2"), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")), "max"),
}
_STRIDED = {
    "Conv2d_1a_3x3",
    "Mixed_6a.branch3x3",
    "Mixed_6a.branch3x3dbl_3",
    "Mixed_7a.branch3x3_2",
    "Mixed_7a.branch7x7x3_4",
}
_UNPADDED = {"Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_4a_3x3"} | _STRIDED
_FORKED = {f"{block}.{name}" for block in ("Mixed_7b", "Mixed_7c") for name in ("branch3x3_2", "branch3x3dbl_3")}
"""Their outputs come of two convolutions side by side, a and b."""


@final
class InceptionEncoder:
    """Encodes pictures with Inception v3 of 2015, from the weights that pytorch-fid or torch-fidelity publish.

    Args:
        model: File of the weights: `pt_inception-2015-12-05-*.pth` or `weights-inception-2015-12-05-*.pth`, or the same as safetensors.
        like: Whose way of scaling pictures to 299 pixels is followed: "torch-fidelity", which is TensorFlow's of 2015 and torchmetrics',
            "pytorch-fid", or "clean-fid", which scales with antialiasing.
        device: "auto", "cpu", "cuda", "mps".
        batch_size: Pictures in one pass.
    """

    def __init__(self, model: str, *, like: Way = "torch-fidelity", device: str = "auto", batch_size: int = 32) -> None:
        if like not in ("torch-fidelity", "pytorch-fid", "clean-fid"):
            raise DriverError(f"Inception cannot scale pictures like {like!r}: choose torch-fidelity, pytorch-fid or clean-fid.")
        self.batch_size = batch_size
        self._like = like
        self._device = pick_device(device)
        try:
            tensors = read_tensors(model)
            self._convolutions = {name: self._read(tensors, name) for name in _names()}
            self._head = tensors["fc.weight"].float().to(self._device)
            if tuple(self._head.shape) != (CLASSES, WIDTH):
                raise ValueError(f"it is of {len(self._head)} classes, and Inception of 2015 has {CLASSES}")
            rows = self._encode_new([Image.new("RGB", (1, 1))])
            if rows.shape != (1, WIDTH):
                raise ValueError(f"its features are {rows.shape[1]}, not {WIDTH}")
        except (DriverError, RuntimeError, LookupError, ValueError) as error:
            raise DriverError(f"Inception cannot be read from {model}: {error}") from error
        first = self._convolutions["Conv2d_1a_3x3"][0]
        self.name = f"inception:{Path(model).name} like {like} {float(first.double().sum()):.6g} {float(self._head.double().sum()):.6g}"
        self._cache = FeatureCache(WIDTH, self._device)

    def _read(self, tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution with its normalisation folded in."""
        scale = tensors[f"{name}.bn.weight"].double() / (tensors[f"{name}.bn.running_var"].double() + 0.001).sqrt()
        weight = tensors[f"{name}.conv.weight"].double() * scale[:, None, None, None]
        bias = tensors[f"{name}.bn.bias"].double() - tensors[f"{name}.bn.running_mean"].double() * scale
        return weight.float().to(self._device), bias.float().to(self._device)

    def encode(self, images: Sequence[Image.Image]) -> ndarray:
        """Features of shape (image, 2048), float32, unit length."""
        return unit_length(self.encode_raw(images))

    def encode_raw(self, images: Sequence[Image.Image]) -> ndarray:
        """The pool features with the length that they have, as FID wants them."""
        return self._cache.encode(images, self._encode_new, self.batch_size)

    def probabilities(self, features: ndarray) -> ndarray:
        """Probabilities of Inception's 1,008 classes for pool features, shape (image, class); without the bias, as Inception Scores are."""
        logits = torch.from_numpy(np.ascontiguousarray(features)).to(self._device) @ self._head.T
        return logits.double().softmax(dim=1).cpu().numpy()

    @torch.inference_mode()
    def _encode_new(self, images: Sequence[Image.Image]) -> ndarray:
        x = torch.cat([self._scaled(image.convert("RGB")) for image in images])
        x = 2 * (x / 255) - 1 if self._like == "pytorch-fid" else (x - 128) / 128
        for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
            x = self._convolve(name, x)
        x = self._convolve("Conv2d_4a_3x3", self._convolve("Conv2d_3b_1x1", F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for block in _BLOCKS:
            x = self._block(block, x)
        return to_rows(x.mean(dim=(2, 3)))

    def _scaled(self, image: Image.Image) -> Tensor:
        """Shape (1, channel, 299, 299), values 0 to 255."""
        pixels = np.asarray(image, dtype=np.float32)
        if self._like == "clean-fid":
            channels = [Image.fromarray(pixels[:, :, index]).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for index in range(3)]
            return torch.from_numpy(np.stack([np.asarray(each) for each in channels]).clip(0, 255))[None].to(self._device)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self._device)
        if self._like == "pytorch-fid":
            return F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return _scaled_as_in_2015(x)

    def _convolve(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._convolutions[name]
        padding = (0, 0) if name in _UNPADDED else (weight.shape[2] // 2, weight.shape[3] // 2)
        return F.relu(F.conv2d(x, weight, bias, stride=2 if name in _STRIDED else 1, padding=padding))

    def _block(self, block: str, x: Tensor) -> Tensor:
        branches, pooling = _BLOCKS[block]
        found = []
        for branch in branches:
            y = x
            for name in branch:
                whole = f"{block}.{name}"
                y = torch.cat([self._convolve(whole + part, y) for part in "ab"], 1) if whole in _FORKED else self._convolve(whole, y)
            found.append(y)
        if pooling == "stride":
            return torch.cat([*found, F.max_pool2d(x, 3, 2)], 1)
        # As in TensorFlow, zeros around do not count in the mean; and the last block takes the highest value in the mean's place.
        pooled = F.max_pool2d(x, 3, 1, 1) if pooling == "max" else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return torch.cat([*found, self._convolve(f"{block}.branch_pool", pooled)], 1)


def _names() -> list[str]:
    """Of all convolutions."""
    names = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    for block, (branches, pooling) in _BLOCKS.items():
        for name in (f"{block}.{name}" for branch in branches for name in branch):
            names += [f"{name}a", f"{name}b"] if name in _FORKED else [name]
        names += [] if pooling == "stride" else [f"{block}.branch_pool"]
    return names


def _scaled_as_in_2015(x: Tensor) -> Tensor:
    """Bilinear scaling without half-pixel centres, as TensorFlow 1 did it."""
    for axis in (2, 3):
        size = x.shape[axis]
        at = torch.arange(SIDE, dtype=torch.float32, device=x.device) * (size / SIDE)
        low = at.floor().long()
        high = (low + 1).clamp(max=size - 1)
        part = (at - low).view([-1 if each == axis else 1 for each in range(4)])
        x = x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part
    return x
