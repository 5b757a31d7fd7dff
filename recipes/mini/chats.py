"""Write the mini ChatGenBench: chats of the mini world's community with the plans its people would have made.

Command:   python recipes/mini/chats.py
Hardware:  one CPU core, half a minute
Result:    build/mini/chats: train.jsonl, test.jsonl (held-out scenes and voices), cards/, images/
"""

import argparse
from pathlib import Path

import tomli_w

from pictures import BUILD
from vernissage.datasets.queries import Query, write_queries
from vernissage.records.chat import Chat, Turn
from vernissage.records.picture import Picture
from vernissage.world.community import COMMON, RARE, Asked, found_community, sample_asked
from vernissage.world.draw import draw

TESTED = 25
"""Test chats of a model."""


def query_of(asked: Asked, name: str, folder: Path, seed: int) -> Query:
    """A chat as a query, its reference picture drawn into the folder."""
    chat = asked.chat
    images: tuple[Path, ...] = ()
    if chat.reference is not None:
        images = (folder / "images" / f"{name}.png",)
        Picture.of(draw(chat.reference, seed=seed).image).save(images[0])
    turns = [Turn(role=role, text=text) for role, text in chat.turns]
    turns[-1] = turns[-1].model_copy(update={"images": images})
    return Query(id=name, chat=Chat(turns=tuple(turns)), plan=asked.plan, division=asked.division, role=chat.voice)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BUILD / "chats")
    folder = parser.parse_args().out
    members = found_community()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "cards").mkdir(exist_ok=True)
    for member in members:
        values = member.card().model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        (folder / "cards" / f"{member.id.removeprefix('community/')}.toml").write_text(tomli_w.dumps(values), encoding="utf-8")
    quotas = {"train": {m.id: RARE if m.rare else COMMON for m in members}, "test": {m.id: TESTED for m in members}}
    for seed, (part, quota) in enumerate(quotas.items()):
        split = "train" if part == "train" else "held-out"
        asked = sample_asked(members, quota, seed=seed, split=split)
        queries = [query_of(each, f"{part}-{number:05d}", folder, number) for number, each in enumerate(asked)]
        write_queries(queries, folder / f"{part}.jsonl")
        print(f"{part}: {len(queries)} chats")


if __name__ == "__main__":
    main()
