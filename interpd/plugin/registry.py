"""The registry: imports the allowed plugins, checks all that they declare, and keeps what is sound.

A plugin is taken whole or not at all. One that cannot be imported, whose hooks fail or whose declarations are wrong
is listed as ``broken``, with the cause, and none of its operations is offered; the others are not affected. Loading
happens once per worker and gives a new, frozen registry each time it is called.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, TypeVar

import pluggy

from interpd.config import ModelSpec
from interpd.errors import InternalError
from interpd.graph.run import Event
from interpd.graph.schema import PluginInfo
from interpd.plugin import declared, hookspecs
from interpd.plugin.artifact import RegisteredArtifact
from interpd.plugin.declaration import DeclarationError, cause
from interpd.plugin.declared import Declarations
from interpd.plugin.discovery import BUILT_IN, Candidate, discover
from interpd.plugin.method import RegisteredMethod
from interpd.plugin.model import LoadedModel, ModelFiles
from interpd.plugin.op import RegisteredOp
from interpd.plugin.site_table import SiteTable

T = TypeVar("T")


@dataclass(frozen=True)
class Registry:
    """What the loaded plugins offer. Nothing can be added to it."""

    ops: Mapping[str, RegisteredOp]
    methods: Mapping[str, RegisteredMethod]
    artifact_kinds: Mapping[str, RegisteredArtifact]
    plugins: tuple[PluginInfo, ...]
    """Every plugin that is installed or was asked for, the built-in one first."""
    _hooks: pluggy.PluginManager = field(repr=False)
    _trace: Callable[[str], None] | None = field(repr=False)
    _failures: dict[str, int] = field(default_factory=dict, repr=False)

    def model_for_spec(self, spec: ModelSpec, files: ModelFiles | None = None) -> LoadedModel | None:
        """The model that a plugin builds for ``spec``; ``None`` when none knows it. What it raises comes out."""
        return self._hooks.hook.interpd_model_for_spec(spec=spec, files=files)

    def sites_for_model(self, model_config: Any) -> SiteTable | None:
        """The sites that a plugin knows for a model of this ``config``; ``None`` when none does."""
        return self._hooks.hook.interpd_sites_for_model(model_config=model_config)

    def tell(self, event: Event) -> None:
        """Hands ``event`` to every observer."""
        impls = self._hooks.hook.interpd_on_event.get_hookimpls()
        if impls and self._trace is not None:
            self._trace(_call_line("interpd_on_event", {"event": event}))
        for impl in impls:
            try:
                impl.function(*(event for _ in impl.argnames))
            except Exception:  # an observer's mistake must not reach the run that it observes; it is counted
                self._failures[impl.plugin_name] = self._failures.get(impl.plugin_name, 0) + 1

    @property
    def observer_failures(self) -> Mapping[str, int]:
        """How often the observers of each plugin have failed."""
        return MappingProxyType(self._failures)


def load_registry(
    allowed: Sequence[str],
    *,
    candidates: Sequence[Candidate] | None = None,
    trace: Callable[[str], None] | None = None,
) -> Registry:
    """A registry of the built-in plugin and the ``allowed`` ones. Never fails for what a plugin does.

    Args:
        allowed: Names of plugins (of their entry points), taken in this order: of two that offer the same, the first
            keeps it. What is installed but not named here is only listed.
        candidates: What could be loaded; what is installed when absent.
        trace: Is given one line per call of a hook.

    Raises:
        InternalError: The built-in plugin itself is broken.
    """
    found = discover() if candidates is None else tuple(candidates)
    loading = _Loading(_new_manager(trace))
    ranks = {name: rank for rank, name in reversed(list(enumerate((BUILT_IN, *allowed))))}
    in_order = sorted((item for item in found if item.name in ranks), key=lambda item: ranks[item.name])
    taken = {id(item): loading.take(item) for item in in_order}
    infos = [taken.get(id(item)) or _not_allowed(item) for item in found]
    if infos and (infos[0].name, infos[0].distribution, infos[0].status) == (BUILT_IN, "interpd", "broken"):
        raise InternalError(infos[0].problem)
    names = [item.name for item in found]
    infos += [_not_installed(name, names) for name in dict.fromkeys(allowed) if name not in names]
    return Registry(
        ops=MappingProxyType(loading.ops),
        methods=MappingProxyType(loading.methods),
        artifact_kinds=MappingProxyType(loading.artifact_kinds),
        plugins=tuple(infos),
        _hooks=loading.hooks,
        _trace=trace,
    )


def _new_manager(trace: Callable[[str], None] | None) -> pluggy.PluginManager:
    hooks = pluggy.PluginManager(hookspecs.PROJECT)
    hooks.add_hookspecs(hookspecs)
    if trace is not None:
        hooks.add_hookcall_monitoring(
            before=lambda name, impls, kwargs: trace(_call_line(name, kwargs)),
            after=lambda outcome, name, impls, kwargs: trace(
                f"{name} -> {outcome.exception or outcome.get_result()!r}"
            ),
        )
    return hooks


def _call_line(name: str, kwargs: Mapping[str, object]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in kwargs.items())})"


class _Loading:
    """What was taken so far."""

    def __init__(self, hooks: pluggy.PluginManager) -> None:
        self.hooks = hooks
        self.ops: dict[str, RegisteredOp] = {}
        self.methods: dict[str, RegisteredMethod] = {}
        self.artifact_kinds: dict[str, RegisteredArtifact] = {}

    def take(self, candidate: Candidate) -> PluginInfo:
        """Takes one plugin in whole, or says why not."""
        try:
            module = _imported(candidate)
            self._register(candidate, module)
            offered = self._declarations(candidate)
            self._refuse_clashes(candidate, offered)
        except _Broken as error:
            if self.hooks.has_plugin(candidate.name):
                self.hooks.unregister(name=candidate.name)
            return _info(candidate, "broken", problem=f"{candidate}{error}")
        self.ops.update(offered.ops)
        self.methods.update(offered.methods)
        self.artifact_kinds.update(offered.artifact_kinds)
        return _info(candidate, "loaded", ops=tuple(sorted({**offered.ops, **offered.methods})))

    def _register(self, candidate: Candidate, module: object) -> None:
        if self.hooks.has_plugin(candidate.name):
            raise _Broken(f": another plugin is called {candidate.name!r}; uninstall one of them")
        try:
            self.hooks.register(module, name=candidate.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise _Broken(f": {error}") from error
        for caller in self.hooks.get_hookcallers(module) or ():
            if not caller.has_spec():
                known = [name for name in vars(hookspecs) if name.startswith("interpd_")]
                raise _Broken(f", hook {caller.name!r}: there is no such hook{_nearest(caller.name, known)}")
        if not self.hooks.get_hookcallers(module):
            raise _Broken(f": {candidate.target} implements no hook; mark its functions with @hookimpl")

    def _declarations(self, candidate: Candidate) -> Declarations:
        """All that the plugin's hooks return, checked."""
        collected = {}
        others = [plugin for name, plugin in self.hooks.list_name_plugin() if name != candidate.name]
        for hook in ("interpd_register_artifacts", "interpd_register_ops", "interpd_register_methods"):
            call = self.hooks.subset_hook_caller(hook, remove_plugins=others)
            collected[hook] = _guarded(f", hook {hook!r}", lambda call=call: _all_of(call))
        try:
            return declared.checked(candidate.name, collected, kinds=self.artifact_kinds)
        except DeclarationError as error:
            raise _Broken(f", {error}") from error

    def _refuse_clashes(self, candidate: Candidate, offered: Declarations) -> None:
        taken = {**{f"op {n!r}": op.schema.plugin for n, op in {**self.ops, **self.methods}.items()}}
        taken |= {f"artifact {n!r}": kind.schema.plugin for n, kind in self.artifact_kinds.items()}
        new = [f"op {n!r}" for n in {**offered.ops, **offered.methods}]
        new += [f"artifact {n!r}" for n in offered.artifact_kinds]
        clashes = [f"{name} is already offered by plugin {taken[name]!r}" for name in new if name in taken]
        clashes = clashes or self._foreign_families(offered)
        if clashes:
            raise _Broken(f": {'; '.join(clashes)}, which the configuration names first")

    def _foreign_families(self, offered: Declarations) -> list[str]:
        owners = {_family(n): op.schema.plugin for n, op in {**self.ops, **self.methods}.items()}
        names = sorted({**offered.ops, **offered.methods})
        return [
            f"{n!r}: the family {_family(n)!r} is that of plugin {owners[_family(n)]!r}"
            for n in names
            if _family(n) in owners
        ]


def _all_of(hook: Any) -> list[object]:
    """All that the implementations of a hook return."""
    parts = hook()
    if len(parts) < len(hook.get_hookimpls()):
        raise DeclarationError("returns None; return a list")
    for part in parts:
        if callable(part):
            name = getattr(part, "__name__", "it")
            raise DeclarationError(f"returns {name!r} itself, expected a list; write return [{name}]")
    return [item for part in parts for item in part]


def _family(name: str) -> str:
    return name.partition(".")[0]


class _Broken(Exception):
    """Why a plugin is not taken, from the comma or colon after its name on."""


def _imported(candidate: Candidate) -> object:
    if candidate.name == BUILT_IN and candidate.distribution != "interpd":
        raise _Broken(f": the name {BUILT_IN!r} is taken by the built-in operations")
    return _guarded(f", import of {candidate.target!r}", candidate.load)


def _guarded(where: str, act: Callable[[], T]) -> T:
    try:
        return act()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may do anything, sys.exit() included, and must not end the worker
        raise _Broken(f"{where}: {cause(error)}") from error


def _not_allowed(candidate: Candidate) -> PluginInfo:
    return _info(candidate, "not_allowed", problem="installed, but not named in the configuration's plugins")


def _not_installed(name: str, names: Sequence[str]) -> PluginInfo:
    problem = f"plugin {name!r} is allowed but not installed{_nearest(name, names)}"
    return PluginInfo(name, "", "", "broken", problem=problem)


def _info(candidate: Candidate, status: str, *, problem: str = "", ops: tuple[str, ...] = ()) -> PluginInfo:
    return PluginInfo(candidate.name, candidate.distribution, candidate.version, status, problem=problem, ops=ops)


def _nearest(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, 1)
    return f"; nearest is {near[0]!r}" if near else ""
