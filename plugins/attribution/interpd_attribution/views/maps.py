"""A result that has layers: for each generated token one map, its inputs down and the layers across."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.views.colours import Scale, scale
from interpd_attribution.views.heatmap import cell_html, legend_html, named_html
from interpd_attribution.views.labels import input_labels, labels, title
from interpd_attribution.views.layers import Layer, axis, grouped, layers
from interpd_attribution.views.look import Look
from interpd_attribution.views.panes import MOST_CELLS, entries_of

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution


@dataclass(frozen=True)
class Map:
    """What each layer's values at each input did to one generated token."""

    name: str
    inputs: tuple[str, ...]
    scores: np.ndarray
    """``[input layer]``"""


@dataclass(frozen=True)
class Maps:
    """Those of one side."""

    side: str
    maps: tuple[Map, ...]
    layers: tuple[Layer, ...]
    axis: str
    """What is across."""
    note: str
    """What of it is not shown."""


def is_mapped(attribution: "Attribution", look: Look) -> bool:
    """Whether layers are all that a result has beside its tokens, and nobody wants a picture for each of them."""
    return attribution.dims == ("layer",) and look.show_dim is None


def maps(attribution: "Attribution", look: Look) -> Iterator[Maps]:
    """The maps of the source and of the target. Raises ``CallerError``: more cells than fit a page."""
    for side in ("source", "target"):
        array = getattr(attribution, f"{side}_attributions")
        if array is not None:
            yield _maps(attribution, look, side, array)


def maps_scale(drawn: Sequence[Maps], look: Look) -> Scale:
    """One scale for all maps, so that their colours compare."""
    return scale((one.scores for side in drawn for one in side.maps), look.min_val, look.max_val)


def maps_html(attribution: "Attribution", look: Look, heading: str = "") -> str:
    """The maps as tables; the exact score is where the pointer is."""
    drawn = list(maps(attribution, look))
    used = maps_scale(drawn, look)
    parts = [f"<h3>{escape(heading or title(attribution))}</h3>", legend_html(used, is_written=False)]
    for side in drawn:
        said = f"{side.side.capitalize()} attribution <small>→ {escape(side.axis)}, ↓ inputs</small>"
        parts.append(f"<h4>{said}</h4>")
        parts.append(f'<p class="note">{escape(side.note)}</p>' if side.note else "")
        figures = "".join(_figure(one, side.layers, used) for one in side.maps)
        parts.append(f'<div class="panes maps">{figures}</div>')
    return f'<div class="ia"><div class="wide">{"".join(parts)}</div></div>'


def _maps(attribution: "Attribution", look: Look, side: str, array: np.ndarray) -> Maps:
    size = array.shape[2]
    (kept,), notes = entries_of(array, attribution.dims, look, look.max_show_size or size)
    n_cells = array.shape[0] * array.shape[1] * len(kept)
    if n_cells > MOST_CELLS:
        raise CallerError(f"{n_cells} cells are more than {MOST_CELLS}; slice_dims or [a:b] show fewer")
    inputs = tuple(input_labels(attribution, side, look.replace_char))
    drawn = []
    for number, text in enumerate(labels(attribution.generated, look.replace_char)):
        scores = array[:, number, kept.start : kept.stop]
        before = attribution.attr_pos_start + number
        # what is generated later says nothing, and takes no room
        n = before if side == "target" and before and np.isnan(scores[before:]).all() else len(inputs)
        drawn.append(Map(f"{attribution.attr_pos_start + number} → {text}", inputs[:n], scores[:n]))
    shown = tuple(layers(attribution, size)[kept.start : kept.stop])
    return Maps(side, tuple(drawn), shown, axis(attribution, size), notes)


def _figure(one: Map, across: Sequence[Layer], used: Scale) -> str:
    names = [" ".join(filter(None, layer)) for layer in across]
    body = []
    for row, values in zip(one.inputs, one.scores.tolist(), strict=True):
        cells = "".join(
            cell_html(value, used, f"layer {name}, {row} {one.name.partition(' ')[2]}: ", is_written=False)
            for name, value in zip(names, values, strict=True)
        )
        body.append(f"<tr><th>{named_html(row)}</th>{cells}</tr>")
    groups = grouped(across)
    above = "".join(f'<th colspan="{n}">{named_html(group)}</th>' for group, n in groups if len(groups) > 1)
    heads = "".join(f"<th>{named_html(layer.text)}</th>" for layer in across)
    head = f"{f'<tr><th></th>{above}</tr>' if above else ''}<tr><th></th>{heads}</tr>"
    caption = f"<figcaption>{escape(one.name)}</figcaption>"
    return f"<figure>{caption}<table><thead>{head}</thead>{''.join(body)}</table></figure>"
