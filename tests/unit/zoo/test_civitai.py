"""Civitai: what its API says, and downloads that are checked and resumed, against a local server that speaks it."""

import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vernissage.errors import BadInput, DriverError, IntegrityError, RateLimited, Refused, TimedOut, VernissageError
from vernissage.zoo import civitai
from vernissage.zoo.civitai import CivitaiFile, download, fetch_version, parse_version, plain_text

TOKEN = "civitai-very-secret-0123456789"
DATA = bytes(range(256)) * 4096  # one megabyte
HASH = hashlib.sha256(DATA).hexdigest()
UNREADABLE = re.compile(re.escape(TOKEN))


class Server(ThreadingHTTPServer):
    """Serves /api/v1/model-versions/{id} and /files/…, with Range; `faults` come first, one per request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.address = f"{self.origin}/api/v1"
        self.data = DATA
        self.ranges = True
        self.versions: dict[str, Any] = {}
        self.faults: deque[Callable[[_Handler], None]] = deque()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no mistake of the server's."""

    def last(self, header: str) -> str | None:
        return self.asked[-1][1].get(header)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        server = self.server
        server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if server.faults:
            server.faults.popleft()(self)
        elif self.path.startswith("/api/v1/model-versions/"):
            found = server.versions.get(self.path.rsplit("/", 1)[1])
            self.send(200 if found else 404, json.dumps(found or {"error": "No version"}).encode(), Content_Type="application/json")
        elif self.path.startswith("/files/"):
            self.send_file()
        else:
            self.send(404, b"")

    def send_file(self) -> None:
        data, wanted = self.server.data, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not wanted or not self.server.ranges:
            self.send(200, data)
        elif (start := int(wanted[1])) >= len(data):
            self.send(416, b"", Content_Range=f"bytes */{len(data)}")
        else:
            self.send(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")

    def send(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


def fails(status: int, data: bytes = b"{}", **headers: str) -> Callable[[_Handler], None]:
    return lambda handler: handler.send(status, data, **headers)


def cuts_after(sent: int, *, start: int = 0, status: int = 200) -> Callable[[_Handler], None]:
    """Promises the file from `start` on, and hangs up after some bytes."""

    def fault(handler: _Handler) -> None:
        part = handler.server.data[start:]
        span = {"Content_Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if status == 206 else {}
        handler.send(status, part[:sent], Content_Length=str(len(part)), **span)
        handler.close_connection = True

    return fault


def hangs(handler: _Handler) -> None:
    handler.send(200, handler.server.data[:1000], Content_Length=str(len(DATA)))
    handler.close_connection = True
    handler.wfile.flush()
    handler.server.closing.wait(5)


@pytest.fixture
def serve():
    """Starts servers, and stops them in the end."""
    running: list[tuple[Server, threading.Thread]] = []

    def serve() -> Server:
        server = Server()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield serve
    for server, thread in running:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("CIVITAI_TOKEN", TOKEN)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "weights"


def weights(server: Server, name: str = "ink.safetensors", **fields: Any) -> CivitaiFile:
    values = {"name": name, "url": f"{server.origin}/files/ink", "sha256": HASH.upper(), "kilobytes": 1024, "safe": True}
    return CivitaiFile(**values | fields)


def version(server: Server, **fields: Any) -> dict[str, Any]:
    """A version as the API gives it."""
    file = {
        "id": 1,
        "name": "ink.safetensors",
        "sizeKB": 1024.0,
        "type": "Model",
        "primary": True,
        "metadata": {"fp": "fp16", "size": "full", "format": "SafeTensor"},
        "pickleScanResult": "Success",
        "virusScanResult": "Success",
        "hashes": {"AutoV2": HASH[:10].upper(), "SHA256": HASH.upper()},
        "downloadUrl": f"{server.origin}/files/ink",
    }
    answer = {
        "id": 128713,
        "name": "v2",
        "baseModel": "SD 1.5",
        "trainedWords": ["ink drawing"],
        "description": "<p>Nice &amp; sharp</p>",
        "model": {"name": "Ink", "type": "LORA"},
        "files": [file],
        "images": [],
    }
    return answer | fields


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_a_version_is_read_with_its_file(server):
    server.versions["128713"] = version(server)
    found = fetch_version(128713, address=server.address)
    assert (found.id, found.title, found.kind, found.base_model) == (128713, "Ink v2", "LORA", "SD 1.5")
    assert (found.words, found.description) == (("ink drawing",), "Nice & sharp")
    assert (found.file.name, found.file.sha256, found.file.safe) == ("ink.safetensors", HASH.upper(), True)


def test_a_slash_at_the_end_of_the_address_does_no_harm(server):
    server.versions["7"] = version(server, id=7)
    assert fetch_version(7, address=server.address + "/").id == 7


def test_a_whole_download_is_checked_and_put_in_its_place(server, folder):
    seen: list[tuple[int, int]] = []
    path = download(weights(server), folder, progress=lambda done, total: seen.append((done, total)))
    assert path == folder / "ink.safetensors"
    assert path.read_bytes() == DATA
    assert left_over(folder) == ["ink.safetensors"]
    assert seen[-1] == (len(DATA), len(DATA))
    assert server.last("accept-encoding") == "identity"  # packed bytes could not be resumed


def test_a_file_that_is_there_already_is_not_downloaded_again(server, folder):
    first = download(weights(server), folder)
    assert download(weights(server), folder) == first
    assert len(server.asked) == 1


def test_a_file_that_is_there_but_damaged_is_downloaded_again(server, folder):
    path = download(weights(server), folder)
    path.write_bytes(b"rust")
    assert download(weights(server), folder).read_bytes() == DATA


def test_a_cut_download_goes_on_where_it_stopped(server, folder):
    server.faults.append(cuts_after(300_000))
    with pytest.raises(DriverError, match="goes on where it stopped") as caught:
        download(weights(server), folder)
    assert caught.value.retryable
    (part,) = left_over(folder)
    have = (folder / part).stat().st_size
    assert have == 300_000
    seen: list[tuple[int, int]] = []
    path = download(weights(server), folder, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == DATA
    assert server.last("range") == f"bytes={have}-"
    assert seen[0][0] > have
    assert seen[-1] == (len(DATA), len(DATA))
    assert left_over(folder) == ["ink.safetensors"]


def test_a_download_may_be_cut_off_many_times(server, folder):
    for start in range(0, 900_000, 300_000):
        server.faults.append(cuts_after(300_000, start=start, status=206 if start else 200))
        with pytest.raises(DriverError):
            download(weights(server), folder)
    assert download(weights(server), folder).read_bytes() == DATA
    assert [headers.get("range") for _, headers in server.asked] == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_server_that_ignores_the_range_sends_the_file_afresh(server, folder):
    server.faults.append(cuts_after(1000))
    with pytest.raises(DriverError):
        download(weights(server), folder)
    server.ranges = False
    assert download(weights(server), folder).read_bytes() == DATA


def test_a_server_that_sends_another_part_than_asked_for_does_no_damage(server, folder):
    server.faults += [cuts_after(1000), fails(206, DATA[500:], Content_Range=f"bytes 500-{len(DATA) - 1}/{len(DATA)}")]
    for _ in range(2):
        with pytest.raises(DriverError):
            download(weights(server, sha256=None), folder)
    assert download(weights(server, sha256=None), folder).read_bytes() == DATA


def test_a_download_that_was_whole_but_not_yet_in_place_needs_no_byte_more(server, folder):
    folder.mkdir()
    (folder / "ink.safetensors.part").write_bytes(DATA)
    assert download(weights(server), folder).read_bytes() == DATA  # the server answers 416
    assert left_over(folder) == ["ink.safetensors"]


@pytest.mark.parametrize("sha256", [HASH, None])
def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, folder, sha256):
    folder.mkdir()
    (folder / "ink.safetensors.part").write_bytes(DATA + b"of another file")
    with pytest.raises(IntegrityError):
        download(weights(server, sha256=sha256), folder)
    assert left_over(folder) == []
    assert download(weights(server, sha256=sha256), folder).read_bytes() == DATA


def test_a_range_that_nobody_asked_for_cannot_be_out_of_range(server, folder):
    server.faults.append(fails(416))
    with pytest.raises(DriverError):
        download(weights(server), folder)
    assert left_over(folder) == []


def test_a_file_with_a_wrong_hash_is_removed(server, folder):
    server.data = DATA[:-1] + b"?"
    with pytest.raises(IntegrityError, match=r"ink\.safetensors has the SHA-256") as caught:
        download(weights(server), folder)
    assert HASH[:12] in str(caught.value)
    assert left_over(folder) == []


def test_a_download_without_a_hash_is_kept_as_it_is(server, folder):
    assert download(weights(server, sha256=None), folder).read_bytes() == DATA


def test_an_empty_file_without_a_hash_is_no_model(server, folder):
    server.data = b""
    with pytest.raises(DriverError):
        download(weights(server, sha256=None), folder)
    assert left_over(folder) == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_that_is_wanted_names_the_variable_for_the_token(server, folder, status):
    server.faults += [fails(status), fails(status)]
    for call in (lambda: fetch_version(1, address=server.address), lambda: download(weights(server), folder)):
        with pytest.raises(Refused, match="CIVITAI_TOKEN") as caught:
            call()
        assert not caught.value.retryable
    assert left_over(folder) == []


def test_a_login_page_in_place_of_the_file_is_a_refusal(server, folder):
    login = "/login?returnUrl=%2Fmodels%2F1&reason=download-auth"
    server.faults += [
        fails(307, Location=login),
        fails(200, b"<!doctype html><title>Log in</title>", Content_Type="text/html; charset=utf-8"),
    ]
    with pytest.raises(Refused, match="CIVITAI_TOKEN"):
        download(weights(server, sha256=None), folder)
    assert left_over(folder) == []


def test_a_version_that_does_not_exist_is_the_users_mistake(server):
    with pytest.raises(BadInput, match="no model version 5") as caught:
        fetch_version(5, address=server.address)
    assert "version" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "kind"), [(404, BadInput), (429, RateLimited), (500, DriverError), (503, DriverError), (418, DriverError)]
)
def test_each_failure_has_its_kind_and_keeps_what_was_downloaded(server, folder, status, kind):
    server.faults += [cuts_after(1000), fails(status), fails(status)]
    with pytest.raises(DriverError):
        download(weights(server), folder)
    with pytest.raises(kind) as caught:
        download(weights(server), folder)
    assert caught.value.hint
    assert left_over(folder) == ["ink.safetensors.part"]
    with pytest.raises(kind):
        fetch_version(1, address=server.address)


def test_a_server_that_stops_sending_is_timed_out_and_the_part_kept(server, folder, monkeypatch):
    usual = civitai._client
    server.faults.append(hangs)
    with monkeypatch.context() as hurried:
        hurried.setattr(civitai, "_client", lambda timeout_s=30.0: usual(0.2))
        with pytest.raises(TimedOut):
            download(weights(server), folder)
    assert left_over(folder) == ["ink.safetensors.part"]
    assert download(weights(server), folder).read_bytes() == DATA


def test_a_server_that_is_not_there_is_said_so(folder):
    for call in (
        lambda: fetch_version(1, address="http://127.0.0.1:9/api/v1"),
        lambda: download(CivitaiFile(name="a.safetensors", url="http://127.0.0.1:9/a", sha256=None, kilobytes=1, safe=True), folder),
    ):
        with pytest.raises(DriverError) as caught:
            call()
        assert caught.value.hint
    assert left_over(folder) == []


@pytest.mark.parametrize("url", ["", "nonsense", "file:///etc/passwd", "http://[::1", "ftp://example.org/a"])
def test_an_address_of_a_file_that_is_none_is_an_error_of_the_drivers(folder, url):
    with pytest.raises(DriverError):
        download(CivitaiFile(name="a.safetensors", url=url, sha256=None, kilobytes=1, safe=True), folder)
    assert left_over(folder) == []


def test_redirects_without_end_are_an_error_of_the_drivers(server, folder):
    server.faults += [fails(302, Location="/files/ink")] * 50
    with pytest.raises(DriverError):
        download(weights(server), folder)
    with pytest.raises(DriverError):
        fetch_version(1, address=server.address)


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"[]", b"null", b"7", b'"x"', b"[" * 100_000, b"\xff", b'{"files": 5}', b'{"files": [1, null]}']
)
def test_an_answer_that_is_no_version_is_an_error_and_not_a_crash(server, data):
    server.faults.append(fails(200, data))
    with pytest.raises(VernissageError):
        fetch_version(1, address=server.address)


def test_missing_and_null_fields_are_left_empty(server):
    bare = {"id": 7, "files": [{"downloadUrl": "https://example.org/x"}]}
    nulls = {name: None for name in version(server)} | bare
    nulls["files"] = [{name: None for name in version(server)["files"][0]} | bare["files"][0], None]
    for answer in (bare, nulls):
        found = parse_version(answer)
        assert (found.title, found.kind, found.base_model, found.description, found.words) == ("untitled", "Checkpoint", "", "", ())
        assert found.file == CivitaiFile(name="7.safetensors", url="https://example.org/x", sha256=None, kilobytes=0, safe=True)


@pytest.mark.parametrize("files", [None, [], [None], [{}], [{"downloadUrl": None}], [{"downloadUrl": ""}]])
def test_a_version_without_a_file_is_refused(server, files):
    with pytest.raises(BadInput, match="128713 has no file"):
        parse_version(version(server, files=files))


def test_odd_values_are_read_as_far_as_they_make_sense(server):
    answer = version(server, id="7", trainedWords=[None, "ink", 5], model={"name": 5, "type": None}, description=7, baseModel=["SDXL"])
    answer["files"][0] |= {"sizeKB": "1024", "hashes": ["x"]}
    found = parse_version(answer)
    assert (found.id, found.title, found.words, found.file.kilobytes, found.file.sha256) == (7, "5 v2", ("ink", "5"), 1024, None)


def test_the_safetensors_file_is_taken_where_the_first_one_is_a_pickle(server):
    good = version(server)["files"][0]
    pickle = good | {"name": "ink.ckpt", "downloadUrl": "https://example.org/ckpt"}
    vae = good | {"name": "vae.safetensors", "type": "VAE", "primary": False}
    other = good | {"primary": False}
    assert parse_version(version(server, files=[pickle, vae, other])).file.name == "ink.safetensors"
    assert parse_version(version(server, files=[vae, other])).file.name == "ink.safetensors"
    assert parse_version(version(server, files=[pickle])).file.name == "ink.ckpt"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("a.\ud800", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "files", "name", "hashes", "SHA256"]), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    answer=st.fixed_dictionaries(
        {},
        optional={key: json_values for key in ("id", "name", "model", "baseModel", "description", "trainedWords")}
        | {
            "files": json_values
            | st.lists(
                st.fixed_dictionaries(
                    {"downloadUrl": st.just("https://example.org") | json_values},
                    optional={key: json_values for key in ("name", "sizeKB", "type", "primary", "hashes", "metadata", "pickleScanResult")},
                ),
                max_size=2,
            )
        },
    )
)
def test_whatever_the_api_answers_is_a_version_or_an_error_of_ours(answer):
    try:
        said = parse_version(answer).file.url
    except VernissageError as error:
        said = str(error)
    assert said


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../evil.safetensors", "evil.safetensors"),
        ("/etc/evil.safetensors", "evil.safetensors"),
        ("C:\\x.safetensors", "x.safetensors"),
        ("..\\..\\x.safetensors", "x.safetensors"),
        ("C:x.safetensors", "C_x.safetensors"),
        ("a b\n\x00\x1b[31m.safetensors", "a_b_31m.safetensors"),
        (".hidden.safetensors", "hidden.safetensors"),
        ("x" * 400 + ".safetensors", None),
        ("\N{SNOWMAN}墨" * 200 + ".safetensors", None),
    ],
)
def test_a_hostile_file_name_stays_inside_its_folder(server, folder, name, safe):
    path = download(weights(server, name=name), folder)
    assert path.parent == folder
    assert path.read_bytes() == DATA
    assert left_over(folder.parent) == sorted(["weights", path.name])
    assert safe in (None, path.name)
    assert len(path.name.encode()) < 200


@pytest.mark.parametrize("name", [".ckpt", "x.ckpt", "x.safetensors.pt", "", "..", "/", ".safetensors", "x.safetensors/y", "x.bin", "x"])
def test_a_file_that_is_no_safetensors_file_is_refused_before_it_is_downloaded(server, folder, name):
    with pytest.raises(BadInput, match="safetensors"):
        download(weights(server, name=name), folder)
    assert server.asked == []
    assert left_over(folder) == []


@pytest.mark.parametrize("scan", ["pickleScanResult", "virusScanResult"])
@pytest.mark.parametrize("result", ["Danger", "Error", "Pending"])
def test_a_file_that_the_scans_warn_of_is_refused(server, folder, scan, result):
    answer = version(server)
    answer["files"][0][scan] = result
    with pytest.raises(BadInput, match="scans"):
        download(parse_version(answer).file, folder)
    assert server.asked == []


def test_a_folder_that_cannot_be_written_is_the_users_mistake(server, tmp_path):
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(BadInput, match="taken"):
        download(weights(server), tmp_path / "taken")
    with pytest.raises(BadInput, match="taken"):
        download(weights(server), tmp_path / "taken" / "weights")


def test_the_token_is_sent_in_its_header_and_nowhere_else(server, folder, token):
    server.versions["128713"] = version(server)
    found = fetch_version(128713, address=server.address)
    path = download(found.file, folder, address=server.address)
    assert [headers["authorization"] for _, headers in server.asked] == [f"Bearer {TOKEN}"] * 2
    for where, headers in server.asked:
        others = [value for name, value in headers.items() if name != "authorization"]
        assert not UNREADABLE.search(" ".join([where, *others]))
    assert not UNREADABLE.search(str(path) + found.model_dump_json())


def test_without_a_token_none_is_sent(server, folder):
    download(weights(server), folder, address=server.address)
    assert server.last("authorization") is None


def test_a_redirect_to_another_host_does_not_take_the_token_along(serve, folder, token):
    server, store = serve(), serve()
    server.faults.append(fails(307, Location=f"{store.origin}/files/ink?signature=abc"))
    path = download(weights(server), folder, address=server.address)
    assert path.read_bytes() == DATA
    assert server.last("authorization") == f"Bearer {TOKEN}"
    assert store.last("authorization") is None
    assert not UNREADABLE.search(json.dumps(store.asked))


def test_going_on_after_a_redirect_asks_the_other_host_for_the_rest(serve, folder, token):
    server, store = serve(), serve()
    server.faults += [fails(307, Location=f"{store.origin}/files/ink")] * 2
    store.faults.append(cuts_after(1000))
    with pytest.raises(DriverError):
        download(weights(server), folder, address=server.address)
    assert download(weights(server), folder, address=server.address).read_bytes() == DATA
    assert store.last("range") == "bytes=1000-"


def test_a_file_at_another_host_than_the_api_gets_no_token(serve, folder, token):
    server, elsewhere = serve(), serve()
    file = weights(elsewhere)
    assert download(file, folder, address=server.address).read_bytes() == DATA
    assert elsewhere.last("authorization") is None
    (folder / "ink.safetensors").unlink()
    assert download(file, folder).read_bytes() == DATA  # the true Civitai's token is not for this host either
    assert elsewhere.last("authorization") is None


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_no_error_shows_the_token(server, folder, token, status):
    server.faults += [fails(status, TOKEN.encode()), fails(status, TOKEN.encode()), cuts_after(1000)]
    for call in (
        lambda: fetch_version(1, address=server.address),
        lambda: download(weights(server), folder, address=server.address),
        lambda: download(weights(server), folder, address=server.address),
    ):
        with pytest.raises(VernissageError) as caught:
            call()
        error: BaseException | None = caught.value
        while error is not None:
            assert not UNREADABLE.search(str(error) + repr(error))
            error = error.__cause__
    assert not UNREADABLE.search(" ".join(left_over(folder)))


@pytest.mark.parametrize("value", [f"{TOKEN}…", f"{TOKEN}\nX-Evil: 1"])
def test_a_token_that_cannot_be_one_is_refused_without_being_shown(server, monkeypatch, value):
    monkeypatch.setenv("CIVITAI_TOKEN", value)
    with pytest.raises(BadInput, match="CIVITAI_TOKEN") as caught:
        fetch_version(1, address=server.address)
    assert not UNREADABLE.search(str(caught.value))
    assert server.asked == []


def test_a_line_end_after_the_token_is_not_part_of_it(server, monkeypatch):
    monkeypatch.setenv("CIVITAI_TOKEN", f" {TOKEN}\n")
    server.versions["7"] = version(server, id=7)
    fetch_version(7, address=server.address)
    assert server.last("authorization") == f"Bearer {TOKEN}"


def test_html_becomes_one_line_of_text():
    assert plain_text("<p>Nice &amp; sharp.</p>\n\n<ul><li>SDXL</li></ul>") == "Nice & sharp. SDXL"
    assert len(plain_text("<p>word</p>" * 1000)) <= 600
