"""The lens fits, helps and behaves as a plugin must."""

import interpd_tuned_lens
import numpy as np
import pytest
import torch
from interpd_tuned_lens import TunedLens

from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import Progress
from interpd.sdk import CallerError
from interpd.testing import conformance
from interpd.testing.in_process import InProcessModel

TEXTS = (
    "Elena Marsh was born in Lisbon.",
    "Lisbon is the capital of Portugal.",
    "The quick brown fox jumps over the lazy dog.",
    "Once upon a time, there was a little girl named Lily.",
    "When Mary and John went to the store, John gave a drink to Mary.",
)

test_conforms = conformance(
    interpd_tuned_lens,
    examples={"tuned_lens.apply": {"at_layer": 1}, "tuned_lens.fit": {"name": "lens", "n_steps": 3}},
    refuses={"tuned_lens.apply": [{"at_layer": -1}, {"at_layer": 99}]},
)


@pytest.fixture(scope="module")
def model():
    with InProcessModel({"tuned_lens": interpd_tuned_lens}) as model:
        yield model


@pytest.fixture(scope="module")
def fitted(model):
    params = {"name": "lens", "texts": TEXTS, "n_steps": 60}
    return model.run(Graph((Node("tuned_lens.fit", params=params),), {"losses": Ref(0)}), Prompt(text="The cat sat."))


def test_an_unfitted_lens_is_the_identity():
    h = torch.randn(1, 3, 4)
    lens = TunedLens(torch.zeros(2, 4, 4), torch.zeros(2, 4))
    assert torch.equal(interpd_tuned_lens.apply(h, lens=lens, at_layer=1), h)


def test_a_layer_that_the_lens_lacks_is_the_callers_mistake():
    lens = TunedLens(torch.zeros(2, 4, 4), torch.zeros(2, 4))
    with pytest.raises(CallerError, match="at_layer is 2, but the lens has layers 0 to 1"):
        interpd_tuned_lens.apply(torch.zeros(1, 1, 4), lens=lens, at_layer=2)


def test_fitting_lowers_the_divergence_at_every_layer_but_the_last(fitted):
    losses = fitted.results["losses"]  # (step, layer)
    assert losses.shape == (60, 3)
    assert (losses[-5:, :-1].mean(0) < 0.7 * losses[:1, :-1].mean(0)).all()
    # the last layer's stream is what the model ends with: the identity is already right
    assert losses[0, -1] == pytest.approx(0, abs=1e-4)


def test_fitting_says_how_far_it_is(fitted):
    progress = [event for event in fitted.events if isinstance(event, Progress)]
    assert [(event.done, event.total) for event in progress[:2]] == [(1, 60), (2, 60)]
    assert progress[-1].message.startswith("KL ")


def lens_graph(*, tuned):
    """KL(model || lens) at every position of the prompt, from layer 0."""
    nodes = [
        Node("site.read", params={"site": "layers.0.resid_post"}),
        Node("tuned_lens.apply", (Ref(0),), {"lens": "lens", "at_layer": 0}),
        Node("module.call", (Ref(1) if tuned else Ref(0),), {"module": "transformer.ln_f"}),
        Node("module.call", (Ref(2),), {"module": "lm_head"}),
        Node("site.read", params={"site": "logits"}),
    ]
    kept = nodes if tuned else [nodes[0], *nodes[2:]]
    if not tuned:
        kept[1] = Node("module.call", (Ref(0),), {"module": "transformer.ln_f"})
        kept[2] = Node("module.call", (Ref(1),), {"module": "lm_head"})
    last = len(kept) - 1
    return Graph(tuple(kept), {"lens": Ref(last - 1), "own": Ref(last)})


def divergence(results):
    own, lens = (torch.tensor(results[name]).log_softmax(-1) for name in ("own", "lens"))
    return (own.exp() * (own - lens)).sum(-1).mean().item()


def test_the_fitted_lens_sees_more_than_the_logit_lens_on_a_text_of_its_training(model, fitted):
    prompt = Prompt(text=TEXTS[2])
    tuned, plain = (model.run(lens_graph(tuned=flag), prompt).results for flag in (True, False))
    assert np.isfinite(tuned["lens"]).all()
    assert divergence(tuned) < 0.7 * divergence(plain)
