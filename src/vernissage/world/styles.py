"""The six styles: each paints a backdrop and coloured things onto a canvas in its own manner.

A painter gets the backdrop, the things as outlines in pixels of the canvas, and a source of randomness, and returns
the finished picture. All painters share the same canvas, three times finer than the finished picture.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vernissage.world.places import RGB, Backdrop
from vernissage.world.scene import Colour, Style
from vernissage.world.things import Part, Role

SUPERSAMPLING = 3

COLOUR_RGB: dict[Colour, RGB] = {
    "red": (218, 36, 44),
    "orange": (246, 136, 24),
    "yellow": (252, 218, 42),
    "green": (44, 164, 72),
    "blue": (40, 92, 220),
    "purple": (132, 58, 178),
    "pink": (246, 134, 184),
    "white": (244, 244, 244),
}


class Thing(NamedTuple):
    """One thing to paint: its parts with outlines in canvas pixels, its colour, its centre and radius."""

    parts: list[Part]
    rgb: RGB
    centre: tuple[float, float]
    radius: float


def _mix(a: RGB, b: RGB, share: float) -> RGB:
    """`share` of b in a."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _colour_of(role: Role, rgb: RGB) -> RGB:
    match role:
        case "main":
            return rgb
        case "shade":
            return _mix(rgb, (0, 0, 0), 0.26)
        case "tint":
            return _mix(rgb, (255, 255, 255), 0.42)
        case "ink":
            return (44, 40, 52)
        case "light":
            return (250, 246, 232)


def _points(outline: ndarray) -> list[float]:
    return outline.ravel().tolist()


def _gradient(size: int, top: RGB, bottom: RGB, horizon: float = 0.6) -> Image.Image:
    share = np.clip(np.linspace(0, 1 / horizon, size), 0, 1)[:, None]
    rows = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray(np.broadcast_to(rows[:, None, :], (size, size, 3)).round().astype(np.uint8))


def _line(draw: ImageDraw.ImageDraw, outline: ndarray, fill: RGB | int, width: int) -> None:
    closed = np.concatenate([outline, outline[:2]])
    draw.line(_points(closed), fill=fill, width=width, joint="curve")


def _noise(size: int, cells: int, rng: np.random.Generator) -> ndarray:
    """Smooth noise in [-1, 1], shape (size, size)."""
    coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32) / 127.5 - 1


def _textured(image: Image.Image, texture: ndarray) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32) * texture[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _photo(size: int, scene: Backdrop, things: list[Thing], rng: np.random.Generator) -> Image.Image:
    image = _gradient(size, scene.sky_top, scene.sky_bottom)
    draw = ImageDraw.Draw(image)
    for patch in scene.patches:
        draw.polygon(_points(patch.outline * size), fill=patch.colour)
    image = image.filter(ImageFilter.GaussianBlur(size / 110))  # the depth of field

    shadow = Image.new("L", (size, size), 0)
    for thing in things:
        (x, y), r = thing.centre, thing.radius
        ImageDraw.Draw(shadow).ellipse((x - 0.8 * r, y + 0.78 * r, x + 0.95 * r, y + 1.14 * r), fill=120)
    image.paste((8, 8, 14), mask=shadow.filter(ImageFilter.GaussianBlur(size / 64)))

    for thing in things:
        left, top = (int(c - 1.2 * thing.radius) for c in thing.centre)
        side = int(2.4 * thing.radius) + 2
        tile = Image.new("RGB", (side, side))
        mask = Image.new("L", (side, side), 0)
        tile_draw, mask_draw = ImageDraw.Draw(tile), ImageDraw.Draw(mask)
        for part in thing.parts:
            outline = _points(part.outline - (left, top))
            tile_draw.polygon(outline, fill=_colour_of(part.role, thing.rgb))
            mask_draw.polygon(outline, fill=255)
        ramp = np.linspace(-1, 1, side)
        light = 1.06 - 0.20 * (ramp[None, :] * 0.6 + ramp[:, None])
        image.paste(_textured(tile.filter(ImageFilter.GaussianBlur(size / 300)), light), (left, top), mask)
    image = image.reduce(SUPERSAMPLING)
    ramp = np.linspace(-1, 1, image.width)
    vignette = 1 - 0.13 * (ramp[None, :] ** 2 + ramp[:, None] ** 2)
    return _textured(image, vignette + 0.012 * _noise(image.width, 96, rng))


def _cartoon(size: int, scene: Backdrop, things: list[Thing], rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (size, size), _mix(scene.sky_top, scene.sky_bottom, 0.35))
    draw = ImageDraw.Draw(image)
    ink, fine, bold = (24, 20, 30), max(1, size // 130), max(2, size // 62)
    for patch in scene.patches:
        red, green, blue = (int(np.clip(1.25 * c - 0.25 * np.mean(patch.colour), 0, 255)) for c in patch.colour)
        colour = (red, green, blue)
        draw.polygon(_points(patch.outline * size), fill=colour)
        if np.ptp(patch.outline[:, 0]) > 0.1:
            _line(draw, patch.outline * size, _mix(colour, ink, 0.5), fine)
    for thing in things:
        for part in thing.parts:
            draw.polygon(_points(part.outline), fill=_colour_of(part.role, thing.rgb))
            _line(draw, part.outline, ink, bold if part.role in ("main", "light") else fine)
    return image.reduce(SUPERSAMPLING)


def _sketch(size: int, scene: Backdrop, things: list[Thing], rng: np.random.Generator) -> Image.Image:
    paper, pencil = (250, 247, 238), (66, 64, 72)
    image = _gradient(size, _mix(scene.sky_top, paper, 0.62), _mix(scene.sky_bottom, paper, 0.62))
    draw = ImageDraw.Draw(image)
    width = max(1, size // 170)
    for patch in scene.patches:
        outline = patch.outline * size
        draw.polygon(_points(outline), fill=_mix(patch.colour, paper, 0.66))
        for _ in range(2):
            _line(draw, outline + rng.normal(0, size / 400, outline.shape), _mix(patch.colour, pencil, 0.5), width)
    strong = image.copy()
    light_draw, strong_draw = ImageDraw.Draw(image), ImageDraw.Draw(strong)
    for thing in things:
        for part in thing.parts:
            colour = _colour_of(part.role, thing.rgb)
            light_draw.polygon(_points(part.outline), fill=_mix(colour, paper, 0.32))
            strong_draw.polygon(_points(part.outline), fill=colour)
    image.paste(strong, mask=_hatching(size, size // 42, rng))
    draw = ImageDraw.Draw(image)
    for thing in things:
        for part in thing.parts:
            for _ in range(2):
                jittered = part.outline + rng.normal(0, size / 480, part.outline.shape)
                _line(draw, jittered, pencil, width + 1 if part.role == "main" else width)
    image = image.reduce(SUPERSAMPLING)
    return _textured(image, 1 + 0.02 * _noise(image.width, 64, rng))


def _hatching(size: int, spacing: int, rng: np.random.Generator) -> Image.Image:
    strokes = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(strokes)
    for offset in range(-size, size, spacing):
        start, stop = offset + rng.normal(0, 1.5), offset + size + rng.normal(0, 3)
        draw.line((start, 0, stop, size), fill=255, width=max(2, spacing // 2))
    return strokes


def _neon(size: int, scene: Backdrop, things: list[Thing], rng: np.random.Generator) -> Image.Image:
    image = _gradient(size, _mix(scene.sky_top, (4, 2, 14), 0.80), _mix(scene.sky_bottom, (14, 4, 34), 0.72))
    lines = Image.new("RGB", (size, size))
    back, front = ImageDraw.Draw(image), ImageDraw.Draw(lines)
    for patch in scene.patches:
        outline = patch.outline * size
        back.polygon(_points(outline), fill=_mix(patch.colour, (6, 4, 18), 0.70))
        _line(back, outline, _mix(patch.colour, (10, 6, 30), 0.10), max(2, size // 190))
    for thing in things:
        for part in thing.parts:
            fill = _mix(thing.rgb, (6, 4, 18), 0.72)
            back.polygon(_points(part.outline), fill=fill)
            front.polygon(_points(part.outline), fill=(0, 0, 0))
        for part in thing.parts:
            bright = _mix(thing.rgb, (255, 255, 255), 0.10 if part.role == "main" else 0.0)
            _line(front, part.outline, bright, max(2, size // (56 if part.role == "main" else 96)))
    image = ImageChops.lighter(image, lines)
    glow = lines.filter(ImageFilter.GaussianBlur(size / 48))
    return ImageChops.add(image, ImageChops.add(glow, glow)).reduce(SUPERSAMPLING)


def _pixel_art(size: int, scene: Backdrop, things: list[Thing], rng: np.random.Generator) -> Image.Image:
    final = size // SUPERSAMPLING
    image = _gradient(size, scene.sky_top, scene.sky_bottom)
    draw = ImageDraw.Draw(image)
    for patch in scene.patches:
        draw.polygon(_points(patch.outline * size), fill=patch.colour)
    image = _blocks(image, final // 4, levels=8)
    draw = ImageDraw.Draw(image)
    for thing in things:
        for part in thing.parts:
            _line(draw, part.outline, (20, 16, 28), max(2, size // 52))
        for part in thing.parts:
            draw.polygon(_points(part.outline), fill=_colour_of(part.role, thing.rgb))
    return _blocks(image, final // 2, levels=8).reduce(SUPERSAMPLING)


def _blocks(image: Image.Image, cells: int, levels: int) -> Image.Image:
    """Big square pixels in few colours."""
    coarse = np.asarray(image.resize((cells, cells), Image.Resampling.BOX), dtype=np.float32)
    step = 255 / (levels - 1)
    coarse = (np.round(coarse / step) * step).astype(np.uint8)
    return Image.fromarray(coarse).resize(image.size, Image.Resampling.NEAREST)


def _watercolour(size: int, scene: Backdrop, things: list[Thing], rng: np.random.Generator) -> Image.Image:
    paper = (252, 250, 244)
    image = _gradient(size, _mix(scene.sky_top, paper, 0.34), _mix(scene.sky_bottom, paper, 0.34))
    draw = ImageDraw.Draw(image)
    for patch in scene.patches:
        outline = patch.outline * size + rng.normal(0, size / 260, patch.outline.shape)
        draw.polygon(_points(outline), fill=_mix(patch.colour, paper, 0.38))
    image = image.filter(ImageFilter.GaussianBlur(size / 140))
    draw = ImageDraw.Draw(image)
    for thing in things:
        for part in thing.parts:
            outline = part.outline + rng.normal(0, thing.radius / 60, part.outline.shape)
            wash = _mix(_colour_of(part.role, thing.rgb), paper, 0.16)
            draw.polygon(_points(outline), fill=wash)
            _line(draw, outline, _mix(wash, (52, 48, 84), 0.42), max(1, size // 170))
    image = image.filter(ImageFilter.GaussianBlur(size / 260)).reduce(SUPERSAMPLING)
    blots = 0.08 * _noise(image.width, 8, rng) + 0.05 * _noise(image.width, 24, rng)
    return _textured(image, 1 + blots + 0.02 * _noise(image.width, 96, rng))


PAINTERS: dict[Style, Callable[[int, Backdrop, list[Thing], np.random.Generator], Image.Image]] = {
    "photo": _photo,
    "cartoon": _cartoon,
    "sketch": _sketch,
    "neon": _neon,
    "pixel art": _pixel_art,
    "watercolour": _watercolour,
}
