"""Results that take what Inseq's take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.attribution import Attribution, Step, Token
from interpd_attribution.attributions import Attributions, merge
from interpd_attribution.features.covering import is_special
from interpd_attribution.labels import SPACE

ARROW = " → "
"""Between a foil and its target."""

CHECKS = ("do_pre_aggregation_checks", "do_post_aggregation_checks")
"""Options of Inseq's ``aggregate``; here shapes are always checked, since a result that does not fit cannot be made."""


class _InseqsOptions:
    """What results take of Inseq's options, one or several; stands before the class whose methods it calls."""

    def aggregate(self: Any, aggregator: Any = None, aggregate_fn: Any = None, **options: Any) -> Any:
        """The result's ``aggregate``; by default columns of vectors then sum to one, as Inseq has it."""
        return super().aggregate(aggregator, aggregate_fn, **_checked(options))

    def show_granular(self: Any, **options: Any) -> str | None:
        """The result's ``show_granular``."""
        return super().show_granular(**without_figure(options))

    def show_tokens(self: Any, **options: Any) -> str | None:
        """The result's ``show_tokens``."""
        return super().show_tokens(**without_figure(options))


@dataclass(frozen=True, eq=False, repr=False)
class FeatureAttributionSequenceOutput(_InseqsOptions, Attribution):
    """An ``Attribution`` that takes the options of Inseq's."""


@dataclass(frozen=True, eq=False, repr=False)
class FeatureAttributionOutput(_InseqsOptions, Attributions):
    """``Attributions`` that take the options of Inseq's."""

    def __post_init__(self) -> None:
        made = tuple(sequence(item) if type(item) is Attribution else item for item in self.sequence_attributions)
        object.__setattr__(self, "sequence_attributions", made)
        super().__post_init__()

    def __add__(self, other: Attributions) -> "FeatureAttributionOutput":
        """Both, one behind the other."""
        return merge_attributions([self, other]) if isinstance(other, Attributions) else NotImplemented

    def save(self, path: str | Path, **options: Any) -> tuple[Path, ...]:
        """``Attributions.save``: a file of ours; ``save_inseq`` writes one for Inseq."""
        if options.pop("use_primitives", False):
            raise CallerError(
                "use_primitives=True leaves out what is what: take ndarray_compact=False for numbers as text, or "
                "get_scores_dicts() for a data frame"
            )
        return super().save(path, **options)

    @classmethod
    def load(cls, path: str | Path, decompress: bool | None = None) -> Self:
        """``Attributions.load``; whether a file is compressed is seen, and only compared with what is said."""
        if decompress is not None and decompress != (Path(path).read_bytes()[:2] == b"\x1f\x8b"):
            raise CallerError(f"{path} is {'not ' if decompress else ''}compressed: leave decompress out")
        return super().load(path)


def sequence(item: Attribution) -> FeatureAttributionSequenceOutput:
    """The same result, with Inseq's options."""
    return FeatureAttributionSequenceOutput(**{one.name: getattr(item, one.name) for one in fields(Attribution)})


def merge_attributions(attributions: Sequence[Attributions]) -> FeatureAttributionOutput:
    """All sequences of several results, in order. Raises ``CallerError`` where they do not belong together."""
    merged = merge(attributions)
    return FeatureAttributionOutput(merged.sequence_attributions, merged.info)


def with_steps(item: Attribution) -> Attribution:
    """The result with what it says of each step by itself."""
    steps = []
    for number, token in enumerate(item.generated):
        end = item.attr_pos_start + number
        target = item.target_attributions
        steps.append(
            Step(
                prefix=item.target[:end],
                target=token,
                source_attributions=None if item.source_attributions is None else item.source_attributions[:, number],
                target_attributions=None if target is None else target[:end, number],
                step_scores={name: float(values[number]) for name, values in item.step_scores.items()},
            )
        )
    return replace(item, step_attributions=tuple(steps))


def renamed_scores(item: Attribution, names: Mapping[str, str]) -> Attribution:
    """The result with its step scores under other names."""
    return replace(item, step_scores={names.get(name, name): values for name, values in item.step_scores.items()})


def of_one_layer(item: Attribution) -> Attribution:
    """The result without its axis of layers, where it has one layer."""
    if "layer" not in item.dims or item.scores.shape[item.dims.index("layer") + 2] != 1:
        return item
    axis = item.dims.index("layer") + 2
    parts = {name: getattr(item, name) for name in ("source_attributions", "target_attributions")}
    taken = {name: None if part is None else np.take(part, 0, axis) for name, part in parts.items()}
    return replace(item, dims=tuple(dim for dim in item.dims if dim != "layer"), **taken)


def marked(tokens: Sequence[Token], *, is_byte_level: bool) -> tuple[Token, ...]:
    """Tokens as vocabularies write them, which Inseq's options for words expect.

    ``Ġ`` is the space of byte-level vocabularies; ``▁`` that of SentencePiece, which also begins the first token.

    Args:
        tokens: Of one side, with ``▁`` for the space before them.
        is_byte_level: Which of the two the vocabulary is.
    """
    if is_byte_level:
        table = str.maketrans({SPACE: "Ġ", " ": "Ġ", "\n": "Ċ", "\t": "ĉ"})
        written = (ARROW.join(part.translate(table) for part in token.text.split(ARROW)) for token in tokens)
        return tuple(Token(text, token.id) for text, token in zip(written, tokens, strict=True))
    # the foil's tokens and the target's, of which a text each begins
    foils, targets = (_begun([token.text.split(ARROW)[end] for token in tokens]) for end in (0, -1))
    texts = (
        f"{foil}{ARROW}{target}" if ARROW in token.text else target
        for token, foil, target in zip(tokens, foils, targets, strict=True)
    )
    return tuple(token._replace(text=text) for token, text in zip(tokens, texts, strict=True))


def _begun(texts: Sequence[str]) -> list[str]:
    """Texts of tokens, with a space before the first that is one."""
    first = next((number for number, text in enumerate(texts) if not is_special(text)), None)
    return [SPACE + text if at == first and not text.startswith(SPACE) else text for at, text in enumerate(texts)]


def without_figure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without ``return_figure``, which is refused: pictures are HTML here."""
    found = dict(options)
    if found.pop("return_figure", False):
        raise CallerError("there is no figure of treescope here: take return_html=True")
    return found


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in CHECKS}
