"""Sites as attributes: ``t.layers[3].attn.q`` reads, ``t.layers[3].mlp.out = value`` writes.

Each mention of a site is a read of its own. At one and the same site the order of the program counts: a read sees the
writes above it and none below. Between two sites the forward pass decides: a write changes all that lies behind it in
the model, wherever in the program that was read.
"""

import operator
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NoReturn, SupportsIndex, final, overload

import numpy as np

from interpd.graph.ir import Ref
from interpd.graph.schema import Manifest, SiteSchema
from interpd_client.constants import scalar
from interpd_client.indices import refuse_other_side, select_positions
from interpd_client.names import UnknownName, nearest_names
from interpd_client.recording import Recording
from interpd_client.value import Value, apply, to_arg

READ = "site.read"


@final
class SiteValue(Value):
    """A value as it was read at a site. ``value[...] = v`` also writes the changed value back to the site."""

    __slots__ = ("_invoke", "_n_writes", "_site")

    def __init__(self, recording: Recording, site: str, invoke: int) -> None:
        super().__init__(recording, Ref(recording.add(READ, (), {"site": site}, invoke=invoke)))
        self._site = site
        self._invoke = invoke
        self._n_writes = recording.n_writes(site, invoke)

    def write(self, value: object) -> None:
        """Puts ``value`` in force at the site, broadcast to its shape: for later reads there and all that follows."""
        write_site(self._recording, self._site, value, self._invoke)

    def __getitem__(self, index: object) -> Value:
        chosen = self._selected(index) if self._site == "logits" and self._is_fresh else None
        return chosen if chosen is not None else super().__getitem__(index)

    def __setitem__(self, index: object, value: object) -> None:
        if not self._is_fresh:
            raise self._recording.refuse(
                "STALE_READ",
                f"{self._site!r} was written since this value was read, and writing the old value back would undo "
                f"that; mention the site again where you change it, as in `t.site({self._site!r})[...] = ...`",
            )
        super().__setitem__(index, value)
        self.write(self)
        self._n_writes = self._recording.n_writes(self._site, self._invoke)

    @property
    def _is_fresh(self) -> bool:
        return self._n_writes == self._recording.n_writes(self._site, self._invoke)

    def _selected(self, index: object) -> Value | None:
        """A read of only the positions that ``index`` names, so that the model computes no other logits."""
        dims = [dim.name for dim in self._recording.manifest.sites[self._site].type.dims]
        refuse_other_side(index, lambda: dims)
        found = select_positions(index, dims)
        node = self._recording.nodes[self._ref.node]
        if found is None or node.op != READ or node.steps != self._recording.steps:
            return None
        positions, rest = found
        params = {"site": self._site, "positions": positions}
        return Value(self._recording, Ref(self._recording.add(READ, (), params, invoke=self._invoke)))[rest]


@final
class SiteGroup:
    """Sites whose names begin alike: ``t.layers``, ``t.layers[3]``, ``t.layers[3].attn``."""

    __slots__ = ("_prefix", "_scope")
    _prefix: str
    _scope: "SiteScope"

    def __init__(self, scope: "SiteScope", prefix: str) -> None:
        object.__setattr__(self, "_scope", scope)
        object.__setattr__(self, "_prefix", prefix)

    def __getattr__(self, name: str) -> Any:
        return self._scope.site_or_group(self._prefix, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._scope.assign(self._prefix, name, value)

    @overload
    def __getitem__(self, index: SupportsIndex) -> "SiteGroup": ...
    @overload
    def __getitem__(self, index: slice) -> list["SiteGroup"]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        """One of numbered groups, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        names = self._children()
        number = operator.index(index)
        n_children = len(names)
        if not names or not all(name.isdigit() for name in names):
            raise TypeError(f"{self._prefix!r} is not numbered; it has {', '.join(names)}")
        if not -n_children <= number < n_children:
            there = f"0 to {n_children - 1}" if n_children > 1 else "0 only"
            raise IndexError(f"no {self._prefix}[{number}]: {self._scope.model_name} has {there}")
        return self._scope.site_or_group(self._prefix, str(number % n_children))

    def __setitem__(self, index: SupportsIndex | slice, value: object) -> NoReturn:
        if isinstance(index, slice):
            raise TypeError(
                f"a slice of {self._prefix} is no site; write in a loop: `for layer in t.{self._prefix}[...]`"
            )
        raise TypeError(
            f"{self._prefix}[{index}] is no site; write to one of its sites: {', '.join(self[index]._children())}"
        )

    def __len__(self) -> int:
        return len(self._children())

    def __iter__(self) -> Iterator["SiteGroup"]:
        return (self[index] for index in range(len(self)))

    def __dir__(self) -> list[str]:
        return [name for name in self._children() if not name.isdigit()]

    def __repr__(self) -> str:
        return f"<sites {self._prefix}.*: {', '.join(self._children())}>"

    def _children(self) -> list[str]:
        return self._scope.children(self._prefix)


@final
class ModulePorts:
    """A module of the model by its own path: ``t.module("transformer.h.3.mlp").output``; a call applies it."""

    __slots__ = ("_path", "_scope")
    _path: str
    _scope: "SiteScope"

    def __init__(self, scope: "SiteScope", path: str) -> None:
        object.__setattr__(self, "_scope", scope)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, name: str) -> SiteValue:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._scope.read(f"{self._path}.{name}")

    def __setattr__(self, name: str, value: object) -> None:
        self._scope.write(f"{self._path}.{name}", value)

    def __call__(self, value: object) -> Value:
        """The module applied to any value."""
        return apply(self._scope.recording, "module.call", (value,), {"module": self._path})

    def __repr__(self) -> str:
        return f"<module {self._path}>"


class SiteTable:
    """The canonical sites of a manifest as a tree of names."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    @cached_property
    def children(self) -> dict[str, list[str]]:
        """The next parts of the names under each prefix (``""``: all)."""
        found: dict[str, dict[str, None]] = {}
        for site in self.manifest.sites.values():
            parts = site.name.split(".") if site.canonical else []
            for depth, part in enumerate(parts):
                found.setdefault(".".join(parts[:depth]), {})[part] = None
        return {prefix: sorted(parts, key=_natural) for prefix, parts in found.items()}

    def site(self, name: str) -> SiteSchema:
        """The schema of a site. Raises ``UnknownName`` with the nearest name, or why this model has none."""
        site = self.manifest.sites.get(name)
        if site is None:
            raise self.unknown(name)
        return site

    def is_absent(self, name: str) -> bool:
        """Whether it is a canonical site that this model does not offer."""
        return any(absent.name == name for absent in self.manifest.absent_sites)

    def is_module(self, name: str) -> bool:
        """Whether paths of the model's own modules begin with ``name``."""
        return any(site.startswith(f"{name}.") for site in self.manifest.sites)

    def unknown(self, name: str) -> UnknownName:
        """The error for a name that is no site."""
        model = self.manifest.model
        for absent in self.manifest.absent_sites:
            if absent.name == name:
                return UnknownName(f"{model.name!r} has no site {name!r}: {absent.reason}", name=name)
        layers = ""
        if name.startswith("layers."):
            last, where = model.n_layers - 1, "encoder.layers and decoder.layers"
            layers = f" ({model.name} has {where if model.has_encoder else f'layers 0 to {last}'})"
        message = f"no site {name!r} in {model.name!r}{layers}"
        return UnknownName(message, name=name, nearest=nearest_names(name, self.manifest.sites))


def _natural(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdigit() else (-1, part)


class SiteScope:
    """The sites of one prompt, for reading and writing."""

    def __init__(self, recording: Recording, table: SiteTable, invoke: Callable[[], int]) -> None:
        self.recording = recording
        self.table = table
        self.invoke = invoke

    @property
    def model_name(self) -> str:
        """The name of the model."""
        return self.table.manifest.model.name

    def children(self, prefix: str) -> list[str]:
        """The next parts of the names under ``prefix``."""
        return self.table.children.get(prefix, [])

    def read(self, name: str) -> SiteValue:
        """A fresh read of a site. Raises ``UnknownName``."""
        self.table.site(name)
        return SiteValue(self.recording, name, self.invoke())

    def write(self, name: str, value: object) -> None:
        """Puts ``value`` in force at a site. Raises ``UnknownName``, ``InvalidGraph``."""
        self.table.site(name)
        write_site(self.recording, name, value, self.invoke())

    def site_or_group(self, prefix: str, name: str) -> Any:
        """What ``prefix.name`` stands for: a read of a site, or a group of sites."""
        full = f"{prefix}.{name}" if prefix else name
        if full in self.table.manifest.sites:
            return self.read(full)
        if self.children(full):
            return SiteGroup(self, full)
        raise self._unknown(prefix, name)

    def assign(self, prefix: str, name: str, value: object) -> None:
        """Writes to the site ``prefix.name``. Raises ``UnknownName``."""
        full = f"{prefix}.{name}" if prefix else name
        if full not in self.table.manifest.sites:
            raise self._unknown(prefix, name)
        self.write(full, value)

    def _unknown(self, prefix: str, name: str) -> UnknownName:
        full = f"{prefix}.{name}" if prefix else name
        children = self.children(prefix)
        if self.children(full):
            sites = ", ".join(f"{full}.{child}" for child in self.children(full)[:4])
            return UnknownName(f"{full!r} is no site but a group of sites: {sites}, ...", name=name)
        near = nearest_names(name, children) or [
            f"{side}.{name}" for side in children if self.children(f"{side}.{name}")
        ]
        if near and not self.table.is_absent(full):
            where = f"{prefix!r} has no {name!r}" if prefix else f"no site {name!r} in {self.model_name!r}"
            return UnknownName(where, name=name, nearest=near)
        if not prefix and self.table.is_module(name):
            what = f"{name!r} is no site but begins paths of the model's own modules"
            return UnknownName(f"{what}: `t.module('{name}.<path>').output` reads one", name=name)
        error = self.table.unknown(full)
        return error if error.nearest else UnknownName(f"{error}; there is {', '.join(children)}", name=name)


def write_site(recording: Recording, site: str, value: object, invoke: int) -> None:
    """Records a write. Raises ``InvalidGraph`` where the site takes none."""
    schema = recording.manifest.sites[site]
    if not schema.writable:
        raise recording.refuse("NOT_WRITABLE", f"{site!r} can be read but not written")
    number = scalar(value)
    # a number stands for a tensor without dimensions, which broadcasts like any other
    recording.write(site, to_arg(recording, value if number is None else np.asarray(number, dtype=np.float32)), invoke)
