"""Collecting demonstrations for planners: from Civitai's API, or from pictures that carry their parameters (ChatGenBench, step 1).

What is collected stands in a JSONL file, one demonstration a line. A collection that was cut off goes on: the place in Civitai's
list is kept beside the file, and nothing is taken twice. What is not taken is counted by its reason.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx
from pydantic import ValidationError

from vernissage.datasets.queries import beside
from vernissage.errors import BadInput, DriverError, VernissageError
from vernissage.ports import Progress
from vernissage.processes import work_at
from vernissage.records.demonstration import Demonstration
from vernissage.records.files import append_lines, read_lines, write_whole
from vernissage.records.parameters import extract_loras, sampler_of
from vernissage.records.picture import Picture, find_pictures, read_plan
from vernissage.records.plan import Arguments, Lora, Plan, whole_characters
from vernissage.zoo.card import local_id
from vernissage.zoo.civitai import ADDRESS, check, patiently, request

PAGE = 200
Sort = Literal["Most Reactions", "Most Comments", "Newest"]
Period = Literal["AllTime", "Year", "Month", "Week", "Day"]


class Collected(NamedTuple):
    """What came of a collection."""

    kept: int
    """Demonstrations in the file now."""
    dropped: dict[str, int]
    """By reason, of this call."""


def collect_civitai(
    out: Path,
    *,
    count: int = 1000,
    sort: Sort = "Most Reactions",
    period: Period = "AllTime",
    nsfw: bool = False,
    address: str = ADDRESS,
    retries: int = 5,
    progress: Progress | None = None,
) -> Collected:
    """Collect demonstrations from Civitai's pictures, page by page.

    Args:
        out: JSONL file; beside it `out`.cursor says where to go on, and counts for nothing where the file itself is gone.
        count: Demonstrations to have in the end.
        sort: Civitai's order.
        period: Civitai's period.
        nsfw: Whether pictures that are not safe for work are taken as well.
        address: The API.
        retries: How often a failed page is asked for again; a wait of up to 300 seconds that Civitai asks for is kept.
        progress: Called with (kept, count).

    Raises:
        BadInput: The file cannot be written, or was collected with other settings.
        RateLimited: Civitai asks to wait for longer; what was collected is kept.
        DriverError: Civitai cannot be reached, refuses or fails for good; what was collected is kept.
    """
    _place = work_at(out)
    settings = {"sort": sort, "period": period, "nsfw": nsfw}
    state_path = out.with_name(out.name + ".cursor")
    state = _read_state(state_path, settings) if out.exists() else {}
    known = _resume(out)
    dropped: Counter[str] = Counter()
    while len(known) < count and not state.get("ended"):
        options = {"limit": PAGE, "sort": sort, "period": period, "nsfw": str(nsfw).lower()}
        page = _page(address, options, state.get("cursor"), retries)
        if page.cursor is not None and page.cursor == state.get("cursor"):
            raise DriverError("Civitai sent the place of the same page again.", hint="Try again later; what was collected is kept.")
        new: list[Demonstration] = []
        for item in page.items:
            found = read_civitai_image(item)
            if isinstance(found, str):
                dropped[found] += 1
            elif found.nsfw and not nsfw:
                dropped["not safe for work"] += 1
            elif found.id in known:
                dropped["collected already"] += 1
            elif len(known) < count:
                known[found.id] = found
                new.append(found)
        append_lines(out, [_line(each, out) for each in new])
        # The place is kept after the page's lines: cut off between the two, the page is read again and nothing in it taken twice.
        whole = len(known) < count or not page.items
        state = {"settings": settings, "cursor": page.cursor if whole else state.get("cursor"), "ended": whole and page.cursor is None}
        write_whole(state_path, json.dumps(state))
        if progress:
            progress(min(len(known), count), count)
    return Collected(len(known), dict(dropped))


def collect_pictures(folder: Path, out: Path, *, progress: Progress | None = None) -> Collected:
    """Collect demonstrations from the pictures below a folder that carry A1111's or ComfyUI's parameters.

    Their ids are their paths below the folder; another picture of the same path, from another folder, has its content's hash added.

    Raises:
        BadInput: There is no such folder, or the file cannot be written.
    """
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder}.", hint="Give the folder of the pictures.")
    paths = find_pictures(folder)
    _place = work_at(out)
    known, before = _resume(out), out.stat().st_mtime if out.exists() else 0.0
    dropped: Counter[str] = Counter()
    for done, path in enumerate(paths, start=1):
        name = whole_characters(path.relative_to(folder).as_posix())
        # Then it need not be read again.
        same = name in known and os.path.realpath(known[name].picture) == os.path.realpath(path) and path.stat().st_mtime <= before
        found = known[name] if same else _read_picture(path, name)
        if isinstance(found, Demonstration) and name in known and known[name].look != found.look:
            found = found.model_copy(update={"id": f"{found.id}:{found.look}"})
        if isinstance(found, str):
            dropped[found] += 1
        elif found.id in known:
            dropped["collected already"] += 1
        else:
            known[found.id] = found
            append_lines(out, [_line(found, out)])
        if progress:
            progress(done, len(paths))
    return Collected(len(known), dict(dropped))


def read_demonstrations(path: Path) -> list[Demonstration]:
    """The demonstrations of a JSONL file; pictures' paths, which start at its folder, are made to start here.

    Raises:
        BadInput: It cannot be read, a line has a mistake, or an id comes twice.
    """
    found = _read(path)
    if twice := [name for name, count in Counter(each.id for each in found).items() if count > 1]:
        raise BadInput(f"In {path} the id {twice[0]!r} stands for more than one demonstration.", hint="Give each an id of its own.")
    return found


def write_demonstrations(demonstrations: Iterable[Demonstration], path: Path) -> None:
    """Write a JSONL file; it appears whole or not at all. Pictures' paths become relative to it where they can.

    Raises:
        BadInput: It cannot be written, or a picture has a name that no file can hold.
    """
    write_whole(path, "".join(_line(each, path) + "\n" for each in demonstrations))


def _resume(path: Path) -> dict[str, Demonstration]:
    """What was collected already, by id; a last line that was cut off is taken out of the file."""
    return {each.id: each for each in _read(path, mend=True)} if path.exists() else {}


def _read(path: Path, *, mend: bool = False) -> list[Demonstration]:
    return read_lines(path, lambda line, number: _parse(line, path, number), what="demonstrations", mend=mend)


def _parse(line: bytes, path: Path, number: int) -> Demonstration:
    try:
        found = Demonstration.model_validate_json(line)
    except ValidationError as error:
        raise BadInput(f"{path}, line {number}: {error.errors()[0]['msg']}.", hint="Mend or delete that line.") from error
    return found.model_copy(update={"picture": str(path.parent / found.picture)}) if _is_path(found.picture) else found


def _is_path(picture: str) -> bool:
    return bool(picture) and "://" not in picture


def _line(demonstration: Demonstration, path: Path) -> str:
    try:
        if _is_path(demonstration.picture):
            seen = whole_characters(str(beside(Path(demonstration.picture), path.parent)))
            demonstration = demonstration.model_copy(update={"picture": seen})
    except (ValueError, OSError) as error:
        raise BadInput(
            f"The picture of the demonstration {demonstration.id!r} has a name that no file can hold.", hint="Rename the picture."
        ) from error
    return demonstration.model_dump_json(exclude_defaults=True)


def read_civitai_image(item: Any) -> Demonstration | str:
    """A demonstration from an item of Civitai's list, or why it is none; numbers may be written as texts.

    Example:
        >>> read_civitai_image({"id": 1, "meta": None})
        'no parameters'
    """
    if not isinstance(item, dict) or not isinstance(item.get("id"), int | str):
        return "no picture"
    meta = item.get("meta")
    if not isinstance(meta, dict) or not isinstance(meta.get("prompt"), str) or not meta["prompt"].strip():
        return "no parameters"
    model = _model(meta)
    if not model:
        return "no model"
    prompt, loras = extract_loras(meta["prompt"])
    width, height = _size(meta.get("Size"), item)
    values = {
        "sampler": sampler_of(meta.get("sampler"), meta.get("Schedule type")),
        "steps": _integer(meta.get("steps")),
        "cfg_scale": _number(meta.get("cfgScale")),
        "width": width,
        "height": height,
        "seed": _integer(meta.get("seed")),
        "clip_skip": _integer(meta.get("Clip skip") or meta.get("clipSkip")),
        "loras": loras or _loras(meta.get("civitaiResources")),
    }
    try:
        negative = meta.get("negativePrompt")
        plan = Plan(
            prompt=prompt.strip() or meta["prompt"].strip(),
            negative_prompt=negative if isinstance(negative, str) else "",
            model=model,
            arguments=Arguments.model_validate(values),
        )
        return Demonstration(
            id=f"civitai:{item['id']}",
            plan=plan,
            popularity=_popularity(item.get("stats")),
            nsfw=_unsafe(item),
            base_model=item["baseModel"] if isinstance(item.get("baseModel"), str) else "",
            picture=item["url"] if isinstance(item.get("url"), str) and "://" in item["url"] else "",
            look=item["hash"] if isinstance(item.get("hash"), str) else "",
        )
    except (ValidationError, ValueError):
        return "parameters that cannot be read"


class _Page(NamedTuple):
    items: list[Any]
    cursor: str | None
    """Of the next page; None where this is the last."""


def _page(address: str, options: dict[str, Any], cursor: str | None, retries: int) -> _Page:
    """A page, asked for again where Civitai is busy, fails, breaks off or sends what is no page."""

    def read(response: httpx.Response) -> _Page:
        check(response, "list of pictures")
        return _read_page(response.json())

    options |= {"cursor": cursor} if cursor else {}
    return patiently(lambda: request("images", options, address=address), read, "page", retries=retries)


def _read_page(answer: Any) -> _Page:
    """Raises ValueError where it is none."""
    if not isinstance(answer, dict) or not isinstance(answer.get("items"), list):
        raise ValueError("no list of items")
    metadata = answer.get("metadata")
    following = metadata.get("nextCursor") if isinstance(metadata, dict) else None
    return _Page(answer["items"], None if following in (None, "") or not answer["items"] else str(following))


def _read_picture(path: Path, name: str) -> Demonstration | str:
    try:
        picture = Picture.open(path)
        found = read_plan(picture.data)
    except VernissageError:
        return "a picture that cannot be read"
    if found is None or not found.plan.prompt.strip():
        return "no parameters"
    plan = found.plan
    if found.extra.get("Version") != "vernissage":  # whose plans name models by their ids
        resources = _resources(found.extra.get("Civitai resources"))
        told = {"Model": plan.model} if plan.model != "unknown" else {}
        arguments = plan.arguments.model_copy(update={"loras": plan.arguments.loras or _loras(resources)})
        plan = plan.model_copy(update={"model": _model({"civitaiResources": resources, **told}), "arguments": arguments})
    if plan.model in ("", "unknown"):
        return "no model"
    look = hashlib.blake2b(picture.image.tobytes(), digest_size=16).hexdigest()
    return Demonstration(id=name, plan=plan, picture=whole_characters(str(path)), look=look)


def _model(meta: dict[str, Any]) -> str:
    """The checkpoint's id, as `zoo add` gives it: by Civitai's own number where it is told, else by the name of the file."""
    for key, kinds, name in (("civitaiResources", ("checkpoint",), "modelVersionId"), ("resources", ("model", "checkpoint"), "name")):
        listed = meta.get(key)
        for resource in listed if isinstance(listed, list) else ():
            if isinstance(resource, dict) and str(resource.get("type", "")).lower() in kinds and resource.get(name):
                if name == "name":
                    return local_id(str(resource[name]))
                if version := _integer(resource[name]):
                    return f"civitai/{version}"
    return local_id(meta["Model"]) if isinstance(meta.get("Model"), str) and meta["Model"].strip() else ""


def _resources(text: str | None) -> Any:
    """What Civitai's own pictures say they were painted with, which its interface tells as `civitaiResources`."""
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        return None


def _loras(listed: Any) -> tuple[Lora, ...]:
    """Adapters among `civitaiResources`, for prompts that do not name theirs."""
    found = []
    for resource in listed if isinstance(listed, list) else ():
        if isinstance(resource, dict) and str(resource.get("type", "")).lower() in ("lora", "locon", "lycoris", "dora"):
            weight = _number(resource.get("weight"))
            if version := _integer(resource.get("modelVersionId")):
                found.append(Lora(name=f"civitai/{version}", weight=1.0 if weight is None else weight))
    return tuple(found)


def _size(text: Any, item: dict[str, Any]) -> tuple[int | None, int | None]:
    parts = str(text).lower().split("x") if text else []
    if len(parts) == 2 and all(part.strip().isdecimal() and len(part) < 8 for part in parts):
        return int(parts[0]), int(parts[1])
    return _integer(item.get("width")), _integer(item.get("height"))


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == number and abs(number) < 1e15 else None


def _integer(value: Any) -> int | None:
    try:
        number = int(str(value))
    except ValueError:
        number = None if (found := _number(value)) is None else int(found)
    return number if number is not None and 0 <= number < 2**64 else None


def _popularity(stats: Any) -> int:
    counts = stats.items() if isinstance(stats, dict) else ()
    return sum(_integer(value) or 0 for name, value in counts if name in ("likeCount", "heartCount", "laughCount"))


def _unsafe(item: dict[str, Any]) -> bool:
    """Whether it is not safe for work. Levels are "None" and "Soft", or numbers of which 1 to 3 are safe."""
    level = item.get("nsfwLevel")
    if isinstance(level, int) and not isinstance(level, bool):
        return level > 3
    if isinstance(level, str) and level:
        return level not in ("None", "Soft", "PG", "PG-13")
    return item.get("nsfw") not in (None, False, "None", "Soft")


def _read_state(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Where an earlier call stopped.

    Raises:
        BadInput: It had other settings.
    """
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(state, dict) or state.get("settings") != settings:
        raise BadInput(f"{path} belongs to a collection with other settings.", hint="Choose another file, or delete both.")
    return state
