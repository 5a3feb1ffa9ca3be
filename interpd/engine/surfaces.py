"""What everybody calls by its name: functions of torch, and the environment. Watched while a plugin's code runs.

A plugin that puts something of its own in their place changes the numbers of others; that is undone, and said.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

_K = TypeVar("_K")

_PLACES: tuple[tuple[str, object], ...] = (
    ("torch", torch),
    ("torch.nn.functional", torch.nn.functional),
    ("torch.linalg", torch.linalg),
    ("torch.Tensor", torch.Tensor),
    ("torch.nn.Module", nn.Module),
)


# what os.environ is a view of, by encoded names: comparing the view decodes all of it, which takes twenty times as long
_VARIABLES: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]


class Surfaces:
    """These names with what they stand for now."""

    def __init__(self) -> None:
        self._known: list[dict[str, Any]] = [dict(vars(place)) for _, place in _PLACES]
        self._variables = dict(_VARIABLES)

    def look(self) -> None:
        """Takes what stands there now for right."""
        for index, (_, place) in enumerate(_PLACES):
            if _differs(vars(place), self._known[index]):
                self._known[index] = dict(vars(place))
        if self._variables != _VARIABLES:
            self._variables = dict(_VARIABLES)

    def put_back(self) -> list[str]:
        """Undoes what changed since the last look; the names. What was added stays: an import on the way adds."""
        found: list[str] = []
        for known, (name, place) in zip(self._known, _PLACES, strict=True):
            if _differs(vars(place), known):
                found += [f"{name}.{key}" for key in _unhidden(place, known)]
                found += [
                    f"{name}.{key}" for key in _undo(vars(place), known, lambda *pair, at=place: setattr(at, *pair))
                ]
        if self._variables != _VARIABLES:
            keys = _undo(_VARIABLES, self._variables, os.environb.__setitem__)
            found += [f"os.environ[{os.fsdecode(key)!r}]" for key in keys]
        return found


def _unhidden(place: object, known: dict[str, Any]) -> list[str]:
    """Takes away what was added to a class in front of what it inherits; its names."""
    inherited = place.__mro__[1:] if isinstance(place, type) else ()
    added = [key for key in vars(place) if key not in known and any(key in vars(kind) for kind in inherited)]
    for key in added:
        delattr(place, key)
    return added


def _differs(now: Mapping[str, Any], known: dict[str, Any]) -> bool:
    try:
        return bool(now != known)
    # the values are anybody's: what cannot even be compared is not what was there
    except Exception:
        return True


def _undo(now: Mapping[_K, Any], known: Mapping[_K, Any], put: Callable[[_K, Any], object]) -> list[_K]:
    """Puts back what is not there any more; its keys."""
    changed = [key for key, value in known.items() if key not in now or not _is_same(now[key], value)]
    for key in changed:
        put(key, known[key])
    return changed


def _is_same(now: Any, known: Any) -> bool:
    # variables may be set to what they were; parts of torch that are imported on the way wrap others
    if now is known or (isinstance(now, bytes) and now == known):
        return True
    return str(getattr(now, "__globals__", {}).get("__name__")).partition(".")[0] == "torch"
