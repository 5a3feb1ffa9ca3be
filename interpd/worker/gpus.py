"""How many GPUs a model gets: what it asks for, or one where it says nothing and one is free."""

from dataclasses import replace

from interpd.config import ModelSpec
from interpd.errors import InvalidRequest, LimitExceeded
from interpd.telemetry import Log

log = Log("gpus")


def with_gpus(spec: ModelSpec, n_free: float, n_here: float) -> ModelSpec:
    """``spec`` as it will be started.

    Args:
        spec: As configured. ``num_gpus`` 0 with device ``auto`` leaves the choice to the node.
        n_free: GPUs that no replica holds.
        n_here: GPUs of the node.

    Raises:
        InvalidRequest: A CUDA device without GPUs, which the replica would not see.
        LimitExceeded: More GPUs than are free; Ray would wait for ever.
    """
    if spec.device.startswith("cuda") and not spec.num_gpus:
        raise InvalidRequest(f"model {spec.name!r}: device {spec.device!r} needs GPUs; set num_gpus, for instance 1")
    if spec.device == "auto" and not spec.num_gpus and n_here:
        if n_free >= spec.replicas:
            return replace(spec, num_gpus=1.0)
        # slow is not wrong, but it must not go unsaid
        log.warning("no GPU is free: serving on the CPU", model=spec.name, n_here=n_here, n_free=n_free)
    asked = spec.num_gpus * spec.replicas
    if asked > n_free:
        text = f"model {spec.name!r} asks for {asked:g} GPUs, {n_free:g} are free; unload another or ask for fewer"
        raise LimitExceeded(text, asked=asked, free=n_free)
    return spec
