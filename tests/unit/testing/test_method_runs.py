"""The kit runs methods in the real engine and catches each planted fault, naming the method."""

from types import ModuleType

import pytest
import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import MethodContext, Recomputed, hookimpl, method
from interpd.testing import conformance


def checks_of(fault):
    module = ModuleType("faulty")

    @hookimpl
    def interpd_register_methods():
        return [fault]

    module.interpd_register_methods = interpd_register_methods
    return {parameter.id: parameter.values[0] for parameter in conformance(module).pytestmark[0].args[1]}


def passes(ctx, n):
    for done in range(n):
        ctx.progress(done, n)
        value = ctx.session.forward(ctx.input_ids, reads=["ln_final"])["ln_final"]
    return value[0, -1]


@method("faulty.trains")
def trains(ctx: MethodContext) -> Float32[Tensor, " d_model"]:
    """A weight, after a step of training."""
    weight = ctx.session._access.parameter("transformer.ln_f.weight")
    return weight.add_(1.0).float()


@method("faulty.dices")
def dices(ctx: MethodContext) -> Float32[Tensor, " step"]:
    """Noise."""
    return torch.rand(3)


@method("faulty.shape")
def shape(ctx: MethodContext) -> Float32[Tensor, "step d_model"]:
    """Another shape than it says."""
    return passes(ctx, 1).float()


@method("faulty.raises")
def raises(ctx: MethodContext) -> Float32[Tensor, " step"]:
    """Nothing."""
    raise ValueError("no")


@method("faulty.deaf")
def deaf(ctx: MethodContext) -> Float32[Tensor, " step"]:
    """Zeros, without ever giving up its turn."""
    return torch.zeros(3)


@method("faulty.deaf_to_values")
def deaf_to_values(ctx: MethodContext, target: Recomputed[Float32[Tensor, ""]]) -> Float32[Tensor, " step"]:
    """Zeros, without ever giving up its turn."""
    return torch.zeros(3)


@method("faulty.narrow")
def narrow(ctx: MethodContext, *, n: int = 5) -> Float32[Tensor, "5"]:
    """The first n of five."""
    ctx.raise_if_cancelled()
    return torch.zeros(5)[:n]


@method("faulty.untyped")
def untyped(ctx) -> Float32[Tensor, " d_model"]:
    """Two passes."""
    return passes(ctx, 2).float()


FAULTS = [
    (deaf, "can_be_cancelled", "method 'faulty.deaf@1' never takes a turn: no cancel reaches it"),
    (deaf_to_values, "can_be_cancelled", "method 'faulty.deaf_to_values@1' never takes a turn"),
    (narrow, "refuses_what_it_cannot_take", "method 'faulty.narrow@1' with n=-10000: "),
    (narrow, "refuses_what_it_cannot_take", "raise CallerError for what is out of range"),
    (untyped, "types_its_context", "method 'faulty.untyped@1': its first parameter has no annotation"),
    (trains, "leaves_the_model_alone", "method 'faulty.trains@1' changes the model: transformer.ln_f.weight"),
    (dices, "is_deterministic", "method 'faulty.dices@1': output 'out' differs between two runs"),
    (shape, "runs_on_a_model", "method 'faulty.shape@1': OpFailed: "),
    (shape, "runs_on_a_model", "output 'out' wants float32[step d_model], got float32[24]"),
    (raises, "runs_on_a_model", "raised ValueError: no"),
]


@pytest.mark.parametrize(("fault", "check", "message"), FAULTS, ids=[f"{f.__name__}-{c}" for f, c, _ in FAULTS])
def test_a_planted_fault_is_caught_and_named(fault, check, message):
    with pytest.raises(AssertionError) as caught:
        checks_of(fault)[f"{fault.schema.name}-{check}"].run()
    assert message in str(caught.value)


def test_one_fault_is_one_failure():
    failed, skipped = [], []
    for name, check in checks_of(raises).items():
        try:
            if name != "imports_without_effects":
                check.run()
        except AssertionError:
            failed.append(name)
        except pytest.skip.Exception as skip:
            skipped.append(str(skip))
    assert failed == ["faulty.raises-runs_on_a_model"]
    assert set(skipped) == {"see faulty.raises-runs_on_a_model"}


def test_a_method_that_runs_for_as_long_as_its_numbers_say_is_stopped():
    @method("fine.steps")
    def steps(ctx: MethodContext, *, n_steps: int = 2) -> Float32[Tensor, " d_model"]:
        """So many passes."""
        return passes(ctx, max(n_steps, 1)).float()

    checks = checks_of(steps)
    checks["fine.steps-can_be_cancelled"].run()
    checks["fine.steps-refuses_what_it_cannot_take"].run()
