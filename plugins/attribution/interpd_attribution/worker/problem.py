"""One attribution problem: whose inputs, which columns, which score; and the scores of changed inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, Recomputed, Session
from interpd_attribution.worker.groups import Groups, groups_of
from interpd_attribution.worker.memory import (
    CPU_GRADIENT_BYTES,
    CPU_GRADIENTS,
    CPU_ROWS,
    MOST_ROWS,
    available,
    bytes_per_gradient,
    bytes_per_layer,
    bytes_per_row,
    bytes_recorded,
    chunks,
)
from interpd_attribution.worker.passes import Edit, Model, Seen
from interpd_attribution.worker.request import Request
from interpd_attribution.worker.scoring.contrast import Context, FoilTokens, foils_of, own_context
from interpd_attribution.worker.scoring.expression import Score, score_of
from interpd_attribution.worker.scoring.step import Foil, Step
from interpd_attribution.worker.sequence import Sequence as Ids
from interpd_attribution.worker.sequence import Side, sequence_of

Value = Recomputed[Float[Tensor, "..."]]


@dataclass(frozen=True)
class Points:
    """Inputs to look at: vectors for all attributed positions, in rows that are made when they are needed."""

    n: int
    at: Callable[[slice], Tensor]
    """The vectors of some rows, ``[row position d_model]``."""


def points(vectors: Tensor) -> Points:
    """Points that are there already: ``[row position d_model]``."""
    return Points(len(vectors), lambda rows: vectors[rows])


@dataclass(frozen=True)
class End:
    """Where a pass ends for gradients: a value of which each position decides the scores of steps of its own."""

    value: Tensor
    """``[row pos d_model]``."""
    shares: Tensor
    """``[column pos]``: 1.0 where the position decides a step of the column."""


@dataclass(frozen=True)
class Scored:
    """The target's scores at some rows."""

    columns: Tensor
    """``[row column]``."""
    ends: tuple[End, ...]
    """Empty: gradients go through the scores themselves."""
    values: Mapping[str, Tensor] = field(default_factory=dict)
    """Of the sites that were asked for."""


class Problem:
    """What every method works on. Inputs are vectors, ``[position d_model]`` in float32, of the attributed sides."""

    def __init__(self, ctx: MethodContext, request: Request, value: Value | None = None) -> None:
        self.ctx, self.session, self.request = ctx, ctx.session, request
        self.value = value
        """What is attributed instead of predictions: a value of the graph, a column for each of its numbers."""
        self.model = Model(ctx.session)
        self.sequence: Ids = sequence_of(ctx, request.start, request.stop, needs_steps=value is None)
        self.columns: Groups = _columns(request, self.sequence.n_steps if value is None else self._n_numbers())
        self.features: Groups = groups_of(request.features, self.sequence.n_positions, "features")
        self.sides: tuple[Side, ...] = _attributed(request.inputs, self.sequence)
        self.positions = slice(self.sides[0].first, self.sides[-1].positions.stop)
        """Which of all positions are attributed."""
        self.target: Score = score_of(request.target)
        self.step_scores: tuple[Score, ...] = tuple(map(score_of, request.step_scores))
        n_vocab = self.session.info.sizes.get("d_vocab", 1 << 62)
        self.foils: tuple[FoilTokens, ...] = foils_of(request, self.sequence, self.columns.n, n_vocab)
        for score in (self.target, *self.step_scores):
            if score.function.contrastive and not self.foils:
                raise CallerError(f"{score.text!r} contrasts with a foil: give contrast_ids")
        self._fixed: dict[int, Seen] = {}
        self._done, self._total, self._what = 0, 1, "gradients"

    @cached_property
    def inputs(self) -> Tensor:
        """The vectors of the attributed positions as they are, the graph's own writes in force."""
        return self.embedded(self.context)

    @cached_property
    def context(self) -> Context:
        """That of the attributed tokens."""
        return own_context(self.sequence)

    def embedded(self, context: Context) -> Tensor:
        """The token embeddings of a context at the attributed positions, ``[position d_model]`` in float32."""
        values = self.model.run(context, 1, {}, reads=[side.site for side in self.sides])
        parts = [values[side.site][0].float() for side in self.sides]
        if len({part.shape[-1] for part in parts}) > 1:
            raise CallerError(
                "the two sides have vectors of different sizes: attribute one, inputs='source' or 'target'"
            )
        return torch.cat(parts)

    def scored(
        self,
        vectors: Tensor | None = None,
        *,
        edits: Mapping[str, Edit] | None = None,
        reads: Sequence[str] = (),
        n_rows: int = 1,
        grad: bool = False,
    ) -> Scored:
        """The target's scores, in one pass (and one for each foil with a context of its own).

        Args:
            vectors: Of the attributed positions, ``[row position d_model]``; none: as they are.
            edits: Changes at other sites.
            reads: Sites whose values are wanted too.
            n_rows: How many rows there are where no vectors say so.
            grad: Keep what gradients need.
        """
        n_rows = n_rows if vectors is None else len(vectors)
        all_edits = {**self.put(vectors), **(edits or {})}
        if self.value is not None:
            return self._scored_value(n_rows, all_edits, reads, grad)
        own = self.model.see(self.context, n_rows, all_edits, reads=reads, grad=grad)
        forced = self.request.contrast_force_inputs and self.target.function.contrastive
        others = [self._of_foil(number, vectors, grad) for number in range(len(self.foils))] if forced else []
        scores = self.target(self._step(own, others, n_rows, all_edits))
        columns = self.columns.summed(scores, 1)
        return Scored(columns, self._ends(own, others) if grad else (), own.values)

    def scores(self, at: Points) -> Tensor:
        """The target's scores at points, ``[row column]``, without gradients."""
        size = self.rows_per_pass(grad=False)
        return torch.cat([self.scored(at.at(rows)).columns for rows in chunks(at.n, size)])

    def told(self) -> Tensor:
        """The step scores that were asked for, ``[score token]``."""
        if not self.step_scores:
            return torch.zeros(0, self.sequence.n_steps, device=self.session.device)
        own = self.model.see(self.context, 1, {})
        contrasts = any(score.function.contrastive for score in self.step_scores)
        others = [self._of_foil(number, None, False) for number in range(len(self.foils))] if contrasts else []
        step = self._step(own, others, 1, {})
        return torch.stack([score(step)[0].float() for score in self.step_scores])

    def sees(self, positions: slice | None = None) -> Tensor:
        """Whether a feature can explain a column by one of ``positions``: ``[feature column]``.

        ``positions``: among all; none: those that are attributed.
        """
        sees = self.sequence.sees().float() if self.value is None else torch.ones(1, self.sequence.n_positions)
        attributed = torch.zeros(self.sequence.n_positions)
        attributed[positions or self.positions] = 1.0
        columns = self.columns.members() if self.value is None else torch.ones(self.columns.n, 1)
        return (columns @ (sees * attributed) @ self.features.members().T > 0).T

    def rows_per_pass(self, *, grad: bool, logits: bool = True) -> int:
        """How many rows fit into a pass, which may end before the logits."""
        if self.request.rows_per_pass < 0:
            raise CallerError(
                f"rows_per_pass is {self.request.rows_per_pass}, expected 1 or more, or 0: as memory allows"
            )
        size = bytes_per_row(self.session, self.sequence, grad=grad, logits=logits)
        most = MOST_ROWS
        if self.session.device.type == "cpu":
            most = CPU_GRADIENTS // 2 if grad else CPU_ROWS
        return self.request.rows_per_pass or min(most, max(1, available(self.session.device) // size))

    def cuts(self, n_columns: int) -> tuple[str, ...]:
        """The sites at which a pass for gradients of some columns is cut, so that not all of it is recorded at once.

        None where all of it may be, or where it cannot be cut: foils in contexts that share features with the target's.
        """
        most = bytes_recorded(self.session.device, n_columns)
        if bytes_per_row(self.session, self.sequence, grad=True) <= most:
            return ()
        if self.request.contrast_force_inputs and any(
            self._put(self.inputs[None], foil.context) for foil in self.foils
        ):
            return ()
        layers_per_part = max(1, most // bytes_per_layer(self.session, self.sequence.n_positions))
        return _every(layers_per_part, self.session, self.session.cuts(() if self.value is None else (self.value,)))

    def columns_per_gradient(self, n_rows: int) -> int:
        """How many columns' gradients fit beside one another."""
        size = bytes_per_gradient(self.session, self.sequence.n_positions) * n_rows
        if self.session.device.type == "cpu":
            return max(1, min(CPU_GRADIENTS // n_rows, CPU_GRADIENT_BYTES // size))
        return max(1, available(self.session.device) // 4 // size)

    def expect(self, total: int, what: str = "gradients") -> None:
        """Says how much work there will be, for ``worked``."""
        self._total, self._what = max(total, 1), what

    def worked(self, done: int) -> None:
        """Says that so much of it is done, where that makes a hundredth, and gives others their turn."""
        before, self._done = self._done, min(self._done + done, self._total)
        if self._done * 100 // self._total > before * 100 // self._total:
            self.ctx.progress(self._done, self._total, self._what)
        else:
            self.ctx.raise_if_cancelled()

    def _scored_value(self, n_rows: int, edits: Mapping[str, Edit], reads: Sequence[str], grad: bool) -> Scored:
        found = self.model.run(self.context, n_rows, edits, reads=reads, values=[self.value], grad=grad)
        numbers = self.columns.summed(found[self.value].reshape(n_rows, -1).float(), 1)
        return Scored(numbers, (), {site: found[site] for site in reads})

    def _n_numbers(self) -> int:
        """How many numbers the attributed value has."""
        if self.request.target != Request.target or self.request.contrast_force_inputs:
            raise CallerError("the attributed value is the target: leave 'target' and contrast_force_inputs out")
        return self.model.run(self.context, 1, {}, values=[self.value])[self.value][0].numel()

    def _step(self, own: Seen, others: Sequence[Seen], n_rows: int, edits: Mapping[str, Edit]) -> Step:
        def dropped(seeds: Sequence[int]) -> Tensor:
            passes = (self.model.see(self.context, n_rows, edits, dropout_seed=seed) for seed in seeds)
            return torch.stack([seen.logits.detach() for seen in passes])

        if others:
            pairs = zip(others, self.foils, strict=True)
            foils = tuple(Foil(seen.logits, foil.ids, foil.share) for seen, foil in pairs)
        elif any(foil.share is not None for foil in self.foils) and self.target.function.contrastive:
            raise CallerError(
                "contrast_start contrasts wholes in contexts of their own: set contrast_force_inputs=True"
            )
        else:
            foils = tuple(Foil(own.logits, foil.ids) for foil in self.foils)
        return Step(own.logits, self.sequence.ids, foils, has_own_context=bool(others), dropped=dropped)

    def _of_foil(self, number: int, vectors: Tensor | None, grad: bool) -> Seen:
        """The foil in its own context; once for all, where nothing of the attributed sequence is in it."""
        context = self.foils[number].context
        if vectors is not None and (edits := self._put(vectors, context)):
            return self.model.see(context, len(vectors), edits, grad=grad)
        if number not in self._fixed:
            self._fixed[number] = self.model.see(context, 1, {})
        return self._fixed[number]

    def put(self, vectors: Tensor | None) -> dict[str, Edit]:
        """The edits that put the attributed positions' vectors into the attributed tokens' context."""
        return self._put(vectors, self.context)

    def _put(self, vectors: Tensor | None, context: Context) -> dict[str, Edit]:
        """The edits that put the attributed positions' vectors into a context."""
        if vectors is None:
            return {}
        edits: dict[str, Edit] = {}
        for side in self.sides:
            is_source = side is self.sequence.source
            n_shared = (len(side.ids) if context.shares_source else 0) if is_source else context.n_shared
            if n_shared:
                start = side.first - self.positions.start
                edits[side.site] = put(vectors[:, start : start + n_shared])
        return edits

    def _ends(self, own: Seen, others: Sequence[Seen]) -> tuple[End, ...]:
        """Where gradients may begin: all passes must have an end, and no position of it may serve two columns."""
        members = self.columns.members()
        ends = []
        for number, seen in enumerate([own, *others]):
            if not seen.logits.requires_grad:
                continue
            foil = self.foils[number - 1] if number else None
            places = torch.tensor((foil.context if foil else self.context).predicting)
            if seen.end is None or (self.columns.n > 1 and len(places.unique()) < len(places)):
                return ()
            shares = members if foil is None or foil.share is None else torch.ones(1, len(places))
            found = torch.zeros(self.columns.n, seen.end.shape[1]).index_add_(1, places, shares).clamp(max=1)
            ends.append(End(seen.end, found.to(seen.end.device)))
        return tuple(ends)


def _every(n_layers: int, session: Session, cuts: Sequence[str]) -> tuple[str, ...]:
    """Those of ``cuts`` that leave no more than so many layers between them, where there are enough; and the last."""
    chosen, begun = [], -1
    for cut, following in pairwise(cuts):
        if session.sites[following].layer - begun > n_layers:
            chosen.append(cut)
            begun = session.sites[cut].layer
    return (*chosen, *cuts[-1:])


def put(values: Tensor) -> Edit:
    """An edit that puts values, ``[row pos ...]``, in place of those at the first positions, in their dtype."""

    def edit(value: Tensor) -> Tensor:
        new = values.to(value.dtype)
        return new if new.shape == value.shape else torch.cat([new, value[:, new.shape[1] :]], 1)

    return edit


def _attributed(inputs: str, sequence: Ids) -> tuple[Side, ...]:
    if inputs == "all":
        return sequence.sides
    if sequence.source is None and inputs == "source":
        raise CallerError("inputs='source': the model has no encoder; its prompt is part of the target")
    return (sequence.target,) if inputs == "target" or sequence.source is None else (sequence.source,)


def _columns(request: Request, n: int) -> Groups:
    if request.span and request.spans:
        raise CallerError("span=True is one column for all tokens: leave spans out")
    return groups_of((0,) * n if request.span else request.spans, n, "spans")
