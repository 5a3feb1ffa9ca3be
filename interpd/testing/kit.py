"""The conformance kit: one line gives a plugin's author a test of every property that the engine relies on.

    test_conforms = conformance(interpd_sae, examples={"sae.clamp": {"feature": 0}})

Properties are derived from the schemas: random inputs of the declared types, artifacts with random weights. What a
schema cannot say (which constants make sense) is given by examples.
"""

import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import interpd
from interpd.plugin.artifact import RegisteredArtifact, load_artifact, save_artifact
from interpd.plugin.discovery import GROUP, candidate_of
from interpd.plugin.op import RegisteredOp
from interpd.plugin.registry import Registry, load_registry
from interpd.testing import declarations, method_runs, properties
from interpd.testing.imports import imports_without_effects
from interpd.testing.lent_model import LentModel
from interpd.testing.samples import Sampler, Sizes, random_artifact, without_default
from interpd.testing.tiny_models import TinyModel

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
    marks: Mapping[str, pytest.MarkDecorator] | None = None,
    model: Callable[[], TinyModel] | None = None,
) -> Callable[..., None]:
    """A parametrised test function: assign it to a name that begins with ``test_``.

    Args:
        module: The plugin's module, the one that its entry point names.
        examples: For each operation or method the constants that have no default, and tensors for ports on which
            random numbers make no sense.
        refuses: For each operation constants that it must refuse with ``CallerError``.
        artifacts: For each artifact kind an instance to use; random weights otherwise.
        marks: For checks by their names: ``{"imports_without_effects": pytest.mark.slow}`` keeps the one that starts
            a process (seconds) out of a quick run.
        model: Makes the model that methods run on, for those of one architecture; a random GPT-2 otherwise. Called
            again after a check that left its model changed.

    Raises:
        ValueError: A mark for a check that there is not.
    """
    marks = marks or {}
    checks = list(_Kit(module, examples or {}, refuses or {}, artifacts or {}, model).checks())

    if unknown := sorted(marks.keys() - {check.name for check in checks}):
        raise ValueError(f"marks: there is no check {unknown[0]!r}")
    cases = [pytest.param(check, id=check.name, marks=marks.get(check.name, ())) for check in checks]

    @pytest.mark.parametrize("check", cases)
    def test_conforms(check: Check) -> None:
        if said := _failure(check):
            # the message says all: what pytest would print besides is the kit's own source
            pytest.fail(said, pytrace=False)

    return test_conforms


def _failure(check: Check) -> str:
    """What is wrong, with the lines of the plugin behind it; empty when nothing is."""
    try:
        check.run()
    except AssertionError as error:
        return f"{error}{_plugins_lines(error)}"
    return ""


class _Once:
    """A check on which others build: it runs once, and its verdict is remembered."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self.name = name
        self._run = run
        self._error: AssertionError | None = None
        self._has_run = False

    def __call__(self) -> None:
        if not self._has_run:
            self._has_run = True
            try:
                self._run()
            except AssertionError as error:
                self._error = error
        if self._error is not None:
            raise self._error

    def must_hold(self) -> None:
        """Skips the check that asks, where this one fails: one fault, one failure."""
        try:
            self()
        except AssertionError:
            pytest.skip(f"see {self.name}")


class _Kit:
    """The checks of one plugin."""

    def __init__(
        self,
        module: ModuleType,
        examples: Examples,
        refuses: Refusals,
        artifacts: Artifacts,
        model: Callable[[], TinyModel] | None,
    ) -> None:
        self._module, self._name = module, _name_of(module)
        self._examples, self._refuses, self._artifacts = examples, refuses, artifacts
        candidate = replace(candidate_of(module, self._name), distribution="module", version=module.__name__)
        self._registry = load_registry([self._name], candidates=[candidate])
        self._lent = LentModel({self._name: module}, model)

    def checks(self) -> Iterator[Check]:
        """All of them; the first ones say whether there is anything to look at."""
        registry = self._registry
        yield Check("loads", lambda: _assert_loaded(registry))
        yield Check("imports_without_effects", lambda: imports_without_effects(self._module))
        yield Check("arguments_of_the_kit", self._assert_known)
        made = {kind: _Once(f"{kind}-can_be_made", partial(self._make, kind)) for kind in registry.artifact_kinds}
        for kind, registered in registry.artifact_kinds.items():
            yield Check(f"{kind}-has_a_summary", partial(declarations.artifact_has_a_summary, registered))
            on_tensors = partial(declarations.artifact_is_declared_on_tensors, registered)
            yield Check(f"{kind}-is_declared_on_tensors", on_tensors)
            yield Check(made[kind].name, made[kind])
            yield Check(f"{kind}-survives_its_file", _after([made[kind]], partial(self._assert_round_trip, kind)))
        for op in registry.ops.values():
            yield from self._op_checks(op, made)
        for method in registry.methods.values():
            yield from self._method_checks(RegisteredOp(method.schema, method.fn), made)

    def _sampler(self, op: RegisteredOp) -> Sampler:
        example = self._examples.get(op.schema.name, {})
        return Sampler(op, example, self._artifacts, self._registry.artifact_kinds)

    def _declared(self, op: RegisteredOp, sampler: Sampler) -> Iterator[Check]:
        """What needs no call."""
        checks = [declarations.has_a_summary, declarations.paper_has_a_known_form, declarations.survives_the_wire]
        checks += [declarations.binds_its_axes, declarations.is_declared_on_tensors]
        if op.schema.is_method:
            checks.append(declarations.types_its_context)
        yield from (Check(f"{op.schema.name}-{check.__name__}", partial(check, op, sampler)) for check in checks)

    def _op_checks(self, op: RegisteredOp, made: Mapping[str, _Once]) -> Iterator[Check]:
        name, sampler = op.schema.name, self._sampler(op)
        yield from self._declared(op, sampler)
        given, needs = self._given(sampler, made)
        runs = _Once(
            f"{name}-returns_what_it_declares",
            _after(needs, partial(properties.returns_what_it_declares, op, sampler)),
        )
        yield Check(given.name, given)
        yield Check(runs.name, runs)
        needs = [*needs, runs]
        checks = [(check.__name__, check) for check in properties.properties_of(op.schema, sampler)]
        checks += [(f"refuses_{i}", properties.refusal(odd)) for i, odd in enumerate(self._refuses.get(name, ()))]
        yield from (Check(f"{name}-{word}", _after(needs, partial(check, op, sampler))) for word, check in checks)

    def _method_checks(self, method: RegisteredOp, made: Mapping[str, _Once]) -> Iterator[Check]:
        name, sampler = method.schema.name, self._sampler(method)
        yield from self._declared(method, sampler)
        given, needs = self._given(sampler, made)
        yield Check(given.name, given)
        for word, check in method_runs.PROPERTIES.items():
            one = _Once(f"{name}-{word}", _after(needs, partial(self._run_method, check, sampler)))
            yield Check(one.name, one)
            if check is method_runs.runs_on_a_model:
                needs = [*needs, one]

    def _given(self, sampler: Sampler, made: Mapping[str, _Once]) -> tuple[_Once, list[_Once]]:
        """Whether the author has given what the kit cannot make up, and all that a call needs."""
        given = _Once(f"{sampler.schema.name}-has_its_examples", partial(_assert_examples, sampler))
        return given, [given, *(made[kind] for kind in sampler.kinds())]

    def _run_method(self, check: method_runs.MethodProperty, sampler: Sampler) -> None:
        with self._lent.lent() as model:
            check(model, sampler.schema, sampler)

    def _assert_known(self) -> None:
        offered = [*self._registry.ops, *self._registry.methods]
        kinds = [*self._registry.artifact_kinds]
        named = [(name, offered, "op or method") for name in {**self._examples, **self._refuses}]
        for name, known, what in [*named, *((name, kinds, "artifact") for name in self._artifacts)]:
            near = get_close_matches(name, known, 1)
            hint = f"; nearest is {near[0]!r}" if near else ""
            if name not in known:
                raise AssertionError(f"the plugin declares no {what} {name!r}{hint}")

    def _make(self, kind: str) -> Any:
        registered = self._registry.artifact_kinds[kind]
        if kind in self._artifacts:
            return self._artifacts[kind]
        if lacking := without_default(registered):
            fields = ", ".join(map(repr, lacking))
            raise AssertionError(
                f"artifact {kind!r}: the kit cannot choose {fields}; give a default, or an instance: "
                f"conformance(..., artifacts={{{kind!r}: {registered.cls.__name__}(...)}})"
            )
        try:
            return random_artifact(registered, Sizes({}), torch.Generator().manual_seed(0), torch.float32)
        except Exception as error:  # whatever the class raises is a finding, to be named after its kind
            raise AssertionError(
                f"artifact {kind!r} raised {type(error).__name__} on random weights: {error}; give an instance: "
                f"conformance(..., artifacts={{{kind!r}: {registered.cls.__name__}(...)}})"
            ) from error

    def _assert_round_trip(self, kind: str) -> None:
        registered, made = self._registry.artifact_kinds[kind], self._make(kind)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "artifact.safetensors")
            save_artifact(made, path)
            loaded = load_artifact(registered.cls, path)
        _assert_equal(registered, made, loaded)


def _name_of(module: ModuleType) -> str:
    """What the plugin is called where it is installed, else what its module is."""
    installed = [point.name for point in entry_points(group=GROUP) if point.value == module.__name__]
    return installed[0] if installed else module.__name__


def _after(needs: Sequence[_Once], run: Callable[[], None]) -> Callable[[], None]:
    """``run`` with the checks on which it builds before it."""

    def after() -> None:
        for need in needs:
            need.must_hold()
        run()

    return after


def _assert_examples(sampler: Sampler) -> None:
    name, missing = sampler.schema.name, sampler.missing()
    words = ", ".join(f"{constant}=..." for constant in missing)
    if missing:
        raise AssertionError(
            f"{name!r}: constants without a default need an example: "
            f"conformance(..., examples={{{name!r}: dict({words})}})"
        )


def _assert_loaded(registry: Registry) -> None:
    (info,) = registry.plugins
    if info.status != "loaded":
        raise AssertionError(info.problem)
    if not (registry.ops or registry.methods or registry.artifact_kinds):
        raise AssertionError(f"module {info.name!r} declares nothing; return its functions from interpd_register_ops")


def _assert_equal(kind: RegisteredArtifact, made: Any, loaded: Any) -> None:
    for name, declared in kind.schema.fields:
        one, other = getattr(made, name), getattr(loaded, name)
        same = one is other is None or (one is not None and torch.equal(one, other))
        if not same:
            raise AssertionError(
                f"artifact {kind.schema.kind!r}: field {name!r} ({declared}) does not come back from its file as it was"
            )


def _plugins_lines(error: BaseException) -> str:
    """The lines of the plugin's own source behind a failure, as in a traceback; empty when there are none."""
    while error.__cause__ is not None:
        error = error.__cause__
    ours = str(Path(interpd.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    first = next((at for at, frame in enumerate(frames) if not frame.filename.startswith(ours)), len(frames))
    return "".join(["\n", *traceback.format_list(frames[first:])]) if frames[first:] else ""
