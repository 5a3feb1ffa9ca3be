"""What a picture says of a context attribution, whatever it is drawn with."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from interpd_attribution.attribution import Token
from interpd_attribution.views.colours import Scale, scale
from interpd_attribution.views.labels import label

if TYPE_CHECKING:
    from interpd_attribution.pecore.result import ContextAttribution, ContextualCues

PARAMETERS = {
    "model_name_or_path": "model",
    "context_sensitivity_metric": "sensitivity",
    "attribution_method": "method",
    "attributed_fn": "target",
    "input_template": "input template",
    "output_template": "output template",
}
"""What is said of ``info``, and how it is called."""


class Marking(NamedTuple):
    """Which of the contexts' tokens are marked as cues; ``ContextualCues.cues`` says what the numbers mean."""

    n_deviations: float | None
    most: int | None


class Mark(NamedTuple):
    """A token as it is drawn."""

    text: str
    score: float
    strength: float
    """-1 to 1, of its colour."""
    is_marked: bool
    """A sensitive token, or a cue."""


def texts(result: "ContextAttribution") -> Iterator[tuple[str, str]]:
    """(name, text) of the inputs."""
    current = str((result.info or {}).get("input_current_text") or "")
    named = {"input context": result.input_context, "input": current, "output context": result.output_context}
    yield from ((name, text) for name, text in named.items() if text)


def parameters(result: "ContextAttribution") -> Iterator[tuple[str, str]]:
    """(name, value) of what the result was made with, as far as it is known."""
    info = result.info or {}
    yield from ((name, str(info[key])) for key, name in PARAMETERS.items() if info.get(key) is not None)


def of_output(result: "ContextAttribution") -> tuple[Scale, list[Mark]]:
    """The colours of sensitivities, and the current output's tokens."""
    strengths = [abs(score) for score in result.cti_scores]
    used, sensitive = scale([np.asarray(strengths)]), {one.cti_idx for one in result.cci_scores}
    tokens = zip(result.output_current_tokens, result.cti_scores, strict=True)
    return used, [
        Mark(written(text), score, used.strength(abs(score)), place in sensitive)
        for place, (text, score) in enumerate(tokens)
    ]


def of_contexts(
    result: "ContextAttribution", one: "ContextualCues", marking: Marking
) -> tuple[Scale, list[tuple[str, list[Mark]]]]:
    """The colours of a sensitive token's cues, and the tokens of each context."""
    used, cues = scale([np.asarray(one.all_scores)]), set(one.cues(*marking))
    sides = []
    for side in ("input", "output"):
        scores: Sequence[float] | None = getattr(one, f"{side}_context_scores")
        if scores is not None:
            tokens = zip(getattr(result, f"{side}_context_tokens"), scores, strict=True)
            marks = [
                Mark(written(text), score, used.strength(score), (side, place) in cues)
                for place, (text, score) in enumerate(tokens)
            ]
            sides.append((f"{side} context", marks))
    return used, sides


def written(text: str) -> str:
    """A token's text on one line, with a blank where a vocabulary has a marker for one."""
    return label(Token(text, -1), {"▁": " ", "Ġ": " ", "Ċ": "\n"})
