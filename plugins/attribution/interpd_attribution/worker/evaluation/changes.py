"""Operations for the graphs of robustness and sanity checks: noisy inputs, and weights drawn anew.

Graphs write what these give in place of a site's value; nobody else sees it, and the model's weights stay as they are.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interpd.sdk import CallerError, op


@op("attribution.noisy", version=1, paper="arXiv:1901.09392")
def noisy(
    x: Float[Tensor, "batch pos d_model"],
    ids: Int[Tensor, "batch pos"],
    *,
    token_ids: tuple[int, ...],
    radius: float,
    seed: int = 0,
) -> Float[Tensor, "batch pos d_model"]:
    """Token embeddings with uniform noise.

    In each dimension it is at most ``radius`` times the root mean square of the vector. Where a row's tokens are not
    those of ``token_ids`` there is none: baselines stay what they are.

    Args:
        token_ids: The tokens of the input.
        radius: The most, as a share of the size of the vector's dimensions.
        seed: Of the noise; equal seeds give equal numbers on all devices.
    """
    if not 0 <= radius < float("inf"):
        raise CallerError(f"radius is {radius}, expected 0 or more")
    n = min(x.shape[1], len(token_ids))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(len(token_ids), x.shape[2], generator=generator)[:n].to(x.device) * 2 - 1
    own = ids[:, :n] == torch.tensor(token_ids[:n], dtype=ids.dtype, device=ids.device)
    size = radius * x[:, :n].detach().float().square().mean(-1, keepdim=True).sqrt()
    noise = torch.where(own[..., None], drawn * size, 0.0).to(x.dtype)
    return torch.cat([x[:, :n] + noise, x[:, n:]], 1)


@op("attribution.redrawn", version=1, rows_mix=True, paper="arXiv:1810.03292")
def redrawn(weight: Float[Tensor, "*shape"], *, seed: int = 0) -> Float[Tensor, "*shape"]:
    """Normal numbers with the mean and the standard deviation of a weight.

    Args:
        seed: Of the numbers; equal seeds give equal numbers on all devices.
    """
    numbers = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.device)
    spread, mean = torch.std_mean(weight.float(), correction=0)
    return (numbers * spread + mean).to(weight.dtype)
