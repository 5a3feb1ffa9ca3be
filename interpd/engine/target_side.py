"""What the decoder of an encoder-decoder model is given: its start token, then the target.

The logits at position j predict token j of the target, the last ones the token after it. This is how such models are
trained and how they generate: the start token stands before everything, also before a beginning-of-text token that
the tokenizer adds itself, and no end token stands behind a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedTokenizerFast

from interpd.engine.model_config import end_ids_of, has_encoder, n_target_vocab
from interpd.engine.tokens import check_ids, decode, strings_of
from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd.graph.ir import Prompt
from interpd.graph.run import Tokens


@dataclass(frozen=True, slots=True)
class TargetSide:
    """Makes the decoder's tokens of prompts."""

    start: int
    """The token that the decoder begins with."""
    tokenizer: PreTrainedTokenizerFast | None
    """``None``: only targets of ids are taken."""
    ends: frozenset[int]
    """Ids with which a text of this model ends."""
    n_vocab: int
    """How many token ids the decoder knows."""
    problem: str = ""
    """Why there is no tokenizer."""
    starts: frozenset[int] = frozenset()
    """Tokens that may stand at the beginning and are no text: the start token, and those that models put behind it."""

    def tokens(self, prompt: Prompt) -> Tokens:
        """The decoder's tokens, the start token first. Raises ``InvalidRequest``."""
        if prompt.target_text is not None and prompt.target_ids is not None:
            raise InvalidRequest("a prompt has at most one of target_text and target_ids, got both")
        if prompt.target_text is not None:
            return self._of_text(prompt.target_text, add_special_tokens=prompt.add_special_tokens)
        ids = (self.start, *(prompt.target_ids or ()))
        check_ids(ids, self.n_vocab, "target")
        text = "" if self.tokenizer is None else decode(self.tokenizer, ids[1:])
        return Tokens(ids, strings_of(self.tokenizer, ids), ((0, 0),) * len(ids), text)

    def _of_text(self, text: str, *, add_special_tokens: bool) -> Tokens:
        if self.tokenizer is None:
            raise InvalidRequest(f"{self.problem or 'the model has no tokenizer'}: give the target as target_ids")
        # some tokenizers put other special tokens around a target than around a source
        encoded = self.tokenizer(
            text_target=text,
            add_special_tokens=add_special_tokens,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        n = self._n_without_end(encoded["input_ids"], encoded["special_tokens_mask"])
        ids = (self.start, *encoded["input_ids"][:n])
        check_ids(ids, self.n_vocab, "target")
        offsets = ((0, 0), *((int(start), int(end)) for start, end in encoded["offset_mapping"][:n]))
        return Tokens(ids, strings_of(self.tokenizer, ids), offsets, text)

    def _n_without_end(self, ids: Sequence[int], added: Sequence[int]) -> int:
        """How many tokens come before the end that the tokenizer added; an end that was written out stays."""
        first = next((place for place in range(len(ids), 0, -1) if not added[place - 1]), 0)
        return next((place for place in range(first, len(ids)) if ids[place] in self.ends), len(ids))


def target_side(model: nn.Module, tokenizer: PreTrainedTokenizerFast | None, problem: str = "") -> TargetSide | None:
    """The decoder's side of an encoder-decoder model; ``None`` for other models.

    Args:
        model: The model.
        tokenizer: Of the target; ``None`` when there is none that can be used.
        problem: Why.

    Raises:
        FeatureUnsupported: Nothing says with which token the decoder begins.
    """
    if not has_encoder(model):
        return None
    sources = (getattr(model, "generation_config", None), model.config)
    names = ("decoder_start_token_id", "bos_token_id")
    start = next((id_ for name in names for s in sources if (id_ := getattr(s, name, None)) is not None), None)
    if not isinstance(start, int):
        raise FeatureUnsupported(
            f"the decoder's first token is {start!r}, expected one id: set 'decoder_start_token_id' in config.json"
        )
    names = ("decoder_start_token_id", "bos_token_id", "forced_bos_token_id", "pad_token_id")
    starts = {id_ for source in sources for name in names if isinstance(id_ := getattr(source, name, None), int)}
    return TargetSide(start, tokenizer, end_ids_of(model, tokenizer), n_target_vocab(model), problem, frozenset(starts))
