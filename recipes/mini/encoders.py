"""Train the mini studio's two encoders: CLIP (pictures and words) and DINOv2 (pictures alone).

Command:   python recipes/mini/encoders.py clip && python recipes/mini/encoders.py dinov2
Hardware:  2 CPU cores, or a GPU where torch sees one; needs build/mini/pictures.npy and build/mini/clip-tokenizer (made by t2i.py)
Result:    see recipes/mini/README.md; writes build/mini/clip and build/mini/dinov2 (transformers format)

CLIP learns from picture and prompt with the symmetric contrastive loss (Radford et al. 2021). DINOv2's network learns
without words by self-distillation (DINO, Caron et al. 2021): a student must predict, from a spoiled view, what a slowly
following teacher says of another view.
"""

import argparse

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BitImageProcessorPil, CLIPConfig, CLIPImageProcessorPil, CLIPModel, Dinov2Config, Dinov2Model

from pictures import BUILD, load_pictures
from t2i import MAX_TOKENS, build_tokenizer
from vernissage.local.training import DEVICE, Average, half_precision, training_steps
from vernissage.world import tell

MEAN, STD = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]


def batch_pixels(pictures: np.ndarray, chosen: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack([pictures[i] for i in chosen])).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_clip(steps: int, batch: int, lr: float) -> None:
    pictures, scenes, _ = load_pictures()
    tokenizer = build_tokenizer(BUILD / "clip-tokenizer")
    config = CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 160,
            "intermediate_size": 480,
            "num_hidden_layers": 3,
            "num_attention_heads": 5,
            "max_position_embeddings": MAX_TOKENS,
            "projection_dim": 128,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": 160,
            "intermediate_size": 480,
            "num_hidden_layers": 4,
            "num_attention_heads": 5,
            "image_size": 128,
            "patch_size": 16,
            "projection_dim": 128,
        },
        projection_dim=128,
    )
    config._attn_implementation = "eager"
    model = CLIPModel(config).to(DEVICE)
    average = Average(model, 0.998)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, betas=(0.9, 0.98))
    loop = training_steps(BUILD / "clip-training", steps, optimizer, peak=lr, modules={"m": model}, averages={"m": average})
    for step, losses in loop:
        rng = np.random.default_rng([51, step])
        chosen = rng.integers(len(pictures), size=batch)
        words = [tell.caption(scenes[i], rng) if rng.random() < 0.3 else tell.prompt(scenes[i], rng) for i in chosen]
        tokens = tokenizer(words, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt").to(DEVICE)
        with half_precision():
            output = model(input_ids=tokens.input_ids, pixel_values=batch_pixels(pictures, chosen))
        logits = output.logits_per_image.float()
        labels = torch.arange(batch, device=DEVICE)
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=np.log(100))
        losses |= {"loss": loss.item(), "accuracy": (logits.argmax(1) == labels).float().mean().item()}
    model.load_state_dict(average.weights)
    model.config._attn_implementation = None
    folder = BUILD / "clip"
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"height": 128, "width": 128}, crop_size={"height": 128, "width": 128}, do_center_crop=False, image_mean=MEAN, image_std=STD
    ).save_pretrained(folder)


def spoil(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """A view: cropped to at least 60 %, tinted, blurred or noised. Not mirrored: left and right matter here."""
    views = []
    for picture in pixels:
        side = int(rng.integers(77, 129))
        y, x = rng.integers(0, 129 - side, size=2)
        views.append(F.interpolate(picture[None, :, y : y + side, x : x + side], size=128, mode="bilinear"))
    batch = torch.cat(views)
    tint = torch.from_numpy(rng.uniform(-0.1, 0.1, size=(len(batch), 3, 1, 1)).astype(np.float32)).to(DEVICE)
    gain = torch.from_numpy(rng.uniform(0.8, 1.2, size=(len(batch), 1, 1, 1)).astype(np.float32)).to(DEVICE)
    if rng.random() < 0.5:
        batch = F.avg_pool2d(F.pad(batch, (1, 1, 1, 1), mode="reflect"), 3, 1)
    else:
        batch = batch + torch.randn_like(batch) * rng.uniform(0, 0.1)
    return batch * gain + tint


class Head(nn.Module):
    def __init__(self, width: int, prototypes: int = 512) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 64))
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(64, prototypes, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.normalize(self.body(x), dim=-1))


def train_dinov2(steps: int, batch: int, lr: float) -> None:
    pictures, _, _ = load_pictures()
    config = Dinov2Config(
        hidden_size=160, num_hidden_layers=4, num_attention_heads=5, mlp_ratio=3, image_size=128, patch_size=16, qkv_bias=True
    )
    config._attn_implementation = "eager"
    student = nn.ModuleDict({"body": Dinov2Model(config), "head": Head(160)}).to(DEVICE)
    teacher = nn.ModuleDict({"body": Dinov2Model(config), "head": Head(160)}).to(DEVICE)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(requires_grad=False)
    centre = nn.Module()
    centre.register_buffer("whole", torch.zeros(512, device=DEVICE))
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=0.04)
    loop = training_steps(
        BUILD / "dinov2-training", steps, optimizer, peak=lr, modules={"student": student, "teacher": teacher, "centre": centre}
    )
    for step, losses in loop:
        rng = np.random.default_rng([61, step])
        pixels = batch_pixels(pictures, rng.integers(len(pictures), size=batch))
        views = torch.cat([spoil(pixels, rng), spoil(pixels, rng)])
        with half_precision():
            said = student["head"](student["body"](views).last_hidden_state[:, 0])
            with torch.no_grad():
                wanted = teacher["head"](teacher["body"](views).last_hidden_state[:, 0])
        wanted = wanted.float()
        sharp = ((wanted - centre.whole) / 0.05).softmax(dim=-1)
        first, second = sharp.chunk(2)
        log_first, log_second = (said.float() / 0.1).log_softmax(dim=-1).chunk(2)
        loss = -((first * log_second).sum(-1).mean() + (second * log_first).sum(-1).mean()) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            momentum = 1 - (1 - 0.994) * (np.cos(np.pi * step / steps) + 1) / 2
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - momentum)
            centre.whole.lerp_(wanted.mean(dim=0), 0.1)
        losses |= {"loss": loss.item(), "used": float(sharp.mean(0).max())}
    body = teacher["body"]
    body.config._attn_implementation = None
    folder = BUILD / "dinov2"
    body.half().save_pretrained(folder)
    BitImageProcessorPil(
        size={"height": 128, "width": 128}, do_center_crop=False, image_mean=MEAN, image_std=STD, do_convert_rgb=True
    ).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["clip", "dinov2"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.part == "clip":
        train_clip(arguments.steps or 1500, arguments.batch, arguments.lr)
    else:
        train_dinov2(arguments.steps or 900, arguments.batch, arguments.lr)


if __name__ == "__main__":
    main()
