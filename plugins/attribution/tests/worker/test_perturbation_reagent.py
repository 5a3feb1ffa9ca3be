"""ReAGent: against the algorithm written out for one probe of one token, and what its tokens are replaced by."""

import numpy as np
import pytest
import torch

from interpd.errors import InterpdError

GROUPS = {"candidates": "groups", "candidate_ids": tuple(range(4, 244)), "candidate_lengths": (60,) * 4}
"""Sixty tokens of each part of speech; one token of the sequences is in none."""

QUICK = {"keep_top_n": 2, "stopping_condition_top_k": 120, "max_probe_steps": 12}


def close(found, expected, rtol=1e-4, atol=1e-6):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def predicted(model, n_source, rows):
    """The next-token logits of the bare model for each row: a prefix, or a source and a prefix."""
    ids = torch.tensor(rows)
    given = {"input_ids": ids[:, :n_source], "decoder_input_ids": ids[:, n_source:]} if n_source else {"input_ids": ids}
    with torch.no_grad():
        return model(**given, use_cache=False).logits[:, -1].double()


def same_kind(generator, id_):
    """Any token of the same sixty."""
    return int(4 + (id_ - 4) // 60 * 60 + generator.integers(60)) if 4 <= id_ < 244 else id_


def probe(ids, token, generator, *, replaceable):
    """One probe, step by step: (importance of each position, whether it stopped). Yields rows, and is sent logits."""

    def replace(mask):
        return [
            same_kind(generator, id_) if chosen and position in replaceable else id_
            for position, (id_, chosen) in enumerate(zip(ids, mask, strict=True))
        ]

    places = sorted(replaceable)
    whole = (yield ids).softmax(-1)[token]
    importance = np.full(len(ids), -np.inf)
    importance[places] = generator.random(len(places))
    for _ in range(QUICK["max_probe_steps"]):
        mask = generator.random(len(ids)) < 0.3
        loss = float(whole - (yield replace(mask)).softmax(-1)[token])
        odds = np.log((1 + loss) / (1 - loss))
        importance = importance + np.where(mask, odds, -odds)
        best = np.argsort(-importance)[: QUICK["keep_top_n"]]
        found = yield replace(~np.isin(np.arange(len(ids)), best))
        if int((found > found[token]).sum()) < QUICK["stopping_condition_top_k"]:
            return np.exp(importance) / np.exp(importance).sum(), True
    return np.exp(importance) / np.exp(importance).sum(), False


def probed(model, ids, n_source, token, *, n, replaceable):
    """(mean importance, its standard error, part of the probes that stopped) of many probes."""
    generators = [np.random.default_rng([5, number]) for number in range(n)]
    running = {probe(ids, token, one, replaceable=replaceable): None for one in generators}
    counts = []
    while running:
        rows = {}
        for one, logits in running.items():
            try:
                rows[one] = one.send(logits)
            except StopIteration as done:
                importance, stopped = done.value
                counts += [importance] if stopped else []
        running = dict(zip(rows, predicted(model, n_source, list(rows.values())), strict=True)) if rows else {}
    return np.mean(counts, 0), np.std(counts, 0) / np.sqrt(len(counts)), len(counts) / n


def agrees(found, column, expected, n):
    """Whether two sampled means are as far apart as their errors allow."""
    mean, error, stopped = expected
    ours, own_error = (table[: len(mean), column] for table in (found.scores, found.standard_errors))
    off = np.abs(ours - mean) / np.maximum(np.hypot(error, own_error), 1e-9)
    assert off.max() < 4
    assert abs(found.stopped[column] - stopped) < 4 * np.sqrt(0.25 * (1 / n + 1 / 400))


@pytest.mark.slow
def test_scores_are_those_of_the_algorithm(gpt2):
    found = gpt2.trace("reagent", num_probes=400, start=6, **QUICK, **GROUPS)
    for column, n_seen in enumerate((6, 7)):
        ids = list(gpt2.target[:n_seen])
        expected = probed(gpt2.model, ids, 0, gpt2.target[n_seen], n=150, replaceable=range(n_seen))
        assert 0.2 < expected[2] <= 1
        agrees(found, column, expected, 150)


@pytest.mark.slow
def test_sources_and_prefixes_are_probed_together(t5):
    source = [5, 40, 77, 120, 33, 9, 210, 64]
    ids = [*source, *t5.target[:3]]
    for inputs, replaceable in (("all", (*range(8), 9, 10)), ("source", range(8))):
        found = t5.trace("reagent", num_probes=400, start=3, stop=4, inputs=inputs, **QUICK, **GROUPS)
        expected = probed(t5.model, ids, 8, t5.target[3], n=120, replaceable=replaceable)
        seen = [*replaceable]
        off = np.abs(found.scores[seen, 0] - expected[0][seen])
        assert (off < 4 * np.hypot(found.standard_errors[seen, 0], expected[1][seen])).all()
        assert found.stopped[0] > 0
    # nothing of the target is attributed
    assert np.isnan(found.scores[8:]).all()


@pytest.mark.parametrize("candidates", ["uniform", "model", "groups"])
def test_importance_adds_up_to_one_and_seeds_draw_the_same(gpt2, candidates):
    from_ = GROUPS if candidates == "groups" else {"candidates": candidates}
    options = {**from_, **QUICK, "num_probes": 3, "max_probe_steps": 3}
    one, other = (gpt2.trace("reagent", rows_per_pass=rows, **options) for rows in (0, 5))
    close(one.scores, other.scores, atol=1e-5)
    close(np.nansum(one.scores, 0), 1.0)
    assert np.isnan(one.scores[7]).all()
    assert ((one.stopped >= 0) & (one.stopped <= 1)).all()
    assert not np.allclose(one.scores, gpt2.trace("reagent", seed=1, **options).scores, equal_nan=True)


def test_where_everything_is_kept_the_first_step_decides(gpt2):
    """The token is among all tokens at once, so each probe ends, and is not among fewer than none."""
    every = {"keep_top_n": 9, "num_probes": 2}
    enough = gpt2.trace("reagent", stopping_condition_top_k=321, **every)
    assert (enough.stopped == 1).all()
    (vectors,) = gpt2.embedded()
    with torch.no_grad():
        logits = gpt2.logits(vectors)[:-1]
    ranks = (logits > logits[range(7), list(gpt2.target[1:])][:, None]).sum(-1)
    found = gpt2.trace("reagent", stopping_condition_top_k=20, max_probe_steps=2, **every)
    np.testing.assert_array_equal(found.stopped, (ranks < 20).float())
    assert np.isfinite(found.scores[0]).all()


def test_features_are_replaced_as_wholes_and_spans_are_one_column(gpt2):
    features = (0, 0, 1, 1, -1, -1, -1, -1)
    found = gpt2.trace("reagent", features=features, span=True, start=5, num_probes=4, **QUICK)
    assert found.scores.shape == (2, 1)
    close(found.scores.sum(), 1.0)


def test_the_ratio_is_of_the_features_before_the_column(gpt2):
    ratio = {"keep_top_n": 0, "keep_ratio": 0.99, "stopping_condition_top_k": 321, "num_probes": 2}
    assert (gpt2.trace("reagent", **ratio).stopped == 1).all()
    inverted = gpt2.trace("reagent", invert_keep=True, num_probes=2, **QUICK)
    plain = gpt2.trace("reagent", num_probes=2, **QUICK)
    assert not np.allclose(inverted.scores, plain.scores, equal_nan=True)


def test_the_graphs_writes_are_in_force(gpt2):
    with gpt2.prompt() as t:
        t.layers[2].resid_post[:] = 0.0
        t.save(out=t.op("attribution.reagent", num_probes=2, max_probe_steps=3, stopping_condition_top_k=1))
    # whatever is replaced, the prediction stays: what was drawn first stays too
    importance = t.result["out"].scores[:7, -1]
    assert importance.max() / importance.min() < np.e


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "logit"}, "reagent goes by the tokens' probability"),
        ({"keep_ratio": 0.5}, "keep_top_n is 5 and keep_ratio 0.5: expected"),
        ({"keep_top_n": 0}, "keep_top_n is 0 and keep_ratio None: expected"),
        ({"replacing_ratio": 1.5}, "replacing_ratio is 1.5, expected a number between"),
        ({"num_probes": 0}, "num_probes is 0, expected 1 to"),
        ({"candidates": "groups"}, "candidate_ids with candidate_lengths go together"),
        ({**GROUPS, "candidate_lengths": (5,)}, "candidate_lengths add up to 5, but there are 240"),
        ({**GROUPS, "candidate_ids": (4,) * 240}, "candidate_ids name a token twice"),
        ({**GROUPS, "candidate_ids": tuple(range(100, 340))}, "the vocabulary has 321"),
    ],
)
def test_what_cannot_be_is_refused(gpt2, options, said):
    with pytest.raises(InterpdError, match=said):
        gpt2.trace("reagent", **options)


def test_an_encoders_source_has_no_predictions(t5):
    with pytest.raises(InterpdError, match="an encoder's source has none: set inputs='target'"):
        t5.trace("reagent", candidates="model")
    assert np.isfinite(t5.trace("reagent", candidates="model", inputs="target", num_probes=2, **QUICK).scores[8]).all()
