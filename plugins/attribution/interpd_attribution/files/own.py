"""Our file: plain JSON with a version. It names no code; what a reader makes of it is what stands here.

{"format": "interpd-attribution", "version": 1, "info": {...}, "sequences": [
    {"source": [["▁the", 37], ...], "target": [...], "dims": ["d_model"], "attr_pos_start": 1, "attr_pos_end": 5,
     "source_attributions": TENSOR or null, "target_attributions": TENSOR or null, "step_scores": {name: TENSOR},
     "sequence_scores": {name: TENSOR}, "step_attributions": [STEP] or null, "info": {...}}]}

TENSOR  {"safetensors": base64, "scale": 1.0}: its numbers divided by the scale; or
        {"shape": [2, 3], "values": [0.5, null, ...]}: all of them, the last axis fastest; null is NaN, and infinities
        are the texts "inf" and "-inf"
STEP    {"prefix": tokens, "target": token, "source_attributions": ..., "target_attributions": ..., "step_scores": {}}
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.attribution import Attribution, Step, Token
from interpd_attribution.files.precision import Precision, decode, encode, fitting_scale

FORMAT = "interpd-attribution"
VERSION = 1

Encode = Callable[[np.ndarray | None], object]


def to_json(
    sequences: Sequence[Attribution], info: Mapping[str, object], precision: Precision, *, is_compact: bool
) -> dict[str, object]:
    """The content of a file. Not ``is_compact``: numbers as text that any program reads, always in float32."""

    def tensor(array: np.ndarray | None) -> object:
        if array is None:
            return None
        return _packed(array, precision) if is_compact else _listed(array)

    written = [{**_sequence(item, tensor), "info": _its_own(item, info)} for item in sequences]
    return {"format": FORMAT, "version": VERSION, "info": plain(info), "sequences": written}


def from_json(content: Mapping[str, Any], where: str) -> tuple[tuple[Attribution, ...], dict[str, object]]:
    """The results and their ``info``; ``CallerError`` says what of a file is wrong."""
    if content.get("version") != VERSION:
        raise CallerError(
            f"{where} has version {content.get('version')!r} of {FORMAT}, but this package reads version {VERSION}"
        )
    try:
        found = [_read_sequence(item, f"{where}, sequence {n}") for n, item in enumerate(content["sequences"])]
        return tuple(found), dict(content["info"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CallerError(f"{where} is damaged: {type(error).__name__}: {error}") from error


def plain(value: object) -> Any:
    """``value`` as JSON has it: tuples as lists, numbers of numpy as numbers."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def _sequence(item: Attribution, tensor: Encode) -> dict[str, object]:
    steps = item.step_attributions
    return {
        "source": [list(token) for token in item.source],
        "target": [list(token) for token in item.target],
        "dims": list(item.dims),
        "attr_pos_start": item.attr_pos_start,
        "attr_pos_end": item.attr_pos_end,
        "source_attributions": tensor(item.source_attributions),
        "target_attributions": tensor(item.target_attributions),
        "step_scores": {name: tensor(array) for name, array in item.step_scores.items()},
        "sequence_scores": {name: tensor(array) for name, array in item.sequence_scores.items()},
        "step_attributions": None if steps is None else [_step(step, tensor) for step in steps],
        "info": {},
    }


def _its_own(item: Attribution, shared: Mapping[str, object]) -> dict[str, object]:
    """What ``info`` of a sequence says beside what holds for all."""
    own, common = plain(item.info), plain(shared)
    return {key: value for key, value in own.items() if key not in common or value != common[key]}


def _step(step: Step, tensor: Encode) -> dict[str, object]:
    return {
        "prefix": [list(token) for token in step.prefix],
        "target": list(step.target),
        "source_attributions": tensor(step.source_attributions),
        "target_attributions": tensor(step.target_attributions),
        "step_scores": {name: float(value) for name, value in step.step_scores.items()},
    }


def _read_sequence(item: Mapping[str, Any], where: str) -> Attribution:
    known = {name for name in _sequence(_NOTHING, lambda array: None)}
    if unknown := sorted(item.keys() - known):
        raise CallerError(f"{where} has unknown parts: {', '.join(unknown)}")
    steps = item["step_attributions"]
    return Attribution(
        source=_tokens(item["source"]),
        target=_tokens(item["target"]),
        source_attributions=_tensor(item["source_attributions"], f"{where}, source_attributions"),
        target_attributions=_tensor(item["target_attributions"], f"{where}, target_attributions"),
        dims=tuple(str(dim) for dim in item["dims"]),
        step_scores={name: _tensor(value, f"{where}, {name}") for name, value in item["step_scores"].items()},
        sequence_scores={name: _tensor(value, f"{where}, {name}") for name, value in item["sequence_scores"].items()},
        attr_pos_start=int(item["attr_pos_start"]),
        attr_pos_end=int(item["attr_pos_end"]),
        step_attributions=None if steps is None else tuple(_read_step(step, where) for step in steps),
        info=dict(item["info"]),
    )


def _read_step(step: Mapping[str, Any], where: str) -> Step:
    return Step(
        prefix=_tokens(step["prefix"]),
        target=_tokens([step["target"]])[0],
        source_attributions=_tensor(step["source_attributions"], f"{where}, step_attributions"),
        target_attributions=_tensor(step["target_attributions"], f"{where}, step_attributions"),
        step_scores={str(name): float(value) for name, value in step["step_scores"].items()},
    )


def _tokens(pairs: Sequence[Sequence[Any]]) -> tuple[Token, ...]:
    return tuple(Token(str(text), int(number)) for text, number in pairs)


def _packed(array: np.ndarray, precision: Precision) -> dict[str, object]:
    scale = fitting_scale(array, precision)
    return {"safetensors": encode(array * np.float32(scale), precision), "scale": scale}


def _listed(array: np.ndarray) -> dict[str, object]:
    values = [_number(value) for value in array.ravel().tolist()]
    return {"shape": list(array.shape), "values": values}


def _number(value: float) -> float | str | None:
    if np.isnan(value):
        return None
    return value if np.isfinite(value) else "inf" if value > 0 else "-inf"


def _tensor(value: Mapping[str, Any] | None, where: str) -> np.ndarray | None:
    if value is None:
        return None
    if "safetensors" in value:
        return decode(value["safetensors"], where) / np.float32(value.get("scale", 1.0))
    numbers = [np.nan if number is None else float(number) for number in value["values"]]
    return np.array(numbers, dtype=np.float32).reshape(value["shape"])


_NOTHING = Attribution((), ())
