"""The kit accepts a sound plugin and catches each planted fault, naming the operation."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from interpd.sdk import CallerError, artifact, hookimpl, op
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
    sound,
    examples={"sae.clamp": {"feature": 1}},
    refuses={"sae.clamp": [{"feature": 10_000}, {"feature": -1}]},
    marks={"imports_without_effects": pytest.mark.slow},
)


def test_a_mark_is_that_of_one_check():
    (mark,) = test_a_sound_plugin_conforms.pytestmark
    assert [case.id for case in mark.args[1] if case.marks] == ["imports_without_effects"]
    with pytest.raises(ValueError, match="no check 'imports'"):
        conformance(sound, marks={"imports": pytest.mark.slow})


def module_of(*ops, kinds=()):
    module = ModuleType("faulty")

    @hookimpl
    def interpd_register_ops():
        return ops

    @hookimpl
    def interpd_register_artifacts():
        return kinds

    module.interpd_register_ops = interpd_register_ops
    module.interpd_register_artifacts = interpd_register_artifacts
    return module


def checks_of(*ops, kinds=(), **arguments) -> dict[str, Check]:
    (mark,) = conformance(module_of(*ops, kinds=kinds), **arguments).pytestmark
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


@op("faulty.unpacks")
def unpacks(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Twice the input, where there is one row axis."""
    b, d = x.shape
    return 2 * x.reshape(b, d)


@op("faulty.detaches")
def detaches(x: Float[Tensor, " pos"]) -> Float[Tensor, " pos"]:
    """Twice the input."""
    return x.detach() * 2


@op("faulty.numpy")
def leaves_torch(x: Float[Tensor, " pos"]) -> Float[Tensor, " pos"]:
    """Twice the input, where numpy knows its dtype."""
    return x * 2 if x.dtype is torch.bfloat16 else torch.from_numpy(x.numpy() * 2)


@op("faulty.mixed")
def mixed(x: Float[Tensor, " pos"], y: Shaped[Tensor, " pos"]) -> Float[Tensor, " pos"]:
    """Their sum."""
    return x + y


@op("faulty.misspelt")
def misspelt(x: Float[Tensor, "batch d_modle"]) -> Float[Tensor, "batch d_model"]:
    """Twice the input."""
    return 2 * x


@op("faulty.arrays")
def arrays(x: Float[np.ndarray, " pos"]) -> Float[Tensor, " pos"]:
    """Twice the input."""
    return 2 * x


@op("faulty.pairs")
def pairs(x: Float[Tensor, " pos"]) -> tuple[Float[Tensor, " pos"], Float[np.ndarray, " pos"]]:
    """Twice the input, twice."""
    return 2 * x, 2 * x


FAULTS = [
    (arrays, "is_declared_on_tensors", "op 'faulty.arrays@1': 'x' is annotated as numpy.ndarray; values are tensors"),
    (pairs, "is_declared_on_tensors", "op 'faulty.pairs@1': 'return' is annotated as numpy.ndarray"),
    (unpacks, "takes_any_number_of_dimensions", "op 'faulty.unpacks@1' raised ValueError: not enough values to unpack"),
    (detaches, "lets_gradients_through", "no gradient passes to output 'out'; compute it without detach()"),
    (detaches, "lets_gradients_through", "or declare @op(..., differentiable=False)"),
    (leaves_torch, "lets_gradients_through", "op 'faulty.numpy@1' raised RuntimeError: Can't call numpy()"),
    (mixed, "takes_mixed_dtypes", "output 'out' is float32, but its first floating port is bfloat16; cast the others"),
    (misspelt, "binds_its_axes", "binds the output's axis 'd_model'; nearest is 'd_modle', which is no word for an"),
    (mutates, "leaves_its_inputs_alone", "op 'faulty.mutates@1' changes its port 'x' in place"),
    (mixes, "keeps_rows_apart", "op 'faulty.mixes@1' mixes rows: output 'out' changes with rows [1] of 3"),
    (reduces, "keeps_rows_apart", "or declare @op(..., rows_mix=True)"),
    (leaks, "keeps_rows_apart", "op 'faulty.leaks@1' mixes rows: output 'out' changes with NaN in row 1"),
    (rolls, "keeps_rows_apart", "op 'faulty.rolls@1' mixes rows"),
    (dices, "is_deterministic", "op 'faulty.dices@1': output 'out' differs between two calls"),
    (shape, "returns_what_it_declares", "output 'out' wants float[batch=3 pos=5], got float32[3]"),
    (dtype, "returns_what_it_declares", "in torch.bfloat16: output 'out' is float32, but its first floating port is"),
    (count, "returns_what_it_declares", "returns 1 values, declares 2"),
    (tiny, "takes_one_row_and_one_position", "op 'faulty.tiny@1' raised IndexError"),
    (raises, "returns_what_it_declares", "op 'faulty.raises@1' raised ValueError: no (port 'x' float32[5])"),
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


def verdicts(checks):
    """What each check says: its failure, that it was skipped and why, or nothing."""
    said = {}
    for name, check in checks.items():
        if name == "imports_without_effects":
            continue
        try:
            check.run()
        except AssertionError as error:
            said[name] = str(error)
        except pytest.skip.Exception as skipped:
            said[name] = f"skipped: {skipped}"
    return said


def failures(checks):
    return {name: said for name, said in verdicts(checks).items() if not said.startswith("skipped: ")}


def test_a_constant_without_default_is_one_failure_however_many_checks_need_it():
    said = verdicts(checks_of(narrow))
    assert failures(checks_of(narrow)) == {
        "faulty.narrow-has_its_examples": "'faulty.narrow': constants without a default need an example: "
        "conformance(..., examples={'faulty.narrow': dict(n=...)})"
    }
    assert said["faulty.narrow-is_deterministic"] == "skipped: see faulty.narrow-has_its_examples"


@pytest.mark.parametrize("fault", [raises, shape, count, text])
def test_one_fault_is_one_failure(fault):
    expected = {"text": ["has_a_summary", "paper_has_a_known_form"]}.get(fault.__name__, ["returns_what_it_declares"])
    assert list(failures(checks_of(fault))) == [f"{fault.schema.name}-{name}" for name in expected]


def test_a_first_port_decides_the_dtype_or_the_caller_is_told():
    @op("fine.casts")
    def casts(x: Float[Tensor, " pos"], y: Shaped[Tensor, " pos"]) -> Float[Tensor, " pos"]:
        """Their sum."""
        return x + y.to(x.dtype)

    @op("fine.refuses")
    def refuses(x: Float[Tensor, " pos"], y: Shaped[Tensor, " pos"]) -> Float[Tensor, " pos"]:
        """Their sum."""
        if x.dtype != y.dtype:
            raise CallerError("x and y are of one dtype")
        return x + y

    @op("fine.same")
    def same(x: Float[Tensor, " pos"], y: Float[Tensor, " pos"]) -> Float[Tensor, " pos"]:
        """Their product: the checker lets no mix come here."""
        return (x @ y).expand(x.shape)

    assert failures(checks_of(casts, refuses, same)) == {}


def test_an_example_for_a_port_of_an_exact_dtype_keeps_it():
    @op("fine.exact")
    def exact(x: Float64[Tensor, " batch"]) -> Float64[Tensor, " batch"]:
        """Twice the input."""
        if x.dtype != torch.float64:
            raise CallerError("x is in double precision")
        return 2 * x

    given = {"fine.exact": {"x": torch.tensor([1 / 3, 2 / 3, 1.0], dtype=torch.float64)}}
    assert failures(checks_of(exact, examples=given)) == {}


def test_an_output_axis_that_nothing_binds_is_warned_of_with_the_nearest_word():
    @op("faulty.counts")
    def counts(x: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_modell"]:
        """Twice the input."""
        return 2 * x

    message = "op 'faulty.counts@1': no input, artifact or int constant binds the output's axis 'd_modell'; nearest is"
    with pytest.warns(UserWarning, match=message):
        checks_of(counts)["faulty.counts-binds_its_axes"].run()


@pytest.mark.parametrize(("differentiable", "fails"), [(True, True), (False, False)])
def test_an_operation_without_gradients_says_so(differentiable, fails):
    @op("fine.detaches", differentiable=differentiable)
    def detaches(x: Float[Tensor, " pos"]) -> Float[Tensor, " pos"]:
        """Twice the input."""
        return x.detach() * 2

    assert bool(failures(checks_of(detaches))) is fails


@artifact("probe")
@dataclass(frozen=True)
class Probe:
    weight: Float[Tensor, " d_model"]
    site: str


@op("faulty.probe")
def probe(x: Float[Tensor, "batch d_model"], *, probe: Probe) -> Float[Tensor, " batch"]:
    """Scores."""
    return x @ probe.weight


def test_metadata_without_a_default_is_asked_for_once_and_so_is_a_docstring():
    said = failures(checks_of(probe, kinds=[Probe]))
    assert list(said) == ["probe-has_a_summary", "probe-can_be_made"]
    assert said["probe-has_a_summary"].startswith("artifact 'probe' has no docstring")
    assert said["probe-can_be_made"] == (
        "artifact 'probe': the kit cannot choose 'site'; give a default, or an instance: "
        "conformance(..., artifacts={'probe': Probe(...)})"
    )


def test_a_given_artifact_needs_no_default():
    given = checks_of(probe, kinds=[Probe], artifacts={"probe": Probe(torch.ones(8), "ln_final")})
    assert list(failures(given)) == ["probe-has_a_summary"]


def test_a_failure_shows_the_plugins_lines_and_none_of_the_kits():
    test = conformance(module_of(raises))
    checks = {one.id: one.values[0] for one in test.pytestmark[0].args[1]}
    with pytest.raises(pytest.fail.Exception) as caught:
        test(checks["faulty.raises-returns_what_it_declares"])
    said = str(caught.value)
    assert said.startswith("op 'faulty.raises@1' raised ValueError: no (port 'x' float32[5])\n")
    assert 'raise ValueError("no")' in said
    assert "properties.py" not in said
    assert caught.value.pytrace is False


def test_annotations_kept_as_text_are_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = Path(__file__).with_name("sound_plugin.py").read_text()
    (tmp_path / "interpd_text.py").write_text(source.replace("from dataclasses", FUTURE + "from dataclasses", 1))
    checks = conformance(importlib.import_module("interpd_text"), examples={"sae.clamp": {"feature": 1}})
    named = {parameter.id: parameter.values[0] for parameter in checks.pytestmark[0].args[1]}
    assert "sae.report-runs_on_a_model" in named
    assert failures(named) == {}


FUTURE = "from __future__ import annotations\n"


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
    expected = r"plugin 'faulty' \(module faulty\), hook 'interpd_register_ops': .* is not a function marked @op"
    with pytest.raises(AssertionError, match=expected):
        checks_of(len)["loads"].run()


# slow: a fresh interpreter with torch for each
@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("print('hello')", "prints 'hello'"),
        ("import os; os.environ['X_SEEN'] = '1'", r"changes the environment \(X_SEEN\)"),
        ("import os; os.umask(0o077)", "changes the umask"),
        ("import torch; torch.set_num_threads(1)", "changes torch's number of threads"),
        ("import torch; torch.manual_seed(0)", "changes the seed of torch"),
        ("import torch; torch.set_default_dtype(torch.float64)", "changes torch's default dtype"),
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(1,), daemon=True).start()",
            "changes the number of threads",
        ),
    ],
    ids=["prints", "environment", "umask", "threads", "seed", "dtype", "thread"],
)
def test_an_import_with_effects_is_caught(tmp_path, monkeypatch, line, message):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("X_SEEN", "1")  # as this process has it, once the plugin was imported here
    (tmp_path / "interpd_effects.py").write_text(line)
    module = ModuleType("interpd_effects")
    module.__spec__ = object()
    with pytest.raises(AssertionError, match=message):
        conformance(module).pytestmark[0].args[1][1].values[0].run()
