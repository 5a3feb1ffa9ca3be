"""What the model knows and where it keeps it: accuracy by relation, and flip curves by layer.

A *flip*: the residual stream of a prompt is replaced, at some positions after some block, by that of the same template
about another subject, and the top answer becomes the other subject's.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interpd.zoo.facts.world import Fact, World

POSITIONS = ("last subject token", "whole subject", "final token")


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts [rows, positions], padded on the right, with where their subjects lie.

    ``first``, ``last`` and ``final`` [rows] are the positions of the subject's first and last token and of the prompt's
    last token; ``answers`` [rows] are token ids.
    """

    input_ids: Tensor
    attention_mask: Tensor
    first: Tensor
    last: Tensor
    final: Tensor
    answers: Tensor

    def mask(self, positions: str) -> Tensor:
        """[rows, positions] True at the named positions."""
        index = torch.arange(self.input_ids.shape[1])[None]
        first, last = {
            "last subject token": (self.last, self.last),
            "whole subject": (self.first, self.last),
            "final token": (self.final, self.final),
        }[positions]
        return (index >= first[:, None]) & (index <= last[:, None])


def make_prompts(tokenizer: PreTrainedTokenizerBase, world: World, pairs: Sequence[tuple[Fact, int]]) -> Prompts:
    """Encode (fact, template index) pairs."""
    texts = [world.prompt(fact, template) for fact, template in pairs]
    encoded = tokenizer(texts, return_tensors="pt", padding=True)
    first, last = [], []
    for i, (fact, _) in enumerate(pairs):
        start = texts[i].index(fact.subject)
        first.append(encoded.char_to_token(i, start))
        last.append(encoded.char_to_token(i, start + len(fact.subject) - 1))
    answers = tokenizer([fact.object for fact, _ in pairs], return_tensors="pt")["input_ids"][:, -1]
    final = encoded["attention_mask"].sum(1) - 1
    tensors = encoded["input_ids"], encoded["attention_mask"], torch.tensor(first), torch.tensor(last)
    return Prompts(*tensors, final, answers)


@torch.no_grad()
def final_logits(model: PreTrainedModel, prompts: Prompts) -> Tensor:
    """[rows, vocabulary] logits after each prompt."""
    logits = model(prompts.input_ids, attention_mask=prompts.attention_mask, use_cache=False).logits
    return logits[torch.arange(len(logits)), prompts.final]


def accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World, pairs: Sequence[tuple[Fact, int]]
) -> dict[str, float]:
    """Share of prompts whose top token is the fact's object, by relation and under ``"all"``."""
    prompts = make_prompts(tokenizer, world, pairs)
    right = (final_logits(model, prompts).argmax(-1) == prompts.answers).tolist()
    by_relation: dict[str, list[bool]] = defaultdict(list)
    for (fact, _), ok in zip(pairs, right, strict=True):
        by_relation[fact.relation].append(ok)
    shares = {relation: sum(oks) / len(oks) for relation, oks in by_relation.items()}
    return {"all": sum(right) / len(right), **shares}


def make_swaps(world: World, seed: int = 0) -> list[tuple[Fact, Fact, int]]:
    """(fact, other fact of the same relation, template index), one for each fact; their objects differ."""
    rng = random.Random(seed)
    peers: dict[str, list[Fact]] = defaultdict(list)
    for fact in world.facts:
        peers[fact.relation].append(fact)
    swaps = []
    for fact in world.facts:
        other = rng.choice([peer for peer in peers[fact.relation] if peer.object != fact.object])
        swaps.append((fact, other, rng.randrange(len(world.relations[fact.relation].templates))))
    return swaps


class Patching:
    """Swaps of subjects, of which those count that the model answers rightly without any patch."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        world: World,
        swaps: Sequence[tuple[Fact, Fact, int]],
    ) -> None:
        self._model = model
        self._base = make_prompts(tokenizer, world, [(fact, template) for fact, _, template in swaps])
        self._other = make_prompts(tokenizer, world, [(other, template) for _, other, template in swaps])
        self._known = self._is_right(self._base) & self._is_right(self._other)

    @property
    def known(self) -> int:
        """How many swaps count."""
        return int(self._known.sum())

    def flip_rate(self, layer: int, positions: str) -> float:
        """Share of swaps that flip when patched after block ``layer`` (-1: after the embedding) at ``positions``."""
        site = _site(self._model, layer)
        with _recording(site) as outputs:
            final_logits(self._model, self._other)
        with _replacing(site, outputs[0], self._base.mask(positions)):
            top = final_logits(self._model, self._base).argmax(-1)
        flipped = int((top == self._other.answers)[self._known].sum())
        return flipped / self.known if self.known else 0.0

    def curves(self) -> dict[str, list[float]]:
        """Flip rates after the embedding and after each block, for each of :data:`POSITIONS`."""
        layers = range(-1, self._model.config.num_hidden_layers)
        return {positions: [self.flip_rate(layer, positions) for layer in layers] for positions in POSITIONS}

    def _is_right(self, prompts: Prompts) -> Tensor:
        return final_logits(self._model, prompts).argmax(-1) == prompts.answers


def _site(model: PreTrainedModel, layer: int) -> nn.Module:
    return model.model.embed_tokens if layer < 0 else model.model.layers[layer]


@contextmanager
def _recording(module: nn.Module) -> Iterator[list[Tensor]]:
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def _replacing(module: nn.Module, value: Tensor, mask: Tensor) -> Iterator[None]:
    """``value`` [rows, positions, width] takes the place of the module's output where ``mask`` [rows, positions]."""
    handle = module.register_forward_hook(lambda _module, _inputs, output: torch.where(mask[..., None], value, output))
    try:
        yield
    finally:
        handle.remove()
