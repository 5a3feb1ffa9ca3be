"""The service without a server says what the service with one says."""

import asyncio
from contextlib import suppress

import grpc
import pytest
from interpd_client import questions
from interpd_client.grpc_channel import call_on
from interpd_client.methods import METHODS

from interpd import errors
from interpd.graph import run
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import RunRequest
from interpd.graph.types import TensorData
from interpd.service.direct import DirectService
from interpd.service.options import ServiceOptions
from interpd.wire.chunks import CHUNK_BYTES
from interpd.wire.status import from_rpc_error

READ = Node("site.read", params={"site": "layers.0.resid_post"})
BIG = TensorData("uint8", (2 * CHUNK_BYTES + 3,), bytes(range(256)) * (2 << 12) + b"end")


def request(run_id="run-1", model="facts", nodes=(READ,)):
    return RunRequest(run_id, model, (Prompt(text="a"),), Graph(tuple(nodes), {"h": Ref(0)}))


@pytest.fixture
async def direct(front):
    service = DirectService(front)
    yield service
    service.close()


async def over_grpc(channel, question, timeout_s=None):
    call = call_on(channel, question.method)(question.sent, timeout=timeout_s)
    return [part async for part in call] if METHODS[question.method].streams else await call


async def directly(direct, question, timeout_s=None):
    if question.method not in ("RunGraph", "AttachRun"):
        return await direct.answer(question.method, question.sent, timeout_s)
    responses, found = direct.stream(question.method, question.sent, timeout_s), []
    while (response := await responses.next()) is not None:
        found.append(response)
    return found


ANSWERED = {
    "models": questions.models,
    "a manifest": lambda: questions.manifest("facts"),
    "tokens": lambda: questions.tokenize("facts", [Prompt(text="a")]),
    "a verdict": lambda: questions.validate(request()),
    "an upload": lambda: questions.put_artifact("facts", "mine", "sae", BIG.data),
    "a download": lambda: questions.get_artifact("facts", "l0"),
    "a run": lambda: questions.run(request()),
    "counters": questions.statistics,
}

REFUSED = {
    "an unknown model": lambda: questions.manifest("nobody"),
    "an unknown run": lambda: questions.cancel("nothing"),
    "a run that is followed and unknown": lambda: questions.attach("nothing", 0),
    "an unknown model of a run": lambda: questions.run(request(model="nobody")),
    "a name that is none": lambda: questions.run(request(run_id="\n")),
    "an artifact that is not there": lambda: questions.get_artifact("facts", "nothing"),
    "an upload under no name": lambda: questions.put_artifact("facts", "", "sae", b"1"),
    "a message that is too large": lambda: questions.tokenize("facts", [Prompt(text="a" * (17 << 20))]),
}


@pytest.mark.parametrize("ask", ANSWERED.values(), ids=ANSWERED)
async def test_answers_are_the_same(direct, channel, front, ask):
    front.files["l0"] = BIG.data
    assert await directly(direct, ask()) == await over_grpc(channel, ask())


@pytest.mark.parametrize("ask", REFUSED.values(), ids=REFUSED)
async def test_refusals_are_the_same(direct, channel, ask):
    with pytest.raises(errors.InterpdError) as ours:
        await directly(direct, ask())
    with pytest.raises(grpc.aio.AioRpcError) as theirs:
        await over_grpc(channel, ask())
    expected = from_rpc_error(theirs.value)
    assert (type(ours.value), str(ours.value), ours.value.facts) == (type(expected), str(expected), expected.facts)


async def test_a_bug_below_ends_one_call_and_names_no_secrets(direct, front):
    front.error = ZeroDivisionError("secret")
    with pytest.raises(errors.InternalError, match=r"a bug in interpd ended this call \(ZeroDivisionError\)") as caught:
        await directly(direct, questions.models())
    assert "secret" not in str(caught.value)
    front.error = None
    assert (await directly(direct, questions.models())).models


@pytest.fixture
def endless(front):
    """Every run begins and goes on for ever; the event is set once one has begun."""
    begun = asyncio.Event()

    async def script(request):
        yield run.Queued(request.run_id, 0, "waiting")
        begun.set()
        await asyncio.Event().wait()

    front.script = script
    return begun


async def test_the_callers_deadline_ends_a_run(direct, channel, front, endless):
    with pytest.raises(errors.DeadlineExceeded) as ours:
        await directly(direct, questions.run(request()), 0.1)
    with pytest.raises(grpc.aio.AioRpcError) as theirs:
        await over_grpc(channel, questions.run(request("run-2")), 0.1)
    assert str(ours.value) == str(from_rpc_error(theirs.value))
    assert front.released[0] == "run-1"


async def test_whoever_stops_reading_lets_the_run_go(direct, front, endless):
    responses = direct.stream("RunGraph", questions.run(request()).sent, None)
    assert (await responses.next()).event.accepted.run_id == "run-1"
    await responses.close()
    await responses.close()
    assert front.released == ["run-1"]


async def test_a_reader_that_waits_can_be_sent_away(direct, front, endless):
    responses = direct.stream("RunGraph", questions.run(request()).sent, None)
    await responses.next()
    await responses.next()
    waiting = asyncio.ensure_future(responses.next())
    await endless.wait()
    await responses.close()
    with suppress(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()
    assert front.released == ["run-1"]


async def test_an_answer_has_a_bound_of_the_services_own(front):
    async def tokenize(model, prompts):
        await asyncio.Event().wait()

    front.tokenize = tokenize
    service = DirectService(front, ServiceOptions(answer_s=0.05))
    with pytest.raises(errors.DeadlineExceeded, match=r"the service gave up after 0\.05 s of answering"):
        await directly(service, questions.tokenize("facts", [Prompt(text="a")]))
    service.close()
