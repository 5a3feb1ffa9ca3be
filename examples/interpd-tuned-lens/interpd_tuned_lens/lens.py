"""The lens and how it is applied."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interpd.sdk import CallerError, artifact, op


@artifact("tuned_lens")
@dataclass(frozen=True)
class TunedLens:
    """One affine map of the residual stream per layer."""

    weight: Float[Tensor, "layer d_model d_model"]
    bias: Float[Tensor, "layer d_model"]


def translated(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``h + h @ weight + bias``: the identity while weight and bias are zero."""
    return h + h @ weight + bias


@op("tuned_lens.apply", version=1, paper="arXiv:2303.08112")
def apply(
    h: Float[Tensor, "batch pos d_model"], *, lens: TunedLens, at_layer: int
) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream that the model would end with, as seen from one layer.

    ``h + h @ weight[at_layer] + bias[at_layer]``. Put the result through the model's final norm and unembedding to
    see the prediction.

    Args:
        h: ``layers.{at_layer}.resid_post``.
        lens: A fitted lens.
        at_layer: Which layer ``h`` comes from, counted from 0.

    Source: Belrose et al. 2023, eq. 4. The paper's map is ``A h + b`` with ``A = 1 + weight`` here.
    """
    n_layers = lens.weight.shape[0]
    if not 0 <= at_layer < n_layers:
        raise CallerError(f"at_layer is {at_layer}, but the lens has layers 0 to {n_layers - 1}")
    return translated(h, lens.weight[at_layer], lens.bias[at_layer])
