"""Where on the service a tensor of the user's model is read and written.

A tensor passes several modules on its way: a block's output is the next block's input and the input of its norm. All
these are one memory, and a change in place at any of them is seen by whatever the model computes from that memory
later. So every memory has a *home*: the site at which a write has the same effect. It is the first place that the
tensor passes after which all of the model's own reads go through that place.
"""

from dataclasses import dataclass, replace
from functools import cached_property

from interpd.graph.schema import Manifest, SiteSchema
from interpd_client.nnsight.layout import BOTH, POSITIONS, ROWS, Event, Layout, Leaf, Tag, Use

OWN_POSITIONS = ("pos", "query_pos")
RESID_MID = ".resid_mid"


@dataclass(frozen=True, slots=True)
class Home:
    """A site for a memory."""

    site: SiteSchema
    tag: Tag
    """The place of the tensor that it is."""
    memory: tuple[int, int]
    by_row: bool
    """Whether dimension 0 of the local tensor is the batch; otherwise all rows share the tensor."""
    last_only: bool
    """Whether the local tensor holds the last position only (logits in a generation)."""
    is_folded: bool
    """Whether rows and positions are one dimension."""
    reaches_all: bool
    """Whether a write there reaches all that the model computes of the memory from then on."""
    is_first: bool
    """Whether the model computes nothing of the memory before."""
    is_middle: bool = False
    """Whether it is the canonical site in the middle of a block, which the service carries to the block's output."""

    is_report: bool = False
    """Whether the tensor is only shown to whoever asks, and the model computes nothing of it after that."""

    @property
    def time(self) -> int:
        """The event where it lies."""
        return self.tag[0]

    @property
    def position_dim(self) -> int | None:
        """The dimension that counts positions."""
        names = [dim.name for dim in self.site.type.dims]
        return next((names.index(name) for name in OWN_POSITIONS if name in names), None)


class Homes:
    """The homes of all memories of one layout. ``generates``: tokens are chosen by what the model returns."""

    def __init__(self, manifest: Manifest, layout: Layout, *, generates: bool = False) -> None:
        self._manifest = manifest
        self._layout = layout
        self._generates = generates
        self._found: dict[tuple[object, ...], Home | None] = {}

    def of(self, event: Event, leaf: Leaf) -> Home | None:
        """The home of the tensor that passes ``event``; ``None`` where the service offers no site for it."""
        key = (leaf.memory, leaf.geometry, event.time)
        if key not in self._found:
            self._found[key] = self._find(event, leaf)
        return self._found[key]

    def own(self, event: Event, leaf: Leaf) -> Home | None:
        """The site at this very place: an assignment there reaches those who get the tensor from it, no others."""
        site = self._site(event, leaf)
        if site is None:
            pattern = self._pattern(event, leaf)
            home = None if pattern is None else self._home(event, leaf, pattern)
            return None if home is None else replace(home, is_report=True)
        return self._home(event, leaf, site)

    def _find(self, event: Event, leaf: Leaf) -> Home | None:
        places = [place for place in self._aliases(leaf) if place[0].time <= event.time]
        homes = [home for place in places if (home := self.own(*place)) is not None]
        best = next((home for home in homes if home.reaches_all), None)
        return best or self._carried(homes) or self.own(event, leaf) or (homes[-1] if homes else None)

    def _carried(self, homes: list[Home]) -> Home | None:
        """The canonical site in the middle of a block, which stands for the norm's input and for the sum after it."""
        for home in homes:
            for site in self._middles.get(home.site.order, ()):
                return replace(home, site=site, reaches_all=True, is_middle=True)
        return None

    @cached_property
    def _returned_logits(self) -> SiteSchema | None:
        """``logits`` where it stands for what the whole model returns, not for what its head does."""
        sites = self._manifest.sites
        found = sites.get("logits")
        at_a_module = found is None or any(site.order == found.order and not site.canonical for site in sites.values())
        return None if at_a_module else found

    @cached_property
    def _middles(self) -> dict[int, list[SiteSchema]]:
        found: dict[int, list[SiteSchema]] = {}
        for site in self._manifest.sites.values():
            if site.canonical and site.name.endswith(RESID_MID):
                found.setdefault(site.order, []).append(site)
        return found

    def _aliases(self, leaf: Leaf) -> list[tuple[Event, Leaf]]:
        return self._by_memory.get((leaf.memory, leaf.geometry), [])

    @cached_property
    def _by_memory(self) -> dict[tuple[object, ...], list[tuple[Event, Leaf]]]:
        found: dict[tuple[object, ...], list[tuple[Event, Leaf]]] = {}
        for event in self._layout.events:
            for leaf in event.leaves:
                found.setdefault((leaf.memory, leaf.geometry), []).append((event, leaf))
        return found

    def _site(self, event: Event, leaf: Leaf) -> SiteSchema | None:
        sites = self._manifest.sites
        if not event.path:
            is_logits = event.port == "output" and leaf.item == "logits"
            return self._returned_logits if is_logits else None
        if leaf.is_deep:
            return None
        name = f"{event.path}.{event.port}"
        if leaf is not _first(event):
            name = f"{name}.{leaf.item}" if event.port == "output" else ""
        site, logits = sites.get(name), sites.get("logits")
        if site is not None and logits is not None and (site.order, site.type) == (logits.order, logits.type):
            # the same place; the service computes only those logits that are asked for under this name
            return logits
        return site

    def _pattern(self, event: Event, leaf: Leaf) -> SiteSchema | None:
        """The attention probabilities that an attention module gives beside its output."""
        whole = self._manifest.sites.get(f"{event.path}.output")
        is_square = leaf.sizes[:1] == (ROWS,) and leaf.sizes[2:] == (POSITIONS, POSITIONS)
        if whole is None or event.port != "output" or leaf.is_deep or not is_square:
            return None
        return self._manifest.sites.get(f"layers.{whole.layer}.attn.pattern")

    def _home(self, event: Event, leaf: Leaf, site: SiteSchema) -> Home | None:
        dims = site.type.dims
        # a mask of numbers here may be one of integers there
        if len(dims) != len(leaf.sizes) or leaf.dtype.is_floating_point != ("float" in site.type.dtype):
            return None
        by_row = last_only = is_folded = False
        for place, (dim, size) in enumerate(zip(dims, leaf.sizes, strict=True)):
            if place == 0 and size == ROWS and dim.size == 1:
                by_row = True
            elif dim.name in OWN_POSITIONS and size == 1:
                last_only = True
            elif dim.size is None and not dim.name and size in (BOTH, POSITIONS):
                is_folded = True
            elif dim.size != size and not (dim.size is None and size == POSITIONS):
                return None
        uses = self.uses(leaf.memory)
        later = [use for use in uses if use.time > event.time]
        return Home(
            site=site,
            tag=leaf.tag,
            memory=leaf.memory,
            by_row=by_row,
            last_only=last_only,
            is_folded=is_folded,
            reaches_all=all(leaf.tag in use.trail for use in later),
            is_first=len(later) == len(uses),
        )

    def uses(self, memory: tuple[int, int]) -> tuple[Use, ...]:
        """When the model's code, and what chooses the next token of a generation, read a memory."""
        found = self._layout.uses.get(memory, ())
        return (*found, self._sampling) if self._sampling is not None and memory == self._sampled else found

    @cached_property
    def _sampled(self) -> tuple[int, int] | None:
        leaf = self._logits
        return None if leaf is None or not self._generates else leaf.memory

    @cached_property
    def _sampling(self) -> Use | None:
        leaf = self._logits
        return None if leaf is None or not self._generates else Use(len(self._layout.events), leaf.trail)

    @property
    def _logits(self) -> Leaf | None:
        return next((leaf for leaf in self._layout.events[-1].leaves if leaf.item == "logits"), None)


def _first(event: Event) -> Leaf | None:
    return next((leaf for leaf in event.leaves if not leaf.is_deep), None)
