"""torch as people type it: other names, numpy's keywords, forms without a dimension."""

import pytest

import interpd_client as interpd
from interpd.graph.builtin import BUILTIN_OPS
from interpd_client.torch_names import ALIASES

NORM = "torch.linalg.vector_norm"
torch = interpd.torch


@pytest.fixture
def t(model):
    return model.trace([1, 2, 3])


@pytest.fixture
def h(t):
    return t.layers[0].resid_post


@pytest.mark.parametrize(
    ("expression", "op", "params"),
    [
        (lambda h: h.max(), "torch.amax", {}),
        (lambda h: torch.min(h), "torch.amin", {}),
        (lambda h: h.max(-1).values, "torch.max", {"dim": -1}),
        (lambda h: h.max(h), "torch.maximum", {}),
        (lambda h: h.max(axis=0).indices, "torch.max", {"dim": 0}),
        (lambda h: h.sum(axis=-1, keepdims=True), "torch.sum", {"dim": -1, "keepdim": True}),
        (lambda h: h.squeeze(), "torch.squeeze", {"dim": (0,)}),
        (lambda h: h[0].squeeze(), "torch.squeeze", {"dim": -1}),
        (lambda h: h.norm(), NORM, {}),
        (lambda h: h.norm(1, -1), NORM, {"ord": 1, "dim": -1}),
        (lambda h: torch.norm(h, p="fro", dim=-1), NORM, {"dim": -1}),
        (lambda h: torch.linalg.norm(h, dim=-1, keepdim=True), NORM, {"dim": -1, "keepdim": True}),
        (lambda h: torch.linalg.norm(h[0, 0], 1), NORM, {"ord": 1}),
        (lambda h: h.std(-1, unbiased=False), "torch.std", {"dim": -1, "correction": 0}),
        (lambda h: h.std(-1, True), "torch.std", {"dim": -1, "correction": 1}),
        (lambda h: h.var(False), "torch.var", {"correction": 0}),
        (lambda h: h.swapaxes(0, 1), "torch.transpose", {"dim0": 0, "dim1": 1}),
        (lambda h: h.permute(0, 2, 1), "torch.permute", {"dims": (0, 2, 1)}),
        (lambda h: torch.nn.functional.softmax(h, dim=-1), "torch.softmax", {"dim": -1}),
        (lambda h: torch.nn.functional.kl_div(h, h, reduction="sum"), "torch.kl_div", {"reduction": "sum"}),
    ],
)
def test_forms_of_torch_become_the_one_form_of_graphs(t, h, expression, op, params):
    value = expression(h)
    node = t._recording.nodes[-1]
    assert (node.op, dict(node.params)) == (op, params)
    assert value.shape is not None


def test_a_trace_makes_tensors_of_variadic_sizes(t):
    assert t.torch.zeros(2, 3).shape == (2, 3)
    assert t.torch.nn.functional.one_hot(t.input_ids, 5).shape == (1, 3, 5)


def test_every_alias_stands_for_an_operation():
    assert set(ALIASES.values()) <= set(BUILTIN_OPS)
    assert not set(ALIASES) & set(BUILTIN_OPS)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (lambda h: torch.linalg.norm(h, 1), "norms of vectors only"),
        (lambda h: torch.norm(h, p="nuc"), "norms of vectors only"),
        (lambda h: h.sum(dim=0, axis=0), "'axis' means the same"),
        (lambda h: h.cumsum(axes=0), "has no argument 'axes'"),
    ],
)
def test_what_graphs_have_not_is_refused_with_a_reason(h, expression, message):
    with pytest.raises(TypeError, match=message):
        expression(h)


def test_a_squeeze_of_unknown_sizes_asks_for_the_dimension(model):
    with pytest.raises(TypeError, match="not known before the prompt is tokenised"):
        model.trace("a b").embed.squeeze()


def test_a_misspelt_function_names_the_nearest():
    with pytest.raises(interpd.UnknownName, match=r"'torch.nn.functional.softmax'"):
        torch.nn.functional.sofmax  # noqa: B018
