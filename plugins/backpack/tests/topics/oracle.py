"""Topic control step by step, as the published code does it, written out with loops."""

import math

import torch
from torch import Tensor

FACTORS = {0: (1, 1, 1, 1), 1: (1.5, 1.5, 1.3, 1), 2: (2.2, 2.2, 1.5, 1), 3: (3.3, 3.3, 3, 1)}


def sense_of(model, token: int) -> Tensor:
    """C(x), ``[sense, d_model]``, by the network itself."""
    embeds = model.backpack.gpt2_model.wte.weight[torch.tensor([[token]])]
    return model.backpack.sense_network(embeds)[0, :, 0]


def scores_of(model, bag, skipped, formula="code") -> Tensor:
    """``[d_vocab, sense]``: token by token."""
    rows = model.lm_head.weight
    found = torch.zeros(len(rows), model.config.num_senses, dtype=rows.dtype)
    for token in range(len(rows)):
        if token in skipped:
            continue
        for sense, vector in enumerate(sense_of(model, token)):
            logits = rows @ vector
            peak = max(float(one) if formula == "code" else abs(float(one)) for one in logits)
            found[token, sense] = sum(float(logits[word]) for word in bag) / peak
    return found


def factors_of(scores: Tensor, factors) -> Tensor:
    """The factor of each sense by the quantiles .95, .80 and .60 of all scores."""
    high, middle, low = (torch.quantile(scores.flatten(), q) for q in (0.95, 0.8, 0.6))
    found = torch.ones_like(scores)
    for place in range(scores.numel()):
        score = scores.flatten()[place]
        if high < score:
            value = factors[0]
        elif middle < score < high:
            value = factors[1]
        elif low < score < middle:
            value = factors[2]
        elif score < low:
            value = factors[3]
        else:
            value = 1.0
        found.view(-1)[place] = value
    return found


def annealed_at_the_end(model, ids, table: Tensor, strongest: float, formula="code") -> Tensor:
    """The factors of each token of a text, ``[pos, sense]``, when its last token has just been written."""
    rows, senses = model.lm_head.weight, [sense_of(model, token) for token in ids]
    found = torch.ones(len(ids), model.config.num_senses, dtype=rows.dtype)
    for j, token in enumerate(ids):
        for sense in range(model.config.num_senses):
            a = sum(max(0.0, float(rows[word] @ senses[j][sense])) for word in ids)
            delta = float(table[token, sense])
            if formula == "code":
                b = sigmoid(-strongest / 7.5 * a + 6) * (1 + j / 100)
                found[j, sense] = b * delta + (1 - b)
            else:
                b = sigmoid(-7.5 / strongest * a + 6) * (1 + j) / 100
                found[j, sense] = b * delta + (1 - a)
    return found


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def next_logits(model, ids, scaled: Tensor) -> Tensor:
    """The logits at the end of a text in a whole forward pass whose senses are multiplied by ``[pos, sense]``."""
    handle = model.backpack.sense_network.register_forward_hook(lambda m, a, out: out * scaled.T[None, :, :, None])
    try:
        return model(torch.tensor([list(ids)]), use_cache=False).logits[0, -1]
    finally:
        handle.remove()


def controlled(model, prompt, n_new: int, table: Tensor, strongest: float | None) -> list[int]:
    """Greedy tokens of topic control with one whole pass for each; ``None``: nothing fades."""
    ids = list(prompt)
    for _ in range(n_new):
        scaled = table[ids] if strongest is None else annealed_at_the_end(model, ids, table, strongest)
        logits = next_logits(model, ids, scaled)
        logits[model.config.vocab_size - 3 :] = -torch.inf
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :]
