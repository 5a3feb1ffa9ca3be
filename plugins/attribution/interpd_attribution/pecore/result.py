"""The result: how much each token of an output owes to a context, and to which tokens of it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from interpd.errors import CallerError
from interpd_attribution.files.text import is_compressed, read_json, write_json
from interpd_attribution.pecore.ranking import standing_out, threshold
from interpd_attribution.pecore.views import ContextViews


@dataclass(frozen=True)
class ContextualCues:
    """One sensitive token, and what each token of the contexts did for it."""

    cti_idx: int
    """Which of the current output's tokens it is."""
    cti_token: str
    cti_score: float
    contextual_output: str
    """The text up to this token, with contexts; of an encoder-decoder model that of the decoder."""
    contrast_token: str | None = None
    """What it was contrasted with, where the target is contrastive."""
    contextless_output: str | None = None
    """The text without contexts up to ``contrast_token``."""
    input_context_scores: tuple[float, ...] | None = None
    output_context_scores: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("input_context_scores", "output_context_scores"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(map(float, value)))

    @property
    def all_scores(self) -> tuple[float, ...]:
        """Those of both contexts, one behind the other."""
        return (self.input_context_scores or ()) + (self.output_context_scores or ())

    def cues(self, n_deviations: float | None = 1.0, most: int | None = None) -> tuple[tuple[str, int], ...]:
        """The tokens whose scores stand out among those of both contexts, the largest first: side and place there.

        Args:
            n_deviations: How many standard deviations above the mean; ``None``: any.
            most: How many at most.
        """
        places = standing_out(self.all_scores, threshold(self.all_scores, n_deviations), most)
        n_input = len(self.input_context_scores or ())
        return tuple(("input", place) if place < n_input else ("output", place - n_input) for place in places)


@dataclass(frozen=True, repr=False)
class ContextAttribution(ContextViews):
    """Context sensitivity of an output's tokens, and the cues that each sensitive one relies on.

    Names are those of Inseq's ``AttributeContextOutput``, also in files. The space before a token is written ``▁``.
    """

    input_context: str | None = None
    input_context_tokens: tuple[str, ...] | None = None
    output_context: str | None = None
    output_context_tokens: tuple[str, ...] | None = None
    output_current: str | None = None
    output_current_tokens: tuple[str, ...] = ()
    cti_scores: tuple[float, ...] = ()
    """The metric at each of ``output_current_tokens``."""
    cci_scores: tuple[ContextualCues, ...] = ()
    """The sensitive tokens, the largest magnitude first."""
    info: Mapping[str, Any] | None = None
    """The arguments, by Inseq's names, and ``model_name_or_path``, ``sequences`` (exact token ids), ``provenance``."""

    def __post_init__(self) -> None:
        settle = object.__setattr__
        for name in ("input_context_tokens", "output_context_tokens"):
            value = getattr(self, name)
            settle(self, name, None if value is None else tuple(value))
        settle(self, "output_current_tokens", tuple(self.output_current_tokens))
        settle(self, "cti_scores", tuple(map(float, self.cti_scores)))
        settle(self, "cci_scores", tuple(self.cci_scores))
        settle(self, "info", None if self.info is None else dict(self.info))
        self._check()

    @property
    def cti_threshold(self) -> float:
        """What the magnitude of a sensitive token's score reaches, as ``info`` has it (1.0 standard deviations)."""
        return threshold(self.cti_scores, self._told("context_sensitivity_std_threshold", 1.0))

    @property
    def input_context_scores(self) -> tuple[tuple[float, ...], ...] | None:
        """Those of each sensitive token, or ``None`` where there is no input context."""
        return self._scores_of("input")

    @property
    def output_context_scores(self) -> tuple[tuple[float, ...], ...] | None:
        """Those of each sensitive token, or ``None`` where there is no output context."""
        return self._scores_of("output")

    def __repr__(self) -> str:
        sensitive = ", ".join(f"{one.cti_token!r} {one.cti_score:.3g}" for one in self.cci_scores) or "none"
        return f"<context attribution: {len(self.cti_scores)} tokens, sensitive: {sensitive}>"

    def to_dict(self, *, with_info: bool = True) -> dict[str, Any]:
        """Plain JSON values, as Inseq's ``to_dict`` has them."""
        found = {one.name: _plain(getattr(self, one.name)) for one in dataclasses.fields(self)}
        cues, info = found.pop("cci_scores"), found.pop("info")
        return {**found, "cci_scores": cues, **({"info": info} if with_info and info is not None else {})}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """The result that ``to_dict``, ours or Inseq's, wrote. Raises ``CallerError`` for anything else."""
        names = {one.name for one in dataclasses.fields(cls)}
        missing = {"cti_scores", "cci_scores", "output_current_tokens"} - set(told)
        unknown = set(told) - names - {"has_input_context", "has_output_context"}
        if missing or unknown:
            said = f"{sorted(missing)[0]!r} is missing" if missing else f"{sorted(unknown)[0]!r} is unknown"
            raise CallerError(f"this is no context attribution: {said}")
        try:
            cues = tuple(ContextualCues(**_own_scores(one, told)) for one in told["cci_scores"] or ())
            kept = {name: told[name] for name in names & set(told)}
            return cls(**{**kept, "cci_scores": cues, "cti_scores": told["cti_scores"] or ()})
        except (TypeError, ValueError) as error:
            raise CallerError(f"this is no context attribution: {error}") from error

    def save(self, path: str | Path, *, overwrite: bool = False, with_info: bool = True) -> Path:
        """Writes JSON with Inseq's keys, and returns the path.

        Args:
            path: Where to; a name that ends in ``.gz`` is compressed.
            overwrite: Whether a file that is there is replaced; otherwise ``CallerError`` is raised.
            with_info: Whether arguments, ids and provenance are written, too.
        """
        found = Path(path)
        write_json(found, self.to_dict(with_info=with_info), compress=is_compressed(found, None), overwrite=overwrite)
        return found

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The result in a file that ``save`` or Inseq's ``attribute-context`` wrote. Raises ``CallerError``."""
        told = read_json(Path(path))
        if not isinstance(told, Mapping):
            raise CallerError(f"{path} holds no context attribution")
        return cls.from_dict(told)

    def _told(self, name: str, default: Any) -> Any:
        return default if self.info is None else self.info.get(name, default)

    def _scores_of(self, side: str) -> tuple[tuple[float, ...], ...] | None:
        found = tuple(getattr(one, f"{side}_context_scores") for one in self.cci_scores)
        return found if found and None not in found else None

    def _check(self) -> None:
        n_tokens = len(self.output_current_tokens)
        if len(self.cti_scores) != n_tokens:
            raise CallerError(f"{len(self.cti_scores)} cti_scores for {n_tokens} output_current_tokens")
        for one in self.cci_scores:
            if not 0 <= one.cti_idx < n_tokens:
                raise CallerError(f"cti_idx is {one.cti_idx}, but the current output has {n_tokens} tokens")
            for side in ("input", "output"):
                scores, tokens = getattr(one, f"{side}_context_scores"), getattr(self, f"{side}_context_tokens")
                if scores is not None and len(scores) != len(tokens or ()):
                    raise CallerError(
                        f"{len(scores)} {side}_context_scores of {one.cti_token!r} for {len(tokens or ())} tokens"
                    )


def _own_scores(one: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """A sensitive token of a file. Where Inseq showed a result of two contexts before it saved it, the scores of each
    have those of the other behind them."""
    found = dict(one)
    both = [f"{side}_context" for side in ("input", "output")]
    if all(told.get(f"{name}_tokens") and found.get(f"{name}_scores") for name in both):
        for name in both:
            found[f"{name}_scores"] = found[f"{name}_scores"][: len(told[f"{name}_tokens"])]
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, ContextualCues):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
