"""``@method``: work that runs forward passes of its own, and the session that it does so with.

An operation is a function of tensors. A method is a function of a *model*: it gets a context, through which it runs
as many passes as it likes, says how far it is, can be cancelled, and keeps what it made as an artifact. It may be a
node of a graph; the writes that the graph makes in the method's invoke are in force during every pass it runs.

The two protocols below are implemented by the engine (``interpd/engine/session.py``).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from interpd.graph.run import Tokens
from interpd.graph.schema import ModelInfo, OpSchema, SiteSchema
from interpd.plugin.annotations import Recomputed
from interpd.plugin.op import build_schema, ports_and_params, refuse_bare

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Fn = TypeVar("Fn", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Begin:
    """An edit of a site of ``Session.cuts``: the pass begins there, with this stream.

    What lies before is not computed, unless something is read or edited there; what the request's graph writes there is
    what made the stream.
    """

    stream: "Tensor"
    """``[batch, pos, d_model]``, in the model's dtype."""

    def __call__(self, value: "Tensor") -> "Tensor":
        """The stream, whatever is there."""
        return self.stream


class Session(Protocol):
    """A resident model, as a method may use it. One model has one engine thread: a pass of a method takes turns with
    the passes of everybody else, so between two calls of ``forward`` other requests run."""

    @property
    def info(self) -> ModelInfo:
        """Facts about the model: ``n_layers``, ``sizes['d_model']``, ``dtype``, ``revision``."""

    @property
    def sites(self) -> Mapping[str, SiteSchema]:
        """Every site that may be read or edited, by name, with its type."""

    @property
    def written(self) -> tuple[str, ...]:
        """The sites that the request's own graph writes to in this invoke, so in every pass of the method."""

    @property
    def device(self) -> "torch.device":
        """Where the model's weights lie; values of ``forward`` lie there too."""

    @property
    def dtype(self) -> "torch.dtype":
        """The dtype of the model's activations."""

    def encode(self, text: str) -> Tokens:
        """The tokens of ``text``, special tokens included."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""

    def special_ids(self, *, target: bool = False) -> Mapping[str, int]:
        """The ids of the tokenizer's special tokens by role: ``bos``, ``eos``, ``unk``, ``sep``, ``pad``, ``cls``,
        ``mask``. Roles that it has not are absent. ``target``: those of an encoder-decoder model's target side."""

    def end_ids(self, *, target: bool = False) -> Set[int]:
        """The ids with which a text of the model ends: those of its configs, which may name several, and that of the
        tokenizer. ``target``: of an encoder-decoder model's target side."""

    def cuts(self, values: Sequence[Recomputed] = ()) -> tuple[str, ...]:
        """The sites at which a pass may begin, in forward order: between blocks and behind the last one, where nothing
        but the stream goes on. Empty for models whose blocks share more; those past which the request's graph leads
        something (a write made of an earlier read) are left out.

        Args:
            values: Handles of the ports that will be asked for: what they are made of may lead past a site as well.
        """

    def forward(
        self,
        input_ids: "Tensor",
        *,
        reads: Sequence[str] = (),
        values: Sequence[Recomputed] = (),
        edits: "Mapping[str, Callable[[Tensor], Tensor]] | None" = None,
        lengths: Sequence[int] | None = None,
        grad: bool = False,
        target_ids: "Tensor | None" = None,
        target_lengths: Sequence[int] | None = None,
        dropout_seed: int | None = None,
    ) -> "dict[Any, Tensor]":
        """The values of the sites ``reads``, by name, and of the ports ``values``, by handle, in one forward pass.

        The pass ends after the last site that is needed.

        Args:
            input_ids: Token ids, ``[batch, pos]``, padded on the right where rows differ in length.
            reads: Names of sites. Values come back ``[batch, pos, ...]``, padding positions included.
            values: Handles of ports that are declared ``Recomputed``: what these would be if each row were the prompt,
                ``[batch, ...]``. What of the graph leads from the prompt's sites and tokens to the port is computed
                anew for each row, from its own tokens and positions, with the graph's writes and the edits in force;
                what does not depend on the prompt stays as it is. A read of the graph that stands before a write at
                the same site sees neither that write nor an edit there.
            edits: What to put in force at a site: a function of its value that returns the new value, of the same
                shape and dtype. A read of the same site sees the edited value. The writes of the request's own
                graph in this invoke are in force as well: at the same site before the edit, and at later ones made of
                what the edits have brought. ``Begin(stream)`` at one of ``cuts`` begins the pass there.
            lengths: Tokens of each row; ``None``: no row is padded.
            grad: Keep the autograd graph, for ``torch.autograd.grad`` between values of this pass: those of ``values``
                and of later reads have gradients by those of reads.
            target_ids: Of an encoder-decoder model what its decoder is given, the start token first: ``[batch, pos]``,
                as in ``MethodContext.target_ids``. ``input_ids`` are the sources then.
            target_lengths: As ``lengths``, of the targets.
            dropout_seed: Run this pass in training mode, in which the model drops a part of its activations at random
                (Monte-Carlo dropout); equal seeds, ids and sites drop the same. No writes, edits or gradients at
                sites such as ``resid_mid``, whose writes reach the stream past a branch.

        Raises:
            CallerError: No such site, ids that the model cannot take, an edit that returned another shape. Uncaught, it
                is the method's fault (``OpFailed``), unless the caller named the site. Or a value of ``values`` that
                cannot be computed for these rows, or not with ``grad``: that is the caller's, who made the graph.
            Interrupted: The run was cancelled or its deadline passed. Let it through.
        """

    def call(self, module: str, x: "Tensor") -> "Tensor":
        """``x`` put through a module of the model without a forward pass; differentiable.

        Args:
            module: A module path, or the name of a site that is a module's whole output: ``ln_final``, ``logits``.
            x: Any number of leading dimensions; the last one is what the module takes. Of an embedding, or of a look-up
                that the model's site table declares, token ids ``[...]``: each becomes a vector ``[..., d_model]``.
        """

    def parameter(self, name: str, *, copy: bool = True) -> "Tensor":
        """A weight or buffer of the model, by its dotted name.

        Args:
            name: As in the manifest.
            copy: ``False``: the weight itself, without gradients, to be read only. Everybody's passes use it: a method
                that writes to it fails, and the model is loaded again.
        """


class MethodContext(Protocol):
    """What a method's first parameter is."""

    @property
    def session(self) -> Session:
        """The model."""

    @property
    def tokens(self) -> Tokens:
        """The tokens of the prompt (invoke) that the method's node belongs to."""

    @property
    def input_ids(self) -> "Tensor":
        """The same tokens, ready for ``forward``: int64 ``[1, pos]`` on the model's device."""

    @property
    def target_ids(self) -> "Tensor | None":
        """What the decoder of an encoder-decoder model is given in that prompt; ``None`` for other models."""

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Tells the client how far the work is (``total`` 0: unknown), and gives the engine a turn."""

    def partial(self, name: str, tensor: "Tensor") -> None:
        """Sends an intermediate result under ``name``, and gives the engine a turn; a later one replaces it."""

    def raise_if_cancelled(self) -> None:
        """Ends the method when the run was cancelled. ``forward`` does the same; call this in long work between."""

    def save_artifact(self, name: str, obj: object) -> None:
        """Keeps an instance of a class marked ``@artifact`` under ``name``: listed, and usable by later requests."""


@dataclass(frozen=True, slots=True)
class RegisteredMethod:
    """A method as the engine runs it."""

    schema: OpSchema
    fn: Callable[..., Any]
    """Called with the context, then the ports; one value, or a tuple of them for several outputs."""


def method(name: str, *, version: int = 1, paper: str | None = None) -> Callable[[Fn], Fn]:
    """A decorator that declares a function of a ``MethodContext`` as the method ``name``.

    The first positional parameter is the context; further positional ones are ports, keyword-only ones constants or
    artifacts, and the return annotation gives the outputs, all as for ``@op``. Methods may have no port. At a port
    declared ``Recomputed[Float[Tensor, "..."]]`` the method gets a handle, see ``Session.forward``.

    Args:
        name: ``family.verb``, for instance ``attribution.run``.
        version: Raised whenever the meaning changes.
        paper: Where the method comes from.

    Raises:
        DeclarationError: The function cannot be a method; the message lists all reasons.
    """
    refuse_bare("method", name)

    def declare(fn: Fn) -> Fn:
        facts, problems = ports_and_params("method", fn, skip=1)
        problems[:0] = _context_problems(fn)
        fn.schema = build_schema(  # type: ignore[attr-defined]
            "method",
            name,
            fn,
            problems,
            version=version,
            paper=paper or "",
            rows_mix=True,
            differentiable=False,
            **facts,
        )
        return fn

    return declare


def _context_problems(fn: Callable[..., Any]) -> list[str]:
    first = next(iter(inspect.signature(fn).parameters.values()), None)
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        return ["takes no context; write (ctx: MethodContext, ...) as its first parameter"]
    if first.annotation in (MethodContext, "MethodContext", first.empty):
        return []
    return [f"first parameter {first.name!r} is not the context; write ctx: MethodContext"]
