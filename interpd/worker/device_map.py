"""A model over several GPUs of one node: which module goes where, and the hooks that move tensors between them."""

from collections.abc import Mapping
from typing import Any

from accelerate import dispatch_model
from transformers import PreTrainedModel

# kept where it is: an index on the CPU fits hidden states on any device
_STAYS = "logits_to_keep"


def dispatched(model: PreTrainedModel, device_map: Mapping[str, Any]) -> PreTrainedModel:
    """``model`` with its modules on the devices of ``device_map``; inputs and outputs are on the first of them."""
    skipped = _skipped(model)
    return dispatch_model(model, dict(device_map), skip_keys=skipped)


def _skipped(model: PreTrainedModel) -> list[str]:
    own: Any = getattr(model, "_skip_keys_device_placement", None) or []
    return [*([own] if isinstance(own, str) else own), _STAYS]
