"""Canonical bytes and digests: equal requests have equal digests, in any process and any language.

Labels are left out (they only serve messages), and an inline tensor counts as the blob that it could have been, so
that uploading a constant does not change what is asked.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from interpd.graph.ir import Arg, Blob, Dots, Generation, Graph, Node, Prompt, Ref, Slice
from interpd.graph.types import TensorData


def blob_digest(tensor: TensorData) -> str:
    """Hexadecimal SHA-256 over dtype, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype}{list(tensor.shape)}\n".encode())
    digest.update(tensor.data)
    return digest.hexdigest()


def graph_digest(graph: Graph, prompts: Sequence[Prompt], generation: Generation | None) -> str:
    """Hexadecimal SHA-256 of the canonical bytes."""
    return hashlib.sha256(canonical_bytes(graph, prompts, generation)).hexdigest()


def canonical_bytes(graph: Graph, prompts: Sequence[Prompt], generation: Generation | None) -> bytes:
    """JSON in UTF-8 with sorted keys and no spaces; every constant that JSON has no word for is a tagged object."""
    tree = {
        "format": 1,
        "prompts": [_prompt(prompt) for prompt in prompts],
        "generation": None if generation is None else _generation(generation),
        "nodes": [_node(node) for node in graph.nodes],
        "outputs": {name: [ref.node, ref.output] for name, ref in graph.outputs.items()},
    }
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _prompt(prompt: Prompt) -> dict[str, Any]:
    if prompt.target_text is not None:
        special = {"add_special_tokens": prompt.add_special_tokens}
        return _source(prompt) | special | {"target_text": prompt.target_text}
    if prompt.target_ids is not None:
        return _source(prompt) | {"target_ids": list(prompt.target_ids)}
    return _source(prompt)


def _source(prompt: Prompt) -> dict[str, Any]:
    if prompt.text is not None:
        return {"text": prompt.text, "add_special_tokens": prompt.add_special_tokens}
    if prompt.messages is not None:
        tree: dict[str, Any] = {"messages": [list(message) for message in prompt.messages]}
        if prompt.add_generation_prompt is not None:
            tree["add_generation_prompt"] = prompt.add_generation_prompt
        if prompt.continue_final_message:
            tree["continue_final_message"] = True
        return tree
    return {"token_ids": list(prompt.token_ids or ())}


def _generation(generation: Generation) -> dict[str, Any]:
    names = ("max_new_tokens", "do_sample", "top_k", "seed", "stop_strings", "stop_token_ids", "ignore_eos")
    # a temperature of 1 is that of 1.0
    floats = {name: _arg(float(getattr(generation, name))) for name in ("temperature", "top_p")}
    # without seeds for the prompts the digest is what it was before there were any
    seeds = {"seeds": _arg(generation.seeds)} if generation.seeds else {}
    return {name: _arg(getattr(generation, name)) for name in names} | floats | seeds


def _node(node: Node) -> dict[str, Any]:
    out: dict[str, Any] = {
        "op": node.op,
        "version": node.version,
        "invoke": node.invoke,
        "inputs": [_arg(arg) for arg in node.inputs],
        "params": {name: _arg(arg) for name, arg in node.params.items()},
    }
    if node.steps is not None:
        out["steps"] = [node.steps.start, node.steps.stop]
    return out


def _arg(arg: Arg) -> Any:
    match arg:
        case Ref():
            return {"ref": [arg.node, arg.output]}
        case Slice():
            return {"slice": [arg.start, arg.stop, arg.step]}
        case Dots():
            return {"dots": True}
        case TensorData():
            return {"blob": [blob_digest(arg), arg.dtype, list(arg.shape)]}
        case Blob():
            return {"blob": [arg.digest, arg.dtype, list(arg.shape)]}
        case tuple():
            return [_arg(item) for item in arg]
        case float():
            # hexadecimal floats are exact, include infinity and NaN, and keep 1.0 apart from 1
            return {"float": arg.hex()}
        case _:
            return arg
