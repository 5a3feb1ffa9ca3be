"""The client's part: ``model.tuned_lens``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from interpd_client import Model


@dataclass(frozen=True)
class Guesses:
    """What each layer would say next, if the model stopped there."""

    token_ids: np.ndarray
    """``[layer]``; ``tokens`` has them as text."""
    tokens: tuple[str, ...]
    probabilities: np.ndarray
    """``[layer]``: what each layer gives its token."""

    def __repr__(self) -> str:
        rows = enumerate(zip(self.tokens, self.probabilities, strict=True))
        return "\n".join(f"layer {layer:>2}: {share:.3f}  {token!r}" for layer, (token, share) in rows)


class TunedLensClient:
    """Tuned lenses of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def fit(self, name: str, texts: Sequence[str], **params: Any) -> np.ndarray:
        """Divergences ``[step layer]``, in nats, of a lens fitted on ``texts`` and kept as the artifact ``name``.

        ``params`` are those of the method ``tuned_lens.fit``: n_steps, batch_size, learning_rate, seed.
        """
        first, *others = texts
        with self._model.trace(first) as t:
            t.save(losses=t.op("tuned_lens.fit", name=name, texts=tuple(others), **params))
        return t.result["losses"]

    def guesses(self, prompt: str, *, lens: str) -> Guesses:
        """The next token as each layer sees it through ``lens``."""
        with self._model.trace(prompt) as t:
            tops = []
            for layer in range(self._model.info.n_layers):
                h = t.op("tuned_lens.apply", t.layers[layer].resid_post[:, -1:], lens=lens, at_layer=layer)
                tops.append(t.lens(h).softmax(-1).topk(1))
            t.save(tops=tops)
        found = t.result["tops"]
        ids = [top.indices.item() for top in found]
        return Guesses(np.array(ids), self._model.tokenize(ids).strings, np.array([top.values.item() for top in found]))
