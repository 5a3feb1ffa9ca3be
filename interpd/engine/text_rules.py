"""What the generation config of a model demands of the texts that it writes.

Encoder-decoder models are trained for rules: a first token that is forced (a language), a last one, tokens that must
not be chosen (Marian's padding), a least length, no repeated n-grams. The rules are carried out by transformers' own
processors, in the order of its ``generate``, on the logits of each row before its token is chosen; so the result is
that of ``generate`` with one beam. Beams themselves, and whatever scores whole texts, are not.

Of a decoder-only model one setting counts: ``suppress_tokens``, ids that no text can have (rows of a vocabulary that
was padded to a round number). The others are tastes there, and the caller's to choose.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import logits_process as processors

from interpd.engine.resident import ResidentModel
from interpd.errors import FeatureUnsupported
from interpd.graph.ir import Generation
from interpd.graph.run import Tokens

_REFUSED = ("guidance_scale", "watermarking_config", "penalty_alpha", "dola_layers", "stop_strings")
"""Settings that change greedy texts, and that nobody carries out here."""
_NEUTRAL = (None, 0, 1, 1.0, False)


@dataclass(frozen=True, slots=True)
class Limits:
    """The lengths that rules refer to."""

    n_prompt: int
    """Tokens of the decoder before the new ones."""
    n_most: int
    """Of the whole, the new ones included."""


@dataclass(frozen=True, slots=True)
class TextRules:
    """The rules for one text."""

    steps: tuple[Callable[[Tensor, Tensor], Tensor], ...]

    def apply(self, ids: list[int], logits: Tensor) -> Tensor:
        """Logits ``[d_vocab]`` as the rules leave them, in float32; ``ids``: all of the decoder's tokens so far."""
        scores, before = logits[None].to(torch.float32, copy=True), torch.tensor([ids], device=logits.device)
        for step in self.steps:
            scores = step(before, scores)
        return scores[0]


def rules_of(resident: ResidentModel, options: Generation, tokens: Tokens, n_new: int) -> TextRules | None:
    """The rules for a text of at most ``n_new`` new tokens behind ``tokens``; ``None`` where there are none."""
    config = getattr(resident.model, "generation_config", None)
    if config is None:
        return None
    device = resident.model.device
    if tokens.target is None:
        never = config.suppress_tokens
        return TextRules((processors.SuppressTokensLogitsProcessor(never, device=str(device)),)) if never else None
    n_prompt = len(tokens.target.ids)
    source = torch.tensor([tokens.ids], device=device)
    steps = tuple(_steps(_Texts(config, options, Limits(n_prompt, n_prompt + n_new), source, device)))
    return TextRules(steps) if steps else None


def note_on_rules(resident: ResidentModel) -> str:
    """What callers should know about the texts of this model, empty for nothing.

    Raises ``FeatureUnsupported`` for what its generation config asks for and cannot be had.
    """
    config = getattr(resident.model, "generation_config", None)
    if resident.target_side is None or config is None:
        return ""
    for name in _REFUSED:
        if getattr(config, name, None) not in _NEUTRAL:
            raise FeatureUnsupported(f"the model's generation config sets {name!r}, which is not carried out here")
    n_beams = config.num_beams or 1
    asked = f"the model's generation config asks for {n_beams} beams"
    return f"{asked}; texts are written token by token here, without beams" if n_beams > 1 else ""


@dataclass(frozen=True, slots=True)
class _Texts:
    config: GenerationConfig
    options: Generation
    limits: Limits
    source: Tensor
    device: torch.device

    @property
    def ends(self) -> Tensor | None:
        """The end tokens of the config."""
        found = self.config.eos_token_id
        if found is None:
            return None
        return torch.tensor(found if isinstance(found, list) else [found], device=self.device)

    def get(self, name: str) -> Any:
        """A setting; ``None`` where it asks for nothing."""
        found = getattr(self.config, name, None)
        return found if found is not None and found is not False else None


def _steps(of: _Texts) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
    # the order is that of transformers
    yield from _repetition(of)
    if (words := of.get("bad_words_ids")) is not None:
        yield processors.NoBadWordsLogitsProcessor(words, of.ends)
    yield from _lengths(of)
    if (first := of.get("forced_bos_token_id")) is not None:
        yield processors.ForcedBOSTokenLogitsProcessor(first)
    # an end that is forced although the caller ignores ends would be no end
    if (last := of.get("forced_eos_token_id")) is not None and not of.options.ignore_eos:
        yield processors.ForcedEOSTokenLogitsProcessor(of.limits.n_most, last, device=str(of.device))
    if of.get("remove_invalid_values"):
        yield processors.InfNanRemoveLogitsProcessor()
    if (decay := of.get("exponential_decay_length_penalty")) is not None and of.ends is not None:
        yield processors.ExponentialDecayLengthPenalty(decay, of.ends, of.limits.n_prompt)
    yield from _suppressed(of)
    if of.get("renormalize_logits"):
        yield processors.LogitNormalization()


def _repetition(of: _Texts) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
    if (bias := of.get("sequence_bias")) is not None:
        yield processors.SequenceBiasLogitsProcessor(bias)
    if (penalty := of.get("encoder_repetition_penalty")) not in (None, 1.0):
        yield processors.EncoderRepetitionPenaltyLogitsProcessor(penalty, of.source)
    if (penalty := of.get("repetition_penalty")) not in (None, 1.0):
        yield processors.RepetitionPenaltyLogitsProcessor(penalty)
    if size := of.get("no_repeat_ngram_size"):
        yield processors.NoRepeatNGramLogitsProcessor(size)
    if size := of.get("encoder_no_repeat_ngram_size"):
        yield processors.EncoderNoRepeatNGramLogitsProcessor(size, of.source)


def _lengths(of: _Texts) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
    device = str(of.device)
    if (least := of.get("min_length")) and of.ends is not None:
        yield processors.MinLengthLogitsProcessor(least, of.ends, device=device)
    if (least := of.get("min_new_tokens")) and of.ends is not None:
        yield processors.MinNewTokensLengthLogitsProcessor(of.limits.n_prompt, least, of.ends, device=device)


def _suppressed(of: _Texts) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
    device, n_prompt = str(of.device), of.limits.n_prompt
    if (ids := of.get("suppress_tokens")) is not None:
        yield processors.SuppressTokensLogitsProcessor(ids, device=device)
    if (ids := of.get("begin_suppress_tokens")) is not None:
        begin = n_prompt if n_prompt > 1 or of.get("forced_bos_token_id") is None else n_prompt + 1
        yield processors.SuppressTokensAtBeginLogitsProcessor(ids, begin, device=device)
