"""What tokens are replaced by: any other, what the model itself expects there, or one of the same kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.scoring.contrast import Context

N_EXPECTED = 100
"""How many of the likeliest tokens of a prediction are drawn from."""

_POSITIONS = 64
"""How many predictions are looked at in one pass."""

Draw = Callable[[Tensor], Tensor]
"""From numbers between 0 and 1, ``[row position]``, to token ids."""


@dataclass(frozen=True, kw_only=True)
class Replacing:
    """What tokens are replaced by.

    Args:
        candidates: Any token but special ones, all alike (uniform); what the model expects there, of its 100 likeliest
            tokens, as likely as it finds them (model; the first position has any); or any token of the same group.
        candidate_ids: The groups' token ids, such as those of each part of speech, one group behind the other. A token
            in no group stays.
        candidate_lengths: How many tokens each group has.
        seed: Of everything that is drawn.
    """

    candidates: Literal["uniform", "model", "groups"] = "uniform"
    candidate_ids: tuple[int, ...] = ()
    candidate_lengths: tuple[int, ...] = ()
    seed: int = 0


def draw_of(problem: Problem, asked: Replacing) -> Draw:
    """A function that draws a token for each position, on the CPU. Raises ``CallerError``."""
    given = bool(asked.candidate_ids or asked.candidate_lengths)
    if given != (asked.candidates == "groups"):
        raise CallerError("candidates='groups' and candidate_ids with candidate_lengths go together")
    return {"uniform": _uniform, "model": _expected, "groups": _of_groups}[asked.candidates](problem, asked)


def _uniform(problem: Problem, asked: Replacing) -> Draw:
    n_vocab, sides = problem.session.info.sizes["d_vocab"], problem.sequence.sides
    allowed = []
    for side in sides:
        usual = torch.ones(n_vocab, dtype=torch.bool)
        usual[list(problem.session.special_ids(target=side is problem.sequence.target).values())] = False
        allowed.append(usual.nonzero()[:, 0])

    def draw(at: Tensor) -> Tensor:
        parts = [
            ids[_places(at[:, side.positions], torch.tensor(len(ids)))]
            for ids, side in zip(allowed, sides, strict=True)
        ]
        return torch.cat(parts, 1)

    return draw


def _expected(problem: Problem, asked: Replacing) -> Draw:
    if problem.sides != (problem.sequence.target,):
        raise CallerError(
            "candidates='model' are the model's predictions, and an encoder's source has none: set inputs='target', or "
            "take candidates='uniform' or 'groups'"
        )
    anything, sequence = _uniform(problem, asked), problem.sequence
    first = sequence.target.first
    likely, chances = [], []
    for part in chunks(len(sequence.target.ids) - 1, _POSITIONS):
        predicting = tuple(range(part.start, part.stop))
        logits = problem.model.see(Context(*_ids(problem), predicting), 1, {}).logits[0]
        best = logits.softmax(-1).topk(min(N_EXPECTED, logits.shape[-1]))
        likely.append(best.indices.cpu())
        chances.append((best.values / best.values.sum(-1, keepdim=True)).cumsum(-1).cpu())
    tokens, ends = torch.cat(likely), torch.cat(chances)

    def draw(at: Tensor) -> Tensor:
        found = anything(at)
        # of the target, from its second position on
        places = torch.searchsorted(ends, at[:, first + 1 :].double().T.contiguous(), right=True)
        found[:, first + 1 :] = tokens.gather(1, places.clamp(max=ends.shape[1] - 1)).T
        return found

    return draw


def _of_groups(problem: Problem, asked: Replacing) -> Draw:
    n_vocab, lengths = problem.session.info.sizes["d_vocab"], torch.tensor(asked.candidate_lengths)
    tokens = torch.tensor(asked.candidate_ids)
    if not len(tokens) or lengths.sum() != len(tokens) or lengths.min() < 1:
        raise CallerError(
            f"candidate_lengths add up to {int(lengths.sum())}, but there are {len(tokens)} candidate_ids"
        )
    if not 0 <= int(tokens.min()) <= int(tokens.max()) < n_vocab:
        raise CallerError(f"candidate_ids go from {tokens.min()} to {tokens.max()}: the vocabulary has {n_vocab}")
    if len(tokens.unique()) < len(tokens):
        raise CallerError("candidate_ids name a token twice: each belongs to one group")
    ids = torch.cat([side.ids for side in problem.sequence.sides]).cpu()
    group = torch.full((n_vocab,), -1)
    group[tokens] = torch.arange(len(lengths)).repeat_interleave(lengths)
    of, starts = group[ids], lengths.cumsum(0) - lengths

    def draw(at: Tensor) -> Tensor:
        inside = of.clamp(min=0)
        drawn = tokens[starts[inside] + _places(at, lengths[inside])]
        return torch.where(of >= 0, drawn, ids)

    return draw


def _places(at: Tensor, n: Tensor) -> Tensor:
    """Numbers between 0 and 1 as whole numbers below ``n``."""
    return torch.minimum((at.double() * n).long(), n - 1)


def _ids(problem: Problem) -> tuple[Tensor | None, Tensor]:
    source = problem.sequence.source
    return None if source is None else source.ids, problem.sequence.target.ids
