"""``model.attribute`` over the wire: clients at once, what is known so far, an end before the end."""

from contextlib import ExitStack

import numpy as np
import pytest
from attribution_golden import tiny

import interpd_client
from interpd.graph.run import Done, Progress, Result
from interpd.testing.daemon_process import DaemonProcess
from interpd_attribution import worker
from interpd_client import Cancelled

pytestmark = pytest.mark.ray

PROMPT, CONTINUATION = "the cat sat", " on the mat"
ASKED = (
    (PROMPT, {"method": "saliency", "step_scores": ["probability"]}),
    ("the nurse was", {"method": "integrated_gradients", "baseline": "mean", "n_steps": 12, "reduce": "sum"}),
    (PROMPT, {"method": "shapley_value_sampling", "baseline": "mean", "n_samples": 8, "seed": 2}),
    ("a dog", {"method": "occlusion", "baseline": "mean"}),
    ("the cat", {"method": "attention"}),
    (PROMPT, {"method": "value_zeroing"}),
)
LONG = {"method": "shapley_value_sampling", "baseline": "mean", "n_samples": 100_000, "rows_per_pass": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model."""
    path = tmp_path_factory.mktemp("daemon") / "tiny"
    tiny.save("tiny-gpt2", path)
    return str(path)


@pytest.fixture(scope="module")
def models(folder):
    """The daemon's model as two clients have it, and the same in this process."""
    with ExitStack() as stack:
        daemon = stack.enter_context(
            DaemonProcess("interpd", "serve", "--port", "0", "--model", folder, "--plugin", "attribution")
        )
        clients = [stack.enter_context(interpd_client.connect(daemon.address)) for _ in range(2)]
        here = stack.enter_context(interpd_client.local(folder, plugins={"attribution": worker}))
        yield [client.model("tiny") for client in (*clients, here)]


def same(one, other):
    assert one.target == other.target
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-6)
    for name, scores in other.step_scores.items():
        np.testing.assert_allclose(one.step_scores[name], scores, rtol=1e-4, atol=1e-6)


def test_two_clients_at_once_get_what_each_would_alone(models):
    *far, here = models
    under_way = [
        (far[number % 2].attribute.submit(prompt, CONTINUATION, **asked), prompt, asked)
        for number, (prompt, asked) in enumerate(ASKED)
    ]
    for run, prompt, asked in under_way:
        same(run.result(), here.attribute(prompt, CONTINUATION, **asked))


def test_a_batch_is_generated_and_attributed_while_another_client_asks(models):
    one, other, here = models
    asked = {"method": "input_x_gradient", "generation": {"max_new_tokens": 4}}
    prompts = [prompt for prompt, _ in ASKED]
    run = other.attribute.submit(prompts, **asked)
    same(one.attribute(PROMPT, **asked), here.attribute(PROMPT, **asked))
    for found, expected in zip(run.result(), here.attribute(prompts, **asked), strict=True):
        same(found, expected)


def test_what_a_trace_writes_is_in_force_over_the_wire(models):
    found = []
    for model in (models[0], models[2]):
        with model.trace(PROMPT) as t:
            t.layers[1].mlp.out[:, 1] *= -2.0
            t.save(top=t.logits[:, -1].argmax(-1))
        found.append(model.attribute(PROMPT, CONTINUATION, method="input_x_gradient", under=t))
    same(*found)
    assert not np.allclose(
        *(one.scores[0] for one in (found[0], models[2].attribute(PROMPT, CONTINUATION, method="input_x_gradient")))
    )


def test_partial_results_come_before_the_end(models):
    seen, asked = [], {**LONG, "n_samples": 400}
    out = models[0].attribute(
        PROMPT, CONTINUATION, on_partial=lambda part, number: seen.append((part, number)), **asked
    )
    assert {number for _, number in seen} == {0}
    assert not np.array_equal(seen[0][0].scores, out.scores, equal_nan=True)
    assert all(part.target == out.target and part.scores.shape == out.scores.shape for part, _ in seen)


def test_a_node_tells_how_far_it_is(models):
    model = models[1]
    t = model.trace(PROMPT + CONTINUATION)
    t.save(
        out=model.attribute.node(
            t, attr_pos_start=3, method="integrated_gradients", baseline="mean", n_steps=64, rows_per_pass=8
        )
    )
    events = list(t.submit().events())
    done = [event.done / event.total for event in events if isinstance(event, Progress) and event.total]
    assert done == sorted(done)
    assert 0 < done[0] < done[-1] <= 1
    assert isinstance(events[-1], Done)
    assert any(isinstance(event, Result) and not event.partial for event in events)


def test_a_run_that_is_cancelled_ends_and_leaves_the_model_to_others(models):
    one, other, here = models
    run = one.attribute.submit(PROMPT, CONTINUATION, on_partial=lambda part, number: run.cancel(), **LONG)
    with pytest.raises(Cancelled):
        run.result()
    same(other.attribute("a dog", CONTINUATION), here.attribute("a dog", CONTINUATION))
