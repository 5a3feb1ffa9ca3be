"""How gradients are taken: in whatever pieces, by whatever way back, they are the same."""

import importlib.metadata

import numpy as np
import pytest
import torch

import interpd_client
from interpd.errors import InterpdError
from interpd.graph.ir import Graph, Node, Ref
from interpd.graph.run import Cancelled, Progress, Result
from interpd.plugin.discovery import Candidate
from interpd.testing.in_process import InProcessModel
from interpd.testing.tiny_models import tiny_model
from interpd_attribution import worker
from interpd_attribution.worker import declaration, others, passes, registry
from interpd_attribution.worker.declaration import attribution
from interpd_attribution.worker.gradient import vjp
from interpd_attribution.worker.problem import Problem, points

PATH = {"baseline": "zeros", "include_eos_baseline": True, "n_steps": 4}


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_several_vectors_at_once_are_one_after_the_other():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    y = (x.exp() @ torch.randn(4, 5, dtype=torch.float64)).sin()
    vectors = torch.randn(6, 3, 5, dtype=torch.float64)
    (together,) = vjp.vjp([y], [x], [vectors], True)
    each = torch.stack([torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in vectors])
    torch.testing.assert_close(together, each)


class OneAtATime(torch.autograd.Function):
    """A function without a rule for several gradients at once."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        # a number taken out of a tensor: that cannot be batched
        return gradient * (gradient.sum() * 0 + 2).item()


def test_what_cannot_be_batched_goes_one_after_the_other():
    x = torch.randn(3, requires_grad=True)
    vectors = torch.randn(4, 3)
    (found,) = vjp.vjp([OneAtATime.apply(x)], [x], [vectors], False)
    torch.testing.assert_close(found, vectors * 2)


def test_other_errors_are_not_swallowed():
    with pytest.raises(RuntimeError, match="does not require grad"):
        vjp.vjp([torch.ones(2)], [torch.ones(2, requires_grad=True)], [torch.ones(3, 2)], False)


def test_what_does_not_depend_has_no_gradient():
    x, other = torch.ones(2, requires_grad=True), torch.ones(5, requires_grad=True)
    found = vjp.vjp([x * 2], [x, other], [torch.ones(3, 2)], False)
    assert found[1].shape == (3, 5)
    assert not found[1].any()


@pytest.mark.parametrize("spans", [(), (0, 1, 0, 1, -1)])
def test_the_way_back_may_begin_at_the_scores(t5, monkeypatch, spans):
    short = t5.trace("integrated_gradients", **PATH, spans=spans).scores
    monkeypatch.setattr(passes, "head_of", lambda session: None)
    close(t5.trace("integrated_gradients", **PATH, spans=spans).scores, short)
    monkeypatch.setattr(passes, "end_site", lambda session: None)
    close(t5.trace("integrated_gradients", **PATH, spans=spans).scores, short)


def test_columns_in_blocks_are_the_same_columns(gpt2, monkeypatch):
    whole = gpt2.trace("integrated_gradients", **PATH, convergence_delta=True)
    monkeypatch.setattr(declaration, "available", lambda device: declaration.BLOCK_SHARE * 4 * 24 * 8 * 2)
    t = gpt2.prompt()
    t.save(out=t.op("attribution.integrated_gradients", **PATH, convergence_delta=True))
    parts = [event for event in t.submit().events() if isinstance(event, Result) and event.partial]
    assert len(parts) == 4
    found = gpt2.trace("integrated_gradients", **PATH, convergence_delta=True)
    close(found.scores, whole.scores)
    close(found.deltas, whole.deltas)


def graph(method, **constants):
    return Graph((Node(f"attribution.{method}", params=constants),), {"scores": Ref(0)})


def test_progress_counts_rows_times_columns():
    with InProcessModel({"attribution": worker}) as model:
        run = model.run(graph("integrated_gradients", **PATH, span=True, rows_per_pass=1))
    told = [(event.done, event.total) for event in run.events if isinstance(event, Progress)]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_cancel_ends_it_between_two_passes():
    with InProcessModel({"attribution": worker}) as model:
        events = model.events(graph("integrated_gradients", **PATH, rows_per_pass=1), max_steps=4)
        assert isinstance(events[-1], Cancelled)
        assert sum(isinstance(event, Progress) for event in events) < 4


@pytest.mark.slow
def test_half_precision_gives_the_same_within_its_digits():
    tiny = tiny_model("llama")
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        with interpd_client.local(
            (tiny.model.to(dtype), tiny.tokenizer), plugins={"attribution": worker}, name="m"
        ) as client:
            with client.model("m").trace([5, 40, 77, 120, 33, 9]) as t:
                t.save(out=t.op("attribution.integrated_gradients", baseline="mean", n_steps=8))
            found[dtype] = t.result["out"].scores
    one, other = (np.nan_to_num(scores).ravel() for scores in found.values())
    assert other.dtype == np.float32
    assert np.corrcoef(one, other)[0, 1] > 0.99


def test_what_is_linear_gets_its_weights(gpt2):
    weights = np.arange(24, dtype=np.float32) / 10
    with gpt2.prompt() as t:
        value = (t.embed @ weights).sum()
        constants = {"reduce": "sum", **PATH}
        t.save(
            vectors=t.op("attribution.saliency_vectors", value),
            path=t.op("attribution.integrated_gradients", value, **constants),
            embed=t.embed,
        )
    close(t.result["vectors"].scores[:, 0], np.tile(weights, (8, 1)))
    close(t.result["path"].scores[:, 0], t.result["embed"][0] @ weights)


@pytest.mark.parametrize("baseline", ["mean", "zeros", "noise"])
def test_baselines_without_tokens(gpt2, baseline):
    found = gpt2.trace("gradient_x_difference_vectors", baseline=baseline, include_eos_baseline=True).scores
    slopes = gpt2.trace("saliency_vectors", absolute=False).scores
    (vectors,) = (side.numpy() for side in gpt2.embedded())
    table = gpt2.embeddings[0].weight.detach().numpy()
    start = {"mean": table.mean(0), "zeros": 0 * table[0]}.get(baseline)
    if start is None:
        implied = vectors[:4] - found[:4, 3] / slopes[:4, 3]
        np.testing.assert_allclose(np.linalg.norm(implied, axis=-1), np.linalg.norm(vectors[:4], axis=-1), rtol=1e-2)
    else:
        close(found, slopes * (vectors - start)[:, None])


@pytest.mark.parametrize(
    ("constants", "said"),
    [
        ({}, "has no such token"),
        ({"baseline": "ids"}, "go together"),
        ({"baseline": "ids", "baseline_ids": (1, 2, 3)}, "expected one, or 8"),
        ({"baseline": "zeros", "n_baselines": 3}, "only baseline='noise'"),
        ({"baseline": "zeros", "n_steps": 0}, "expected 1 to 1000"),
        ({"baseline": "zeros", "convergence_delta": True, "multiply_by_inputs": False}, "do not"),
    ],
)
def test_paths_that_lead_nowhere_are_refused(gpt2, constants, said):
    with pytest.raises(InterpdError, match=said):
        gpt2.trace("integrated_gradients", **constants)


# other packages


@attribution("doubled", paper="arXiv:1312.6034")
def doubled(problem: Problem, columns: slice, *, factor: float = 2.0) -> torch.Tensor:
    """The gradient, some times over.

    Args:
        factor: How many times.
    """
    return vjp.weighted(problem, points(problem.inputs[None]), columns, lambda rows: torch.full((1,), factor))


def test_another_packages_method_has_all_that_ours_have(monkeypatch):
    mine = Candidate("mine", "my-package", "1.0", "my_package:doubled", lambda: doubled)
    monkeypatch.setattr(others, "installed", {registry.GROUP: (mine,)}.get)
    names = {one.schema.name: one.schema for one in registry.methods()}
    schema = names["attribution.doubled"]
    constants = {param.name: param for param in schema.params}
    assert {"factor", "target", "step_scores", "contrast_ids", "reduce"} <= constants.keys()
    assert constants["factor"].doc == "How many times."
    assert constants["start"].doc.startswith("The first attributed position")
    assert "attribution.doubled_vectors" in names


def test_the_groups_of_entry_points_are_those_that_are_documented():
    assert registry.GROUP == "interpd_attribution.methods"
    assert not importlib.metadata.entry_points(group=registry.GROUP)
