"""Operations that take an operation back, where there are any."""

from dataclasses import replace

from interpd_backpack.edits.operations import AddDelta, MaskWeights, Operation, ProjectOut, Scale, Topic


def inverse_of(operation: Operation) -> Operation | None:
    """The operation that takes ``operation`` back; ``None`` when no operation does."""
    if isinstance(operation, Scale) and operation.factor != 0:
        return replace(operation, factor=1 / operation.factor)
    if isinstance(operation, MaskWeights) and operation.factor != 0 and operation.negative_only is None:
        return replace(operation, factor=1 / operation.factor)
    if isinstance(operation, Topic) and all(operation.factors) and not operation.anneal:
        return replace(operation, strength=tuple(1 / one for one in operation.factors))
    if isinstance(operation, ProjectOut) and operation.share != 1:
        # (1 - s)(1 - s') = 1 along the direction
        return replace(operation, share=-operation.share / (1 - operation.share))
    if isinstance(operation, AddDelta):
        return replace(operation, vector=-operation.vector)
    return None
