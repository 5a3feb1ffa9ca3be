"""A large result on its way from the worker to an array of the client."""

from collections.abc import Iterable
from uuid import uuid4

import numpy as np

from benchmarks.harness.claims import claim
from benchmarks.harness.raw_stream import RawStream
from benchmarks.harness.row import Row, rate_row
from benchmarks.harness.sizes import Sizes
from benchmarks.harness.stage import MODEL, Stage
from benchmarks.harness.timing import in_turn, medians, timed
from interpd.graph.ir import Blob, Graph, Node, Prompt, Ref
from interpd.graph.run import RunRequest

N_REPEATS = 7


def request(digest: str, sizes: Sizes) -> RunRequest:
    """Asks for the constant of this digest, which the worker holds, in another shape: nothing is computed."""
    shape = (sizes.stream_bytes // 4,)
    node = Node("torch.reshape", (Blob(digest, "float32", shape),), {"shape": (-1, 1024)})
    return RunRequest(uuid4().hex, MODEL, (Prompt(text="x"),), Graph((node,), {"held": Ref(0)}))


@claim(
    "stream",
    measures="a result of 256 MiB that the worker holds, until it is an array of the client",
    against="a raw grpc.aio stream of the same bytes from one process, until they are read",
    order=7,
)
def stream(stage: Stage) -> Iterable[Row]:
    """Bytes per second."""
    sizes, client = stage.sizes, stage.client()
    held = np.random.default_rng(0).standard_normal(sizes.stream_bytes // 4, np.float32)
    digest = client.upload(held)

    def ours(number: int) -> np.ndarray:
        return client.run(request(digest, sizes))["held"]

    np.testing.assert_array_equal(ours(0), held.reshape(-1, 1024))
    with RawStream(sizes.stream_bytes) as raw:
        sides = {"ours": timed(ours), "theirs": timed(lambda number: raw.read())}
        found = medians(in_turn(sides, sizes.repeats(N_REPEATS), tell=stage.counting("stream")))
    n = sizes.stream_bytes / 1e6
    yield rate_row("stream", n / found["ours"], n / found["theirs"], "MB/s", at_least=0.5)
