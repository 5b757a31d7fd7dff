"""One process at a place at a time, and pools that end when the program is interrupted."""

import contextlib
import gc
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vernissage.bench.run import Header, Run
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


def test_a_link_is_the_place_that_it_leads_to(tmp_path, other):
    (tmp_path / "data.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "data.jsonl")
    other(tmp_path / "data.jsonl")
    with pytest.raises(BadInput, match="Another process"):
        work_at(tmp_path / "link.jsonl")


def test_a_run_that_another_process_begins_gets_no_second_header(tmp_path, other):
    (tmp_path / "run").mkdir()
    other(tmp_path / "run")
    with pytest.raises(BadInput, match="Another process"):
        Run(tmp_path / "run", Header(suite="s", settings={}, prompts={}, versions={}, machine="m"))
    assert not (tmp_path / "run" / "header.json").exists()


def test_a_child_that_ends_leaves_its_parents_lock(tmp_path):
    held = work_at(tmp_path)
    code = os.fork()
    if code == 0:
        held.__del__()
        os._exit(0)
    os.waitpid(code, 0)
    assert (tmp_path / ".lock").exists()


def test_threads_of_one_process_share_a_place(tmp_path):
    for _ in range(50):
        with ThreadPoolExecutor(4) as pool:
            places = list(pool.map(work_at, [tmp_path] * 4))
        assert len(set(map(id, places))) == 1
        del places
        gc.collect()


def test_a_place_is_free_after_a_with_and_may_be_held_again_within(tmp_path, other):
    for _ in range(2):
        with work_at(tmp_path) as held:
            assert work_at(tmp_path) is held
    del held
    gc.collect()
    assert other(tmp_path).poll() is None


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
