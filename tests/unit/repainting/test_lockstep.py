"""Works side by side: what is batched with what, to whom answers go, and whom a failure ends."""

from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from vernissage.drivers.fake import FakeEncoder, FakeMLLM, FakeT2I
from vernissage.errors import BadPlan, DriverError, OutOfMemory, ReplyError
from vernissage.ports import Ask, Message
from vernissage.records.plan import Arguments, Plan
from vernissage.repainting.lockstep import Encodings, Paintings, Ports, Questions, run_together


class Call(NamedTuple):
    port: str
    size: int


class Spy:
    """Passes everything on to the fakes and keeps what was asked at once; a port named in `broken` fails."""

    def __init__(self, script=lambda ask: f"re: {ask.messages[0].text}"):
        self.calls: list[Call] = []
        self.broken: dict[str, Exception] = {}
        self.mllm, self.t2i, self.encoder = FakeMLLM(script), FakeT2I(), FakeEncoder()

    def _note(self, port: str, things) -> None:
        self.calls.append(Call(port, len(things)))
        if port in self.broken:
            raise self.broken[port]

    def answer(self, asks):
        self._note("answer", asks)
        return self.mllm.answer(asks)

    def paint(self, plans, *, progress=None):
        self._note("paint", plans)
        return self.t2i.paint(plans, progress=progress)

    def encode(self, images):
        self._note("encode", images)
        return self.encoder.encode(images)

    @property
    def ports(self) -> Ports:
        return Ports(self, self, {"fake": self})


def ask(text: str) -> Ask:
    return Ask(messages=(Message(text=text),))


def plan(prompt: str) -> Plan:
    return Plan(prompt=prompt, model="m", arguments=Arguments(seed=1, width=8, height=8))


def inquire(name: str, *counts: int):
    """Asks so many questions in each wave; its result is all answers."""
    heard = []
    for wave, count in enumerate(counts):
        replies = yield Questions([ask(f"{name}{wave}.{number}") for number in range(count)])
        heard.append([reply.text for reply in replies])
    return heard


def paint(name: str, questions: int = 0, count: int = 1):
    for number in range(questions):
        yield Questions([ask(f"{name}.{number}")])
    pictures = yield Paintings([plan(f"{name}.{number}") for number in range(count)])
    return [picture.plan.prompt for picture in pictures]


def test_all_questions_of_a_group_are_asked_in_one_call():
    spy = Spy()
    results = run_together([inquire("a", 2, 1), inquire("b", 1, 3), inquire("c", 4, 2)], spy.ports)
    assert spy.calls == [("answer", 7), ("answer", 6)]
    assert [len(wave) for result in results for wave in result] == [2, 1, 1, 3, 4, 2]


def test_answers_are_dealt_back_to_the_work_that_asked_in_its_order():
    first, second, third = run_together([inquire("a", 2, 1), inquire("b", 0, 3), inquire("c", 1)], Spy().ports)
    assert first == [["re: a0.0", "re: a0.1"], ["re: a1.0"]]
    assert second == [[], ["re: b1.0", "re: b1.1", "re: b1.2"]]
    assert third == [["re: c0.0"]]


def test_features_and_pictures_are_dealt_back_to_the_work_that_asked():
    def look(*levels: int):
        images = [Image.new("RGB", (4, 4), (level, 0, 0)) for level in levels]
        seen = yield Encodings(images)
        return images, seen["fake"]

    results = run_together([look(1, 2), look(3), look(2, 4, 5)], Spy().ports)
    for images, rows in results:
        assert np.array_equal(rows, FakeEncoder().encode(images))
    assert run_together([paint("a", count=2), paint("b", count=1)], Spy().ports) == [["a.0", "a.1"], ["b.0"]]


def test_paintings_wait_until_nobody_has_questions_left():
    spy = Spy()
    results = run_together([paint("a"), paint("b", questions=3), paint("c", questions=1, count=2)], spy.ports)
    assert spy.calls == [("answer", 2), ("answer", 1), ("answer", 1), ("paint", 4)]
    assert results == [["a.0"], ["b.0"], ["c.0", "c.1"]]


def test_encodings_wait_for_questions_and_paintings_wait_for_encodings():
    def look():
        yield Encodings([Image.new("RGB", (4, 4))])
        yield Encodings([Image.new("RGB", (4, 4))] * 2)

    spy = Spy()
    run_together([paint("a"), look(), inquire("b", 1, 1)], spy.ports)
    assert spy.calls == [("answer", 1), ("answer", 1), ("encode", 1), ("encode", 2), ("paint", 1)]


def test_every_encoder_sees_every_picture():
    def look():
        seen = yield Encodings([Image.new("RGB", (4, 4))])
        return {name: rows.shape for name, rows in seen.items()}

    spy = Spy()
    (found,) = run_together([look()], Ports(spy, spy, {"one": FakeEncoder(), "two": spy}))
    assert found == {"one": (1, 8), "two": (1, 8)}
    assert run_together([look()], Ports(spy, spy, {})) == [{}]


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_a_work_that_raises_ends_alone(moment):
    error = BadPlan("no")

    def fail():
        for number in range(moment):
            yield Questions([ask(f"x{number}")])
        raise error

    results = run_together([inquire("a", 1, 1, 1), fail(), inquire("b", 1, 1, 1)], Spy().ports)
    assert results[1] is error
    assert results[0] == [["re: a0.0"], ["re: a1.0"], ["re: a2.0"]]
    assert results[2][2] == ["re: b2.0"]


def test_one_question_that_fails_is_an_answer_like_others():
    def script(ask: Ask) -> str:
        if ask.messages[0].text.startswith("b"):
            raise ReplyError("nonsense", reply="?")
        return "fine"

    def hear(name: str):
        (reply,) = yield Questions([ask(name)])
        return reply

    good, bad = run_together([hear("a"), hear("b")], Spy(script).ports)
    assert good.text == "fine"
    assert isinstance(bad, ReplyError)


@pytest.mark.parametrize("error", [DriverError("down"), OutOfMemory("too big")])
def test_a_port_that_fails_as_a_whole_answers_every_question_and_plan_with_its_error(error):
    def want(name: str, questions: int, plans: int):
        replies = yield Questions([ask(f"{name}{number}") for number in range(questions)])
        pictures = yield Paintings([plan(f"{name}{number}") for number in range(plans)])
        return replies, pictures

    spy = Spy()
    spy.broken = {"answer": error, "paint": error}
    found = run_together([want("a", 2, 1), want("b", 0, 3), want("c", 1, 0)], spy.ports)
    assert found == [([error] * 2, [error]), ([], [error] * 3), ([error], [])]
    assert spy.calls == [("answer", 3), ("paint", 4)]


def test_a_port_that_fails_once_does_not_fail_those_who_ask_it_later():
    def ask_again():
        first = yield Questions([ask("first")])
        spy.broken.clear()
        second = yield Questions([ask("second")])
        return [*first, *second]

    spy = Spy()
    spy.broken["answer"] = error = DriverError("down")
    (found,) = run_together([ask_again()], spy.ports)
    assert found[0] is error
    assert found[1].text == "re: second"


def test_an_encoder_that_fails_is_raised_where_the_features_were_wanted():
    def end():
        yield Encodings([Image.new("RGB", (4, 4))])
        raise AssertionError("It went on without features.")

    def go_on():
        try:
            yield Encodings([Image.new("RGB", (4, 4))] * 2)
        except DriverError as caught:
            (reply,) = yield Questions([ask("after")])
            return caught, reply.text

    spy = Spy()
    spy.broken["encode"] = error = DriverError("no memory")
    found = run_together([end(), go_on(), inquire("b", 1, 1), paint("c")], spy.ports)
    assert found == [error, (error, "re: after"), [["re: b0.0"], ["re: b1.0"]], ["c.0"]]
    assert spy.calls == [("answer", 1), ("answer", 1), ("encode", 3), ("answer", 1), ("paint", 1)]


def test_a_work_may_raise_another_error_where_its_encoder_failed():
    def translate():
        try:
            yield Encodings([Image.new("RGB", (4, 4))])
        except DriverError as error:
            raise BadPlan("no encoder") from error

    spy = Spy()
    spy.broken["encode"] = DriverError("no memory")
    (found,) = run_together([translate()], spy.ports)
    assert isinstance(found, BadPlan)


def test_encodings_of_nothing_make_no_call():
    def look(count: int):
        seen = yield Encodings([Image.new("RGB", (4, 4))] * count)
        return [len(rows) for rows in seen.values()]

    spy = Spy()
    spy.broken["encode"] = DriverError("must not be asked")
    assert run_together([look(0), look(0)], spy.ports) == [[0], [0]]
    assert spy.calls == []
    spy.broken.clear()
    assert run_together([look(0), look(2)], spy.ports) == [[0], [2]]
    assert spy.calls == [("encode", 2)]


def test_a_mistake_in_the_program_is_not_swallowed():
    def fail():
        yield Questions([])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_together([inquire("a", 1), fail()], Spy().ports)


def test_empty_requests_make_no_calls_and_are_answered_with_nothing():
    def want_nothing():
        assert (yield Questions([])) == []
        assert (yield Paintings([])) == []
        return "done"

    spy = Spy()
    assert run_together([want_nothing(), want_nothing()], spy.ports) == ["done", "done"]
    assert spy.calls == []


def test_works_that_want_nothing_and_no_works_at_all_end_at_once():
    def idle():
        return 5
        yield

    spy = Spy()
    assert run_together([idle(), idle()], spy.ports) == [5, 5]
    assert run_together([], spy.ports) == []
    assert spy.calls == []
