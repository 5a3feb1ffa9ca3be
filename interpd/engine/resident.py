"""A model that stays in memory, with everything the engine and the manifest need to know about it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from interpd.config import ModelSpec
from interpd.engine.attention import TAPS, AttentionSwitch, add_taps, eager_obstacle
from interpd.engine.binding import Binding
from interpd.engine.boundaries import Boundaries, find_boundaries
from interpd.engine.decoder_positions import can_be_padded, goes_on_from_its_cache, steps_need_positions
from interpd.engine.families import extended, table_of
from interpd.engine.model_config import device_of, devices_of, dtype_of, n_vocab, text_config
from interpd.engine.probe import Probe, acts_on_last_dim, kept_from, looks_up_ids, probe_model, with_taps
from interpd.engine.selftest import failing_sites
from interpd.engine.sites import axis_sizes, axis_words, canonical_bindings, dtype_name, raw_bindings
from interpd.engine.stacks import Stack, plain_table, stacks_of
from interpd.engine.target_side import TargetSide, target_side
from interpd.engine.tokens import decode, tokenize
from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd.graph.ir import Prompt
from interpd.graph.run import Tokens
from interpd.graph.schema import AbsentSite, ModelInfo, ModuleSchema, SiteSchema
from interpd.graph.types import ITEM_BYTES, Dim, TensorType
from interpd.plugin.site_table import SiteTable
from interpd.telemetry import Log

log = Log("engine")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as loading hands it over: on its device, in eval mode, without gradients of its weights."""

    model: nn.Module
    """A transformers ``PreTrainedModel``, or what a plugin built to be called as one is."""
    tokenizer: PreTrainedTokenizerFast | None
    spec: ModelSpec
    revision: str
    """Hub commit, or ``sha256:...`` of a local folder."""
    tokenizer_problem: str = ""
    """Why there is no tokenizer."""
    target_tokenizer: PreTrainedTokenizerFast | None = None
    """Of an encoder-decoder model with a tokenizer for each side that of the target; ``None``: one serves both."""


class SiteTables(Protocol):
    """What this module asks of the plugin registry."""

    def sites_for_model(self, model_config: Any) -> SiteTable | None:
        """The site table of a plugin for this architecture; ``None`` when no plugin has one."""


@dataclass(slots=True)
class ResidentModel:
    """A loaded model with its sites, modules and parameters."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerFast | None
    info: ModelInfo
    bindings: Mapping[str, Binding]
    """Canonical sites and raw module paths, by name; canonical ones first, in forward order."""
    absent_sites: tuple[AbsentSite, ...]
    modules: Mapping[str, ModuleSchema]
    parameters: Mapping[str, TensorType]
    """Weights and buffers."""
    attention: AttentionSwitch
    table: SiteTable
    """What ``bindings`` were made of."""
    eager_obstacle: str = ""
    """Why the model cannot run eager attention; empty when it can."""
    tokenizer_problem: str = ""
    boundaries: Boundaries = field(default_factory=Boundaries)
    """Where the rows of a pass may change."""
    target_side: TargetSide | None = None
    """What makes the decoder's tokens; ``None`` for a decoder-only model."""
    can_be_padded: bool = True
    """Whether the rows of a generation may be padded on the left."""
    goes_on_from_its_cache: bool = True
    """Whether a generation can be interrupted by other passes."""
    steps_need_positions: bool = False
    """Whether the steps of a generation are told their positions also where nothing is padded."""
    kept_from: int | None = None
    """The order of the first place that has only the positions whose logits are kept; ``None``: all are always kept."""
    rewritten: frozenset[str] = frozenset()
    """Names of the buffers that the model's own passes write to."""

    @property
    def target_tokenizer(self) -> PreTrainedTokenizerFast | None:
        """The tokenizer of what the model generates: of an encoder-decoder model that of the target side."""
        return self.tokenizer if self.target_side is None else self.target_side.tokenizer

    @property
    def starts(self) -> frozenset[int]:
        """Tokens that may begin what the decoder of an encoder-decoder model is given, and are no text."""
        return frozenset() if self.target_side is None else self.target_side.starts

    @property
    def sites(self) -> dict[str, SiteSchema]:
        """The schema of every site, by name."""
        return {name: binding.site for name, binding in self.bindings.items()}

    def set_attention(self, eager: bool) -> None:
        """Makes the next passes run the attention whose scores and patterns can be seen, or the model's own.

        Raises ``FeatureUnsupported`` where the model has no eager attention.
        """
        if eager and self.eager_obstacle:
            raise FeatureUnsupported(f"model {self.info.name!r}: {self.eager_obstacle}")
        self.attention.set(eager)

    def tokenize(self, prompt: Prompt) -> Tokens:
        """The prompt as tokens. Raises ``InvalidRequest``, also for more tokens than the model has positions."""
        tokens = tokenize(self.tokenizer, prompt, n_vocab=self.n_vocab, problem=self.tokenizer_problem)
        if self.target_side is not None:
            tokens = replace(tokens, target=self.target_side.tokens(prompt))
        elif prompt.target_text is not None or prompt.target_ids is not None:
            raise InvalidRequest(f"model {self.info.name!r} is no encoder-decoder model: its prompts have no target")
        limit = self.info.max_positions
        for what, count in (("prompt", len(tokens.ids)), ("target", len(tokens.target.ids) if tokens.target else 0)):
            if limit and count > limit:
                raise InvalidRequest(f"the {what} has {count} tokens, model {self.info.name!r} takes at most {limit}")
        return tokens

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids that the model generates, special tokens included; empty without a tokenizer."""
        return "" if self.target_tokenizer is None else decode(self.target_tokenizer, tuple(ids))

    @property
    def n_vocab(self) -> int:
        """How many token ids the embedding knows."""
        return n_vocab(self.model)

    def module(self, path: str) -> nn.Module:
        """The module at ``path`` of the Hugging Face model."""
        return self.model.get_submodule(path)

    def parameter(self, name: str) -> Tensor:
        """The weight or buffer called ``name``, detached, not copied."""
        owner, _, leaf = name.rpartition(".")
        return getattr(self.model.get_submodule(owner), leaf).detach()


def make_resident(loaded: Loaded, registry: SiteTables | None = None) -> ResidentModel:
    """The loaded model, probed and self-tested: about fifteen short passes, and one more per 15 canonical sites.

    Args:
        loaded: The model; identity modules are added to its attention modules.
        registry: Asked first for the site table of the architecture; ``None``: the built-in tables only.
    """
    model = loaded.model
    known = _table(model, registry)
    switch = AttentionSwitch(model)
    table = known or plain_table(model)
    stacks = stacks_of(model, table)
    probe, obstacle = _probe(model, switch, known, stacks)
    sizes = [axis_sizes(stack, probe, model.config) for stack in stacks]
    canonical, absent = canonical_bindings(stacks, sizes, probe, obstacle)
    failures = failing_sites(model, switch, canonical, table)
    absent += [AbsentSite(name, f"self-test: {reason}") for name, reason in failures.items()]
    kept = {name: binding for name, binding in canonical.items() if name not in failures}
    in_order = sorted(kept.items(), key=lambda entry: entry[1].site.order)
    if not obstacle and not any(canonical[name].site.eager_attention for name in failures):
        switch.stand_in()
    blocks = [table.block.format(i=layer) for layer in range(stacks[-1].depth)] if table.block else []
    return ResidentModel(
        model=model,
        tokenizer=loaded.tokenizer,
        info=_info(loaded, stacks, sizes[-1]),
        bindings={**dict(in_order), **dict(raw_bindings(probe, stacks, sizes[-1]))},
        absent_sites=tuple(absent),
        modules=_modules(model, probe, sizes[-1]) | _lookups(model, table, sizes[-1]),
        parameters=_parameters(model, sizes[-1]),
        attention=switch,
        table=table,
        eager_obstacle=obstacle,
        tokenizer_problem=loaded.tokenizer_problem,
        boundaries=find_boundaries(model, switch, probe, blocks, eager=not obstacle, follows=table.follows),
        target_side=target_side(model, loaded.target_tokenizer or loaded.tokenizer, loaded.tokenizer_problem),
        can_be_padded=can_be_padded(model) and not getattr(model, "_is_stateful", False),
        goes_on_from_its_cache=goes_on_from_its_cache(model),
        steps_need_positions=steps_need_positions(model),
        kept_from=kept_from(model, probe),
        rewritten=probe.rewritten,
    )


def _table(model: nn.Module, registry: SiteTables | None) -> SiteTable | None:
    from_plugin = None if registry is None else registry.sites_for_model(model.config)
    if from_plugin is not None and from_plugin.extends:
        return extended(from_plugin, table_of(from_plugin.extends, text_config(model)) or plain_table(model))
    return from_plugin or table_of(type(model).__name__, text_config(model))


def _probe(
    model: nn.Module, switch: AttentionSwitch, table: SiteTable | None, stacks: Sequence[Stack]
) -> tuple[Probe, str]:
    """(what the model does, why its eager attention is not offered)."""
    own = probe_model(model)
    obstacle = eager_obstacle(model, table)
    if obstacle or table is None:
        return own, obstacle
    add_taps(model, stacks)
    switch.set(True)
    try:
        tapped = with_taps(own, probe_model(model), TAPS)
    finally:
        switch.set(False)
    if tapped is None:
        return own, "eager attention visits the modules in another order"
    return tapped, ""


def _info(loaded: Loaded, stacks: Sequence[Stack], sizes: Mapping[str, int]) -> ModelInfo:
    model, spec, config = loaded.model, loaded.spec, text_config(loaded.model)
    depth = stacks[-1].first_layer + stacks[-1].depth
    return ModelInfo(
        name=spec.name or spec.source.rstrip("/").rpartition("/")[2],
        source=spec.source,
        revision=loaded.revision,
        architecture=type(model).__name__,
        family=stacks[-1].table.family,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        n_layers=depth,
        sizes=sizes,
        max_positions=getattr(config, "max_position_embeddings", None) or 0,
        dtype=dtype_name(dtype_of(model)),
        device=", ".join(map(str, devices_of(model))),
        has_chat_template=bool(loaded.tokenizer is not None and loaded.tokenizer.chat_template),
        n_encoder_layers=stacks[-1].first_layer,
        tokenizer="" if loaded.tokenizer is None else type(loaded.tokenizer).__name__,
    )


def _modules(model: nn.Module, probe: Probe, sizes: Mapping[str, int]) -> dict[str, ModuleSchema]:
    words = axis_words(sizes)
    verdicts: dict[tuple[object, ...], bool] = {}
    like = next(model.parameters())
    schemas = {}
    for path, module in model.named_modules():
        if not path or TAPS in path.split("."):
            continue
        d_in, d_out = probe.plain.get(path, (None, None))
        # layers repeat: one verdict per kind of module and sizes
        kind = (type(module), path.rpartition(".")[2], d_in, d_out)
        if d_in is not None and kind not in verdicts:
            verdicts[kind] = acts_on_last_dim(module, d_in, like)
        if not verdicts.get(kind, False):
            d_in = d_out = None
        schemas[path] = ModuleSchema(path, type(module).__name__, d_in, d_out, words.get(d_out, ""))
    return schemas


def _lookups(model: nn.Module, table: SiteTable, sizes: Mapping[str, int]) -> dict[str, ModuleSchema]:
    """The modules that turn token ids into vectors: embeddings, and those that the table declares."""
    words, n_ids = axis_words(sizes), n_vocab(model)
    declared = {path: (n_ids, tuple((axis, sizes[axis]) for axis in axes)) for path, axes in table.lookups.items()}
    embeddings = {
        path: (module.num_embeddings, ((words.get(size, ""), size),))
        for path, module in model.named_modules()
        if isinstance(module, nn.Embedding) and (size := module.embedding_dim)
    }
    found = {}
    for path, (known, appends) in (embeddings | declared).items():
        module = model.get_submodule(path)
        if looks_up_ids(module, tuple(size for _, size in appends), device_of(model)):
            found[path] = ModuleSchema(path, type(module).__name__, n_ids=known, appends=appends)
        elif path in declared:
            log.info("a declared look-up is not one", module=path)
    return found


def _parameters(model: nn.Module, sizes: Mapping[str, int]) -> dict[str, TensorType]:
    words = axis_words(sizes)
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return {
        name: TensorType(dtype_name(tensor.dtype), tuple(Dim(words.get(size, ""), size) for size in tensor.shape))
        for name, tensor in named
        if dtype_name(tensor.dtype) in ITEM_BYTES
    }
