"""Writes of a trace that change what a method explains: noisy inputs, and weights drawn anew.

A module with other weights is a write of what these would make of its input in place of its output. Nothing of the
model itself changes, nobody else sees anything, and gradients go through as through the module.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from interpd.errors import CallerError
from interpd.graph.schema import Manifest
from interpd_client import PromptTrace

TRANSPOSED = {"Linear": True, "Conv1D": False}
"""Kinds of modules that multiply by a matrix, and whether they keep it transposed."""


@dataclass(frozen=True)
class Stage:
    """Modules that are randomised together: those of a block, or one outside the blocks."""

    name: str
    modules: tuple[str, ...]


def with_noisy_inputs(manifest: Manifest, radius: float, seed: int) -> Callable[[PromptTrace], None]:
    """What records noise on the embeddings of the prompt's tokens.

    Args:
        manifest: Of the model.
        radius: The most in each dimension, as a share of the root mean square of the token's vector.
        seed: Of the noise.
    """
    sites = {"encoder.embed": "source", "decoder.embed": "target"} if manifest.model.has_encoder else {"embed": None}

    def record(t: PromptTrace) -> None:
        for site, side in sites.items():
            tokens = t.tokens if side is None else getattr(t.tokens, side)
            ids = t.op("tokens.ids", **({} if side is None else {"side": side}))
            value = t.site(site)
            value[:] = t.op("attribution.noisy", value, ids, token_ids=tokens.ids, radius=radius, seed=seed)

    return record


def stages(manifest: Manifest) -> tuple[Stage, ...]:
    """The parts of a model, from its output to its input. Raises ``CallerError`` for one without matrices."""
    found: dict[str, list[str]] = {}
    for path, module in manifest.modules.items():
        sites = manifest.sites
        if module.kind in TRANSPOSED and f"{path}.input" in sites and f"{path}.output" in sites:
            weight = manifest.parameters.get(f"{path}.weight")
            if weight is None or not weight.dtype.startswith(("float", "bfloat")):
                raise CallerError(f"the weight of {path!r} is no matrix of numbers (quantised?): it cannot be redrawn")
            found.setdefault(_block(path), []).append(path)
    if not found:
        raise CallerError(f"model {manifest.model.name!r} has no modules of kind {' or '.join(TRANSPOSED)}")
    last = {name: max(manifest.sites[f"{path}.output"].order for path in paths) for name, paths in found.items()}
    return tuple(Stage(name, tuple(found[name])) for name in sorted(found, key=lambda name: -last[name]))


def with_redrawn_weights(manifest: Manifest, parts: Sequence[Stage], seed: int) -> Callable[[PromptTrace], None]:
    """What records matrices of normal numbers, with the mean and the spread of the trained ones; biases stay.

    Args:
        manifest: Of the model.
        parts: Whose.
        seed: Of the numbers, beside each module's name.
    """

    def record(t: PromptTrace) -> None:
        paths = [path for part in parts for path in part.modules]
        for path in sorted(paths, key=lambda path: manifest.sites[f"{path}.output"].order):
            module = t.module(path)
            weight = t.op("attribution.redrawn", t.param(f"{path}.weight"), seed=zlib.crc32(f"{seed} {path}".encode()))
            made = module.input @ (weight.T if TRANSPOSED[manifest.modules[path].kind] else weight)
            bias = f"{path}.bias"
            module.output = made + t.param(bias) if bias in manifest.parameters else made

    return record


def _block(path: str) -> str:
    """``model.layers.3`` of ``model.layers.3.mlp.up_proj``; a module outside the blocks is its own."""
    words = path.split(".")
    before = list(takewhile(lambda word: not word.isdigit(), words))
    return ".".join(words[: len(before) + 1])
