"""From the stream to logits as a linear map: the direction that each attributed token has before the final norm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from interpd.sdk import CallerError, Session
from interpd_attribution.worker.internals.blocks import TOLERANCE, FrozenNorm
from interpd_attribution.worker.internals.maps import queries_of
from interpd_attribution.worker.internals.stacks import Stack, decoder_of, module_at
from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.scoring.contrast import FoilTokens

MOST_TOKENS = 256
"""Tokens whose directions are found at once."""


@dataclass(frozen=True, kw_only=True)
class Logit:
    """Which logits are taken apart.

    Args:
        target: The logits of the attributed tokens, or what these have more than their foils, in the same places.
    """

    target: Literal["logit", "contrast_logits_diff"] = "logit"


@dataclass(frozen=True)
class Readout:
    """Logits, or their differences from foils, as ``(stream * directions).sum(-1) + constants``; all in float64."""

    directions: Tensor
    """``[step d_model]``."""
    constants: Tensor
    """``[step]``: what the biases behind the stream add."""
    logits: Tensor
    """``[step]``: as the model has them."""


def readout(problem: Problem, method: str, logit: Logit) -> Readout:
    """The logits of the attributed tokens, or what they have more than their foils on the average.

    Final norms are taken at the scale that they have; a cap on logits, or a factor, by what it makes of each logit.

    Raises:
        CallerError: The model has no final norm behind a plain sum, or foils are missing.
    """
    session, stack, queries = problem.session, decoder_of(problem.session), queries_of(problem)
    foils = _foils(problem, method, logit)
    _check(problem, stack, method)
    if not stack.last.endswith("ln_final"):
        raise CallerError(
            f"{method}: model {session.info.name!r} has no final norm behind a sum of what its layers add"
        )
    norm, head = FrozenNorm(session, _module(session, stack.last), session.info.sizes["d_model"]), head_module(session)
    stream_site, head_site = stack.site(stack.n_layers - 1, "resid_post"), f"{head}.input"
    found = problem.model.run(problem.context, 1, {}, reads=[stream_site, stack.last, head_site, "logits"])
    stream, normed, before = (found[site][0] for site in (stream_site, stack.last, head_site))
    factor = _factor(session, normed, before)
    signs = _tokens(problem, foils)
    weights, biases = _rows(session, head, signs.ids)
    scale, logits = norm.scale(stream[queries]), found["logits"][0][:, signs.ids].double()
    shape, added = _behind(session, head, factor * (normed.double() @ weights.T) + biases, logits)
    # [step token] of each token's share in the step, times what the model makes of its logit
    share = signs.shares * shape[queries]
    behind = factor * (share @ weights)
    directions = scale[:, None] * norm.pull(behind)
    constants = (behind * norm.bias).sum(-1) + (share * biases).sum(-1) + (signs.shares * added[queries]).sum(-1)
    return Readout(directions, constants, (signs.shares * logits[queries]).sum(-1))


def head_module(session: Session) -> str:
    """The module that makes logits of vectors. Raises ``CallerError``."""
    logits = session.sites["logits"]
    found = {
        schema.order: name.removesuffix(".output")
        for name, schema in session.sites.items()
        if not schema.canonical
        and name.endswith(".output")
        and schema.order <= logits.order
        and schema.type.dims[-1:] == logits.type.dims[-1:]
        and f"{name.removesuffix('.output')}.input" in session.sites
    }
    if not found:
        raise CallerError(f"model {session.info.name!r} has no module that makes its logits")
    return found[max(found)]


@dataclass(frozen=True)
class _Tokens:
    ids: Tensor
    """``[token]``: every token that counts, once."""
    shares: Tensor
    """``[step token]``: one for the token that came, less its share for each foil."""


def _foils(problem: Problem, method: str, logit: Logit) -> Sequence[FoilTokens]:
    if logit.target == "logit":
        return ()
    if not problem.foils:
        raise CallerError(f"{method}: 'contrast_logits_diff' contrasts with a foil: give contrast_ids")
    if any(foil.share is not None for foil in problem.foils):
        raise CallerError(f"{method}: contrast_start contrasts wholes; contrast token by token")
    return problem.foils


def _tokens(problem: Problem, foils: Sequence[FoilTokens]) -> _Tokens:
    sequence = problem.sequence
    ids, places = torch.cat([sequence.ids, *(foil.ids for foil in foils)]).unique(return_inverse=True)
    n_steps = sequence.n_steps
    shares = torch.zeros(n_steps, len(ids), dtype=torch.float64, device=ids.device)
    for number, at in enumerate(places.split(n_steps)):
        weight = -1.0 / len(foils) if number else 1.0
        shares.scatter_add_(1, at[:, None], torch.full_like(shares[:, :1], weight))
    return _Tokens(ids, shares)


def _check(problem: Problem, stack: Stack, method: str) -> None:
    """Raises ``CallerError`` where a logit is not a sum over what layers add."""
    stack.require(method, "resid_pre", "attn.v", "attn.z", "attn.out", "mlp.out", "resid_post")
    for layer in range(stack.n_layers):
        for name in ("resid_cross", "resid_mid"):
            site = stack.site(layer, name)
            if site in problem.session.sites and module_at(problem.session, site, "output") is not None:
                raise CallerError(
                    f"{method}: {site!r} of model {problem.session.info.name!r} stands behind a norm of the sum, so "
                    "what layers add does not add up to the logits"
                )


def _module(session: Session, site: str) -> str:
    module = module_at(session, site, "output")
    if module is None:
        raise CallerError(f"{site!r} is not the output of a module")
    return module


def _factor(session: Session, normed: Tensor, before: Tensor) -> float:
    """By what the final norm's output is multiplied before the head takes it in."""
    own, given = normed.double(), before.double()
    factor = float((own * given).sum() / own.square().sum())
    if (given - factor * own).norm() > TOLERANCE[session.dtype] * given.norm():
        raise CallerError("the head takes in something else than the final norm gives out: its logits do not add up")
    return factor


def _rows(session: Session, head: str, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(weights ``[token d_model]``, biases ``[token]``) of the head."""
    zero = torch.zeros(1, session.info.sizes["d_model"], dtype=session.dtype, device=session.device, requires_grad=True)
    with torch.no_grad():
        biases = session.call(head, zero)[0, ids].double()
    found = []
    for part in chunks(len(ids), MOST_TOKENS):
        x = zero.expand(part.stop - part.start, -1)
        chosen = session.call(head, x).gather(1, ids[part, None]).sum()
        found.append(torch.autograd.grad(chosen, x)[0].double())
    return torch.cat(found), biases


def _behind(session: Session, head: str, heads: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """(factor, added), ``[pos token]`` each, of what the model makes of the head's output."""
    one, none = torch.ones_like(heads), torch.zeros_like(heads)
    is_own = session.sites[f"{head}.output"].order == session.sites["logits"].order
    # what the graph writes there is no doing of the model's
    if is_own or "logits" in session.written:
        return one, none
    # a bias is the same at all positions; a factor or a cap is not
    more, close = logits - heads, TOLERANCE[session.dtype] * heads.abs().max().clamp(min=1e-30)
    if (more - more.mean(0)).abs().max() <= close:
        return one, more
    return torch.where(heads.abs() > 1e-30, logits / heads, 1.0), none
