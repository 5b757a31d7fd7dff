"""Every test runs offline, with its own home, and without a vernissage.toml of the developer's."""

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["checkpoints", "detectors"]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


# Examples are not timed: a busy machine must not fail a test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("VERNISSAGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def mini():
    """The embedded studio, loaded once for the whole session."""
    from vernissage.api import mini_studio

    return mini_studio()


@pytest.fixture
def four_threads():
    """torch uses four threads, however many cores there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)
