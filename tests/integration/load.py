"""Requests of many kinds with known answers, and clients that never tire of sending them."""

import random
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import count

import grpc
import numpy as np
import pytest
from interpd_client.grpc_transport import GrpcTransport

from interpd.errors import InterpdError, Overloaded, Unavailable
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref, Slice, Steps
from interpd.graph.run import TERMINAL, Done, RunRequest
from interpd.graph.run import Result as ResultEvent
from interpd.wire.status import from_rpc_error

NAMES = ("Elena Marsh", "Hugo Bishop")
NUMBERS = count()


def _site(op, site, *inputs, **fields):
    params = {"site": site, **fields.pop("params", {})}
    return Node(op, inputs, params, **fields)


def read_graph(layer):
    """The residual stream behind one block."""
    return Graph((_site("site.read", f"layers.{layer}.resid_post"),), {"value": Ref(0)})


def patch_graph():
    """One prompt's stream at the name written over another's, and what becomes of the answer."""
    nodes = (
        _site("site.read", "layers.1.resid_post", params={"positions": (2,)}),
        _site("site.read", "layers.1.resid_post", invoke=1),
        Node("tensor.setitem", (Ref(1), (Slice(), Slice(2, 3)), Ref(0))),
        _site("site.write", "layers.1.resid_post", Ref(2), invoke=1),
        _site("site.read", "logits", invoke=1, params={"positions": (-1,)}),
        Node("torch.softmax", (Ref(4),), {"dim": -1}),
    )
    return Graph(nodes, {"value": Ref(5)})


def gradient_graph():
    """The gradient of the greatest logit with respect to the embedding."""
    nodes = (
        _site("site.read", "embed"),
        _site("site.read", "logits", params={"positions": (-1,)}),
        Node("torch.amax", (Ref(1),)),
        Node("site.grad", (Ref(2), Ref(0))),
    )
    return Graph(nodes, {"value": Ref(3)})


def steered_graph():
    """A shift of the stream at every step, and the stream at the end of each."""
    nodes = (
        _site("site.read", "layers.2.resid_post", steps=Steps()),
        Node("torch.mul", (Ref(0), 1.25)),
        _site("site.write", "layers.2.resid_post", Ref(1), steps=Steps()),
        _site("site.read", "layers.4.resid_post", params={"positions": (-1,)}, steps=Steps()),
    )
    return Graph(nodes, {"value": Ref(3)})


def large_graph():
    """A result of sixteen megabytes."""
    nodes = (_site("site.read", "embed"), Node("torch.zeros", params={"size": (1 << 22,)}))
    return Graph((*nodes, Node("torch.add", (Ref(1), 1.5))), {"value": Ref(2), "embed": Ref(0)})


def kinds():
    """Requests by name."""
    prompts = tuple(Prompt(text=f"{name} was born in") for name in NAMES)
    found = {f"read {layer}": (prompts[:1], read_graph(layer), None) for layer in range(5)}
    found["patch"] = (prompts, patch_graph(), None)
    found["gradient"] = (prompts[:1], gradient_graph(), None)
    found["generation"] = (prompts[:1], steered_graph(), Generation(24, ignore_eos=True))
    found["large"] = (prompts[:1], large_graph(), None)
    return {
        name: RunRequest("", "facts", asked, graph, generation, stream_tokens=generation is not None)
        for name, (asked, graph, generation) in found.items()
    }


@dataclass
class Answer:
    """How one try ended."""

    values: dict = field(default_factory=dict)
    n_ends: int = 0
    error: InterpdError | None = None


def ask(transport, request):
    """One try, to its end."""
    answer = Answer()
    try:
        with closing(transport.run(replace(request, run_id=f"load-{next(NUMBERS)}"))) as stream:
            for event in stream:
                assert not answer.n_ends, f"{event} after the end"
                answer.n_ends += isinstance(event, TERMINAL)
                if isinstance(event, ResultEvent):
                    answer.values[event.name] = event.tensor.to_numpy()
                if isinstance(event, Done):
                    answer.values |= {f"tokens {one.invoke}": np.array(one.token_ids) for one in event.generated}
    except InterpdError as error:
        answer.error = error
        answer.n_ends += 1
    return answer


def failure(call):
    """The error with which a call or its stream ends."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return from_rpc_error(caught.value)


def is_same(found, expected):
    """Whether all values are those of the request alone, to single precision."""
    return found.keys() == expected.keys() and all(
        np.allclose(found[name], expected[name], atol=1e-4, rtol=1e-4) for name in expected
    )


class Load:
    """Clients in threads of their own, each asking again and again until told to end.

    What cannot be had now (``Unavailable``, ``Overloaded``) is asked for again; everything else that is not the
    known answer is kept in ``wrong``.
    """

    def __init__(self, address, n_clients=6, *, pause_s=0.0):
        self._address, self._pause_s = address, pause_s
        self.requests = kinds()
        with closing(GrpcTransport(address)) as transport:
            self.expected = {name: ask(transport, request).values for name, request in self.requests.items()}
        self.wrong, self.n_right, self.n_retried = [], 0, 0
        self._end, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._client, args=(seed,)) for seed in range(n_clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(90.0)
        self.wrong += [f"{thread.name} hangs" for thread in self._threads if thread.is_alive()]

    def _client(self, seed):
        rng = random.Random(seed)
        with closing(GrpcTransport(self._address)) as transport:
            while not self._end.is_set():
                name = rng.choice(sorted(self.requests))
                self._until_answered(transport, name)
                self._end.wait(self._pause_s)

    def _until_answered(self, transport, name):
        deadline = time.monotonic() + 60.0
        while True:
            answer = ask(transport, self.requests[name])
            if answer.n_ends != 1:
                return self._note(f"{name}: {answer.n_ends} ends")
            if answer.error is None:
                return self._note("" if is_same(answer.values, self.expected[name]) else f"{name}: other numbers")
            if not isinstance(answer.error, Unavailable | Overloaded) or time.monotonic() > deadline:
                return self._note(f"{name}: {answer.error!r}")
            with self._lock:
                self.n_retried += 1
            time.sleep(min(answer.error.retry_after_s or 0.2, 1.0))

    def _note(self, problem):
        with self._lock:
            if problem:
                self.wrong.append(problem)
            else:
                self.n_right += 1
