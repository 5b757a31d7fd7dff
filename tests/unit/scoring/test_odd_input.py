"""Odd input and bad luck in scoring: each of these once gave wrong numbers, or ended a run."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vernissage.drivers.fake import FakeEncoder, FakeMLLM
from vernissage.errors import BadInput
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Plan
from vernissage.records.verdict import Score, Unscored, Verdict
from vernissage.scoring.features import FeatureStore, Gathered
from vernissage.scoring.layouts import find_entries
from vernissage.scoring.registry import find_metrics
from vernissage.scoring.score import Sources, score_entries


def noise(seed, size=(16, 12)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def save(path, seed=0, prompt=""):
    provenance = Provenance(plan=Plan(prompt=prompt, model="m")) if prompt else None
    made = Picture.of(noise(seed), provenance)
    if path.endswith(".png"):
        return made.save(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    made.image.save(path)
    return Path(path)


class Counting:
    name = "counting"

    def __init__(self):
        self.seen = 0
        self.inner = FakeEncoder()

    def encode_raw(self, images):
        self.seen += len(images)
        return self.inner.encode_raw(images)

    def encode(self, images):
        self.seen += len(images)
        return self.inner.encode(images)

    def encode_text(self, texts):
        return self.inner.encode_text(texts)


class Blind(Counting):
    name = "blind"

    def encode_raw(self, images):
        rows = super().encode_raw(images)
        rows[0] = np.nan
        return rows


class Blank(Counting):
    """Like a model whose features are zero or overflowed for one picture."""

    name = "blank"

    def encode_raw(self, images):
        return super().encode_raw(images) * 0


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def score(folder, metrics, sources, **options):
    return score_entries(find_entries(Path(folder)), find_metrics(metrics.split(",")), sources, **options)


# ---- honesty


@pytest.mark.parametrize("kind", [Blind, Blank])
def test_a_picture_whose_features_are_no_numbers_has_no_clipscore(kind):
    save("in/a.png", 0, "x")
    scored = score("in", "clipscore", Sources(clip=kind()))
    assert isinstance(scored.pictures["clipscore"][0], Unscored)


def test_a_nan_from_an_encoder_does_not_end_a_run_with_a_set_metric():
    for i in range(6):
        save(f"in/{i}.png", i, "x")
        save(f"ref/{i}.png", 10 + i)
    scored = score("in", "clipscore,clip-fid", Sources(clip=Blind()), reference=Path("ref"))
    assert sum(isinstance(s, Score) for s in scored.pictures["clipscore"]) == 5


def test_a_nan_from_an_encoder_is_not_kept(tmp_path):
    FeatureStore(Blind(), tmp_path).encode([key_of("a")], [noise(0)])
    encoder = Counting()
    encoder.name = "blind"
    assert np.isfinite(FeatureStore(encoder, tmp_path).encode([key_of("a")], [noise(0)])).all()


def test_a_nan_from_an_mllm_does_not_end_a_run(monkeypatch):
    save("in/a.png", 0, "x")
    save("in/b.png", 1, "x")
    monkeypatch.setattr(FakeMLLM, "choose", lambda self, asks, options: [np.full(2, np.nan), np.array([0.3, 0.7])])
    scored = score("in", "vqascore", Sources(mllm=FakeMLLM()))
    assert isinstance(scored.pictures["vqascore"][0], Unscored)
    assert scored.pictures["vqascore"][1].value == 0.3


def test_pictures_that_a_set_metric_leaves_out_are_told():
    for i in range(6):
        save(f"in/{i}.png", i)
        save(f"ref/{i}.png", 10 + i)
    Path("in/6.png").write_bytes(b"no picture")
    Path("ref/6.png").write_bytes(b"no picture")
    scored = score("in", "clip-fid", Sources(clip=Counting()), reference=Path("ref"))
    assert "1" in scored.sets["clip-fid"].reason.replace("6 pictures for 8", "")


def test_a_broken_reference_costs_only_scores_that_need_it():
    save("in/a.png", 0, "x")
    Path("ref").mkdir()
    Path("ref/a.png").write_bytes(b"no picture")
    scored = score("in", "clipscore,psnr", Sources(clip=Counting()), reference=Path("ref"))
    assert isinstance(scored.pictures["psnr"][0], Unscored)
    assert isinstance(scored.pictures["clipscore"][0], Score)


# ---- the cache


def rows_of(keys):
    return FakeEncoder().encode_raw([noise(ord(key)) for key in keys])


def key_of(letter):
    return letter.encode() * 16


def use(folder, keys):
    return FeatureStore(FakeEncoder(), folder).encode([key_of(key) for key in keys], [noise(ord(key)) for key in keys])


def test_an_encoder_whose_features_have_another_length_now_starts_anew(tmp_path):
    use(tmp_path, "ab")

    class Longer:
        name = "fake"

        def encode_raw(self, images):
            return np.tile(FakeEncoder().encode_raw(images), 2)

    store = FeatureStore(Longer(), tmp_path)
    assert store.encode([key_of("c")], [noise(ord("c"))]).shape == (1, 16)
    assert np.array_equal(store.encode([key_of("a")], [noise(ord("a"))]), np.tile(rows_of("a"), 2))


def test_two_runs_at_once_do_not_mix_their_features_up(tmp_path):
    one, two = FeatureStore(FakeEncoder(), tmp_path), FeatureStore(FakeEncoder(), tmp_path)
    one.encode([key_of("a")], [noise(ord("a"))])
    two.encode([key_of("b"), key_of("c")], [noise(ord("b")), noise(ord("c"))])
    one.encode([key_of("d")], [noise(ord("d"))])
    assert np.array_equal(use(tmp_path, "abcd"), rows_of("abcd"))


def test_one_encoder_for_two_ports_does_not_mix_features_up():
    for i in range(70):
        save(f"in/{i}.png", i, "x" if i % 2 else "")
        save(f"ref/{i}.png", 100 + i)
    sources = Sources(clip=FakeEncoder(), dinov2=FakeEncoder())
    for _ in range(2):
        cached = score("in", "clipscore,dinov2", sources, reference=Path("ref"), cache=Path("cache"))
    assert cached.pictures == score("in", "clipscore,dinov2", sources, reference=Path("ref")).pictures


def test_a_cut_off_line_of_the_journal_costs_no_score_after_it():
    for i in range(3):
        save(f"in/{i}.png", i, "x")
    score("in", "vqascore", Sources(mllm=FakeMLLM()), cache=Path("cache"))
    path = Path("cache/scores.jsonl")
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    score("in", "vqascore", Sources(mllm=FakeMLLM()), cache=Path("cache"))
    third = FakeMLLM()
    score("in", "vqascore", Sources(mllm=third), cache=Path("cache"))
    assert not third.asked


def test_a_cache_that_cannot_be_written_is_told():
    save("in/a.png", 0, "x")
    Path("cache").touch()
    with pytest.raises(BadInput):
        score("in", "clipscore", Sources(clip=FakeEncoder()), cache=Path("cache"))


# ---- once


def test_each_picture_is_encoded_once_where_some_lack_a_prompt_and_nothing_is_kept():
    for i in range(4):
        save(f"in/{i}.png", i, "x" if i else "")
        save(f"ref/{i + 1}.png", 10 + i)
    encoder = Counting()
    score("in", "clipscore,clip-image,clip-fid", Sources(clip=encoder), reference=Path("ref"))
    assert encoder.seen <= 8  # 4 pictures and 4 references


class Judge:
    name = "judge"

    def __init__(self):
        self.seen = 0

    def judge(self, images, prompts, questions):
        self.seen += len(images)
        return [Verdict(perception=Score(value=1.0), correspondence=Score(value=2.0), judge="j") for _ in images]


def test_the_judge_is_asked_once_a_picture_where_one_lacks_a_prompt():
    for i in range(4):
        save(f"in/{i}.png", i, "x" if i else "")
    judge = Judge()
    score("in", "judge-perception,judge-correspondence", Sources(judge=judge))
    assert judge.seen == 4


def test_the_sample_does_not_hold_the_batches_it_was_drawn_from():
    gathered = Gathered(limit=10)
    for seed in range(50):
        gathered.add(
            np.random.default_rng(seed).normal(size=(64, 8)).astype(np.float32),
            asked=len(np.random.default_rng(seed).normal(size=(64, 8)).astype(np.float32)),
        )
    held = {id(row if row.base is None else row.base): (row if row.base is None else row.base).nbytes for row in gathered.sample}
    assert sum(held.values()) <= 10 * 8 * 4


# ---- layouts


@pytest.mark.parametrize("strange", ["\u2028", "\x0b", "\x85", "\x0c", "\x1c"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rows_end_at_line_ends_alone(strange, suffix):
    prompt = f"a{strange}cat"
    text = f"image,prompt\na.png,{prompt}\n" if suffix == "csv" else json.dumps({"image": "a.png", "prompt": prompt}, ensure_ascii=False)
    Path(f"t.{suffix}").write_text(text, encoding="utf-8", newline="")
    (entry,) = find_entries(Path(f"t.{suffix}"))
    assert entry.prompt == prompt


@pytest.mark.parametrize("row", ['{"image": 5}', '{"image": "a.png", "prompt": ["x"]}', '{"image": "a.png", "prompt": 5}', "[" * 100000])
def test_a_row_of_another_kind_is_refused(row):
    Path("t.jsonl").write_text(row, encoding="utf-8")
    save("a.png")
    with pytest.raises(BadInput):
        score("t.jsonl", "clipscore", Sources(clip=FakeEncoder()))


def test_a_prompt_with_half_a_character_ends_no_run():
    Path("t.jsonl").write_text('{"image": "a.png", "prompt": "a \\ud800 cat", "group": "\\ud800"}', encoding="utf-8")
    save("a.png")
    from vernissage.cli.score import table_of
    from vernissage.records.table import write_table

    scored = score("t.jsonl", "clipscore", Sources(clip=FakeEncoder()))
    write_table(Path("out.csv"), table_of(scored))


def test_a_group_with_half_a_character_is_written():
    Path("t.jsonl").write_text('{"image": "a.png", "prompt": "a cat", "group": "\\ud800"}', encoding="utf-8")
    save("a.png")
    from vernissage.cli.score import table_of
    from vernissage.records.table import write_table

    scored = score("t.jsonl", "clipscore", Sources(clip=FakeEncoder()))
    write_table(Path("out.csv"), table_of(scored))


def test_a_prompt_for_a_path_goes_before_one_for_a_like_named_file_elsewhere():
    save("in/a.png")
    save("in/sub/a.png")
    Path("p.csv").write_text("image,prompt\na.png,one\nsub/a.png,two\n", encoding="utf-8")
    found = {entry.name: entry.prompt for entry in find_entries(Path("in"), prompts=Path("p.csv"))}
    assert found == {"a.png": "one", "sub/a.png": "two"}


def test_an_ambiguous_bare_name_is_refused():
    save("in/x/a.png")
    Path("p.csv").write_text("image,prompt\ny/a.png,one\nz/a.png,two\nx/b.png,three\n", encoding="utf-8")
    save("in/x/b.png")
    with pytest.raises(BadInput, match="several prompts"):
        find_entries(Path("in"), prompts=Path("p.csv"))


def test_a_reference_by_path_is_found_beside_a_like_named_one_below():
    save("in/a.png", 0)
    save("ref/a.png", 0)
    save("ref/sub/a.png", 1)
    scored = score("in", "psnr", Sources(), reference=Path("ref"))
    assert scored.pictures["psnr"] == [Score(value=100)]


def test_a_top_reference_is_no_match_for_ambiguous_bare_names():
    save("in/x/b.png", 0)
    save("ref/a/b.png", 1)
    save("ref/b.png", 0)
    scored = score("in", "psnr", Sources(), reference=Path("ref"))
    assert isinstance(scored.pictures["psnr"][0], Unscored)


def test_a_reference_of_the_same_name_goes_before_one_of_another_suffix():
    save("in/a.bmp", 0)
    save("in/a.png", 1)
    save("ref/a.bmp", 0)
    save("ref/a.png", 1)
    scored = score("in", "psnr", Sources(), reference=Path("ref"))
    assert scored.pictures["psnr"] == [Score(value=100)] * 2


def test_a_dataset_folder_of_hugging_face_is_no_geneval():
    save("in/train/1.png", 0)
    Path("in/train/metadata.jsonl").write_text('{"file_name": "1.png", "text": "a cat"}\n', encoding="utf-8")
    assert len(find_entries(Path("in"))) == 1


def test_a_geneval_folder_without_metadata_is_not_dropped():
    save("in/0/samples/0.png", 0)
    save("in/1/samples/0.png", 1)
    Path("in/0/metadata.jsonl").write_text('{"prompt": "a cat"}\n', encoding="utf-8")
    assert len(find_entries(Path("in"))) == 2


def test_geneval_prompts_of_null_are_none():
    save("in/0/samples/0.png", 0)
    Path("in/0/metadata.jsonl").write_text('{"prompt": null, "tag": null}\n', encoding="utf-8")
    try:
        (entry,) = find_entries(Path("in"))
    except BadInput:
        return
    assert not entry.prompt
    assert entry.group == ""


def test_geneval_folders_come_in_the_order_of_their_numbers():
    for index in (2, 10):
        save(f"in/{index}/samples/0.png", index)
        Path(f"in/{index}/metadata.jsonl").write_text('{"prompt": "a cat"}\n', encoding="utf-8")
    assert [entry.name.split("/")[0] for entry in find_entries(Path("in"))] == ["2", "10"]


def test_samples_within_samples_are_found_once():
    save("samples/color/samples/a cat_000000.png", 0)
    assert len(find_entries(Path("samples"))) == 1


def test_some_compbench_pictures_of_another_name_are_not_dropped():
    save("in/samples/a cat_000000.png", 0)
    save("in/samples/a dog.png", 1)
    assert len(find_entries(Path("in"))) == 2


# ---- statistics


@pytest.mark.parametrize("content", ["npy", "cut", "nan"])
def test_statistics_that_cannot_be_used_are_told_before_anything_is_encoded(content):
    for i in range(3):
        save(f"in/{i}.png", i)
    path = Path("ref.npz")
    np.savez(path, mu=np.zeros(8), sigma=np.eye(8) * (np.nan if content == "nan" else 1))
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    encoder = Counting()
    with pytest.raises(BadInput):
        score("in", "clip-fid", Sources(clip=encoder), reference=path)
    assert encoder.seen == 0


def test_warnings_are_as_before_after_threads_have_decoded():
    for i in range(60):
        save(f"in/{i}.png", i)
    before = list(warnings.filters)
    for _ in range(5):
        score("in", "clipscore", Sources(clip=FakeEncoder()))
        assert list(warnings.filters) == before


# ---- command line

CONFIG = 'clip = { driver = "fake" }\ndinov2 = { driver = "fake" }\nmllm = { driver = "fake", brief = true }\nt2i = { driver = "fake" }\n'


def run(*arguments):
    from vernissage.cli import main

    Path("vernissage.toml").write_text(CONFIG, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["score", *arguments])
    return ended.value.code


@pytest.mark.parametrize("name", ["summary.json", "cache"])
def test_what_cannot_be_written_is_told(name, capsys):
    save("in/a.png", 0, "x")
    if name == "cache":
        Path("runs/score").mkdir(parents=True)
        Path("runs/score/cache").touch()
    else:
        Path("runs/score/summary.json").mkdir(parents=True)
    assert run("in") == 2
    assert "Cannot" in capsys.readouterr().err


@pytest.mark.parametrize("names", ["none", "", ","])
def test_no_metrics_are_refused(names, capsys):
    save("in/a.png", 0, "x")
    assert run("in", "--metrics", names) == 2


def test_a_folder_that_is_not_there_is_told_before_models_are_loaded(monkeypatch):
    from vernissage.api import Studio

    loaded = []
    monkeypatch.setattr(Studio, "clip", property(lambda self: loaded.append(1) or FakeEncoder()))
    with pytest.raises(BadInput):
        Studio().score("none", ("clipscore",))
    assert not loaded


def test_pictures_left_out_of_a_set_metric_stand_in_the_table():
    for i in range(6):
        save(f"in/{i}.png", i)
        save(f"ref/{i}.png", 10 + i)
    Path("in/6.png").write_bytes(b"no picture")
    run("in", "--metrics", "clip-fid", "--reference", "ref")
    assert "not a picture" in Path("runs/score/scores.csv").read_text(encoding="utf-8")


def test_a_name_that_is_no_text_ends_no_run():
    import os

    Path("in/samples").mkdir(parents=True)
    save("a.png", 0)
    os.rename("a.png", os.fsencode("in/samples/") + b"caf\xe9_000000.png")
    assert run("in") == 1, "nothing could be scored: there is no prompt"
    assert Path("runs/score/scores.csv").exists()


def test_the_intervals_of_many_scores_do_not_take_gigabytes():
    import tracemalloc

    from vernissage.metrics.interval import mean_interval

    tracemalloc.start()
    mean_interval(np.random.default_rng(0).normal(size=30_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6, peak


def test_the_manifold_is_computed_once(monkeypatch):
    import vernissage.scoring.sets as module

    calls = []
    real = module.manifold_scores
    monkeypatch.setattr(module, "manifold_scores", lambda *a, **k: (calls.append(1), real(*a, **k))[1])
    for i in range(8):
        save(f"in/{i}.png", i)
        save(f"ref/{i}.png", 10 + i)
    score("in", "precision,recall,density,coverage", Sources(dinov2=Counting()), reference=Path("ref"))
    assert len(calls) == 1


def test_the_note_tells_a_small_reference_set_too():
    for i in range(12):
        save(f"in/{i}.png", i)
    for i in range(4):
        save(f"ref/{i}.png", 100 + i)
    scored = score("in", "clip-fid", Sources(clip=Counting()), reference=Path("ref"))
    assert "4" in scored.sets["clip-fid"].reason


def test_hpsv2_prompts_of_all_styles_are_taken_from_a_folder_of_lists():
    for style in ("anime", "photo"):
        for i in range(2):
            save(f"in/{style}/0000{i}.png", i)
        Path("prompts").mkdir(exist_ok=True)
        Path(f"prompts/{style}.json").write_text(json.dumps([f"{style} 0", f"{style} 1"]), encoding="utf-8")
    found = [entry.prompt for entry in find_entries(Path("in"), prompts=Path("prompts"))]
    assert found == ["anime 0", "anime 1", "photo 0", "photo 1"]


def test_rows_with_one_picture_and_two_prompts_keep_theirs():
    Path("t.csv").write_text("image\na.png\na.png\n", encoding="utf-8")
    Path("p.txt").write_text("one\ntwo\n", encoding="utf-8")
    assert [entry.prompt for entry in find_entries(Path("t.csv"), prompts=Path("p.txt"))] == ["one", "two"]


def test_hidden_files_are_no_pictures():
    save("in/a.png")
    save("in/.ipynb_checkpoints/a-checkpoint.png")
    Path("in/._a.png").write_bytes(b"resource fork")
    assert [entry.name for entry in find_entries(Path("in"))] == ["a.png"]


def test_a_slow_score_that_needs_no_reference_is_not_asked_again_because_there_is_one():
    save("in/a.png", 0, "x")
    save("ref/a.png", 1)
    score("in", "vqascore", Sources(mllm=FakeMLLM()), cache=Path("cache"))
    mllm = FakeMLLM()
    score("in", "vqascore,psnr", Sources(mllm=mllm), cache=Path("cache"), reference=Path("ref"))
    assert not mllm.asked


@pytest.mark.parametrize("size", [(16, 12)])
def test_a_truncated_npz_leaves_no_file_open(size):
    import gc

    path = Path("ref.npz")
    np.savez(path, mu=np.zeros(8), sigma=np.eye(8))
    path.write_bytes(path.read_bytes()[:-100])
    from vernissage.metrics.distribution import load_statistics

    with pytest.raises(BadInput):
        load_statistics(path)
    gc.collect()


@pytest.mark.parametrize("cut", [1, 7, 40, 47])
def test_a_record_that_was_cut_off_is_encoded_again_and_shifts_nothing(tmp_path, cut):
    use(tmp_path, "abc")
    (path,) = tmp_path.glob("*.features")
    path.write_bytes(path.read_bytes()[:-cut])
    use(tmp_path, "d")
    encoder = Counting()
    encoder.name = "fake"
    rows = FeatureStore(encoder, tmp_path).encode([key_of(key) for key in "abcd"], [noise(ord(key)) for key in "abcd"])
    assert np.array_equal(rows, rows_of("abcd"))
    assert encoder.seen == 1, "only the record that was cut off"


def test_a_file_of_nonsense_is_started_anew(tmp_path):
    use(tmp_path, "ab")
    (path,) = tmp_path.glob("*.features")
    for data in (b"", b"nonsense", b"\0" * 500):
        path.write_bytes(data)
        assert np.array_equal(use(tmp_path, "ab"), rows_of("ab"))
        assert np.array_equal(use(tmp_path, "ab"), rows_of("ab"))
