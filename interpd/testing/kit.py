"""The conformance kit: one line gives a plugin's author a test of every property that the engine relies on.

    test_conforms = conformance(interpd_sae, examples={"sae.clamp": {"feature": 0}})

Properties are derived from the schemas: random inputs of the declared types, artifacts with random weights. What a
schema cannot say (which constants make sense) is given by examples.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from interpd.graph.schema import OpSchema
from interpd.plugin.artifact import load_artifact, save_artifact
from interpd.plugin.discovery import candidate_of
from interpd.plugin.op import RegisteredOp
from interpd.plugin.registry import Registry, load_registry
from interpd.testing import method_runs, properties
from interpd.testing.in_process import InProcessModel
from interpd.testing.samples import Sampler, Sizes, random_artifact

Examples = Mapping[str, Mapping[str, Any]]
Refusals = Mapping[str, Sequence[Mapping[str, Any]]]
Artifacts = Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """One property of one declaration: a parameter of the test that ``conformance`` makes."""

    name: str
    """``sae.encode-keeps_rows_apart``."""
    run: Callable[[], None]
    """Raises ``AssertionError`` with a message that names the declaration."""


def conformance(
    module: ModuleType,
    *,
    examples: Examples | None = None,
    refuses: Refusals | None = None,
    artifacts: Artifacts | None = None,
) -> Callable[..., None]:
    """A parametrised test function: assign it to a name that begins with ``test_``.

    Args:
        module: The plugin's module, the one that its entry point names.
        examples: For each operation or method the constants that have no default, and tensors for ports on which
            random numbers make no sense.
        refuses: For each operation constants that it must refuse with ``CallerError``.
        artifacts: For each artifact kind an instance to use; random weights otherwise.
    """
    checks = list(_checks(module, examples or {}, refuses or {}, artifacts or {}))

    @pytest.mark.parametrize("check", [pytest.param(check, id=check.name) for check in checks])
    def test_conforms(check: Check) -> None:
        check.run()

    return test_conforms


def _checks(module: ModuleType, examples: Examples, refuses: Refusals, artifacts: Artifacts) -> Iterator[Check]:
    registry = load_registry([_NAME], candidates=[candidate_of(module, _NAME)])
    yield Check("loads", lambda: _assert_loaded(registry))
    yield Check("imports_without_effects", lambda: _assert_import_has_no_effects(module))
    yield Check("arguments_of_the_kit", lambda: _assert_known(registry, {**examples, **refuses}, artifacts))
    for op in registry.ops.values():
        sampler = Sampler(op, examples.get(op.schema.name, {}), artifacts, registry.artifact_kinds)
        for name, check in _properties(op.schema, refuses.get(op.schema.name, ())):
            yield Check(
                f"{op.schema.name}-{name}", lambda op=op, sampler=sampler, check=check: _run(check, op, sampler)
            )
    for kind in registry.artifact_kinds:
        yield Check(f"{kind}-survives_its_file", lambda kind=kind: _assert_round_trip(registry, kind, artifacts))
    yield from _method_checks(module, registry, examples, artifacts)


_NAME = "under_test"


def _properties(schema: OpSchema, refused: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, properties.Property]]:
    checks = [
        properties.has_a_summary,
        properties.paper_has_a_known_form,
        properties.survives_the_wire,
        properties.returns_what_it_declares,
        properties.takes_one_row_and_one_position,
        properties.leaves_its_inputs_alone,
        properties.is_deterministic,
        properties.refuses_what_it_cannot_take,
    ]
    if properties.has_rows(schema) and not schema.rows_mix:
        checks.append(properties.keeps_rows_apart)
    yield from ((check.__name__, check) for check in checks)
    for index, params in enumerate(refused):
        yield f"refuses_{index}", properties.refusal(params)


def _run(check: properties.Property, op: RegisteredOp, sampler: Sampler) -> None:
    _assert_examples(sampler)
    check(op, sampler)


def _assert_examples(sampler: Sampler) -> None:
    name, missing = sampler.schema.name, sampler.missing()
    words = ", ".join(f"{constant}=..." for constant in missing)
    assert not missing, (
        f"{name!r}: constants without a default need an example: conformance(..., examples={{{name!r}: dict({words})}})"
    )


def _method_checks(module: ModuleType, registry: Registry, examples: Examples, artifacts: Artifacts) -> Iterator[Check]:
    for method in registry.methods.values():
        name = method.schema.name
        like_op = RegisteredOp(method.schema, method.fn)
        sampler = Sampler(like_op, examples.get(name, {}), artifacts, registry.artifact_kinds)
        for check in (properties.has_a_summary, properties.paper_has_a_known_form, properties.survives_the_wire):
            yield Check(f"{name}-{check.__name__}", lambda op=like_op, s=sampler, check=check: check(op, s))
        for run_name, check in method_runs.PROPERTIES.items():
            yield Check(f"{name}-{run_name}", lambda s=sampler, check=check: _run_method(check, module, s))


def _run_method(check: method_runs.MethodProperty, module: ModuleType, sampler: Sampler) -> None:
    _assert_examples(sampler)
    with InProcessModel({_NAME: module}) as model:
        check(model, sampler.schema, sampler)


def _assert_loaded(registry: Registry) -> None:
    (info,) = registry.plugins
    assert info.status == "loaded", info.problem
    if not (registry.ops or registry.methods or registry.artifact_kinds):
        raise AssertionError(f"module {info.name!r} declares nothing; return its functions from interpd_register_ops")


def _assert_known(registry: Registry, examples: Mapping[str, object], artifacts: Mapping[str, object]) -> None:
    declared = [*registry.ops, *registry.methods]
    for given, known, what in ((examples, declared, "op or method"), (artifacts, registry.artifact_kinds, "artifact")):
        for name in given:
            near = get_close_matches(name, known, 1)
            hint = f"; nearest is {near[0]!r}" if near else ""
            assert name in known, f"the plugin declares no {what} {name!r}{hint}"


_IMPORT = """
import os, sys, threading
before = dict(os.environ), os.getcwd(), threading.active_count()
import {module}
after = dict(os.environ), os.getcwd(), threading.active_count()
for word, one, other in zip(("the environment", "the working directory", "the number of threads"), before, after):
    if one != other:
        sys.exit(f"changes {{word}}")
torch = sys.modules.get("torch")
if torch and torch.cuda.is_initialized():
    sys.exit("initialises CUDA")
if torch and (torch.get_default_dtype() != torch.float32 or not torch.is_grad_enabled()):
    sys.exit("changes torch's default dtype or grad mode")
"""


def _assert_import_has_no_effects(module: ModuleType) -> None:
    if module.__spec__ is None:
        pytest.skip(f"module {module.__name__!r} was not imported from a file")
    code = f"import sys; sys.path[:] = {sys.path!r}\n" + _IMPORT.format(module=module.__name__)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    said = done.stdout.strip()
    assert done.returncode == 0, f"importing {module.__name__!r}: {done.stderr.strip()[-2000:]}"
    assert not said, f"importing {module.__name__!r} prints {said[:200]!r}"


def _assert_round_trip(registry: Registry, kind: str, artifacts: Artifacts) -> None:
    registered = registry.artifact_kinds[kind]
    made = artifacts.get(kind)
    if made is None:
        made = random_artifact(registered, Sizes({}), torch.Generator().manual_seed(0), torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "artifact.safetensors")
        save_artifact(made, path)
        loaded = load_artifact(registered.cls, path)
    for name, declared in registered.schema.fields:
        one, other = getattr(made, name), getattr(loaded, name)
        same = one is other is None or (one is not None and torch.equal(one, other))
        assert same, f"artifact {kind!r}: field {name!r} ({declared}) does not come back from its file as it was"
