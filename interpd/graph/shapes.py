"""The shape rules by name (``OpSchema.shape_rule``): which types come out of which types and constants."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from interpd.graph import shapes_index as index
from interpd.graph import shapes_loss as loss
from interpd.graph import shapes_make as make
from interpd.graph import shapes_model as model
from interpd.graph import shapes_move as move
from interpd.graph import shapes_pointwise as pointwise
from interpd.graph import shapes_product as product
from interpd.graph import shapes_reduce as reduce
from interpd.graph.dims import Call
from interpd.graph.schema import Manifest, OpSchema
from interpd.graph.shapes_plugin import bind_words
from interpd.graph.types import TensorType

Rule = Callable[[Call], TensorType | tuple[TensorType, ...]]
"""Raises ``Refusal`` for what torch would refuse, and for what is sure to be a mistake."""

_RULES = (
    *(pointwise.arithmetic, pointwise.subtraction, pointwise.division, pointwise.integer_division, pointwise.power),
    *(pointwise.comparison, pointwise.test, pointwise.same, pointwise.negation, pointwise.square, pointwise.where),
    *(pointwise.float_unary, pointwise.float_only, pointwise.clamp, pointwise.masked_fill, pointwise.lerp),
    *(reduce.mean, reduce.reduce_float, reduce.vector_norm, reduce.reduce_bool, reduce.count, reduce.logsumexp),
    *(reduce.extreme, reduce.arg_extreme, reduce.select_one, reduce.median, reduce.kthvalue, reduce.topk, reduce.sort),
    *(reduce.argsort, reduce.quantile, reduce.cumulative, reduce.softmax, reduce.normalize, reduce.layer_norm),
    *(
        reduce.cosine_similarity,
        product.matmul,
        product.bmm,
        product.dot,
        product.outer,
        product.linear,
        product.einsum,
    ),
    *(index.getitem, index.setitem, index.gather, index.take_along_dim, index.index_select, index.scatter),
    *(move.reshape, move.flatten, move.unflatten, move.squeeze, move.unsqueeze, move.transpose, move.permute),
    *(move.movedim, move.broadcast_to, move.repeat_interleave, move.narrow, move.flip, move.roll, move.diagonal),
    *(move.triangle, move.cat, move.stack, make.make, make.noise, make.like, make.eye, make.arange, make.linspace),
    *(make.one_hot, model.site_read, model.site_write, model.site_grad, model.module_call, model.param_read),
    *(model.tokens_ids, model.prefix_ids, loss.kl_div, loss.cross_entropy),
)

RULES: Mapping[str, Rule] = MappingProxyType(
    {**{rule.__name__: rule for rule in _RULES}, "sum": reduce.total, "to": pointwise.cast}
)
"""Every rule by name."""


def output_types(schema: OpSchema, call: Call, manifest: Manifest) -> tuple[TensorType, ...]:
    """The types of the outputs of one call. Raises ``Refusal``."""
    if not schema.shape_rule:
        return bind_words(schema, call, manifest)
    out = RULES[schema.shape_rule](call)
    return (out,) if isinstance(out, TensorType) else out
