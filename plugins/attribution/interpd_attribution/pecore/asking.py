"""The two questions to the model: which tokens of the output depend on the contexts, and on what in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd.graph.schema import OpSchema
from interpd_attribution.attribution import Attribution, Token
from interpd_attribution.labels import labels
from interpd_attribution.methods import check_constants, schema_of
from interpd_attribution.pecore.arguments import ContextArguments
from interpd_attribution.pecore.sequences import Compared, Ids
from interpd_attribution.results import Outputs, outputs_of
from interpd_client import Model, Result

SET_HERE = ("target", "start", "stop", "span", "spans", "inputs", "features", "step_scores", "reduce")
"""Constants of methods that follow from the arguments."""


@dataclass(frozen=True)
class Sensitivity:
    """What the first question gave, for each token from the current output's first one on."""

    scores: tuple[float, ...]
    likeliest: tuple[int, ...]
    """What the model would have said without the contexts, given the same output before it."""
    attribution: Attribution
    """The same as a result without attributions: step scores of the sequence without contexts."""
    result: Result


@dataclass(frozen=True)
class Chosen:
    """A sensitive token: its place among the attributed ones, and what it is contrasted with."""

    place: int
    foil_id: int | None = None


def sensitivity(model: Model, both: Compared, metric: str, run: Mapping[str, Any]) -> Sensitivity:
    """How much each token depends on the contexts: one request, a pass over each sequence."""
    without, within = both.contextless, both.contextual
    n_steps = len(within.target) - within.start
    schema = schema_of(model.manifest, "dummy")
    constants: dict[str, Any] = {
        "step_scores": (metric,),
        "start": without.start,
        "contrast_ids": within.target,
        "contrast_positions": _positions(within, n_steps),
    }
    if within.source is not None:
        constants["contrast_source_ids"] = within.source
    with model.trace(without.prompt, **run) as t:
        out = t.op(schema.name, **constants)
        t.save(out=out, likeliest=t.logits[0, without.start - 1 : -1].argmax(-1))
    outputs = outputs_of(schema, t.result["out"])
    scores = np.asarray(outputs.arrays["step_scores"], np.float32)[0]
    source, target = _sides(t.result)
    told = Attribution(
        source=source or target[: without.start],
        target=target,
        step_scores={metric: scores},
        attr_pos_start=without.start,
        info={"attribution_method": "context sensitivity", "attributed_fn": metric},
    )
    return Sensitivity(tuple(map(float, scores)), tuple(map(int, t.result["likeliest"])), told, t.result)


def cues(
    model: Model, both: Compared, chosen: Sequence[Chosen], arguments: ContextArguments, run: Mapping[str, Any]
) -> tuple[list[Attribution], tuple[str, ...]]:
    """What each chosen token owes to everything before it, aggregated to numbers, and what the run warned of: one
    request for all of them."""
    if not chosen:
        return [], ()
    schema, reduction = _schema(model, arguments)
    groups = _groups(both, chosen, arguments)
    last = both.contextual.start + max(one.place for one in chosen)
    with model.trace(both.contextual.up_to(last + 1).prompt, **run) as t:
        nodes = []
        for group in groups:
            constants = {**_common(both, group, arguments, schema), **_contrast(both, group), **reduction}
            constants |= arguments.attribution_kwargs
            check_constants(schema, constants)
            nodes.append(t.op(schema.name, **constants))
        t.save(out=nodes)
    source, target = _sides(t.result)
    found: dict[int, Attribution] = {}
    for group, node in zip(groups, t.result["out"], strict=True):
        outputs = outputs_of(schema, node)
        for number, one in enumerate(group.chosen):
            column = number if _takes(schema, "spans") else one.place
            position = both.contextual.start + one.place
            made = _column(outputs, column, source, target[: position + 1], arguments)
            found[one.place] = _aggregated(made, arguments, is_reduced=bool(reduction))
    return [found[one.place] for one in chosen], t.result.warnings


@dataclass(frozen=True)
class _Group:
    """Tokens that one node explains."""

    chosen: tuple[Chosen, ...]
    foil: Ids | None
    """Whose tokens stand for the attributed ones."""
    is_forced: bool
    """Whether they are scored in their own context, and not in that of the attributed ones."""

    @property
    def stop(self) -> int:
        """How many attributed tokens there are up to the last chosen one."""
        return max(one.place for one in self.chosen) + 1


def _groups(both: Compared, chosen: Sequence[Chosen], arguments: ContextArguments) -> list[_Group]:
    """The fewest nodes. A foil that is scored in the attributed context has no context of its own, so that all such
    foils are tokens of one sequence; one that is must stand behind the output as it is."""
    if not arguments.is_contrastive:
        return [_Group(tuple(chosen), None, is_forced=False)]
    ids = both.contextual.target[both.contextual.start :]
    of_context = arguments.target.partition("(")[0].strip() == "kl_divergence"
    is_asked = bool(arguments.attribution_kwargs.get("contrast_force_inputs", False))
    same = [one for one in chosen if of_context or one.foil_id == ids[one.place]]
    others = [one for one in chosen if one not in same]
    groups = [_Group(tuple(same), both.contextless, is_forced=True)] if same else []
    for part in [[one] for one in others] if is_asked else [others] if others else []:
        foil = both.contextless
        for one in part:
            assert one.foil_id is not None
            foil = foil.with_token(foil.start + one.place, one.foil_id)
        groups.append(_Group(tuple(part), foil, is_forced=is_asked))
    return groups


def _common(both: Compared, group: _Group, arguments: ContextArguments, schema: OpSchema) -> dict[str, Any]:
    start = both.contextual.start
    found: dict[str, Any] = {"start": start, "stop": start + group.stop, "target": arguments.target}
    if _takes(schema, "spans"):
        columns = {one.place: number for number, one in enumerate(group.chosen)}
        found["spans"] = tuple(columns.get(place, -1) for place in range(group.stop))
    if both.contextual.source is not None:
        found["inputs"] = "all" if both.output_context is not None else "source"
    if not _takes(schema, "target"):
        del found["target"]
        if arguments.attributed_fn is not None:
            raise CallerError(
                f"method {arguments.attribution_method!r} attributes no step function: leave attributed_fn out"
            )
    return found


def _contrast(both: Compared, group: _Group) -> dict[str, Any]:
    if group.foil is None:
        return {}
    foil = group.foil.up_to(group.foil.start + group.stop)
    found: dict[str, Any] = {"contrast_ids": foil.target, "contrast_positions": _positions(foil, group.stop)}
    if group.is_forced:
        found["contrast_force_inputs"] = True
        if foil.source is not None:
            found["contrast_source_ids"] = foil.source
    return found


def _schema(model: Model, arguments: ContextArguments) -> tuple[OpSchema, dict[str, Any]]:
    """The method, and the reduction that its own machine does."""
    wrong = [name for name in arguments.attribution_kwargs if name in SET_HERE]
    if wrong:
        raise CallerError(f"attribution_kwargs: {wrong[0]!r} follows from the texts and the other arguments")
    numbers = schema_of(model.manifest, arguments.attribution_method)
    names, choices = arguments.attribution_aggregators, _choices(numbers, "reduce")
    if names is None:
        return numbers, {}
    if len(names) == 1 and names[0] in choices and arguments.attribution_selectors is None:
        return numbers, {"reduce": names[0]}
    return schema_of(model.manifest, arguments.attribution_method, granular=bool(choices)), {}


def _column(
    outputs: Outputs, column: int, source: tuple[Token, ...], target: tuple[Token, ...], arguments: ContextArguments
) -> Attribution:
    """The attribution of the last of some target tokens."""
    scores, n_source = outputs.scores[:, column : column + 1], len(source)
    is_whole = not source or arguments.output.has("context")
    return Attribution(
        source=source or target[:-1],
        target=target,
        source_attributions=scores[:n_source] if source else None,
        target_attributions=scores[n_source : n_source + len(target)] if is_whole else None,
        dims=outputs.dims,
        attr_pos_start=len(target) - 1,
        info={"attribution_method": arguments.attribution_method, "attributed_fn": arguments.target},
    )


def _aggregated(made: Attribution, arguments: ContextArguments, *, is_reduced: bool) -> Attribution:
    scaling = {"normalize": arguments.normalize_attributions, "rescale": arguments.rescale_attributions}
    names = None if is_reduced else arguments.attribution_aggregators
    if names is None and not made.dims and not any(scaling.values()):
        return made
    if arguments.attribution_selectors is None:
        found = made.aggregate(None if names is None else list(names), **scaling)
    else:
        found = made
        for name, entry in zip(names or (), arguments.attribution_selectors, strict=True):
            found = found.aggregate(name, select_idx=entry, **scaling)
    if found.dims or found.scores.shape != made.scores.shape[:2]:
        left = f"the axes {', '.join(found.dims)}" if found.dims else "other tokens"
        raise CallerError(
            f"attribution_aggregators {arguments.attribution_aggregators} leave {left}; expected one number a token"
        )
    return found


def _sides(result: Result) -> tuple[tuple[Token, ...], tuple[Token, ...]]:
    """The tokens of a run: source (none of a decoder-only model) and target."""
    tokens = result.tokens[0]
    target = tokens.target or tokens
    source = () if tokens.target is None else zip(labels(tokens), tokens.ids, strict=True)
    pairs = zip(labels(target), target.ids, strict=True)
    return tuple(Token(text, id_) for text, id_ in source), tuple(Token(text, id_) for text, id_ in pairs)


def _positions(ids: Ids, n_steps: int) -> tuple[int, ...]:
    return tuple(range(ids.start, ids.start + n_steps))


def _takes(schema: OpSchema, name: str) -> bool:
    return any(param.name == name for param in schema.params)


def _choices(schema: OpSchema, name: str) -> tuple[Any, ...]:
    return next((tuple(param.choices) for param in schema.params if param.name == name), ())
