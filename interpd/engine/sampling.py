"""The next token of one prompt, and when a continuation ends.

Every prompt has a sampler of its own, so that its tokens do not depend on who shares the pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from interpd.engine.model_config import end_ids_of
from interpd.engine.resident import ResidentModel
from interpd.graph.ir import Generation

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_N_CONTEXT = 8
"""Tokens of the prompt before the new ones when they are decoded: many tokenizers drop the space of a first token."""


class Sampler:
    """How the tokens of one prompt are chosen: the greatest logit, or a draw after temperature, top-k, top-p in turn.

    Args:
        options: Of the request.
        invoke: Of the prompt; one seed gives different prompts different draws, ``seeds`` gives each its own.
        device: Of the logits.
    """

    def __init__(self, options: Generation, invoke: int, device: torch.device) -> None:
        self.draws = options.do_sample
        """Whether it draws; otherwise it takes the greatest."""
        self._options = options
        self._generator = torch.Generator(device)
        if options.seeds:
            self._generator.manual_seed(options.seeds[invoke])
        elif options.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed((options.seed + invoke) % (1 << 63))

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the next token is drawn from, of logits ``[d_vocab]``."""
        return torch.softmax(self._warped(logits), dim=-1)

    def draw(self, probabilities: Tensor) -> Tensor:
        """A token id, ``[1]``; finite probabilities are needed."""
        return torch.multinomial(probabilities, 1, generator=self._generator)

    def _warped(self, logits: Tensor) -> Tensor:
        options = self._options
        logits = logits / options.temperature
        if options.top_k:
            least = logits.topk(min(options.top_k, logits.shape[-1])).values[-1]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if options.top_p < 1.0:
            ascending, order = logits.sort()
            drop = ascending.softmax(-1).cumsum(-1) <= 1 - options.top_p
            drop[-1] = False
            logits = logits.masked_fill(torch.zeros_like(drop).scatter(0, order, drop), -torch.inf)
        return logits


def choose(samplers: Sequence[Sampler], logits: Tensor) -> list[int]:
    """The next token of each row of logits ``[batch d_vocab]``; a row that cannot be drawn from takes the greatest.

    Waits for the device once, or twice where anybody draws, however many rows there are.
    """
    logits = logits.float()
    chosen = logits.argmax(dim=-1)
    drawing = [row for row, sampler in enumerate(samplers) if sampler.draws]
    if drawing:
        probabilities = torch.stack([samplers[row].probabilities(logits[row]) for row in drawing])
        # a request may have written NaN into its own stream; a draw from it would raise
        can_draw = probabilities.isfinite().all(dim=-1).tolist()
        for row, own, possible in zip(drawing, probabilities, can_draw, strict=True):
            if possible:
                chosen[row : row + 1] = samplers[row].draw(own)
    return chosen.tolist()


def end_ids(resident: ResidentModel) -> frozenset[int]:
    """The ids with which a text of this model ends, from its generation config, its config and its tokenizer."""
    return end_ids_of(resident.model, resident.target_tokenizer)


@dataclass(slots=True)
class Continuation:
    """What was generated for one prompt."""

    resident: ResidentModel
    options: Generation
    max_tokens: int
    """New tokens at most: what was asked for, less what the model has no positions for."""
    ends: frozenset[int]
    prompt: tuple[int, ...] = ()
    is_streamed: bool = True
    """Whether somebody reads the text as it grows; otherwise only what stop strings need is decoded."""
    ids: list[int] = field(default_factory=list)
    reason: str = ""
    """Why it ended; empty: it goes on."""
    _shown: int = 0
    """How many of context and new tokens have been told as text."""
    _piece_from: int = 0
    _streamed: str = ""

    def __post_init__(self) -> None:
        self.prompt = self._behind_start(self.prompt)
        self._shown = len(self._context)

    @property
    def _context(self) -> list[int]:
        return list(self.prompt[-_N_CONTEXT:])

    def _behind_start(self, ids: Sequence[int]) -> tuple[int, ...]:
        """``ids`` without what begins every text of a decoder: its start token, and those that follow from it."""
        starts = self.resident.starts
        first = next((place for place, id_ in enumerate(ids) if id_ not in starts), len(ids))
        return tuple(ids[first:])

    @property
    def _told(self) -> list[int]:
        """The new tokens that are text."""
        return self.ids if self.prompt or not self.resident.starts else list(self._behind_start(self.ids))

    def add(self, token: int) -> str:
        """Takes a token in; the text that it adds, empty while a character is incomplete and where nobody reads it."""
        self.ids.append(token)
        if token in self.ends and not self.options.ignore_eos:
            self.reason = "eos"
            return ""
        piece = self._next_piece() if self.is_streamed or self.options.stop_strings else ""
        if token in self.options.stop_token_ids:
            self.reason = "stop_token"
        elif self._has_stop_string(piece):
            self.reason = "stop_string"
        elif len(self.ids) >= self.max_tokens:
            self.reason = "length"
        return piece

    def _next_piece(self) -> str:
        # decoded with the tokens before it: the text of a token may depend on them
        ids = self._context + self._told
        before = self.resident.decode(ids[self._piece_from : self._shown])
        text = self.resident.decode(ids[self._piece_from :])
        if text.endswith(_INCOMPLETE) or len(text) <= len(before):
            return ""
        self._piece_from, self._shown = self._shown, len(ids)
        return text[len(before) :]

    def _has_stop_string(self, piece: str) -> bool:
        longest = max(map(len, self.options.stop_strings), default=0)
        recent = self._streamed[-longest:] + piece if longest else ""
        self._streamed = recent
        return any(stop in recent for stop in self.options.stop_strings)

    @property
    def text(self) -> str:
        """What it adds to the prompt's text, without the token that ended it; a stop string stays in."""
        new = self._told[:-1] if self.reason == "eos" else self._told
        before, text = self.resident.decode(self._context), self.resident.decode(self._context + new)
        return text[len(before) :] if text.startswith(before) else self.resident.decode(new)
