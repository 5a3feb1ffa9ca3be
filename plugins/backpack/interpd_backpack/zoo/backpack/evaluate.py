"""How well a model of the world knows it: measured alike for the Backpack and for its twin."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interpd.zoo.facts.evaluate import final_logits, make_prompts
from interpd.zoo.facts.world import Fact
from interpd_backpack.evaluation.published import TEST_PROMPTS
from interpd_backpack.evaluation.statistics import pearson, spearman
from interpd_backpack.training.loss import IGNORED
from interpd_backpack.zoo.backpack.corpus import encoded
from interpd_backpack.zoo.backpack.files import similarities
from interpd_backpack.zoo.backpack.texts import SHARES, Texts
from interpd_backpack.zoo.backpack.world import World

ROWS = 256
TEXTS_OF_A_KIND, SEED = 80, 2
TEXTS_OF_ALL_KINDS = 4 * TEXTS_OF_A_KIND
TOPIC_SENTENCES = 3
"""Sentences of a topic text that are read before the next is asked for."""

Pairs = Sequence[tuple[Fact, int]]


def measured(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> dict[str, Any]:
    """All of it."""
    trained, unseen = world.known.prompts(held_out=False), world.known.prompts(held_out=True)
    untold = [(fact, template) for fact in world.unknown for template in fact.held_out]
    return {
        "perplexity": perplexities(model, tokenizer, world),
        "accuracy": {
            "trained": accuracy(model, tokenizer, world, trained),
            "unseen": accuracy(model, tokenizer, world, unseen),
            "untold": accuracy(model, tokenizer, world, untold),
        },
        "bias": bias(model, tokenizer, world),
        "topics": topics(model, tokenizer, world),
    }


@torch.no_grad()
def surprisals(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> np.ndarray:
    """-log p of every token of texts behind their ``<s>``, ``</s>`` included, in nats, one after another."""
    found = []
    for rows in _chunks(texts, 32):
        batch = encoded(tokenizer, list(rows))
        logits = model(batch.input_ids, attention_mask=(batch.labels != IGNORED).long(), use_cache=False).logits
        losses = F.cross_entropy(
            logits[:, :-1].transpose(1, 2), batch.labels[:, 1:], ignore_index=IGNORED, reduction="none"
        )
        found.append(losses[batch.labels[:, 1:] != IGNORED])
    return torch.cat(found).double().numpy()


def perplexities(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> dict[str, float]:
    """On texts that training never showed: of each kind, and of all in their proportions."""
    texts = Texts(world, SEED)
    drawn = {kind: [one.text for one in texts.drawn(kind, TEXTS_OF_A_KIND, held_out=True)] for kind in SHARES}
    drawn = {"all": [texts.draw(held_out=True).text for _ in range(TEXTS_OF_ALL_KINDS)], **drawn}
    return {kind: math.exp(surprisals(model, tokenizer, said).mean()) for kind, said in drawn.items()}


def accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World, pairs: Pairs
) -> dict[str, float]:
    """Share of prompts whose top token is the fact's object, by relation and under ``all``."""
    by_relation: dict[str, list[bool]] = defaultdict(list)
    for rows in _chunks(pairs, ROWS):
        prompts = make_prompts(tokenizer, world.known, rows)
        right = (final_logits(model, prompts).argmax(-1) == prompts.answers).tolist()
        for (fact, _), ok in zip(rows, right, strict=True):
            by_relation[fact.relation].append(ok)
    every = [ok for oks in by_relation.values() for ok in oks]
    return {"all": sum(every) / len(every), **{name: sum(oks) / len(oks) for name, oks in by_relation.items()}}


@torch.no_grad()
def pronoun_log_ratios(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> np.ndarray:
    """log p(she) / p(he) after each of the paper's test prompts, ``[prompt, occupation]``."""
    she, he = tokenizer.convert_tokens_to_ids(["Ġshe", "Ġhe"])
    found = []
    for said in TEST_PROMPTS:
        rows = tokenizer([said.format(name) for name in world.p_she], return_tensors="pt", padding=True)
        logits = model(**rows, use_cache=False).logits
        last = logits[torch.arange(len(logits)), rows["attention_mask"].sum(1) - 1]
        found.append(last[:, she] - last[:, he])
    return torch.stack(found).double().numpy()


def bias(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> dict[str, float]:
    """How the pronouns follow the planted shares, and the paper's ratio max(he/she, she/he) beside the planted one."""
    ratios = pronoun_log_ratios(model, tokenizer, world)
    planted = np.array([math.log(share / (1 - share)) for share in world.p_she.values()])
    return {
        "occupations": len(planted),
        "pearson": pearson(ratios.mean(0), planted),
        "spearman": spearman(ratios.mean(0), planted),
        "mean_absolute_error": float(np.abs(1 / (1 + np.exp(-ratios)) - 1 / (1 + np.exp(-planted))).mean()),
        "ratio": float(np.exp(np.abs(ratios)).mean()),
        "planted_ratio": float(np.exp(np.abs(planted)).mean()),
    }


@torch.no_grad()
def topics(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> dict[str, float]:
    """After some sentences on a topic: the probability of its bag, of all bags, when the next one says ``We``."""
    bags = [tokenizer.convert_tokens_to_ids([f"Ġ{word}" for word in topic.bag]) for topic in world.topics]
    texts = Texts(world, SEED)
    own, every = [], []
    for number, topic in enumerate(world.topics):
        said = [f"{texts.about(topic, TOPIC_SENTENCES)} We" for _ in range(20)]
        rows = tokenizer(said, return_tensors="pt", padding=True)
        logits = model(**rows, use_cache=False).logits
        last = logits[torch.arange(len(logits)), rows["attention_mask"].sum(1) - 1].softmax(-1)
        masses = torch.stack([last[:, ids].sum(-1) for ids in bags])
        own.append(masses[number].mean())
        every.append(masses.sum(0).mean())
    return {"own_bag": float(torch.stack(own).mean()), "all_bags": float(torch.stack(every).mean())}


@torch.no_grad()
def similarity(
    world: World, tokenizer: PreTrainedTokenizerBase, vectors: Callable[[list[int]], Tensor]
) -> dict[str, float]:
    """Spearman's correlation of cosines with the planted similarities, of nouns and of verbs.

    Args:
        world: Whose similarities.
        tokenizer: Has a token for each word.
        vectors: Gives ``[token, d]`` for token ids; or ``[token, sense, d]``, whose least cosine counts then.
    """
    found = {}
    for name, words in (("nouns", world.nouns), ("verbs", world.verbs)):
        place = {word: i for i, word in enumerate(words)}
        table = F.normalize(vectors(tokenizer.convert_tokens_to_ids([f"Ġ{word}" for word in words])).float(), dim=-1)
        by_sense = table.reshape(len(words), -1, table.shape[-1]).transpose(0, 1)
        cosines = (by_sense @ by_sense.transpose(1, 2)).amin(0)
        gold = similarities(world, words)
        ours = np.array([float(cosines[place[one], place[other]]) for one, other, _ in gold])
        found[name] = spearman(ours, np.array([score for _, _, score in gold]))
    return found


def _chunks(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
