"""Values of a graph that a method's passes compute anew, against hooks and torch.autograd on the bare model."""

from contextlib import contextmanager
from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from interpd.errors import CallerError, FeatureUnsupported, OpFailed
from interpd.graph.ir import Prompt, Ref
from interpd.graph.types import TensorData
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import MethodContext, Recomputed, hookimpl, method, op
from interpd.testing.bench import Bench, ask, call, read, write

PROMPT = "The cat sat on"
EARLY, SITE = "layers.0.resid_post", "layers.1.resid_post"
Values = Float[Tensor, "..."]
WEIGHT = torch.randn(24, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@op("probe.encode")
def encode(x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_sae"]:
    """Feature activations."""
    return torch.relu(x @ WEIGHT.to(x.dtype))


@op("probe.rounded", differentiable=False)
def rounded(x: Values) -> Values:
    """The input, rounded."""
    return x.round()


@method("probe.slope")
def slope(ctx: MethodContext, target: Recomputed[Values], *, site: str = "embed") -> Float[Tensor, "..."]:
    """The gradient of the target by a site."""
    got = ctx.session.forward(ctx.input_ids, reads=[site], values=[target], grad=True, target_ids=ctx.target_ids)
    return torch.autograd.grad(got[target][0], got[site])[0]


@method("probe.without")
def without(ctx: MethodContext, target: Recomputed[Values]) -> Float[Tensor, "..."]:
    """The target with each token in turn replaced by the first."""
    ids = ctx.input_ids.repeat(ctx.input_ids.shape[1], 1).fill_diagonal_(ctx.input_ids[0, 0])
    targets = None if ctx.target_ids is None else ctx.target_ids.expand(len(ids), -1)
    return ctx.session.forward(ids, values=[target], target_ids=targets)[target]


@method("probe.prefixes")
def prefixes(ctx: MethodContext, target: Recomputed[Values]) -> Float[Tensor, "..."]:
    """The target of the first two, three, ... tokens."""
    n = ctx.input_ids.shape[1]
    ids = ctx.input_ids.repeat(n - 1, 1)
    return ctx.session.forward(ids, values=[target], lengths=range(2, n + 1))[target]


@method("probe.edited")
def edited(ctx: MethodContext, target: Recomputed[Values], *, site: str) -> tuple[Values, Values]:
    """(the target, the gradient of its sum) by a site to which 1 is added."""
    edits = {site: lambda value: value + 1}
    got = ctx.session.forward(ctx.input_ids, reads=[site], values=[target], edits=edits, grad=True)
    return got[target].detach(), torch.autograd.grad(got[target].sum(), got[site], allow_unused=True)[0]


@method("probe.several")
def several(
    ctx: MethodContext, targets: tuple[Recomputed[Values], ...], other: Recomputed[Values] | None = None
) -> tuple[Values, Float32[Tensor, ""]]:
    """(the sum of the targets, how many handles there are)."""
    got = ctx.session.forward(ctx.input_ids, values=targets)
    return sum(got[target] for target in targets), torch.tensor(float(len(targets) + (other is not None)))


@method("probe.wrong")
def wrong(ctx: MethodContext, target: Recomputed[Values], *, how: str) -> Values:
    """Uses a handle as it cannot be used."""
    if how == "alone":
        ctx.session.forward(ctx.input_ids, values=target)
    if how == "name":
        ctx.session.forward(ctx.input_ids, values=["target"])
    if how == "foreign":
        ctx.session.forward(ctx.input_ids, values=[Recomputed("elsewhere")])
    if how == "unasked":
        return ctx.session.forward(ctx.input_ids, reads=["embed"])[target]
    return target


METHODS = [slope, without, prefixes, edited, several, wrong]


def plugin():
    module = ModuleType("probe")
    module.interpd_register_methods = hookimpl(lambda: METHODS)
    module.interpd_register_methods.__name__ = "interpd_register_methods"
    module.interpd_register_ops = hookimpl(lambda: [encode, rounded])
    module.interpd_register_ops.__name__ = "interpd_register_ops"
    return load_registry(["probe"], candidates=[built_in(), candidate_of(module, "probe")])


@pytest.fixture(scope="module", params=["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def bench(request):
    return Bench.tiny(request.param, dtype=torch.float64, registry=plugin())


@pytest.fixture(scope="module")
def t5():
    return Bench.tiny("t5", dtype=torch.float64, registry=plugin())


def blocks(bench):
    return bench.model.transformer.h if hasattr(bench.model, "transformer") else bench.model.model.layers


@contextmanager
def doubled(block):
    handle = block.register_forward_hook(lambda module, args, output: output * 2)
    yield
    handle.remove()


def feature(bench, ids=None, embeddings=None):
    """Feature 5 at the last position behind block 1, by the bare model."""
    seen = []
    handle = blocks(bench)[1].register_forward_hook(lambda module, args, output: seen.append(output))
    bench.model(input_ids=ids, inputs_embeds=embeddings)
    handle.remove()
    return torch.relu(seen[0] @ WEIGHT)[0, -1, 5]


def embedded(bench):
    return bench.model.get_input_embeddings()(bench.ids(PROMPT)).detach().requires_grad_()


FEATURE = [read(SITE), call("probe.encode", Ref(0)), call("tensor.getitem", Ref(1), (0, -1, 5))]
DOUBLED = [read(EARLY), call("torch.mul", Ref(0), 2.0), write(Ref(1), EARLY)]
FEATURE_BEHIND = [read(SITE), call("probe.encode", Ref(3)), call("tensor.getitem", Ref(4), (0, -1, 5))]


def test_the_gradient_of_an_operations_output_is_that_of_the_bare_model(bench):
    found = bench.run(ask([*FEATURE, call("probe.slope", Ref(2))], {"slope": 3, "value": 2}, PROMPT))
    embeddings = embedded(bench)
    value = feature(bench, embeddings=embeddings)
    assert value > 0.1
    assert abs(found["value"] - value.item()) < 1e-10
    assert np.abs(found["slope"] - torch.autograd.grad(value, embeddings)[0].numpy()).max() < 1e-10


def test_writes_of_the_graph_are_in_force(bench):
    nodes = [*DOUBLED, *FEATURE_BEHIND, call("probe.slope", Ref(5)), call("probe.without", Ref(5))]
    found = bench.run(ask(nodes, {"slope": 6, "without": 7}, PROMPT))
    embeddings = embedded(bench)
    with doubled(blocks(bench)[0]):
        expected = torch.autograd.grad(feature(bench, embeddings=embeddings), embeddings)[0]
        first = feature(bench, bench.ids(PROMPT))
    assert np.abs(found["slope"] - expected.numpy()).max() < 1e-10
    assert abs(found["without"][0] - first.item()) < 1e-10


def test_each_row_of_a_perturbation_gets_its_own_value(bench):
    found = bench.run(ask([*FEATURE, call("probe.without", Ref(2))], {"out": 3}, PROMPT))["out"]
    ids = bench.ids(PROMPT)
    assert found.shape == (ids.shape[1],)
    for place in range(ids.shape[1]):
        other = ids.clone()
        other[0, place] = ids[0, 0]
        assert abs(found[place] - feature(bench, other).item()) < 1e-10


def test_each_row_is_computed_from_its_own_tokens_and_positions(bench, own_log_probability):
    """The log-probability of a row's own tokens: their ids, and how many there are, differ from row to row."""
    nodes = [*own_log_probability, call("probe.prefixes", Ref(6))]
    found = bench.run(ask(nodes, {"out": 7}, PROMPT))["out"]
    ids = bench.ids(PROMPT)
    for row, length in enumerate(range(2, ids.shape[1] + 1)):
        scores = bench.model(ids[:, :length]).logits.log_softmax(-1)[0, :-1]
        assert abs(found[row] - scores.gather(-1, ids[0, 1:length, None]).sum().item()) < 1e-10


@pytest.mark.parametrize("site", [EARLY, SITE])
def test_edits_of_the_method_come_behind_the_writes_and_are_seen_by_the_value(bench, site):
    nodes = [*FEATURE, call("probe.edited", Ref(2), site=site)]
    found = bench.run(ask(nodes, {"value": Ref(3), "slope": Ref(3, 1)}, PROMPT))
    state = {}

    def hook(module, args, output):
        state["leaf"] = (output + 1).detach().requires_grad_()
        return state["leaf"]

    handle = blocks(bench)[0 if site == EARLY else 1].register_forward_hook(hook)
    value = feature(bench, bench.ids(PROMPT))
    handle.remove()
    assert abs(found["value"][0] - value.item()) < 1e-10
    assert np.abs(found["slope"] - torch.autograd.grad(value, state["leaf"])[0].numpy()).max() < 1e-10


def test_a_read_before_a_write_at_its_site_sees_neither_the_write_nor_an_edit(bench):
    nodes = [*DOUBLED, read(EARLY), read(SITE), call("torch.sum", Ref(0)), call("torch.sum", Ref(3))]
    nodes += [call("probe.several", (Ref(5), Ref(6), Ref(6))), call("torch.sum", Ref(4))]
    nodes += [call("torch.add", Ref(5), Ref(6)), call("probe.edited", Ref(9), site=EARLY)]
    found = bench.run(ask(nodes, {"sum": Ref(7), "edited": Ref(10), "slope": Ref(10, 1), "x": 5, "deep": 8}, PROMPT))
    plain = bench.model(bench.ids(PROMPT), output_hidden_states=True).hidden_states[1].detach()
    assert abs(found["x"] - plain.sum().item()) < 1e-9
    assert abs(found["sum"][0] - 5 * plain.sum().item()) < 1e-9
    assert abs(found["edited"][0] - (3 * plain.sum().item() + plain.numel())) < 1e-9
    assert (found["slope"] == 1).all()


SKIP = [read(EARLY), call("torch.mul", Ref(0), 0.5), read("layers.1.mlp.out"), call("torch.add", Ref(1), Ref(2))]
SKIP = [*SKIP, write(Ref(3), "layers.1.mlp.out")]


@contextmanager
def skipping(bench, change):
    """Half of what block 0 gives, after ``change``, is added to what the MLP of block 1 gives."""
    state = {}

    def first(module, args, output):
        state["x"] = change(output)
        return state["x"]

    handles = [
        blocks(bench)[0].register_forward_hook(first),
        blocks(bench)[1].mlp.register_forward_hook(lambda module, args, output: output + state["x"] * 0.5),
    ]
    yield state
    for handle in handles:
        handle.remove()


def test_a_read_that_a_later_write_uses_sees_edits_and_passes_gradients(bench):
    nodes = [*SKIP, read(SITE), call("probe.encode", Ref(5)), call("tensor.getitem", Ref(6), (0, -1, 5))]
    nodes += [call("probe.edited", Ref(7), site=EARLY), call("probe.slope", Ref(7), site=EARLY)]
    found = bench.run(ask(nodes, {"value": Ref(8), "edited": Ref(8, 1), "slope": 9}, PROMPT))
    for name, step in (("edited", 1), ("slope", 0)):
        with skipping(bench, lambda output, step=step: (output + step).detach().requires_grad_()) as state:
            value = feature(bench, bench.ids(PROMPT))
        assert np.abs(found[name] - torch.autograd.grad(value, state["x"])[0].numpy()).max() < 1e-10
        assert not step or abs(found["value"][0] - value.item()) < 1e-10


def test_a_value_that_a_later_write_uses_as_well_needs_no_pass_as_deep_as_the_write(bench):
    nodes = [*SKIP, call("torch.sum", Ref(0)), call("probe.without", Ref(5)), call("torch.sum", Ref(3))]
    nodes += [call("probe.without", Ref(7))]
    found = bench.run(ask(nodes, {"out": 6, "written": 8}, PROMPT))
    plain = bench.model(bench.ids(PROMPT), output_hidden_states=True).hidden_states[1]
    assert abs(found["out"][0] - plain.sum().item()) < 1e-9
    with skipping(bench, lambda output: output):
        seen = []
        handle = blocks(bench)[1].mlp.register_forward_hook(lambda module, args, output: seen.append(output))
        bench.model(bench.ids(PROMPT))
        handle.remove()
    assert abs(found["written"][0] - seen[0].sum().item()) < 1e-9


def test_what_does_not_depend_on_the_prompt_stays_as_it_is(bench):
    other = "Once upon a"
    nodes = [read(SITE, invoke=1), call("torch.mean", Ref(0), dim=(0, 1)), read(SITE)]
    nodes += [call("tensor.getitem", Ref(2), (0, -1)), call("torch.dot", Ref(3), Ref(1)), call("probe.without", Ref(4))]
    found = bench.run(ask(nodes, {"out": 5}, PROMPT, other))["out"]
    hidden = [bench.model(bench.ids(text), output_hidden_states=True).hidden_states[2][0] for text in (PROMPT, other)]
    assert abs(found[0] - (hidden[0][-1] @ hidden[1].mean(0)).item()) < 1e-9
    constant = [call("probe.without", TensorData.from_numpy(np.arange(3.0)))]
    assert (bench.run(ask(constant, {"out": 0}, PROMPT))["out"] == np.arange(3.0)).all()


def test_a_value_of_another_prompt_may_come_from_a_later_pass(bench):
    nodes = [read("logits"), call("torch.mean", Ref(0), dim=-1, keepdim=True), read("embed", invoke=1)]
    nodes += [call("torch.add", Ref(2), Ref(1)), write(Ref(3), EARLY, invoke=1), read(SITE, invoke=1)]
    nodes += [call("torch.sum", Ref(2)), read(SITE), call("torch.sum", Ref(7)), call("torch.add", Ref(8), Ref(6))]
    nodes += [call("probe.without", Ref(9))]
    found = bench.run(ask(nodes, {"out": 10, "sum": 9, "later": 5}, PROMPT, PROMPT))
    assert abs(found["out"][0] - found["sum"]) < 1e-9


def test_ports_may_take_several_values_or_none(bench):
    nodes = [*FEATURE, call("torch.mul", Ref(2), 2.0), call("probe.several", (Ref(2), Ref(3)))]
    nodes += [call("probe.several", (Ref(2),), Ref(3))]
    found = bench.run(ask(nodes, {"sum": Ref(4), "n": Ref(4, 1), "m": Ref(5, 1)}, PROMPT))
    assert abs(found["sum"][0] - 3 * feature(bench, bench.ids(PROMPT)).item()) < 1e-9
    assert (found["n"], found["m"]) == (2, 2)


def test_a_value_that_has_not_one_shape_in_all_rows_is_refused(bench):
    error = bench.run(ask([read(SITE), call("probe.prefixes", Ref(0))], {"out": 1}, PROMPT)).error
    assert type(error) is CallerError
    assert "the value at port 'target' is [1, 2, 24] in row 0 of a pass and [1, 3, 24] in row 1" in str(error)


def test_gradients_through_what_has_none_are_refused_and_values_are_not(bench):
    nodes = [*FEATURE, call("probe.rounded", Ref(2))]
    error = bench.run(ask([*nodes, call("probe.slope", Ref(3))], {"out": 4}, PROMPT)).error
    assert type(error) is FeatureUnsupported
    assert "op 'probe.rounded@1' of plugin 'probe', which says that gradients cannot pass it" in str(error)
    found = bench.run(ask([*nodes, call("probe.without", Ref(3))], {"out": 4}, PROMPT))["out"]
    assert found[0] == feature(bench, bench.ids(PROMPT)).round().item()


def test_a_value_that_does_not_follow_from_a_read_says_why_it_has_no_gradient(bench):
    nodes = [read(EARLY), call("torch.sum", Ref(0)), call("probe.slope", Ref(1), site=SITE)]
    error = bench.run(ask(nodes, {"out": 2}, PROMPT)).error
    assert type(error) is OpFailed
    assert "only with grad=True, by reads that come before them in the pass" in str(error)


def test_a_pass_with_a_value_ends_behind_it_and_counts_so_many_layers(bench):
    cost = bench.run(ask([*FEATURE, call("probe.without", Ref(2))], {"out": 3}, PROMPT)).done.cost
    n = bench.ids(PROMPT).shape[1]
    assert (cost.n_layers_run, cost.n_passes, cost.n_tokens) == (2, 2, n + n * n)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("alone", "values is the handle of port 'target' alone; write values=[target]"),
        ("name", "values are those of ports declared Recomputed (of probe.wrong: target), got str"),
        ("foreign", "(of probe.wrong: target), got 'elsewhere'"),
        ("unasked", "is not in values=[]: name it there"),
        ("itself", "output 'out' is of type Recomputed, not a tensor"),
    ],
)
def test_a_handle_that_is_used_otherwise_is_refused(bench, how, message):
    error = bench.run(ask([*FEATURE, call("probe.wrong", Ref(2), how=how)], {"out": 3}, PROMPT)).error
    assert type(error) is OpFailed
    assert message in str(error)


TWO_SIDED = Prompt(text="The cat sat", target_text="on the mat")


@pytest.mark.slow
def test_values_of_encoder_decoder_models_follow_both_sides(t5):
    tokens = t5.engine.tokenize([TWO_SIDED])[0]
    source, target = torch.tensor([tokens.ids]), torch.tensor([tokens.target.ids])
    nodes = [
        read("decoder.layers.0.resid_post"),
        call("probe.encode", Ref(0)),
        call("tensor.getitem", Ref(1), (0, -1)),
        call("torch.sum", Ref(2)),
        call("tokens.ids", side="source"),
        call("torch.sum", Ref(4)),
        call("torch.add", Ref(3), Ref(5)),
        call("probe.slope", Ref(6), site="encoder.embed"),
        call("probe.without", Ref(6)),
    ]
    found = t5.run(ask(nodes, {"slope": 7, "without": 8}, TWO_SIDED))

    def value(ids, embeddings):
        states = t5.model(inputs_embeds=embeddings, decoder_input_ids=target, output_hidden_states=True)
        return torch.relu(states.decoder_hidden_states[1][0, -1] @ WEIGHT).sum() + ids.sum()

    embeddings = t5.model.get_input_embeddings()(source).detach().requires_grad_()
    expected = torch.autograd.grad(value(source, embeddings), embeddings)[0].numpy()
    assert np.abs(found["slope"] - expected).max() < 1e-10
    for place in range(source.shape[1]):
        other = source.clone()
        other[0, place] = source[0, 0]
        expected = value(other, t5.model.get_input_embeddings()(other)).item()
        assert abs(found["without"][place] - expected) < 1e-9
