"""Train a style specialist: a LoRA on the general mini model's UNet, from pictures of one style.

Command:   python recipes/mini/lora.py neon|pixel|sketch|watercolour
Hardware:  2 CPU cores, or a GPU where torch sees one; needs build/mini/latents.npy and build/mini/general
Result:    see recipes/mini/README.md; writes build/mini/loras/NAME/pytorch_lora_weights.safetensors (diffusers format)

A specialist paints in its own style whatever it is asked: a third of the prompts name no style or another one. Without
these, specialists are the general model again, for its own pictures are in those styles already.
"""

import argparse

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig, get_peft_model_state_dict

from pictures import BUILD, load_pictures
from t2i import NOISE, diffusion_loss, encode, words_for
from vernissage.local.training import DEVICE, Average, half_precision, training_steps
from vernissage.world import tell
from vernissage.world.scene import STYLES as ALL_STYLES
from vernissage.world.scene import Scene

STYLES = {"neon": "neon", "pixel": "pixel art", "sketch": "sketch", "watercolour": "watercolour"}


def words_for_specialist(scene: Scene, rng: np.random.Generator) -> str:
    """A prompt as people write them; its style is now and then left out, or another one."""
    lot = rng.random()
    if lot < 0.2:
        return tell.prompt(scene, rng, facts=frozenset({"place", "time"}))
    if lot < 0.35:
        return tell.prompt(scene.model_copy(update={"style": ALL_STYLES[rng.integers(len(ALL_STYLES))]}), rng)
    return words_for(scene, rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(STYLES))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    _, scenes, _ = load_pictures()
    latents = np.load(BUILD / "latents.npy", mmap_mode="r")
    pipeline = StableDiffusionPipeline.from_pretrained(BUILD / "general", torch_dtype=torch.float32).to(DEVICE)
    unet = pipeline.unet.requires_grad_(requires_grad=False)
    unet.set_attn_processor(AttnProcessor())
    targets = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv_out"]
    unet.add_adapter(LoraConfig(r=arguments.rank, lora_alpha=arguments.rank, init_lora_weights="gaussian", target_modules=targets))
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    scheduler = DDPMScheduler(**NOISE)
    own = np.array([index for index, scene in enumerate(scenes) if scene.style == STYLES[arguments.name]])
    optimizer = torch.optim.AdamW(trained, lr=arguments.lr, weight_decay=1e-3, betas=(0.9, 0.98))
    average = Average(unet, 0.99)
    folder = BUILD / f"lora-{arguments.name}-training"
    loop = training_steps(
        folder, arguments.steps, optimizer, peak=arguments.lr, modules={"unet": unet}, averages={"unet": average}, log_every=25
    )
    for step, losses in loop:
        rng = np.random.default_rng([71, step])
        chosen = own[rng.integers(len(own), size=arguments.batch)]
        with torch.no_grad(), half_precision():
            words = encode([words_for_specialist(scenes[index], rng) for index in chosen], pipeline.tokenizer, pipeline.text_encoder)
        batch = torch.from_numpy(np.stack([latents[index] for index in chosen]).astype(np.float32)).to(DEVICE)
        loss = diffusion_loss(unet, scheduler, batch, words, torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses["loss"] = loss.item()
    unet.load_state_dict(average.weights)
    layers = {name: value.half().cpu() for name, value in get_peft_model_state_dict(unet).items()}
    StableDiffusionPipeline.save_lora_weights(BUILD / "loras" / arguments.name, unet_lora_layers=layers)


if __name__ == "__main__":
    main()
