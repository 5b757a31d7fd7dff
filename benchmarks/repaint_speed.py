"""How much faster is the repainting loop in step than a plain sequential loop with the same drivers and the same work?

Command:   .venv/bin/python benchmarks/repaint_speed.py [--references 8] [--times 3] [--record]
Protocol:  drawn held-out references, mini/general, 4 rounds of 3 pictures. Plain: one reference after the other, one
           question, one encoding, one picture at a time. In step: all references together. Then both again with a slow
           MLLM in place of the mini one, which takes 200 ms a reply and answers eight at a time, and whose words are those
           that the mini MLLM gave; there the references make two groups under way at once, as `bench repaint` has it.
           Medians of several runs side by side, after a warm-up; the encoders' memory is emptied before each.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from record import append_result

from vernissage.api import Studio
from vernissage.records.plan import Plan
from vernissage.repainting.lockstep import Comparisons, Encodings, Paintings, Ports, Questions, run_together
from vernissage.repainting.loop import Settings, repaint_one
from vernissage.world.draw import draw
from vernissage.world.scene import sample_scene


class SlowMLLM:
    """Answers from what was recorded, 200 ms a reply, eight at a time, as a server would."""

    brief = True
    name = "slow"

    def __init__(self, recorded: dict) -> None:
        self.recorded = recorded

    def answer(self, asks):
        def one(ask):
            time.sleep(0.2)
            return self.recorded[key(ask)]

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(one, asks))


class Recorder:
    brief = True
    name = "recorder"

    def __init__(self, mllm) -> None:
        self.mllm, self.recorded = mllm, {}

    def answer(self, asks):
        replies = self.mllm.answer(asks)
        self.recorded |= {key(ask): reply for ask, reply in zip(asks, replies, strict=True)}
        return replies


def key(ask) -> object:
    images = tuple(image.tobytes() for message in ask.messages for image in message.images)
    return (ask.messages[0].text, ask.seed, ask.temperature, hash(images))


def plain(works, ports: Ports) -> list:
    """Every work to its end before the next, everything one by one."""
    results = []
    for work in works:
        answer = None
        while True:
            try:
                request = work.send(answer)
            except StopIteration as end:
                results.append(end.value)
                break
            if isinstance(request, Questions):
                answer = [ports.mllm.answer([ask])[0] for ask in request.asks]
            elif isinstance(request, Paintings):
                answer = [ports.t2i.paint([plan])[0] for plan in request.plans]
            elif isinstance(request, Comparisons):
                answer = {}
            else:
                assert isinstance(request, Encodings)
                rows = [{name: encoder.encode([image]) for name, encoder in ports.encoders.items()} for image in request.images]
                answer = {name: np.concatenate([row[name] for row in rows]) for name in ports.encoders}
    return results


def two_groups(works, ports: Ports) -> list:
    """One group paints while the other waits for answers."""
    half = len(works) // 2
    with ThreadPoolExecutor(2) as pool:
        return [each for done in pool.map(lambda group: run_together(group, ports), (works[:half], works[half:])) for each in done]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=8)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    studio = Studio()
    rng = np.random.default_rng(8)
    images = [draw(sample_scene(rng, split="held-out"), seed=i).image for i in range(arguments.references)]
    plan = Plan(prompt="x", model="mini/general")
    recorder = Recorder(studio.mllm)
    ports = Ports(recorder, studio.t2i, studio.encoders)

    def works() -> list:
        for encoder in ports.encoders.values():
            encoder._cache._rows.clear()
        return [repaint_one(image, plan, Settings(), brief=True) for image in images]

    run_together(works(), ports)  # warm-up
    plain(works()[:1], ports)
    figures = {}
    for name, mllm in (("mini MLLM", recorder), ("slow MLLM server", SlowMLLM(recorder.recorded))):
        ports = Ports(mllm, studio.t2i, studio.encoders)
        if name != "mini MLLM":  # both ways must find their questions among those recorded
            ports = Ports(Recorded(recorder, mllm), studio.t2i, studio.encoders)
            for way in (plain, two_groups):  # what is asked follows the batches to the last digit
                way(works(), Ports(recorder, studio.t2i, studio.encoders))
        in_step = run_together if name == "mini MLLM" else two_groups
        seconds = {"plain": [], "in step": []}
        for _ in range(arguments.times):
            for way, go in (("plain", plain), ("in step", in_step)):
                started = time.monotonic()
                done = go(works(), ports)
                seconds[way].append(time.monotonic() - started)
                assert all(hasattr(each, "regeneration") for each in done), done
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        figures[name] = medians | {"ratio": medians["plain"] / medians["in step"]}
        print(f"{name:<18} plain {medians['plain']:.1f} s, in step {medians['in step']:.1f} s: {figures[name]['ratio']:.2f} times as fast")
    if arguments.record:
        append_result("repaint_speed", figures, references=arguments.references, times=arguments.times)


class Recorded:
    """The slow server; a question not recorded, because batches decide last digits, is answered by the mini MLLM for free."""

    brief = True
    name = "recorded"

    def __init__(self, recorder: Recorder, slow: SlowMLLM) -> None:
        self.recorder, self.slow = recorder, slow

    def answer(self, asks):
        missing = [ask for ask in asks if key(ask) not in self.recorder.recorded]
        if missing:
            self.recorder.answer(missing)
        return self.slow.answer(asks)


if __name__ == "__main__":
    main()
