"""One table of requests through every client: with a daemon and in this process, blocking and asynchronous.

Each answers with the same results, bit by bit, or with the same error in the same words.
"""

import asyncio
import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import interpd_client as interpd
import numpy as np
import pytest
from interpd_client import aio

from interpd.graph.ir import Blob, Graph, Node, Prompt, Ref
from interpd.graph.run import RunRequest
from interpd.testing.daemon_process import DaemonProcess

pytestmark = pytest.mark.ray

PROMPT, OTHER = "Elena Marsh was born in", "Hugo Bishop was born in"
LARGE = np.random.default_rng(0).standard_normal((128, 200)).astype(np.float32)
OF_FACTS = {"model": "facts"}
EACH_ITS_OWN = re.compile(r"\b[0-9a-f]{32}\b|\d+\.\d s\b")
"""Ids of runs and calls, and how long something took."""


@dataclass
class Traced:
    """A trace: how it is begun, and what is written in it."""

    write: object
    prompt: object = PROMPT
    options: dict = field(default_factory=dict)

    def begun(self, model):
        begin = model.generate if "max_new_tokens" in self.options else model.trace
        return begin(self.prompt, **self.options)


@dataclass
class Asked:
    """A method of the client, or of the model, and its arguments."""

    method: str
    args: tuple = ()
    options: dict = field(default_factory=dict)
    of_model: bool = False

    def call(self, client, model, who):
        """The method's answer; runs that have a name of their own get one that tells who asked."""
        args = [replace(arg, run_id=who + arg.run_id) if isinstance(arg, RunRequest) else arg for arg in self.args]
        return getattr(model if self.of_model else client, self.method)(*args, **self.options)


def steer(t):
    t.layers[2].resid_post[:, t.tokens("Marsh")] *= 0.5
    t.save(h=t.layers[2].resid_post, top=t.logits[:, -1].softmax(-1).topk(5), ids=t.input_ids)


def patch(t):
    clean, other = t.prompt(PROMPT), t.prompt(OTHER)
    other.layers[1].resid_post[:, 1:3] = clean.layers[1].resid_post[:, 1:3]
    t.save(patched=other.logits[:, -1], clean=clean.logits[:, -1], many=[layer.attn.out for layer in other.layers[:2]])


def slope(t):
    h = t.layers[2].resid_post
    t.save(slope=h.grad_of(t.logits[0, -1].max(-1).values), lens=t.lens(h)[:, -1], pattern=t.layers[3].attn.pattern)


def follow(g):
    with g.at(0):
        g.layers[3].resid_post[:, -1] += 2.0
    g.save(last=g.logits[:, -1].argmax(-1))


def divide(t):
    t.save(h=t.embed / 0.0, count=t.embed.norm(dim=-1))


def multiply(t):
    t.save(x=t.torch.matmul(t.embed, LARGE))


def graph(*nodes, saved=0):
    return Graph(tuple(nodes), {"value": Ref(saved)})


def request(graph, *prompts, model="facts", run_id="", **fields):
    texts = prompts or (Prompt(text=PROMPT),)
    return RunRequest(run_id or f"same-{time.monotonic_ns():x}", model, texts, graph, **fields)


READ = Node("site.read", params={"site": "layers.1.resid_post"})

TABLE = {
    "a steered pass": Traced(steer),
    "several prompts": Traced(patch, None),
    "a gradient, a lens, a pattern": Traced(slope),
    "a pass alone": Traced(steer, options={"reproducible": True}),
    "token ids": Traced(lambda t: t.save(logits=t.logits), [5, 6, 7]),
    "a large constant": Traced(multiply),
    "numbers that are none": Traced(divide),
    "a greedy generation": Traced(follow, options={"max_new_tokens": 6}),
    "a drawn generation": Traced(
        follow, options={"max_new_tokens": 8, "do_sample": True, "seed": 3, "temperature": 1.5, "top_k": 20}
    ),
    "a generation of tokens only": Traced(lambda g: None, options={"max_new_tokens": 5, "stop_strings": ("born",)}),
    "models": Asked("models"),
    "tokens": Asked("tokenize", (PROMPT,), of_model=True),
    "generated text": Asked("generate_text", (PROMPT,), {"max_new_tokens": 4}, of_model=True),
    "a sound request": Asked("validate", (request(graph(READ)),)),
    "a run made as data": Asked("run", (request(graph(READ), run_id="as-data"),)),
    # and what is wrong
    "a site that is none": Asked("run", (request(graph(Node("site.read", params={"site": "layers.9.resid"}))),)),
    "an operation that is none": Asked("run", (request(graph(Node("torch.no_such"))),)),
    "shapes that do not fit": Asked("run", (request(graph(READ, Node("torch.matmul", (Ref(0), Ref(0))), saved=1)),)),
    "a later reference": Asked("run", (request(graph(Node("torch.add", (Ref(1), 1.0)), READ)),)),
    "an output that is none": Asked("run", (request(graph(READ, saved=4)),)),
    "a position that is none": Asked(
        "run", (request(graph(Node("site.read", params={"site": "embed", "positions": (99,)}))),)
    ),
    "the same at its check": Asked(
        "validate", (request(graph(Node("site.read", params={"site": "embed", "positions": (99,)}))),)
    ),
    "an index by values out of range": Asked(
        "run",
        (
            request(
                graph(
                    READ,
                    Node("tokens.ids"),
                    Node("torch.mul", (Ref(1), 1000)),
                    Node("tensor.getitem", (Ref(0), (Ref(2),))),
                    saved=3,
                )
            ),
        ),
    ),
    "no prompts": Asked("run", (RunRequest("none", "facts", (), graph(READ)),)),
    "a prompt that is too long": Asked("run", (request(graph(READ), Prompt(token_ids=(5,) * 500)),)),
    "a prompt beyond the limits": Asked("run", (request(graph(READ), Prompt(token_ids=(5,) * 100_000)),)),
    "ids that the model has not": Asked("run", (request(graph(READ), Prompt(token_ids=(5, 999_999))),)),
    "messages without a template": Asked("run", (request(graph(READ), Prompt(messages=(("user", "hi"),))),)),
    "a message that is too large": Asked("run", (request(graph(READ), Prompt(text="a" * (17 << 20))),)),
    "too many nodes": Asked("run", (request(graph(*[READ] * 20_000)),)),
    "a constant that nobody sent": Asked(
        "run", (request(graph(READ, Node("torch.add", (Ref(0), Blob("ab" * 32, "float32", (128,)))), saved=1)),)
    ),
    "a model that is none": Asked("run", (request(graph(READ), model="fact"),)),
    "a run id that is none": Asked("run", (request(graph(READ), run_id="a\nb"),)),
    "a run id that is taken": Asked("run", (request(graph(READ), Prompt(text=OTHER), run_id="as-data"),)),
    "a deadline that has passed": Asked("run", (request(graph(READ), deadline_s=1.0),)),
    "results kept for too long": Asked("run", (request(graph(READ), keep_s=1e9),)),
    "a result to attach to": Asked("attach", ("nothing",)),
    "the manifest of a model that is none": Asked("model", ("fakts",)),
    "a model that is taken away and is none": Asked("unload", ("nobody",)),
    "a model of that name": Asked("load", ("facts",)),
    "a model from nowhere": Asked("load", ("/no/such/folder",)),
    "a model from the hub without a revision": Asked("load", ("owner/name",)),
    "what failed to load, taken away": Asked("unload", ("folder",)),
    "what else failed to load": Asked("unload", ("name",)),
    "a dtype that is none": Asked("load", ("facts",), {"name": "b", "dtype": "int3"}),
    "an artifact that is none": Asked("download_artifact", ("nothing",), OF_FACTS),
    "an artifact to forget": Asked("delete_artifact", ("nothing",), OF_FACTS),
    "an artifact of no kind": Asked("upload_artifact", (Path(__file__), "mine", "no.kind"), OF_FACTS),
    "a text that is not in the prompt": Traced(lambda t: t.save(h=t.embed[:, t.tokens("nowhere")])),
}


def shown(value):
    """What is compared of an answer."""
    if isinstance(value, interpd.Result):
        arrays = {name: shown(one) for name, one in value.items()}
        cost = (value.cost.n_tokens, value.cost.n_layers_run, value.cost.n_passes, value.cost.bytes_returned)
        rest = (value.tokens, value.axes, value.provenance, value.generated, value.non_finite, value.warnings)
        return "result", arrays, cost, rest
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, value.tobytes()
    if isinstance(value, (list, tuple)) and any(isinstance(one, np.ndarray) for one in value):
        return [shown(one) for one in value]
    return value


def failure(error, who):
    """What is compared of an error."""

    def common(text):
        return EACH_ITS_OWN.sub("...", text).replace(who, "")

    facts = {name: common(fact) for name, fact in error.facts.items()}
    return "error", type(error).__name__, common(str(error)), facts


def ask_blocking(client, case, who):
    model = client.model("facts")
    if isinstance(case, Asked):
        answer = case.call(client, model, who)
        return answer.result() if case.method == "attach" else answer
    t = case.begun(model)
    case.write(t)
    return t.run()


async def ask_awaiting(client, case, who):
    model = await client.model("facts")
    if isinstance(case, Asked):
        answer = case.call(client, model, who)
        return await (answer.result() if case.method == "attach" else answer)
    t = case.begun(model)
    if case.prompt is not None:
        await t.tokens
    case.write(t)
    return await t.run()


def blocking(client, who):
    def attempt(case):
        try:
            return shown(ask_blocking(client, case, who))
        except interpd.InterpdError as error:
            return failure(error, who)

    with client:
        return {name: attempt(case) for name, case in TABLE.items()}


async def awaiting(client, who):
    async def attempt(case):
        try:
            return shown(await ask_awaiting(client, case, who))
        except interpd.InterpdError as error:
            return failure(error, who)

    async with client:
        return {name: await attempt(case) for name, case in TABLE.items()}


async def in_this_process():
    return await awaiting(await aio.local("facts", progress=False), "asker-d-")


@pytest.fixture(scope="module")
def daemon():
    with DaemonProcess("interpd", "serve", "--port", "0", "--model", "facts") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def answers(daemon):
    """What each client was answered, by case."""

    return {
        "daemon": blocking(interpd.connect(daemon.address, progress=False), "asker-a-"),
        "daemon, asynchronous": asyncio.run(awaiting(aio.connect(daemon.address, progress=False), "asker-b-")),
        "local": blocking(interpd.local("facts", progress=False), "asker-c-"),
        "local, asynchronous": asyncio.run(in_this_process()),
    }


@pytest.mark.parametrize("name", TABLE)
def test_every_client_is_answered_the_same(answers, name):
    expected = answers["daemon"][name]
    for client, found in answers.items():
        assert found[name] == expected, client


def test_the_table_holds_answers_and_errors_of_many_kinds(answers):
    errors = [answer for answer in answers["daemon"].values() if isinstance(answer, tuple) and answer[0] == "error"]
    assert len({kind for _, kind, _, _ in errors}) >= 8, errors
    assert len(errors) < len(TABLE) - 10
