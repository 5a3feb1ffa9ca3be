"""A run as data: what is asked (``RunRequest``) and what happens to it (events).

These are the dataclasses that cross the seams service -> scheduler -> worker -> engine (the request) and back
(the events). Each accepted request ends in exactly one terminal event: Done, Failed or Cancelled (a Failed
whose error is ``Interrupted``).
"""

from dataclasses import dataclass, field
from typing import Protocol

from interpd.errors import InterpdError
from interpd.graph.ir import Generation, Graph, Prompt
from interpd.graph.schema import ArtifactInfo
from interpd.graph.types import TensorData


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One request on one model."""

    run_id: str
    model: str
    prompts: tuple[Prompt, ...]
    graph: Graph
    generation: Generation | None = None
    adapter: str = ""
    """Name of the model's adapter that is in force; empty: the model as it is."""
    reproducible: bool = False
    """Run alone at a fixed shape, never beside strangers."""
    stream_tokens: bool = False
    owner: str = "local"
    """Whose share of the service this uses."""
    keep_s: float = 0.0
    """How long the run and its events outlive a lost connection; 0: losing the connection cancels the run."""
    deadline_s: float | None = None
    """Absolute, on the Unix clock (``time.time()``): it crosses processes of one machine or of synchronised ones."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many positions a prompt has at the sites of a model; ``None``: not known yet."""

    pos: int | None
    """Those of the decoder, or of the only stack."""
    src_pos: int | None = 0
    """Those of the encoder; 0 for a model that has none."""

    @property
    def total(self) -> int | None:
        """Both sides together."""
        return None if self.pos is None or self.src_pos is None else self.pos + self.src_pos

    def computed(self, n_layers: int, n_encoder_layers: int) -> int | None:
        """How many of them a pass computes that runs the first ``n_layers`` blocks: the encoder's run before others."""
        return self.src_pos if n_encoder_layers and n_layers <= n_encoder_layers else self.total


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised prompt; for an encoder-decoder model its source."""

    ids: tuple[int, ...]
    strings: tuple[str, ...]
    """The text of each token, as the tokenizer decodes it alone."""
    offsets: tuple[tuple[int, int], ...]
    """(start, end) characters of each token in the text; (0, 0) for special tokens and for prompts of ids."""
    text: str
    """The text that was tokenised (a rendered chat template included); decoded ids for prompts of ids."""
    target: "Tokens | None" = None
    """What the decoder of an encoder-decoder model is given, the start token first; ``None`` for other models."""

    @property
    def lengths(self) -> Lengths:
        """The positions of each side."""
        own = len(self.ids)
        return Lengths(own) if self.target is None else Lengths(len(self.target.ids), own)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is needed to run a result again."""

    graph_digest: str
    model: str
    model_revision: str
    plugins: tuple[tuple[str, str], ...]
    """(name, version) of each plugin whose operations the graph used."""
    engine: str
    """``interpd 0.1.0, torch 2.13.0, transformers 5.23.0, nnsight 0.8.1``."""
    dtype: str
    device: str
    artifacts: tuple[tuple[str, str], ...] = ()
    """(name, digest of the file) of each artifact that was used: a name may stand for another file tomorrow."""
    adapter: str = ""
    """Name of the adapter that was in force; empty: none."""
    adapter_digest: str = ""
    """``sha256:...`` of the adapter's config and weights."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run used."""

    n_tokens: int
    """Positions that went through the model for this run, prompts (both sides) and generated tokens. Those whose layers
    equal prompts shared count for each of them: whoever shares, a request costs the same."""
    n_layers_run: int
    """The deepest layer that ran for it, as a count; equal to the model's layers unless its passes stopped early."""
    n_passes: int
    bytes_returned: int
    queued_ms: float = 0.0
    run_ms: float = 0.0
    shared_with: tuple[int, ...] = ()
    """For each pass of this run, how many requests shared it (1: it ran alone)."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a run."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Queued(Event):
    """Waiting. Sent again when the position changes."""

    position: int
    reason: str
    """``waiting for a worker``, ``model is loading``, ..."""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The engine has tokenised and checked the request; its passes begin."""

    tokens: tuple[Tokens, ...]


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """How far long work is."""

    done: float
    total: float
    """0 when unknown."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class TokenGenerated(Event):
    """One generated token of one prompt (only with ``stream_tokens``)."""

    invoke: int
    step: int
    token_id: int
    text: str
    """The text that this token adds; may be empty while a multi-token character is incomplete."""


@dataclass(frozen=True, slots=True)
class Generated:
    """The finished continuation of one prompt."""

    invoke: int
    token_ids: tuple[int, ...]
    text: str
    stop_reason: str
    """``length``, ``eos``, ``stop_string`` or ``stop_token``."""


class Arrival(Protocol):
    """Bytes that come one after the other."""

    async def wait(self, n_bytes: int) -> bool:
        """Whether the first ``n_bytes`` are there, once that is known; ``False``: they will never be."""


@dataclass(frozen=True, slots=True)
class Result(Event):
    """One named output."""

    name: str
    tensor: TensorData
    axes: tuple[str, ...] = ()
    """The axis words of the tensor's dimensions, ``""`` where there is none."""
    partial: bool = False
    """A result of the same name, more complete, follows."""
    arriving: Arrival | None = field(default=None, compare=False, repr=False)
    """Tells how many of the tensor's bytes are there, where they are still on their way between two processes."""


@dataclass(frozen=True, slots=True)
class ArtifactKept(Event):
    """A method made an artifact. Stays between a worker and its pool, which tells the other replicas."""

    info: ArtifactInfo
    path: str
    """The safetensors file, on the worker's machine."""


@dataclass(frozen=True, slots=True)
class Done(Event):
    """Terminal: everything asked for was delivered."""

    provenance: Provenance
    cost: Cost
    generated: tuple[Generated, ...] = ()
    non_finite: tuple[str, ...] = ()
    """Names of outputs that hold NaN or infinity."""
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """Terminal: an error, of the class that the caller will see."""

    error: InterpdError


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """Terminal: ended at the caller's wish."""

    stage: str
    """``queued``, ``running`` or ``streaming``."""


TERMINAL = (Done, Failed, Cancelled)
