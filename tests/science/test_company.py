"""What a request gets does not depend on who shares its passes, nor on who came first."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from interpd.graph.ir import Dots, Generation, Ref, Slice, Steps
from interpd.testing.bench import Bench, ask, call, read, write

ARCHITECTURES = ("gpt2", "llama")
N_ORDERS = 8


@pytest.fixture(scope="module", params=ARCHITECTURES)
def bench(request):
    return Bench.tiny(request.param)


def crowd():
    """Requests of different kinds, depths and lengths."""
    shallow, deep = "layers.0.resid_post", "layers.1.resid_post"
    each = Steps()
    return (
        ask([read(shallow)], {"x": 0}, "A"),
        ask([read(deep)], {"x": 0}, "The cat sat"),
        ask(
            [read(shallow), call("torch.mul", Ref(0), 2.0), write(Ref(1), shallow), read("logits")], {"x": 3}, "The cat"
        ),
        ask([read("logits", positions=(-1,))], {"x": 0}, "Once upon a time there was a girl"),
        ask([read("layers.0.attn.pattern")], {"x": 0}, "The cat sat"),
        ask(
            [read(deep, steps=each), call("torch.mul", Ref(0), 0.5), write(Ref(1), deep, steps=each)],
            {},
            "The dog",
            generation=Generation(4, ignore_eos=True),
        ),
        ask([read(shallow, positions=(-1,), steps=each)], {"x": 0}, "A", generation=Generation(6, ignore_eos=True)),
    )


def found(outcome):
    """Outputs and tokens of a run."""
    tokens = {f"tokens {one.invoke}": np.array(one.token_ids) for one in outcome.done.generated}
    return {**{name: outcome[name] for name in ("x",) if any(event_name(e) == name for e in outcome.events)}, **tokens}


def event_name(event):
    return getattr(event, "name", None)


def test_any_order_of_arrival_gives_everybody_what_they_get_alone(bench):
    asked, rng = crowd(), Random(5)
    alone = [found(bench.run(request)) for request in asked]
    for order in range(N_ORDERS):
        places = rng.sample(range(len(asked)), len(asked))
        outcomes = bench.run_all(*(replace(asked[place], run_id=f"{order}-{place}") for place in places))
        for place, outcome in zip(places, outcomes, strict=True):
            here = found(outcome)
            assert here.keys() == alone[place].keys()
            assert all(np.allclose(here[name], alone[place][name], atol=1e-5) for name in here), places


def test_a_pass_goes_as_deep_as_its_deepest_request_and_each_gets_its_own_layer(bench):
    depth = bench.engine.describe().model.n_layers
    asked = [ask([read(f"layers.{layer}.resid_post")], {"x": 0}, "The cat sat") for layer in range(depth - 1)]
    alone = [bench.run(replace(request, run_id=f"alone-{place}")) for place, request in enumerate(asked)]
    together = bench.run_all(*asked)
    for outcome, expected in zip(together, alone, strict=True):
        assert outcome.done.cost.shared_with == (len(asked),)
        assert outcome.done.cost.n_layers_run <= depth - 1
        assert np.allclose(outcome["x"], expected["x"], atol=1e-6)
    assert alone[0].done.cost.n_layers_run == 1


@pytest.mark.parametrize("generation", [None, Generation(3, ignore_eos=True)])
def test_a_query_without_any_key_looks_at_no_padding(bench, generation):
    """With the first key knocked out, the first query has none of its own: it looks at what its model hides from it."""
    scores, first = "layers.1.attn.scores", None if generation is None else Steps(0, 1)
    knocked_out = [
        read(scores, steps=first),
        call("tensor.setitem", Ref(0), (Dots(), Slice(), 0), -np.inf),
        write(Ref(1), scores, steps=first),
        read("logits", steps=first),
    ]
    request = ask(knocked_out, {"x": 3}, "The cat", generation=generation)
    other = ask([read(scores, steps=first)], {"x": 0}, "The cat sat", generation=generation)
    alone = found(bench.run(request))
    outcome, _ = bench.run_all(replace(request, run_id="in-company"), other)
    assert 2 in outcome.done.cost.shared_with
    assert all(np.allclose(value, alone[name], atol=1e-5) for name, value in found(outcome).items())
