"""Passes in training mode: what is dropped follows from a seed, and the model is as it was afterwards."""

from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interpd.engine.dropout import dropping
from interpd.errors import FeatureUnsupported, OpFailed
from interpd.graph.ir import Prompt, Ref
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import MethodContext, hookimpl, method
from interpd.testing.bench import Bench, ask, call, read, write

PROMPT = "The cat sat"
Values = Float[Tensor, "..."]


@method("mc.read")
def read_once(ctx: MethodContext, *, seed: int, site: str = "logits", also: str = "") -> Values:
    """A site in a pass with dropout, or without (-1)."""
    reads = [name for name in (site, also) if name]
    drop = None if seed < 0 else seed
    return ctx.session.forward(ctx.input_ids, reads=reads, target_ids=ctx.target_ids, dropout_seed=drop)[site]


@method("mc.slope")
def slope(ctx: MethodContext, *, seed: int) -> Values:
    """The gradient of a logit by the embeddings."""
    values = ctx.session.forward(ctx.input_ids, reads=["embed", "logits"], grad=True, dropout_seed=seed)
    return torch.autograd.grad(values["logits"][0, -1, 5], values["embed"])[0]


@method("mc.fails")
def fails(ctx: MethodContext, *, how: str) -> Values:
    """Nothing."""
    seed = {"negative": -1, "word": "7", "bool": True}.get(how, 7)
    edit = {"layers.1.resid_mid" if how == "carry" else "layers.1.resid_post": lambda value: value[{}[0]]}
    return ctx.session.forward(ctx.input_ids, reads=["logits"], edits=edit, dropout_seed=seed)["logits"]


def make_bench(architecture):
    module = ModuleType("mc")
    module.interpd_register_methods = hookimpl(lambda: [read_once, slope, fails])
    module.interpd_register_methods.__name__ = "interpd_register_methods"
    return Bench.tiny(architecture, registry=load_registry(["mc"], candidates=[built_in(), candidate_of(module, "mc")]))


@pytest.fixture(scope="module")
def bench():
    return make_bench("gpt2")


@pytest.fixture(autouse=True)
def _left_as_it_was(bench):
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in bench.model.modules())


def logits(bench, seed, prompt=PROMPT, **params):
    return bench.run(ask([call("mc.read", seed=seed, **params)], {"x": 0}, prompt))["x"]


def in_training(model, seed, **inputs):
    """What the bare model gives in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.train()
        try:
            return model(**inputs)
        finally:
            model.eval()


def test_a_pass_drops_what_the_bare_model_drops_in_training(bench):
    expected = in_training(bench.model, 7, input_ids=bench.ids(PROMPT)).logits.detach()
    assert np.array_equal(logits(bench, 7), expected)
    assert np.array_equal(logits(bench, 7), expected)
    assert np.abs(logits(bench, 8) - expected.numpy()).max() > 1e-3
    assert np.array_equal(logits(bench, -1), bench.model(bench.ids(PROMPT)).logits.detach())


def test_eager_attention_drops_what_the_models_own_does(bench):
    found = logits(bench, 7, also="layers.1.attn.pattern")
    bench.model.set_attn_implementation("eager")
    try:
        expected = in_training(bench.model, 7, input_ids=bench.ids(PROMPT)).logits.detach()
    finally:
        bench.model.set_attn_implementation("sdpa")
    assert np.allclose(found, expected, atol=1e-6)
    pattern = logits(bench, 7, site="layers.1.attn.pattern")
    assert np.allclose(pattern.sum(-1), 1, atol=1e-6)


def test_gradients_are_those_of_the_pass_with_its_dropout(bench):
    embeddings = bench.model.get_input_embeddings()(bench.ids(PROMPT)).detach().requires_grad_()
    value = in_training(bench.model, 3, inputs_embeds=embeddings).logits[0, -1, 5]
    found = bench.run(ask([call("mc.slope", seed=3)], {"x": 0}, PROMPT))["x"]
    assert np.allclose(found, torch.autograd.grad(value, embeddings)[0], atol=1e-6)


def test_a_model_that_drops_nothing_gives_what_it_gives_without():
    llama = make_bench("llama")
    assert np.array_equal(logits(llama, 7), logits(llama, -1))


@pytest.mark.slow
def test_both_sides_of_an_encoder_decoder_model_drop():
    t5, prompt = make_bench("t5"), Prompt(text="The cat sat", target_text="on the mat")
    tokens = t5.engine.tokenize([prompt])[0]
    inputs = {"input_ids": torch.tensor([tokens.ids]), "decoder_input_ids": torch.tensor([tokens.target.ids])}
    expected = in_training(t5.model, 7, **inputs).logits.detach()
    assert np.array_equal(logits(t5, 7, prompt), expected)


def test_such_a_pass_is_never_shared(bench):
    asked = [ask([call("mc.read", seed=seed)], {"x": 0}, PROMPT) for seed in (7, 7, -1, -1)]
    outcomes = bench.run_all(*asked)
    assert [outcome.done.cost.shared_with for outcome in outcomes] == [(1,), (1,), (2,), (2,)]
    assert np.array_equal(outcomes[0]["x"], outcomes[1]["x"])


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("edit", OpFailed, "raised KeyError: 0"),
        ("carry", FeatureUnsupported, "no write, edit or gradient at 'layers.1.resid_mid': it is carried to"),
        ("negative", OpFailed, "dropout_seed is -1, expected a whole number from 0"),
        ("word", OpFailed, "dropout_seed is '7', expected"),
        ("bool", OpFailed, "dropout_seed is True, expected"),
    ],
)
def test_a_pass_that_fails_leaves_the_model_as_it_was(bench, how, error, message):
    found = bench.run(ask([call("mc.fails", how=how)], {"x": 0}, PROMPT)).error
    assert type(found) is error
    assert message in str(found)
    assert not any(module.training for module in bench.model.modules())


def test_a_write_of_the_graph_that_is_carried_is_refused(bench):
    site = "layers.1.resid_mid"
    nodes = [read(site), call("torch.mul", Ref(0), 2.0), write(Ref(1), site), call("mc.read", seed=7)]
    assert isinstance(bench.run(ask(nodes, {"x": 3}, PROMPT)).error, FeatureUnsupported)


def test_norms_that_learn_stay_as_they_are():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with dropping(model, 7):
        assert [module.training for module in model] == [False, True]
        assert (model(torch.ones(40, 3)) == 0).any()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
