"""Remote client of interpd: build intervention graphs from Python expressions, run them, get numpy back.

import interpd_client as interpd

with interpd.connect("localhost:7700") as client:
    model = client.model("facts")
    with model.trace("Elena Marsh was born in") as t:
        t.save(top=t.logits[:, -1].softmax(-1).topk(5))
    print(t.result["top"])
"""

import importlib
from typing import Any

from interpd.errors import (
    AdapterNotFound,
    ArtifactNotFound,
    BlobNotFound,
    Broken,
    CallerError,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    DeviceOutOfMemory,
    Draining,
    FeatureUnsupported,
    InternalError,
    InterpdError,
    Interrupted,
    InvalidGraph,
    InvalidRequest,
    LimitExceeded,
    ModelNotFound,
    ModelNotReady,
    NotAuthenticated,
    NotAuthorised,
    NotFound,
    OpFailed,
    OpVersionMismatch,
    Overloaded,
    PositionOutOfRange,
    PreconditionFailed,
    RunNotFound,
    Unavailable,
    Violation,
    WorkerLost,
)
from interpd.graph.ir import Prompt
from interpd.specs import AdapterSpec, ModelSpec
from interpd_client.client import Client, connect, local
from interpd_client.functions import torch
from interpd_client.generation import GenerationTrace, StreamedToken, TokenStream
from interpd_client.model import Model
from interpd_client.names import UnknownName
from interpd_client.program_order import ProgramOrder
from interpd_client.prompt_trace import PromptTrace
from interpd_client.result import Result, UnknownResult
from interpd_client.runs import RunHandle
from interpd_client.tokens import Positions
from interpd_client.trace import Trace
from interpd_client.transport import Transport
from interpd_client.value import Value

__all__ = [
    "AdapterNotFound",
    "AdapterSpec",
    "ArtifactNotFound",
    "BlobNotFound",
    "Broken",
    "CallerError",
    "Cancelled",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "DeviceOutOfMemory",
    "Draining",
    "FeatureUnsupported",
    "GenerationTrace",
    "InternalError",
    "InterpdError",
    "Interrupted",
    "InvalidGraph",
    "InvalidRequest",
    "LimitExceeded",
    "Model",
    "ModelNotFound",
    "ModelNotReady",
    "ModelSpec",
    "NotAuthenticated",
    "NotAuthorised",
    "NotFound",
    "OpFailed",
    "OpVersionMismatch",
    "Overloaded",
    "PositionOutOfRange",
    "Positions",
    "PreconditionFailed",
    "ProgramOrder",
    "Prompt",
    "PromptTrace",
    "Result",
    "RunHandle",
    "RunNotFound",
    "StreamedToken",
    "TokenStream",
    "Trace",
    "Transport",
    "Unavailable",
    "UnknownName",
    "UnknownResult",
    "Value",
    "Violation",
    "WorkerLost",
    "connect",
    "local",
    "torch",
]


def __getattr__(name: str) -> Any:
    if name == "aio":
        # most programs have no event loop, and asyncio takes a while to import
        return importlib.import_module("interpd_client.aio")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
