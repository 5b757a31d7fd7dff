"""Train the mini studio's multimodal language model: InternVL architecture, own tokenizer, 6 M parameters.

Command:   python recipes/mini/mllm.py vision && python recipes/mini/mllm.py language
Hardware:  2 CPU cores, or a GPU where torch sees one; needs build/mini/pictures.npy
Result:    see recipes/mini/README.md; writes build/mini/mllm (transformers format with tokenizer and processor)

First the vision encoder learns to see: a throw-away head reads kind and colour at every patch, and place, time and
style of the whole, through the same projector that the language model will look through. Then everything is trained
together on lessons (`lessons.py`), all about one picture in one pass. Without the first step the language model guesses from word
statistics for hours; with one lesson a picture it learnt captions and plans, but not to answer yes or no.
"""

import argparse
import json
import os
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    Qwen2Tokenizer,
)

from lessons import NEXT_ANSWER, Lesson, neighbour, pair_lessons, picture_lessons, spoiled_lessons, word_lesson
from pictures import BUILD, load_pictures
from vernissage.local.branches import Branch, Packed, pack
from vernissage.local.training import DEVICE, Average, half_precision, training_steps
from vernissage.world.defects import spoil
from vernissage.world.draw import draw
from vernissage.world.scene import COLOURS, KINDS, MAX_COUNT, PLACES, STYLES, TIMES, Scene, sample_scene

FOLDER = BUILD / "mllm-training"
IMAGE_TOKENS = 16
MEAN, STD = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]
CONTEXT, START, END = "<IMG_CONTEXT>", "<img>", "</img>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer() -> Qwen2Tokenizer:
    folder = BUILD / "mllm-tokenizer"
    if not (folder / "tokenizer.json").exists():
        rng = np.random.default_rng(5)
        lessons = [word_lesson(rng) for _ in range(4_000)]
        for _ in range(400):
            scene = sample_scene(rng)
            lessons += picture_lessons(scene, rng) + spoiled_lessons(scene, rng) + pair_lessons(scene, neighbour(scene, rng), rng)
        template = Qwen2Tokenizer()
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = template.backend_tokenizer.pre_tokenizer
        bpe.decoder = decoders.ByteLevel()
        bpe.train_from_iterator(
            (text for lesson in lessons for text in (lesson.question, lesson.answer)),
            trainers.BpeTrainer(vocab_size=1500, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False),
        )
        trained = json.loads(bpe.to_str())["model"]
        tokenizer = Qwen2Tokenizer(
            vocab=trained["vocab"],
            merges=[tuple(merge) for merge in trained["merges"]],
            model_max_length=1024,
            extra_special_tokens={
                "start_image_token": START,
                "end_image_token": END,
                "context_image_token": CONTEXT,
                "video_token": "<video>",
            },
        )
        tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
        tokenizer.add_tokens([AddedToken("<|im_start|>", special=True)], special_tokens=True)
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder)
    return Qwen2Tokenizer.from_pretrained(folder)


def build_model(tokenizer: Qwen2Tokenizer) -> InternVLForConditionalGeneration:
    config = InternVLConfig(
        vision_config={
            "hidden_size": 192,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "intermediate_size": 576,
            "image_size": 128,
            "patch_size": 16,
            "use_mean_pooling": False,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 256,
            "intermediate_size": 640,
            "num_hidden_layers": 5,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(CONTEXT),
        image_seq_length=IMAGE_TOKENS,
        downsample_ratio=0.5,
    )
    # Plain attention trains five times faster than the fused kernel's backward pass on a CPU.
    config._attn_implementation = "eager"
    model = InternVLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


class Eyes(nn.Module):
    """The throw-away head of the first step: reads scenes off the projected image tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cells = nn.Linear(width, 4 * (len(KINDS) + len(COLOURS)))  # each image token covers 2x2 patches
        self.whole = nn.Linear(IMAGE_TOKENS * width, len(STYLES) + len(PLACES) + len(TIMES) + len(KINDS) * (MAX_COUNT + 1))

    def loss(self, tokens: Tensor, scenes: list[Scene], boxes: list) -> Tensor:
        kinds, colours = self.cells(tokens).reshape(len(tokens), 64, -1).split([len(KINDS), len(COLOURS)], dim=-1)
        kind_at, colour_at = torch.zeros(len(scenes), 64, len(KINDS)), torch.full((len(scenes), 64), -100)
        counts = torch.zeros(len(scenes), len(KINDS), dtype=torch.long)
        for index, (scene, things) in enumerate(zip(scenes, boxes, strict=True)):
            for x, y, radius, group in things:
                kind, colour = KINDS.index(scene.groups[group].kind), COLOURS.index(scene.groups[group].colour)
                counts[index, kind] += 1
                for row in range(max(0, int((y - 0.7 * radius) * 8)), min(7, int((y + 0.7 * radius) * 8)) + 1):
                    for column in range(max(0, int((x - 0.7 * radius) * 8)), min(7, int((x + 0.7 * radius) * 8)) + 1):
                        # Token order: 4x4 tokens, in each the 2x2 patches.
                        patch = ((row // 2) * 4 + column // 2) * 4 + (row % 2) * 2 + column % 2
                        kind_at[index, patch, kind], colour_at[index, patch] = 1, colour
        styles, places, times, numbers = self.whole(tokens.flatten(1)).split(
            [len(STYLES), len(PLACES), len(TIMES), len(KINDS) * (MAX_COUNT + 1)], dim=1
        )
        facts = torch.tensor([[STYLES.index(s.style), PLACES.index(s.place), TIMES.index(s.time)] for s in scenes])
        numbers = numbers.reshape(-1, MAX_COUNT + 1)
        weight = torch.tensor([0.2, 1, 1, 1, 1], device=DEVICE)
        kind_at, colour_at, counts, facts = (wanted.to(DEVICE) for wanted in (kind_at, colour_at, counts, facts))
        return (
            3 * F.binary_cross_entropy_with_logits(kinds, kind_at)
            + F.cross_entropy(colours.reshape(-1, len(COLOURS)), colour_at.flatten())
            + sum(F.cross_entropy(logits, facts[:, i]) for i, logits in enumerate((styles, places, times)))
            + F.cross_entropy(numbers, counts.flatten(), weight=weight)
        )


def look(model: InternVLForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Projected image tokens (n, 16, width)."""
    features = model.model.get_image_features(pixel_values=pixels)
    features = getattr(features, "pooler_output", features)
    return (torch.cat(list(features)) if isinstance(features, list | tuple) else features).reshape(len(pixels), IMAGE_TOKENS, -1)


def pixels_of(pictures: np.ndarray, indices: list[int]) -> Tensor:
    return torch.from_numpy(np.stack([pictures[i] for i in indices])).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vision(steps: int, batch: int, lr: float) -> None:
    pictures, scenes, boxes = load_pictures()
    model = build_model(build_tokenizer()).to(DEVICE)
    eyes = Eyes(model.config.text_config.hidden_size).to(DEVICE)
    seeing = nn.ModuleDict({"vision": model.model.vision_tower, "projector": model.model.multi_modal_projector, "eyes": eyes})
    optimizer = torch.optim.AdamW(seeing.parameters(), lr=lr, weight_decay=0.02, betas=(0.9, 0.98))
    for step, losses in training_steps(FOLDER / "vision", steps, optimizer, peak=lr, modules={"seeing": seeing}):
        chosen = np.random.default_rng([31, step]).integers(len(pictures), size=batch).tolist()
        with half_precision():
            tokens = look(model, pixels_of(pictures, chosen))
        loss = eyes.loss(tokens.float(), [scenes[i] for i in chosen], [boxes[i] for i in chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(seeing.parameters(), 1.0)
        optimizer.step()
        losses["loss"] = loss.item()


class Album:
    """Finds a drawn picture for a scene: the training pictures by their number, or one drawn on the spot."""

    def __init__(self) -> None:
        self.pictures, self.scenes, self.boxes = load_pictures()

    def show(self, scene: Scene, rng: np.random.Generator, *, index: int | None = None, defect: tuple | None = None) -> np.ndarray:
        """A picture, shape (128, 128, 3), uint8; some are slightly soft, as painted pictures are."""
        picture = draw(scene, seed=int(rng.integers(2**31))).image if index is None else Image.fromarray(self.pictures[index])
        if defect:
            picture = spoil(picture, *defect, seed=int(rng.integers(2**31)))
        elif rng.random() < 0.4:
            picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2)))
        return np.asarray(picture)

    def sheets(self, rng: np.random.Generator, about: int) -> list[list["Sheet"]]:
        """What one step teaches, in parts of like length: about pictures, about pairs, about words or spoiled pictures.

        All questions about the same pictures stand on one sheet and are answered in one pass (`vernissage.local.branches`).
        """

        def drawn() -> tuple[int, Scene]:
            index = int(rng.integers(len(self.scenes)))
            return index, self.scenes[index]

        single, pairs, words = [], [], []
        for index, scene in (drawn() for _ in range(about)):
            single.append(Sheet([self.show(scene, rng, index=index)], index, picture_lessons(scene, rng)))
        for index, scene in (drawn() for _ in range(about // 2)):
            current = neighbour(scene, rng)
            shown = [self.show(scene, rng, index=index), self.show(current, rng)]
            if rng.random() < 0.5:
                pairs.append(Sheet(shown, index, pair_lessons(scene, current, rng)))
            else:  # the drawn one may as well be the attempt
                pairs.append(Sheet(shown[::-1], None, pair_lessons(current, scene, rng)))
        for index, scene in (drawn() for _ in range(about // 4)):
            lessons = spoiled_lessons(scene, rng)
            words.append(Sheet([self.show(scene, rng, index=index, defect=lessons[0].defect)], None, lessons))
        for lesson in (word_lesson(rng) for _ in range(about)):
            words.append(Sheet([self.show(scene, rng) for scene in lesson.scenes], None, [lesson]))
        # The longest apart, so that little is padding.
        words.sort(key=lambda sheet: sum(len(lesson.question) + len(lesson.answer) for lesson in sheet.lessons))
        return [single, pairs, words[: -about // 3], words[-about // 3 :]]


class Sheet(NamedTuple):
    """Lessons about the same pictures."""

    pictures: list[np.ndarray]
    index: int | None
    """Of the first among the training pictures, for what the eyes shall see there."""
    lessons: list[Lesson]


def packed(sheets: list[Sheet], tokenizer: Qwen2Tokenizer) -> Packed:
    """Tokens of the sheets: the pictures are the trunk, the lessons its branches."""
    image = START + CONTEXT * IMAGE_TOKENS + END + "\n"
    trunks = [tokenizer("<|im_start|>user\n" + image * len(sheet.pictures)).input_ids for sheet in sheets]
    branches = [
        [
            Branch(tokenizer(lesson.question + NEXT_ANSWER).input_ids, tokenizer(lesson.answer + "<|im_end|>").input_ids)
            for lesson in sheet.lessons
        ]
        for sheet in sheets
    ]
    return pack(trunks, branches, pad=tokenizer.pad_token_id)


def by_kind(part: Packed, by_token: Tensor, lessons: list[Lesson]) -> dict[str, float]:
    """Mean loss of an answer's tokens by the first word of the question, to watch."""
    names = ["arguments" if NEXT_ANSWER in lesson.question else lesson.question.split()[0] for lesson in lessons]
    sums: dict[str, list[float]] = {}
    for branch, value in zip(part.branch_of.tolist(), by_token.tolist(), strict=True):
        sums.setdefault(names[branch], []).append(value)
    return {name: sum(values) / len(values) for name, values in sums.items()}


def save(model: InternVLForConditionalGeneration, tokenizer: Qwen2Tokenizer, average: Average) -> None:
    model.load_state_dict(average.weights)
    folder = BUILD / "mllm"
    half = {name: value.half() for name, value in model.state_dict().items()}
    model.config._attn_implementation = None
    model.half().save_pretrained(folder, state_dict=half)
    GotOcr2ImageProcessorPil(
        size={"height": 128, "width": 128}, image_mean=MEAN, image_std=STD, crop_to_patches=False, max_patches=1
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers cannot make an InternVLProcessor without torchvision, so its configuration is written by hand.
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": "InternVLProcessor", "image_seq_length": IMAGE_TOKENS}, indent=2) + "\n", encoding="utf-8"
    )


def train_language(steps: int, batch: int, lr: float) -> None:
    album = Album()
    tokenizer = build_tokenizer()
    model = build_model(tokenizer).to(DEVICE)
    eyes = Eyes(model.config.text_config.hidden_size).to(DEVICE)
    seen = torch.load(FOLDER / "vision" / "state.pt", map_location=DEVICE, weights_only=True)["modules"]["seeing"]
    parts = {"vision": model.model.vision_tower, "projector": model.model.multi_modal_projector, "eyes": eyes}
    for part, module in parts.items():
        module.load_state_dict({k.removeprefix(part + "."): v for k, v in seen.items() if k.startswith(part + ".")})
    average = Average(model, 0.998)
    vision = [p for n, p in model.named_parameters() if "vision_tower" in n or "multi_modal_projector" in n]
    words = [p for n, p in model.named_parameters() if not ("vision_tower" in n or "multi_modal_projector" in n)]
    optimizer = torch.optim.AdamW(
        [{"params": words, "lr_scale": 1.0}, {"params": [*vision, *eyes.parameters()], "lr_scale": 0.5}],
        lr=lr,
        weight_decay=0.02,
        betas=(0.9, 0.98),
    )
    projected: list[Tensor] = []
    model.model.multi_modal_projector.register_forward_hook(lambda _module, _inputs, tokens: projected.append(tokens))
    loop = training_steps(
        FOLDER / "language", steps, optimizer, peak=lr, modules={"model": model, "eyes": eyes}, averages={"model": average}
    )
    for step, losses in loop:
        rng = np.random.default_rng([41, step])
        optimizer.zero_grad(set_to_none=True)
        parts = [(sheets, packed(sheets, tokenizer)) for sheets in album.sheets(rng, batch)]
        # A lesson weighs as the root of its answer's length: by tokens alone, yes and no would drown among long plans.
        lengths = [torch.bincount(part.branch_of).float() for _, part in parts]
        total = sum(float((several**0.5).sum()) for several in lengths)
        for (sheets, part), long in zip(parts, lengths, strict=True):
            projected.clear()
            pictures = [picture for sheet in sheets for picture in sheet.pictures]
            pixels = torch.from_numpy(np.stack(pictures)).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1 if pictures else None
            with half_precision():
                hidden = model.model(
                    input_ids=part.input_ids.to(DEVICE),
                    attention_mask=part.mask.to(DEVICE),
                    position_ids=part.positions.to(DEVICE),
                    pixel_values=pixels,
                    use_cache=False,
                ).last_hidden_state
                logits = model.lm_head(hidden[part.before[:, 0].to(DEVICE), part.before[:, 1].to(DEVICE)])
            by_token = F.cross_entropy(logits.float(), part.answers.to(DEVICE), reduction="none")
            weight = (1 / long**0.5)[part.branch_of].to(DEVICE)
            loss = (by_token * weight).sum() / total
            losses["loss"] = losses.get("loss", 0.0) + loss.item()
            losses |= by_kind(part, by_token.detach(), [lesson for sheet in sheets for lesson in sheet.lessons])
            known = [(place, sheet.index) for place, sheet in enumerate(sheets) if sheet.index is not None]
            if known:  # the language model must not spoil its own eyes
                firsts = np.cumsum([0] + [len(sheet.pictures) for sheet in sheets])
                tokens = projected[0].reshape(len(pictures), IMAGE_TOKENS, -1)[[int(firsts[place]) for place, _ in known]].float()
                seeing = eyes.loss(tokens, [album.scenes[i] for _, i in known], [album.boxes[i] for _, i in known])
                losses["eyes"] = losses.get("eyes", 0.0) + seeing.item() / 2
                loss = loss + 0.05 * seeing
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    save(model, tokenizer, average)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["vision", "language"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=48, help="pictures a step; of the language step, those with a full sheet of lessons")
    parser.add_argument("--lr", type=float, default=1e-3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if arguments.part == "vision":
        train_vision(arguments.steps or 1000, arguments.batch, arguments.lr)
    else:
        train_language(arguments.steps or 2400, arguments.batch, arguments.lr)


if __name__ == "__main__":
    main()
