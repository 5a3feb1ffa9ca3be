"""Files of Inseq 0.7: reading all that it writes, and writing what it reads.

Such a file names a Python class for each object, and Inseq imports what is named. Here the names are texts that say
which part of a result follows; one that is not listed below is refused.
"""

import base64
import gzip
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.attribution import Attribution, Step, Token
from interpd_attribution.files.own import plain
from interpd_attribution.files.precision import Precision, decode, encode

OUTPUT = "FeatureAttributionOutput"
SEQUENCES = {
    "FeatureAttributionSequenceOutput": ("unit",),
    "GranularFeatureAttributionSequenceOutput": ("d_model",),
    "CoarseFeatureAttributionSequenceOutput": (),
    "MultiDimensionalFeatureAttributionSequenceOutput": ("layer", "head"),
}
"""Inseq's kinds of results, with the names of the axes that they may have left beside the tokens."""
STEPS = frozenset(name.replace("Sequence", "Step") for name in SEQUENCES)
TOKEN = "TokenWithId"
DATA, TYPING = "inseq.data.attribution", "inseq.utils.typing"

Content = Mapping[str, Any]


def is_inseq(content: object) -> bool:
    """Whether a file's content looks like one of Inseq's."""
    return isinstance(content, Mapping) and "__instance_type__" in content


def from_json(content: Content, where: str) -> tuple[tuple[Attribution, ...], dict[str, object]]:
    """The results of one of Inseq's files, and their ``info``."""
    try:
        parts = _attributes(content, (OUTPUT,), where)
        sequences = [_sequence(item, f"{where}, sequence {n}") for n, item in enumerate(parts["sequence_attributions"])]
        if parts.get("step_attributions") is not None:
            sequences = _with_steps(sequences, parts["step_attributions"], where)
        return tuple(sequences), {str(key): _info(value, where) for key, value in parts["info"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CallerError(f"{where} is damaged: {type(error).__name__}: {error}") from error


def to_json(sequences: Sequence[Attribution], info: Content, precision: Precision) -> dict[str, object]:
    """The content of a file that Inseq loads. Inseq cannot load step attributions, so they must not be there."""
    if any(item.step_attributions is not None for item in sequences):
        raise CallerError("Inseq cannot read step attributions back; without_steps=True leaves them out")
    shared = {"input_texts": [], "generated_texts": [], **plain(info)}
    parts = {
        "info": shared,
        "sequence_attributions": [_written(item, lambda array: encode(array, precision)) for item in sequences],
        "step_attributions": None,
    }
    return _instance(DATA, OUTPUT, parts)


def _written(item: Attribution, tensor: Callable[[np.ndarray], str]) -> dict[str, object]:
    last = item.attr_pos_end
    # Inseq wants no rows behind the last attributed token; nothing there can have a score
    target = item.target_attributions if item.target_attributions is None else item.target_attributions[:last]
    parts = {
        "source": [_token(token) for token in item.source],
        "target": [_token(token) for token in item.target],
        "source_attributions": None if item.source_attributions is None else tensor(item.source_attributions),
        "target_attributions": None if target is None else tensor(target),
        "step_scores": {name: tensor(array) for name, array in item.step_scores.items()},
        "sequence_scores": {name: tensor(array) for name, array in item.sequence_scores.items()},
        "attr_pos_start": item.attr_pos_start,
        "attr_pos_end": last,
    }
    return _instance(DATA, _kind(item.dims), parts)


def _kind(dims: tuple[str, ...]) -> str:
    if not dims:
        return "CoarseFeatureAttributionSequenceOutput"
    if len(dims) == 1 and dims[0].startswith("d_"):
        return "GranularFeatureAttributionSequenceOutput"
    if dims in (("layer",), ("layer", "head")):
        return "MultiDimensionalFeatureAttributionSequenceOutput"
    raise CallerError(
        f"Inseq has no kind of result with the axes {', '.join(dims)}; aggregate to none, to a vector (d_model), to "
        "layers, or to layers and heads"
    )


def _instance(module: str, name: str, attributes: Content) -> dict[str, object]:
    return {"__instance_type__": [module, name], "attributes": attributes}


def _token(token: Token) -> dict[str, object]:
    return _instance(TYPING, TOKEN, {"token": token.text, "id": token.id})


def _attributes(value: Content, names: Sequence[str] | frozenset[str], where: str) -> Content:
    """What an object of one of these classes holds."""
    if not isinstance(value, Mapping) or "__instance_type__" not in value:
        raise CallerError(
            f"{where} holds a {type(value).__name__} without a class, expected {', '.join(sorted(names))}"
        )
    module, name = value["__instance_type__"]
    if name not in names or not (module in (DATA, TYPING) or str(module).startswith("inseq.data.")):
        raise CallerError(f"{where} names the class {module}.{name}, expected {', '.join(sorted(names))} of Inseq")
    return value["attributes"]


def _tokens(values: Sequence[Content], where: str) -> tuple[Token, ...]:
    return tuple(
        Token(str(parts["token"]), int(parts["id"])) for parts in (_attributes(v, (TOKEN,), where) for v in values)
    )


def _sequence(value: Content, where: str) -> Attribution:
    parts = _attributes(value, tuple(SEQUENCES), where)
    source, target = _tokens(parts["source"], where), _tokens(parts["target"], where)
    names = ("source_attributions", "target_attributions")
    of_source, of_target = (_tensor(parts.get(name), f"{where}, {name}") for name in names)
    last = len(target) if parts.get("attr_pos_end") is None else min(int(parts["attr_pos_end"]), len(target))
    first = of_source if of_source is not None else of_target
    if of_target is not None and len(of_target) < len(target):
        below = np.full((len(target) - len(of_target), *of_target.shape[1:]), np.nan, dtype=np.float32)
        of_target = np.concatenate((of_target, below))
    return Attribution(
        source=source,
        target=target,
        source_attributions=of_source,
        target_attributions=of_target,
        dims=() if first is None else _dims(value["__instance_type__"][1], first.ndim - 2),
        step_scores=_tensors(parts.get("step_scores"), where),
        sequence_scores=_tensors(parts.get("sequence_scores"), where),
        attr_pos_start=int(parts["attr_pos_start"]),
        attr_pos_end=last,
    )


def _dims(kind: str, n_dims: int) -> tuple[str, ...]:
    usual = SEQUENCES[kind]
    return usual[:n_dims] if n_dims <= len(usual) else tuple(f"unit_{number}" for number in range(n_dims))


def _tensors(values: Content | None, where: str) -> dict[str, np.ndarray]:
    found = {str(name): _tensor(value, f"{where}, {name}") for name, value in (values or {}).items()}
    return {name: array for name, array in found.items() if array is not None}


def _tensor(value: object, where: str) -> np.ndarray | None:
    """Arrays of sequences are safetensors, arrays of steps are as numpy has them."""
    if value is None:
        return None
    return _ndarray(value, where) if isinstance(value, Mapping) else decode(value, where)


def _ndarray(value: Content, where: str) -> np.ndarray:
    data, dtype = value["__ndarray__"], np.dtype(str(value["dtype"]))
    if dtype.kind not in "fiub":
        raise CallerError(f"{where} holds an array of {dtype}, expected numbers")
    if not isinstance(data, str):
        return np.array(data, dtype=dtype).reshape(value["shape"]).astype(np.float32)
    form, _, text = data.partition(":")
    if form not in ("b64", "b64.gz"):
        raise CallerError(f"{where} holds an array written as {form!r}, expected b64 or b64.gz")
    raw = base64.b64decode(text, validate=True)
    raw = gzip.decompress(raw) if form == "b64.gz" else raw
    return np.frombuffer(raw, dtype=dtype).reshape(value["shape"]).astype(np.float32)


def _info(value: object, where: str) -> object:
    """Plain values; objects that a caller gave Inseq as arguments cannot be had back."""
    if isinstance(value, Mapping):
        if "__ndarray__" in value:
            return _ndarray(value, where).tolist()
        if "__instance_type__" in value:
            raise CallerError(f"info of {where} names the class {'.'.join(map(str, value['__instance_type__']))}")
        return {str(key): _info(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_info(item, where) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_steps(sequences: Sequence[Attribution], steps: Sequence[Content], where: str) -> list[Attribution]:
    """Inseq lists the steps of a batch, then those of the next; each step holds all sequences of its batch."""
    parts = [_attributes(step, STEPS, f"{where}, step {number}") for number, step in enumerate(steps)]
    batches = list(_batches(parts))
    sizes = [len(batch[0]["prefix"]) for batch in batches]
    if sum(sizes) != len(sequences):
        raise CallerError(f"{where} has steps of {sum(sizes)} sequences, but {len(sequences)} sequences")
    places = [(batch, row) for batch, size in zip(batches, sizes, strict=True) for row in range(size)]
    return [
        replace(item, step_attributions=tuple(_step(step, row, where) for step in batch[: len(item.generated)]))
        for item, (batch, row) in zip(sequences, places, strict=True)
    ]


def _batches(parts: Sequence[Content]) -> Iterator[list[Content]]:
    """Steps whose prefixes grow by a token belong together."""
    batch: list[Content] = []
    for step in parts:
        if batch and not (
            len(step["prefix"]) == len(batch[-1]["prefix"])
            and len(step["prefix"][0]) == len(batch[-1]["prefix"][0]) + 1
        ):
            yield batch
            batch = []
        batch.append(step)
    if batch:
        yield batch


def _step(parts: Content, row: int, where: str) -> Step:
    arrays = {name: _tensor(parts.get(name), where) for name in ("source_attributions", "target_attributions")}
    scores = _tensors(parts.get("step_scores"), where)
    return Step(
        prefix=_tokens(parts["prefix"][row], where),
        target=_tokens(parts["target"][row], where)[0],
        **{name: None if array is None else array[row] for name, array in arrays.items()},
        step_scores={name: float(values[row]) for name, values in scores.items()},
    )
