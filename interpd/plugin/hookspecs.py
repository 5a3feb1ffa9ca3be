"""The six hooks: where a plugin meets interpd.

A function here, with its docstring, *is* the specification. An implementation marked ``hookimpl`` has the same name
and takes all or some of its arguments. Hooks run only in worker processes: the front imports no plugin.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from interpd.config import ModelSpec
from interpd.graph.run import Event
from interpd.plugin.model import LoadedModel, ModelFiles
from interpd.plugin.site_table import SiteTable

if TYPE_CHECKING:
    from interpd.plugin.op import RegisteredOp

PROJECT = "interpd"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as an implementation of the hook of the same name."""


# what a plugin declares: called once, when a worker starts


@hookspec
def interpd_register_ops() -> "Sequence[Callable[..., Any] | RegisteredOp]":  # type: ignore[empty-body]
    """The operations of this plugin: functions marked ``@op``.

    Runs in each worker, once, at its start.
    """


@hookspec
def interpd_register_methods() -> Sequence[Callable[..., Any]]:  # type: ignore[empty-body]
    """The methods of this plugin: functions marked ``@method``.

    Runs in each worker, once, at its start.
    """


@hookspec
def interpd_register_artifacts() -> Sequence[type]:  # type: ignore[empty-body]
    """The artifact kinds of this plugin: classes marked ``@artifact``.

    Runs in each worker, once, at its start.
    """


# what a plugin provides: the first plugin that does not answer None is taken


@hookspec(firstresult=True)
def interpd_model_for_spec(spec: ModelSpec, files: ModelFiles) -> LoadedModel | None:
    """The model for ``spec``, when this plugin knows how to build it; ``None`` to leave it to transformers.

    Runs in a worker, when it loads a model. Weights are safetensors; nothing is unpickled.

    Args:
        spec: Source, revision, dtype and device as configured; ``auto`` is left to the plugin.
        files: What the source holds, on demand; brings a model to its device and finds its tokenizer.
    """


@hookspec(firstresult=True)
def interpd_sites_for_model(model_config: Any) -> SiteTable | None:
    """The canonical sites of a model, when this plugin knows its architecture; ``None`` otherwise.

    Runs in a worker, after a model was loaded and before its self-test.

    Args:
        model_config: The model's ``config`` (``model_config.model_type`` names the architecture).
    """


# what a plugin observes: every plugin is told, failures are counted and reach nobody


@hookspec
def interpd_on_event(event: Event) -> None:
    """Nothing comes back: told of every event of every run, in order (``interpd.graph.run``).

    Runs in a worker, on its engine thread, between two steps: be quick. What an implementation raises is counted in
    the registry's ``observer_failures`` and does not reach the run.

    Args:
        event: ``Started``, ``Progress``, ``Result``, ``Done``, ``Failed``, ``Cancelled``, ...
    """
