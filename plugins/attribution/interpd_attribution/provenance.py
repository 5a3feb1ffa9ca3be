"""How a result came about: the keys that Inseq has, and what it takes to run it again."""

import ast
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from interpd.graph.schema import Manifest
from interpd_attribution.aggregation.functions import STEP_SCORES_KEY
from interpd_attribution.methods import FAMILY
from interpd_attribution.requests import Call
from interpd_attribution.results import functions_of
from interpd_attribution.sequences import Exact
from interpd_attribution.step_functions import name_of, origins, step_functions
from interpd_client import Result

DISTRIBUTION = "interpd-attribution"


def info_of(manifest: Manifest, exact: Exact, call: Call, result: Result, exec_time_s: float) -> dict[str, Any]:
    """What an ``Attribution`` knows of itself. Keys of Inseq 0.7 first, in its words."""
    model, asked, constants = manifest.model, call.asked, call.constants
    tokens = result.tokens[0]
    found: dict[str, Any] = {
        "attribution_method": call.schema.name.removeprefix(FAMILY),
        "attributed_fn": _target(call),
        "attribute_target": asked.attribute_target,
        "attributed_fn_args": {} if asked.is_value else _arguments(str(asked.target)),
        "attribution_args": dict(asked.constants),
        "attr_pos_start": call.start,
        "attr_pos_end": call.stop,
        "constrained_decoding": exact.is_forced,
        "exec_time": exec_time_s,
        "generate_from_target_prefix": exact.is_prefixed,
        "generated_texts": [(tokens.target or tokens).text],
        "generation_args": dict(asked.generation or {}),
        "include_eos_baseline": bool(constants.get("include_eos_baseline", False)),
        "input_texts": [exact.source.text],
        "model_class": model.architecture,
        "model_name": model.source,
        "output_step_attributions": False,
        "step_scores": list(asked.step_scores),
        "step_scores_args": {text: given for text in asked.step_scores if (given := _arguments(text))},
        "tokenizer_class": model.tokenizer,
        "tokenizer_name": model.source,
    }
    if functions := functions_of(asked.step_scores):
        found[STEP_SCORES_KEY] = functions
    return found | _again(manifest, call, result)


def _again(manifest: Manifest, call: Call, result: Result) -> dict[str, Any]:
    """What Inseq does not tell."""
    provenance, params = result.provenance, {param.name: param for param in call.schema.params}
    foils = call.compared.foils
    versions = {DISTRIBUTION: version(DISTRIBUTION), **dict(provenance.plugins), "engine": provenance.engine}
    versions |= _others(manifest, call)
    found: dict[str, Any] = {
        "constants": _plain(call.constants),
        "method_version": call.schema.version,
        "model_revision": provenance.model_revision,
        "dtype": provenance.dtype,
        "device": provenance.device,
        "versions": versions,
        "graph_digest": provenance.graph_digest,
        "run_id": result.run_id,
        "warnings": [*(foils.warnings if foils else ()), *result.warnings],
    }
    if provenance.adapter:
        found |= {"adapter": provenance.adapter, "adapter_digest": provenance.adapter_digest}
    if "seed" in params:
        found["seed"] = call.constants.get("seed", params["seed"].default)
    return found


def _target(call: Call) -> Any:
    """What was attributed; ``None`` of a method that attributes nothing in particular, such as attention."""
    if call.asked.is_value:
        return "value of the graph"
    takes_one = any(param.name == "target" for param in call.schema.params)
    return call.constants.get("target", call.asked.target) if takes_one else None


def _others(manifest: Manifest, call: Call) -> dict[str, str]:
    """The distributions of other packages that the method and the step functions come from, and their versions."""
    asked, known = call.asked, step_functions(manifest)
    scores = asked.step_scores if asked.is_value else (str(asked.target), *asked.step_scores)
    found = [origins(manifest).get(call.schema.name.removeprefix(FAMILY), "")]
    found += [known[name].origin for name in map(name_of, scores) if name in known]
    return dict(origin.rsplit(" ", 1) for origin in found if origin)


def _plain(constants: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in constants.items()}


def _arguments(written: str) -> dict[str, Any]:
    """The options in the parentheses of a step function."""
    tree = ast.parse(written.strip(), mode="eval").body
    words = tree.keywords if isinstance(tree, ast.Call) else ()
    return {str(word.arg): ast.literal_eval(word.value) for word in words}
