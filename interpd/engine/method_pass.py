"""One forward pass for the methods that wait for one: each brings rows of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from interpd.engine.cuts import left_out
from interpd.engine.dropout import dropping
from interpd.engine.inputs import length_mask, two_sided
from interpd.engine.interpreter import Spot
from interpd.engine.method_plan import MethodPlan
from interpd.engine.method_request import PassRequest, Side
from interpd.engine.method_share import MethodShare
from interpd.engine.nnsight_driver import Item, Visit, visits_of
from interpd.engine.rows import Frame


def run_method_pass(shares: Sequence[MethodShare]) -> None:
    """Runs what the methods of ``shares`` ask for in one pass; each share says what it has found, or why it failed.

    The shares are of one kind. Raises what the model's forward raises; what an edit raises is its share's own.
    """
    access = shares[0].access
    requests = [share.request for share in shares]
    frame = Frame(max(request.n_pos for request in requests))
    if len(shares) > 1:
        first_row = 0
        for share in shares:
            share.take_place(first_row, frame)
            first_row += len(share.request.rows)
    visits = _visits([share.plan for share in shares])
    # a pass that begins behind the start has one share
    skipped = left_out(access.resident, shares[0].plan, requests[0].begin)
    access.resident.set_attention(shares[0].kind.eager_attention)
    with dropping(access.driver.model, requests[0].dropout_seed):
        if visits:
            inputs, on_visit = _inputs(requests, access.device), _OnVisit(shares, frame)
            try:
                access.driver.run(inputs, visits, on_visit, grad=requests[0].grad, stop=True, left_out=skipped)
            except _NobodyLeft:
                return
        for share in shares:
            share.finish()
    n_encoder_layers = access.resident.info.n_encoder_layers
    for share in shares:
        if share.failed is not None:
            continue
        n_layers = share.plan.n_layers - (len(skipped.blocks) if skipped else 0)
        n_tokens = sum(row.computed(n_layers, n_encoder_layers) or 0 for row in share.request.rows)
        share.run.used.count_pass(n_tokens, n_layers, len(shares))


def _visits(plans: Sequence[MethodPlan]) -> tuple[Visit, ...]:
    """The visits that any of them needs."""
    if all(plan is plans[0] for plan in plans):
        return plans[0].visits
    return visits_of(frozenset().union(*(plan.places for plan in plans)))


class _NobodyLeft(Exception):
    """All that took part in the pass have failed."""


class _OnVisit:
    """Shows the tensors of a visit to each share."""

    def __init__(self, shares: Sequence[MethodShare], frame: Frame) -> None:
        self._shares, self._frame = shares, frame

    def __call__(self, visit: Visit, tensors: dict[Item, Tensor]) -> Mapping[Item, Tensor]:
        spot = Spot(tensors, self._frame.n_pos)
        for share in self._shares:
            share.visit(visit, spot)
        if all(share.failed is not None for share in self._shares):
            raise _NobodyLeft
        return spot.changed


def _inputs(requests: Sequence[PassRequest], device: torch.device) -> dict[str, Any]:
    own_ids, own_mask = _together([request.own for request in requests], device)
    inputs = {"input_ids": own_ids, "attention_mask": own_mask, "use_cache": False}
    targets = [request.target for request in requests if request.target is not None]
    return two_sided(inputs, *_together(targets, device)) if targets else inputs


def _together(sides: Sequence[Side], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """(ids, mask) of the rows of all, padded on the right."""
    n_pos = max(side.n_pos for side in sides)
    mask = length_mask([length for side in sides for length in side.lengths], n_pos, device)
    if len(sides) == 1:
        return sides[0].ids.to(device), mask
    return torch.cat([pad(side.ids.to(device).long(), (0, n_pos - side.n_pos)) for side in sides]), mask
