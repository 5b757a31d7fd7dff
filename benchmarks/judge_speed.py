"""How much faster is one look at a picture than a pass for each score and question, and a batch than picture after picture?

Command:   .venv/bin/python benchmarks/judge_speed.py [--times 5] [--large] [--record]
Protocol:  drawn held-out pictures; perception, correspondence and five questions each. Seven passes: each question alone with the
           whole picture, one after the other, as three models with a pass per question would (here with one model's weights). One
           look: all seven as branches of one picture. Folder: the judge as `vernissage judge` uses it, all pictures at once (batches of
           16 at most) against one after the other. Medians of several runs side by side, after a warm-up; the largest difference of any
           score is told. --large does the first with an InternVL-2.5-1B-shaped model of random weights (ViT of 300 M, language model
           of 500 M) and one picture of 5 tiles, 1,280 image tokens, bfloat16.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from record import append_result
from transformers import GotOcr2ImageProcessorPil, InternVLConfig, InternVLForConditionalGeneration

from vernissage.judging.nn.checkpoint import load_judge
from vernissage.judging.nn.judge import TrainedJudge
from vernissage.judging.nn.model import JudgeModel, Reader, add_heads
from vernissage.judging.nn.scoring import score_batch
from vernissage.judging.spec import HeadSpec, JudgeSpec
from vernissage.local.adapters import merge_adapter
from vernissage.local.vision_inputs import load_inputs
from vernissage.world import tell
from vernissage.world.draw import draw
from vernissage.world.scene import sample_scene
from vernissage.zoo.catalogue import package_folder


def seven_passes(model: JudgeModel, spec: JudgeSpec, image, prompt, questions) -> dict:
    """Each score and each answer by a pass of its own."""
    nobody = spec.model_copy(update={"answers": None})
    found = {}
    for dimension in spec.heads:
        alone = nobody.model_copy(update={"heads": {dimension: spec.heads[dimension]}})
        found |= score_batch(model, alone, [image], [prompt], [[]])[0]
    answering = spec.model_copy(update={"heads": {}})
    for number, question in enumerate(questions):
        found[number] = score_batch(model, answering, [image], [None], [[question]])[0][0]
    return found


def median(times: int, ways: dict) -> dict[str, float]:
    """Median seconds of each way, the ways taking turns; each has run before, when its scores were compared."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            spent[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in spent.items()}


def furthest(first: list[dict], second: list[dict]) -> float:
    return max(abs(a[key] - b[key]) for a, b in zip(first, second, strict=True) for key in b)


def large_model() -> tuple[JudgeModel, JudgeSpec]:
    """An InternVL-2.5-1B-shaped judge with random weights; words and template are the mini model's."""
    mini = str(package_folder("mini") / "mllm")
    config = InternVLConfig(
        vision_config={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "attention_bias": True,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": 151_680,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        image_token_id=1503,
        image_seq_length=256,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    backbone = InternVLForConditionalGeneration(config).eval().requires_grad_(False)
    torch.set_default_dtype(torch.float32)
    tokenizer, _, _ = load_inputs(mini, config)
    pixels = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, crop_to_patches=True, min_patches=4, max_patches=4)
    image_token = tokenizer.convert_ids_to_tokens(1503)

    def inputs(texts, images):
        from transformers import BatchFeature

        seen = pixels(
            images=[image for own in images for image in own], return_tensors="pt", crop_to_patches=True, min_patches=4, max_patches=4
        )
        runs = [f"<img>{image_token * 256 * count}</img>" for count in seen["num_patches"].tolist()]
        tokens = tokenizer([text.replace(image_token, run) for text, run in zip(texts, runs, strict=True)], return_tensors="pt")
        return BatchFeature({**tokens, "pixel_values": seen["pixel_values"]})

    model = JudgeModel(backbone, Reader(tokenizer, f"<|im_start|>user\n{image_token}\n", "<|im_end|>\n<|im_start|>assistant\n", inputs))
    head = HeadSpec(adapter="", widths=(1024, 256, 64, 16), center=50, spread=15, low=0, high=100)
    spec = JudgeSpec(
        name="large", backbone="random", fingerprint="", brief=True, heads={"perception": head, "correspondence": head}, answers=""
    )
    add_heads(model, spec.heads)
    return model.eval().requires_grad_(False), spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    rng = np.random.default_rng(21)
    scenes = [sample_scene(rng, split="held-out") for _ in range(1 if arguments.large else 48)]
    images = [draw(scene, seed=index).image for index, scene in enumerate(scenes)]
    prompts = [tell.prompt(scene) for scene in scenes]
    questions = [[question.text for question in tell.questions(scene, rng)[:5]] for scene in scenes]
    if arguments.large:
        model, spec = large_model()
        tokens = int((model.reader.inputs([model.reader.before], [images])["input_ids"] == 1503).sum())
    else:
        model, spec = load_judge(package_folder("mini") / "judge", device=torch.device("cpu"))
        merge_adapter(model.backbone, "shared")
        tokens = 16

    def looked():
        return [score_batch(model, spec, [i], [p], [q])[0] for i, p, q in zip(images, prompts, questions, strict=True)]

    def passed():
        return [seven_passes(model, spec, i, p, q) for i, p, q in zip(images, prompts, questions, strict=True)]

    figures = {"image_tokens": tokens, "pictures": len(images), "furthest": furthest(looked(), passed())}
    ways = {"seven passes": passed, "one look": looked}
    if not arguments.large:
        judge = TrainedJudge(str(package_folder("mini") / "judge"), device="cpu")

        def one_by_one():
            return [judge.judge([i], [p], [q])[0] for i, p, q in zip(images, prompts, questions, strict=True)]

        def together():
            return judge.judge(images, prompts, questions)

        ways |= {"folder, one by one": one_by_one, "folder, all at once": together}
        numbers = [
            [{"p": v.perception.value, "c": v.correspondence.value} | {a.question: a.yes.value for a in v.answers} for v in way()]
            for way in (one_by_one, together)
        ]
        figures["furthest_in_batches"] = furthest(*numbers)
    seconds = median(arguments.times, ways)
    figures |= {"seconds": seconds}
    for name, value in seconds.items():
        print(f"{name:<26} {value / len(images):8.4f} s a picture")
    print(f"one look: {seconds['seven passes'] / seconds['one look']:.2f} x; furthest score {figures['furthest']:.2g}")
    if not arguments.large:
        print(f"batches: {seconds['folder, one by one'] / seconds['folder, all at once']:.2f} x")
    if arguments.record:
        append_result("judge_speed_large" if arguments.large else "judge_speed", figures, times=arguments.times)


if __name__ == "__main__":
    main()
