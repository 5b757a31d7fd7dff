"""Copy what the recipes made into the package, half precision, safetensors only, LoRAs trimmed, and say how large it is.

Command:   python recipes/mini/ship.py
Hardware:  any; needs the finished recipes' folders under build/mini
Result:    src/vernissage/mini/{general,early,loras,clip,dinov2,mllm,recogniser,judge,planner-*}
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pictures import BUILD

TARGET = Path("src/vernissage/mini")
FOLDERS = {
    "general": "general",
    "early/unet": "early/unet",
    "early/text_encoder": "early/text_encoder",
    "loras": "loras",
    "clip": "clip",
    "dinov2": "dinov2",
    "mllm": "mllm",
    "recogniser": "recogniser",
    "judge": "judge",
    "planner-evo": "planner-evo",
    "planner-base": "planner-base",
}
KEPT = 0.99
"""Of the LoRAs' energy (squared singular values of all that they add); a tenth of their rank carries nearly none."""


def trimmed(layers: dict[str, Tensor]) -> dict[str, Tensor]:
    """A LoRA with each layer at the rank it needs: singular directions go in the order of their energy by number of weights."""
    factors, worth = {}, []
    for name, down in layers.items():
        if ".lora_A." not in name:
            continue
        up = layers[name.replace(".lora_A.", ".lora_B.")]
        left, right = torch.linalg.qr(up.float().flatten(1)), torch.linalg.qr(down.float().flatten(1).T)
        u, s, v = torch.linalg.svd(left.R @ right.R.T)
        factors[name] = (left.Q @ u * s.sqrt(), (right.Q @ v.T * s.sqrt()).T)
        size = up.flatten(1).shape[0] + down.flatten(1).shape[1]
        worth += [(float(value) ** 2 / size, float(value) ** 2, name) for value in s]
    total, kept, ranks = sum(energy for _, energy, _ in worth), 0.0, dict.fromkeys(factors, 0)
    for _, energy, name in sorted(worth, reverse=True):
        if kept >= KEPT * total and ranks[name]:
            continue  # every layer keeps one direction, for readers that expect it
        kept, ranks[name] = kept + energy, ranks[name] + 1
    found = {}
    for name, (up, down) in factors.items():
        other, rank = name.replace(".lora_A.", ".lora_B."), ranks[name]
        found[name] = down[:rank].reshape(rank, *layers[name].shape[1:]).half().contiguous()
        found[other] = up[:, :rank].reshape(-1, rank, *layers[other].shape[2:]).half().contiguous()
    return found


def slim(folder: Path) -> None:
    """Halve what was saved in single precision, and trim LoRAs; only what was just copied, since each time takes something away."""
    for trained in (*folder.glob("judge.safetensors"), *folder.glob("planner.safetensors")):
        save_file({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in load_file(trained).items()}, trained)
    for lora in folder.glob("*/pytorch_lora_weights.safetensors"):
        save_file(trimmed(load_file(lora)), lora, metadata={"format": "pt"})


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for source, target in FOLDERS.items():
        if not (BUILD / source).exists():
            print(f"{source}: not made yet, left as it is")
            continue
        shutil.rmtree(TARGET / target, ignore_errors=True)
        shutil.copytree(BUILD / source, TARGET / target, ignore=shutil.ignore_patterns("training", "recipe.json", "*.log"))
        slim(TARGET / target)
    sizes = {path: path.stat().st_size for path in TARGET.rglob("*.safetensors")}
    for path, size in sorted(sizes.items()):
        path.chmod(0o644)
        print(f"{size / 1e6:6.2f} MB  {path.relative_to(TARGET)}")
    print(f"{sum(sizes.values()) / 1e6:6.2f} MB  in all; 60 MB are allowed")


if __name__ == "__main__":
    main()
