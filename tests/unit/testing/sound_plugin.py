"""A plugin without a fault: what the kit must accept."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, Recomputed, artifact, hookimpl, method, op


@artifact("sae")
@dataclass(frozen=True)
class Sae:
    """Weights of one sparse autoencoder."""

    w_enc: Float[Tensor, "d_model d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    gain: Float[Tensor, " d_sae"] | None = None
    site: str = ""


@dataclass(frozen=True)
class Top:
    """Greatest features."""

    values: Float[Tensor, "batch pos k=2"]
    indices: Int[Tensor, "batch pos k=2"]


@op("sae.encode", paper="https://transformer-circuits.pub/2023/monosemantic-features")
def encode(resid: Float[Tensor, "batch pos d_model"], *, sae: Sae) -> Float[Tensor, "batch pos d_sae"]:
    """Feature activations, ``relu(resid @ w_enc + b_enc)``."""
    return torch.relu(resid @ sae.w_enc + sae.b_enc)


@op("sae.clamp")
def clamp(
    acts: Float[Tensor, "batch pos d_sae"], *, feature: int, value: float = 0.0
) -> Float[Tensor, "batch pos d_sae"]:
    """``acts`` with one feature held at ``value``."""
    if not 0 <= feature < acts.shape[-1]:
        raise CallerError(f"no feature {feature}; there are {acts.shape[-1]}")
    return acts.index_fill(-1, torch.tensor([feature], device=acts.device), value)


@op("sae.top")
def top(acts: Float[Tensor, "batch pos d_sae"]) -> Top:
    """The two greatest features."""
    return Top(*acts.topk(2))


@op("sae.mean", rows_mix=True)
def mean(acts: Float[Tensor, "*rows d_sae"], *, how: Literal["mean", "max"] = "mean") -> Float[Tensor, " d_sae"]:
    """Mean activation over everything."""
    flat = acts.reshape(-1, acts.shape[-1])
    return flat.mean(0) if how == "mean" else flat.amax(0)


@op("sae.active")
def active(acts: Float[Tensor, "*rows d_sae"], rows: tuple[Int[Tensor, " k"], ...]) -> Bool[Tensor, "*rows d_sae"]:
    """Where a feature is active."""
    return acts > 0


@method("sae.report")
def report(ctx: MethodContext, *, n_passes: int = 2) -> Float[Tensor, " d_model"]:
    """Mean residual stream after the last layer."""
    total = torch.zeros(ctx.session.info.sizes["d_model"])
    for done in range(n_passes):
        ctx.progress(done, n_passes)
        read = ctx.session.forward(ctx.input_ids, reads=["ln_final"])["ln_final"]
        total = total + read.float().mean((0, 1)) / n_passes
    return total


@method("sae.slope")
def slope(
    ctx: MethodContext,
    targets: tuple[Recomputed[Float[Tensor, "..."]], ...],
    extra: Recomputed[Float[Tensor, "batch k"]] | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """Gradient of the sum of the targets by the embeddings."""
    wanted = [*targets, *([extra] if extra else [])]
    values = ctx.session.forward(ctx.input_ids, reads=["embed"], values=wanted, grad=True)
    (gradient,) = torch.autograd.grad(sum(values[one].sum() for one in wanted), values["embed"])
    return gradient


@hookimpl
def interpd_register_ops():
    return [encode, clamp, top, mean, active]


@hookimpl
def interpd_register_methods():
    return [report, slope]


@hookimpl
def interpd_register_artifacts():
    return [Sae]
