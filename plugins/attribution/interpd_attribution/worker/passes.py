"""The model on rows of changed inputs: a pass over a context, and what scores and gradients need of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interpd.sdk import Recomputed, Session
from interpd_attribution.worker.scoring.contrast import Context

Edit = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Seen:
    """What one pass over a context gave."""

    logits: Tensor
    """``[row token d_vocab]`` at the predicting positions, float64."""
    end: Tensor | None
    """The last stream before the logits, ``[row pos d_model]``, each position of which makes the logits of its own
    only; ``None`` where there is none, or no gradients."""
    values: Mapping[str, Tensor]
    """Of the sites that were asked for."""


class Model:
    """The model of a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._end, self._head = end_site(session), head_of(session)

    def see(
        self,
        context: Context,
        n_rows: int,
        edits: Mapping[str, Edit],
        *,
        reads: Sequence[str] = (),
        grad: bool = False,
        dropout_seed: int | None = None,
    ) -> Seen:
        """One pass over ``n_rows`` rows of the context.

        Args:
            context: Its token ids.
            n_rows: How often it is there; the edits make rows differ.
            edits: By site.
            reads: Sites whose values are wanted too.
            grad: Keep what gradients need.
            dropout_seed: Drop activations at random, as in training.
        """
        # a stream behind which something is changed or read does not decide the logits alone
        touched = (*edits, *reads, *self.session.written)
        head = self._head if self._head and not self._is_behind(f"{self._head}.input", touched) else None
        end = f"{head}.input" if head else self._end if self._end and not self._is_behind(self._end, touched) else None
        last = [end] if end and (head or grad) else []
        sites = [*reads, *last, *([] if head else ["logits"])]
        values = self.run(context, n_rows, edits, reads=sites, grad=grad, dropout_seed=dropout_seed)
        places = torch.tensor(context.predicting, device=self.session.device)
        if head:
            # the unembedding at these positions only
            logits = self.session.call(head, values[end].index_select(1, places))
        else:
            logits = values["logits"].index_select(1, places)
        # 1 - p of a likely token has no digits left in float32, and the gradient of p is made of it
        ends = values[end] if end and grad else None
        return Seen(logits.double(), ends, {site: values[site] for site in reads})

    def run(
        self,
        context: Context,
        n_rows: int,
        edits: Mapping[str, Edit],
        *,
        reads: Sequence[str] = (),
        values: Sequence[Recomputed[Any]] = (),
        grad: bool = False,
        dropout_seed: int | None = None,
    ) -> dict[Any, Tensor]:
        """The values of sites and of the graph in a pass over ``n_rows`` rows of the context."""
        wanted = {"reads": reads, "values": values, "edits": edits, "grad": grad, "dropout_seed": dropout_seed}
        target = context.target_ids.expand(n_rows, -1)
        if context.source_ids is None:
            return self.session.forward(target, **wanted)
        return self.session.forward(context.source_ids.expand(n_rows, -1), target_ids=target, **wanted)

    def _is_behind(self, site: str, others: Sequence[str]) -> bool:
        """Whether one of ``others`` lies at a site or behind it."""
        known = self.session.sites
        return any(known[other].order >= known[site].order for other in others if other in known)


def head_of(session: Session) -> str | None:
    """The module whose whole output the logits are, so that it may be called by itself; ``None``: there is none."""
    logits = session.sites["logits"]
    for name, site in session.sites.items():
        module = name.removesuffix(".output")
        is_head = module != name and site.order == logits.order and site.type == logits.type
        if is_head and f"{module}.input" in session.sites:
            return module
    return None


def end_site(session: Session) -> str | None:
    """The last stream of the model, which alone decides the logits, position by position; ``None``: none is known."""
    layers = [site for site in session.sites if site.removeprefix("decoder.").startswith("layers.")]
    last = max((int(site.removeprefix("decoder.").split(".")[1]) for site in layers), default=-1)
    names = ("ln_final", "decoder.ln_final", f"layers.{last}.resid_post", f"decoder.layers.{last}.resid_post")
    return next((name for name in names if name in session.sites), None)
