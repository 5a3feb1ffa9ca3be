"""The result of attributing one sequence: which input moved which generated token, by how much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.aggregation import Chosen, aggregate
from interpd_attribution.aggregation.slices import slices
from interpd_attribution.dictionaries import Scores, scores_dict
from interpd_attribution.numbers import with_done
from interpd_attribution.shapes import check_shapes
from interpd_attribution.views import Views

if TYPE_CHECKING:
    from pathlib import Path


class Token(NamedTuple):
    """A token as it is shown, and its id."""

    text: str
    id: int
    """-1 where no one token of the vocabulary is meant: merged tokens, ``foil → target``."""


class Decoder(Protocol):
    """What ``decode_tokens`` needs of a tokenizer."""

    def decode(self, ids: list[int], /) -> str:
        """The text of token ids."""


@dataclass(frozen=True, eq=False)
class Step:
    """One generation step, as the method gave it, before the steps were joined."""

    prefix: tuple[Token, ...]
    """What the decoder had been given."""
    target: Token
    source_attributions: np.ndarray | None = None
    """``[source *dims]``"""
    target_attributions: np.ndarray | None = None
    """``[prefix *dims]``"""
    step_scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("source_attributions", "target_attributions"):
            object.__setattr__(self, name, _float32(getattr(self, name)))
        object.__setattr__(self, "prefix", tuple(Token(*token) for token in self.prefix))
        object.__setattr__(self, "target", Token(*self.target))


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Views):
    """The attribution of one sequence. Rows are inputs, columns are the attributed (generated) tokens.

    Arrays are float32 and cannot be written to; every operation returns a new object. What cannot be (shapes that do
    not fit the tokens, positions outside the target) raises ``CallerError``.
    """

    source: tuple[Token, ...]
    """Of an encoder-decoder model its source, of a decoder-only model the prompt."""
    target: tuple[Token, ...]
    """What the decoder is given and produces; of a decoder-only model prompt and continuation."""
    source_attributions: np.ndarray | None = None
    """``[source generated *dims]``; ``None`` for decoder-only models."""
    target_attributions: np.ndarray | None = None
    """``[target generated *dims]``, NaN where an input comes after what it would explain."""
    dims: tuple[str, ...] = ()
    """Names of the further axes: none (one number per pair of tokens), ``("d_model",)``, ``("layer", "head")``, ..."""
    step_scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By name, ``[generated]``: probability, entropy, ..."""
    sequence_scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By name, pairs of tokens of one side: ``encoder_...`` is ``[source source *dims]``, ``decoder_...`` is over
    target or generated tokens, any other ``[source generated *dims]``."""
    attr_pos_start: int = 0
    attr_pos_end: int | None = None
    """The attributed tokens are ``target[attr_pos_start:attr_pos_end]``; ``None``: up to the end."""
    step_attributions: tuple[Step, ...] | None = None
    info: Mapping[str, object] = field(default_factory=dict)
    """How it came about: method, target, model, dtype, seed, versions, ..."""

    def __post_init__(self) -> None:
        settle = object.__setattr__
        settle(self, "source", tuple(Token(*token) for token in self.source))
        settle(self, "target", tuple(Token(*token) for token in self.target))
        settle(self, "dims", tuple(self.dims))
        settle(self, "source_attributions", _float32(self.source_attributions))
        settle(self, "target_attributions", _float32(self.target_attributions))
        for name in ("step_scores", "sequence_scores"):
            settle(self, name, {key: _float32(value) for key, value in getattr(self, name).items()})
        settle(self, "info", dict(self.info))
        if self.attr_pos_end is None:
            settle(self, "attr_pos_end", len(self.target))
        if self.step_attributions is not None:
            settle(self, "step_attributions", tuple(self.step_attributions))
        check_shapes(self)

    def __repr__(self) -> str:
        sizes = " ".join(map(str, self.scores.shape)) if self.has_scores else "no scores"
        method = self.info.get("attribution_method", "attribution")
        named = " ".join(("input", "generated", *self.dims))
        extra = f", step scores: {', '.join(self.step_scores)}" if self.step_scores else ""
        told = self.info.get("warnings")
        extra += f", {len(told)} in info['warnings']: {told[0]}" if isinstance(told, list) and told else ""
        return f"<{method}: {len(self.generated)} tokens attributed, [{named}] = [{sizes}]{extra}>"

    @property
    def generated(self) -> tuple[Token, ...]:
        """The attributed tokens: labels of the columns."""
        return self.target[self.attr_pos_start : self.attr_pos_end]

    @property
    def features(self) -> tuple[Token, ...]:
        """The inputs, labels of the rows of ``scores``: the source's tokens, then the target's."""
        source = self.source if self.source_attributions is not None else ()
        return source + (self.target if self.target_attributions is not None else ())

    @property
    def has_scores(self) -> bool:
        """Whether anything was attributed (the method ``dummy`` brings step scores only)."""
        return self.source_attributions is not None or self.target_attributions is not None

    @property
    def scores(self) -> np.ndarray:
        """``[input generated *dims]``: source and target attributions, one above the other."""
        parts = [part for part in (self.source_attributions, self.target_attributions) if part is not None]
        if not parts:
            raise CallerError("this result has step scores only; its method attributes nothing")
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def aggregate(self, aggregator: Chosen = None, aggregate_fn: object = None, **options: Any) -> Self:
        """This result, reduced by an aggregator or by several in turn.

        Args:
            aggregator: A name of ``list_aggregators()`` or of ``list_aggregation_functions()``, an object of yours,
                or a sequence of them (or of pairs with a function). ``None``: the axes in ``dims`` from the last to the
                first, vectors (``d_...``) by their L2 norm and others by their mean.
            aggregate_fn: The function, or one for each aggregator.
            options: What the aggregators take: ``select_idx``, ``normalize``, ``source_spans``, ... One that none of
                them takes is refused.
        """
        return aggregate(self, aggregator, aggregate_fn, **options)

    def __getitem__(self, span: slice) -> Self:
        """The inputs ``[a:b]`` only: of the source, or of a decoder-only model's prompt. What was generated stays."""
        if not isinstance(span, slice) or span.step not in (None, 1):
            raise CallerError(f"{span!r} is not a range of tokens; write [start:stop]")
        first, last, _ = span.indices(len(self.source))
        side = "target_spans" if self.source_attributions is None else "source_spans"
        return slices(self, **{side: [(first, last)] if first < last else []})

    def __sub__(self, other: Self) -> Self:
        """What changes from this result to ``other``, as Inseq has it: ``other``'s scores minus these."""
        if not isinstance(other, Attribution):
            return NotImplemented
        return aggregate(self, "pair", None, paired_attr=other)

    def weight_attributions(self, step_score: str) -> Self:
        """This result, aggregated by default, with each column multiplied by a step score of its token."""
        if step_score not in self.step_scores:
            raise CallerError(f"no step score {step_score!r}; there are: {', '.join(self.step_scores) or 'none'}")
        whole, weight = self.aggregate(), self.step_scores[step_score]
        parts = {name: getattr(whole, name) for name in ("source_attributions", "target_attributions")}
        weighted = {name: None if part is None else part * weight for name, part in parts.items()}
        return replace(whole, info=with_done(whole, f"times {step_score}"), **weighted)

    def decode_tokens(self, tokenizer: Decoder) -> Self:
        """This result with each token as ``tokenizer`` decodes its id: readable for byte-level vocabularies."""

        def decoded(tokens: Sequence[Token]) -> tuple[Token, ...]:
            return tuple(Token(tokenizer.decode([item.id]), item.id) if item.id >= 0 else item for item in tokens)

        return replace(self, source=decoded(self.source), target=decoded(self.target))

    def clean_tokens(self, markers: Mapping[str, str] | None = None) -> Self:
        """This result with the markers of words replaced in its tokens: by default ``▁`` and ``Ġ`` by a space,
        ``Ċ`` by a line feed."""
        table = {"▁": " ", "Ġ": " ", "Ċ": "\n"} if markers is None else markers

        def cleaned(tokens: Sequence[Token]) -> tuple[Token, ...]:
            texts = [item.text for item in tokens]
            for marker, text in table.items():
                texts = [item.replace(marker, text) for item in texts]
            return tuple(Token(text, item.id) for text, item in zip(texts, tokens, strict=True))

        return replace(self, source=cleaned(self.source), target=cleaned(self.target))

    def get_scores_dicts(
        self, aggregator: Chosen = None, *, do_aggregation: bool = True, **options: Any
    ) -> dict[str, Scores]:
        """All scores as nested dicts for ``pandas.DataFrame``: ``source_attributions``, ``target_attributions`` and
        ``step_scores``, by ``(position, generated token)`` and then by ``(position, input token)`` or name."""
        return scores_dict(self.aggregate(aggregator, **options) if do_aggregation else self)

    def _shown(self, aggregator: Chosen, do_aggregation: bool, options: Mapping[str, Any]) -> tuple["Attribution", ...]:
        return (self.aggregate(aggregator, **options) if do_aggregation else self,)

    def save(self, path: "str | Path", **options: Any) -> None:
        """Writes this result to a file of its own; ``Attributions.save`` says all about ``options``."""
        from interpd_attribution.attributions import Attributions  # a result of several sequences, which knows ours

        Attributions((self,), self.info).save(path, **options)

    def save_inseq(self, path: "str | Path", **options: Any) -> None:
        """Writes this result to a file that Inseq loads; ``Attributions.save_inseq`` says all about ``options``."""
        from interpd_attribution.attributions import Attributions  # as above

        Attributions((self,), self.info).save_inseq(path, **options)


def _float32(array: np.ndarray | None) -> np.ndarray | None:
    """A read-only view; a copy only where the dtype differs."""
    if array is None:
        return None
    kept = np.asarray(array, dtype=np.float32).view()
    kept.flags.writeable = False
    return kept
