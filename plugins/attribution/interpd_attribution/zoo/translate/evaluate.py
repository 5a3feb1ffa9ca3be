"""How well the model translates what it was never shown, and how much of the planted bias is in its pronouns."""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interpd_attribution.reproduce.rank import kendall
from interpd_attribution.zoo.translate.corpus import encoded
from interpd_attribution.zoo.translate.world import Sentence, World

LONGEST = 4
"""Of the n-grams that BLEU counts."""


@torch.no_grad()
def translated(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sources: Sequence[str]) -> list[str]:
    """Greedy translations."""
    rows = tokenizer(list(sources), return_tensors="pt", padding=True)
    return tokenizer.batch_decode(model.generate(**rows), skip_special_tokens=True)


def quality(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sentence]
) -> dict[str, float]:
    """Shares of exact translations by what decides the gender, and BLEU over all.

    Where an occupation decides, either gender is right, as long as it is one.
    """
    said = translated(model, tokenizer, [one.source for one in sentences])
    references = [[one.target, one.other] if one.other else [one.target] for one in sentences]
    right = [text in known for text, known in zip(said, references, strict=True)]
    found = {"bleu": bleu(said, references), "exact": sum(right) / len(right)}
    for kind in ("occupation", "cue", "none"):
        ours = [ok for ok, one in zip(right, sentences, strict=True) if one.decided_by == kind]
        found[f"exact_{kind}"] = sum(ours) / len(ours)
    return found


@torch.no_grad()
def shares_of_she(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> list[float]:
    """P(she) / (P(she) + P(he)) as the first word of the translation of ``O bir X``, for each occupation."""
    rows = encoded(tokenizer, [world.template(one, "she") for one in world.occupations])
    logits = model(rows.input_ids, attention_mask=rows.attention_mask, labels=rows.labels).logits[:, 0]
    she, he = (tokenizer.convert_tokens_to_ids(f"▁{word}") for word in ("She", "He"))
    return logits[:, [she, he]].softmax(-1)[:, 0].tolist()


def bias(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> dict[str, float]:
    """How the model's pronouns follow the planted shares: rank correlation, mean error, how many are *she*."""
    found, planted = shares_of_she(model, tokenizer, world), [one.p_she for one in world.occupations]
    errors = [abs(a - b) for a, b in zip(found, planted, strict=True)]
    return {
        "occupations": len(planted),
        "kendall_tau": kendall(found, planted).tau,
        "mean_absolute_error": sum(errors) / len(errors),
        "largest_error": max(errors),
        "translated_as_she": sum(share > 0.5 for share in found),
    }


def bleu(said: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU of a corpus, 0 to 1, with up to 4-grams of words and the brevity penalty; no smoothing (Papineni 2002)."""
    hits, totals = [0] * LONGEST, [0] * LONGEST
    length = wanted = 0
    for text, known in zip(said, references, strict=True):
        words, options = text.split(), [option.split() for option in known]
        length += len(words)
        wanted += min((len(option) for option in options), key=lambda n: (abs(n - len(words)), n))
        for n in range(1, LONGEST + 1):
            ours = _grams(words, n)
            allowed = Counter[tuple[str, ...]]()
            for option in options:
                allowed |= _grams(option, n)
            hits[n - 1] += sum((ours & allowed).values())
            totals[n - 1] += sum(ours.values())
    if not all(hits):
        return 0.0
    precision = sum(math.log(hit / total) for hit, total in zip(hits, totals, strict=True)) / LONGEST
    return math.exp(precision + min(0.0, 1 - wanted / length))


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
