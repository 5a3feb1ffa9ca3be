"""Fitting a lens: the model's last word is the target, at every layer and position of some texts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

from interpd.sdk import CallerError, MethodContext, Session, method
from interpd_tuned_lens.lens import TunedLens, translated


@dataclass(frozen=True)
class Batch:
    """Texts as one right-padded pass."""

    input_ids: Tensor
    lengths: tuple[int, ...]
    is_token: Tensor
    """``[batch pos]``: where there is a token and no padding."""


@method("tuned_lens.fit", version=1, paper="arXiv:2303.08112")
def fit(
    ctx: MethodContext,
    *,
    name: str,
    texts: tuple[str, ...] = (),
    n_steps: int = 60,
    batch_size: int = 8,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> Float32[Tensor, "step layer"]:
    """Divergence of each layer's translated prediction from the model's own, in nats, step by step.

    Each step runs one pass over a few texts, takes KL(model || lens) at every layer and position, and moves the maps
    downhill with Adam. The fitted lens is kept as the artifact ``name``.

    Args:
        name: What the artifact is called afterwards.
        texts: What to fit on, besides the prompt itself.
        n_steps: Passes.
        batch_size: Texts per pass.
        learning_rate: Of Adam.
        seed: Of the order in which texts are drawn.

    Source: Belrose et al. 2023, section 2. They use SGD with momentum on 250 steps of 262,144 tokens.
    """
    session = ctx.session
    if n_steps < 1 or batch_size < 1:
        raise CallerError(f"n_steps and batch_size start at 1, got {n_steps} and {batch_size}")
    rows = [ctx.tokens.ids, *(session.encode(text).ids for text in texts)]
    size = session.info.sizes["d_model"]
    like = {"device": session.device, "dtype": torch.float32}
    weight = torch.zeros(session.info.n_layers, size, size, **like, requires_grad=True)
    bias = torch.zeros(session.info.n_layers, size, **like, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(n_steps):
        drawn = torch.randperm(len(rows), generator=generator)[:batch_size].tolist()
        loss = divergences(session, padded([rows[index] for index in drawn], session.device), weight, bias)
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        losses.append(loss.detach())
        ctx.progress(step + 1, n_steps, f"KL {loss.mean().item():.3f} nats")
    ctx.save_artifact(name, TunedLens(weight.detach(), bias.detach()))
    return torch.stack(losses)


def padded(rows: list[tuple[int, ...]], device: torch.device) -> Batch:
    """Token ids of several texts in one right-padded batch."""
    lengths = tuple(map(len, rows))
    input_ids = torch.zeros(len(rows), max(lengths), dtype=torch.int64)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = torch.tensor(row)
    is_token = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Batch(input_ids.to(device), lengths, is_token.to(device))


def divergences(session: Session, batch: Batch, weight: Tensor, bias: Tensor) -> Tensor:
    """KL(model || lens) of each layer, the mean over tokens: ``[layer]``, in nats."""
    n_layers = session.info.n_layers
    names = [f"layers.{layer}.resid_post" for layer in range(n_layers)]
    seen = session.forward(batch.input_ids, reads=[*names, "logits"], lengths=batch.lengths)
    own = seen["logits"][batch.is_token].float().log_softmax(-1)  # (token, d_vocab)
    rows = []
    for layer, name in enumerate(names):
        h = seen[name][batch.is_token].float()  # (token, d_model)
        end = translated(h, weight[layer], bias[layer]).to(session.dtype)
        lens = session.call("logits", session.call("ln_final", end)).float().log_softmax(-1)
        rows.append(functional.kl_div(lens, own, log_target=True, reduction="batchmean"))
    return torch.stack(rows)
