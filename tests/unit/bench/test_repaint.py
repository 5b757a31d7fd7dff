"""The repainting benchmark on fakes: tables by hand, runs that are cut off or killed, exports, reports and people's opinions."""

import base64
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vernissage.api import Studio
from vernissage.bench import repaint
from vernissage.bench.export import export_results
from vernissage.bench.people import agreement, read_ratings
from vernissage.bench.references import find_references
from vernissage.bench.repaint import (
    Item,
    by_round,
    compare_models,
    compare_runs,
    exchanged,
    leaderboard,
    open_run,
    read_items,
    rise,
    run_benchmark,
    score_names,
)
from vernissage.bench.report import mark_changes, plot_kinds, render_report
from vernissage.bench.run import Run, read_header, read_lines
from vernissage.drivers.fake import FakeEncoder, FakeMLLM, FakeT2I
from vernissage.errors import BadInput, BadPlan, DriverError, IntegrityError, UnknownName
from vernissage.ports import Ask
from vernissage.records.picture import Picture
from vernissage.records.plan import Arguments
from vernissage.records.regeneration import Candidate, Regeneration, Round
from vernissage.records.tree import SceneObject, UnderstandingTree
from vernissage.records.verdict import Score, Unscored
from vernissage.repainting.loop import Settings
from vernissage.wiring import DriverConfig, StudioConfig
from vernissage.zoo.card import parse_card
from vernissage.zoo.catalogue import Catalogue, package_folder

FAKE = DriverConfig(driver="fake")
MODELS = ["ink", "oil"]
SETTINGS = Settings(rounds=2, candidates=2, words="direct")
LEVELS = {"portrait_1": 0, "portrait_2": 50, "portrait_10": 100, "scene_1": 150, "scene_2": 200, "other/thing": 220, "scene_3": 25}
"""The references: names and how red they are."""


def catalogue() -> Catalogue:
    values = {"title": "T", "description": "D.", "licence": "MIT", "source": {"path": "x"}, "width": 16, "height": 16, "size_multiple": 8}
    rest = {"sizes": {"low": 8, "high": 64}, "defaults": {"steps": 5, "cfg_scale": 2.0}}
    return Catalogue([parse_card({"id": name} | values | rest, folder=package_folder("mini"), name=name) for name in MODELS])


def talk(ask: Ask) -> str:
    """Answers as a function of question and pictures alone; consistency is rated 1 + level / 50, and not at all for level 25."""
    message = ask.messages[0]
    word = message.text.split()[0]
    levels = [image.getpixel((0, 0))[0] for image in message.images]
    if word == "rate":
        return json.dumps({"reason": "so", "rating": 1 + levels[0] // 50}) if levels[0] != 25 else "I cannot."
    if levels:
        return f"{word} {levels}"
    return f"{message.text.splitlines()[1]}, {word} {ask.seed}"


class Slow:
    """Paints as the fake does; sleeps before each picture, and raises KeyboardInterrupt with the last one."""

    def __init__(self, *, sleep_s: float = 0.0, last: int = 10**9) -> None:
        self.fake, self.sleep_s, self.last = FakeT2I(), sleep_s, last
        self._lock, self._count = threading.Lock(), 0

    def paint(self, plans, *, progress=None):
        time.sleep(self.sleep_s * len(plans))
        with self._lock:
            self._count += len(plans)
            if self._count >= self.last:
                raise KeyboardInterrupt
        return self.fake.paint(plans)


def studio(script=talk, t2i=None) -> Studio:
    made = Studio(StudioConfig(mllm=FAKE, t2i=FAKE, clip=FAKE, dinov2=FAKE))
    made.__dict__["mllm"] = FakeMLLM(script, brief=True)
    made.__dict__["all_models"] = catalogue()
    if t2i is not None:
        made.__dict__["t2i"] = t2i
    return made


def references(folder: Path, levels: dict[str, int] = LEVELS):
    for name, level in levels.items():
        Picture.of(Image.new("RGB", (16, 16), (level, 0, 7))).save(folder / f"{name}.png")
    return find_references(folder)


def benchmark(folder: Path, found, *, t2i=None, script=talk, settings=SETTINGS, progress=None, retry=False) -> Run:
    made = studio(script, t2i)
    run = open_run(folder, made, MODELS, found, settings)
    run_benchmark(run, made, found, settings, retry=retry, progress=progress)
    return run


@pytest.fixture
def found(tmp_path, monkeypatch):
    """References, worked on three at a time."""
    monkeypatch.setattr(repaint, "GROUP", 3)
    return references(tmp_path / "data")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    """The run that was never cut off."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repaint, "GROUP", 3)
        return benchmark(folder / "run", references(folder / "data"))


def items_of(folder: Path) -> list[Item]:
    """What a run on disk holds."""
    return read_items(read_header(folder), read_lines(folder))


def lines(run: Run) -> list[bytes]:
    return (run.folder / "items.jsonl").read_bytes().splitlines()


def spoken_of(items: list[Item]) -> set[str]:
    """Hashes of all pictures that items speak of."""
    done = [item.regeneration for item in items if item.regeneration]
    return {each.reference for each in done} | {c.picture for each in done for round in each.rounds for c in round.candidates}


def stored(run: Run | Path) -> set[str]:
    folder = run.folder if isinstance(run, Run) else run
    return {path.stem for path in (folder / "pictures").iterdir()}


# ------------------------------------------------------------------------------------------------------- references


def test_references_come_in_the_order_of_their_numbers_with_their_kinds(tmp_path):
    found = references(tmp_path)
    assert [(each.name, each.kind) for each in found] == [
        ("other/thing", ""),
        ("portrait_1", "portrait"),
        ("portrait_2", "portrait"),
        ("portrait_10", "portrait"),
        ("scene_1", "scene"),
        ("scene_2", "scene"),
        ("scene_3", "scene"),
    ]
    assert find_references(tmp_path, limit=2) == found[:2]
    assert all(each.path.is_file() for each in found)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("3d-render_1", "3d-render"),
        ("水墨画_12", "水墨画"),
        ("oil painting_3", "oil painting"),
        ("00012", ""),
        ("00012_1", ""),
        ("2026-11-22_1", ""),
        ("thing", ""),
        ("a_b_1", ""),
        ("scene_x", ""),
    ],
)
def test_a_kind_is_words_and_no_plain_number(tmp_path, name, kind):
    (tmp_path / f"{name}.png").touch()
    assert [each.kind for each in find_references(tmp_path)] == [kind]


def test_a_folder_without_references_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no folder"):
        find_references(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(BadInput, match="no pictures"):
        find_references(tmp_path)


def test_two_references_of_one_name_are_refused(tmp_path):
    for name in ("a_1.png", "b_1.png", "b_1.JPG"):
        (tmp_path / name).touch()
    with pytest.raises(BadInput, match="Two pictures are called b_1"):
        find_references(tmp_path)


# ------------------------------------------------------------------------------------------------------------ tables


def test_the_table_has_the_means_and_counts_of_what_was_scored(tmp_path, found):
    told = []
    run = benchmark(tmp_path / "run", found, progress=lambda done, total: told.append((done, total)))
    items = read_items(run.header, run.items)
    assert [(item.model, item.reference) for item in items] == [(model, each.name) for model in MODELS for each in found]
    assert (told[0], told[-1]) == ((0, 14), (14, 14))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    table = leaderboard(items, "last")
    assert list(table) == MODELS
    assert list(table["ink"]) == score_names(items) == ["clip", "dinov2", "consistency", "perception", "ssim"]
    for model in MODELS:
        rated = table[model]["consistency"]
        assert rated.estimate.value == pytest.approx(np.mean([0, 0.25, 0.5, 0.75, 1, 1]))
        assert (rated.estimate.n, rated.asked) == (6, 7)
        assert str(rated).endswith("6/7")
        portraits = leaderboard(items, "last", kind="portrait")[model]["consistency"]
        assert (portraits.estimate.value, portraits.estimate.n) == (pytest.approx(0.25), 3)
        cosines = []
        for item in items:
            if item.model == model:
                pair = [run.picture(item.regeneration.reference), run.picture(item.regeneration.last.picture)]
                rows = FakeEncoder().encode(pair)
                cosines.append(float(rows[0] @ rows[1]))
        assert table[model]["clip"].estimate.value == pytest.approx(np.mean(cosines))
        assert table[model]["clip"].estimate.n == 7
    assert stored(run) == spoken_of(items)


def test_a_reference_that_cannot_be_read_is_unscored_and_counted(tmp_path, found):
    found[1].path.write_bytes(b"no picture")
    found[4].path.unlink()
    run = benchmark(tmp_path / "run", found)
    items = read_items(run.header, run.items)
    lost = [item for item in items if item.regeneration is None]
    assert [(item.model, item.reference) for item in lost] == [(model, found[index].name) for model in MODELS for index in (1, 4)]
    assert lost[0].unscored.startswith("BadInput: ")
    assert str(found[1].path) in lost[0].unscored
    for cells in leaderboard(items, "last").values():
        assert (cells["clip"].estimate.n, cells["clip"].asked) == (5, 7)
    sane = benchmark(tmp_path / "sane", [each for index, each in enumerate(found) if index not in (1, 4)])
    assert [item.regeneration for item in items if item.regeneration] == [item.regeneration for item in read_items(sane.header, sane.items)]


def test_a_group_in_which_nothing_can_be_read_is_unscored(tmp_path, found):
    for each in found:
        each.path.write_bytes(b"no picture")
    items = items_of(benchmark(tmp_path / "run", found).folder)
    assert len(items) == 14
    assert score_names(items) == []
    assert leaderboard(items, "last") == {"ink": {}, "oil": {}}


def test_an_mllm_without_a_script_leaves_every_reference_unscored_with_the_reason(tmp_path, found):
    items = items_of(benchmark(tmp_path / "run", found, script=()).folder)
    assert {item.unscored for item in items} == {"ReplyError: The script of this fake has run out."}
    assert all(item.regeneration is None for item in items)


def test_how_the_threads_come_along_does_not_decide_the_table(tmp_path, found, whole):
    path = tmp_path / "run" / "items.jsonl"

    class Late(Slow):
        """Paints the last group of the first model only when something of the second is finished."""

        def paint(self, plans, *, progress=None):
            until = time.monotonic() + 20
            while plans[0].model == "ink" and "[25]" in plans[0].prompt and b'"model": "oil"' not in path.read_bytes():
                assert time.monotonic() < until
                time.sleep(0.002)
            return super().paint(plans)

    run = benchmark(tmp_path / "run", found, t2i=Late())
    models = [json.loads(line)["model"] for line in lines(run)]
    assert models.index("oil") < len(models) - 1 - models[::-1].index("ink"), "they did come along in another way"
    check_same(run, whole)


def test_an_unknown_model_or_another_run_is_refused_before_anything_is_done(tmp_path, found):
    with pytest.raises(UnknownName):
        open_run(tmp_path / "run", studio(), ["ink", "oli"], found, SETTINGS)
    assert not (tmp_path / "run").exists()
    open_run(tmp_path / "run", studio(), MODELS, found, SETTINGS)
    for models, chosen, settings, named in (
        (["ink"], found, SETTINGS, "settings cards oil, settings models"),
        (MODELS, found[:3], SETTINGS, "settings references"),
        (MODELS, found, SETTINGS.model_copy(update={"rounds": 3}), "settings repaint rounds"),
    ):
        with pytest.raises(BadInput, match=f"differs in: {named}"):
            open_run(tmp_path / "run", studio(), models, chosen, settings)


def test_a_run_is_not_gone_on_with_when_a_models_card_has_changed(tmp_path, found):
    open_run(tmp_path / "run", studio(), MODELS, found, SETTINGS)
    made = studio()
    cards = [card.model_copy(update={"defaults": Arguments(steps=99)}) if card.id == "oil" else card for card in catalogue().values()]
    made.__dict__["all_models"] = Catalogue(cards)
    with pytest.raises(BadInput, match="differs in: settings cards"):
        open_run(tmp_path / "run", made, MODELS, found, SETTINGS)


def test_settings_that_the_studio_cannot_follow_are_refused_before_the_folder_is_made(tmp_path, found):
    for settings, error in (
        (Settings(weights={"beauty": 1}), UnknownName),
        (Settings(rate=("clip",)), UnknownName),
        (Settings(words="interrogate"), BadPlan),
        (Settings(words="direct", weights={"facts": 1}), BadPlan),
    ):
        made = studio()
        made.__dict__["clip"] = None if error is BadPlan else made.clip
        with pytest.raises(error):
            open_run(tmp_path / "run", made, MODELS, found, settings)
        assert not (tmp_path / "run").exists()


def test_a_reference_that_was_exchanged_is_noticed(tmp_path, found):
    stated = open_run(tmp_path / "run", studio(), MODELS, found, SETTINGS).header.settings["references"]
    assert list(stated) == [each.name for each in found]
    assert len(set(stated.values())) == len(found)
    path, before = found[2].path, found[2].path.read_bytes()
    Picture.of(Image.new("RGB", (16, 16), "green")).save(path)
    with pytest.raises(BadInput, match="differs in: settings references"):
        open_run(tmp_path / "run", studio(), MODELS, found, SETTINGS)
    path.unlink()
    with pytest.raises(BadInput, match="differs in: settings references"):
        open_run(tmp_path / "run", studio(), MODELS, found, SETTINGS)
    path.write_bytes(before)  # the same file again, later
    assert open_run(tmp_path / "run", studio(), MODELS, found, SETTINGS).items == {}


# -------------------------------------------------------------------------------------------- cut off, gone on with


def check_same(run: Run, whole: Run) -> None:
    """A run that was cut off and resumed has the same lines, without order, the same pictures and the same table."""
    assert sorted(lines(run)) == sorted(lines(whole))
    assert len({json.loads(line)["key"] for line in lines(run)}) == len(lines(run)) == 14
    assert read_items(run.header, run.items) == read_items(whole.header, whole.items)
    assert leaderboard(read_items(run.header, run.items), "best") == leaderboard(read_items(whole.header, whole.items), "best")
    assert stored(run) == stored(whole) == spoken_of(read_items(whole.header, whole.items))


@pytest.mark.parametrize("last", [1, 30, 56])
def test_a_run_that_was_interrupted_while_painting_goes_on_to_the_same_table(tmp_path, found, whole, last):
    with pytest.raises(KeyboardInterrupt):
        benchmark(tmp_path / "run", found, t2i=Slow(last=last))
    assert len(read_lines(tmp_path / "run")) < 14
    assert spoken_of(items_of(tmp_path / "run")) <= stored(tmp_path / "run")
    check_same(benchmark(tmp_path / "run", found), whole)


@pytest.mark.parametrize("saved", [0, 7, 20])
def test_a_run_that_was_interrupted_while_saving_leaves_no_orphans_when_it_has_gone_on(tmp_path, found, whole, monkeypatch, saved):
    with monkeypatch.context() as patch:
        save, calls = Picture.save, []

        def save_some(self, path):
            calls.append(path)
            if len(calls) > saved:
                (path.parent / ".cut-off.part").write_bytes(self.data[:20])
                raise KeyboardInterrupt
            return save(self, path)

        patch.setattr(Picture, "save", save_some)
        with pytest.raises(KeyboardInterrupt):
            benchmark(tmp_path / "run", found)
    assert spoken_of(items_of(tmp_path / "run")) < stored(tmp_path / "run")
    check_same(benchmark(tmp_path / "run", found), whole)


def test_a_finished_run_is_not_done_again(tmp_path, found, whole):
    shutil.copytree(whole.folder, tmp_path / "run")
    t2i = Slow()
    again = benchmark(tmp_path / "run", found, t2i=t2i)
    assert t2i.fake.painted == []
    assert lines(again) == lines(whole)
    assert again.items == whole.items


def test_only_the_groups_that_are_not_whole_are_done_again(tmp_path, found, whole):
    path = shutil.copytree(whole.folder, tmp_path / "run") / "items.jsonl"
    kept = [line for line in lines(whole) if json.loads(line)["key"] != f"oil {found[6].name}"]
    path.write_bytes(b"\n".join(kept) + b"\n")
    t2i = Slow()
    again = benchmark(tmp_path / "run", found, t2i=t2i)
    assert {plan.model for plan in t2i.fake.painted} == {"oil"}
    assert len(t2i.fake.painted) == 4  # the third group is one reference
    check_same(again, whole)


def unscored(run: Run) -> list[str]:
    return [key for key, item in read_lines(run.folder).items() if "unscored" in item]


def test_what_ended_unscored_is_done_again_only_when_that_is_wanted(tmp_path, found, whole):
    run = benchmark(tmp_path / "run", found, script=())
    assert len(unscored(run)) == 14
    left = benchmark(tmp_path / "run", found)
    assert lines(left) == lines(run)  # nothing was done
    again = benchmark(tmp_path / "run", found, retry=True)
    assert unscored(again) == []
    assert again.items == read_lines(again.folder) == whole.items
    assert items_of(again.folder) == items_of(whole.folder)
    assert stored(again) == stored(whole)
    t2i = Slow()
    once_more = benchmark(tmp_path / "run", found, t2i=t2i, retry=True)
    assert len(t2i.fake.painted) == 8  # of the one reference, by two models, that the MLLM will not rate
    assert {plan.prompt.split(", ")[0] for plan in t2i.fake.painted} == {"direct [25]"}
    assert (lines(once_more), once_more.items) == (lines(again), again.items)  # which is no better than before


def test_scores_that_a_server_in_trouble_did_not_give_are_had_by_another_try(tmp_path, found, whole):
    def busy(ask: Ask) -> str:
        if ask.messages[0].text.startswith("rate"):
            raise DriverError("The server is busy.")
        return talk(ask)

    run = benchmark(tmp_path / "run", found, script=busy)
    assert leaderboard(items_of(run.folder), "last")["ink"]["consistency"] == (None, 7)
    assert lines(benchmark(tmp_path / "run", found)) == lines(run)
    again = benchmark(tmp_path / "run", found, retry=True)
    assert again.items == read_lines(again.folder) == whole.items
    assert (stored(again), again.reopened) == (stored(whole), set())


def test_a_try_that_goes_worse_replaces_nothing(tmp_path, found):
    def busy(ask: Ask) -> str:
        raise DriverError("The server is busy.")

    run = benchmark(tmp_path / "run", found)
    again = benchmark(tmp_path / "run", found, retry=True, script=busy)
    assert (lines(again), again.items) == (lines(run), run.items)


def test_others_are_not_done_again_for_a_reference_that_cannot_be_read(tmp_path, found):
    found[2].path.write_bytes(b"no picture")
    readable = [each for each in found if each.name != "scene_3"]
    benchmark(tmp_path / "run", readable)
    t2i = Slow()
    run = benchmark(tmp_path / "run", readable, t2i=t2i, retry=True)
    assert (t2i.fake.painted, len(unscored(run))) == ([], 2)


def test_doing_again_leaves_what_was_scored_as_it_was(tmp_path, found, whole):
    class Half(Slow):
        def paint(self, plans, *, progress=None):
            return [DriverError("no oil")] * len(plans) if plans[0].model == "oil" else super().paint(plans)

    run = benchmark(tmp_path / "run", found, t2i=Half())
    before = lines(run)
    assert (len(before), len(unscored(run))) == (14, 7)
    t2i = Slow()
    again = benchmark(tmp_path / "run", found, t2i=t2i, retry=True)
    assert {plan.model for plan in t2i.fake.painted if "[25]" not in plan.prompt} == {"oil"}
    assert lines(again)[:14] == before  # lines are only appended
    assert len(lines(again)) == 21
    assert again.items == whole.items


def test_what_is_unscored_again_stays_one_item_with_the_later_reason(tmp_path, found):
    benchmark(tmp_path / "run", found[:1], script=())

    def busy(ask: Ask) -> str:
        raise DriverError("The server is busy.")

    told = []
    run = benchmark(tmp_path / "run", found[:1], script=busy, retry=True, progress=lambda *counts: told.append(counts))
    assert [item["unscored"] for item in read_lines(run.folder).values()] == ["DriverError: The server is busy."] * 2
    assert told[-1] == (2, 2)
    assert [item.unscored for item in items_of(run.folder)] == ["DriverError: The server is busy."] * 2


def die_often(folder: Path, data: Path, moments: list[float]) -> None:
    """Run the benchmark in processes that are killed after so many seconds each; a copy of the folder is left of each.

    Called in a process of its own, which has loaded everything, so that the killed ones start at once.
    """
    repaint.GROUP = 3
    found = find_references(data)
    open_run(folder, studio(), MODELS, found, SETTINGS)
    for number, moment in enumerate(moments):
        child = os.fork()
        if not child:
            benchmark(folder, found, t2i=Slow(sleep_s=0.003))
            os._exit(0)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        shutil.copytree(folder, folder.with_name(f"{folder.name}-{number}"))
        print("killed" if os.WIFSIGNALED(status) else "finished")  # noqa: T201  read by the test


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_was_killed_at_any_moment_goes_on_to_the_same_table(tmp_path, found, whole):
    draw = random.Random(time.time_ns())
    moments = [0.01, *(draw.uniform(0.05, 0.25) for _ in range(3))]
    script = (
        "import importlib.util, pathlib\n"
        f"spec = importlib.util.spec_from_file_location('again', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"module.die_often(pathlib.Path({str(tmp_path / 'run')!r}), pathlib.Path({str(tmp_path / 'data')!r}), {moments})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "killed"
    before: set[str] = set()
    for number in range(len(moments)):
        cut = tmp_path / f"run-{number}"
        assert before <= set(read_lines(cut)), moments  # what was finished stays finished
        assert spoken_of(items_of(cut)) <= stored(cut), moments
        before = set(read_lines(cut))
    check_same(benchmark(tmp_path / "run", found), whole)


# --------------------------------------------------------------------------------------- comparisons, made up by hand


def made_up(model: str, reference: str, *rounds: dict[str, float | None] | None, kind: str = "") -> Item:
    """An item whose rounds have one candidate each with those scores, chosen by clip; None is a round without a picture."""
    if not rounds:
        return Item(model, reference, kind, None, "DriverError: down")
    made, highest = [], None
    for number, values in enumerate(rounds, start=1):
        scores = {name: Unscored(reason="no") if value is None else Score(value=value) for name, value in (values or {}).items()}
        chosen_by = scores.get("clip", Unscored(reason="no"))
        picture = "" if values is None else f"{model}-{reference}-{number}"
        value = chosen_by.value if isinstance(chosen_by, Score) else None
        leads = values is not None and (highest is None or (value is not None and value > highest))
        highest = value if leads else highest
        made.append(
            Round(
                number=number,
                aspect="style",
                candidates=(Candidate(prompt="x", seed=0, picture=picture, scores=scores, selection=chosen_by),),
                best=None if values is None else 0,
                leads=leads,
            )
        )
    done = Regeneration(reference="r", model=model, arguments=Arguments(), tree=None, prompt="x", rounds=tuple(made))
    return Item(model, reference, kind, done, "")


def clip(model: str, reference: str, *values: float | None) -> Item:
    return made_up(model, reference, *({"clip": value} for value in values))


def test_models_are_compared_on_the_references_that_both_were_scored_on():
    items = [
        *(clip("a", f"r{number}", value) for number, value in enumerate([0.5, 0.7, 0.9, None, 0.1])),
        *(clip("b", f"r{number}", value) for number, value in enumerate([0.4, 0.9, None, 0.3])),
        made_up("b", "r4"),
        *(clip("c", f"r{number}", value - 0.1) for number, value in enumerate([0.5, 0.7, 0.9])),
    ]
    first, second, third = compare_models(items, "last")
    assert [row[:3] for row in (first, second, third)] == [("a", "b", "clip"), ("a", "c", "clip"), ("b", "c", "clip")]
    assert first.difference.value == pytest.approx((0.1 - 0.2) / 2)
    assert first.difference[1:] == pytest.approx((-0.2, 0.1, 2))
    assert first.p_value == 1  # no signs bring 0.1 and -0.2 nearer to zero
    assert second.difference == pytest.approx((0.1, 0.1, 0.1, 3))
    assert second.p_value == pytest.approx(2 / 8, abs=0.02)
    assert third.difference.value == pytest.approx((0.0 + 0.3) / 2)


def test_models_without_a_common_score_are_not_compared():
    assert compare_models([clip("a", "r", 0.5), clip("b", "s", 0.5)], "last") == []
    assert compare_models([clip("a", "r", 0.5), clip("b", "r", None)], "last") == []
    assert compare_models([clip("a", "r", 0.5)], "last") == []


def test_last_and_best_are_told_apart():
    items = [clip("a", "r", 0.2, 0.8, 0.6), made_up("a", "s", {"clip": 0.4}, None)]
    assert leaderboard(items, "best")["a"]["clip"].estimate.value == pytest.approx(0.6)
    cell = leaderboard(items, "last")["a"]["clip"]
    assert (cell.estimate.value, cell.estimate.n, cell.asked) == (0.6, 1, 2)
    assert str(leaderboard([clip("a", "r", None)], "last")["a"]["clip"]) == "-  0/1"


def test_what_the_rounds_are_worth_is_the_best_picture_so_far():
    items = [
        clip("a", "r", 0.2, 0.8, 0.6),
        clip("a", "s", 0.5, 0.3),  # stopped early
        made_up("b", "r", None, {"clip": 0.9}, None),
        made_up("b", "s"),
    ]
    cells = by_round(items, "clip")
    assert [cell.estimate.value for cell in cells] == pytest.approx([(0.2 + 0.5) / 2, (0.8 + 0.5 + 0.9) / 3, (0.8 + 0.5 + 0.9) / 3])
    assert [(cell.estimate.n, cell.asked) for cell in cells] == [(2, 4), (3, 4), (3, 4)]
    gain = rise(items, "clip")
    assert (gain.value, gain.n) == (pytest.approx((0.6 + 0.0) / 2), 2)
    assert rise(items, "match") is None
    assert by_round([made_up("b", "s")], "clip") == []


def test_the_rise_of_a_rating_follows_the_picture_that_was_chosen():
    items = [made_up("a", "r", {"clip": 0.1, "match": 1.0}, {"clip": 0.9, "match": 0.25})]
    assert rise(items, "match").value == -0.75


def test_two_runs_are_compared_by_model_on_what_they_share():
    first = [clip("a", "r", 0.9), clip("a", "s", 0.5), clip("a", "t", 0.1), clip("b", "r", 0.3), clip("c", "r", 0.3)]
    second = [clip("a", "r", 0.4), clip("a", "s", 0.4), clip("a", "t", None), clip("b", "r", 0.4), clip("b", "s", 0.4)]
    rows = compare_runs(first, second, "last")
    assert [row[:3] for row in rows] == [("a", "a", "clip"), ("b", "b", "clip")]
    assert (rows[0].difference.value, rows[0].difference.n) == (pytest.approx(0.3), 2)
    assert rows[0].p_value == pytest.approx(2 / 4, abs=0.02)
    assert (rows[1].difference.value, rows[1].p_value) == (pytest.approx(-0.1), 1)


def test_pictures_that_only_share_a_name_are_not_compared():
    first, second = [clip("a", "r", 0.9), clip("a", "s", 0.5)], [clip("a", "r", 0.4), clip("a", "s", 0.4)]
    other = second[0]._replace(regeneration=second[0].regeneration.model_copy(update={"reference": "another"}))
    assert exchanged(first, [other, second[1]]) == {"r"}
    (row,) = compare_runs(first, [other, second[1]], "last")
    assert (row.difference.value, row.difference.n) == (pytest.approx(0.1), 1)


# ------------------------------------------------------------------------------------------------------------ export


def test_an_export_replaces_one_of_its_own_run_and_nothing_else(tmp_path, found):
    run = benchmark(tmp_path / "one" / "run", found[:1])
    target = export_results(run, items_of(run.folder), tmp_path / "out")
    before = sorted(path.relative_to(target) for path in target.rglob("*"))
    (target / "ink" / found[0].name / "iteration_9").mkdir()
    export_results(run, items_of(run.folder), tmp_path / "out")
    assert sorted(path.relative_to(target) for path in target.rglob("*")) == before
    other = benchmark(tmp_path / "two" / "run", found[:1], settings=Settings(rounds=1, candidates=1, words="direct"))
    with pytest.raises(BadInput, match="something else than an export of this run"):
        export_results(other, items_of(other.folder), tmp_path / "out")
    assert sorted(path.relative_to(target) for path in target.rglob("*")) == before


def test_the_export_has_the_authors_layout(tmp_path, found):
    found[2].path.write_bytes(b"no picture")
    run = benchmark(tmp_path / "runs" / "mine", found)
    items = read_items(run.header, run.items)
    target = export_results(run, items, tmp_path / "exported")
    assert target == tmp_path / "exported" / "benchmark_results" / "mine"
    for item in items:
        place = target / item.model / item.reference
        if item.regeneration is None:
            assert not place.exists()
            continue
        for each in item.regeneration.rounds:
            folder, name = place / f"iteration_{each.number}", f"iter_{each.number}"
            files = ["0.png", "1.png", f"{name}_best_image.png", f"{name}_metadata.json", "iteration.json"]
            assert sorted(path.name for path in folder.iterdir()) == files
            best = json.loads((folder / f"{name}_metadata.json").read_text(encoding="utf-8"))
            assert best["prompt"] == each.candidates[each.best].prompt
            assert Picture.open(folder / f"{name}_best_image.png").hash == each.candidates[each.best].picture
            told = json.loads((folder / "iteration.json").read_text(encoding="utf-8"))
            assert (told["aspect"], told["feedback"], told["best"]) == (each.aspect, each.feedback, each.best)
            for index, candidate in enumerate(each.candidates):
                assert Picture.open(folder / f"{index}.png").hash == candidate.picture
                assert told["candidates"][index]["prompt"] == candidate.prompt
                assert told["candidates"][index]["scores"]["clip"] == candidate.scores["clip"].value
        assert Picture.open(place / "final" / "best_image.png").hash == item.regeneration.last.picture
        told = json.loads((place / "final" / "final_metrics.json").read_text(encoding="utf-8"))
        assert told["scores"]["clip"] == item.regeneration.last.scores["clip"].value
        assert item.regeneration.tree is None
        assert not (place / "iut.json").exists()
    whole = json.loads((target / "benchmark_final.json").read_text(encoding="utf-8"))
    counts = {"clip": 6, "dinov2": 6, "consistency": 5, "perception": 6, "ssim": 6}  # one is no picture, one would not be rated
    assert whole["scored"] == {"ink": counts, "oil": counts}
    assert whole["means"]["ink"]["clip"] == leaderboard(items, "last")["ink"]["clip"].estimate.value
    for name in ("consistency", "perception"):  # r / 5 where ours is (r - 1) / 4
        assert whole["on_the_papers_scale"]["ink"][name] == pytest.approx((4 * whole["means"]["ink"][name] + 1) / 5)
    rows = {(row["model"], row["image"]): row for row in whole["results"]}
    assert len(rows) == 14
    assert rows["ink", found[2].name]["unscored"].startswith("BadInput")
    assert "clip" not in rows["ink", found[2].name]
    assert rows["oil", "scene_3"]["consistency"] is None  # the MLLM would not rate it
    assert rows["oil", "scene_3"]["type"] == "scene"
    assert rows["oil", "scene_2"]["consistency"] == 1.0


def test_models_whose_names_differ_in_a_slash_do_not_share_a_folder_of_an_export(tmp_path, found):
    run = benchmark(tmp_path / "mine", found[:1])
    items = items_of(run.folder)
    several = [item._replace(model=model) for item in items[:1] for model in ("a/b", "a_b", "a/b-2")]
    target = export_results(run, several, tmp_path / "out")
    assert sorted(path.name for path in target.iterdir() if path.is_dir()) == ["a_b", "a_b-2", "a_b-2-3"]


def test_the_export_has_the_trees(tmp_path, found):
    run = benchmark(tmp_path / "run", found[:1])
    (item, *_) = read_items(run.header, run.items)
    tree = UnderstandingTree(caption="a cat", objects=(SceneObject(name="cat", type="animal", features={"colour": "red"}),))
    with_tree = item._replace(regeneration=item.regeneration.model_copy(update={"tree": tree}))
    target = export_results(run, [with_tree], tmp_path / "exported")
    told = json.loads((target / item.model / item.reference / "iut.json").read_text(encoding="utf-8"))
    assert UnderstandingTree.model_validate(told) == tree


def test_an_export_without_a_single_score_has_no_means(tmp_path, found):
    class Half:
        fake = FakeT2I()

        def paint(self, plans, *, progress=None):
            return [DriverError("no oil")] * len(plans) if plans[0].model == "oil" else self.fake.paint(plans)

    run = benchmark(tmp_path / "run", found, t2i=Half())
    target = export_results(run, items_of(run.folder), tmp_path)
    told = json.loads((target / "benchmark_final.json").read_text(encoding="utf-8"))
    assert set(told["means"]["oil"].values()) == {None}
    assert set(told["scored"]["oil"].values()) == {0}
    assert told["scored"]["ink"]["clip"] == 7
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="--export"):
        export_results(run, items_of(run.folder), tmp_path / "file")


# ------------------------------------------------------------------------------------------------------------ report

EVIL = "<script>alert('&')</script>"


def test_the_report_is_one_self_contained_page_that_names_everything(tmp_path, found):
    found[2].path.write_bytes(b"no picture")
    run = benchmark(tmp_path / "run", found)
    page = render_report(run, read_items(run.header, run.items))
    assert page.startswith("<!doctype html>")
    for name in (*MODELS, *(each.name for each in found), *score_names(read_items(run.header, run.items))):
        assert name in page
    assert "12 of 14 repaintings (every model, every reference) are there" in page
    assert "6/7" in page
    assert "BadInput" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 12 * 3  # reference and two rounds of each that was repainted
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert max(image.size) == 144
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)


def test_changed_words_are_those_of_the_prompt_that_was_revised(tmp_path, found):
    run = benchmark(tmp_path / "run", found[:1])
    item = made_up("ink", found[0].name, {"clip": 0.5}, {"clip": 0.1}, {"clip": 0.7})
    rounds = [
        each.model_copy(update={"candidates": (each.candidates[0].model_copy(update={"prompt": prompt}),)})
        for each, prompt in zip(item.regeneration.rounds, ("red cat", "blue dog", "red cat outdoors"), strict=True)
    ]
    done = item.regeneration.model_copy(update={"rounds": tuple(rounds), "prompt": "red cat"})
    page = render_report(run, [item._replace(regeneration=done)])
    assert re.search(r"added\">outdoors<", page)
    assert not re.search(r"added\">red cat", page)


def test_a_damaged_picture_does_not_keep_the_report_from_being_written(tmp_path, found):
    run = benchmark(tmp_path / "run", found[:1])
    items = items_of(run.folder)
    path = run.picture_path(items[0].regeneration.last.picture)
    data = bytearray(path.read_bytes())
    data[41:51] = bytes(10)
    path.write_bytes(data)
    assert 0 < render_report(run, items).count("data:image") < 6


def test_what_models_and_files_say_cannot_change_the_page(tmp_path, monkeypatch):
    def evil(ask: Ask) -> str:
        if "rate" in ask.messages[0].text.split():
            return json.dumps({"reason": EVIL, "rating": 3}) if "perception" in ask.messages[0].text else EVIL
        return EVIL if ask.messages[0].images[:1] else f"{EVIL} {ask.seed}"

    found = references(tmp_path / "data", {"a<b>c_1": 3, "good_2": 9, "<img src=x onerror=y>_3": 4})
    found[2].path.write_bytes(b"no picture")
    run = benchmark(tmp_path / "run", found, script=evil)
    page = render_report(run, read_items(run.header, run.items))
    assert "<script" not in page
    assert "<b>c" not in page
    assert "<img src=x" not in page
    assert EVIL in unescape(page)
    assert "a<b>c_1" in unescape(page)


def test_a_run_without_a_single_result_has_a_report_too(tmp_path, found):
    run = benchmark(tmp_path / "run", found, script=())
    page = render_report(run, read_items(run.header, run.items))
    assert "0 of 14 repaintings (every model, every reference) are there" in page
    assert page.count("The script of this fake has run out.") == 14


def test_the_plot_has_a_row_for_each_model_in_each_kind():
    items = [
        made_up("a&b", "r", {"clip": 0.2}, kind="cat"),
        made_up("c", "r", {"clip": 0.4}, kind="cat"),
        made_up("c", "s", {"clip": 0.4}, kind="dog<"),
    ]
    plot = plot_kinds(items, "clip", ["cat", "dog<"])
    assert plot.count("<circle") == 5  # both over all and over cats, one over dogs
    assert plot.count(">a&amp;b<") == 3
    assert "dog&lt;" in plot
    assert plot_kinds([clip("a", "r", None)], "clip", []) == ""
    assert "nan" not in plot_kinds([clip("a", "r", 0.5)], "clip", [])  # one item has no spread


def test_changed_words_are_marked():
    assert mark_changes("a cat", "a cat") == [("kept", "a cat")]
    assert mark_changes("", "a cat") == [("added", "a cat")]
    assert mark_changes("a red cat", "a cat at night") == [("kept", "a"), ("gone", "red"), ("kept", "cat"), ("added", "at night")]


# ------------------------------------------------------------------------------------------------------------ people

HEAD = "model,reference,rater,consistency,perception\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_peoples_ratings_are_scaled_and_averaged_by_picture(tmp_path):
    text = "perception,model,reference,rater,consistency,remark\n3,a,r,Ann,1,hm\n5,a,r,Bob,4,\n2,a,s,Ann,1.5,\n"
    assert read_ratings(write(tmp_path / "people.csv", "\ufeff" + text)) == {
        ("a", "r"): {"consistency": pytest.approx((0 + 0.75) / 2), "perception": pytest.approx((0.5 + 1) / 2)},
        ("a", "s"): {"consistency": 0.125, "perception": 0.25},
    }


@pytest.mark.parametrize("value", ["0", "6", "", "good", "nan", "inf", "-3", "4,5"])
def test_a_rating_that_is_none_is_named_with_its_line(tmp_path, value):
    path = write(tmp_path / "people.csv", f'{HEAD}a,r,Ann,1,5\na,s,Ann,3,"{value}"\n')
    with pytest.raises(BadInput, match=rf"people\.csv, line 3: perception is '{value}'"):
        read_ratings(path)


def test_lines_are_counted_as_an_editor_does(tmp_path):
    """Blank lines and quoted line ends count, although they are no rows of their own."""
    text = f'{HEAD}\n\na,r,"Ann\nMaria\n",1,5\n\na,s,Ann,3,9\n'
    assert text.splitlines()[7] == "a,s,Ann,3,9"
    for ends in ("\n", "\r\n"):
        (tmp_path / "people.csv").write_bytes(text.replace("\n", ends).encode())
        with pytest.raises(BadInput, match=r"people\.csv, line 8: perception is '9'"):
            read_ratings(tmp_path / "people.csv")


def test_a_line_that_is_too_short_is_named(tmp_path):
    with pytest.raises(BadInput, match="line 2: consistency is ''"):
        read_ratings(write(tmp_path / "people.csv", f"{HEAD}a,r,Ann\n"))


@pytest.mark.parametrize("content", [b"", HEAD.encode(), b"model,reference,rater,consistency\na,b,c,1\n", b"\xff\xfe\x00", None])
def test_ratings_that_cannot_be_read_are_refused(tmp_path, content):
    path = tmp_path / "people.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=re.escape(str(path))):
        read_ratings(path)


def test_agreement_with_people_is_that_of_scipy(tmp_path):
    from scipy import stats

    rng = np.random.default_rng(0)
    items, rows, ours, theirs = [], [], [], []
    for number in range(12):
        value, rating = round(float(rng.uniform()), 1), int(rng.integers(1, 6))
        items.append(clip("a", f"r{number}", value))
        rows.append(f"a,r{number},Ann,{rating},3\n")
        ours.append(value)
        theirs.append(rating)
    items += [clip("a", "unrated", 0.5), clip("a", "unscored", None), made_up("a", "failed")]
    rows += ["a,unscored,Ann,5,3\n", "a,failed,Ann,5,3\n", "b,r1,Ann,5,3\n"]
    consistency, perception = agreement(items, read_ratings(write(tmp_path / "people.csv", HEAD + "".join(rows))))
    assert (consistency.score, consistency.opinion, consistency.n) == ("clip", "consistency", 12)
    assert consistency.srcc.value == pytest.approx(stats.spearmanr(ours, theirs).statistic)
    assert consistency.plcc.value == pytest.approx(stats.pearsonr(ours, theirs).statistic)
    assert all(-1 <= each.low < each.value < each.high <= 1 for each in (consistency.srcc, consistency.plcc))
    assert consistency.krcc == pytest.approx(stats.kendalltau(ours, theirs).statistic)
    assert perception == ("clip", "perception", None, None, None, 12)  # everybody said 3


def test_a_distance_agrees_with_people_where_it_is_small(tmp_path):
    items = [clip("a", f"r{number}", 0.1 * number) for number in (1, 2, 3, 4)]
    renamed = [
        item._replace(regeneration=Regeneration.model_validate_json(item.regeneration.model_dump_json().replace('"clip"', '"lpips"')))
        for item in items
    ]
    opinions = read_ratings(
        write(tmp_path / "people.csv", HEAD + "".join(f"a,r{number},Ann,{number},{number}\n" for number in (1, 2, 3, 4)))
    )
    (one, _), (other, _) = agreement(items, opinions), agreement(renamed, opinions)
    assert (one.srcc.value, other.score, other.srcc.value) == (pytest.approx(1), "lpips", pytest.approx(-1))


def test_agreement_follows_the_last_or_the_best_round(tmp_path):
    items = [clip("a", f"r{number}", 0.1 * number, -0.1 * number) for number in (1, 2, 3, 4)]
    opinions = read_ratings(
        write(tmp_path / "people.csv", HEAD + "".join(f"a,r{number},Ann,{number},{number}\n" for number in (1, 2, 3, 4)))
    )
    assert agreement(items, opinions, "best")[0].srcc.value == pytest.approx(1)
    assert agreement(items, opinions)[0].srcc.value == pytest.approx(-1)


def test_a_rater_who_rates_a_picture_twice_is_refused(tmp_path):
    path = write(tmp_path / "people.csv", HEAD + "a,r,Ann,5,5\na,r,Bob,1,1\na,r,Ann,5,5\n")
    with pytest.raises(BadInput, match=r"line 4: 'Ann' rates 'r' by 'a' once more"):
        read_ratings(path)


def test_a_painter_that_fails_for_one_model_leaves_the_other_scored(tmp_path, found):
    class Half:
        fake = FakeT2I()

        def paint(self, plans, *, progress=None):
            return [DriverError("no oil")] * len(plans) if plans[0].model == "oil" else self.fake.paint(plans)

    items = items_of(benchmark(tmp_path / "run", found, t2i=Half()).folder)
    table = leaderboard(items, "last")
    assert (table["ink"]["clip"].estimate.n, table["oil"]["clip"]) == (7, (None, 7))
    assert all("no oil" in item.unscored for item in items if item.model == "oil")
    assert compare_models(items, "last") == []


@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_an_item_that_lost_a_picture_is_done_again_and_the_table_is_the_same(tmp_path, found, whole, damage):
    shutil.copytree(whole.folder, tmp_path / "run")
    (lost, *_) = sorted((tmp_path / "run" / "pictures").iterdir())
    if damage == "gone":
        lost.unlink()
    else:
        lost.write_bytes(lost.read_bytes()[:-20])
    run = benchmark(tmp_path / "run", found)
    assert len(lines(run)) > len(lines(whole)), "what spoke of it was done again"
    assert leaderboard(items_of(run.folder), "last") == leaderboard(items_of(whole.folder), "last")
    assert stored(run) == stored(whole)
    assert lost.read_bytes() == (whole.folder / "pictures" / lost.name).read_bytes()


def test_an_item_that_lost_a_picture_keeps_its_result_and_the_rest_where_it_cannot_be_done_again(tmp_path, found, whole):
    shutil.copytree(whole.folder, tmp_path / "run")
    (lost, *_) = sorted((tmp_path / "run" / "pictures").iterdir())
    lost.unlink()

    def down(_ask):
        raise DriverError("the server is down")

    run = benchmark(tmp_path / "run", found, script=down)
    assert leaderboard(items_of(run.folder), "last") == leaderboard(items_of(whole.folder), "last")
    assert stored(run) == stored(whole) - {lost.stem}
    assert render_report(run, items_of(run.folder))
    run = benchmark(tmp_path / "run", found)
    assert stored(run) == stored(whole), "done when the server is back"


@pytest.mark.parametrize("change", [{"kind": None}, {"regeneration": {"x": 1}}])
def test_a_line_with_something_else_in_it_is_told(tmp_path, found, whole, change):
    shutil.copytree(whole.folder, tmp_path / "run")
    item = {name: value for name, value in (json.loads(lines(whole)[0]) | change).items() if value is not None}
    path = tmp_path / "run" / "items.jsonl"
    path.write_bytes(b"\n".join([json.dumps(item).encode(), *lines(whole)[1:], b""]))
    with pytest.raises(IntegrityError, match=f"the line of '{item['key']}' is damaged"):
        benchmark(tmp_path / "run", found)


def test_a_run_states_who_judges_and_who_answers(tmp_path, found):
    stated = open_run(tmp_path / "run", studio(), MODELS, found, Settings(rater="judge")).header.settings
    assert stated["judge"] == "zero-shot"
    assert (stated["studio"]["mllm"]["driver"], stated["studio"]["t2i"]["driver"]) == ("fake", "fake")


def test_runs_are_compared_by_the_round_that_is_asked_for():
    first, second = [clip("a", "r", 0.9, 0.1)], [clip("a", "r", 0.4, 0.3)]
    (last,), (best,) = compare_runs(first, second, "last"), compare_runs(first, second, "best")
    assert (last.difference.value, best.difference.value) == (pytest.approx(-0.2), pytest.approx(0.5))


def test_a_judges_ratings_are_not_exported_on_the_papers_scale(tmp_path, found):
    for rater, there in (("judge", False), ("mllm", True)):
        run = open_run(tmp_path / rater, studio(), MODELS, found, Settings(rater=rater))
        told = json.loads((export_results(run, [], tmp_path / f"out-{rater}") / "benchmark_final.json").read_text(encoding="utf-8"))
        assert ("on_the_papers_scale" in told) is there
