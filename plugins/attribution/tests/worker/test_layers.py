"""Layer methods against hooks and autograd on the bare model."""

import numpy as np
import pytest
import torch

from interpd.errors import InterpdError

SIGNED = {"reduce": "sum"}
TOKEN = {"baseline": "ids", "baseline_ids": (7,), "include_eos_baseline": True}
PATHS = ("transformer.h.0.mlp", "transformer.h.1.mlp", "transformer.h.2.mlp")


def kept(model, paths, run):
    """(what ``run`` gives, the outputs of modules, each with gradients)."""
    found = {}

    def keep(path):
        def hook(module, args, output):
            found[path] = output.requires_grad_() if not output.requires_grad else output
            return found[path]

        return hook

    handles = [model.get_submodule(path).register_forward_hook(keep(path)) for path in paths]
    try:
        return run(), [found[path] for path in paths]
    finally:
        for handle in handles:
            handle.remove()


def probabilities(world, logits):
    return logits.softmax(-1)[range(len(world.target) - 1), world.target[1:]]


def by_layer(world, paths, weigh):
    """For each layer ``[pos step]``: a product of gradient and activation, summed."""
    logits, values = kept(world.model, paths, lambda: world.logits(*world.embedded()))
    rows = [torch.autograd.grad(one, values, retain_graph=True) for one in probabilities(world, logits)]
    found = [
        np.stack([weigh(row[index][0], values[index][0].detach(), index).numpy() for row in rows], 1)
        for index in range(len(paths))
    ]
    scores = np.stack(found)
    unseen = np.arange(scores.shape[1])[:, None] > np.arange(scores.shape[2])
    return np.where(unseen, np.nan, scores)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_all_layers_come_from_one_way_back(gpt2):
    expected = by_layer(gpt2, PATHS, lambda by, value, _: (by * value).sum(-1))
    close(gpt2.trace("layer_gradient_x_activation", **SIGNED).scores, expected)
    raw = tuple(f"{path}.output" for path in PATHS)
    close(gpt2.trace("layer_gradient_x_activation", sites=raw, **SIGNED).scores, expected)
    plain = by_layer(gpt2, PATHS, lambda by, value, _: by.norm(dim=-1))
    close(gpt2.trace("layer_gradient_x_activation", multiply_by_inputs=False).scores, plain)


def test_the_last_stream_and_the_logits_are_sites_as_well(gpt2):
    found = gpt2.trace("layer_gradient_x_activation", sites=("ln_final",), **SIGNED).scores
    close(found, by_layer(gpt2, ("transformer.ln_f",), lambda by, value, _: (by * value).sum(-1)))


def test_heads_add_up_to_what_all_read(gpt2):
    heads = gpt2.trace("layer_gradient_x_activation_heads", **SIGNED).scores
    whole = gpt2.trace("layer_gradient_x_activation", sites=("layers.{i}.attn.z",), **SIGNED).scores
    assert heads.shape == (3, 4, 8, 7)
    np.testing.assert_allclose(heads.sum(1), whole, rtol=1e-4, atol=1e-6)


def test_the_vectors_are_those_that_are_reduced(gpt2):
    vectors = gpt2.trace("layer_gradient_x_activation_vectors", sites=("layers.1.mlp.post",)).scores
    close(vectors.sum(-1), gpt2.trace("layer_gradient_x_activation", sites=("layers.1.mlp.post",), **SIGNED).scores)


def test_a_difference_from_a_counterfactual_prompt_is_attribution_patching(gpt2):
    other_ids = (5, 40, 200, 120, 33, 9, 210, 64)
    other = gpt2.embeddings[0](torch.tensor(other_ids)).detach()
    _, there = kept(gpt2.model, PATHS, lambda: gpt2.logits(other))
    expected = by_layer(gpt2, PATHS, lambda by, value, index: (by * (value - there[index][0].detach())).sum(-1))
    found = gpt2.trace("layer_gradient_x_difference", baseline="ids", baseline_ids=other_ids, **SIGNED).scores
    close(found, expected)


def test_the_way_of_one_site_is_integrated(gpt2):
    """Each point is put in place of the module's output in a pass of its own."""
    path, n_steps = PATHS[1], 5
    start = gpt2.embeddings[0](torch.full((8,), 7)).detach()
    (_, (begin,)), (_, (end,)) = (
        kept(gpt2.model, [path], lambda vectors=vectors: gpt2.logits(vectors)) for vectors in (start, *gpt2.embedded())
    )
    begin, end = begin.detach(), end.detach()
    total = torch.zeros(7, 8, 24)
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    for node, weight in zip(nodes, weights, strict=True):
        leaf = (begin + float(1 + node) / 2 * (end - begin)).requires_grad_()
        handle = gpt2.model.get_submodule(path).register_forward_hook(lambda *_, leaf=leaf: leaf)
        scalars = probabilities(gpt2, gpt2.logits(*gpt2.embedded()))
        handle.remove()
        rows = [torch.autograd.grad(scalar, leaf, retain_graph=True)[0][0] for scalar in scalars]
        total += weight / 2 * torch.stack(rows)
    expected = (total * (end - begin)).sum(-1).T.numpy()
    expected = np.where(np.arange(8)[:, None] > np.arange(7), np.nan, expected)
    found = gpt2.trace(
        "layer_integrated_gradients", sites=("layers.1.mlp.out",), n_steps=n_steps, rows_per_pass=2, **TOKEN, **SIGNED
    ).scores
    close(found[0], expected)


@pytest.mark.parametrize("size", [0, 7])
def test_conductance_adds_up_to_the_change_where_all_of_it_comes_by(gpt2, size):
    constants = {"sites": ("layers.0.resid_pre", "layers.2.resid_post"), "n_steps": 60, "rows_per_pass": size}
    found = gpt2.trace("layer_conductance", **constants, **TOKEN, **SIGNED).scores
    start = gpt2.embeddings[0](torch.full((8,), 7)).detach()
    with torch.no_grad():
        change = probabilities(gpt2, gpt2.logits(*gpt2.embedded())) - probabilities(gpt2, gpt2.logits(start))
    for layer in range(2):
        np.testing.assert_allclose(np.nansum(found[layer], 0), change, atol=2e-3)


def test_influence_by_the_embedding_is_the_mean_gradient_of_the_path(gpt2):
    path = {**TOKEN, "n_steps": 6}
    found = gpt2.trace("internal_influence", sites=("embed",), **path).scores[0]
    close(found, gpt2.trace("integrated_gradients", multiply_by_inputs=False, **path).scores)
    close(gpt2.trace("internal_influence", sites=("embed",), rows_per_pass=4, **path).scores[0], found)


def test_sites_of_both_sides_have_scores_at_their_own_positions(t5):
    found = t5.trace("layer_gradient_x_activation", **SIGNED).scores
    n_source = len(found[0]) - len(t5.target)
    assert found.shape[0] == 5
    assert np.isfinite(found[:2, :n_source]).all()
    assert np.isnan(found[:2, n_source:]).all()
    assert np.isnan(found[2:, :n_source]).all()
    assert np.isfinite(found[2:, n_source]).all()


@pytest.mark.parametrize(
    ("constants", "said"),
    [
        ({"sites": ("layers.9.mlp.out",)}, "no site 'layers.9.mlp.out'"),
        ({"sites": ("layers.0.attn.pattern",)}, "no vector for each position"),
        ({"sites": ("layers.{i}.mlp.out", "layers.0.mlp.out")}, "named twice"),
    ],
)
def test_sites_without_vectors_are_refused(gpt2, constants, said):
    with pytest.raises(InterpdError, match=said):
        gpt2.trace("layer_gradient_x_activation", **constants)
