"""A picture: its bytes, its content hash, and the plan and provenance that made it.

Reading is defensive: a file is size-checked before it is decoded, and whatever cannot be read is a `BadInput` that says
what to do. Writing is atomic: a picture is on disk whole or not at all.
"""

import hashlib
import io
import json
import re
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict

from vernissage.errors import BadInput
from vernissage.records.files import write_whole
from vernissage.records.parameters import Parameters, read_comfyui, read_parameters, write_parameters
from vernissage.records.plan import Plan, Text

MAX_PIXELS = 32_000_000
# What Pillow has to say of odd files nobody asked for. Once and for all: filters belong to the whole process, and pictures are
# read in many threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
_SHEET = "vernissage-sheet"
_USER_COMMENT = 0x9286
_EXIF_IFD = 0x8769
# Other formats are not even tried: nobody has such pictures, and some readers, that of EPS for one, run programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
"""How the names of files in these formats end."""
# What Pillow's readers raise on damaged files, found by damaging some.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, EOFError, struct.error, zlib.error)


class Provenance(BaseModel):
    """Where a picture comes from."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    plan: Plan
    model_revision: str = ""
    """Hash or revision of the weights, as the model card states it."""
    versions: dict[str, str] = {}
    """Package name to version."""
    request: Text = ""
    """The last words of the chat that led here."""
    similarity: float | None = None
    """Cosine of picture and prompt under the studio's CLIP, in [-1, 1]; higher is better."""


class Picture(BaseModel):
    """An encoded picture with what is known about it."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data: bytes
    """The file's bytes, PNG where this package painted it."""
    provenance: Provenance | None = None

    @classmethod
    def of(cls, image: Image.Image, provenance: Provenance | None = None, *, sheet: bool = False) -> "Picture":
        """Encode an image as PNG; with provenance, the PNG carries it for this and for other tools.

        A sheet shows several pictures; `find_pictures` knows it by its mark.
        """
        info = PngImagePlugin.PngInfo()
        if sheet:
            info.add_text(_SHEET, "several pictures")
        if provenance:
            info.add_text("parameters", write_parameters(provenance.plan, extra={"Version": "vernissage"}))
            info.add_itxt("vernissage", provenance.model_dump_json())
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=info)
        return cls(data=buffer.getvalue(), provenance=provenance)

    @classmethod
    def open(cls, path: str | Path) -> "Picture":
        """Read a picture file and check that it can be decoded.

        Raises:
            BadInput: The file is missing, not a picture, truncated, or larger than 32 megapixels.
        """
        path = Path(path)
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: the path holds a null character
            reason = getattr(error, "strerror", None) or error
            raise BadInput(f"Cannot read the picture {path}: {reason}.", hint="Check the path.") from error
        image, found = _decode(data, str(path))
        provenance = None
        if "vernissage" in found:
            try:
                provenance = Provenance.model_validate_json(found["vernissage"])
            except ValueError:
                provenance = None  # somebody else's chunk of that name
        picture = cls(data=data, provenance=provenance)
        vars(picture).update(image=image, told=found)  # the cached properties below: what is decoded once is not decoded again
        return picture

    def __repr__(self) -> str:
        """Short: its bytes would fill the screen."""
        try:
            width, height = self.image.size
        except BadInput:
            return f"<Picture, damaged, {len(self.data)} bytes>"
        told = f", painted by {self.plan.model}: {self.plan.prompt!r}" if self.plan else ""
        return f"<Picture {width}x{height}{told}>"

    __str__ = __repr__

    def _repr_png_(self) -> bytes:
        """What notebooks show."""
        return self.data if self.data.startswith(b"\x89PNG") else Picture.of(self.image).data

    @property
    def plan(self) -> Plan | None:
        """The plan it was painted from, where known."""
        return self.provenance.plan if self.provenance else None

    @cached_property
    def image(self) -> Image.Image:
        """The decoded picture, RGB, upright, transparency on white."""
        return decode(self.data)

    @cached_property
    def told(self) -> dict[str, str]:
        """What the file tells beside its pixels; see `metadata`."""
        return metadata(self.data)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of its pixels (size and RGB bytes), so that metadata does not matter."""
        return hashlib.sha256(f"{self.image.size}".encode() + self.image.tobytes()).hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write the file whole or not at all, and return its path.

        Raises:
            BadInput: It cannot be written, or its ending is of another format than the data.
        """
        path = Path(path)
        if self.data.startswith(b"\x89PNG") and path.suffix.lower() in SUFFIXES and path.suffix.lower() != ".png":
            raise BadInput(f"{path} would hold a PNG.", hint="End it in .png, or convert `picture.image`.")
        return write_whole(path, self.data, hint="Choose another place with --out.")


def is_picture(path: Path) -> bool:
    """Whether a file can be read as a picture, to its end."""
    try:
        Picture.open(path)
    except BadInput:
        return False
    return True


def find_pictures(folder: Path) -> list[Path]:
    """All pictures in a folder and below, in the order of their paths, numbers counted as numbers.

    Left out are hidden ones, and the sheets and strips that this package made of others.
    """
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    shown = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts) and not _is_sheet(path)]

    def order(path: Path) -> tuple[list[tuple[bool, int, str]], str]:
        parts = re.split(r"(\d+)", path.as_posix())
        return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts], path.as_posix()

    return sorted(shown, key=order)


def _is_sheet(path: Path) -> bool:
    if not path.stem.endswith(("sheet", "strip")):  # so that few files are opened
        return False
    try:
        return _SHEET in metadata(path.read_bytes())
    except OSError:
        return False


def decode(data: bytes) -> Image.Image:
    """Bytes to an upright RGB image; transparency is laid on white, 16-bit grey is scaled to 8.

    Raises:
        BadInput: Not a picture, truncated, or larger than 32 megapixels.
    """
    return _decode(data, "the picture")[0]


def _decode(data: bytes, name: str) -> tuple[Image.Image, dict[str, str]]:
    """The image, and what the file tells beside it."""
    try:
        with _opened(data) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(name, f"{image.width * image.height / 1e6:.0f}")
            image.load()
            found = _told(image)
            with suppress(*_DAMAGE):  # broken EXIF data leave it as it lies
                image = ImageOps.exif_transpose(image)
            return _to_rgb(image), found
    except Image.DecompressionBombError as error:
        raise _too_large(name, "hundreds of") from error
    except UnidentifiedImageError as error:
        raise BadInput(f"{name} is not a picture that can be read.", hint="Use a PNG, JPEG or WebP file.") from error
    except _DAMAGE as error:
        raise BadInput(f"{name} is damaged or cut off ({error}).", hint="Save or download it again.") from error


def _too_large(name: str, megapixels: str) -> BadInput:
    return BadInput(f"{name} has {megapixels} megapixels; the limit is {MAX_PIXELS // 1_000_000}.", hint="Scale it down first.")


def _opened(data: bytes) -> Image.Image:
    """The picture's header, to be closed."""
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except KeyError as error:  # a Pillow that was built without one of the formats
        raise UnidentifiedImageError("unknown format") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        high = 65535 if image.mode != "F" else 1.0
        image = image.convert("F").point(lambda value: value * (255 / high)).convert("L")
        image.info.pop("transparency", None)  # a value of the old scale
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.new("RGBA", rgba.size, "white")
        image.alpha_composite(rgba)
    return image.convert("RGB")


def metadata(data: bytes) -> dict[str, str]:
    """The text chunks of a picture file; A1111's EXIF comment of JPEG and WebP appears as `parameters`."""
    try:
        with _opened(data) as image:
            with suppress(*_DAMAGE):  # a PNG may tell more behind its pixels; one that is cut off tells what it can
                if image.width * image.height <= MAX_PIXELS:
                    image.load()
            return _told(image)
    except (*_DAMAGE, Image.DecompressionBombError):
        return {}


def _told(image: Image.Image) -> dict[str, str]:
    found = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
    comment: Any = None
    with suppress(*_DAMAGE):
        comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    if isinstance(comment, bytes) and "parameters" not in found:
        comment = _user_comment(comment)
    if isinstance(comment, str) and comment and "parameters" not in found:
        found["parameters"] = comment
    return found


def _user_comment(comment: bytes) -> str:
    """Decode an EXIF UserComment: UNICODE means UTF-16, in practice big-endian unless the text says otherwise."""
    prefix, body = comment[:8], comment[8:]
    if prefix.startswith(b"UNICODE"):
        big, little = body.decode("utf-16-be", errors="replace"), body.decode("utf-16-le", errors="replace")
        text = max(big, little, key=lambda text: sum(character.isascii() for character in text))
    elif prefix.startswith(b"ASCII"):
        text = body.decode("ascii", errors="replace")
    else:
        text = comment.decode("utf-8", errors="replace")
    return text.strip("\x00\ufeff")


def read_plan(data: bytes) -> Parameters | None:
    """The plan that a picture file carries, from this package, A1111, Forge, Civitai or ComfyUI; None without one."""
    return _plan_told(metadata(data))


def _plan_told(found: Mapping[str, str]) -> Parameters | None:
    if "parameters" in found:
        return read_parameters(found["parameters"])
    if "prompt" in found:
        return read_comfyui(found["prompt"])
    return None


def carried_prompt(told: Mapping[str, str]) -> str | None:
    """The prompt that a picture file carries, from its `metadata`; None without one, or where it is blank."""
    found = _plan_told(told)
    return found.plan.prompt if found and found.plan.prompt.strip() else None


def provenance_json(picture: Picture) -> str:
    """The vernissage chunk, indented for reading; empty where there is none."""
    return json.dumps(picture.provenance.model_dump(mode="json"), indent=2) if picture.provenance else ""


ImageLike = str | Path | Picture | Image.Image
"""What programs may give for a picture."""


def to_image(image: ImageLike) -> Image.Image:
    """The picture itself.

    Raises:
        BadInput: It is no picture, cannot be read, or has no pixels.
    """
    if not isinstance(image, Image.Image | Picture | str | Path):
        raise BadInput(f"Something of the type {type(image).__name__} is no picture.", hint="Give a path, a Picture, or an image of PIL.")
    found = image.convert("RGB") if isinstance(image, Image.Image) else opened_picture(image).image
    if not all(found.size):
        raise BadInput("A picture has no pixels.", hint="Give one that is at least 1 x 1.")
    return found


def opened_picture(image: str | Path | Picture) -> Picture:
    """A picture, read where it is a file.

    Raises:
        BadInput: It cannot be read.
    """
    return image if isinstance(image, Picture) else Picture.open(image)


def several(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """Pictures from one or many; a text is the path of one."""
    return [images] if isinstance(images, str | Path | Picture | Image.Image) else listed(images, "pictures")


def listed(things: Any, what: str) -> list[Any]:
    """A list of these.

    Raises:
        BadInput: It is none.
    """
    try:
        return list(things)
    except TypeError as error:
        raise BadInput(f"Something of the type {type(things).__name__} is no list of {what}.", hint="Give a list.") from error
