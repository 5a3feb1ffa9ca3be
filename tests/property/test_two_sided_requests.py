"""Random requests to encoder-decoder models: in company as alone, and as the checker foretold.

Reads and writes on both sides, values of other prompts, gradients, generations; sources and targets of all lengths.
"""

from functools import cache
from itertools import count
from random import Random

import numpy as np
import pytest
import torch

from interpd.errors import CallerError
from interpd.graph.check import check
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref, Steps
from interpd.graph.run import Lengths, Result, RunRequest
from interpd.testing.bench import Bench

TOLERANCE = {"t5": 1e-5}
N_TOGETHER = 6
_ids = count()


@cache
def bench_of(architecture):
    return Bench.tiny(architecture, dtype=torch.float64)


class TwoSidedRequest:
    """Builds one request. The same seed gives the same request."""

    def __init__(self, seed, manifest, kind):
        self.rng, self.manifest, self.kind = Random(seed), manifest, kind
        eager = self.rng.random() < 0.3
        self.sites = [site for site in manifest.sites.values() if self._is_wanted(site, eager=eager)]
        self.lengths = [Lengths(*self.rng.choices((1, 2, 3, 5, 8), k=2)) for _ in range(self.rng.choice((1, 1, 2, 3)))]
        self.nodes = []

    def _is_wanted(self, site, *, eager):
        if site.canonical:
            return eager or not site.eager_attention
        return site.shares_pass and site.writable and self.rng.random() < 0.1

    def request(self):
        """A valid request, or ``None`` when this draw came out invalid."""
        for _ in range(self.rng.choice((1, 2, 3, 4))):
            self._act()
        for invoke in range(len(self.lengths)):
            self._read(self.manifest.sites["logits"], invoke)
        if self.kind == "gradients":
            self._differentiate()
        used = {ref.node for node in self.nodes for ref in node.inputs if isinstance(ref, Ref)}
        kept = [i for i, node in enumerate(self.nodes) if node.op != "site.write" and (i not in used or i % 3 == 0)]
        generation = Generation(self.rng.choice((1, 3, 5)), ignore_eos=True) if self.kind == "generation" else None
        graph = Graph(tuple(self.nodes), {f"n{index}": Ref(index) for index in kept})
        request = RunRequest(f"r{next(_ids)}", "tiny", tuple(map(self._prompt, self.lengths)), graph, generation)
        return None if check(request, self.manifest).violations else request

    def _prompt(self, lengths):
        source, target = (tuple(self.rng.choices(range(3, 320), k=n)) for n in (lengths.src_pos, lengths.pos - 1))
        return Prompt(token_ids=source, target_ids=target)

    def _add(self, op, *inputs, invoke=0, steps=None, **params):
        self.nodes.append(Node(op, inputs, params, invoke=invoke, steps=steps))
        return Ref(len(self.nodes) - 1)

    def _steps(self, site):
        if self.kind != "generation" or site.prefill_only:
            return None
        return self.rng.choice((None, Steps(0, 1), Steps(1, 2), Steps(1, None)))

    def _read(self, site, invoke, steps="any"):
        steps = self._steps(site) if steps == "any" else steps
        params = {"positions": (self.rng.choice((0, -1)),)} if self.rng.random() < 0.5 or steps is None else {}
        return self._add("site.read", invoke=invoke, steps=steps, site=site.name, **params), steps

    def _act(self):
        site, invoke = self.rng.choice(self.sites), self.rng.randrange(len(self.lengths))
        if self.rng.random() < 0.3:
            self._read(site, invoke)
            return
        other = self.rng.choice([one for one in self.sites if _widths(one) == _widths(site)])
        source = invoke if self.kind == "generation" else self.rng.randrange(len(self.lengths))
        value, steps = self._read(other if self.kind != "generation" else site, source)
        for _ in range(self.rng.choice((1, 2))):
            value = self._changed(value)
        self._add("site.write", value, invoke=invoke, steps=steps, site=site.name)

    def _changed(self, value):
        op = self.rng.choice(("torch.tanh", "torch.mul", "torch.flip", "torch.add"))
        if op == "torch.flip":
            return self._add(op, value, dims=-1)
        return self._add(op, value) if op == "torch.tanh" else self._add(op, value, self.rng.choice((-0.5, 1.5)))

    def _differentiate(self):
        reads = [index for index, node in enumerate(self.nodes) if node.op == "site.read"]
        target = self._add("torch.sum", self._add("torch.tanh", Ref(reads[-1])))
        for index in self.rng.sample(reads, k=min(3, len(reads))):
            self._add("site.grad", target, Ref(index))


def _widths(site):
    """What two sites have to have in common for one position of the one to fit the other."""
    axes = [dim.name.replace("src_pos", "pos") for dim in site.type.dims]
    return axes, [dim.size for dim in site.type.dims]


def requests(seed, n, manifest, kind):
    rng, found = Random(seed), []
    while len(found) < n:
        request = TwoSidedRequest(rng.randrange(1 << 40), manifest, kind).request()
        if request is not None:
            found.append(request)
    return found


def error_of(found, expected):
    if found.shape != expected.shape or not np.array_equal(np.isfinite(found), np.isfinite(expected)):
        return float("inf")
    return np.abs(np.nan_to_num(found - expected)).max(initial=0.0) / max(np.abs(expected).max(initial=0.0), 1e-2)


def agrees_with_the_forecast(bench, request, outcome):
    lengths = [tokens.lengths for tokens in bench.engine.tokenize(request.prompts)]
    report = check(request, bench.engine.describe(), lengths)
    results = {event.name: event.tensor for event in outcome.events if isinstance(event, Result)}
    for name, foretold in report.outputs:
        assert results[name].dtype == foretold.dtype
        assert [dim.size for dim in foretold.dims] == list(results[name].shape), (request, name)
    if request.generation is None:
        assert report.estimate.n_passes == outcome.done.cost.n_passes


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["t5", "bart", "pegasus", "marian"])
@pytest.mark.parametrize("kind", ["plain", "gradients", "generation"])
def test_requests_in_company_are_those_alone_and_as_foretold(architecture, kind):
    bench, n_failed = bench_of(architecture), 0
    manifest = bench.engine.describe()
    for round_ in range(12):
        together = requests(1000 * round_ + len(kind), N_TOGETHER, manifest, kind)
        for request, outcome in zip(together, bench.run_all(*together), strict=True):
            alone = bench.run(request)
            if alone.events[-1].__class__.__name__ == "Failed":
                # only the numbers can tell
                assert isinstance(alone.error, CallerError), (request, alone.error)
                assert type(outcome.error) is type(alone.error)
                n_failed += 1
                continue
            agrees_with_the_forecast(bench, request, outcome)
            assert outcome.done.generated == alone.done.generated, request
            for name in request.graph.outputs:
                error = error_of(outcome[name], alone[name])
                assert error <= TOLERANCE.get(architecture, 1e-9), (request, name, error)
    assert n_failed < 5
