"""Passes of methods on encoder-decoder models, against the engine's own and layers written out in plain torch."""

from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from two_stacks_written_out import logits as written_out

from interpd.graph.ir import Prompt, Ref
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import hookimpl, method
from interpd.testing.bench import Bench, ask, call, read, write

PROMPT = Prompt(text="The cat sat", target_text="on the mat")
CROSS, MID, POST = (f"decoder.layers.1.{name}" for name in ("resid_cross", "resid_mid", "resid_post"))
ENCODED = "encoder.ln_final"
Stream = Float[Tensor, "batch pos d_model"]


@method("probe.shifted")
def shifted(ctx) -> tuple[Stream, Stream]:
    """The stream behind a block, into which 1 is added before cross-attention; in company of a shorter row."""
    ids, target = ctx.input_ids.repeat(2, 1), ctx.target_ids.repeat(2, 1)
    n, m = ids.shape[1], target.shape[1]
    values = ctx.session.forward(
        ids,
        reads=[MID, POST],
        edits={CROSS: lambda value: value + 1},
        lengths=[n - 1, n],
        target_ids=target,
        target_lengths=[m - 2, m],
    )
    return values[MID][1:], values[POST][1:]


@method("probe.slope")
def slope(ctx) -> Float[Tensor, "batch src_pos d_model"]:
    """The gradient of the decoder's stream by what the encoder gives."""
    reads = [ENCODED, POST]
    values = ctx.session.forward(ctx.input_ids, reads=reads, grad=True, target_ids=ctx.target_ids)
    return torch.autograd.grad(values[POST].sum(), values[ENCODED])[0]


@method("probe.wrong")
def wrong(ctx, *, how: str) -> Stream:
    """A pass that cannot be."""
    target, lengths = {
        "none": (None, None),
        "lengths": (None, [1]),
        "rows": (ctx.target_ids.repeat(2, 1), None),
        "long": (ctx.target_ids, [9]),
        "vocabulary": (ctx.target_ids + 1000, None),
        "floats": (ctx.target_ids.float(), None),
    }[how]
    ids = ctx.input_ids
    return ctx.session.forward(ids, reads=[POST], target_ids=target, target_lengths=lengths)[POST]


@pytest.fixture(scope="module")
def bench():
    module = ModuleType("probe")
    module.interpd_register_methods = hookimpl(lambda: [shifted, slope, wrong])
    module.interpd_register_methods.__name__ = "interpd_register_methods"
    registry = load_registry(["probe"], candidates=[built_in(), candidate_of(module, "probe")])
    return Bench.tiny("pegasus", dtype=torch.float64, registry=registry)


def meant(bench, at):
    tokens, seen = bench.engine.tokenize([PROMPT])[0], {}

    def look(name, value):
        seen[name] = at(name, value)
        return seen[name]

    written_out(bench.model, torch.tensor([tokens.ids]), torch.tensor([tokens.target.ids]), look)
    return seen


def test_an_edit_before_cross_attention_reaches_the_sums_behind_it(bench):
    expected = meant(bench, lambda name, value: value + 1 if name == CROSS else value)
    found = bench.run(ask([call("probe.shifted")], {"mid": Ref(0), "post": Ref(0, 1)}, PROMPT))
    assert np.abs(found["mid"] - expected[MID].detach().numpy()).max() < 1e-10
    assert np.abs(found["post"] - expected[POST].detach().numpy()).max() < 1e-10
    # the sums are the model's own, so a write there by the graph is the last word
    nodes = [read(MID), call("torch.mul", Ref(0), 0.0), write(Ref(1), MID), call("probe.shifted")]
    found = bench.run(ask(nodes, {"mid": Ref(3)}, PROMPT))
    assert (found["mid"] == 0).all()


def test_writes_of_the_graph_are_in_force_on_both_sides(bench):
    def at(name, value):
        return value * 2 if name == ENCODED else value + 1 if name == CROSS else value

    nodes = [read(ENCODED), call("torch.mul", Ref(0), 2.0), write(Ref(1), ENCODED), call("probe.shifted")]
    found = bench.run(ask(nodes, {"post": Ref(3, 1)}, PROMPT))
    assert np.abs(found["post"] - meant(bench, at)[POST].detach().numpy()).max() < 1e-10


def test_gradients_go_from_the_decoder_to_the_encoder(bench):
    nodes = [read(ENCODED), read(POST), call("torch.sum", Ref(1)), call("site.grad", Ref(2), Ref(0))]
    expected = bench.run(ask(nodes, {"slope": 3}, PROMPT))["slope"]
    found = bench.run(ask([call("probe.slope")], {"slope": 0}, PROMPT))
    assert np.abs(found["slope"] - expected).max() < 1e-10
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("none", "model 'pegasus' is an encoder-decoder model: give target_ids, what its decoder is given"),
        ("lengths", "target_lengths are those of target_ids, which were not given"),
        ("rows", "target_ids have 2 rows, input_ids 1"),
        ("long", "lengths [9] of target_ids"),
        ("vocabulary", "target_ids are not all within the vocabulary of 321: 1002 is the first"),
        ("floats", "target_ids is float32"),
    ],
)
def test_a_pass_that_the_model_cannot_take_is_refused_before_it_runs(bench, how, message):
    assert message in str(bench.run(ask([call("probe.wrong", how=how)], {"out": 0}, PROMPT)).error)
