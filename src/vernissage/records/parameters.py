"""The `parameters` text of AUTOMATIC1111, Forge and Civitai: reading it into a plan and writing a plan as it.

Older files put the schedule into the sampler's name ("DPM++ 2M Karras"), newer ones write it apart; both are read, the
newer form is written. Keys this package does not know are kept. The ComfyUI reader lives here too, on a best-effort
basis, because its graph answers the same question.
"""

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vernissage.records.plan import Arguments, Lora, Plan, Text, whole_characters

SCHEDULES = ("Karras", "Exponential", "Beta", "SGM Uniform", "Simple", "Normal", "Automatic", "Uniform")

# No repetition below can give back what it took: a text made to be slow is read in one pass all the same.
_KEY = re.compile(r"\s*+(?P<key>\w[\w \-/]{0,60}+):\s*+")
_QUOTED = re.compile(r'"(?P<text>(?:\\.|[^\\"])*+)"')
_PAIR_END = re.compile(r"\s*+(?:,|$)")
_LORA = re.compile(r"<lora:(?P<name>[^:<>\n]++)(?::(?P<rest>[^<>\n]*+))?>")
_LONGEST_LINE = 100_000  # characters; a longer last line is no such line
_NEGATIVE = "Negative prompt:"
_USUAL = {"Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model", "Model hash", "Clip skip", "Version"}


class Parameters(BaseModel):
    """A plan as found in, or written into, a picture file, with the pairs this package has no field for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: Plan
    extra: dict[Text, Text] = Field(default_factory=dict)


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
    tags = [match for match in _LORA.finditer(prompt) if match["name"].strip()]
    if not tags:
        return prompt, ()
    ends = [0, *(match.end() for match in tags)]
    pieces = [prompt[start:stop] for start, stop in zip(ends, [*(match.start() for match in tags), len(prompt)], strict=True)]
    return _join(pieces), tuple(Lora(name=match["name"].strip(), weight=_weight(match["rest"])) for match in tags)


def _weight(rest: str | None) -> float:
    """The first number behind an adapter's name; 1 where there is none."""
    weight = _number((rest or "1").split(":")[0], float)
    return 1.0 if weight is None else weight


def _join(pieces: list[str]) -> str:
    """What stood around the tags, without the commas and spaces that are left over."""
    joined: list[str] = []
    spaced = False
    for piece in pieces:
        text = piece.strip(" \t")
        if text.startswith(",") and (not joined or joined[-1].endswith((",", "\n"))):
            text = text[1:].lstrip(" \t")
            spaced = True
        spaced = spaced or piece[:1].isspace()
        if text:
            if joined and spaced and not text.startswith((",", ".", "\n")) and not joined[-1].endswith("\n"):
                joined.append(" ")
            joined.append(text)
            spaced = False
        spaced = spaced or piece[-1:].isspace()
    return "".join(joined).strip(" \t,")


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:"\n]|^\s|\s$', value) else value


_CHOSEN_FOR = ("DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "DPM++ 2M SDE", "DPM++ 3M SDE")
"""Samplers for which A1111 takes a schedule of its own choice, Karras or Exponential, where none is told."""


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
        if schedule or sampler in _CHOSEN_FOR:
            pairs["Schedule type"] = schedule or "Uniform"
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


def sampler_of(sampler: object, schedule: object) -> str | None:
    """A sampler with the schedule that is told beside it, as one name; None where there is no sampler.

    Example:
        >>> sampler_of("DPM++ 2M", "Karras"), sampler_of("Euler a", None), sampler_of(None, "Karras")
        ('DPM++ 2M Karras', 'Euler a', None)
    """
    if not isinstance(sampler, str):
        return None
    pairs = {"Sampler": sampler.strip(), "Schedule type": schedule if isinstance(schedule, str) else ""}
    return _arguments(pairs, ()).sampler


def read_parameters(text: str) -> Parameters:
    r"""Read A1111 text. Never fails: what cannot be read stays in the prompt or among the extra pairs.

    Example:
        >>> found = read_parameters("a cat\nNegative prompt: blurry\nSteps: 9, Sampler: DPM++ 2M Karras, Size: 64x96")
        >>> found.plan.negative_prompt, found.plan.arguments.sampler, found.plan.arguments.height
        ('blurry', 'DPM++ 2M Karras', 96)
    """
    lines = whole_characters(text).replace("\r\n", "\n").strip().split("\n")
    pairs = _read_pairs(lines[-1]) if len(lines[-1]) <= _LONGEST_LINE else {}
    if _says_how(pairs, alone=len(lines) == 1):
        lines = lines[:-1]
    else:
        pairs = {}
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


def _says_how(pairs: dict[str, str], *, alone: bool) -> bool:
    """Whether these pairs are a last line, and not a prompt that happens to hold colons, as "(red:1.2), hair: long" does."""
    if pairs.get("Steps", "").isdecimal():
        return True
    usual = pairs.keys() & _USUAL
    return (len(pairs) >= 3 and bool(usual)) or ("Model" in pairs and len(usual) == len(pairs) and not alone)


def _read_pairs(line: str) -> dict[str, str]:
    """The `key: value` pairs of a line; what stands between two commas and is none is passed over."""
    pairs: dict[str, str] = {}
    position = 0
    while position < len(line):
        key = _KEY.match(line, position)
        if key is None:
            comma = line.find(",", position)
            position = len(line) if comma == -1 else comma + 1
        else:
            pairs[key["key"].strip()], position = _read_value(line, key.end())
    return pairs


def _read_value(line: str, start: int) -> tuple[str, int]:
    """The value that begins at `start`, and where the next pair begins. Quoted texts and JSON may hold commas."""
    found, end = None, start
    if line[start : start + 1] in ("[", "{", '"'):
        try:
            value, end = json.JSONDecoder().raw_decode(line, start)
            found = value if isinstance(value, str) else line[start:end]
        except (ValueError, RecursionError):
            if quoted := _QUOTED.match(line, start):  # not JSON, for example a Windows path
                found, end = quoted["text"], quoted.end()
    stop = _PAIR_END.match(line, end) if found is not None else None
    if found is None or stop is None:
        comma = line.find(",", start)
        comma = len(line) if comma == -1 else comma
        return line[start:comma].strip(), comma + 1
    return found, stop.end()


def _number(value: object, kind: type) -> Any:
    """A number of that kind, None where it is none or beyond all bounds."""
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 2**64 else None


def _take(pairs: dict[str, str], key: str, kind: type) -> Any:
    """Take a number out of `pairs`; one that cannot be read stays there."""
    number = _number(pairs.get(key), kind)
    if number is not None:
        pairs.pop(key)
    return number


def _arguments(pairs: dict[str, str], loras: tuple[Lora, ...]) -> Arguments:
    """Take what has a field of its own out of `pairs`."""
    size = re.fullmatch(r"(\d{1,5})\s*[x\N{MULTIPLICATION SIGN}]\s*(\d{1,5})", pairs.get("Size", ""))
    if size:
        pairs.pop("Size")
    sampler = pairs.pop("Sampler", None) or None
    schedule = pairs.get("Schedule type", "")
    if sampler and schedule in SCHEDULES:
        pairs.pop("Schedule type")
        if schedule not in ("Automatic", "Normal", "Uniform") and split_sampler(sampler)[1] is None:
            sampler = f"{sampler} {schedule}"
    return Arguments(
        sampler=sampler,
        steps=_take(pairs, "Steps", int),
        cfg_scale=_take(pairs, "CFG scale", float),
        seed=_take(pairs, "Seed", int),
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        clip_skip=_take(pairs, "Clip skip", int),
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


_LORA_FILE = re.compile(r"\.(safetensors|pt|ckpt)$", re.IGNORECASE)
_COMFY_TEXTS = ("text", "text_g", "t5xxl", "string", "value", "prompt")

_Inputs = dict[str, Any]


def read_comfyui(graph_json: str) -> Parameters | None:
    """Read the `prompt` chunk of a ComfyUI picture: its first sampler, which begins with an empty picture, and what feeds it; or None."""
    try:
        graph = json.loads(graph_json)
    except (ValueError, RecursionError):
        return None
    if not isinstance(graph, dict):
        return None
    nodes = {str(key): node for key, node in graph.items() if isinstance(node, dict)}
    samplers = [_sampler_inputs(nodes, key) for key, node in nodes.items() if _is_sampler(str(node.get("class_type")))]
    if not samplers:
        return None
    # What begins with an empty picture comes before what only refines one.
    sampler = min(samplers, key=lambda each: not _kind(nodes, each.get("latent_image")).startswith("Empty"))
    model, loras = _follow_model(nodes, sampler.get("model"))
    size = _inputs(nodes, sampler.get("latent_image"))
    return Parameters(
        plan=Plan(
            prompt=_follow_text(nodes, sampler.get("positive")),
            negative_prompt=_follow_text(nodes, sampler.get("negative")),
            model=model,
            arguments=Arguments(
                sampler=_comfy_sampler(sampler),
                steps=_plain_number(sampler.get("steps"), int),
                cfg_scale=_plain_number(sampler.get("cfg"), float),
                seed=_plain_number(sampler.get("seed", sampler.get("noise_seed")), int),
                width=_plain_number(size.get("width"), int),
                height=_plain_number(size.get("height"), int),
                loras=loras,
            ),
        ),
        extra={"Tool": "ComfyUI"},
    )


def _is_sampler(kind: str) -> bool:
    return kind == "SamplerCustomAdvanced" or ("KSampler" in kind and kind != "KSamplerSelect")  # which only names one


def _kind(nodes: dict[str, _Inputs], link: object) -> str:
    """The type of the node that a link leads to."""
    return str(nodes.get(str(link[0]), {}).get("class_type")) if isinstance(link, list) and link else ""


def _sampler_inputs(nodes: dict[str, _Inputs], key: str) -> _Inputs:
    """The inputs of a sampler; of one in parts, as for FLUX, those of its parts."""
    found = _inputs(nodes, [key])
    if "guider" not in found:
        return found
    parts = [_inputs(nodes, found.get(name)) for name in ("noise", "sampler", "sigmas", "guider")]
    joined = {name: value for part in parts for name, value in part.items()}
    return joined | {"latent_image": found.get("latent_image"), "positive": joined.get("positive", joined.get("conditioning"))}


def _inputs(nodes: dict[str, _Inputs], link: object) -> _Inputs:
    """The inputs of the node that a link, [node, output], leads to."""
    found = nodes.get(str(link[0]), {}).get("inputs") if isinstance(link, list) and link else None
    return found if isinstance(found, dict) else {}


def _follow_text(nodes: dict[str, _Inputs], link: object) -> str:
    """The text at the end of a chain of text and conditioning nodes; empty where there is none."""
    for _ in nodes:
        found = _inputs(nodes, link)
        for key in _COMFY_TEXTS:
            if isinstance(found.get(key), str):
                return found[key]
        side = "negative" if isinstance(link, list) and len(link) > 1 and link[1] == 1 else "positive"  # of ControlNet's two outputs
        keys = (*_COMFY_TEXTS, "conditioning", "conditioning_1", "conditioning_to", side)
        link = next((found[key] for key in keys if isinstance(found.get(key), list)), None)
    return ""


def _follow_model(nodes: dict[str, _Inputs], link: object) -> tuple[str, tuple[Lora, ...]]:
    """The checkpoint at the end of a chain of adapters, and the adapters."""
    loras: list[Lora] = []
    passed: set[str] = set()
    while isinstance(link, list) and link and str(link[0]) not in passed:
        passed.add(str(link[0]))
        node = _inputs(nodes, link)
        if isinstance(node.get("lora_name"), str):
            weight = _plain_number(node.get("strength_model"), float)
            loras.append(Lora(name=_LORA_FILE.sub("", re.split(r"[/\\]", node["lora_name"])[-1]), weight=1.0 if weight is None else weight))
        for key in ("ckpt_name", "unet_name"):
            if isinstance(node.get(key), str) and node[key]:
                return node[key], tuple(loras)
        link = node.get("model")
    return "unknown", tuple(loras)


def _comfy_sampler(sampler: _Inputs) -> str | None:
    name, schedule = sampler.get("sampler_name"), _COMFY_SCHEDULES.get(str(sampler.get("scheduler")), "")
    if not isinstance(name, str) or not name:
        return None
    return f"{_COMFY_SAMPLERS.get(name, name)} {schedule}".strip()


def _plain_number(value: object, kind: type) -> Any:
    """A number that stands there as a number; inputs may also be links."""
    return _number(value, kind) if isinstance(value, int | float) and not isinstance(value, bool) else None
