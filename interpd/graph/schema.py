"""What a worker offers, as data: operations, methods, artifacts, sites, limits (the ``Manifest``).

The service validates graphs against manifests and the client fetches them, so a new operation or site needs no
release of either.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from interpd.graph.types import TensorType

CONST_KINDS = ("int", "float", "bool", "str", "dtype", "literal", "index", "ints", "floats", "strs", "tensor", "any")
"""Kinds of constants: ``index`` is what may stand in ``x[...]``; ``ints``/``floats``/``strs`` are tuples."""


@dataclass(frozen=True, slots=True)
class PortSchema:
    """One positional parameter of an operation, or one of its outputs."""

    name: str
    type: TensorType | None = None
    """``None``: a value of any type, whose rule stands in ``graph/shapes.py`` (built-in operations only)."""
    variadic: bool = False
    """The port takes a tuple of values (``torch.cat``)."""
    optional: bool = False
    allows_const: bool = False
    """A number (or, for ports of indices, an index) may stand instead of a value."""
    recomputed: bool = False
    """Of a method: the value is computed anew in every pass of the method, not taken once."""


@dataclass(frozen=True, slots=True)
class ParamSchema:
    """One keyword-only constant of an operation or method."""

    name: str
    kind: str
    """One of ``CONST_KINDS``, or ``artifact:<kind>`` for the name of an artifact."""
    required: bool = True
    default: object = None
    choices: tuple[object, ...] = ()
    doc: str = ""


@dataclass(frozen=True, slots=True)
class OpSchema:
    """An operation or method, with typed ports."""

    name: str
    version: int
    summary: str
    inputs: tuple[PortSchema, ...]
    params: tuple[ParamSchema, ...] = ()
    outputs: tuple[PortSchema, ...] = ()
    plugin: str = "interpd"
    """The plugin that brings it; ``interpd`` for the built-in ones."""
    is_method: bool = False
    """A method runs passes of its own; it reports progress and can be cancelled."""
    rows_mix: bool = False
    """True when a row of the output may depend on other rows: such an operation never sees a stranger's rows."""
    differentiable: bool = True
    shape_rule: str = ""
    """Name of the rule in ``graph/shapes.py``; empty: bind the axis names of the ports (plugin operations)."""
    doc: str = ""
    paper: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactSchema:
    """A kind of named resource (weights) that operations take, kept as safetensors."""

    kind: str
    plugin: str
    fields: tuple[tuple[str, TensorType], ...]
    summary: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """One artifact that the workers know."""

    name: str
    kind: str
    digest: str
    n_bytes: int
    dims: tuple[tuple[str, int], ...] = ()
    """Axis sizes bound by its tensors (``d_sae`` 24576): the checker unifies them with the ports."""


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A PEFT adapter of a model: weights that requests may ask for by name."""

    name: str
    source: str
    """Hub id or path, as given."""
    digest: str = ""
    """``sha256:...`` of its config and weights."""
    kind: str = ""
    """As PEFT spells it: ``LORA``, ``IA3``, ..."""
    n_parameters: int = 0
    n_modules: int = 0
    """How many modules of the model it changes."""
    problem: str = ""
    """Why it cannot be used; empty: it can."""


@dataclass(frozen=True, slots=True)
class SiteSchema:
    """A named place in the forward pass, its type and what may be done there."""

    name: str
    """Canonical (``layers.3.resid_post``) or raw (``transformer.h.3.mlp.output``)."""
    type: TensorType
    """As one request sees it: batch 1, its own positions (size unknown until tokenised)."""
    order: int
    """Place in the forward pass: a write may use only values whose order is not greater than its own."""
    layer: int = -1
    """Which block it lies in; -1 before the first, ``n_layers`` after the last. Decides how far a pass runs."""
    writable: bool = True
    canonical: bool = True
    shares_pass: bool = True
    """Whether dimension 0 is proved to be rows; otherwise a request that touches it runs alone."""
    eager_attention: bool = False
    """Reading it makes the pass use eager attention (scores, patterns)."""
    doc: str = ""
    prefill_only: bool = False
    """In a generation it exists at step 0 only: the encoder runs once, and so do projections of what it gives."""


@dataclass(frozen=True, slots=True)
class ModuleSchema:
    """A module that ``module.call`` may apply, or the owner of a parameter for ``param.read``."""

    path: str
    kind: str
    """The class name."""
    d_in: int | None = None
    """Size of the last dimension it takes; ``None``: cannot be called on a value."""
    d_out: int | None = None
    d_out_name: str = ""
    """Axis word of the result's last dimension: ``d_model``, ``d_vocab``, ..."""
    n_ids: int | None = None
    """How many token ids it knows, where it turns ids ``[...]`` into vectors ``[..., *appends]``; else ``None``."""
    appends: tuple[tuple[str, int], ...] = ()
    """The dimensions (axis word, size) that it appends to those of the ids."""

    @property
    def is_callable(self) -> bool:
        """Whether it can be applied to a value: activations, or token ids."""
        return self.d_in is not None or self.n_ids is not None


@dataclass(frozen=True, slots=True)
class AbsentSite:
    """A canonical site that this model does not offer, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin as a worker found it."""

    name: str
    distribution: str
    version: str
    status: str
    """``loaded``, ``broken`` or ``not_allowed``."""
    problem: str = ""
    """For a broken plugin: plugin, hook, signature, cause."""
    ops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request. ``None`` nowhere: everything that a stranger sends is bounded."""

    n_nodes: int = 10_000
    n_prompts: int = 512
    n_tokens: int = 8_192
    """Positions of all prompts together, and new tokens."""
    n_outputs: int = 1_024
    inline_bytes: int = 4 << 20
    """Constants inside the graph; larger ones are uploaded."""
    result_bytes: int = 1 << 30
    live_bytes: int = 8 << 30
    """Estimated bytes of values alive at once."""
    run_s: float = 600.0
    """A server-side bound on every deadline."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts about a resident model that clients show and the checker needs."""

    name: str
    source: str
    """Hub id or path, as given."""
    revision: str
    """Hub commit, or ``sha256:...`` of the weights of a local path."""
    architecture: str
    family: str
    """Row of the site table (``gpt2``, ``llama``), or ``""`` when only raw paths are offered."""
    n_parameters: int
    n_layers: int
    """Blocks, in the order in which they run: those of an encoder come first."""
    sizes: Mapping[str, int]
    """Axis sizes: ``d_model``, ``d_vocab``, ``head``, ``kv_head``, ``d_head``, ``d_mlp``. Where an encoder differs from
    its decoder, these are the decoder's, and the types of the encoder's sites tell its own."""
    max_positions: int
    """Of each side; 0: no limit known."""
    dtype: str
    device: str
    has_chat_template: bool = False
    n_encoder_layers: int = 0
    """How many of the blocks are the encoder's; 0 for a decoder-only model."""
    tokenizer: str = ""
    """Class name of the tokenizer; empty where there is none."""

    @property
    def has_encoder(self) -> bool:
        """Whether prompts have a source and a target side."""
        return self.n_encoder_layers > 0

    @property
    def depth(self) -> str:
        """``n_layers`` for people: ``12``, or ``6+6`` with an encoder."""
        n_own = self.n_layers - self.n_encoder_layers
        return f"{self.n_encoder_layers}+{n_own}" if self.has_encoder else str(n_own)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a model's workers offer."""

    model: ModelInfo
    sites: Mapping[str, SiteSchema]
    absent_sites: tuple[AbsentSite, ...]
    modules: Mapping[str, ModuleSchema]
    parameters: Mapping[str, TensorType]
    ops: Mapping[str, OpSchema]
    """By name; methods included."""
    artifact_kinds: Mapping[str, ArtifactSchema]
    artifacts: Mapping[str, ArtifactInfo]
    plugins: tuple[PluginInfo, ...]
    limits: Limits = field(default_factory=Limits)
    engine: str = ""
    """Versions of interpd, torch, transformers, nnsight."""
    adapters: Mapping[str, AdapterInfo] = field(default_factory=dict)
    """By name; those that could not be loaded included."""
