"""Make the contact sheets of the docs: the mini world as drawn, and the same prompts painted by every mini model.

Command:   python recipes/mini/sheet.py
Hardware:  any; two minutes on two cores; needs the shipped models
Result:    docs/pictures/mini-world.png and docs/pictures/mini-studio.png
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vernissage.api import Studio
from vernissage.records.picture import Picture
from vernissage.records.plan import Arguments, Plan
from vernissage.world import tell
from vernissage.world.draw import draw
from vernissage.world.scene import STYLES, sample_scene

FOLDER = Path("docs/pictures")
LABEL, GAP, SIDE = 120, 4, 128


def labelled(rows: dict[str, list[Image.Image]]) -> Image.Image:
    """Rows of pictures with their names on the left."""
    columns = max(len(row) for row in rows.values())
    sheet = Image.new("RGB", (LABEL + columns * (SIDE + GAP), len(rows) * (SIDE + GAP)), "white")
    write = ImageDraw.Draw(sheet)
    for y, (name, images) in enumerate(rows.items()):
        write.text((8, y * (SIDE + GAP) + SIDE // 2 - 6), name, fill="black")
        for x, image in enumerate(images):
            sheet.paste(image, (LABEL + x * (SIDE + GAP), y * (SIDE + GAP)))
    return sheet


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(12)
    drawn = {style: [draw(sample_scene(rng, style=style), seed=i).image for i in range(8)] for style in STYLES}
    labelled(drawn).save(FOLDER / "mini-world.png")
    scenes = [sample_scene(rng, split="held-out", style=STYLES[i % len(STYLES)], pairs=0.4) for i in range(8)]
    studio = Studio()
    rows = {"drawn": [draw(scene, seed=i).image for i, scene in enumerate(scenes)]}
    for model in studio.catalogue:
        plans = [Plan(prompt=tell.prompt(scene), model=model, arguments=Arguments(seed=i)) for i, scene in enumerate(scenes)]
        rows[model] = [picture.image for picture in studio.t2i.paint(plans) if isinstance(picture, Picture)]
    labelled(rows).save(FOLDER / "mini-studio.png")
    for scene in scenes:
        print(tell.prompt(scene))


if __name__ == "__main__":
    main()
