"""Inseq's calls, for scripts that come from there: ``from interpd_attribution import inseq_shim as inseq``.

    model = inseq.load_model("path/to/model", "integrated_gradients")
    out = model.attribute("The cat sat", n_steps=50, generation_args={"max_new_tokens": 5})
    out.show()

What is where, and what differs, is in the plugin's README. New programs use ``model.attribute`` of interpd itself.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NoReturn
from weakref import ReferenceType, WeakKeyDictionary, ref

from interpd.errors import CallerError, PreconditionFailed
from interpd_attribution.aggregation import AggregatorPipeline, list_aggregation_functions, list_aggregators
from interpd_attribution.aggregation.registry import find
from interpd_attribution.attributions import Attributions
from interpd_attribution.inseq_shim.model import AttributionModel
from interpd_attribution.inseq_shim.outputs import (
    FeatureAttributionOutput,
    FeatureAttributionSequenceOutput,
    merge_attributions,
)
from interpd_attribution.inseq_words import METHODS, STEP_FUNCTIONS, method_of
from interpd_client import Client, Model, connect, local

__all__ = [
    "AggregatorPipeline",
    "AttributionModel",
    "ContiguousSpanAggregator",
    "FeatureAttributionOutput",
    "FeatureAttributionSequenceOutput",
    "PairAggregator",
    "SequenceAttributionAggregator",
    "SliceAggregator",
    "StringSplitAggregator",
    "SubwordAggregator",
    "explain",
    "list_aggregation_functions",
    "list_aggregators",
    "list_feature_attribution_methods",
    "list_step_functions",
    "list_supported_frameworks",
    "load_model",
    "merge_attributions",
    "register_model_config",
    "register_step_function",
    "show_attributions",
    "show_granular_attributions",
    "show_token_attributions",
]

SequenceAttributionAggregator, ContiguousSpanAggregator, SubwordAggregator = "scores", "spans", "subwords"
StringSplitAggregator, PairAggregator, SliceAggregator = "split", "pair", "slices"
"""Inseq's classes of ``inseq.data.aggregator``, as aggregators are named here."""

_SERVING: MutableMapping[Any, tuple[ReferenceType[Client], Any]] = WeakKeyDictionary()
"""The client and the tokenizer of each model of transformers that was given: scripts load one again per method."""

_LOADING = ("dtype", "attn_implementation")
"""Of ``model_kwargs``, where ``torch_dtype`` is ``dtype``; the last changes no number, since attention is shown
whichever runs. With others, or arguments of the tokenizer, transformers loads the model."""


def load_model(
    model: Any,
    attribution_method: str | None = None,
    framework: str = "hf_transformers",
    *,
    tokenizer: Any = None,
    device: str | None = None,
    address: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    tokenizer_kwargs: Mapping[str, Any] | None = None,
    **method_kwargs: Any,
) -> AttributionModel:
    """A model that is asked as Inseq's are: of a daemon, or in this process.

    Args:
        model: A folder, a name of the hub with its commit, a model of transformers (which may be loaded again for
            another method; closing one closes all), or one of interpd; with an address the name that the daemon has for
            it.
        attribution_method: The method of calls that name none.
        framework: Only this one.
        tokenizer: Of a model of transformers; or where it is.
        device: Of a model that is loaded here.
        address: Of a daemon, ``host:port``; ``None``: the model runs in this process.
        model_kwargs: Of transformers' ``from_pretrained``, for a model that is loaded here: ``dtype``, ...
        tokenizer_kwargs: Of that of the tokenizer: ``src_lang``, ``tgt_lang``, ...
        method_kwargs: Options of the method for all calls: ``target_layer``, ``multiply_by_inputs``, ...

    Raises:
        CallerError: Another framework, arguments that contradict one another.
        InterpdError: What loading raises.
    """
    if framework != "hf_transformers":
        raise CallerError(f"framework is {framework!r}, expected 'hf_transformers'")
    given = {"model_kwargs": dict(model_kwargs or {}), "tokenizer_kwargs": dict(tokenizer_kwargs or {})}
    if isinstance(model, Model) or address is not None:
        served, client = _of_daemon(model, address, [tokenizer, device, *given.values()])
    else:
        client = _loaded(model, tokenizer, device, **given)
        served = client.model("model")
    made = AttributionModel(served, attribution_method, method_kwargs, client=client)
    if hasattr(model, "named_modules"):
        made.path_of = lambda layer: _path(model, layer)
    return made


def list_feature_attribution_methods() -> list[str]:
    """The ids of Inseq's methods, all of which can be asked for; a model of interpd lists ours."""
    return sorted(METHODS)


def list_step_functions() -> list[str]:
    """The ids of Inseq's step functions, all of which can be asked for."""
    return sorted(STEP_FUNCTIONS)


def list_supported_frameworks() -> list[str]:
    """The one."""
    return ["hf_transformers"]


def explain(id: str) -> None:
    """Prints what a method, a step function or an aggregator of Inseq is here. Raises ``CallerError``."""
    if id in METHODS:
        method = method_of(id)
        said = [f"{id}: the method {method.id!r} of interpd; model.attribute.explain({method.id!r}) says all about it."]
        said += [f"  {theirs} is {ours}" for theirs, ours in method.renamed.items()]
        said += [method.note] if method.note else []
    elif id in STEP_FUNCTIONS:
        options = ", ".join(STEP_FUNCTIONS[id])
        said = [f"{id}: a step function" + (f", with the options {options}." if options else ".")]
    else:
        said = [f"{id}: {find(id).call.__doc__}"]
    sys.stdout.write("\n".join(said) + "\n")


def show_attributions(attributions: Attributions, **options: Any) -> str | None:
    """``attributions.show(...)``."""
    return attributions.show(**options)


def show_granular_attributions(attributions: Attributions, **options: Any) -> str | None:
    """``attributions.show_granular(...)``."""
    return attributions.show_granular(**options)


def show_token_attributions(attributions: Attributions, **options: Any) -> str | None:
    """``attributions.show_tokens(...)``."""
    return attributions.show_tokens(**options)


def register_step_function(fn: Callable[..., Any], identifier: str, **_: Any) -> NoReturn:
    """Refuses: step functions run where the model is, and no code travels there."""
    raise CallerError(
        f"step function {identifier!r}: workers run no code of clients. Mark it with @step_function of "
        "interpd_attribution.worker.scoring.registry and offer it as an entry point interpd_attribution.step_functions "
        "where the model is, or attribute a value of the graph: model.attribute(text, target=lambda t: ...)"
    )


def register_model_config(model_type: str, config: Mapping[str, Any], **_: Any) -> None:
    """Warns: nothing needs such a config here, the sites of a model are found and tested when it is loaded."""
    warnings.warn(f"register_model_config({model_type!r}): not needed here, and without effect", stacklevel=2)


def _of_daemon(model: Any, address: str | None, of_loading: Sequence[Any]) -> tuple[Model, Client | None]:
    """(model, the client to close with it)."""
    if any(of_loading):
        raise CallerError("the model is served already: leave tokenizer, device and what is for loading it out")
    if isinstance(model, Model):
        return model, None
    client = connect(str(address))
    return client.model(model), client


def _loaded(
    model: Any, tokenizer: Any, device: str | None, *, model_kwargs: dict[str, Any], tokenizer_kwargs: dict[str, Any]
) -> Client:
    """A client with the model ``model``, which runs in this process."""
    if not isinstance(model, str):
        if model_kwargs or (tokenizer_kwargs and not isinstance(tokenizer, str)):
            raise CallerError("the model is loaded already: leave model_kwargs and tokenizer_kwargs out")
        if isinstance(tokenizer, str):
            from interpd_attribution.commands.pretrained import tokenizer_of  # imports torch

            tokenizer = tokenizer_of(tokenizer, tokenizer_kwargs)
        try:
            made = local(model if tokenizer is None else (model, tokenizer), name="model", plugins=("attribution",))
        except PreconditionFailed:
            client, before = _SERVING.get(model, (lambda: None, None))
            if (made := client()) is None:
                raise
            if tokenizer is not before:
                raise CallerError("the model is loaded already, with another tokenizer: close() it first") from None
            return made
        _SERVING[model] = ref(made), tokenizer
        return made
    if tokenizer is not None:
        raise CallerError("tokenizer: a model that is loaded here brings its own; give a model of transformers with it")
    if "torch_dtype" in model_kwargs:
        model_kwargs["dtype"] = model_kwargs.pop("torch_dtype")
    if not tokenizer_kwargs and all(name in _LOADING for name in model_kwargs):
        dtype = str(model_kwargs.get("dtype", "auto")).removeprefix("torch.")
        return local(model, name="model", plugins=("attribution",), dtype=dtype, device=device or "auto")
    from interpd_attribution.commands.pretrained import pretrained  # imports torch

    given = pretrained(model, model_kwargs, tokenizer_kwargs, device=device)
    return local(given, name="model", plugins=("attribution",))


def _path(model: Any, layer: Any) -> str:
    """The dotted path of a module."""
    if isinstance(layer, str):
        return layer
    found = next((name for name, module in model.named_modules() if module is layer), None)
    if found is None:
        raise CallerError(f"target_layer {type(layer).__name__} is no module of the model")
    return found
