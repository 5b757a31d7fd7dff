"""Train the mini studio's general T2I model: CLIP text encoder and UNet on 16x16x16 latents, v-prediction.

Command:   python recipes/mini/t2i.py
Hardware:  2 CPU cores, or a GPU where torch sees one; needs build/mini/pictures.npy and build/mini/vae
Result:    see recipes/mini/README.md; writes build/mini/general and, from an early step, build/mini/early (diffusers)

Two things make this fast on a CPU. The 16x16 level has no attention (positions are learned at 8x8). And attention is
computed by plain matrix products, because the backward pass of the fused CPU kernel took five sixths of each step.
Photographs and cartoons are shown more often than the other styles, as general models see the world; the specialists
(`lora.py`) make up for it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pictures import BUILD, load_pictures
from vernissage.local.training import DEVICE, Average, half_precision, training_steps
from vernissage.world import phrases, tell
from vernissage.world.scene import Scene, sample_scene

FOLDER = BUILD / "t2i-training"
MAX_TOKENS = 48
STYLE_WEIGHTS = {"photo": 0.25, "cartoon": 0.25, "sketch": 0.125, "neon": 0.125, "pixel art": 0.125, "watercolour": 0.125}
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer (byte-level BPE with an end-of-word mark) for the words of the world."""
    if not (folder / "vocab.json").exists():
        rng = np.random.default_rng(3)
        scenes = [sample_scene(rng) for _ in range(6000)]
        texts = [tell.prompt(scene, rng) for scene in scenes] + [tell.caption(scene, rng) for scene in scenes]
        texts += [negative for negative in phrases.NEGATIVE_PROMPTS if negative] * 20
        bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
        template = CLIPTokenizer()
        bpe.normalizer = normalizers.Lowercase()
        bpe.pre_tokenizer = template.backend_tokenizer.pre_tokenizer
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        bpe.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=960,
                initial_alphabet=sorted(alphabet),
                end_of_word_suffix="</w>",
                special_tokens=["<|startoftext|>", "<|endoftext|>"],
                show_progress=False,
            ),
        )
        # Every byte must also exist as the end of a word, or an unknown word could not be written down.
        trained = json.loads(bpe.to_str())["model"]
        vocabulary = trained["vocab"]
        for letter in sorted(alphabet):
            vocabulary.setdefault(letter + "</w>", len(vocabulary))
        tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[tuple(merge) for merge in trained["merges"]], model_max_length=MAX_TOKENS)
        tokenizer.save_pretrained(folder)
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        merges = "\n".join(" ".join(merge) for merge in trained["merges"])
        (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=160,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=5,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=160,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            attn_implementation="eager",
        )
    )


def build_unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=16,
        out_channels=16,
        block_out_channels=(96, 144),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=160,
        attention_head_dim=6,
        norm_num_groups=16,
    )
    unet.set_attn_processor(AttnProcessor())
    return unet


def encode(text: list[str], tokenizer: CLIPTokenizer, encoder: CLIPTextModel) -> Tensor:
    ids = tokenizer(text, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt").input_ids
    return encoder(ids.to(DEVICE)).last_hidden_state


@torch.no_grad()
def load_latents(vae_folder: Path, count: int) -> np.ndarray:
    """Latents (n, 16, 16, 16) fp16 of the first `count` pictures, scaled to unit variance; computed once."""
    path = BUILD / "latents.npy"
    if path.exists() and path.stat().st_mtime > (vae_folder / "config.json").stat().st_mtime:
        return np.load(path, mmap_mode="r")
    vae = AutoencoderKL.from_pretrained(vae_folder).to(DEVICE).eval()
    pictures, _, _ = load_pictures()
    latents = np.empty((count, 16, 16, 16), dtype=np.float16)
    for start in range(0, count, 64):
        part = torch.from_numpy(np.array(pictures[start : min(count, start + 64)])).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1
        with half_precision():
            encoded = vae.encode(part).latent_dist.mean
        latents[start : start + len(part)] = encoded.float().cpu().numpy() * vae.config.scaling_factor
    np.save(path, latents)
    return latents


def words_for(scene: Scene, rng: np.random.Generator) -> str:
    """A prompt as people write them: mostly complete, sometimes partial, sometimes a sentence, sometimes none."""
    lot = rng.random()
    if lot < 0.10:
        return phrases.NEGATIVE_PROMPTS[rng.integers(len(phrases.NEGATIVE_PROMPTS))]
    if lot < 0.22:
        return tell.caption(scene, rng)
    if lot < 0.34:
        return tell.prompt(scene, rng, facts=frozenset(fact for fact in tell.ALL_FACTS if rng.random() < 0.7))
    if lot < 0.55:
        return tell.prompt(scene)
    return tell.prompt(scene, rng)


def diffusion_loss(
    unet: UNet2DConditionModel, scheduler: DDPMScheduler, latents: Tensor, words: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean squared error of v, all noise levels alike.

    Min-SNR weights were tried for the first 1,900 steps: they favour the little noise that decides texture, and kinds and
    counts, decided where noise is strong, lagged behind.
    """
    noise = torch.randn(latents.shape, generator=generator).to(DEVICE)
    steps = torch.randint(0, 1000, (len(latents),), generator=generator).to(DEVICE)
    noisy = scheduler.add_noise(latents, noise, steps)
    target = scheduler.get_velocity(latents, noise, steps)
    with half_precision():
        output = unet(noisy, steps, words).sample
    return F.mse_loss(output.float(), target)


def save_pipeline(folder: Path, vae: Path, tokenizer: CLIPTokenizer, encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(vae),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(**NOISE, timestep_spacing="trailing", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--early", type=int, default=1100, help="the step whose weights become the weaker model")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--init", type=Path, help="a pipeline to go on from, for example src/vernissage/mini/general")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    _, scenes, _ = load_pictures()
    latents = load_latents(BUILD / "vae", len(scenes))
    tokenizer = build_tokenizer(BUILD / "clip-tokenizer")
    encoder, unet = build_text_encoder(tokenizer).to(DEVICE), build_unet().to(DEVICE)
    if arguments.init:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(arguments.init / "unet", dtype=torch.float32).state_dict())
        encoder.load_state_dict(CLIPTextModel.from_pretrained(arguments.init / "text_encoder", dtype=torch.float32).state_dict())
    scheduler = DDPMScheduler(**NOISE)
    share = np.array([STYLE_WEIGHTS[scene.style] for scene in scenes])
    share /= share.sum()
    averages = {"unet": Average(unet, 0.998), "encoder": Average(encoder, 0.998)}
    optimizer = torch.optim.AdamW([*unet.parameters(), *encoder.parameters()], lr=arguments.lr, betas=(0.9, 0.98), weight_decay=1e-2)
    loop = training_steps(
        arguments.out,
        arguments.steps,
        optimizer,
        peak=arguments.lr,
        modules={"unet": unet, "encoder": encoder},
        averages=averages,
    )

    def save(folder: Path) -> None:
        averaged_unet, averaged_encoder = build_unet(), build_text_encoder(tokenizer)
        averaged_unet.load_state_dict(averages["unet"].weights)
        averaged_encoder.load_state_dict(averages["encoder"].weights)
        save_pipeline(folder, BUILD / "vae", tokenizer, averaged_encoder, averaged_unet)

    for step, losses in loop:
        rng = np.random.default_rng([11, step])
        chosen = rng.choice(len(scenes), size=arguments.batch, p=share)
        with half_precision():
            words = encode([words_for(scenes[index], rng) for index in chosen], tokenizer, encoder)
        generator = torch.Generator().manual_seed(step)
        batch = torch.from_numpy(latents[chosen].astype(np.float32)).to(DEVICE)
        loss = diffusion_loss(unet, scheduler, batch, words, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*unet.parameters(), *encoder.parameters()], 1.0)
        optimizer.step()
        losses["loss"] = loss.item()
        if step == arguments.early:
            save(BUILD / "early")
    save(BUILD / "general")


if __name__ == "__main__":
    main()
