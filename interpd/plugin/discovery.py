"""Which plugins are installed: entry points of the group ``interpd.plugins``."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "interpd.plugins"

BUILT_IN = "interpd"
"""The plugin that holds the built-in operations: always allowed, and no other may take its name."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plugin that could be loaded."""

    name: str
    distribution: str
    version: str
    target: str
    """The module that the entry point names."""
    load: Callable[[], object]
    """Imports the module."""

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({self.distribution} {self.version})"


def discover() -> tuple[Candidate, ...]:
    """Every installed plugin, the built-in one first, then by name. Imports none of them."""
    return (built_in(), *installed(GROUP))


def installed(group: str) -> tuple[Candidate, ...]:
    """Every installed entry point of a group, by name. Imports none of them."""
    from importlib.metadata import entry_points  # slow to import, and most programs look for no plugin

    found = map(_from_entry_point, entry_points(group=group))
    return tuple(sorted(found, key=lambda item: (item.name, item.distribution)))


def built_in() -> Candidate:
    """The built-in operations. They come in by the name of their module, as a layer above this one."""
    from interpd import __version__

    return Candidate(
        BUILT_IN, "interpd", __version__, "interpd.ops.plugin", lambda: importlib.import_module("interpd.ops.plugin")
    )


def candidate_of(module: ModuleType, name: str) -> Candidate:
    """A module as a plugin that was not installed: for tests and notebooks."""
    return Candidate(name, "not installed", "0", module.__name__, lambda: module)


def _from_entry_point(point: "EntryPoint") -> Candidate:
    # a broken installation may lack its metadata
    distribution, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "?")
    return Candidate(point.name, distribution, version, point.value, point.load)
