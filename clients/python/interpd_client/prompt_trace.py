"""One prompt of a trace: its sites, its tokens, and the operations on them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from interpd_client.functions import OperationFamily, TorchFunctions, call
from interpd_client.lens import FINAL_BIAS, final_norm, has_final_norm, refuse_detour, unembedding
from interpd_client.names import UnknownName
from interpd_client.recording import Recording
from interpd_client.sites import ModulePorts, SiteGroup, SiteScope, SiteTable, SiteValue
from interpd_client.tokens import TokenPositions
from interpd_client.value import Value, apply, gradient

OF_THE_TRACE = frozenset(
    {"again", "at", "check", "explain", "prompt", "request", "result", "run", "save", "steps", "submit", "to_json"}
)
"""Attributes of a trace that one of its prompts has not."""


class PromptTrace:
    """One prompt of a trace: its sites, tokens and operations.

    Sites are attributes (``layers[3].attn.q``, ``embed``, ``logits``): mentioning one reads it, assigning to one
    writes it. ``dir()`` lists what this model has.
    """

    if TYPE_CHECKING:
        layers: SiteGroup
        encoder: SiteGroup
        decoder: SiteGroup
        embed: Any
        logits: Any
        ln_final: Any

    def __init__(self, recording: Recording, table: SiteTable, invoke: Callable[[], int]) -> None:
        self._recording = recording
        self._scope = SiteScope(recording, table, invoke)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in OF_THE_TRACE:
            raise UnknownName(f"{name!r} belongs to the whole trace, not to one of its prompts: `t.{name}`", name=name)
        return self._scope.site_or_group("", name)

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self._scope.assign("", name, value)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._scope.children("")})

    def site(self, name: str) -> SiteValue:
        """A read of the site of that name: ``t.site("layers.3.resid_post")``, raw paths included."""
        return self._scope.read(name)

    def module(self, path: str) -> ModulePorts:
        """A module by its own path; ``.output`` and ``.input`` are sites, a call applies it to a value."""
        return ModulePorts(self._scope, path)

    @property
    def tokens(self) -> TokenPositions:
        """Positions of the prompt: ``t.tokens("Marsh")``, ``t.tokens[-1]``; also its ids and strings.

        Of an encoder-decoder model those of each side: ``t.tokens.source("Marsh")``, ``t.tokens.target[-1]``.
        """
        return TokenPositions(lambda: self._recording.tokens(self._scope.invoke()))

    @property
    def input_ids(self) -> Value:
        """The token ids of the prompt as a value, ``int64[batch pos]``; where there is an encoder, what it is given."""
        has_encoder = self._recording.manifest.model.has_encoder
        return self.op("tokens.ids", side="source") if has_encoder else self.op("tokens.ids")

    @property
    def prefix_ids(self) -> Value:
        """The token ids of everything so far, ``int64[batch key_pos]``: of a generation the prompt and the new tokens
        that the present step has fed back, in a plain trace the prompt alone; where there is an encoder, the decoder's.
        """
        return self.op("tokens.prefix_ids")

    @property
    def decoder_input_ids(self) -> Value:
        """What the decoder of an encoder-decoder model is given, its start token first, ``int64[batch pos]``."""
        return self.op("tokens.ids", side="target")

    @property
    def torch(self) -> TorchFunctions:
        """The functions of torch, those that make tensors included: ``t.torch.zeros(3, 4)``."""
        return TorchFunctions(self._recording)

    @property
    def ops(self) -> OperationFamily:
        """All operations and methods of the model's workers by attribute: ``t.ops.sae.encode(x, sae="name")``."""
        return OperationFamily(self._recording, self._scope.invoke)

    def op(self, name: str, /, *args: object, **params: object) -> Any:
        """What the operation or method ``name`` returns: ``t.op("sae.encode", x, sae="name")``."""
        return call(self._recording, name, args, params, self._scope.invoke)

    def call(self, path: str, value: object) -> Value:
        """A module of the model applied to any value: ``t.call("lm_head", x)``."""
        return apply(self._recording, "module.call", (value,), {"module": path})

    def lens(self, value: object) -> Value:
        """The logits that ``value`` would give as the last residual stream: final norm, then unembedding.

        A cap or scale that the model puts on its logits is not applied; a bias is.
        """
        manifest = self._recording.manifest
        refuse_detour(manifest)
        normed = self.call(final_norm(manifest), value) if has_final_norm(manifest) else value
        logits = self.call(unembedding(manifest), normed)
        return logits + self.param(FINAL_BIAS) if FINAL_BIAS in manifest.parameters else logits

    def param(self, name: str) -> Value:
        """A weight or buffer of the model: ``t.param("lm_head.weight")``."""
        return apply(self._recording, "param.read", (), {"name": name})

    def grad(self, target: Value, wrt: Value | Sequence[Value]) -> Any:
        """The gradient of ``target``, one number, with respect to a read value; a list of them for a list."""
        if isinstance(wrt, Value):
            return gradient(self._recording, target, wrt)
        return [gradient(self._recording, target, one) for one in wrt]
