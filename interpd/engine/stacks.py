"""The stacks of blocks that a model runs one after the other: one, or those of an encoder and then of a decoder."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from interpd.engine.model_config import has_encoder, n_layers, text_config
from interpd.errors import FeatureUnsupported
from interpd.plugin.site_table import SiteRow, SiteTable


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack of blocks."""

    table: SiteTable
    depth: int
    """How many blocks."""
    first_layer: int
    """The number of its first block among those of all stacks."""
    config: Any
    """The config, with the names of this stack's sizes."""
    root: str = ""
    """Module path of an encoder; empty for a stack that takes part in every step of a generation."""

    @property
    def blocks(self) -> str:
        """The path of the list of its blocks, with a dot behind it; empty when it is not known."""
        return self.table.block.partition("{i}")[0]


def stacks_of(model: nn.Module, table: SiteTable) -> tuple[Stack, ...]:
    """The stacks of a model, in the order in which they run.

    Raises ``FeatureUnsupported`` for a table of one stack that is given for a model of two.
    """
    if table.encoder is None and has_encoder(model):
        raise FeatureUnsupported(
            f"the site table {table.family!r} has no table of the encoder, which {type(model).__name__} has: give it "
            "one as `encoder`"
        )
    if table.encoder is None:
        return (Stack(table, n_layers(model), 0, text_config(model)),)
    encoder, root = model.get_encoder(), _path_of(model, model.get_encoder())
    # the lists are counted: not every config has a number for each side
    depths = [_depth(model, one, stack) for one, stack in ((table.encoder, encoder), (table, model.get_decoder()))]
    configs = (model.config.get_text_config(encoder=True), model.config.get_text_config(decoder=True))
    return (
        Stack(table.encoder, depths[0], 0, configs[0], f"{root}."),
        Stack(table, depths[1], depths[0], configs[1]),
    )


def _depth(model: nn.Module, table: SiteTable, stack: nn.Module) -> int:
    blocks = model.get_submodule(table.block.partition(".{i}")[0]) if table.block else _first_list(stack)
    return len(blocks) if isinstance(blocks, nn.ModuleList) else 1


def _path_of(model: nn.Module, wanted: nn.Module) -> str:
    return next((path for path, module in model.named_modules() if module is wanted), "")


def _first_list(module: nn.Module) -> nn.Module | None:
    return next((child for child in module.modules() if isinstance(child, nn.ModuleList)), None)


def plain_table(model: nn.Module) -> SiteTable:
    """The table of an architecture that has none: ``embed`` at the embedding that the model names, and ``logits``.

    ``block`` is the list of modules that is as long as the model is deep, or empty. An encoder-decoder model has the
    embeddings of both sides.
    """
    # what the model returns, not what its head computes: some cap or scale the logits in between
    logits = SiteRow("logits", ("batch", "pos", "d_vocab"), "", item="logits", doc="next-token logits, as returned")
    architectures = (type(model).__name__,)
    if not has_encoder(model):
        rows = (logits, *_embed(model, model, "embed", "pos"))
        return SiteTable("", architectures, _block_path(model), rows)
    sides = (model.get_encoder(), "encoder.embed", "src_pos"), (model.get_decoder(), "decoder.embed", "pos")
    blocks = [_list_path(model, stack) for stack, _, _ in sides]
    encoder, decoder = (_embed(model, *side) for side in sides)
    return SiteTable(
        "", architectures, blocks[1], (logits, *decoder), encoder=SiteTable("", architectures, blocks[0], encoder)
    )


def _embed(model: nn.Module, stack: nn.Module, name: str, axis: str) -> tuple[SiteRow, ...]:
    embeddings = stack.get_input_embeddings() if hasattr(stack, "get_input_embeddings") else None
    path = "" if embeddings is None else _path_of(model, embeddings)
    return (SiteRow(name, ("batch", axis, "d_model"), path, doc="token embeddings"),) if path else ()


def _block_path(model: nn.Module) -> str:
    depth = n_layers(model)
    lists = ((path, module) for path, module in model.named_modules() if isinstance(module, nn.ModuleList))
    return next((f"{path}.{{i}}" for path, module in lists if len(module) == depth), "")


def _list_path(model: nn.Module, stack: nn.Module) -> str:
    found = _first_list(stack)
    return "" if found is None else f"{_path_of(model, found)}.{{i}}"
