"""What a trace is given, as prompts: nnsight makes ids of it as for a local run, and the service gets these."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interpd_client.nnsight.errors import CannotRecord

FLAGS = ("use_cache", "output_hidden_states", "output_attentions", "return_dict")
"""Arguments of a forward that change what it returns, and nothing that it computes."""

TOKENIZING = ("truncation", "max_length", "padding", "add_special_tokens", "stride", "prefix")
"""Arguments for the tokenizer, which nnsight takes care of."""

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "token_type_ids")


@dataclass(frozen=True, slots=True)
class Text:
    """One prompt."""

    ids: tuple[int, ...]
    padding: tuple[int, ...]
    """The ids that nnsight puts before it, so that all prompts are equally long."""
    text: str | None
    """What was written, where that was text."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The prompts of a trace."""

    texts: tuple[Text, ...]
    keyword: str
    """How the model is given its ids; ``""``: as the first argument."""
    rest: Mapping[str, Any]
    """Further arguments."""
    arguments: tuple[tuple[Any, ...], Mapping[str, Any]]
    """All arguments of the forward."""

    @property
    def length(self) -> int:
        """Positions of the longest prompt."""
        return len(self.texts[0].padding) + len(self.texts[0].ids)


def batch_of(batcher: Any, fn: Any) -> Batch:
    """The prompts that nnsight would run ``fn`` on. Raises ``CannotRecord`` for what the service cannot be given."""
    args, kwargs = batcher.assemble(fn)
    keyword = "input_ids" if "input_ids" in kwargs else ""
    ids = kwargs.get("input_ids") if keyword else (args[0] if args else None)
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.ndim not in (1, 2):
        raise CannotRecord("a trace takes text or token ids; embeddings, images and sound stay on this machine")
    ids = ids.reshape(-1, ids.shape[-1])
    padding = _padding(ids, kwargs.get("attention_mask"))
    _check_positions(ids, padding, kwargs.get("position_ids"))
    written = _written(batcher.invokes, len(ids))
    texts = tuple(
        Text(tuple(row[count:].tolist()), tuple(row[:count].tolist()), text)
        for row, count, text in zip(ids, padding, written, strict=True)
    )
    if not all(text.ids for text in texts):
        raise CannotRecord("a prompt has no tokens")
    rest = {name: value for name, value in kwargs.items() if name not in MODEL_INPUTS}
    if len(args) > 1:
        raise CannotRecord(f"the service gives the model its token ids only, not {len(args) - 1} further arguments")
    return Batch(texts, keyword, rest, (args, kwargs))


def _padding(ids: Tensor, mask: Any) -> list[int]:
    if mask is None:
        return [0] * len(ids)
    mask = torch.as_tensor(mask).reshape(ids.shape)
    counts = [int(row.numel() - row.sum()) for row in mask]
    for row, count in zip(mask, counts, strict=True):
        if bool(row[:count].any()):
            raise CannotRecord(
                "an attention mask may leave out positions at the beginning only (padding on the left); the service "
                "attends to every token of a prompt"
            )
    return counts


def _check_positions(ids: Tensor, padding: list[int], given: Any) -> None:
    if given is None:
        return
    places = torch.arange(ids.shape[1])
    wanted = torch.stack([(places - count).clamp(min=0) for count in padding])
    if not bool((torch.as_tensor(given).expand(ids.shape) == wanted).all()):
        raise CannotRecord("the service counts the positions of a prompt from 0; other position_ids are not taken")


def _written(invokes: list[tuple[tuple[Any, ...], dict[str, Any]]], n_rows: int) -> list[str | None]:
    """The texts of the rows, ``None`` where ids were given."""
    texts: list[str | None] = []
    for inputs, kwargs in invokes:
        data = inputs[0] if inputs and not set(kwargs) & set(TOKENIZING) else None
        if isinstance(data, str):
            texts.append(data)
        elif isinstance(data, (list, tuple)) and data and all(isinstance(item, str) for item in data):
            texts += data
        else:
            return [None] * n_rows
    return texts if len(texts) == n_rows else [None] * n_rows


def flags_of(rest: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a plain forward. Raises ``CannotRecord`` for those that would change what it computes."""
    for name, value in rest.items():
        if name not in (*FLAGS, *TOKENIZING) and value is not None:
            raise CannotRecord(
                f"the service runs the model on token ids alone, so {name!r} cannot be given to it; "
                f"taken are {', '.join((*MODEL_INPUTS[:3], *FLAGS))}"
            )
    return {name: value for name, value in rest.items() if name in FLAGS and value is not None}
