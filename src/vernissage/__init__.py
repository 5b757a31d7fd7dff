"""Paint, repaint and judge pictures made by text-to-image models. The names below load what they need when used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vernissage.api import Studio, judge, mini_studio, paint, repaint, score
    from vernissage.errors import UserError, VernissageError
    from vernissage.records.chat import Chat, Turn
    from vernissage.records.picture import Picture
    from vernissage.records.plan import Arguments, Plan

_HOMES = {
    "Arguments": "records.plan",
    "Chat": "records.chat",
    "Picture": "records.picture",
    "Plan": "records.plan",
    "Studio": "api",
    "Turn": "records.chat",
    "UserError": "errors",
    "VernissageError": "errors",
    "judge": "api",
    "mini_studio": "api",
    "paint": "api",
    "repaint": "api",
    "score": "api",
}

__all__ = [
    "Arguments",
    "Chat",
    "Picture",
    "Plan",
    "Studio",
    "Turn",
    "UserError",
    "VernissageError",
    "judge",
    "mini_studio",
    "paint",
    "repaint",
    "score",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("vernissage")
    if name in _HOMES:
        return getattr(importlib.import_module(f"vernissage.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'vernissage' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
