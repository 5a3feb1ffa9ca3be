"""Attribution inside graphs: of any value, under the graph's own writes."""

import numpy as np
import pytest
import torch

from interpd.errors import InterpdError

SIGNED = {"reduce": "sum"}


def bare(world, score, writes=()):
    """Gradient times input of a score of the whole sequence's logits, with forward hooks for writes."""
    handles = [world.model.get_submodule(path).register_forward_hook(hook) for path, hook in writes]
    try:
        leaves = [side.detach().clone().requires_grad_() for side in world.embedded()]
        scalars = score(world.logits(*leaves))
        rows = [torch.autograd.grad(scalar, leaves, retain_graph=True) for scalar in scalars]
    finally:
        for handle in handles:
            handle.remove()
    products = [torch.cat([(by * leaf).sum(-1) for by, leaf in zip(row, leaves, strict=True)]) for row in rows]
    return torch.stack(products, 1).detach().numpy()


def seen_by(world, scores):
    """The scores with NaN where a position comes behind the column's token."""
    first = scores.shape[0] - len(world.target)
    unseen = np.arange(scores.shape[0])[:, None] > first + np.arange(scores.shape[1])
    return np.where(unseen, np.nan, scores)


def test_any_value_of_the_graph_is_a_target(gpt2):
    with gpt2.prompt() as t:
        value = t.layers[1].resid_post[0, 4, :3] * 2.0
        t.save(out=t.op("attribution.input_x_gradient", value, **SIGNED))
    stream = []

    def keep(module, args, output):
        stream.append(output[0] if isinstance(output, tuple) else output)

    hook = ("transformer.h.1", keep)
    expected = bare(gpt2, lambda logits: stream[-1].reshape(-1, 24)[4, :3] * 2.0, [hook])
    np.testing.assert_allclose(t.result["out"].scores, expected, rtol=1e-4, atol=1e-5)


def test_a_scalar_and_a_span_of_numbers_are_one_column(t5):
    with t5.prompt() as t:
        sums = t.logits[0, -1].log_softmax(-1)[[3, 9]]
        t.save(
            one=t.op("attribution.input_x_gradient", sums.sum(), **SIGNED),
            span=t.op("attribution.input_x_gradient", sums, span=True, **SIGNED),
        )
    expected = bare(t5, lambda logits: logits[-1].log_softmax(-1)[[3, 9]].sum()[None])
    for name in ("one", "span"):
        np.testing.assert_allclose(t.result[name].scores, expected, rtol=1e-4, atol=1e-6)


def test_paths_go_to_values_too(gpt2):
    with gpt2.prompt() as t:
        value = t.layers[2].resid_post[0, -1].norm()
        constants = {"baseline": "ids", "baseline_ids": (7,), "n_steps": 80, "convergence_delta": True}
        t.save(out=t.op("attribution.integrated_gradients", value, **constants, **SIGNED), value=value)
    with gpt2.prompt((7,) * 8) as t2:
        t2.save(value=t2.layers[2].resid_post[0, -1].norm())
    change = t.result["value"] - t2.result["value"]
    np.testing.assert_allclose(t.result["out"].scores.sum(), change, rtol=1e-3)


@pytest.mark.parametrize("site", ["layers.1.mlp.out", "ln_final"])
def test_a_write_in_force_changes_the_scores_as_a_hook_does(gpt2, site):
    path = "transformer.ln_f" if site == "ln_final" else "transformer.h.1.mlp"
    with gpt2.prompt() as t:
        value = t.site(site)
        # position 2 is made of position 5, which comes later
        value[:, 2] = value[:, 5] * 0.5
        t.save(out=t.op("attribution.input_x_gradient", **SIGNED))

    def hook(module, args, output):
        output = output.clone()
        output[:, 2] = output[:, 5] * 0.5
        return output

    ids = gpt2.target[1:]
    expected = bare(gpt2, lambda logits: logits.softmax(-1)[range(7), ids], [(path, hook)])
    np.testing.assert_allclose(t.result["out"].scores, seen_by(gpt2, expected), rtol=1e-4, atol=1e-6)


def test_a_write_at_the_embedding_is_what_is_attributed(gpt2):
    with gpt2.prompt() as t:
        t.embed[:, 1] = t.embed[:, 1] * 3.0
        t.save(out=t.op("attribution.input_x_gradient", **SIGNED))
    (vectors,) = gpt2.embedded()
    vectors[1] *= 3.0
    leaf = vectors.requires_grad_()
    scalars = gpt2.logits(leaf).softmax(-1)[range(7), gpt2.target[1:]]
    rows = [torch.autograd.grad(scalar, leaf, retain_graph=True)[0] for scalar in scalars]
    expected = torch.stack([(by * leaf).sum(-1) for by in rows], 1).detach().numpy()
    np.testing.assert_allclose(t.result["out"].scores, seen_by(gpt2, expected), rtol=1e-4, atol=1e-6)


def test_scores_are_values_for_further_operations(gpt2):
    with gpt2.prompt() as t:
        out = t.op("attribution.saliency")
        # the last position comes behind all of them: it has no scores
        t.save(out=out, most=out.scores[:-1, -1].argmax(0))
    assert t.result["most"] == np.nanargmax(t.result["out"].scores[:, -1])


def test_a_value_leaves_no_room_for_another_target(gpt2):
    with pytest.raises(InterpdError, match="leave 'target'"), gpt2.prompt() as t:
        t.save(out=t.op("attribution.saliency", t.logits[0, -1, 3], target="entropy"))
