"""What an adapter's config says, as data: only the keys that are known and tested reach PEFT.

An ``adapter_config.json`` may ask for much that has nothing to do with its weights: other base weights (PiSSA, LoftQ),
copied layers, modules to import, patterns that take years to match. Each key is taken, known to change nothing at
inference, or refused unless it has its neutral value. Which modules are adapted is read off the weights, not matched.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import regex
from peft import (
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    PeftConfig,
    __version__,
)
from torch import Tensor

from interpd.errors import FeatureUnsupported, InvalidRequest

ROOT = "base_model.model."
"""What precedes the path of a module in the names of an adapter's tensors."""

_PATTERN_S = 0.2
_PATTERN_LENGTH = 500
_IGNORED = {
    # who made it and of what; the weights themselves say whether they fit
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "peft_type",
    "peft_version",
    "task_type",
    "inference_mode",
    # of the training only
    "lora_dropout",
    "module_dropout",
    "rank_dropout",
    "rank_dropout_scale",
    "loftq_config",
    "runtime_config",
    "megatron_core",
    "qalora_group_size",
    # which modules are adapted: the names of the tensors say it
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
}
_NUMBERS = {"r": (int,), "decompose_factor": (int,), "lora_alpha": (int, float), "alpha": (int, float)}
_INITS = ("init_lora_weights", "init_ia3_weights", "init_weights")
# starting values that leave the base weights as they are; the adapter's own are read from its file
_HARMLESS_INITS = (True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True, slots=True)
class _Kind:
    config: type[PeftConfig]
    prefix: str
    """What the names of its tensors have behind the path of a module."""
    taken: tuple[str, ...] = ()
    alpha: str = ""


KINDS: Mapping[str, _Kind] = {
    "LORA": _Kind(
        LoraConfig, "lora_", ("r", "lora_alpha", "use_rslora", "use_dora", "fan_in_fan_out", "lora_bias"), "lora_alpha"
    ),
    "IA3": _Kind(IA3Config, "ia3_", ("fan_in_fan_out",)),
    "LOHA": _Kind(LoHaConfig, "hada_", ("r", "alpha"), "alpha"),
    "LOKR": _Kind(LoKrConfig, "lokr_", ("r", "alpha", "decompose_both", "decompose_factor"), "alpha"),
    "HRA": _Kind(HRAConfig, "hra_", ("r", "apply_GS")),
    "LN_TUNING": _Kind(LNTuningConfig, "ln_tuning_"),
}
"""The kinds of adapters that are served: those that replace modules one by one and leave the base weights alone."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """An adapter's config as PEFT takes it."""

    kind: str
    peft: PeftConfig
    adapted: frozenset[str]
    """Paths of the modules that it adapts."""
    replaced: frozenset[str]
    """Paths of the modules for which it brings weights of its own."""

    @property
    def changed(self) -> frozenset[str]:
        """Paths of all modules that behave differently with it."""
        return self.adapted | self.replaced


def check_settings(settings: Mapping[str, Any]) -> _Kind:
    """What ``adapter_config.json`` is the config of. Raises ``FeatureUnsupported`` for what is not served."""
    name = settings.get("peft_type")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise FeatureUnsupported(f"adapters of type {name!r} are not served; those of {', '.join(KINDS)} are")
    _refuse_strange(kind, settings)
    return kind


def modules_to_save(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The ends of the paths of modules for which it brings weights of its own. Raises ``InvalidRequest``."""
    return tuple(_texts("modules_to_save", settings.get("modules_to_save")))


def read_config(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> AdapterConfig:
    """The config in ``adapter_config.json``, with the modules that ``tensors`` are for named one by one.

    Raises:
        FeatureUnsupported: A kind of adapter, or a setting, that is not served.
        InvalidRequest: Settings that are none, or that contradict the tensors.
    """
    kind, name = check_settings(settings), settings["peft_type"]
    adapted, replaced = _paths(kind, settings, tensors)
    values = {key: _value(key, settings[key]) for key in kind.taken if key in settings}
    if isinstance(values.get("r"), int):
        _check_rank(values["r"], tensors)
    values |= _exact_patterns(kind, settings, adapted)
    if name == "LORA":
        _check_ranks(values, adapted, tensors)
    if name == "IA3":
        values["feedforward_modules"] = _chosen(settings.get("feedforward_modules"), adapted)
    if replaced:
        values["modules_to_save"] = sorted(replaced)
    config = kind.config(target_modules=sorted(adapted), inference_mode=True, **values)
    return AdapterConfig(str(name), config, adapted, replaced)


def _refuse_strange(kind: _Kind, settings: Mapping[str, Any]) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(kind.config)}
    handled = {*kind.taken, *_IGNORED, "modules_to_save", "rank_pattern", "alpha_pattern", "feedforward_modules"}
    for key, value in settings.items():
        if key in _INITS:
            if value not in _HARMLESS_INITS:
                raise FeatureUnsupported(
                    f"{key} = {value!r} goes with base weights of its own; save the adapter once more with "
                    "path_initial_model_for_weight_conversion, which makes plain LoRA of it"
                )
        elif key not in handled and value not in (None, False, [], {}, "", defaults.get(key)):
            unknown = "" if key in defaults else f", which PEFT {__version__} does not know"
            raise FeatureUnsupported(f"the adapter's config sets {key} = {value!r}{unknown}: that is not served")


def _paths(
    kind: _Kind, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[frozenset[str], frozenset[str]]:
    """Paths of the modules that the tensors adapt, and of those that they replace."""
    adapted, replaced = set(), set()
    for name in tensors:
        path, found, _ = name.removeprefix(ROOT).rpartition(f".{kind.prefix}")
        if not name.startswith(ROOT):
            raise InvalidRequest(f"tensor {name!r} of the adapter does not begin with {ROOT!r}: PEFT did not save it")
        if found:
            adapted.add(path)
            continue
        owner = name.removeprefix(ROOT).rpartition(".")[0]
        if not any(owner.endswith(saved) for saved in modules_to_save(settings)):
            raise FeatureUnsupported(
                f"tensor {name!r} belongs neither to the adapter ({kind.prefix}...) nor to its modules_to_save: it "
                "would change the base model's own weights"
            )
        replaced.add(owner)
    if not adapted:
        raise InvalidRequest(f"no tensor of the adapter is called ...{kind.prefix}...: its config is of another kind")
    return frozenset(adapted), frozenset(replaced)


def _value(key: str, value: object) -> object:
    kinds = _NUMBERS.get(key, (bool,))
    is_one = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not is_one or (isinstance(value, float) and not math.isfinite(value)):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise InvalidRequest(f"the adapter's config sets {key} = {value!r}, expected {expected}")
    return value


def _check_rank(rank: int, tensors: Mapping[str, Tensor]) -> None:
    """A rank is a dimension of some tensor; one that is larger than all of them would only take memory."""
    most = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    if not 1 <= rank <= most:
        raise InvalidRequest(f"the adapter's config sets r = {rank}, its tensors have no dimension above {most}")


def _exact_patterns(kind: _Kind, settings: Mapping[str, Any], adapted: frozenset[str]) -> dict[str, Any]:
    """``rank_pattern`` and ``alpha_pattern`` with one entry for each module, which matches it alone."""
    found: dict[str, Any] = {}
    for key, plain in (("rank_pattern", "r"), ("alpha_pattern", kind.alpha)):
        patterns = settings.get(key) or {}
        known = {field.name for field in dataclasses.fields(kind.config)}
        if not isinstance(patterns, dict) or (patterns and key not in known):
            raise InvalidRequest(f"the adapter's config sets {key} = {patterns!r}, which is not served")
        values = {pattern: _value(plain, value) for pattern, value in patterns.items()}
        matched = {path: pattern for path in sorted(adapted) if (pattern := _first_match(values, path)) is not None}
        if matched:
            # longer paths first: a shorter one may be the end of a longer one
            exact = sorted(matched, key=len, reverse=True)
            found[key] = {re.escape(path): values[matched[path]] for path in exact}
    return found


def _first_match(patterns: Iterable[str], path: str) -> str | None:
    """The first pattern that fits the end of ``path``, as PEFT matches them."""
    return next((pattern for pattern in patterns if _fits(pattern, path, r"(.*\.)?")), None)


def _fits(pattern: str, path: str, before: str = "") -> bool:
    if len(pattern) > _PATTERN_LENGTH:
        raise InvalidRequest(f"the adapter's config has a pattern of {len(pattern)} characters")
    try:
        return regex.fullmatch(f"{before}({pattern})", path, timeout=_PATTERN_S) is not None
    except (regex.error, TimeoutError, RecursionError) as error:
        raise InvalidRequest(
            f"the adapter's config has pattern {pattern!r}, which cannot be matched: {error}"
        ) from error


def _chosen(modules: object, adapted: frozenset[str]) -> list[str]:
    """The paths that ``modules``, a pattern or a list of ends, means."""
    if isinstance(modules, str):
        return sorted(path for path in adapted if _fits(modules, path))
    ends = _texts("feedforward_modules", modules)
    return sorted(path for path in adapted if any(path.endswith(end) for end in ends))


def _texts(key: str, value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise InvalidRequest(f"the adapter's config sets {key} = {value!r}, expected a list of names")
    return value


def _check_ranks(values: Mapping[str, Any], adapted: frozenset[str], tensors: Mapping[str, Tensor]) -> None:
    """The rank that the config gives a module is that of its tensors: the scale of its values depends on it."""
    for path in adapted:
        told = values.get("rank_pattern", {}).get(re.escape(path), values.get("r", 8))
        for name in (f"{ROOT}{path}.lora_A.weight", f"{ROOT}{path}.lora_embedding_A"):
            if name in tensors and tensors[name].shape[:1] != (told,):
                shape = list(tensors[name].shape)
                raise InvalidRequest(f"tensor {name!r} of the adapter has shape {shape}, its config says rank {told}")
