"""Methods of internals on an engine: over several devices, and in company."""

import warnings

import numpy as np
import pytest

from interpd.config import ModelSpec
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.resident import Loaded, make_resident
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import Failed, Result, RunRequest
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.testing.several_devices import several_devices
from interpd.testing.tiny_models import tiny_llama
from interpd.worker.device_map import dispatched
from interpd_attribution import worker
from interpd_attribution.worker.passes import Model

pytestmark = pytest.mark.slow

METHODS = (
    *("attention", "value_zeroing", "attention_norms", "attention_rollout", "attention_flow", "alti"),
    *("direct_logit_attribution", "alti_logit"),
)
TEXTS = ("The cat sat on the mat.", "Lisbon is the capital")
MAP = {
    **dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "model.layers.0"), "cpu:0"),
    **dict.fromkeys(("model.layers.1", "model.layers.2", "model.norm", "lm_head"), "cpu:1"),
}


def engine_of(model, tokenizer):
    registry = load_registry(["attribution"], candidates=[built_in(), candidate_of(worker, "attribution")])
    resident = make_resident(Loaded(model, tokenizer, ModelSpec("tiny", name="tiny"), "tiny"), registry)
    return NnsightEngine(resident, registry)


def scores_of(engine, *asked):
    """The scores of (method, text) pairs that run at the same time."""
    for number, (method, text) in enumerate(asked):
        graph = Graph((Node(f"attribution.{method}"),), {"x": Ref(0)})
        engine.submit(RunRequest(str(number), "tiny", (Prompt(text=text),), graph))
    events = []
    while engine.has_work:
        events += engine.step()
    assert [event.error for event in events if isinstance(event, Failed)] == []
    found = {event.run_id: event.tensor for event in events if isinstance(event, Result) and not event.partial}
    return [found[str(number)].to_numpy() for number in range(len(asked))]


@pytest.fixture(scope="module")
def one():
    tiny = tiny_llama()
    return engine_of(tiny.model.eval().requires_grad_(False), tiny.tokenizer)


def test_a_model_over_two_devices_gives_what_it_gives_on_one(one):
    tiny, asked = tiny_llama(), [(method, TEXTS[0]) for method in METHODS]
    expected = [scores_of(one, each)[0] for each in asked]
    with several_devices(), warnings.catch_warnings():
        # accelerate tells what it cannot know of these devices
        warnings.simplefilter("ignore")
        two = engine_of(dispatched(tiny.model.eval().requires_grad_(False), MAP), tiny.tokenizer)
        found = [scores_of(two, each)[0] for each in asked]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_methods_in_company_give_what_they_give_alone(one):
    asked = [(method, text) for method in METHODS for text in TEXTS]
    alone = [scores_of(one, each)[0] for each in asked]
    for (method, _), mine, theirs in zip(asked, scores_of(one, *asked), alone, strict=True):
        # one minus a cosine near one has few digits in float32
        atol = 5e-4 if method == "value_zeroing" else 1e-5
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=atol)


def test_passes_that_are_run_again_change_nothing(one, monkeypatch):
    asked = [(method, TEXTS[0]) for method in METHODS]
    alone = [scores_of(one, each)[0] for each in asked]
    run = Model.run

    def twice(self, *args, **wanted):
        run(self, *args, **wanted)
        return run(self, *args, **wanted)

    monkeypatch.setattr(Model, "run", twice)
    for each, expected in zip(asked, alone, strict=True):
        np.testing.assert_array_equal(scores_of(one, each)[0], expected)
