"""The client for programs with an event loop: the same names, and what asks the service is awaited.

from interpd_client import aio

async with aio.connect("localhost:7700") as client:
    model = await client.model("facts")
    async with model.trace("Elena Marsh was born in") as t:
        t.save(top=t.logits[:, -1].softmax(-1).topk(5))
    print(t.result["top"])

Errors, results, values and options are those of ``interpd_client``.
"""

from interpd_client.aio.client import Client, connect, local
from interpd_client.aio.generation import GenerationTrace, TokenStream
from interpd_client.aio.model import Model
from interpd_client.aio.runs import RunHandle
from interpd_client.aio.trace import PromptTrace, Trace
from interpd_client.aio.transport import Transport

__all__ = [
    "Client",
    "GenerationTrace",
    "Model",
    "PromptTrace",
    "RunHandle",
    "TokenStream",
    "Trace",
    "Transport",
    "connect",
    "local",
]
