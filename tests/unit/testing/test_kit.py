"""The kit accepts a sound plugin and catches each planted fault, naming the operation."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interpd.sdk import CallerError, hookimpl, op
from interpd.testing import conformance
from interpd.testing.kit import Check


def module_at(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.append(str(path.parent))
    spec.loader.exec_module(module)
    return module


sound = module_at(Path(__file__).with_name("sound_plugin.py"))

test_a_sound_plugin_conforms = conformance(
    sound, examples={"sae.clamp": {"feature": 1}}, refuses={"sae.clamp": [{"feature": 10_000}, {"feature": -1}]}
)


def checks_of(*ops, **arguments) -> dict[str, Check]:
    module = ModuleType("faulty")

    @hookimpl
    def interpd_register_ops():
        return ops

    module.interpd_register_ops = interpd_register_ops
    (mark,) = conformance(module, **arguments).pytestmark
    return {parameter.id: parameter.values[0] for parameter in mark.args[1]}


@op("faulty.mutates")
def mutates(x: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
    """Twice the input."""
    return x.mul_(2)


@op("faulty.mixes")
def mixes(x: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
    """The input without its mean over rows."""
    return x - x.mean(0)


@op("faulty.reduces")
def reduces(x: Float[Tensor, "batch pos"]) -> Float[Tensor, " pos"]:
    """The mean over rows."""
    return x.mean(0)


@op("faulty.leaks")
def leaks(x: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
    """The input, unless another row holds NaN."""
    return x + 0 * x.sum()


@op("faulty.rolls")
def rolls(x: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
    """Another row's input."""
    return x.roll(1, 0)


@op("faulty.dices")
def dices(x: Float[Tensor, " pos"]) -> Float[Tensor, " pos"]:
    """Noise."""
    return torch.randn_like(x)


@op("faulty.shape")
def shape(x: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
    """One number per row."""
    return x.sum(1)


@op("faulty.dtype")
def dtype(x: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
    """The input, in float32 whatever it was."""
    return x.float() * 1.0


@op("faulty.count")
def count(x: Float[Tensor, " pos"]) -> tuple[Float[Tensor, " pos"], Float[Tensor, " pos"]]:
    """One value where two are declared."""
    return (x + 0,)


@op("faulty.tiny")
def tiny(x: Float[Tensor, " pos"]) -> Float[Tensor, " pos"]:
    """The difference to the second position."""
    return x - x[1]


@op("faulty.raises")
def raises(x: Float[Tensor, " pos"]) -> Float[Tensor, " pos"]:
    """Nothing."""
    raise ValueError("no")


@op("faulty.text", paper="my notebook")
def text(x: Float[Tensor, " pos"]) -> Float[Tensor, " pos"]:
    return x + 0


@op("faulty.narrow")
def narrow(x: Float[Tensor, " pos"], *, n: int) -> Float[Tensor, " pos"]:
    """The first n."""
    return x[:n]


FAULTS = [
    (mutates, "leaves_its_inputs_alone", "op 'faulty.mutates@1' changes its port 0 in place"),
    (mixes, "keeps_rows_apart", "op 'faulty.mixes@1' mixes rows: output 'out' changes with rows [1] of 3"),
    (reduces, "keeps_rows_apart", "or declare @op(..., rows_mix=True)"),
    (leaks, "keeps_rows_apart", "op 'faulty.leaks@1' mixes rows: output 'out' changes with NaN in row 1"),
    (rolls, "keeps_rows_apart", "op 'faulty.rolls@1' mixes rows"),
    (dices, "is_deterministic", "op 'faulty.dices@1': output 'out' differs between two calls"),
    (shape, "returns_what_it_declares", "output 'out' wants float[batch=3 pos=5], got float32[3]"),
    (dtype, "returns_what_it_declares", "in torch.bfloat16: output 'out' is float32, but its first floating port is"),
    (count, "returns_what_it_declares", "returns 1 values, declares 2"),
    (tiny, "takes_one_row_and_one_position", "op 'faulty.tiny@1' raised IndexError"),
    (raises, "returns_what_it_declares", "op 'faulty.raises@1' raised ValueError: no (inputs (5,))"),
    (text, "has_a_summary", "op 'faulty.text@1' has no docstring"),
    (text, "paper_has_a_known_form", "paper 'my notebook' is not 'arXiv:2303.08112'"),
]


@pytest.mark.parametrize(("fault", "check", "message"), FAULTS, ids=[f"{f.__name__}-{c}" for f, c, _ in FAULTS])
def test_a_planted_fault_is_caught_and_named(fault, check, message):
    with pytest.raises(AssertionError) as caught:
        checks_of(fault)[f"{fault.schema.name}-{check}"].run()
    assert message in str(caught.value)
    assert fault.schema.name in str(caught.value)


def test_a_number_out_of_range_must_not_give_another_shape():
    check = checks_of(narrow, examples={"faulty.narrow": {"n": 5}})["faulty.narrow-refuses_what_it_cannot_take"]
    with pytest.raises(AssertionError, match=r"with n=-10000: .*raise CallerError for what is out of range"):
        check.run()


def test_a_constant_without_default_needs_an_example():
    with pytest.raises(AssertionError, match=r"conformance\(..., examples=\{'faulty.narrow': dict\(n=...\)\}\)"):
        checks_of(narrow)["faulty.narrow-is_deterministic"].run()


def test_an_example_of_an_op_that_does_not_exist_is_caught():
    check = checks_of(narrow, examples={"faulty.narow": {"n": 5}})["arguments_of_the_kit"]
    with pytest.raises(AssertionError, match=r"no op or method 'faulty\.narow'; nearest is 'faulty\.narrow'"):
        check.run()


def test_what_must_be_refused_must_be_refused_as_the_callers_mistake():
    @op("faulty.picks")
    def picks(x: Float[Tensor, " pos"], *, at: int = 0) -> Float[Tensor, ""]:
        """One element."""
        if at < 0:
            raise CallerError(f"at is {at}, which is less than 0")
        return x[at]

    checks = checks_of(picks, refuses={"faulty.picks": [{"at": -1}, {"at": 99}, {"at": 1}]})
    checks["faulty.picks-refuses_0"].run()
    with pytest.raises(AssertionError, match=r"raised IndexError.*raise CallerError, so that the caller learns"):
        checks["faulty.picks-refuses_1"].run()
    with pytest.raises(AssertionError, match=r"took \{'at': 1\}, which it should refuse"):
        checks["faulty.picks-refuses_2"].run()


def test_a_plugin_that_does_not_load_says_why():
    with pytest.raises(AssertionError, match=r"hook 'interpd_register_ops': .* is not a function marked @op"):
        checks_of(len)["loads"].run()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("print('hello')", "prints 'hello'"),
        ("import os; os.environ['X_SEEN'] = '1'", "changes the environment"),
        ("import torch; torch.set_default_dtype(torch.float64)", "changes torch's default dtype"),
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(1,), daemon=True).start()",
            "changes the number of threads",
        ),
    ],
    ids=["prints", "environment", "dtype", "thread"],
)
def test_an_import_with_effects_is_caught(tmp_path, monkeypatch, line, message):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "interpd_effects.py").write_text(line)
    module = ModuleType("interpd_effects")
    module.__spec__ = object()
    with pytest.raises(AssertionError, match=message):
        conformance(module).pytestmark[0].args[1][1].values[0].run()
