"""What a run gives back: its outputs as data, and the account of how they came about."""

from importlib.metadata import version

import torch
from torch import Tensor

from interpd.engine.runs import Run
from interpd.engine.tensors import all_finite, to_data
from interpd.errors import CallerError, InternalError
from interpd.graph.digest import graph_digest
from interpd.graph.ir import Ref
from interpd.graph.run import Cost, Done, Event, Provenance, Result
from interpd.graph.schema import ModelInfo, PluginInfo

ENGINE_PARTS = ("interpd", "torch", "transformers", "nnsight")


def engine_versions() -> str:
    """``interpd 0.1.0, torch 2.13.0, transformers 5.23.0, nnsight 0.8.1``."""
    return ", ".join(f"{part} {version(part)}" for part in ENGINE_PARTS)


def results_of(run: Run) -> tuple[list[Result], list[str], list[str]]:
    """The outputs of a run that has ended well, the names of those that hold NaN or infinity, and warnings.

    Raises:
        CallerError: An output's steps have different shapes.
    """
    found: list[Result] = []
    non_finite: list[str] = []
    warnings = [*run.program.notes, *run.warnings.values()]
    for name, ref in run.program.request.graph.outputs.items():
        value = _value(run, name, ref)
        if value is None:
            warnings.append(f"output {name!r} is absent: the generation ended before its steps")
            continue
        if value.is_floating_point() and not all_finite(value):
            non_finite.append(name)
        found.append(Result(run.id, name, to_data(value), _axes(run, name, value)))
    return found, non_finite, warnings


def _value(run: Run, name: str, ref: Ref) -> Tensor | None:
    if run.program.steps[ref.node].plan.stacked:
        values = run.values.steps_of(ref)
        if len({tuple(value.shape) for value in values}) > 1:
            shapes = ", ".join(str(list(value.shape)) for value in values[:3])
            raise CallerError(f"output {name!r} has another shape at each step ({shapes}, ...): select positions first")
        return torch.stack(values) if values else None
    if run.values.has(ref.node):
        return torch.as_tensor(run.values.get(ref))
    if run.program.request.generation is not None:
        return None
    raise InternalError(f"output {name!r} was not computed")


def _axes(run: Run, name: str, value: Tensor) -> tuple[str, ...]:
    axes = tuple(dim.name for dim in run.program.outputs[name].dims)
    return axes if len(axes) == value.ndim else ("",) * value.ndim


def done(
    run: Run, results: list[Result], non_finite: list[str], warnings: list[str], facts: tuple[ModelInfo, str, float]
) -> Event:
    """The terminal event of a run that has ended well.

    Args:
        run: The run.
        results: Its outputs.
        non_finite: Names of outputs with NaN or infinity.
        warnings: For the caller.
        facts: The model, the versions of the engine, and the monotonic time now.
    """
    info, versions, now = facts
    used, request = run.used, run.program.request
    started = used.started or now
    return Done(
        run.id,
        provenance=Provenance(
            graph_digest=graph_digest(request.graph, request.prompts, request.generation),
            model=info.name,
            model_revision=info.revision,
            plugins=tuple(sorted(used.plugins.items())),
            engine=f"{versions}, peft {version('peft')}" if request.adapter else versions,
            dtype=info.dtype,
            device=info.device,
            artifacts=tuple(sorted(used.artifacts)),
            adapter=request.adapter,
            adapter_digest=run.adapter_key,
        ),
        cost=Cost(
            n_tokens=used.n_tokens,
            n_layers_run=used.n_layers,
            n_passes=len(used.shared_with),
            bytes_returned=sum(len(result.tensor.data) for result in results),
            queued_ms=(started - used.taken_in) * 1e3,
            run_ms=(now - started) * 1e3,
            shared_with=tuple(used.shared_with),
        ),
        generated=tuple(run.generated[invoke] for invoke in sorted(run.generated)),
        non_finite=tuple(non_finite),
        warnings=tuple(warnings),
    )


def plugins_of(run: Run, plugins: tuple[PluginInfo, ...]) -> dict[str, str]:
    """Name and version of each plugin whose operations or methods the run uses."""
    versions = {plugin.name: plugin.version for plugin in plugins}
    names = {step.schema.plugin for step in run.program.steps} - {"interpd"}
    return {name: versions.get(name, "") for name in sorted(names)}
