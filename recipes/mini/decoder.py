"""Sharpen the mini autoencoder's decoder while its encoder, and with it every trained T2I model, stays as it is.

Command:   python recipes/mini/decoder.py
Hardware:  2 CPU cores, or a GPU where torch sees one; needs build/mini/latents.npy and build/mini/vae (made by t2i.py and vae.py)
Result:    see recipes/mini/README.md; writes the decoder into build/mini/vae and build/mini/general/vae

Learns from the latents that the T2I models learn from, slightly noised, as painted latents are never exact. Crops are cut
from the latents with a margin of one, so that no pixel that counts lacks its surroundings; edges weigh twice as much as in
`vae.py`, where they would have cost colours.
"""

import argparse

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from pictures import BUILD, load_pictures
from vae import reconstruction_loss
from vernissage.local.training import DEVICE, Average, half_precision, training_steps

FOLDER = BUILD / "decoder-training"
SIDE = 8  # latents a side of a crop, its margin included


def crops(latents: np.ndarray, pictures: np.ndarray, rng: np.random.Generator, batch: int) -> tuple[Tensor, Tensor]:
    """Latents (batch, 16, 8, 8) and the pixels of their inner part (batch, 3, 48, 48)."""
    parts, wanted = [], []
    for index in rng.integers(len(pictures), size=batch):
        y, x = rng.integers(0, 16 - SIDE + 1, size=2)
        parts.append(latents[index, :, y : y + SIDE, x : x + SIDE].astype(np.float32))
        wanted.append(pictures[index, 8 * y + 8 : 8 * (y + SIDE) - 8, 8 * x + 8 : 8 * (x + SIDE) - 8])
    pixels = torch.from_numpy(np.stack(wanted)).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1
    noise = torch.from_numpy(rng.normal(0, 0.05, size=(batch, 16, SIDE, SIDE)).astype(np.float32))
    return (torch.from_numpy(np.stack(parts)) + noise).to(DEVICE), pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    pictures, _, _ = load_pictures()
    latents = np.load(BUILD / "latents.npy", mmap_mode="r")
    vae = AutoencoderKL.from_pretrained(BUILD / "vae").to(DEVICE)
    vae.encoder.requires_grad_(requires_grad=False)
    vae.quant_conv.requires_grad_(requires_grad=False)
    trained = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    average = Average(vae, 0.998)
    optimizer = torch.optim.AdamW(trained, lr=arguments.lr, weight_decay=1e-3, betas=(0.9, 0.98))
    loop = training_steps(FOLDER, arguments.steps, optimizer, peak=arguments.lr, modules={"vae": vae}, averages={"vae": average})
    for step, losses in loop:
        part, pixels = crops(latents, pictures, np.random.default_rng([81, step]), arguments.batch)
        with half_precision():
            output = vae.decode(part / vae.config.scaling_factor).sample
        output = output[:, :, 8:-8, 8:-8].float()
        edges = F.l1_loss(output.diff(dim=-1), pixels.diff(dim=-1)) + F.l1_loss(output.diff(dim=-2), pixels.diff(dim=-2))
        loss = reconstruction_loss(output, pixels) + 0.5 * edges
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses |= {"loss": loss.item(), "squared": F.mse_loss(output / 2, pixels / 2).item()}
    vae.load_state_dict(average.weights)
    vae.save_pretrained(BUILD / "vae")
    (BUILD / "latents.npy").touch()  # the encoder is the same, so they need not be made anew
    vae.half().save_pretrained(BUILD / "general" / "vae")


if __name__ == "__main__":
    main()
