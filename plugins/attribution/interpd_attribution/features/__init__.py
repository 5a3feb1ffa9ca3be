"""Features: what is attributed to (tokens, words, sentences, fields, documents), and what it is compared with."""

from interpd_attribution.features.baseline import Baseline
from interpd_attribution.features.covering import Part
from interpd_attribution.features.kinds import (
    NAMES,
    Asked,
    Features,
    Sides,
    documents,
    each_token,
    examples,
    named,
    positions,
    regex,
    segments_of,
    spans,
    turns,
)
from interpd_attribution.features.nested import descend, nested
from interpd_attribution.features.segments import Segments
from interpd_attribution.features.template import TextTemplate

__all__ = [
    "NAMES",
    "Asked",
    "Baseline",
    "Features",
    "Part",
    "Segments",
    "Sides",
    "TextTemplate",
    "descend",
    "documents",
    "each_token",
    "examples",
    "named",
    "nested",
    "positions",
    "regex",
    "segments_of",
    "spans",
    "turns",
]
