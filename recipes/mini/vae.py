"""Train the mini studio's autoencoder: 128x128 pictures to 16x16x16 latents and back.

Command:   python recipes/mini/vae.py
Hardware:  2 CPU cores, or a GPU where torch sees one
Result:    see recipes/mini/README.md; writes build/mini/vae (AutoencoderKL, diffusers format)

The loss watches colours: a plain L1 leaves small things grey for a long time, so chroma counts double, and the mean
colour of 8x8 blocks counts once more. Random crops suffice because the network has no attention. Why sixteen channels:
design/mini-latents.md. The shipped weights were trained in three legs of growing width, each started from the one
before (--init): 4 channels (3,200 steps, 16 crops of 64), 8 (2,600 steps) and 16 (5,500 steps, 12 crops of 48).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from pictures import BUILD, load_pictures
from vernissage.local.training import DEVICE, Average, half_precision, training_steps

FOLDER = BUILD / "vae-training"
TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], device=DEVICE)


def build() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(24, 48, 96, 112),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=128,
    )


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    weights = torch.tensor([1.0, 2.0, 2.0], device=DEVICE)[:, None, None]
    difference = torch.einsum("ij,bjhw->bihw", TO_YCC, output - target) * weights
    blocks = F.avg_pool2d(difference, 8)
    edges = F.l1_loss(output.diff(dim=-1), target.diff(dim=-1)) + F.l1_loss(output.diff(dim=-2), target.diff(dim=-2))
    return difference.abs().mean() + blocks.abs().mean() + 0.5 * edges


def crops(pictures: np.ndarray, rng: np.random.Generator, batch: int, side: int) -> Tensor:
    out = np.empty((batch, side, side, 3), dtype=np.uint8)
    for row, index in enumerate(rng.integers(len(pictures), size=batch)):
        y, x = rng.integers(0, 128 - side + 1, size=2)
        out[row] = pictures[index, y : y + side, x : x + side]
        if rng.random() < 0.5:
            out[row] = out[row, :, ::-1]
    return torch.from_numpy(out).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def finish(vae: AutoencoderKL, average: Average, pictures: np.ndarray) -> None:
    """Save the averaged weights with the scaling factor that gives latents unit variance."""
    vae.load_state_dict(average.weights)
    vae.eval()
    sample = torch.from_numpy(np.array(pictures[:512])).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in sample.split(64)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    vae.save_pretrained(BUILD / "vae")
    rebuilt = torch.cat([vae.decode(part).sample for part in latents[:128].split(64)]).clamp(-1, 1)
    mse = F.mse_loss(rebuilt / 2, sample[:128] / 2).item()
    print(f"scaling {vae.config.scaling_factor}, channel std {latents.std(dim=(0, 2, 3)).tolist()}, PSNR {-10 * np.log10(mse):.2f} dB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--crop", type=int, default=48)
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--init", type=Path, help="an autoencoder whose layers of equal shape are the starting point")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    pictures, _, _ = load_pictures()
    vae = build().to(DEVICE)
    if arguments.init:
        fitting = vae.state_dict()
        given = AutoencoderKL.from_pretrained(arguments.init).state_dict()
        vae.load_state_dict({name: given[name] if given[name].shape == value.shape else value for name, value in fitting.items()})
    average = Average(vae, 0.998)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=arguments.lr, weight_decay=1e-3, betas=(0.9, 0.98))
    loop = training_steps(arguments.out, arguments.steps, optimizer, peak=arguments.lr, modules={"vae": vae}, averages={"vae": average})
    for step, losses in loop:
        images = crops(pictures, np.random.default_rng([1, step]), arguments.batch, arguments.crop)
        with half_precision():
            posterior = vae.encode(images).latent_dist
            output = vae.decode(posterior.sample()).sample
        rebuilt = reconstruction_loss(output.float(), images)
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        optimizer.zero_grad(set_to_none=True)
        (rebuilt + 2e-4 * kl).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        losses |= {"rebuilt": rebuilt.item(), "kl": kl.item()}
    finish(vae, average, pictures)


if __name__ == "__main__":
    main()
