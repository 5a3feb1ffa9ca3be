"""``backpack.unknown_token``: what the tokenizer makes of words that it does not know."""

import torch
from jaxtyping import Int64
from torch import Tensor

from interpd.sdk import MethodContext, method


@method("backpack.unknown_token", version=1)
def unknown_token(ctx: MethodContext) -> Int64[Tensor, ""]:
    """The id of the tokenizer's unknown token; -1 where every text has tokens of its own."""
    ctx.raise_if_cancelled()
    return torch.tensor(ctx.session.special_ids().get("unk", -1), device=ctx.session.device)
