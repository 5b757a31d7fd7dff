"""Pictures: whatever file there is, it is read upright in RGB with its plan, or refused by name; saving is all or nothing."""

import errno
import io
import json
import os
import random
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from vernissage.errors import BadInput
from vernissage.records.picture import Picture, Provenance, decode, find_pictures, metadata, provenance_json, read_plan
from vernissage.records.plan import Arguments, Choice, Plan

TEXT = (
    "a cat, été, 墨\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 123, Size: 512x768, Model: name"
)
PLAN = Plan(
    prompt="a cat, été, 墨 😀",
    negative_prompt="blurry",
    model="mini/neon",
    arguments=Arguments(sampler="DPM++ 2M Karras", steps=20, cfg_scale=7.5, seed=2**40, width=16, height=8),
    choices=(Choice(model="mini/neon", probability=0.9), Choice(model="mini/general", probability=0.1)),
)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (16, 12)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


def pixels(image: Image.Image) -> list[tuple[int, ...]]:
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def exif(*, comment: bytes | None = None, orientation: int | None = None) -> Image.Exif:
    found = Image.Exif()
    found[0x131] = "a camera"  # Pillow does not write an EXIF block with nothing but sub-blocks
    if orientation:
        found[0x112] = orientation
    if comment is not None:
        found.get_ifd(0x8769)[0x9286] = comment
    return found


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, *, bits: int = 1, colours: int = 0, rows: bytes | None = None, extra: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG written by hand; its rows may be missing."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) if rows is not None else b""
    return b"\x89PNG\r\n\x1a\n" + head + extra + body + after + chunk(b"IEND", b"")


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        Picture.open(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return str(caught.value)


# ------------------------------------------------------------------------------------------------- what it carries


def test_a_picture_carries_its_plan_for_us_and_for_other_tools(tmp_path):
    provenance = Provenance(plan=PLAN, model_revision="abc", versions={"torch": "2"}, request="a cat please", similarity=0.31)
    path = Picture.of(noise(), provenance).save(tmp_path / "cat.png")
    found = Picture.open(path)
    assert found.provenance == provenance
    assert found.plan == PLAN
    other = read_plan(found.data)
    assert other.plan == PLAN.model_copy(update={"choices": ()})
    assert other.extra == {"Version": "vernissage"}
    with Image.open(path) as image:
        assert image.text["parameters"].startswith("a cat, été, 墨 😀\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M")
    assert json.loads(provenance_json(found))["similarity"] == 0.31


def test_a_picture_without_a_plan_says_so(tmp_path):
    picture = Picture.of(noise())
    assert (picture.plan, picture.provenance, provenance_json(picture)) == (None, None, "")
    assert read_plan(picture.data) is None
    assert Picture.open(picture.save(tmp_path / "x.png")).provenance is None


def test_somebody_elses_chunk_of_our_name_does_no_harm(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("vernissage", "an art exhibition")
    (tmp_path / "x.png").write_bytes(encode(noise(), "PNG", pnginfo=info))
    assert Picture.open(tmp_path / "x.png").provenance is None


def test_a_prompt_with_halves_of_characters_can_be_saved_and_read(tmp_path):
    plan = Plan(prompt="a \udcff cat", negative_prompt="\ud800", model="m\ud800")
    path = Picture.of(noise(), Provenance(plan=plan, request="\udcff")).save(tmp_path / "x.png")
    assert Picture.open(path).plan == plan
    assert read_plan(path.read_bytes()).plan.negative_prompt == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("compressed", [True, False])
def test_the_plan_is_found_in_a_png_wherever_it_stands(compressed):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("parameters", TEXT, zip=compressed)
    assert read_plan(encode(noise(), "PNG", pnginfo=info)).plan.arguments.seed == 123
    late = chunk(b"tEXt", b"parameters\x00a cat\nSteps: 20, Seed: 123")
    assert read_plan(png(8, 1, rows=b"\x00\xff", after=late)).plan.arguments.seed == 123


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["bare", "marked"])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_the_plan_is_found_in_the_exif_comment_in_either_byte_order(kind, order, mark):
    comment = b"UNICODE\x00" + (mark + TEXT).encode(order)
    found = read_plan(encode(noise(), kind, exif=exif(comment=comment)))
    assert found.plan.prompt == "a cat, été, 墨"
    assert found.plan.arguments == Arguments(sampler="DPM++ 2M Karras", steps=20, cfg_scale=7, seed=123, width=512, height=768)


@pytest.mark.parametrize(
    "comment",
    [b"ASCII\x00\x00\x00a cat\nSteps: 20, Seed: 123", b"a cat\nSteps: 20, Seed: 123\x00\x00", b"\x00" * 8 + b"a cat\nSteps: 20, Seed: 123"],
    ids=["ascii", "no code", "undefined"],
)
def test_exif_comments_of_other_codes_are_read_too(comment):
    found = read_plan(encode(noise(), "JPEG", exif=exif(comment=comment)))
    assert (found.plan.prompt, found.plan.arguments.seed) == ("a cat", 123)


@pytest.mark.parametrize("comment", [b"", b"UNICODE\x00", b"UNICODE\x00\x00", b"ASCII", b"\x00" * 8, b"UNICODE\x00\xd8\x00" * 3])
def test_an_empty_or_broken_exif_comment_does_no_harm(comment):
    data = encode(noise(), "JPEG", exif=exif(comment=comment))
    assert decode(data).size == (16, 12)
    found = read_plan(data)
    assert found is None or found.plan.model == "unknown"


def test_a_graph_of_comfyui_is_found_in_its_chunk():
    graph = {"1": {"class_type": "KSampler", "inputs": {"seed": 5}}}
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(graph))
    info.add_text("workflow", "{}")
    assert read_plan(encode(noise(), "PNG", pnginfo=info)).plan.arguments.seed == 5
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a cat")  # somebody else's chunk of that name
    assert read_plan(encode(noise(), "PNG", pnginfo=info)) is None


def test_a_cut_off_picture_still_tells_its_plan():
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", TEXT)
    data = encode(noise(size=(64, 64)), "PNG", pnginfo=info)
    assert read_plan(data[: len(data) // 2]).plan.arguments.seed == 123


@pytest.mark.parametrize("data", [b"", b"a text", b"\x89PNG\r\n\x1a\n", png(70_000, 70_000)])
def test_what_is_no_picture_carries_nothing(data):
    assert metadata(data) == {}
    assert read_plan(data) is None


# --------------------------------------------------------------------------------------------------- what is refused


def test_a_cut_off_picture_is_refused(tmp_path):
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        data = encode(noise(size=(64, 64)), kind)
        path = tmp_path / f"cut.{kind.lower()}"
        path.write_bytes(data[: len(data) * 2 // 3])
        assert "damaged or cut off" in refused(path) or kind == "WEBP"


def test_a_text_with_the_name_of_a_picture_is_refused(tmp_path):
    (tmp_path / "x.png").write_text("This is not a picture.", encoding="utf-8")
    assert "Use a PNG, JPEG or WebP file." in refused(tmp_path / "x.png")


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\x00\x00\x00\x00WEBP", b"BM", b"II*\x00"])
def test_an_empty_file_or_a_mere_beginning_is_refused(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    refused(tmp_path / "x.png")


def test_a_kind_of_file_that_could_run_programs_is_not_even_tried(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was run"))
    assert "not a picture that can be read" in refused(tmp_path / "x.png")


@pytest.mark.parametrize(("width", "height"), [(8000, 5000), (40_000_000, 1), (20_000, 20_000), (100_000, 100_000)])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, width, height):
    (tmp_path / "big.png").write_bytes(png(width, height))  # has no pixels at all: decoding it would say so
    says = refused(tmp_path / "big.png")
    assert "megapixels" in says
    assert "limit is 32" in says
    assert "Scale it down" in says


def test_a_true_picture_of_forty_megapixels_is_refused_and_one_of_thirty_is_not(tmp_path):
    Image.new("1", (8000, 5000)).save(tmp_path / "forty.png")
    assert "has 40 megapixels" in refused(tmp_path / "forty.png")
    Image.new("1", (6000, 5000)).save(tmp_path / "thirty.png")
    assert decode((tmp_path / "thirty.png").read_bytes()).size == (6000, 5000)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "No such file" in refused(tmp_path / "none.png")
    assert "directory" in refused(tmp_path)
    with pytest.raises(BadInput):
        Picture.open("a\x00b.png")


def test_a_huge_compressed_text_is_not_unpacked(tmp_path):
    bomb = chunk(b"zTXt", b"parameters\x00\x00" + zlib.compress(b"a" * 50_000_000))
    (tmp_path / "x.png").write_bytes(png(8, 1, rows=b"\x00\xff", extra=bomb))
    refused(tmp_path / "x.png")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut or put in; the checksums of a PNG mended, so that its readers get to see them."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        place = rng.randrange(len(found))
        match rng.randrange(8):
            case 0:
                found = found[: max(2, place)]
            case 1:
                found[place:place] = rng.randbytes(3)
            case _:
                found[place] = rng.choice([0, 255, rng.randrange(256)])
    return mended(bytes(found)) if data.startswith(b"\x89PNG") else bytes(found)


def mended(data: bytes) -> bytes:
    result, place = data[:8], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if place + 12 + length > len(data):
            break
        result += chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length])
        place += 12 + length
    return result + data[place:]


@pytest.mark.parametrize("kind", ["PNG", "palette", "grey16", "JPEG", "CMYK", "WEBP", "GIF", "TIFF", "LZW", "BMP"])
def test_however_a_file_is_damaged_it_is_read_or_refused_without_a_warning(kind):
    marked = exif(comment=b"UNICODE\x00" + TEXT.encode("utf-16-be"), orientation=6)
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", TEXT, zip=True)
    data = {
        "PNG": lambda: encode(noise("RGBA"), "PNG", exif=marked, pnginfo=info),
        "palette": lambda: encode(noise("P"), "PNG", transparency=bytes(range(256))),
        "grey16": lambda: encode(Image.new("I;16", (16, 12), 3000), "PNG"),
        "JPEG": lambda: encode(noise(), "JPEG", exif=marked),
        "CMYK": lambda: encode(noise("CMYK"), "JPEG"),
        "WEBP": lambda: encode(noise(), "WEBP", exif=marked),
        "GIF": lambda: encode(noise("P"), "GIF", transparency=0),
        "TIFF": lambda: encode(noise(), "TIFF", exif=marked),
        "LZW": lambda: encode(noise("F"), "TIFF", compression="tiff_lzw"),
        "BMP": lambda: encode(noise(), "BMP"),
    }[kind]()
    rng = random.Random(kind)
    outcomes = set()
    for _ in range(120):
        broken = damaged(data, rng)
        read_plan(broken)
        try:
            outcomes.add(decode(broken).mode)
        except BadInput:
            outcomes.add("refused")
    assert outcomes <= {"RGB", "refused"}
    assert "refused" in outcomes


# ----------------------------------------------------------------------------------------------------- how it is read


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    assert pixels(decode(encode(image, "PNG"))) == [(255, 0, 0), (255, 255, 255)]
    assert decode(encode(image.convert("LA"), "PNG")).getpixel((1, 0)) == (255, 255, 255)
    half = decode(encode(Image.new("RGBA", (1, 1), (0, 0, 0, 128)), "PNG")).getpixel((0, 0))
    assert half == pytest.approx((127, 127, 127), abs=1)


def test_a_palette_with_transparency_is_laid_on_white():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    assert pixels(decode(encode(image, "PNG", transparency=bytes([255, 0, 128]))))[:2] == [(255, 0, 0), (255, 255, 255)]
    assert pixels(decode(encode(image, "GIF", transparency=2))) == [(255, 0, 0), (0, 255, 0), (255, 255, 255)]


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (9, 8, 7)), ("L", 9), ("1", 1)])
def test_a_single_colour_may_be_the_transparent_one(mode, colour):
    image = Image.new(mode, (2, 1), colour)
    image.putpixel((1, 0), 0)
    data = encode(image, "PNG", transparency=colour)
    assert pixels(decode(data)) == [(255, 255, 255), (0, 0, 0)]


def test_grey_of_sixteen_bits_is_scaled_to_eight():
    image = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert [pixel[0] for pixel in pixels(decode(encode(image, "PNG")))] == pytest.approx([0, 100, 255], abs=1)
    assert [pixel[0] for pixel in pixels(decode(encode(image, "TIFF")))] == pytest.approx([0, 100, 255], abs=1)
    transparent = png(2, 1, bits=16, rows=b"\x00" + struct.pack(">HH", 0, 65535), extra=chunk(b"tRNS", struct.pack(">H", 65535)))
    assert decode(transparent).getpixel((0, 0)) == (0, 0, 0)


def test_floating_point_grey_runs_from_zero_to_one():
    image = Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32))
    assert [pixel[0] for pixel in pixels(decode(encode(image, "TIFF")))] == pytest.approx([0, 127, 255], abs=1)


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG"), ("1", "PNG"), ("L", "WEBP"), ("I", "TIFF")]
)
def test_other_colour_spaces_are_read(mode, kind):
    white = Image.new(mode, (8, 8), 65535) if mode == "I" else Image.new("RGB", (8, 8), "white").convert(mode)
    found = decode(encode(white, kind))
    assert found.mode == "RGB"
    assert min(found.getpixel((4, 4))) > 240


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(orientation):
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # what undoes PIL's own turning
    upright = Image.new("RGB", (32, 16), "red")
    upright.paste("blue", (0, 0, 16, 16))
    turned = upright if back is None else upright.transpose(Image.Transpose(back))
    found = decode(encode(turned, "JPEG", quality=95, exif=exif(orientation=orientation)))
    assert found.size == (32, 16)
    assert found.getpixel((4, 8))[2] > 200
    assert found.getpixel((28, 8))[0] > 200


def test_a_nonsensical_orientation_does_no_harm():
    assert decode(encode(noise(), "JPEG", exif=exif(orientation=77))).size == (16, 12)


def test_broken_exif_does_not_make_a_good_picture_unreadable():
    data = encode(noise(), "JPEG", exif=exif(orientation=6))
    start = data.index(b"Exif\x00\x00") + 6
    broken = data[: start + 4] + b"\xff\xff\xff\x7f" + data[start + 8 :]  # the first table is said to be far away
    assert sorted(decode(broken).size) == [12, 16]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_the_smallest_pictures_are_read(size):
    assert decode(encode(noise(size=size), "PNG")).size == size
    assert Picture.of(noise(size=size)).image.size == size


def test_a_moving_picture_is_its_first_frame():
    data = encode(Image.new("RGB", (4, 4), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (4, 4), "blue")])
    assert decode(data).getpixel((0, 0)) == (255, 0, 0)


# ----------------------------------------------------------------------------------------------------------- its hash


def test_the_hash_is_of_the_pixels_and_not_of_what_is_written_beside_them():
    image = noise()
    plain, told = Picture.of(image), Picture.of(image, Provenance(plan=PLAN))
    assert plain.data != told.data
    assert plain.hash == told.hash == Picture(data=encode(image, "BMP")).hash
    assert len(plain.hash) == 64


def test_the_hash_tells_other_pixels_and_other_shapes():
    image = noise()
    other = image.copy()
    other.putpixel((0, 0), tuple(255 - value for value in image.getpixel((0, 0))))
    flat = Image.new("RGB", (4, 3)), Image.new("RGB", (3, 4))
    assert len({Picture.of(one).hash for one in (image, other, *flat)}) == 4


# --------------------------------------------------------------------------------------------------------- saving it


def test_saving_makes_the_folder_and_leaves_nothing_else_behind(tmp_path):
    path = Picture.of(noise()).save(tmp_path / "new" / "folder" / "x.png")
    assert [entry.name for entry in path.parent.iterdir()] == ["x.png"]
    assert path.stat().st_mode & 0o444 == 0o444
    assert Picture.open(path).image.size == (16, 12)


def test_saving_replaces_what_was_there_at_once(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"old")
    Picture.of(noise()).save(path)
    assert Picture.open(path).image.size == (16, 12)


def fails_to_write(monkeypatch):
    class Full(io.BytesIO):
        def write(self, _data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fdopen(handle, *_, **__):
        os.close(handle)
        return Full()

    monkeypatch.setattr("vernissage.records.files.os.fdopen", fdopen)


def fails_to_replace(monkeypatch):
    def replace(_self, _target):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "replace", replace)


def fails_to_begin(monkeypatch):
    def mkstemp(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("vernissage.records.files.tempfile.mkstemp", mkstemp)


@pytest.mark.parametrize("fails", [fails_to_write, fails_to_replace, fails_to_begin])
def test_a_disk_that_fails_leaves_the_old_file_and_no_part_of_the_new(tmp_path, monkeypatch, fails):
    path = tmp_path / "x.png"
    path.write_bytes(b"old")
    picture = Picture.of(noise())
    fails(monkeypatch)
    with pytest.raises(BadInput, match=re.escape(f"Cannot write {path}")) as caught:
        picture.save(path)
    assert "--out" in caught.value.hint
    assert os.listdir(tmp_path) == ["x.png"]
    assert path.read_bytes() == b"old"


def test_a_saving_that_is_interrupted_leaves_no_part(tmp_path, monkeypatch):
    def replace(_self, _target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        Picture.of(noise()).save(tmp_path / "x.png")
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / "taken").write_bytes(b"a file")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "taken" / "x.png", tmp_path / "folder.png", Path("/proc/x.png"), tmp_path / ("x" * 300 + ".png")):
        with pytest.raises(BadInput, match="Cannot write"):
            Picture.of(noise()).save(path)
    assert sorted(os.listdir(tmp_path)) == ["folder.png", "taken"]


def test_a_name_that_is_as_long_as_the_disk_allows_can_be_saved(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    assert Picture.of(noise()).save(path) == path
    assert os.listdir(tmp_path) == [path.name]


def test_a_picture_file_is_decoded_once(tmp_path, monkeypatch):
    from vernissage.records import picture as module

    path = Picture.of(noise()).save(tmp_path / "one.png")
    openings, opened = [], module.Image.open
    monkeypatch.setattr(module.Image, "open", lambda *args, **named: openings.append(1) or opened(*args, **named))
    found = Picture.open(path)
    assert np.array_equal(np.asarray(found.image), np.asarray(decode(path.read_bytes())))
    assert len(openings) == 2, "the second is the decoding that it was compared with"


def test_a_png_is_not_saved_under_the_name_of_another_format(tmp_path):
    picture = Picture.of(Image.new("RGB", (4, 4)))
    with pytest.raises(BadInput, match="would hold a PNG"):
        picture.save(tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_a_picture_of_any_format(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.jpg")
    shown = Picture.open(tmp_path / "a.jpg")._repr_png_()
    assert Image.open(io.BytesIO(shown)).format == "PNG"


def test_sheets_of_several_pictures_are_none_of_a_folders_pictures(tmp_path):
    image = Image.new("RGB", (4, 4))
    for name, sheet in (("a.png", False), ("a-sheet.png", True), ("strip.png", True), ("my-strip.png", False), ("a-10.png", False)):
        Picture.of(image, sheet=sheet).save(tmp_path / name)
    assert [path.name for path in find_pictures(tmp_path)] == ["a-10.png", "a.png", "my-strip.png"]
