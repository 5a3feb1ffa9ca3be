"""The edit language by brute force: every operation on the whole table of senses, one after the other, in float64."""

import numpy as np


def edited_table(operations, senses, rows):
    """The senses ``[V, k, d]`` after the operations; ``rows``: the output embedding ``[V, d]``."""
    model, table = senses, senses.copy()
    for one in operations:
        _DO[one.kind](one, table, rows, model)
    return table


def cells(tokens, senses, table):
    """What picks tokens and senses of a table."""
    ids = range(len(table)) if tokens == "all" else [token.id for token in tokens]
    kept = range(table.shape[1]) if senses == "all" else senses
    return np.ix_(list(ids), list(kept))


def scale(one, table, rows, model):
    table[cells(one.tokens, one.senses, table)] *= one.factor


def remove(one, table, rows, model):
    table[cells(one.tokens, one.senses, table)] = 0


def topic(one, table, rows, model):
    """For tables whose every row is a token that is not special."""
    logits = model @ rows.T
    peak = (logits if one.formula == "code" else abs(logits)).max(-1)
    scores = logits[..., [token.id for token in one.bag]].sum(-1) / peak
    ceiling = np.inf
    factors = np.full(scores.shape, one.factors[-1])
    for quantile, factor in zip(one.quantiles, one.factors, strict=False):
        floor = np.quantile(scores, quantile)
        factors[(scores > floor) & (scores < ceiling)] = factor
        factors[scores == floor] = 1
        ceiling = floor
    table *= factors[..., None]


def replace_association(one, table, rows, model):
    r, a = rows[one.remove.id], rows[one.add.id]
    here = cells((one.target,), one.senses, table)
    share = (table[here] @ r / (r @ r))[..., None]
    table[here] += share * (a * (r @ r) / (a @ a) - r)


def transplant(one, table, rows, model):
    here, there = cells((one.into,), one.senses, table), cells((one.out_of,), one.senses, table)
    table[here] = table[there]


def project_out(one, table, rows, model):
    way = one.direction
    if isinstance(way, tuple):
        way = rows[way[0].id] - rows[way[1].id]
    here = cells(one.tokens, one.senses, table)
    table[here] -= one.share * (table[here] @ way / (way @ way))[..., None] * way


def add_delta(one, table, rows, model):
    table[one.token.id, one.sense] += one.vector


def put(one, table, rows, model):
    table[one.token.id, one.sense] = one.vector


def mask_weights(one, table, rows, model):
    raise AssertionError("acts on weights, not on senses")


_DO = {
    "scale": scale,
    "remove": remove,
    "topic": topic,
    "replace_association": replace_association,
    "transplant": transplant,
    "project_out": project_out,
    "add_delta": add_delta,
    "set": put,
    "mask_weights": mask_weights,
}
