"""Which driver fills which port: names, options and configurations, and what is said about a mistake in them."""

import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from vernissage import wiring
from vernissage.api import Studio
from vernissage.drivers.fake import FakeEncoder, FakeMLLM, FakeT2I
from vernissage.drivers.mllm_openai import OpenAIMLLM
from vernissage.errors import BadCard, BadInput, MissingExtra, UnknownName
from vernissage.wiring import DRIVERS, DriverConfig, StudioConfig, find_driver, identity_of, load_config, load_driver, stated


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def config(driver: str, **options) -> DriverConfig:
    return DriverConfig(driver=driver, **options)


@pytest.fixture
def offered(monkeypatch):
    """Drivers that another package seems to offer."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(wiring, "entry_points", lambda group: [point for point in points if point.group == group])
    return points


# --------------------------------------------------------------------------------------------------------- drivers


@pytest.mark.parametrize("port", ["mllm", "t2i", "encoder"])
def test_a_driver_that_nobody_offers_is_named_with_the_nearest_one(port):
    with pytest.raises(UnknownName, match=f"no {port} driver 'fakee'") as caught:
        find_driver(port, "fakee")
    assert "Did you mean 'fake'?" in caught.value.hint
    assert all(name in caught.value.hint for name in DRIVERS[port])
    with pytest.raises(UnknownName):
        load_driver(port, config("fakee"))


def test_a_driver_of_another_port_is_unknown_here():
    with pytest.raises(UnknownName):
        find_driver("t2i", "openai")


def test_the_fakes_fill_every_port():
    assert isinstance(load_driver("mllm", config("fake", brief=True)), FakeMLLM)
    assert isinstance(load_driver("t2i", config("fake"), catalogue=None), FakeT2I)
    assert isinstance(load_driver("encoder", config("fake")), FakeEncoder)


def test_what_a_driver_does_not_take_is_not_given_to_it():
    assert load_driver("encoder", config("fake"), catalogue={}).name == "fake"
    catalogue = Studio().catalogue
    assert load_driver("t2i", config("fake"), catalogue=catalogue).catalogue is catalogue


def test_an_unknown_option_is_refused_with_those_there_are():
    with pytest.raises(BadCard, match="'openai' has no option 'adress'") as caught:
        load_driver("mllm", config("openai", model="m", adress="x"))
    assert "base_url" in caught.value.hint
    assert "concurrency" in caught.value.hint
    with pytest.raises(BadCard, match="'catalogue'") as caught:  # wiring's to give, not the user's
        load_driver("t2i", config("fake", catalogue="x"), catalogue=None)
    assert caught.value.hint == "It takes: none."


def test_an_option_that_is_missing_is_named():
    with pytest.raises(BadCard, match="'openai' needs the option 'model'"):
        load_driver("mllm", config("openai"))


@pytest.mark.parametrize(
    ("option", "value"),
    [("concurrency", "many"), ("concurrency", 1.5), ("timeout_s", []), ("base_url", 5), ("brief", "perhaps"), ("model", 7)],
)
def test_an_option_of_another_kind_is_named(option, value):
    with pytest.raises(BadCard, match=f"option '{option}' of the driver 'openai'"):
        load_driver("mllm", config("openai", **{"model": "m", option: value}))


class Batched:
    """A driver that counts."""

    def __init__(self, batch_size: int | None = None, keep: int = 2) -> None:
        self.counts = (batch_size, keep)


@pytest.mark.parametrize(("option", "value"), [("batch_size", 0), ("batch_size", -1), ("batch_size", "many"), ("keep", 0)])
def test_a_number_of_things_that_is_less_than_one_is_refused_by_name(offered, monkeypatch, option, value):
    offered.append(EntryPoint("batched", "vernissage.drivers.fake:Batched", "vernissage.t2i"))
    monkeypatch.setattr("vernissage.drivers.fake.Batched", Batched, raising=False)
    with pytest.raises(BadInput, match=f"option '{option}' of the driver 'batched'") as caught:
        load_driver("t2i", config("batched", **{option: value}))
    assert "1 or more" in caught.value.hint
    assert load_driver("t2i", config("batched", batch_size=1, keep="1")).counts == (1, 1)
    assert load_driver("t2i", config("batched", batch_size=None)).counts == (None, 2)


def test_options_reach_the_driver():
    driver = load_driver("mllm", config("openai", model="m", base_url="http://localhost:1/v1", concurrency=3, timeout_s=5, brief=True))
    assert isinstance(driver, OpenAIMLLM)
    assert (driver.name, driver.concurrency, driver.brief) == ("openai:m", 3, True)
    driver._client.close()


def test_a_driver_is_told_from_another_by_its_options_and_the_files_they_name(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.npz").write_bytes(name.encode())

    def identity(**options):
        return identity_of(DriverConfig.model_validate({"driver": "niqe", **options}))

    one, two = (identity(model=str(tmp_path / name / "model.npz")) for name in ("one", "two"))
    folder = identity(model=str(tmp_path))
    assert len({one, two, folder, identity(model="a/hub-id"), identity(model="a/hub-id", revision="b")}) == 5
    os.utime(tmp_path / "two" / "model.npz", (1, 1))
    assert identity(model=str(tmp_path)) == folder, "the same weights, copied"
    (tmp_path / "two" / "model.npz").write_bytes(b"new weights")
    assert identity(model=str(tmp_path)) != folder
    assert identity(model=str(tmp_path / "one" / "model.npz")) == one


@pytest.mark.parametrize(
    ("port", "driver", "package"), [("mllm", "transformers", "torch"), ("t2i", "diffusers", "diffusers"), ("encoder", "clip", "torch")]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(port, driver, package):
    script = (
        "import sys\n"
        f"sys.modules[{package!r}] = None\n"  # as if it were not installed
        "from vernissage.errors import MissingExtra\n"
        "from vernissage.wiring import DriverConfig, load_driver\n"
        f"try:\n    load_driver({port!r}, DriverConfig(driver={driver!r}, model='m'), catalogue=None)\n"
        "except MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"This needs the package {package!r}, which is not installed. Run: pip install 'vernissage[local]'"


def test_a_driver_of_another_package_is_found_by_its_entry_point(offered):
    offered.append(EntryPoint("mine", "vernissage.drivers.fake:FakeMLLM", "vernissage.mllm"))
    assert isinstance(load_driver("mllm", config("mine")), FakeMLLM)
    with pytest.raises(UnknownName):
        find_driver("t2i", "mine")


class Anything:
    """A driver that takes whatever it is told."""

    def __init__(self, model: str, *rest: str, **options: object) -> None:
        self.options = {"model": model} | options


def test_a_driver_that_takes_any_option_is_given_any(offered, monkeypatch):
    offered.append(EntryPoint("any", "vernissage.drivers.fake:Anything", "vernissage.mllm"))
    monkeypatch.setattr("vernissage.drivers.fake.Anything", Anything, raising=False)
    assert load_driver("mllm", config("any", model="m", speed=5)).options == {"model": "m", "speed": 5}
    with pytest.raises(BadCard, match="needs the option 'model'"):
        load_driver("mllm", config("any", speed=5))


def test_another_package_cannot_replace_our_own_drivers(offered):
    offered.append(EntryPoint("openai", "evil:Driver", "vernissage.mllm"))
    assert find_driver("mllm", "openai") == DRIVERS["mllm"]["openai"]


def test_a_driver_whose_package_or_class_is_not_there_is_said_so(offered):
    offered += [
        EntryPoint("gone", "no_such_package.driver:Driver", "vernissage.mllm"),
        EntryPoint("wrong", "vernissage.drivers.fake:NoSuchClass", "vernissage.mllm"),
        EntryPoint("odd", "vernissage.drivers.fake", "vernissage.mllm"),
    ]
    with pytest.raises(MissingExtra, match="no_such_package"):
        load_driver("mllm", config("gone"))
    for name in ("wrong", "odd"):
        with pytest.raises(BadCard, match=f"driver '{name}'"):
            load_driver("mllm", config(name))


# --------------------------------------------------------------------------------------------------- configurations


def test_an_empty_configuration_is_the_mini_studio(tmp_path):
    found = load_config(write(tmp_path / "vernissage.toml", ""))
    assert found == StudioConfig()
    assert found.models == ("mini/*",)
    assert (found.mllm.driver, found.mllm.options["model"]) == ("transformers", "mini/mllm")


def test_a_whole_configuration_is_read(tmp_path):
    path = write(
        tmp_path / "vernissage.toml",
        'models = ["mini/neon", "mini/s*"]\nclip = false\n[mllm]\ndriver = "openai"\nmodel = "m"\nconcurrency = 3\n'
        '[t2i]\ndriver = "fake"\n',
    )
    found = load_config(path)
    assert found.models == ("mini/neon", "mini/s*")
    assert found.mllm.options == {"model": "m", "concurrency": 3}
    assert found.clip is None
    assert found.dinov2 is not None
    assert Studio.from_toml(path).clip is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('modles = ["mini/*"]', "unknown key 'modles'"),
        ('models = "mini/*"', "'models'"),
        ("models = []", "'models'"),
        ("models = [5]", "'models.0'"),
        ('mllm = "openai"', "'mllm'"),
        ('[mllm]\nmodel = "m"', "'mllm.driver'"),
        ("[mllm]\ndriver = 5", "'mllm.driver'"),
        ("mllm = false", "'mllm'"),
        ("clip = true", "'clip'"),
        ('cards = "cards"', "'cards'"),
    ],
)
def test_a_mistake_in_a_configuration_names_the_file_and_the_key(tmp_path, text, key):
    path = write(tmp_path / "vernissage.toml", text)
    with pytest.raises(BadCard, match=re.escape(key)) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"models = [", b"\xff\xfe", b"a = 1\na = 2", b"a = " + b"[" * 5000])
def test_a_configuration_that_is_not_toml_names_the_file(tmp_path, content):
    path = tmp_path / "vernissage.toml"
    path.write_bytes(content)
    with pytest.raises(BadCard, match=re.escape(str(path))) as caught:
        load_config(path)
    assert "TOML" in str(caught.value)


def test_a_configuration_that_is_missing_names_the_file(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(BadCard, match=re.escape(str(path))):
            load_config(path)


def test_an_unknown_driver_is_found_when_the_configuration_is_read(tmp_path):
    path = write(tmp_path / "vernissage.toml", '[clip]\ndriver = "clipp"\n')
    with pytest.raises(UnknownName, match="no encoder driver 'clipp'"):
        load_config(path)


CARD = (
    'id = "my/ink"\ntitle = "Ink"\ndescription = "Ink."\nlicence = "MIT"\nwidth = 64\nheight = 64\n'
    '[source]\npath = "../weights"\n[defaults]\nsteps = 5\ncfg_scale = 2.0\n'
)


def test_folders_of_cards_start_at_the_configurations_own_folder(tmp_path, monkeypatch):
    write(tmp_path / "studio" / "cards" / "ink.toml", CARD)
    path = write(tmp_path / "studio" / "vernissage.toml", 'models = ["my/*"]\ncards = ["cards"]\n')
    monkeypatch.chdir("/")
    studio = Studio.from_toml(path)
    assert list(studio.catalogue) == ["my/ink"]
    assert studio.catalogue["my/ink"].resolve("../weights") == tmp_path / "studio" / "weights"
    monkeypatch.chdir(tmp_path / "studio")
    assert list(Studio.from_toml("vernissage.toml").catalogue) == ["my/ink"]


def test_folders_of_cards_may_be_absolute_or_begin_at_home(tmp_path, monkeypatch):
    write(tmp_path / "elsewhere" / "ink.toml", CARD)
    monkeypatch.setenv("HOME", str(tmp_path))
    for cards in (str(tmp_path / "elsewhere"), "~/elsewhere"):
        path = write(tmp_path / "studio" / "vernissage.toml", f'models = ["my/ink"]\ncards = ["{cards}"]\n')
        assert "my/ink" in Studio.from_toml(path).catalogue


def test_a_folder_of_cards_that_is_not_there_is_said_so(tmp_path):
    path = write(tmp_path / "vernissage.toml", 'cards = ["crads"]\n')
    with pytest.raises(BadCard, match="crads"):
        _ = Studio.from_toml(path).catalogue


def test_models_that_are_not_in_the_catalogue_are_named(tmp_path):
    path = write(tmp_path / "vernissage.toml", 'models = ["mini/neno"]\n')
    with pytest.raises(UnknownName, match="Did you mean 'mini/neon'"):
        _ = Studio.from_toml(path).catalogue


def test_a_path_of_a_model_that_begins_with_a_dot_starts_at_the_configurations_own_folder(tmp_path):
    text = '[mllm]\ndriver = "transformers"\nmodel = "./planner"\n[clip]\ndriver = "clip"\nmodel = "openai/clip"\n'
    found = load_config(write(tmp_path / "studio" / "vernissage.toml", text))
    assert Path(found.mllm.options["model"]) == tmp_path / "studio" / "planner"
    assert found.clip.options["model"] == "openai/clip"


def test_nothing_is_loaded_before_it_is_needed(tmp_path):
    studio = Studio.from_toml(write(tmp_path / "vernissage.toml", '[t2i]\ndriver = "diffusers"\nspeed = "fast"\n'))
    assert len(studio.catalogue) == 6
    assert "t2i" not in vars(studio)


def test_a_configuration_that_names_no_language_model_keeps_the_embedded_judge(tmp_path):
    path = tmp_path / "vernissage.toml"
    for text, trained in (
        ('models = ["mini/*"]\n', True),
        ('[mllm]\ndriver = "transformers"\nmodel = "mini/mllm"\nbrief = true\n', True),
        ('[mllm]\ndriver = "fake"\n', False),
        ("judge = false\n", False),
        ('[judge]\ndriver = "trained"\nmodel = "./mine"\n', True),
    ):
        path.write_text(text, encoding="utf-8")
        found = load_config(path).trained_judge
        assert (found is not None) == trained, text
    assert found.options["model"] == str(tmp_path / "mine")
    assert StudioConfig().trained_judge.options["model"] == "mini/judge"


@pytest.mark.parametrize(
    ("driver", "port", "options", "told"),
    [
        ("dinov2", "encoder", {"model": "mini/dinov2", "pooling": "CLS"}, "'pooling'"),
        ("openai", "mllm", {"model": "m", "timeout_s": float("inf")}, "'timeout_s'"),
        ("openai", "mllm", {"model": "m", "longest_wait_s": float("nan")}, "'longest_wait_s'"),
        ("openai", "mllm", {"model": "m", "base_url": "http://xn--.../v1"}, "base_url"),
    ],
)
def test_an_option_that_is_none_of_its_choices_or_no_finite_number_is_refused(driver, port, options, told):
    with pytest.raises(BadCard, match=told):
        load_driver(port, config(driver, **options))


def test_a_configuration_may_begin_with_a_mark_of_its_encoding(tmp_path):
    (tmp_path / "v.toml").write_bytes(b"\xef\xbb\xbf" + b'models = ["mini/neon"]\n')
    assert load_config(tmp_path / "v.toml").models == ("mini/neon",)


def test_what_a_run_states_of_a_server_has_neither_secrets_nor_patience():
    told = {"driver": "openai", "model": "m", "base_url": "http://user:s3cr3t@host:8000/v1?key=k3y", "timeout_s": 9, "concurrency": 2}
    config = DriverConfig.model_validate(told)
    assert stated(config) == {"driver": "openai", "model": "m", "base_url": "http://host:8000/v1"}
    patient = config.model_copy(update={"timeout_s": 900, "retries": 9})
    assert (stated(patient), identity_of(patient)) == (stated(config), identity_of(config))
    assert identity_of(config.model_copy(update={"model": "n"})) != identity_of(config)


def test_other_weights_in_the_same_place_are_another_driver(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    config = DriverConfig.model_validate({"driver": "clip", "model": str(tmp_path)})
    before = stated(config)
    assert before["files"]
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert stated(config) != before
