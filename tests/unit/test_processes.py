"""One process at a place at a time, and pools that end when the program is interrupted."""

import contextlib
import gc
import subprocess
import sys
import time

import pytest

from vernissage.errors import BadInput
from vernissage.processes import Pool, work_at

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")

OTHER = """
import sys
from pathlib import Path
from vernissage.processes import work_at
held = work_at(Path(sys.argv[1]))
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other():
    """Starts another process that works at a place; ends it."""
    started = []

    def other(place):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", OTHER, str(place)], **pipes))
        assert started[-1].stdout.readline() == "there\n"
        return started[-1]

    yield other
    for each in started:
        each.kill()
        each.communicate()


@pytest.mark.parametrize("name", ["folder", "folder/file.jsonl"])
def test_a_place_is_one_processs_until_it_ends_or_is_killed(tmp_path, other, name):
    (tmp_path / "folder").mkdir()
    place = tmp_path / name
    working = other(place)
    with pytest.raises(BadInput, match=f"Another process works at {place}"):
        work_at(place)
    working.kill()
    working.communicate()
    held = work_at(place)
    assert work_at(place) is held, "this process may come twice"
    del held
    gc.collect()
    assert other(place).poll() is None
    assert work_at(tmp_path) is not None, "another place is free"


def test_nothing_is_left_behind(tmp_path):
    held = work_at(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    del held
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def ended_by(error):
    """How long a pool takes to end by an error while a thread works for 0.4 s, and whether what waited was given up."""
    started = time.monotonic()
    with contextlib.suppress(type(error)), Pool(1) as pool:
        pool.submit(time.sleep, 0.4)
        left = pool.submit(time.sleep, 0)
        raise error
    return time.monotonic() - started, left.cancelled()


def test_an_interruption_does_not_wait_for_threads_and_an_error_does():
    seconds, given_up = ended_by(KeyboardInterrupt())
    assert seconds < 0.3
    assert given_up
    seconds, given_up = ended_by(ValueError())
    assert seconds >= 0.4
    assert not given_up
