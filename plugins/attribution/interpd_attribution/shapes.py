"""Whether the arrays of a result fit its tokens."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from interpd.errors import CallerError

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution


def check_shapes(attribution: "Attribution") -> None:
    """Raises ``CallerError`` where an array of ``attribution`` has another shape than its tokens and ``dims`` say."""
    n_target = len(attribution.target)
    start, end = attribution.attr_pos_start, attribution.attr_pos_end
    if not 0 <= start <= end <= n_target:
        raise CallerError(f"positions {start} to {end} are attributed, but the target has {n_target} tokens")
    if len(set(attribution.dims)) < len(attribution.dims):
        raise CallerError(f"two axes have one name: {', '.join(attribution.dims)}")
    sizes: dict[str, tuple[int, str]] = {}
    for name, array, tokens in _expected(attribution):
        # an encoder may be as deep as it likes
        known = {} if name.startswith("sequence_scores") else sizes
        _check_one(name, array, tokens, attribution.dims, known)


def _expected(attribution: "Attribution") -> Iterator[tuple[str, np.ndarray, tuple[frozenset[int], ...]]]:
    """Each array, with the lengths that each of its token axes may have."""
    n_source, n_target, n_generated = (
        len(part) for part in (attribution.source, attribution.target, attribution.generated)
    )
    source, target, generated = (frozenset((n,)) for n in (n_source, n_target, n_generated))
    if attribution.source_attributions is not None:
        yield "source_attributions", attribution.source_attributions, (source, generated)
    if attribution.target_attributions is not None:
        yield "target_attributions", attribution.target_attributions, (target, generated)
    for name, array in attribution.sequence_scores.items():
        where = f"sequence_scores[{name!r}]"
        if name.startswith("encoder"):
            yield where, array, (source, source)
        elif name.startswith("decoder"):
            yield where, array, (target | generated, target | generated)
        else:
            yield where, array, (source, generated)
    for name, array in attribution.step_scores.items():
        if array.shape != (n_generated,):
            raise CallerError(
                f"step_scores[{name!r}] has shape {array.shape}, expected one number for each of {n_generated} tokens"
            )


def _check_one(
    name: str,
    array: np.ndarray,
    tokens: tuple[frozenset[int], ...],
    dims: tuple[str, ...],
    sizes: dict[str, tuple[int, str]],
) -> None:
    fits = array.ndim == len(tokens) + len(dims) and all(
        size in allowed for size, allowed in zip(array.shape, tokens, strict=False)
    )
    if not fits:
        wanted = [" or ".join(map(str, sorted(allowed))) for allowed in tokens]
        raise CallerError(f"{name} has shape {array.shape}, expected ({', '.join((*wanted, *dims))})")
    for dim, size in zip(dims, array.shape[len(tokens) :], strict=True):
        first, where = sizes.setdefault(dim, (size, name))
        if size != first:
            raise CallerError(f"{dim} is {size} in {name}, but {first} in {where}")
