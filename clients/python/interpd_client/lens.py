"""Which modules turn the last residual stream into logits: the final norm and the unembedding."""

from collections.abc import Iterable

from interpd.graph.schema import Manifest, ModuleSchema
from interpd_client.names import UnknownName

FINAL_BIAS = "final_logits_bias"
"""A weight that some encoder-decoder models add behind their unembedding."""


def has_final_norm(manifest: Manifest) -> bool:
    """Whether a norm stands behind the last block; where blocks end in a norm of their own there is none."""
    name = "decoder.ln_final" if manifest.model.has_encoder else "ln_final"
    return all(site.name != name for site in manifest.absent_sites)


def refuse_detour(manifest: Manifest) -> None:
    """Raises ``UnknownName`` for a model whose stream does not enter the logits by its norm and unembedding alone."""
    orders = {name: site.order for name, site in manifest.sites.items() if site.canonical}
    first, last = orders.get("ln_final"), orders.get("logits")
    between = [name for name, order in orders.items() if first is not None and last and first < order < last]
    if between:
        raise UnknownName(
            f"model {manifest.model.name!r} has no lens: between its final norm and its logits there is "
            f"{', '.join(map(repr, between))}, so a stream in its layers says nothing by itself about the next token"
        )


def final_norm(manifest: Manifest) -> str:
    """The path of the norm behind the last block. Raises ``UnknownName`` where it is not the only one of its kind."""
    d_model = manifest.model.sizes.get("d_model")
    norms = (
        module.path
        for module in _outside_layers(manifest)
        if "norm" in module.kind.lower() and module.d_in == module.d_out == d_model
    )
    return _only(norms, manifest, "final norm")


def unembedding(manifest: Manifest) -> str:
    """The path of the module that gives logits. Raises ``UnknownName`` where it is not the only one of its kind."""
    sizes = manifest.model.sizes
    heads = (
        module.path
        for module in _outside_layers(manifest)
        if module.d_in == sizes.get("d_model") and module.d_out == sizes.get("d_vocab")
    )
    return _only(heads, manifest, "unembedding")


def _outside_layers(manifest: Manifest) -> Iterable[ModuleSchema]:
    # only the modules of the blocks carry a number in their path
    has_encoder = manifest.model.has_encoder
    for module in manifest.modules.values():
        parts = module.path.split(".")
        is_outside = not any(part.isdigit() for part in parts) and not (has_encoder and "encoder" in parts)
        if module.d_in is not None and is_outside:
            yield module


def _only(paths: Iterable[str], manifest: Manifest, what: str) -> str:
    found = list(paths)
    if len(found) != 1:
        which = f"several modules could be it: {', '.join(found)}" if found else "no module has its sizes"
        raise UnknownName(
            f"cannot tell which module of {manifest.model.name!r} is its {what} ({which}); apply the modules yourself "
            "with t.call(path, x)"
        )
    return found[0]
