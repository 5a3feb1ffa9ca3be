"""Types of what belongs to the model: sites, modules, weights, token ids."""

from dataclasses import replace

from interpd.graph.dims import Call, Refusal, Scope, as_ints, same_size
from interpd.graph.ir import Node
from interpd.graph.promotion import FLOATS, category
from interpd.graph.schema import ModuleSchema
from interpd.graph.shapes_index import check_position, fits_into
from interpd.graph.types import Dim, TensorType

OWN_AXES = ("pos", "query_pos", "src_pos")
"""Axes that count the positions of a pass; of two the first is that of the queries."""


def _parts(call: Call) -> tuple[Node, Scope]:
    assert call.node is not None, "the checker sets the node of a call"
    assert call.scope is not None, "the checker sets the scope of a call"
    return call.node, call.scope


def site_type(call: Call) -> TensorType:
    """The type of the node's site for its own prompt, as far as sizes are known."""
    node, scope = _parts(call)
    site, lengths = scope.manifest.sites[call.params["site"]], scope.lengths[node.invoke]
    kind = site.type
    own, n_keys = _positions(node, scope, only_prefill=site.prefill_only)
    sizes = {"pos": own, "query_pos": own, "key_pos": n_keys, "src_pos": lengths.src_pos}
    return TensorType(kind.dtype, tuple(Dim(d.name, sizes.get(d.name)) if d.size is None else d for d in kind.dims))


def _positions(node: Node, scope: Scope, *, only_prefill: bool = False) -> tuple[int | None, int | None]:
    """(positions of the pass at the node's first step, past and present ones), as far as they are known."""
    n_pos = scope.lengths[node.invoke].pos
    step = node.steps.start if node.steps else 0
    only_prefill = only_prefill or (node.steps is not None and node.steps.stop == 1)
    if not step and (not scope.decoding or only_prefill):
        return n_pos, n_pos
    is_one = n_pos is not None and node.steps is not None and node.steps.stop == step + 1
    return 1, (n_pos or 0) + step if is_one else None


def site_read(call: Call) -> TensorType:
    """The site's type, with as many positions as were asked for."""
    value = site_type(call)
    positions = call.params["positions"]
    if positions is None:
        return value
    for place, dim in enumerate(value.dims):
        if dim.name in OWN_AXES:
            chosen = as_ints(positions)
            for position in chosen:
                check_position(position, dim, value, "params.positions")
            return replace(value, dims=(*value.dims[:place], Dim(dim.name, len(chosen)), *value.dims[place + 1 :]))
    raise Refusal(f"{value} has no positions to choose from", "params.positions", "BAD_PARAM")


def site_write(call: Call) -> tuple[TensorType, ...]:
    """Nothing comes out; the value broadcasts to the site's type."""
    wanted, value = site_type(call), call.tensor(0)
    families = value.dtype == "any" or category(value.dtype) == category(wanted.dtype)
    if not families or not fits_into(value, wanted):
        raise Refusal(f"wants {wanted} or what broadcasts to it, got {value}", "inputs[0]")
    return ()


def site_grad(call: Call) -> TensorType:
    """The type of the value with respect to which the gradient is taken."""
    target = call.tensor(0)
    if target.dtype not in FLOATS or any(dim.size not in (1, None) for dim in target.dims):
        raise Refusal(f"wants one floating number, got {target}: reduce it with torch.sum", "inputs[0]", "BAD_TARGET")
    wrt = call.tensor(1)
    if wrt.dtype not in FLOATS:
        raise Refusal(f"wants a floating value, got {wrt}", "inputs[1]", "BAD_TARGET")
    return wrt


def module_call(call: Call) -> TensorType:
    """The value with its last dimension turned into the module's own; token ids with the dimensions of their vectors
    behind them."""
    _, scope = _parts(call)
    path = call.params["module"]
    module = scope.manifest.modules[path]
    if module.n_ids is not None:
        return _looked_up(call, module)
    value = call.floating(0)
    dtype = scope.manifest.model.dtype
    if value.dtype != dtype and value.dtype in FLOATS - {"float"}:
        raise Refusal(f"wants {dtype} like the model, got {value}: cast it with tensor.to", "inputs[0]")
    if not value.dims or not same_size(value.dims[-1].size, module.d_in):
        raise Refusal(f"wants a last dimension of {module.d_in} for module {path!r}, got {value}", "inputs[0]")
    last = value.dims[-1] if module.d_out is None else Dim(module.d_out_name, module.d_out)
    return TensorType(value.dtype, (*value.dims[:-1], last))


def _looked_up(call: Call, module: ModuleSchema) -> TensorType:
    ids = call.tensor(0)
    if ids.dtype != "int64":
        text = f"wants token ids, int64, for module {module.path!r} ({module.kind}), got {ids}"
        raise Refusal(text, "inputs[0]")
    return TensorType(_parts(call)[1].manifest.model.dtype, (*ids.dims, *(Dim(*one) for one in module.appends)))


def param_read(call: Call) -> TensorType:
    """The type in the manifest."""
    return _parts(call)[1].manifest.parameters[call.params["name"]]


def tokens_ids(call: Call) -> TensorType:
    """int64[batch=1 pos], of the prompt alone, in generations too; of an encoder ``src_pos`` instead."""
    node, scope = _parts(call)
    lengths, side = scope.lengths[node.invoke], call.params["side"]
    if not scope.manifest.model.has_encoder and side is not None:
        name = scope.manifest.model.name
        raise Refusal(f"is {side!r}, but {name!r} has one side only: leave it out", "params.side", "BAD_PARAM")
    if scope.manifest.model.has_encoder and side is None:
        raise Refusal("is missing: write 'source' or 'target'", "params.side", "BAD_PARAM")
    dim = Dim("src_pos", lengths.src_pos) if side == "source" else Dim("pos", lengths.pos)
    return TensorType("int64", (Dim("batch", 1), dim))


def prefix_ids(call: Call) -> TensorType:
    """int64[batch=1 key_pos], of the prompt and of what was generated; of an encoder-decoder model its decoder's."""
    node, scope = _parts(call)
    return TensorType("int64", (Dim("batch", 1), Dim("key_pos", _positions(node, scope)[1])))
