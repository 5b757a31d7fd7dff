"""Batches side by side on a CPU."""

import threading
import time

import pytest
import torch

from vernissage.local.streams import FITS_A_CACHE, batches, side_by_side

CPU = torch.device("cpu")


def test_when_one_part_fails_the_others_are_not_begun(four_threads):
    stop, begun = threading.Event(), []

    def work(part):
        begun.append(part)
        if part == [0]:
            raise ValueError("no")
        stop.wait(5)

    with pytest.raises(ValueError, match="no"):
        side_by_side(work, [[number] for number in range(50)], CPU, streams=4, stop=stop)
    assert len(begun) <= 4
    assert stop.is_set()
    assert torch.get_num_threads() == 4


def test_a_thread_that_cannot_be_started_is_an_error_and_no_wait_without_end(four_threads, monkeypatch):
    start, started = threading.Thread.start, []

    def limited(self):
        started.append(self)
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        side_by_side(sum, [[number] * 4 for number in range(8)], CPU)


def test_batches_on_a_cpu_are_alike_and_as_many_to_every_core(four_threads):
    assert [len(part) for part in batches(range(64), 64, CPU)] == [16] * 4
    assert [len(part) for part in batches(range(70), 64, CPU)] == [9] * 7 + [7]
    assert [len(part) for part in batches(range(40), 32, CPU)] == [10] * 4
    assert [len(part) for part in batches(range(6), 32, CPU)] == [6], "too few to be dealt out"
    assert [len(part) for part in batches(range(6), 2, CPU)] == [2, 2, 2]
    assert batches([], 32, CPU) == []


@pytest.mark.parametrize("count", [1, 3, 5, 33, 129])
@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_batches_hold_everything_in_order_and_none_is_too_large(four_threads, count, size):
    for device in (CPU, torch.device("cuda")):
        parts = batches(range(count), size, device)
        assert [item for part in parts for item in part] == list(range(count))
        assert max(map(len, parts)) <= (min(size, FITS_A_CACHE) if device == CPU else size)


def test_work_on_a_cpu_is_shared_by_threads_with_cores_of_their_own(four_threads):
    met = threading.Barrier(4, timeout=30)

    def work(part):
        met.wait()  # nobody passes unless all four are at work at once
        return torch.get_num_threads(), sum(part)

    assert side_by_side(work, [[number] * 4 for number in range(4)], CPU) == [(1, 0), (1, 4), (1, 8), (1, 12)]
    assert torch.get_num_threads() == 4


def test_threads_that_others_start_meanwhile_or_afterwards_have_all_cores(four_threads):
    def cores_of_a_new_thread(_part=None):
        seen = []
        thread = threading.Thread(target=lambda: (time.sleep(0.1), seen.append(torch.get_num_threads())))
        thread.start()
        thread.join()
        return seen

    assert side_by_side(lambda part: (len(part), *cores_of_a_new_thread()), [[0] * 4, [0] * 4], CPU) == [(4, 4), (4, 4)]
    assert cores_of_a_new_thread() == [4]


@pytest.mark.parametrize("parts", [[[1], [2], [3]], [[1, 2, 3, 4]]], ids=["small parts", "one part"])
def test_what_is_not_worth_a_thread_is_done_in_this_one(four_threads, parts):
    here = threading.get_ident()
    assert side_by_side(lambda part: threading.get_ident(), parts, CPU) == [here] * len(parts)


def test_an_error_of_one_part_is_raised_and_the_cores_are_given_back(four_threads):
    def work(part):
        if 7 in part:
            raise ValueError("seven")
        return part

    with pytest.raises(ValueError, match="seven"):
        side_by_side(work, [[1] * 4, [7] * 4, [2] * 4], CPU)
    assert torch.get_num_threads() == 4
