"""Civitai: what a model version is, and its file, downloaded with a hash check and resumed where it was cut off.

Speaks the public REST API, version 1. The token comes from $CIVITAI_TOKEN and goes into one header only, to the API's
own host only: never into an address, a log or an error.
"""

import email.utils
import hashlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict

from vernissage.errors import BadInput, DriverError, IntegrityError, RateLimited, Refused, TimedOut, VernissageError
from vernissage.ports import Progress

ADDRESS = "https://civitai.com/api/v1"
TOKEN_VARIABLE = "CIVITAI_TOKEN"
LONGEST_WAIT_S = 300.0
_AGAIN = "Call it again: it goes on where it stopped."
_LATER = "Call it again later: what was collected is kept."
_LOGIN = f"Put a token into ${TOKEN_VARIABLE}."


class CivitaiFile(BaseModel):
    """The weights of a model version."""

    model_config = ConfigDict(frozen=True)

    name: str
    url: str
    sha256: str | None
    kilobytes: float
    safe: bool
    """Whether Civitai's scans for pickles and viruses came out clean."""


class CivitaiVersion(BaseModel):
    """One version of a model."""

    model_config = ConfigDict(frozen=True)

    id: int
    title: str
    kind: str
    """Checkpoint, LORA and so on."""
    base_model: str
    """For example "SD 1.5" or "SDXL 1.0"."""
    description: str
    words: tuple[str, ...]
    """Words that trigger what it was trained on."""
    file: CivitaiFile


def _headers(url: str, address: str) -> dict[str, str]:
    """The token's header for a request to the API's own host; none for any other, which an answer may well name."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not (token.isascii() and token.isprintable()):
        raise BadInput(f"The token in ${TOKEN_VARIABLE} has characters that no token has.", hint="Copy it once more.")
    there, home = httpx.URL(url), httpx.URL(address)
    same = (there.scheme, there.host, there.port) == (home.scheme, home.host, home.port)
    return {"Authorization": f"Bearer {token}"} if token and same else {}


def _client(timeout_s: float = 30.0) -> httpx.Client:
    return httpx.Client(timeout=timeout_s, follow_redirects=True, headers={"User-Agent": "vernissage"})


@contextmanager
def _told(trouble: str, hint: str) -> Iterator[None]:
    """Turn what httpx raises into our errors; its own texts may hold headers and stay out of them."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise TimedOut("Civitai did not answer in time.", hint=hint) from error
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise DriverError(f"{trouble}: {type(error).__name__}.", hint=hint) from error


def request(path: str, options: dict[str, Any], *, address: str = ADDRESS) -> httpx.Response:
    """Ask the API something.

    Raises:
        DriverError: It cannot be reached.
    """
    url = f"{address.rstrip('/')}/{path}"
    with _told("Civitai cannot be reached", "Is there a network?"), _client() as client:
        return client.get(url, params=options, headers=_headers(url, address))


def fetch(url: str, *, largest: int, address: str = ADDRESS) -> httpx.Response:
    """What lies at an address, such as that of a picture.

    Raises:
        BadInput: It is larger than `largest` bytes, or no address of the web.
        DriverError: It cannot be reached, or broke off.
    """
    if not url.startswith(("https://", "http://")):
        raise BadInput(f"{url} is no address of the web.", hint="It must begin with https://.")
    parts, size = [], 0
    with (
        _told("An address cannot be reached", "Is there a network?"),
        _client() as client,
        client.stream("GET", url, headers=_headers(url, address)) as response,
    ):
        for chunk in response.iter_bytes():
            parts.append(chunk)
            size += len(chunk)
            if size > largest:
                raise BadInput(f"{url} is larger than {largest // 2**20} MB.", hint="Leave it out.")
        told = [(name, value) for name, value in response.headers.raw if name.lower() not in (b"content-length", b"content-encoding")]
        return httpx.Response(response.status_code, headers=told, content=b"".join(parts))


Read = TypeVar("Read")


def patiently(ask: Callable[[], httpx.Response], read: Callable[[httpx.Response], Read], what: str, *, retries: int) -> Read:
    """Ask, and ask again where the server is busy, fails, breaks off or sends what cannot be read.

    Args:
        ask: Sends the request.
        read: Makes of the answer what is wanted; a `ValueError` means that it cannot be read.
        what: Is asked for, for errors.
        retries: How often it is asked again; a wait of up to 300 seconds that the server asks for is kept.

    Raises:
        RateLimited: The server asks to wait for longer, or again and again.
        VernissageError: What `ask` or `read` raised last; a refusal or bad input at once.
    """
    trouble: VernissageError = DriverError(f"Civitai did not send a {what} that can be read.")
    for attempt in range(retries + 1):
        wait = min(2.0**attempt, LONGEST_WAIT_S)
        try:
            response = ask()
            if response.status_code != 429:
                return read(response)
            wait = _asked_wait(response.headers.get("retry-after"), wait)
            trouble = RateLimited("Civitai asks to wait, again and again.", hint=_LATER)
        except (Refused, BadInput):
            raise  # asking again would change nothing
        except VernissageError as error:
            trouble = error
        except (ValueError, RecursionError):
            trouble = DriverError(f"Civitai did not send a {what} that can be read.", hint=_LATER)
        if wait > LONGEST_WAIT_S:  # as only a server can want
            raise RateLimited(f"Civitai asks to wait for {wait:.0f} seconds.", hint=_LATER)
        if attempt < retries:
            time.sleep(wait)
    raise trouble


def _asked_wait(header: str | None, otherwise: float) -> float:
    """Seconds from a Retry-After header, which tells seconds or a date."""
    if not header:
        return otherwise
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return otherwise


def check(response: httpx.Response, what: str) -> None:
    """Raise the error that an answer's status stands for.

    Raises:
        DriverError: Civitai refuses, asks to wait, or fails.
        BadInput: There is no such thing.
    """
    if response.status_code in (401, 403):
        raise Refused(f"Civitai wants you to be logged in for {what}.", hint=_LOGIN)
    if response.status_code == 404:
        raise BadInput(f"Civitai has no {what}.", hint="Check the number: it is the model *version* id.")
    if response.status_code == 429:
        raise RateLimited("Civitai asks to wait.", hint="Try again later; what was downloaded is kept.")
    if not response.is_success:
        raise DriverError(f"Civitai failed with status {response.status_code} for {what}.", hint="Try again; what was downloaded is kept.")


def fetch_version(version_id: int, *, address: str = ADDRESS) -> CivitaiVersion:
    """What Civitai says about a model version.

    Raises:
        BadInput: There is no such version, or it has no weights.
        DriverError: Civitai cannot be reached, refuses or fails.
    """
    response = request(f"model-versions/{version_id}", {}, address=address)
    check(response, f"model version {version_id}")
    try:
        answer = response.json()
    except (ValueError, RecursionError) as error:
        raise DriverError("Civitai sent something that is not JSON.", hint="Try again later.") from error
    return parse_version(answer)


def parse_version(answer: Any) -> CivitaiVersion:
    """Read the API's answer; fields that are missing, null or of another type are left empty.

    Where there are several files, the one that is a safetensors file of the model itself is taken.

    Raises:
        BadInput: It has no file with weights.
        DriverError: It is no version at all.
    """
    answer = _table(answer)
    try:
        version_id = int(answer["id"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DriverError("Civitai's answer is not that of a model version.", hint="Try again later.") from error
    files = [file for file in map(_table, _list(answer.get("files"))) if file.get("downloadUrl")]
    if not files:
        raise BadInput(f"Civitai's model version {version_id} has no file.", hint="Choose another version.")
    facts, chosen = read_model(answer), max(files, key=_suits)
    return CivitaiVersion(
        id=version_id,
        title=facts.title,
        kind=_text(_table(answer.get("model")).get("type")) or "Checkpoint",
        base_model=facts.base_model,
        description=facts.description,
        words=tuple(_text(word) for word in _list(answer.get("trainedWords")) if word is not None),
        file=CivitaiFile(
            name=_text(chosen.get("name")) or f"{version_id}.safetensors",
            url=_text(chosen["downloadUrl"]),
            sha256=_text(_table(chosen.get("hashes")).get("SHA256")) or None,
            kilobytes=_number(chosen.get("sizeKB")),
            safe=all(chosen.get(scan) in (None, "Success") for scan in ("pickleScanResult", "virusScanResult")),
        ),
    )


class ModelFacts(NamedTuple):
    """What Civitai says of a model version beside its files."""

    title: str
    description: str
    base_model: str
    downloads: int


def read_model(answer: Any) -> ModelFacts:
    """Read the API's answer about a model version, whether or not it has files; what is missing is left empty.

    Raises:
        ValueError: It is no such answer.
    """
    if not isinstance(answer, dict) or "id" not in answer:
        raise ValueError("no model version")
    model, stats = _table(answer.get("model")), _table(answer.get("stats"))
    return ModelFacts(
        title=f"{_text(model.get('name')) or 'untitled'} {_text(answer.get('name'))}".strip(),
        description=plain_text(_text(answer.get("description")) or _text(model.get("description"))),
        base_model=_text(answer.get("baseModel")),
        downloads=int(min(_number(stats.get("downloadCount")), 1e12)),
    )


def _suits(file: dict[str, Any]) -> tuple[bool, bool, bool]:
    """How well a file suits: versions may also bring pickles, VAEs, training data and configurations."""
    return (
        _text(file.get("name")).endswith(".safetensors"),
        file.get("type") in (None, "Model", "Pruned Model"),
        file.get("primary") is True,
    )


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """A text that can be written anywhere: JSON may hold halves of characters, which UTF-8 has not."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode()


def _number(value: Any) -> float:
    try:
        number = float(value or 0)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def plain_text(html: str) -> str:
    """HTML to text, on one line, 600 characters at most.

    Example:
        >>> plain_text("<p>Nice &amp; sharp.</p><p>SDXL</p>")
        'Nice & sharp. SDXL'
    """
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html))).strip()[:600]


def download(file: CivitaiFile, folder: Path, *, address: str = ADDRESS, progress: Progress | None = None) -> Path:
    """Download the weights into a folder; goes on where an earlier try was cut off.

    Args:
        file: What to download.
        folder: Where to put it; the file's own name is reduced to its last, safe part.
        address: The API that named the file; no other host is sent the token.
        progress: Called with (bytes done, bytes in all).

    Raises:
        BadInput: It is no safetensors file, Civitai's scans warn of it, or the folder cannot be written.
        IntegrityError: The bytes do not match the hash; the damaged file is removed.
        DriverError: Civitai cannot be reached, refuses or fails; what was downloaded is kept.
    """
    name = _safe_name(file.name)
    if not name.endswith(".safetensors"):
        raise BadInput(f"{name!r} is no safetensors file.", hint="Choose a version that has one; pickles can run any code.")
    if not file.safe:
        raise BadInput(f"Civitai's own scans warn of {name}.", hint="Choose another version.")
    target, part = folder / name, folder / f"{name}.part"
    try:
        if target.exists() and (file.sha256 is None or _sha256(target) == file.sha256.lower()):
            return target
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(file, part, address, progress)
        if file.sha256 and (found := _sha256(part)) != file.sha256.lower():
            part.unlink()
            raise IntegrityError(
                f"{name} has the SHA-256 {found[:12]}…, Civitai says {file.sha256[:12].lower()}….", hint="Download it again."
            )
        part.replace(target)
    except OSError as error:
        raise BadInput(f"Cannot write {target}: {error.strerror}.", hint="Is there room, and may you write there?") from error
    return target


def _safe_name(name: str) -> str:
    r"""A file name without folders, odd characters and excess length.

    Example:
        >>> _safe_name(r"..\..\my model.safetensors")
        'my_model.safetensors'
    """
    name = re.sub(r"[^\w.-]+", "_", Path(name.replace("\\", "/")).name).lstrip(".")
    stem, dot, suffix = name.rpartition(".")
    return stem.encode()[:120].decode(errors="ignore") + dot + suffix[:20]


def _fetch(file: CivitaiFile, part: Path, address: str, progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    with _told("The download broke off", _AGAIN), _client(60.0) as client:
        # Packed bytes could not be resumed, so they are asked for as they are.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with client.stream("GET", file.url, headers=headers | _headers(file.url, address)) as response:
            if response.status_code == 416 and have:
                _check_whole(response, part, have)
                return
            check(response, file.name)
            if response.headers.get("content-type", "").startswith("text/html"):  # a page to log in, not the file
                raise Refused(f"Civitai wants you to be logged in for {file.name}.", hint=_LOGIN)
            if response.status_code != 206:
                have = 0
            elif not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
                part.unlink(missing_ok=True)
                raise DriverError("Civitai sent another part of the file than asked for.", hint="Call it again: it starts afresh.")
            _write(response, part, have, progress)
    if not part.stat().st_size:
        part.unlink()
        raise DriverError("Civitai sent an empty file.", hint="Try again later.")


def _check_whole(response: httpx.Response, part: Path, have: int) -> None:
    """Nothing is left to send: see that this is because all is there, as far as the server says how much that is."""
    total = response.headers.get("content-range", "").removeprefix("bytes */")
    if total.isdecimal() and int(total) != have:
        part.unlink()
        raise IntegrityError(f"{part.name} has {have} bytes, the file itself {total}; it was removed.", hint="Download it again.")


def _write(response: httpx.Response, part: Path, have: int, progress: Progress | None) -> None:
    total = have + int(response.headers.get("content-length") or 0)
    with part.open("ab" if have else "wb") as out:
        for chunk in response.iter_bytes():  # as they come, so that none is lost when it breaks off
            out.write(chunk)
            have += len(chunk)
            if progress:
                progress(have, max(total, have))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
