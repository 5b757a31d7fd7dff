"""Write docs/reference/studio.md from the configuration and the drivers. Run: make docs. A test sees to it that the page is true."""

import ast
import importlib
import inspect
import re
from pathlib import Path

from vernissage.wiring import DRIVERS, StudioConfig

PAGE = Path(__file__).parent / "reference" / "studio.md"
PORTS = {"clip": "encoder", "dinov2": "encoder", "inception": "encoder", "scorers": "scorer"}
"""Of the tables that are not called after their port."""
GIVEN = ("catalogue",)
"""What drivers are given, and nobody configures."""


def render() -> str:
    lines = [
        "# The keys of vernissage.toml",
        "",
        "Generated from the configuration and the drivers by `make docs`; never edited.",
        "How to use them: [real models](../how-to/real-models.md).",
        "",
        "A table such as `[mllm]` names a `driver`; all its further keys are the driver's options. Paths that begin with a dot start",
        "at the file's folder. What is left out is the embedded mini studio's.",
        "",
        "| key | what it says | drivers |",
        "| --- | --- | --- |",
    ]
    for name, about in _described(StudioConfig).items():
        known = DRIVERS.get(PORTS.get(name, name), {}) if name not in ("models", "cards") else {}
        drivers = ", ".join(f"[{each}](#{_anchor(PORTS.get(name, name), each)})" for each in known if each != "fake")
        shown = "[scorers.METRIC]" if name == "scorers" else f"[{name}]" if known else name
        lines.append(f"| `{shown}` | {about} | {drivers} |")
    for port, drivers in DRIVERS.items():
        for name, driver in drivers.items():
            if name != "fake":
                lines += ["", f"## {port}: {name}", "", *_options(driver.target)]
    return "\n".join(lines) + "\n"


def _anchor(port: str, name: str) -> str:
    return f"{port}-{name}"


def _described(config: type) -> dict[str, str]:
    """Fields with the texts that stand below them."""
    (made,) = ast.parse(inspect.getsource(config)).body
    found, field = {}, ""
    for part in made.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            field = part.target.id
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and field:
            found[field] = " ".join(str(part.value.value).split())
            field = ""
    return found


def _options(target: str) -> list[str]:
    """A driver's options with their defaults and what its docstring says of them."""
    module, _, name = target.partition(":")
    made = getattr(importlib.import_module(module), name)
    told = _arguments(inspect.getdoc(made) or "")
    rows = ["| option | default | what it says |", "| --- | --- | --- |"]
    for option, parameter in inspect.signature(made).parameters.items():
        if option not in GIVEN:
            needed = parameter.default is inspect.Parameter.empty
            default = "needed" if needed else f"`{_toml(parameter.default)}`" if parameter.default is not None else ""
            rows.append(f"| `{option}` | {default} | {told.get(option, '')} |")
    return rows


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def _arguments(doc: str) -> dict[str, str]:
    """What a docstring in Google's style says of each argument."""
    _, _, rest = doc.partition("Args:\n")
    found, name = {}, ""
    for line in rest.split("\n"):
        if line and not line.startswith("    "):
            break
        if match := re.match(r"    (\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
