"""What an evaluation is asked: methods by the name they have in the table, metrics, and how these are taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from interpd.errors import CallerError
from interpd.graph.schema import Manifest, OpSchema
from interpd_attribution.asked import COMMON, Asked
from interpd_attribution.evaluation.metrics import METRICS
from interpd_attribution.methods import schema_of
from interpd_client.options import RunOptions

METHOD = "attribution.evaluate"
DEFAULT_METRICS = ("comprehensiveness", "sufficiency", "deletion", "insertion", "sensitivity_n", "tau_loo")
REFERENCES = ("random", "leave_one_out")

Asking = str | tuple[str, Mapping[str, Any]]
Methods = Sequence[Asking] | Mapping[str, Asking]
"""Ids of methods, with their constants where they have some; a mapping says under which names."""

OF_SOME = {"baseline": "baseline", "reduce": "reduce", "target": "target", "contrast": "contrast_ids"}
"""Options of all that only some methods have, and the constant that tells: attention is the same for every target."""
OF_BASELINES = ("include_eos_baseline", "n_baselines")
"""Constants of ``METHOD`` that methods with a baseline have, too."""


@dataclass(frozen=True, kw_only=True)
class Repeating:
    """How metrics are taken for which methods run again.

    Args:
        n_noises: Noisy inputs of max_sensitivity.
        radius: Of the noise, the most in each dimension of a token's vector as a share of their root mean square.
        is_cascading: Whether randomization goes on from the output to the input, or block by block.
        seed: Of everything that is drawn.
    """

    n_noises: int = 5
    radius: float = 0.05
    is_cascading: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_noises < 1 or not 0 < self.radius < float("inf"):
            raise CallerError(
                f"n_noises is {self.n_noises} and radius {self.radius}: expected 1 or more, and more than 0"
            )


@dataclass(frozen=True)
class Job:
    """An evaluation, as far as no input says more."""

    methods: Mapping[str, Asked]
    """By their names in the table."""
    schemas: Mapping[str, OpSchema]
    metrics: tuple[str, ...]
    references: tuple[str, ...]
    repeating: Repeating
    evaluation: Asked
    """What ``METHOD`` is asked."""
    schema: OpSchema
    names: tuple[str, ...] = field(init=False)
    """The rows of the table."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", (*self.methods, *self.references))

    @property
    def of_workers(self) -> tuple[str, ...]:
        """The metrics that a worker takes of scores."""
        return tuple(name for name in self.metrics if METRICS[name].is_of_workers)


def job_of(
    manifest: Manifest, methods: Methods, metrics: Sequence[str], references: Sequence[str], options: Mapping[str, Any]
) -> Job:
    """What was asked for. Raises ``CallerError`` for metrics, methods and options that there are not."""
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        said = f"there is no {unknown[0]!r}" if unknown else "none was asked for"
        raise CallerError(f"metrics: {said}; there are {', '.join(METRICS)}")
    schema = manifest.ops.get(METHOD)
    if schema is None:
        raise CallerError(f"the workers of model {manifest.model.name!r} have no {METHOD}: serve --plugin attribution")
    common, repeating, own = _parted(schema, options)
    named = _named(methods)
    if not named:
        raise CallerError("methods: none was asked for")
    taken = [name for name in references if name in named or name not in REFERENCES]
    if taken:
        raise CallerError(f"references: {taken[0]!r} is not one of {', '.join(REFERENCES)}, or the name of a method")
    schemas = {name: schema_of(manifest, id_) for name, (id_, _) in named.items()}
    asked = {
        name: _asked(id_, constants, schemas[name], {**common, **_baselines(own)})
        for name, (id_, constants) in named.items()
    }
    shared = {name: value for name, value in common.items() if name not in ("reduce", "run")}
    evaluation = Asked(**shared, run=common["run"], constants=own)
    return Job(asked, schemas, tuple(metrics), tuple(references), repeating, evaluation, schema)


def _parted(schema: OpSchema, options: Mapping[str, Any]) -> tuple[dict[str, Any], Repeating, dict[str, Any]]:
    """(options of attributions, those of metrics that run methods again, constants of ``METHOD``)."""
    repeated = {one.name for one in fields(Repeating)}
    known = {param.name for param in schema.params} - {"metrics", "references"}
    common: dict[str, Any] = {"run": {}}
    rest: dict[str, Any] = {}
    for name, value in options.items():
        if name in RunOptions.__annotations__:
            common["run"][name] = value
        elif name in COMMON and name != "method":
            common[name] = value
        elif name not in known | repeated:
            hint = "constants of a method stand with it: methods=[('integrated_gradients', {'n_steps': 20})]"
            raise CallerError(f"an evaluation has no option {name!r}; {hint}")
        else:
            rest[name] = value
    useless = [name for name in ("granular", "on_partial", "step_scores") if common.get(name)]
    if useless:
        raise CallerError(f"{useless[0]!r} means nothing to an evaluation: leave it out")
    repeating = Repeating(**{name: value for name, value in rest.items() if name in repeated})
    return common, repeating, {name: value for name, value in rest.items() if name in known}


def _baselines(own: Mapping[str, Any]) -> dict[str, Any]:
    return {name: own[name] for name in OF_BASELINES if name in own}


def _asked(id_: str, constants: Mapping[str, Any], schema: OpSchema, common: Mapping[str, Any]) -> Asked:
    """What one method is asked: its own options before those of all."""
    known = {param.name for param in schema.params}
    needs = {**OF_SOME, **{name: name for name in OF_BASELINES}}
    shared = {name: value for name, value in common.items() if name not in needs or needs[name] in known}
    both = {**shared, **constants}
    ours = {name: value for name, value in both.items() if name in COMMON or name == "run"}
    return Asked(method=id_, **ours, constants={name: value for name, value in both.items() if name not in ours})


def _named(methods: Methods) -> dict[str, tuple[str, Mapping[str, Any]]]:
    if isinstance(methods, str):
        raise CallerError(f"methods is the text {methods!r}; write methods=[{methods!r}]")
    pairs = methods.items() if isinstance(methods, Mapping) else ((None, one) for one in methods)
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for given, one in pairs:
        id_, constants = (one, {}) if isinstance(one, str) else one
        words = ", ".join(f"{name}={value}" for name, value in constants.items())
        name = given or (f"{id_}({words})" if words else id_)
        if name in found:
            raise CallerError(f"methods: {name!r} is there twice")
        found[name] = (id_, constants)
    return found
