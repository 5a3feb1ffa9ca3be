"""What people who know torch, numpy or nnsight type out of habit, and what to write in a trace instead."""

from collections.abc import Mapping
from types import MappingProxyType

AFTER_THE_RUN = "its numbers exist after the run: `t.save(h=value)` in the block, then `t.result['h']`, which is numpy"
ON_THE_DEVICE = "a value lives where the model runs, and what is saved comes back as numpy: leave this away"
GRADIENT = "gradients are asked for by name: `h.grad_of(loss)` with `h` as it was read at a site"

HABITS: Mapping[str, str] = MappingProxyType(
    {
        "item": AFTER_THE_RUN,
        "tolist": AFTER_THE_RUN,
        "numpy": AFTER_THE_RUN,
        "value": AFTER_THE_RUN,
        "save": "the trace saves values, under names: `t.save(h=value)`, then `t.result['h']`",
        "grad": GRADIENT,
        "backward": GRADIENT,
        "requires_grad": GRADIENT,
        "requires_grad_": GRADIENT,
        "retain_grad": GRADIENT,
        "cpu": ON_THE_DEVICE,
        "cuda": ON_THE_DEVICE,
        "device": ON_THE_DEVICE,
        "contiguous": "how a value lies in memory is no concern of a graph: leave this away",
        "clone": "operations give new values and leave old ones as they were: `y = x * 1` where a name is wanted",
        "dim": "`x.ndim` is the number of dimensions",
        "output": "a site is the value itself; only `t.module(path)` has `.output` and `.input`",
        "input": "a site is the value itself; only `t.module(path)` has `.output` and `.input`",
        "copy_": "no method changes a value in place: `x[...] = y`",
        "add_": "no method changes a value in place: `x[...] += y`",
        "mul_": "no method changes a value in place: `x[...] *= y`",
        "zero_": "no method changes a value in place: `x[...] = 0`",
        "fill_": "no method changes a value in place: `x[...] = y`",
    }
)
"""Attributes that a symbolic value has not, and the way to what was meant."""

DEVICES = ("cpu", "cuda", "mps", "xpu", "meta")


def names_a_device(what: object) -> bool:
    """Whether ``what`` is a device of torch or the name of one."""
    return str(what).partition(":")[0] in DEVICES
