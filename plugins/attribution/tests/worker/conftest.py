"""Tiny models with the plugin, and the same models bare: what the plugin says of one is compared with the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import interpd_client
from interpd.testing.tiny_models import tiny_model
from interpd_attribution import worker

SEQUENCE = (5, 40, 77, 120, 33, 9, 210, 64)
"""Token ids of a decoder-only model's sequence, or of an encoder-decoder model's source."""

TARGET = (2, 50, 60, 70, 81, 95)
"""What the decoder of an encoder-decoder model is given, start token first."""


@dataclass(frozen=True)
class World:
    """One tiny model, served with the plugin and bare."""

    architecture: str
    model: Any
    """The bare model of transformers."""
    client_model: Any

    @property
    def has_encoder(self) -> bool:
        """Whether it has two sides."""
        return self.model.config.is_encoder_decoder

    @property
    def target(self) -> tuple[int, ...]:
        """The ids of which tokens are attributed."""
        return (self.model.config.decoder_start_token_id, *TARGET[1:]) if self.has_encoder else SEQUENCE

    @property
    def embeddings(self) -> tuple[torch.nn.Module, ...]:
        """The embedding modules of its sides."""
        if self.has_encoder:
            return self.model.get_encoder().embed_tokens, self.model.get_decoder().embed_tokens
        return (self.model.get_input_embeddings(),)

    def trace(self, op: str, ids: tuple[int, ...] = SEQUENCE, **constants: Any) -> Any:
        """What a method of the plugin gives for the sequence."""
        with self.prompt(ids) as t:
            t.save(out=t.op(f"attribution.{op}", **constants))
        return t.result["out"]

    def prompt(self, ids: tuple[int, ...] = SEQUENCE) -> Any:
        """A trace of the sequence."""
        return self.client_model.trace(list(ids), **({"target": list(TARGET[1:])} if self.has_encoder else {}))

    def embedded(self) -> tuple[Tensor, ...]:
        """The vectors of each side, ``[pos d_model]``."""
        sides = (SEQUENCE, self.target) if self.has_encoder else (SEQUENCE,)
        with torch.no_grad():
            return tuple(module(torch.tensor([ids]))[0] for module, ids in zip(self.embeddings, sides, strict=True))

    def logits(self, *sides: Tensor) -> Tensor:
        """The next-token logits of the bare model with these vectors, ``[pos d_vocab]``."""
        handles = []
        arguments: dict[str, Any] = {"input_ids": torch.zeros(1, len(sides[0]), dtype=torch.int64)}
        if self.has_encoder:
            arguments["decoder_input_ids"] = torch.zeros(1, len(sides[1]), dtype=torch.int64)
        for module, vectors in zip(self.embeddings, sides, strict=True):
            handles.append(module.register_forward_hook(lambda *_, vectors=vectors: vectors[None]))
        try:
            return self.model(**arguments, use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()

    def gradients(
        self, score: Callable[[Tensor, int], Tensor], sides: tuple[Tensor, ...] | None = None, start: int = 1
    ) -> np.ndarray:
        """Gradients of a score of (logits of one prediction, token), ``[step position d_model]``, a pass per token.

        Each pass sees the tokens before the attributed one only; what comes behind them is NaN.
        """
        found = []
        for step in range(start, len(self.target)):
            vectors = [side.detach().clone() for side in sides or self.embedded()]
            vectors[-1] = vectors[-1][:step]
            leaves = [side.requires_grad_() for side in vectors]
            scalar = score(self.logits(*leaves)[-1], self.target[step])
            by = torch.cat(torch.autograd.grad(scalar, leaves))
            rest = torch.full((len(self.target) - step, by.shape[-1]), torch.nan)
            found.append(torch.cat([by, rest]).numpy())
        return np.stack(found)


def probability(logits: Tensor, token: int) -> Tensor:
    """The default target."""
    return logits.softmax(-1)[token]


def make_world(architecture: str, dtype: torch.dtype = torch.float32) -> Iterator[World]:
    """A world, closed behind its use."""
    tiny = tiny_model(architecture)
    with interpd_client.local(
        (tiny.model.to(dtype), tiny.tokenizer), plugins={"attribution": worker}, name="tiny"
    ) as client:
        yield World(architecture, tiny.model, client.model("tiny"))


SLOW = ("llama", "t5", "bart")


@pytest.fixture(scope="package", params=("gpt2", *SLOW))
def world(request):
    """Each tiny model."""
    yield from make_world(request.param)


@pytest.fixture(scope="module", params=("gpt2", *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)))
def exact_world(request):
    """Each tiny model in float64."""
    yield from make_world(request.param, torch.float64)


@pytest.fixture(scope="package")
def gpt2():
    """The decoder-only one."""
    yield from make_world("gpt2")


@pytest.fixture(scope="package")
def llama():
    """The one with grouped heads."""
    yield from make_world("llama")


@pytest.fixture(scope="package")
def bart():
    """The one whose norms stand behind its sums."""
    yield from make_world("bart")


@pytest.fixture(scope="package")
def t5():
    """The encoder-decoder one."""
    yield from make_world("t5")


IN_FULL = "attribution.integrated_gradients-"
"""The method that the conformance kit runs in the default lane; of the others it looks at the declarations."""


def pytest_collection_modifyitems(items):
    """The kit runs every method many times: half a minute for all of them."""
    for item in items:
        name = item.name.partition("[")[2]
        runs = name.endswith(("_model]", "deterministic]", "alone]", "cancelled]", "take]"))
        if item.path.name == "test_conformance.py" and runs and not name.startswith(IN_FULL):
            item.add_marker(pytest.mark.slow)
