"""The checker on a graph of the largest size."""

import time
from collections.abc import Iterable
from typing import Any

from benchmarks.harness.claims import claim
from benchmarks.harness.row import Row, limit_row
from benchmarks.harness.sizes import Sizes
from benchmarks.harness.stage import Stage
from benchmarks.harness.timing import in_turn, medians
from interpd.graph.check import check
from interpd.graph.run import RunRequest

N_REPEATS = 9
LIMIT_MS = 200.0


def graph_of(model: Any, n_layers: int, n_blocks: int) -> RunRequest:
    """A request that reads, computes, compares and writes all over the model, as the client records it."""
    t = model.trace("the prompt of a large graph")
    total = t.layers[0].resid_pre[:, -1]
    for number in range(n_blocks):
        block = t.layers[number % n_layers]
        hidden = block.resid_post[:, -1]
        part = (hidden * 0.5 + block.mlp.out.mean(1)).softmax(-1)
        total = total + (hidden - part).relu()
    t.layers[n_layers - 1].resid_post[:, 0] = total
    t.save(total=total, logits=t.logits[:, -1].topk(5))
    return t.request


def large_request(model: Any, sizes: Sizes) -> RunRequest:
    """The largest of these requests that has no more than ``sizes.n_nodes`` nodes."""
    few, more = (len(graph_of(model, sizes.n_layers, n).graph.nodes) for n in (10, 20))
    return graph_of(model, sizes.n_layers, 10 + (sizes.n_nodes - few) * 10 // (more - few))


@claim("checker", measures="validating a graph of 10,000 nodes", against="a limit of 200 ms", order=6)
def checker(stage: Stage) -> Iterable[Row]:
    """Milliseconds of one check, as the client and the service do it; of CPU time, which is all that a check takes."""
    model = stage.model()
    request, manifest = large_request(model, stage.sizes), model.manifest
    check(request, manifest).raise_if_bad()

    def side(number: int) -> float:
        began = time.thread_time()
        check(request, manifest)
        return time.thread_time() - began

    found = medians(in_turn({"ours": side}, stage.sizes.repeats(N_REPEATS), tell=stage.counting("checker")))
    yield limit_row("checker", 1e3 * found["ours"], LIMIT_MS, "ms")
