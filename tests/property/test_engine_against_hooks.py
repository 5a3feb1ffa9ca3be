"""Random graphs: through the engine alone, among strangers, and interpreted by hooks on the bare model.

In double precision the three agree to rounding, so that any other cause of a difference shows. A failing seed is
reproduced by ``next(requests(seed, 1, manifest, **kind))``; pytest shows the request.
"""

from dataclasses import dataclass, replace
from functools import cache
from random import Random

import numpy as np
import pytest
import torch
from hooked_model import HookedRun, relative_error
from random_requests import disturber, requests

from interpd.config import ModelSpec
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.resident import make_resident
from interpd.graph.ir import Graph, Ref
from interpd.graph.run import Failed
from interpd.plugin.registry import load_registry
from interpd.testing.bench import Bench, ask, read
from interpd.testing.tiny_models import tiny_model
from interpd.worker.loading import load_model
from interpd.zoo import path

ARCHITECTURES = ("gpt2", "llama", "mistral", "qwen2")
KINDS = {"plain": {}, "gradients": {"gradients": True}, "generation": {"generates": True}}
ENDS = {"fails": ("CallerError",), "late": ("DeadlineExceeded",), "nan": ("Done",), "cancelled": ("Cancelled", "Done")}


@dataclass
class Subject:
    """An engine, and the same model once more without it."""

    bench: Bench
    bare: torch.nn.Module
    tolerance: float

    @property
    def manifest(self):
        return self.bench.engine.describe()

    def expected(self, request):
        axes = {name: tuple(dim.name for dim in site.type.dims) for name, site in self.manifest.sites.items()}
        run = HookedRun(self.bare, request, [prompt.token_ids for prompt in request.prompts])
        values = run.run(axes, ends={self.bare.config.eos_token_id})
        return values, [(tuple(prompt.new), prompt.reason) for prompt in run.prompts]

    def agrees(self, request, outcome, expected):
        values, texts = expected
        generated = [(found.token_ids, found.stop_reason) for found in outcome.done.generated]
        assert generated == (texts if request.generation else []), request
        for name, value in values.items():
            if value is not None:
                error = relative_error(outcome[name], value)
                assert error <= self.tolerance, f"{name} is off by {error:.1e}: {request}"


@cache
def tiny(architecture, dtype=torch.float64):
    bare = tiny_model(architecture).model.to(dtype).requires_grad_(False)
    # norms and rotary embeddings of the Llama family compute in single precision whatever the model's dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10 if architecture == "gpt2" else 2e-6
    return Subject(Bench.tiny(architecture, dtype=dtype), bare, tolerance)


@cache
def facts():
    """The bundled trained model."""
    loaded, bare = (load_model(ModelSpec(str(path("facts")), dtype="float32", device="cpu")) for _ in range(2))
    registry = load_registry([])
    bench = Bench(NnsightEngine(make_resident(loaded, registry), registry), loaded.model)
    return Subject(bench, bare.model, 1e-5)


def run_among_strangers(subject, asked, rng):
    """Runs requests together with ones that fail, spread NaN, come too late or are cancelled on the way; all at once,
    or arriving while others run."""
    strangers = [disturber(rng, subject.manifest) for _ in range(rng.choice((3, 5, 8)))]
    arriving = [*asked, *strangers]
    rng.shuffle(arriving)
    all_at_once, outcomes, doomed = rng.random() < 0.4, {}, []
    while arriving or subject.bench.engine.has_work:
        while arriving and (all_at_once or not outcomes or rng.random() < 0.5):
            request = arriving.pop()
            outcomes |= subject.bench.start(request)
            doomed += [request.run_id] if request.run_id.startswith("cancelled") else []
        subject.bench.step(outcomes)
        if doomed and rng.random() < 0.5:
            subject.bench.engine.cancel(doomed.pop())
    for request in strangers:
        end = outcomes[request.run_id].events[-1]
        assert how_it_ended(end) in ENDS[request.run_id.partition("-")[0]], end
    return [outcomes[request.run_id] for request in asked]


def how_it_ended(end):
    return type(end.error).__name__ if isinstance(end, Failed) else type(end).__name__


def compare(subject, seed, n, **kind):
    """Alone, together, and among strangers, ``n`` requests give what hooks give."""
    asked = requests(seed, n, subject.manifest, **kind)
    expected = [subject.expected(request) for request in asked]
    for request, wanted in zip(asked, expected, strict=True):
        subject.agrees(request, subject.bench.run(request), wanted)
    rng = Random(seed)
    for first in range(0, n, 6):
        group = slice(first, first + 6)
        outcomes = run_among_strangers(subject, asked[group], rng)
        for request, outcome, wanted in zip(asked[group], outcomes, expected[group], strict=True):
            subject.agrees(request, outcome, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_engine_computes_what_hooks_compute(architecture, kind):
    compare(tiny(architecture), 1, 9, **KINDS[kind])


@pytest.mark.parametrize("kind", ["plain", "generation"])
def test_the_bundled_model_in_single_precision(kind):
    compare(facts(), 2, 6, **KINDS[kind])


@pytest.mark.parametrize("architecture", ["gpt2", "mistral"])
def test_prompts_that_are_alike_share_rows_and_nobody_can_tell(architecture):
    compare(tiny(architecture), 4, 12, alike=True)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prompts_that_are_alike_share_rows_in_many_graphs(architecture):
    compare(tiny(architecture), 300, 120, alike=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_engine_computes_what_hooks_compute_for_many_graphs(architecture, kind):
    compare(tiny(architecture), 100, 100, **KINDS[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "generation"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_single_precision_is_as_good_for_many_graphs(architecture, kind):
    compare(tiny(architecture, torch.float32), 200, 60, **KINDS[kind])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_what_a_nudge_of_the_value_changes(architecture):
    """Central differences of the interpreter by hooks, which know nothing of autograd."""
    subject = tiny(architecture)
    step, tolerance = (1e-5, 1e-6) if architecture == "gpt2" else (1e-3, 3e-3)
    for request, index in smooth(requests(3, 60, subject.manifest, gradients=True))[:4]:
        target, wrt = (ref.node for ref in request.graph.nodes[index].inputs)
        asked = with_outputs(request, gradient=index, target=target, value=wrt)
        found = subject.bench.run(asked)
        direction = np.random.default_rng(0).standard_normal(found["value"].shape)
        up, down = (nudged(subject, asked, wrt, sign * step * direction) for sign in (1, -1))
        slope = float((found["gradient"] * direction).sum())
        assert slope == pytest.approx((up - down) / (2 * step), rel=tolerance, abs=tolerance), asked


def smooth(found):
    """(request, first gradient) where a difference is the derivative: whole values, read once, and no kinks."""
    chosen = []
    for request in found:
        nodes = request.graph.nodes
        index = next(i for i, node in enumerate(nodes) if node.op == "site.grad")
        wrt = nodes[nodes[index].inputs[1].node]
        reads = [node for node in nodes if node.op == "site.read" and node.invoke == wrt.invoke]
        read_once = sum(node.params["site"] == wrt.params["site"] for node in reads) == 1
        kinks = any(node.op in ("torch.relu", "torch.gt", "torch.where", "tensor.detach") for node in nodes)
        if read_once and not kinks and "positions" not in wrt.params:
            chosen.append((request, index))
    return chosen


def with_outputs(request, **outputs):
    used = {name: Ref(node) for name, node in outputs.items()}
    return replace(request, graph=Graph(request.graph.nodes, {**request.graph.outputs, **used}))


def nudged(subject, request, wrt, change):
    """The target while ``change`` is added at the place of the read ``wrt``."""
    axes = {name: tuple(dim.name for dim in site.type.dims) for name, site in subject.manifest.sites.items()}
    ids = [prompt.token_ids for prompt in request.prompts]
    run = HookedRun(subject.bare, request, ids, nudge=(wrt, torch.as_tensor(change)))
    return float(run.run(axes)["target"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_request_that_writes_nothing_gets_the_bits_of_the_bare_model(architecture, dtype):
    bench = Bench.tiny(architecture, dtype=dtype)
    bare = tiny_model(architecture).model.to(dtype)
    for prompt in ("a", "The cat sat", "Once upon a time there was a girl"):
        found = bench.run(ask([read("logits")], {"logits": 0}, prompt))["logits"]
        with torch.no_grad():
            assert np.array_equal(found, bare(bench.ids(prompt)).logits.float())
