"""A sense finetuning in the middle, as an artifact: with it another run goes on and ends with the same numbers."""

import hashlib
import json
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from interpd.sdk import CallerError, artifact
from interpd_backpack.worker.finding.adam import Moments
from interpd_backpack.worker.finding.training import State


@artifact("sense_finetuning")
@dataclass(frozen=True)
class Checkpoint:
    """A sense finetuning between two epochs."""

    tokens: Int64[Tensor, " pair"]
    senses: Int64[Tensor, " pair"]
    tables: Float64[Tensor, "_ pair d_model"]
    """Vectors, both moments, and the last vectors inside the ball; a field of an exact dtype keeps it, whatever the
    model's is."""
    scores: Float64[Tensor, " pair"]
    dtype: str
    """In which the tables were made."""
    n_steps: int
    """Of Adam."""
    inside_epoch: int
    history: str
    """JSON; it writes and reads every float64 exactly."""
    digest: str
    """Of the settings, the data and the model."""


@dataclass(frozen=True)
class Pairs:
    """The pairs of a token and a sense that are trained, and their scores."""

    tokens: Tensor
    senses: Tensor
    scores: Float64[Tensor, " pair"]


def digest_of(settings: str, ids: Tensor, table: Tensor, model: str) -> str:
    """What two runs have in common when the one may go on where the other stopped."""
    found = hashlib.sha256(settings.encode() + b"\0" + model.encode() + b"\0")
    for part in (ids, table):
        found.update(str(tuple(part.shape)).encode() + part.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def packed(pairs: Pairs, state: State, digest: str) -> Checkpoint:
    """The artifact."""
    tables = torch.stack([state.delta, state.moments.first, state.moments.second, state.inside])
    return Checkpoint(
        pairs.tokens,
        pairs.senses,
        tables.double(),
        pairs.scores,
        dtype=str(tables.dtype).removeprefix("torch."),
        n_steps=state.moments.n_steps,
        inside_epoch=state.inside_epoch,
        history=json.dumps(state.history),
        digest=digest,
    )


def unpacked(checkpoint: Checkpoint, digest: str) -> tuple[Pairs, State]:
    """What ``packed`` was given. Raises ``CallerError`` when it was for other settings, data or weights."""
    if checkpoint.digest != digest:
        raise CallerError(
            "the checkpoint to resume from is of other settings, other examples or texts, or another model; "
            "give the same ones, or begin anew without it"
        )
    delta, first, second, inside = checkpoint.tables.to(getattr(torch, checkpoint.dtype))
    pairs = Pairs(checkpoint.tokens, checkpoint.senses, checkpoint.scores)
    history = tuple(tuple(row) for row in json.loads(checkpoint.history))
    return pairs, State(delta, Moments(first, second, checkpoint.n_steps), inside, checkpoint.inside_epoch, history)
