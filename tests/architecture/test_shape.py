"""The shape of the project that is agreed in its design: what is exported, how large, how light, named how."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vernissage

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "vernissage").rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "manager", "base", "core", "legacy", "v2", "stage1", "stage2"}
HEAVY = ("torch", "diffusers", "transformers", "peft", "openai", "gradio", "ray", "scipy")


def test_the_front_page_lists_exactly_what_it_exports():
    assert vernissage.__all__ == sorted(vernissage.__all__, key=lambda name: (name.islower(), name))
    assert set(vernissage.__all__) == set(vernissage._HOMES)
    for name in vernissage.__all__:
        assert getattr(vernissage, name).__name__ == name


@pytest.mark.parametrize(
    "code", ["import vernissage", "from vernissage.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass"]
)
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    script = f"import sys\n{code}\nprint('LOADED', [m for m in {HEAVY} if m in sys.modules], 'rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("LOADED [] False")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_files_and_functions_stay_within_their_size(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 600
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 80, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_names_say_what_is_inside_and_every_file_says_what_it_does(path):
    assert not {part.removesuffix(".py") for part in path.relative_to(ROOT).parts} & FORBIDDEN_NAMES
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "the file's first line says what it does"


def test_heavy_packages_are_imported_only_in_drivers_and_networks_and_scipy_in_metrics():
    for path in SOURCES:
        parts = path.relative_to(ROOT / "src" / "vernissage").parts
        if "nn" in parts or parts[0] in ("drivers", "local"):
            continue
        imported = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        allowed = {"scipy"} if parts[0] == "metrics" else set()
        assert not set(imported) & set(HEAVY) - allowed, path


def test_shipped_weights_stay_under_sixty_megabytes():
    weights = list((ROOT / "src" / "vernissage" / "mini").rglob("*.safetensors"))
    assert weights
    assert sum(path.stat().st_size for path in weights) < 60_000_000
    assert not [path for path in (ROOT / "src").rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]
