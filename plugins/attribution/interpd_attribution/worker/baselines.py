"""Baselines: the vectors that inputs are compared with."""

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Baseline
from interpd_attribution.worker.scoring.contrast import Context
from interpd_attribution.worker.sequence import Side

_CHUNK = 1 << 14
"""Rows of the embedding that are looked up at once."""


def baselines(problem: Problem, asked: Baseline) -> Tensor:
    """The baselines' vectors at the attributed positions, ``[baseline position d_model]`` in float32.

    Tokens are embedded by the model with the graph's own writes in force, as the inputs are. End tokens and the start
    token of a decoder keep their own vectors, except under ``baseline_ids`` for each position.

    Raises ``CallerError`` for a token that the tokenizer has not, and for other counts of ids than positions.
    """
    _check(asked)
    if asked.baseline in ("unk", "pad", "mask", "ids"):
        rows = baseline_ids(problem, asked)
        return torch.stack([problem.embedded(_context(problem, row)) for row in rows])
    made = _made(problem, asked)
    kept = kept_positions(problem, asked)[problem.positions]
    return torch.where(kept[:, None], problem.inputs, made)


def baseline_ids(problem: Problem, asked: Baseline) -> Tensor:
    """The baselines' tokens at all positions, ``[baseline position]``. Raises ``CallerError``."""
    _check(asked)
    if asked.baseline not in ("unk", "pad", "mask", "ids"):
        raise CallerError(
            f"baseline {asked.baseline!r} has no tokens, which this method needs: take unk, pad, mask or ids"
        )
    ids = torch.cat([side.ids for side in problem.sequence.sides])
    given, n_positions = asked.baseline_ids, len(ids)
    if len(given) > 1:
        if len(given) % n_positions:
            raise CallerError(f"baseline_ids: {len(given)} of them, expected one, or {n_positions} for each baseline")
        return torch.tensor(given, device=ids.device).reshape(-1, n_positions)
    kept = kept_positions(problem, asked)
    parts = [torch.full_like(side.ids, _id(problem, side, asked)) for side in problem.sequence.sides]
    return torch.where(kept, ids, torch.cat(parts))[None]


def kept_positions(problem: Problem, asked: Baseline) -> Tensor:
    """Whether each position keeps its token in a baseline: ``[position]``."""
    parts = []
    for side in problem.sequence.sides:
        ends = () if asked.include_eos_baseline else problem.session.end_ids(target=side is problem.sequence.target)
        is_kept = torch.isin(side.ids, torch.tensor(sorted(ends), dtype=side.ids.dtype, device=side.ids.device))
        if side is problem.sequence.target and problem.sequence.source is not None:
            is_kept[0] = True
        parts.append(is_kept)
    return torch.cat(parts)


def vocabulary(problem: Problem, side: Side) -> Tensor:
    """The vectors of all tokens at a side's embedding, ``[d_vocab d_model]`` in float32, without the graph's writes.

    Raises ``CallerError`` where the embedding cannot be looked up by itself.
    """
    session = problem.session
    n_vocab = session.info.sizes["d_vocab"]
    ids = torch.arange(n_vocab, device=session.device)
    with torch.no_grad():
        try:
            return torch.cat([session.call(side.site, ids[part]).float() for part in chunks(n_vocab, _CHUNK)])
        except (CallerError, RuntimeError) as error:
            # a model that projects its embeddings behind the look-up takes no ids there
            raise CallerError(f"site {side.site!r} is not a look-up of tokens in this model: {error}") from error


def _check(asked: Baseline) -> None:
    if (asked.baseline == "ids") != bool(asked.baseline_ids):
        raise CallerError("baseline='ids' and baseline_ids go together")
    if asked.n_baselines < 1 or (asked.n_baselines > 1 and asked.baseline != "noise"):
        raise CallerError(f"n_baselines is {asked.n_baselines}: only baseline='noise' has more than one, or less")


def _id(problem: Problem, side: Side, asked: Baseline) -> int:
    if asked.baseline == "ids":
        return asked.baseline_ids[0]
    known = problem.session.special_ids(target=side is problem.sequence.target)
    # as Inseq: the padding token stands in where there is no unknown one
    roles = ("unk", "pad") if asked.baseline == "unk" else (asked.baseline,)
    found = next((known[role] for role in roles if role in known), None)
    if found is None:
        raise CallerError(
            f"baseline {asked.baseline!r}: the tokenizer of model {problem.session.info.name!r} has no such token; "
            "take 'mean', 'zeros', or 'ids' with baseline_ids"
        )
    return found


def _context(problem: Problem, ids: Tensor) -> Context:
    source, target = problem.sequence.source, problem.sequence.target
    return Context(None if source is None else ids[source.positions], ids[target.positions], ())


def _made(problem: Problem, asked: Baseline) -> Tensor:
    inputs = problem.inputs
    if asked.baseline == "zeros":
        return torch.zeros_like(inputs)[None]
    if asked.baseline == "mean":
        means = [vocabulary(problem, side).mean(0).expand(len(side.ids), -1) for side in problem.sides]
        return torch.cat(means)[None]
    generator = torch.Generator().manual_seed(asked.seed)
    drawn = torch.randn(asked.n_baselines, *inputs.shape, generator=generator).to(inputs.device)
    return drawn * (inputs.norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True))
