"""The arguments of ``model.generate(...)`` as a generation of the service."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

from interpd.graph.ir import Generation
from interpd_client.nnsight.errors import CannotRecord

TAKEN = ("max_new_tokens", "max_length", "min_new_tokens", "do_sample", "temperature", "top_k", "top_p", "eos_token_id")
PASSED_OVER = (
    "streamer",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "decoder_start_token_id",
    "transformers_version",
)
"""What changes nothing in a generation without padding: no rows are finished beside others, every step is computed."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("num_beams", "num_return_sequences", "num_beam_groups", "guidance_scale"), (1,)),
    **dict.fromkeys(("repetition_penalty", "length_penalty", "typical_p", "encoder_repetition_penalty"), (1.0,)),
    **dict.fromkeys(("num_assistant_tokens",), (20,)),
    **dict.fromkeys(("num_assistant_tokens_schedule",), ("constant",)),
    **dict.fromkeys(("assistant_confidence_threshold",), (0.4,)),
    **dict.fromkeys(("assistant_lookbehind", "target_lookbehind"), (10,)),
}
"""Values of further arguments that change nothing, besides ``None``, ``False`` and 0."""

INSTEAD: Mapping[str, str] = {
    "num_return_sequences": "give the prompt several times, as in `model.generate([prompt] * 3, ...)`",
    "num_beams": "each step chooses one token: leave it out, or search the beams over `client.model(...).trace`",
}
"""What to do about arguments that ask for more than one text of a prompt."""

DEFAULT_NEW_TOKENS, DEFAULT_TOP_K = 20, 50
"""What transformers takes where nothing is said."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to generate."""

    options: Generation
    end_ids: tuple[int, ...]
    """Tokens that end a text."""
    pad_id: int
    """What transformers writes behind a row that has ended before the others."""
    min_new_tokens: int

    @property
    def is_certain(self) -> bool:
        """Whether every row gets all its new tokens."""
        return not self.end_ids or self.min_new_tokens >= self.options.max_new_tokens


def plan_of(model: nn.Module, arguments: Mapping[str, Any], n_positions: int) -> Plan:
    """The generation that transformers would make of these arguments. Raises ``CannotRecord`` for other kinds."""
    config = _config(model, dict(arguments))
    _refuse_other_kinds(config)
    end_ids = _ids(config.eos_token_id)
    sampling: dict[str, Any] = {}
    if config.do_sample:
        top_k = DEFAULT_TOP_K if config.top_k is None else config.top_k
        # numbers come from the service's generator, which the user's own seeds
        seed = int(torch.randint(1 << 31, ()))
        temperature, top_p = config.temperature or 1.0, 1.0 if config.top_p is None else config.top_p
        sampling = {"do_sample": True, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    n_new = _new_tokens(model, config, n_positions)
    # the ends are those of the user's model, whatever the service's own says
    options = Generation(n_new, stop_token_ids=end_ids, ignore_eos=True, **sampling)
    pad = config.pad_token_id if config.pad_token_id is not None else next(iter(end_ids), 0)
    return Plan(options, end_ids, int(pad), min(config.min_new_tokens or 0, n_new))


def _config(model: nn.Module, arguments: dict[str, Any]) -> GenerationConfig:
    arguments.pop("streamer", None)
    config = copy.deepcopy(arguments.pop("generation_config", None) or GenerationConfig())
    own = getattr(model, "generation_config", None)
    if own is not None:
        config.update(**own.to_dict(), defaults_only=True, allow_custom_entries=True)
    unknown = config.update(**arguments)
    if any(value is not None for value in unknown.values()):
        name = next(name for name, value in unknown.items() if value is not None)
        raise CannotRecord(f"{name!r} cannot be given to a generation on the service")
    return config


def _refuse_other_kinds(config: GenerationConfig) -> None:
    for name, value in config.to_dict().items():
        if name in (*TAKEN, *PASSED_OVER) or name.startswith("_") or value in (None, False, 0, [], {}):
            continue
        if value not in NEUTRAL.get(name, ()):
            instead = INSTEAD.get(name, f"it takes {', '.join(TAKEN)}")
            raise CannotRecord(f"the service does not generate with {name}={value!r}; {instead}")


def _new_tokens(model: nn.Module, config: GenerationConfig, n_positions: int) -> int:
    if config.max_new_tokens is not None:
        return int(config.max_new_tokens)
    if config.max_length is not None:
        n_new = int(config.max_length) - n_positions
        if n_new < 1:
            raise CannotRecord(f"max_length={config.max_length} leaves no room behind {n_positions} prompt tokens")
        return n_new
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return DEFAULT_NEW_TOKENS if limit is None else max(1, min(DEFAULT_NEW_TOKENS, limit - n_positions))


def _ids(value: int | Sequence[int] | torch.Tensor | None) -> tuple[int, ...]:
    if value is None:
        return ()
    if isinstance(value, torch.Tensor):
        value = value.flatten().tolist()
    return (int(value),) if isinstance(value, int) else tuple(int(one) for one in value)
