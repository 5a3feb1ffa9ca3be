"""Models that somebody has loaded already, in this process."""

from weakref import ReferenceType, WeakKeyDictionary, ref

from torch import nn
from transformers import PreTrainedTokenizerBase

from interpd.config import ModelSpec
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.resident import Loaded
from interpd.errors import InvalidRequest, PreconditionFailed

REVISION = "unknown"
"""Nobody can say where the weights of such a model are from."""

_ENGINES: WeakKeyDictionary[nn.Module, ReferenceType[NnsightEngine]] = WeakKeyDictionary()
# the last engine of each; two at once would see each other's passes


def loaded_from(model: object, tokenizer: object, spec: ModelSpec) -> Loaded:
    """A model as loading would hand it over: in eval mode, with frozen weights, where it is and as it is computed.

    Args:
        model: A transformers model.
        tokenizer: Its tokenizer, if it has one.
        spec: Says neither dtype nor device.

    Raises:
        InvalidRequest: Something else was given.
        PreconditionFailed: It is served already.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise InvalidRequest(f"a {type(model).__name__} was given as a model, expected one of transformers")
    if tokenizer is not None and not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InvalidRequest(f"a {type(tokenizer).__name__} was given as a tokenizer, expected one of transformers")
    if (engine := _ENGINES.get(model, lambda: None)()) is not None and not engine.is_closed:
        raise PreconditionFailed(
            f"this {type(model).__name__} is served already, by a client of this process that is not closed: close() "
            "that one first, or give a copy (copy.deepcopy) of the model"
        )
    for name in ("dtype", "device"):
        if (asked := getattr(spec, name)) != "auto":
            raise InvalidRequest(f"{name} {asked!r} cannot be had for a model that is loaded: move it with .to(...)")
    problem = "" if tokenizer is not None else "the model was given without a tokenizer"
    if tokenizer is not None and not tokenizer.is_fast:
        problem = f"the model's tokenizer ({type(tokenizer).__name__}) is no fast one and cannot tell offsets"
    # pyright: a fast one by its own word
    return Loaded(
        model.eval().requires_grad_(False),
        None if problem else tokenizer,  # pyright: ignore[reportArgumentType]
        spec,
        REVISION,
        problem,
    )


def serves(engine: NnsightEngine, model: nn.Module) -> None:
    """Remembers which engine a model was given to, for as long as both live."""
    _ENGINES[model] = ref(engine)
