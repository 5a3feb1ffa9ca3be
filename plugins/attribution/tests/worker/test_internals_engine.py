"""Methods of internals on an engine: over several devices, and in company."""

import contextlib
import warnings
from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.config import ModelSpec
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.resident import Loaded, make_resident
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import Failed, Result, RunRequest
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import CallerError, MethodContext, hookimpl, method
from interpd.testing.several_devices import several_devices
from interpd.testing.tiny_models import tiny_llama
from interpd.worker.device_map import dispatched
from interpd_attribution import worker

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


@method("breaks.late", version=1)
def late(ctx: MethodContext) -> Float32[Tensor, ""]:
    """Nothing: an edit of its passes fails in the last layer, once those of the others have been told."""

    def fail(value):
        raise CallerError("on purpose")

    for _ in range(20):
        with contextlib.suppress(CallerError):
            ctx.session.forward(ctx.input_ids, reads=["layers.2.resid_post"], edits={"layers.2.resid_post": fail})
    return torch.zeros(())


def breaking():
    module = ModuleType("breaks")
    module.interpd_register_methods = hookimpl(lambda: [late])
    return module


def engine_of(model, tokenizer):
    candidates = [built_in(), candidate_of(worker, "attribution"), candidate_of(breaking(), "breaks")]
    registry = load_registry(["attribution", "breaks"], candidates=candidates)
    resident = make_resident(Loaded(model, tokenizer, ModelSpec("tiny", name="tiny"), "tiny"), registry)
    return NnsightEngine(resident, registry)


def scores_of(engine, *asked):
    """The scores of (method, text) pairs that run at the same time."""
    for number, (name, text) in enumerate(asked):
        graph = Graph((Node(name if "." in name else f"attribution.{name}"),), {"x": Ref(0)})
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
    tiny, asked = tiny_llama(), [(name, TEXTS[0]) for name in METHODS]
    expected = [scores_of(one, each)[0] for each in asked]
    with several_devices(), warnings.catch_warnings():
        # accelerate tells what it cannot know of these devices
        warnings.simplefilter("ignore")
        two = engine_of(dispatched(tiny.model.eval().requires_grad_(False), MAP), tiny.tokenizer)
        found = [scores_of(two, each)[0] for each in asked]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_methods_in_company_give_what_they_give_alone(one):
    asked = [(name, text) for name in METHODS for text in TEXTS]
    alone = [scores_of(one, each)[0] for each in asked]
    for (name, _), mine, theirs in zip(asked, scores_of(one, *asked), alone, strict=True):
        # one minus a cosine near one has few digits in float32
        atol = 5e-4 if name == "value_zeroing" else 1e-5
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=atol)


def test_passes_that_are_run_again_change_nothing(one):
    asked = [(name, TEXTS[0]) for name in METHODS]
    alone = [scores_of(one, each)[0] for each in asked]
    for each, expected in zip(asked, alone, strict=True):
        found = scores_of(one, each, ("breaks.late", TEXTS[0]))[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
