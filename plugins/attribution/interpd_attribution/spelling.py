"""How a model spells what stands beside one sequence: foils, baselines, tokens as text."""

from collections.abc import Sequence
from functools import cached_property

from interpd.graph.ir import Prompt
from interpd.graph.run import Tokens
from interpd_attribution.contrast import Spelling, TextOrIds
from interpd_attribution.labels import labels
from interpd_attribution.sequences import Exact, behind
from interpd_client import Model


class Speller:
    """The tokenizer of a model, asked on behalf of one sequence."""

    def __init__(self, model: Model, exact: Exact) -> None:
        self._model = model
        self.exact = exact

    @cached_property
    def tokens(self) -> Tokens:
        """The sequence with the string of each token; asked once."""
        return self._model.tokenize(self.exact.prompt)

    @property
    def for_foils(self) -> Spelling:
        """What a contrast needs."""
        return Spelling(self.continued, self.whole, self.source, self.strings)

    def continued(self, what: TextOrIds) -> Sequence[int]:
        """A continuation behind the prompt, or behind the decoder's start, as a whole target sequence."""
        exact = self.exact
        if not exact.has_encoder:
            own = exact.source
            rest = behind(self._model, exact.given, own, what) if isinstance(what, str) else tuple(what)
            return (*own.ids, *rest)
        return self.whole(what) if isinstance(what, str) else (exact.target_ids[0], *what)

    def whole(self, what: TextOrIds) -> Sequence[int]:
        """A whole target sequence; texts with what the tokenizer puts before them, and with the target's end token."""
        if not isinstance(what, str):
            return tuple(what)
        if not self.exact.has_encoder:
            return self._model.tokenize(what).ids
        target = self._model.tokenize(Prompt(token_ids=self.exact.source.ids), target=what).target
        assert target is not None
        return (*target.ids, *self._end(what, target.ids))

    def _end(self, what: str, ids: Sequence[int]) -> Sequence[int]:
        """The end token that a target of that text needs, where the attributed one, as models write them, has one."""
        alone, last = self._model.tokenize(what), self.exact.target_ids[-1]
        is_end = bool(alone.ids) and alone.offsets[-1] == (0, 0) and alone.ids[-1] == last
        return (last,) if is_end and len(self.exact.target_ids) > 1 and ids[-1] != last else ()

    def source(self, what: TextOrIds) -> Sequence[int]:
        """A prompt or source."""
        return self._model.tokenize(what).ids if isinstance(what, str) else tuple(what)

    def piece(self, what: TextOrIds) -> Sequence[int]:
        """A part of a prompt: without special tokens."""
        if not isinstance(what, str):
            return tuple(what)
        return self._model.tokenize(Prompt(text=what, add_special_tokens=False)).ids

    def strings(self, ids: Sequence[int]) -> Sequence[str]:
        """The string of each token of a whole target sequence."""
        if not self.exact.has_encoder:
            return labels(self._model.tokenize(Prompt(token_ids=tuple(ids))))
        rest = tuple(ids[1:])
        target = self._model.tokenize(Prompt(token_ids=self.exact.source.ids, target_ids=rest)).target
        assert target is not None
        return labels(target)
