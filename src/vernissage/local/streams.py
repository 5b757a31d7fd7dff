"""Batches side by side on a CPU; knows torch and nothing of any model.

One batch divided among all cores makes them wait for one another at every operation, and small models spend much of their
time so. Batches are independent: each gets cores of its own, and nobody waits.
"""

import threading
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import torch

Item = TypeVar("Item")
Part = TypeVar("Part", bound=Sized)
Result = TypeVar("Result")

FITS_A_CACHE = 16
"""Pictures or texts in one pass on a CPU; seen to be the fastest of 4, 8, 16 and 32."""
WORTH_A_STREAM = 4
"""Items in a batch; less is mostly Python, of which one thread at a time runs."""


def batches(items: Sequence[Item], size: int, device: torch.device) -> list[Sequence[Item]]:
    """The items in batches of `size` at most; on a CPU smaller ones, alike in size and as many to every core.

    Example:
        >>> batches("abcde", 2, torch.device("cuda"))
        ['ab', 'cd', 'e']
    """
    if device.type == "cpu":
        cores = torch.get_num_threads()
        size = min(size, FITS_A_CACHE)
        even = -(-len(items) // (-(-len(items) // (size * cores)) * cores)) if items else size
        size = even if even >= WORTH_A_STREAM else size
    return [items[start : start + size] for start in range(0, len(items), size)]


def evenly(items: Sequence[Item], count: int) -> list[Sequence[Item]]:
    """The items in `count` parts, alike in size; fewer where there are fewer items.

    Example:
        >>> evenly("abcde", 2), evenly("a", 2)
        (['ab', 'cde'], ['a'])
    """
    parts = [items[len(items) * place // count : len(items) * (place + 1) // count] for place in range(count)]
    return [part for part in parts if part]


def side_by_side(
    work: Callable[[Part], Result],
    parts: Sequence[Part],
    device: torch.device,
    *,
    streams: int | None = None,
    stop: threading.Event | None = None,
) -> list[Result]:
    """The work on every part, in order: on a CPU as many at once as there are cores, elsewhere one after the other.

    Args:
        work: Enters `torch.inference_mode` itself, which holds for one thread alone. It may not use this function.
        parts: Batches; those of fewer than `WORTH_A_STREAM` items are worked on one after the other all the same.
        device: Where the work is done.
        streams: So many parts at once, whatever their size, each with its share of the cores.
        stop: Set when a part fails or the caller is interrupted; work that takes long may look at it and raise.

    Returns:
        The results, in the order of the parts.

    Raises:
        Exception: The first that a part's work raised; parts that were not begun stay so.

    Example:
        >>> side_by_side(sum, [[1, 2, 3, 4], [5, 6, 7, 8]], torch.device("cpu"))
        [10, 26]
    """
    cores = torch.get_num_threads()
    several = sum(len(part) >= WORTH_A_STREAM for part in parts) if streams is None else min(streams, len(parts))
    streams = min(cores, several) if device.type == "cpu" else 1
    if streams <= 1:
        return [work(part) for part in parts]
    started, left, results = threading.Barrier(streams + 1), iter(range(len(parts))), dict[int, Result]()
    stopped = stop or threading.Event()

    def stream() -> None:
        torch.get_num_threads()  # a thread takes the number that was set last when it first asks, and after that keeps its own
        torch.set_num_threads(cores // streams)
        try:
            started.wait()
            for place in left:
                if stopped.is_set():
                    return
                results[place] = work(parts[place])
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(streams) as pool:
        try:
            running = [pool.submit(stream) for _ in range(streams)]
            started.wait()
            torch.set_num_threads(cores)  # threads that somebody else starts take the number that was set last
            for each in as_completed(running):
                each.result()
        except BaseException:  # Ctrl-C among them: the pool waits for its threads before anybody hears of it
            stopped.set()
            started.abort()
            torch.set_num_threads(cores)
            raise
    return [results[place] for place in range(len(parts))]
