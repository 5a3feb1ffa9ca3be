"""Features within features: coarse ones first, then what the important ones are made of."""

from collections.abc import Callable, Sequence

import numpy as np

from interpd.errors import CallerError
from interpd.graph.run import Tokens
from interpd_attribution.features.kinds import Asked, Messages, segments_of
from interpd_attribution.features.segments import Segments


def nested(
    asked: Sequence[Asked],
    tokens: Tokens,
    *,
    start: int,
    prompt: Tokens | None = None,
    messages: Messages | None = None,
) -> tuple[Segments, ...]:
    """Segmentations of one prompt, coarsest first, each cut so that it lies within the one before.

    ``nested([documents(texts), "sentence", "word"], model.tokenize(prompt), start=n_prompt)``; the other arguments are
    those of ``segments_of``.
    """
    if not asked:
        raise CallerError("nested features need at least one level: nested([documents(texts), 'sentence'], ...)")
    levels: list[Segments] = []
    for one in asked:
        found = segments_of(one, tokens, start=start, prompt=prompt, messages=messages)
        levels.append(found.within(levels[-1]) if levels else found)
    return tuple(levels)


def descend(
    attribute: Callable[[Segments], np.ndarray], levels: Sequence[Segments], *, keep: int = 3
) -> tuple[Segments, np.ndarray]:
    """The features and their scores, after the most important ones were replaced by their parts, level by level.

    Each level costs one attribution, of far fewer features than the finest level has.

    Args:
        attribute: From features to their scores, ``[feature step]``, such as
            ``lambda features: model.attribute(prompt, answer, method="feature_ablation", features=features).scores``.
        levels: Of ``nested``.
        keep: How many features of a level are looked into: those with the largest sums of magnitudes over the steps.
    """
    if keep < 1:
        raise CallerError(f"keep is {keep}, expected 1 or more")
    features = levels[0]
    scores = np.asarray(attribute(features))
    for level in levels[1:]:
        sizes = np.nansum(np.abs(scores.reshape(len(scores), -1)), 1)
        parts = {number: {level.of[at] for at in features.positions(number)} for number in range(len(features))}
        divisible = [number for number in np.argsort(-sizes, kind="stable").tolist() if len(parts[number]) > 1]
        if not divisible:
            continue
        features = features.refined(level, divisible[:keep])
        scores = np.asarray(attribute(features))
    return features, scores
