"""The results of several sequences, and what they have in common."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, overload

from interpd.errors import CallerError
from interpd_attribution import files
from interpd_attribution.aggregation import Chosen
from interpd_attribution.attribution import Attribution, Decoder
from interpd_attribution.dictionaries import Scores
from interpd_attribution.views import Views

MUST_MATCH = (
    "attribute_target",
    "attribution_method",
    "constrained_decoding",
    "include_eos_baseline",
    "model_class",
    "model_name",
    "step_scores",
    "tokenizer_class",
    "tokenizer_name",
)
"""Keys of ``info`` in which results that are merged agree."""

_NOWHERE = object()


@dataclass(frozen=True, eq=False, repr=False)
class Attributions(Views):
    """Several results in order, ``out[0]``, and how they came about."""

    sequence_attributions: tuple[Attribution, ...]
    info: Mapping[str, object] = field(default_factory=dict)
    """Method, target, model, texts, arguments, versions: what holds for all of them."""

    def __post_init__(self) -> None:
        wrong = [item for item in self.sequence_attributions if not isinstance(item, Attribution)]
        if wrong:
            raise CallerError(f"{wrong[0]!r} is a {type(wrong[0]).__name__}, expected an Attribution")
        object.__setattr__(self, "info", dict(self.info))
        shared = files.info_of_each(self.info, len(self.sequence_attributions))
        told = zip(self.sequence_attributions, shared, strict=True)
        # each knows how it came about, also when it is taken out
        items = (replace(item, info={**common, **item.info}) for item, common in told)
        object.__setattr__(self, "sequence_attributions", tuple(items))

    def __repr__(self) -> str:
        lines = "\n".join(f"  {number}: {item!r}" for number, item in enumerate(self))
        return f"<{len(self)} attributions>\n{lines}" if lines else "<no attributions>"

    def __len__(self) -> int:
        return len(self.sequence_attributions)

    def __iter__(self) -> Iterator[Attribution]:
        return iter(self.sequence_attributions)

    @overload
    def __getitem__(self, which: int) -> Attribution: ...
    @overload
    def __getitem__(self, which: slice) -> Self: ...
    def __getitem__(self, which: int | slice) -> "Attribution | Self":
        try:
            found = self.sequence_attributions[which]
        except IndexError:
            # still an ``IndexError``: it ends loops that count
            raise IndexError(f"there is no attribution {which}: there are {len(self)}, from 0 on") from None
        if isinstance(found, Attribution):
            return found
        texts = files.texts_of_each(self.info, len(self))
        info = {**self.info, **{key: values[which] for key, values in texts.items()}}
        return replace(self, sequence_attributions=found, info=info)

    def __add__(self, other: "Attributions") -> "Attributions":
        """Both, one behind the other; see ``merge``."""
        return merge((self, other)) if isinstance(other, Attributions) else NotImplemented

    def __radd__(self, other: object) -> "Attributions":
        """So that ``sum([...])`` works, which begins with zero."""
        return self if other == 0 else NotImplemented

    @property
    def step_attributions(self) -> tuple[object, ...] | None:
        """The steps of all sequences, in order; ``None`` where they were not kept."""
        kept = [item.step_attributions for item in self if item.step_attributions is not None]
        return tuple(step for steps in kept for step in steps) if kept else None

    def aggregate(self, aggregator: Chosen = None, aggregate_fn: object = None, **options: Any) -> Self:
        """Each of them aggregated; ``Attribution.aggregate`` says how."""
        return self._each(lambda item: item.aggregate(aggregator, aggregate_fn, **options))

    def weight_attributions(self, step_score: str) -> Self:
        """Each of them weighted by a step score; ``Attribution.weight_attributions`` says how."""
        return self._each(lambda item: item.weight_attributions(step_score))

    def decode_tokens(self, tokenizer: Decoder) -> Self:
        """Each of them with its tokens as ``tokenizer`` decodes them."""
        return self._each(lambda item: item.decode_tokens(tokenizer))

    def clean_tokens(self, markers: Mapping[str, str] | None = None) -> Self:
        """Each of them without the vocabulary's markers of words; ``Attribution.clean_tokens`` says which."""
        return self._each(lambda item: item.clean_tokens(markers))

    def get_scores_dicts(
        self, aggregator: Chosen = None, *, do_aggregation: bool = True, **options: Any
    ) -> list[dict[str, Scores]]:
        """For each the dicts of ``Attribution.get_scores_dicts``: ``pd.DataFrame(dicts[0]["source_attributions"])``."""
        return [item.get_scores_dicts(aggregator, do_aggregation=do_aggregation, **options) for item in self]

    def save(self, path: str | Path, **options: Any) -> tuple[Path, ...]:
        """Writes them to a file, and returns its path (or the paths of all).

        Args:
            path: Where to; a name that ends in ``.gz`` is compressed.
            options: ``overwrite`` (false: a file that is there stays, and ``CallerError`` is raised); ``compress``
                (said by the name if it is left out); ``ndarray_compact`` (true; false writes numbers as text for
                programs without safetensors); ``split_sequences`` (false; true: a file for each, ``out_0.json``, ...);
                ``scores_precision`` (``"float32"``; ``"float16"`` and ``"float8"`` round each array after it was scaled
                by a power of two: relative errors of the larger scores are below 0.05 and 6.3 percent).
        """
        return files.write(path, self.sequence_attributions, self.info, **options)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The results in a file of ours or of Inseq's, compressed or not. Step attributions come back, too."""
        return cls(*files.read(path))

    def save_inseq(self, path: str | Path, **options: Any) -> tuple[Path, ...]:
        """Writes a file for ``inseq.FeatureAttributionOutput.load`` (0.7.1); returns its path, or the paths of all.

        Args:
            path: Where to.
            options: ``overwrite``, ``compress`` (load it with ``decompress=True``), ``split_sequences`` and
                ``scores_precision`` as Inseq has them (its float8 is not scaled: scores below 0.001 become zero), and
                ``without_steps``: Inseq cannot load step attributions, so they are refused unless this is true.
        """
        return files.write_inseq(path, self.sequence_attributions, self.info, **options)

    def _each(self, change: Callable[[Attribution], Attribution]) -> Self:
        return replace(self, sequence_attributions=tuple(map(change, self.sequence_attributions)))

    def _shown(self, aggregator: Chosen, do_aggregation: bool, options: Mapping[str, Any]) -> Sequence[Attribution]:
        return [item.aggregate(aggregator, **options) if do_aggregation else item for item in self]


def merge(parts: Sequence[Attributions]) -> Attributions:
    """All sequences of several results, in order.

    Raises:
        CallerError: Nothing to merge, or results that differ in the model, the method or in what else ``MUST_MATCH``
            lists.
    """
    if not parts:
        raise CallerError("there is nothing to merge")
    first = parts[0].info
    for key in MUST_MATCH:
        for number, part in enumerate(parts):
            if part.info.get(key, _NOWHERE) != first.get(key, _NOWHERE):
                raise CallerError(
                    f"results 0 and {number} differ in {key}: {first.get(key)!r} and {part.info.get(key)!r}; only "
                    "results of one model and method can be merged"
                )
    info = dict(first)
    if "attr_pos_end" in first:
        info["attr_pos_end"] = max(part.info.get("attr_pos_end", 0) for part in parts)
    for key in files.PER_SEQUENCE:
        if key in first:
            info[key] = [text for part in parts for text in part.info.get(key, ())]
    return Attributions(tuple(item for part in parts for item in part), info)
