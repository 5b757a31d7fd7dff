"""The `parameters` text of AUTOMATIC1111, Forge and Civitai: reading it into a plan and writing a plan as it.

Older files put the schedule into the sampler's name ("DPM++ 2M Karras"), newer ones write it apart; both are read, the
newer form is written. Keys this package does not know are kept. The ComfyUI reader lives here too, on a best-effort
basis, because its graph answers the same question.
"""

import json
import math
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vernissage.records.plan import Arguments, Lora, Plan

SCHEDULES = ("Karras", "Exponential", "Beta", "SGM Uniform", "Simple", "Normal", "Automatic", "Uniform")

_PAIR = re.compile(r'\s*(?P<key>[\w][\w \-/]*):\s*(?P<value>"(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_LORA = re.compile(r"<lora:(?P<name>[^:>]+)(?::(?P<weight>-?\d*\.?\d+))?[^>]*>")
_NEGATIVE = "Negative prompt:"


class Parameters(BaseModel):
    """A plan as found in, or written into, a picture file, with the pairs this package has no field for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: Plan
    extra: dict[str, str] = Field(default_factory=dict)


def split_sampler(name: str) -> tuple[str, str | None]:
    """Separate a schedule from a sampler's name.

    Example:
        >>> split_sampler("DPM++ 2M Karras"), split_sampler("Euler a")
        (('DPM++ 2M', 'Karras'), ('Euler a', None))
    """
    for schedule in SCHEDULES:
        if name.lower().endswith(" " + schedule.lower()):
            return name[: -len(schedule) - 1].strip(), schedule
    return name, None


def extract_loras(prompt: str) -> tuple[str, tuple[Lora, ...]]:
    """Take `<lora:name:weight>` tags out of a prompt.

    Example:
        >>> extract_loras("a cat <lora:ink:0.8>, at night")
        ('a cat, at night', (Lora(name='ink', weight=0.8),))
    """
    loras = tuple(
        Lora(name=match["name"].strip(), weight=float(match["weight"] or 1)) for match in _LORA.finditer(prompt)
    )
    if not loras:
        return prompt, ()
    return re.sub(r"\s+([,.])", r"\1", re.sub(r"[ \t]{2,}", " ", _LORA.sub("", prompt))).strip(" ,"), loras


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:"\n]', value) else value


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value[1:-1]
    return value


def write_parameters(plan: Plan, *, extra: dict[str, str] | None = None) -> str:
    """A plan as A1111 text.

    Example:
        >>> print(write_parameters(Plan(prompt="a cat", model="m", arguments=Arguments(sampler="DDIM", steps=9, seed=1))))
        a cat
        Steps: 9, Sampler: DDIM, Seed: 1, Model: m
    """
    arguments = plan.arguments
    tags = "".join(f" <lora:{lora.name}:{lora.weight:g}>" for lora in arguments.loras)
    pairs: dict[str, str] = {}
    if arguments.steps is not None:
        pairs["Steps"] = str(arguments.steps)
    if arguments.sampler is not None:
        sampler, schedule = split_sampler(arguments.sampler)
        pairs["Sampler"] = sampler
        if schedule:
            pairs["Schedule type"] = schedule
    if arguments.cfg_scale is not None:
        pairs["CFG scale"] = f"{arguments.cfg_scale:g}"
    if arguments.seed is not None:
        pairs["Seed"] = str(arguments.seed)
    if arguments.width is not None and arguments.height is not None:
        pairs["Size"] = f"{arguments.width}x{arguments.height}"
    pairs["Model"] = plan.model
    if arguments.clip_skip is not None:
        pairs["Clip skip"] = str(arguments.clip_skip)
    pairs |= extra or {}
    lines = [plan.prompt + tags]
    if plan.negative_prompt:
        lines.append(f"{_NEGATIVE} {plan.negative_prompt}")
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items()))
    return "\n".join(lines)


def read_parameters(text: str) -> Parameters:
    """Read A1111 text. Never fails: what cannot be read stays in the prompt or among the extra pairs.

    Example:
        >>> found = read_parameters("a cat\\nNegative prompt: blurry\\nSteps: 9, Sampler: DPM++ 2M Karras, Size: 64x96")
        >>> found.plan.negative_prompt, found.plan.arguments.sampler, found.plan.arguments.height
        ('blurry', 'DPM++ 2M Karras', 96)
    """
    lines = text.replace("\r\n", "\n").strip().split("\n")
    pairs: dict[str, str] = {}
    matches = list(_PAIR.finditer(lines[-1]))
    if any(match["key"] == "Steps" for match in matches) or len(matches) >= 3:
        pairs = {match["key"].strip(): _unquoted(match["value"].strip()) for match in matches}
        lines = lines[:-1]
    marks = [index for index, line in enumerate(lines) if line.startswith(_NEGATIVE)]
    positive, negative = (lines[: marks[0]], lines[marks[0] :]) if marks else (lines, [])
    prompt, loras = extract_loras("\n".join(positive).strip())
    plan = Plan(
        prompt=prompt,
        negative_prompt="\n".join(negative).removeprefix(_NEGATIVE).strip(),
        model=pairs.pop("Model", "") or "unknown",
        arguments=_arguments(pairs, loras),
    )
    return Parameters(plan=plan, extra=pairs)


def _number(pairs: dict[str, str], key: str, kind: type) -> Any:
    """Take a number out of `pairs`; one that cannot be read stays there."""
    try:
        value = kind(pairs.get(key, ""))
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    pairs.pop(key)
    return value


def _arguments(pairs: dict[str, str], loras: tuple[Lora, ...]) -> Arguments:
    """Take what has a field of its own out of `pairs`."""
    size = re.fullmatch(r"(\d{1,5})\s*[x\N{MULTIPLICATION SIGN}]\s*(\d{1,5})", pairs.get("Size", ""))
    if size:
        pairs.pop("Size")
    sampler = pairs.pop("Sampler", None)
    schedule = pairs.get("Schedule type", "")
    if sampler and schedule in SCHEDULES:
        pairs.pop("Schedule type")
        if schedule not in ("Automatic", "Normal", "Uniform") and split_sampler(sampler)[1] is None:
            sampler = f"{sampler} {schedule}"
    return Arguments(
        sampler=sampler,
        steps=_number(pairs, "Steps", int),
        cfg_scale=_number(pairs, "CFG scale", float),
        seed=_number(pairs, "Seed", int),
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        clip_skip=_number(pairs, "Clip skip", int),
        loras=loras,
    )


_COMFY_SAMPLERS = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "lms": "LMS",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "ddim": "DDIM",
    "uni_pc": "UniPC",
    "lcm": "LCM",
}
_COMFY_SCHEDULES = {"karras": "Karras", "exponential": "Exponential", "sgm_uniform": "SGM Uniform", "beta": "Beta"}


def read_comfyui(graph_json: str) -> Parameters | None:
    """Read the `prompt` chunk of a ComfyUI picture: its first KSampler and what feeds it; None when there is none."""
    try:
        graph = json.loads(graph_json)
    except ValueError:
        return None
    if not isinstance(graph, dict):
        return None
    nodes = {str(key): node for key, node in graph.items() if isinstance(node, dict)}

    def inputs(node_id: object) -> dict[str, Any]:
        found = nodes.get(str(node_id), {}).get("inputs")
        return found if isinstance(found, dict) else {}

    def source(value: object) -> str | None:
        return str(value[0]) if isinstance(value, list) and value else None

    sampler_id = next((key for key, node in nodes.items() if "KSampler" in str(node.get("class_type"))), None)
    if sampler_id is None:
        return None
    sampler = inputs(sampler_id)

    def text(value: object) -> str:
        found = inputs(source(value)).get("text", "")
        return found if isinstance(found, str) else ""

    loras, node_id, model = [], source(sampler.get("model")), "unknown"
    for _ in range(len(nodes)):  # follow the chain of adapters to the checkpoint
        node = inputs(node_id)
        if "lora_name" in node:
            loras.append(Lora(name=str(node["lora_name"]), weight=float(node.get("strength_model", 1))))
        if "ckpt_name" in node or "unet_name" in node:
            model = str(node.get("ckpt_name") or node["unet_name"])
            break
        node_id = source(node.get("model"))
    size = inputs(source(sampler.get("latent_image")))
    name = str(sampler.get("sampler_name", ""))
    schedule = _COMFY_SCHEDULES.get(str(sampler.get("scheduler")), "")

    def number(value: object, kind: type) -> Any:
        return kind(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    return Parameters(
        plan=Plan(
            prompt=text(sampler.get("positive")),
            negative_prompt=text(sampler.get("negative")),
            model=model,
            arguments=Arguments(
                sampler=f"{_COMFY_SAMPLERS.get(name, name)} {schedule}".strip() or None,
                steps=number(sampler.get("steps"), int),
                cfg_scale=number(sampler.get("cfg"), float),
                seed=number(sampler.get("seed", sampler.get("noise_seed")), int),
                width=number(size.get("width"), int),
                height=number(size.get("height"), int),
                loras=tuple(loras),
            ),
        ),
        extra={"Tool": "ComfyUI"},
    )
