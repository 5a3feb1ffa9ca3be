"""Where the rows of a pass may change: between blocks, where the residual stream is all that a row is made of.

Proved at load, on the very model: a padded pass whose rows are moved, doubled and dropped at every boundary gives
each row the logits that it has otherwise. Masks are made once, for the rows of the start, so they have to follow as
arguments of each block; so have embeddings that a model takes up again behind its blocks, where its site table says
which modules are given them. A model that does not bear it (one that hands its blocks something per row inside a
tuple, or keeps something beside the stream) runs its passes with the rows of their start.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from interpd.engine.attention import AttentionSwitch
from interpd.engine.binding import Binding, Location
from interpd.engine.hooks import Edit, run_with_edits
from interpd.engine.probe import Place, Probe, probe_ids
from interpd.graph.schema import SiteSchema
from interpd.graph.types import TensorType
from interpd.telemetry import Log

_LENGTHS = (7, 5, 6)
_TOLERANCE = 1e-3

log = Log("engine")


@dataclass(frozen=True, slots=True)
class Boundaries:
    """What moves when the rows of a pass change. Empty: they cannot."""

    places: tuple[Location, ...] = ()
    """The residual stream before the first block and after each, in forward order."""
    companions: tuple[Location, ...] = ()
    """Further arguments, such as masks, of the blocks and of what follows them, that have the rows of the start; by
    order."""
    stale: frozenset[Location] = frozenset()
    """Places whose rows do not change with the stream's: whoever reads there gets a pass in which none do."""

    @property
    def behind(self) -> tuple[Location, ...]:
        """The companions behind the last block."""
        return tuple(place for place in self.companions if place.order > self.places[-1].order)

    @property
    def last(self) -> "Boundaries":
        """The one behind the last block alone; empty: there is none."""
        return replace(self, places=self.places[-1:])


@torch.no_grad()
def find_boundaries(
    model: nn.Module,
    switch: AttentionSwitch,
    probe: Probe,
    blocks: Sequence[str],
    *,
    eager: bool,
    follows: Sequence[str] = (),
) -> Boundaries:
    """The boundaries of a model. Two short passes for each attention; leaves the model with its own.

    Args:
        model: The model.
        switch: Its attention.
        probe: What it does in a pass.
        blocks: Module paths of its layers.
        eager: Whether passes may run eager attention.
        follows: Module paths behind the blocks whose arguments have the rows of the start, unless made by the blocks.
    """
    places = _streams(probe, blocks)
    if not places or getattr(model.config, "is_encoder_decoder", False):
        return Boundaries()
    trial = _Trial(model, probe, blocks, places, follows)
    try:
        trial.run()
        if eager:
            switch.set(True)
            trial.run()
    except Exception as error:  # whatever a model's code raises when rows change: then they do not change in it
        log.info("rows of a pass cannot change between blocks", cause=f"{type(error).__name__}: {error}")
        return Boundaries()
    finally:
        switch.set(False)
    companions = sorted((one for one in trial.companions if one not in trial.moved), key=lambda place: place.order)
    return Boundaries(places, tuple(companions), frozenset(trial.stale))


def _streams(probe: Probe, blocks: Sequence[str]) -> tuple[Location, ...]:
    """The first block's input and the outputs of all; none when one of them is not known to have rows."""
    found = [probe.first(path, "input") for path in blocks[:1]] + [probe.first(path, "output") for path in blocks]
    places = [place for place in found if place is not None and place.has_rows and "pos" in place.sizes]
    locations = tuple(_location(place) for place in places)
    in_order = all(one.order < other.order for one, other in pairwise(locations))
    return locations if in_order and len(locations) == len(blocks) + 1 else ()


def _location(place: Place) -> Location:
    return Location(place.path, place.port, place.item, place.order)


@dataclass
class _Trial:
    """A pass whose rows change at every boundary, beside one whose rows do not."""

    model: nn.Module
    probe: Probe
    blocks: Sequence[str]
    places: tuple[Location, ...]
    follows: Sequence[str] = ()
    companions: dict[Location, None] = field(default_factory=dict)
    moved: set[Location] = field(default_factory=set)
    """Those of ``companions`` that were made of the stream: they come with its rows."""
    stale: set[Location] = field(default_factory=set)

    def run(self) -> None:
        """Under the present attention. Raises what the model raises, ``ValueError`` where a row comes out changed."""
        n_rows, n_pos = len(_LENGTHS), max(_LENGTHS)
        ids = probe_ids(self.model, n_rows, n_pos)
        mask = torch.tensor([[int(at < n) for at in range(n_pos)] for n in _LENGTHS], device=ids.device)
        inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        expected = self._recorded(inputs)
        edits = {place: self._looked_at(place) for place in map(_location, self.probe.places.values())}
        edits |= {place: self._moved(at) for at, place in enumerate(self.places)}
        edits |= {place: self._followed(place) for place in self.companions}
        named = {str(place): edit for place, edit in edits.items()}
        bindings = {str(place): Binding(_schema(place), place) for place in edits}
        _compare(run_with_edits(self.model, inputs, bindings, named), expected, self._rows(len(self.places) - 1))

    def _recorded(self, inputs: dict[str, object]) -> Tensor:
        """The model's logits; what its blocks are given beside the stream is found on the way."""
        hooks = [
            self.model.get_submodule(path).register_forward_pre_hook(self._recorder(path, known), with_kwargs=True)
            for path, known in self._inputs()
        ]
        try:
            return self.model(**inputs).logits
        finally:
            for hook in hooks:
                hook.remove()

    def _inputs(self) -> Iterator[tuple[str, Place | None]]:
        """(module path, the place of an argument) of each block, which is its stream, and of each that follows them."""
        yield from ((path, self.probe.first(path, "input")) for path in self.blocks)
        yield from ((path, self.probe.first(path, "input")) for path in self.follows)

    def _recorder(self, path: str, known: Place | None) -> Callable[..., None]:
        stream = None if known is None or path in self.follows else known.item

        def record(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            for item, value in (*enumerate(args), *kwargs.items()):
                has_rows = isinstance(value, Tensor) and value.ndim and len(value) == len(_LENGTHS)
                if known and has_rows and item != stream:
                    self.companions[Location(path, "input", item, known.order)] = None

        return record

    def _rows(self, at: int) -> tuple[int, ...]:
        """For each row behind boundary number ``at``, the row of the start that it is."""
        rows = tuple(range(len(_LENGTHS)))
        if at < 0:
            return rows
        # never as they were, nor the first ones of these
        turned = rows[1 + at % 2 :] + rows[: 1 + at % 2]
        return turned[:2] if at == len(self.places) - 1 else turned + turned[: 1 + at % 2]

    def _rows_at(self, order: int) -> tuple[int, ...]:
        return self._rows(sum(place.order <= order for place in self.places) - 1)

    def _moved(self, at: int) -> Edit:
        before = self._rows(at - 1)
        return lambda full: full[[before.index(row) for row in self._rows(at)]]

    def _followed(self, place: Location) -> Edit:
        rows = list(self._rows_at(place.order))

        def follow(full: Tensor) -> Tensor:
            if place.order > self.places[-1].order and len(full) == len(rows):
                # the last boundary drops a row, so this one was made of what came behind it
                self.moved.add(place)
                return full
            return full[rows]

        return follow

    def _looked_at(self, place: Location) -> Edit:
        known = self.probe.places[place.path, place.port, place.item]

        def look(full: Tensor) -> Tensor:
            n_rows = len(self._rows_at(place.order))
            sizes = {n_rows * known.has_rows, n_rows * max(_LENGTHS) * known.folded}
            if (known.has_rows or known.folded) and len(full) not in sizes:
                self.stale.add(place)
            return full

        return look


def _schema(place: Location) -> SiteSchema:
    return SiteSchema(str(place), TensorType("float32", ()), place.order)


def _compare(found: Tensor, expected: Tensor, rows: Sequence[int]) -> None:
    tolerance = max(_TOLERANCE, torch.finfo(expected.dtype).eps ** 0.5) * float(expected.abs().max())
    for row, origin in enumerate(rows):
        n_pos = _LENGTHS[origin]
        difference = float((found[row, :n_pos] - expected[origin, :n_pos]).abs().max())
        if not difference <= tolerance:
            raise ValueError(f"a row that moved has other logits (off by {difference:.1e})")
