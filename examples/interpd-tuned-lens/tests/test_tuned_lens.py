"""The lens fits, helps and behaves as a plugin must."""

import subprocess
import sys

import interpd_client
import numpy as np
import pytest
import torch
from interpd_client.testing import FakeTransport, fake_manifest
from interpd_tuned_lens import lens as tuned
from interpd_tuned_lens import worker
from interpd_tuned_lens.client import TunedLensClient
from interpd_tuned_lens.fitting import fit
from interpd_tuned_lens.lens import TunedLens

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
    worker,
    examples={"tuned_lens.apply": {"at_layer": 1}, "tuned_lens.fit": {"name": "lens", "n_steps": 3}},
    refuses={"tuned_lens.apply": [{"at_layer": -1}, {"at_layer": 99}]},
)


@pytest.fixture(scope="module")
def model():
    with InProcessModel({"tuned_lens": worker}) as model:
        yield model


@pytest.fixture(scope="module")
def fitted(model):
    params = {"name": "lens", "texts": TEXTS, "n_steps": 60}
    return model.run(Graph((Node("tuned_lens.fit", params=params),), {"losses": Ref(0)}), Prompt(text="The cat sat."))


def test_an_unfitted_lens_is_the_identity():
    h = torch.randn(1, 3, 4)
    lens = TunedLens(torch.zeros(2, 4, 4), torch.zeros(2, 4))
    assert torch.equal(tuned.apply(h, lens=lens, at_layer=1), h)


def test_a_layer_that_the_lens_lacks_is_the_callers_mistake():
    lens = TunedLens(torch.zeros(2, 4, 4), torch.zeros(2, 4))
    with pytest.raises(CallerError, match="at_layer is 2, but the lens has layers 0 to 1"):
        tuned.apply(torch.zeros(1, 1, 4), lens=lens, at_layer=2)


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


@pytest.fixture
def transport():
    """A service without a server whose model knows a lens."""
    transport = FakeTransport(fake_manifest(n_layers=2, ops=(tuned.apply.schema, fit.schema)))
    transport.put_artifact("fake", "mine", "tuned_lens", b"", None)
    return transport


def test_the_client_part_fits_on_all_texts(transport):
    TunedLensClient(interpd_client.Client(transport).model("fake")).fit("mine", TEXTS, n_steps=3)
    (request,) = transport.requests
    assert (request.prompts[0].text, request.graph.nodes[0].params["texts"]) == (TEXTS[0], TEXTS[1:])


def test_the_client_part_gives_one_guess_per_layer(transport):
    guesses = TunedLensClient(interpd_client.Client(transport).model("fake")).guesses("The cat", lens="mine")
    assert guesses.token_ids.tolist() == [0, 0]
    assert repr(guesses) == "layer  0: 0.000  '<0>'\nlayer  1: 0.000  '<0>'"
    (request,) = transport.requests
    applied = [node.params["at_layer"] for node in request.graph.nodes if node.op == "tuned_lens.apply"]
    assert applied == [0, 1]


def test_client_part_and_command_need_no_torch():
    code = "import sys; sys.modules['torch'] = None; import interpd_tuned_lens.client, interpd_tuned_lens.command"
    path = f"import sys; sys.path[:] = {sys.path!r}; "
    subprocess.run([sys.executable, "-c", path + code], check=True)
