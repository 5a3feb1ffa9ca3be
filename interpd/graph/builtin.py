"""The built-in operations: sites, the model's own modules and weights, and tensor algebra named as in torch.

Each row says the signature (``graph/signature.py`` explains the marks), the rule of ``graph/shapes.py`` that gives its
type, and what it returns. ``ops/`` holds the implementations of ``torch.*`` and ``tensor.*``; the engine runs
the others.
"""

from collections.abc import Mapping
from types import MappingProxyType

from interpd.graph.schema import OpSchema
from interpd.graph.signature import Signature, parse_signature

_MODEL = """
site.read(site: str, positions: ints = None) | site_read | the value at a site, or only some positions of it
site.write(value, site: str) -> none | site_write | nothing: puts a value in force at a site, from there on
site.grad(target, wrt) | site_grad | the gradient of a scalar with respect to a value read at a site
module.call(x, module: str) | module_call | a module of the model applied to a value
param.read(name: str) | param_read | a weight or buffer of the model
tokens.ids(side: literal['source', 'target'] = None) | tokens_ids \
| the token ids of the prompt: int64[batch=1 pos]; of an encoder-decoder model those of one side
tokens.prefix_ids() | prefix_ids \
| the token ids of everything so far: of a generation the prompt and the new tokens that this step has fed back
"""

_TENSOR = """
tensor.getitem(x, index@) | getitem | ``x[index]``
tensor.setitem(x, index@, value#) | setitem | a copy of ``x`` with ``x[index]`` replaced by ``value``
tensor.to(x, dtype: dtype) | to | ``x`` cast to another dtype
tensor.detach(x) | same | ``x`` as a constant: gradients stop here
"""

_POINTWISE = """
torch.add(input#, other#) | arithmetic | ``input + other``
torch.sub(input#, other#) | subtraction | ``input - other``
torch.mul(input#, other#) | arithmetic | ``input * other``
torch.div(input#, other#) | division | ``input / other``; integers give floats
torch.floor_divide(input#, other#) | integer_division | ``input // other``, rounded down
torch.remainder(input#, other#) | integer_division | ``input % other``, with the sign of ``other``
torch.pow(input#, exponent#) | power | ``input ** exponent``
torch.maximum(input, other) | arithmetic | the greater of two values, elementwise
torch.minimum(input, other) | arithmetic | the lesser of two values, elementwise
torch.eq(input#, other#) | comparison | ``input == other``
torch.ne(input#, other#) | comparison | ``input != other``
torch.lt(input#, other#) | comparison | ``input < other``
torch.le(input#, other#) | comparison | ``input <= other``
torch.gt(input#, other#) | comparison | ``input > other``
torch.ge(input#, other#) | comparison | ``input >= other``
torch.logical_and(input, other) | comparison | where both are nonzero
torch.logical_or(input, other) | comparison | where at least one is nonzero
torch.logical_xor(input, other) | comparison | where exactly one is nonzero
torch.logical_not(input) | test | where the value is zero
torch.isnan(input) | test | where the value is not a number
torch.isinf(input) | test | where the value is infinite
torch.isfinite(input) | test | where the value is neither infinite nor NaN
torch.neg(input) | negation | ``-input``
torch.abs(input) | negation | absolute values
torch.sign(input) | same | -1, 0 or 1
torch.floor(input) | negation | rounded down
torch.ceil(input) | negation | rounded up
torch.round(input) | negation | rounded to the nearest, halves to even
torch.trunc(input) | negation | rounded towards zero
torch.square(input) | square | ``input ** 2``
torch.exp(input) | float_unary | e to the power of each element
torch.expm1(input) | float_unary | ``exp(input) - 1``, exact near zero
torch.log(input) | float_unary | natural logarithms
torch.log1p(input) | float_unary | ``log(1 + input)``, exact near zero
torch.log2(input) | float_unary | logarithms to base 2
torch.sqrt(input) | float_unary | square roots
torch.rsqrt(input) | float_unary | one over square roots
torch.reciprocal(input) | float_unary | ``1 / input``
torch.sin(input) | float_unary | sines
torch.cos(input) | float_unary | cosines
torch.tanh(input) | float_unary | hyperbolic tangents
torch.sigmoid(input) | float_unary | ``1 / (1 + exp(-input))``
torch.erf(input) | float_unary | the error function
torch.relu(input) | negation | ``max(input, 0)``
torch.silu(input) | float_only | ``input * sigmoid(input)``
torch.gelu(input, approximate: literal['none', 'tanh'] = 'none') | float_only | Gaussian error linear units
torch.softplus(input) | float_only | ``log(1 + exp(input))``
torch.nan_to_num(input, nan: float = 0.0, posinf: float = None, neginf: float = None) | same \
| NaN and infinities replaced
torch.clamp(input, min: float = None, max: float = None) | clamp | each element limited to ``min``..``max``
torch.where(condition, input#, other#) | where | ``input`` where the condition holds, else ``other``
torch.masked_fill(input, mask, value: float) | masked_fill | ``input`` with ``value`` where the mask holds
torch.lerp(input, end, weight#) | lerp | ``input + weight * (end - input)``
"""

_REDUCTIONS = """
torch.sum(input, dim: ints = None, keepdim: bool = False, dtype: dtype = None) | sum | sums; integers give int64
torch.prod(input, dim: int = None, keepdim: bool = False, dtype: dtype = None) | sum | products; integers give int64
torch.mean(input, dim: ints = None, keepdim: bool = False, dtype: dtype = None) | mean | means
torch.std(input, dim: ints = None, correction: int = 1, keepdim: bool = False) | reduce_float | standard deviations
torch.var(input, dim: ints = None, correction: int = 1, keepdim: bool = False) | reduce_float | variances
torch.logsumexp(input, dim: ints, keepdim: bool = False) | logsumexp | ``log(sum(exp(input)))``, stable
torch.linalg.vector_norm(x, ord: float = 2, dim: ints = None, keepdim: bool = False) | vector_norm \
| norms of vectors
torch.any(input, dim: ints = None, keepdim: bool = False) | reduce_bool | whether any element is nonzero
torch.all(input, dim: ints = None, keepdim: bool = False) | reduce_bool | whether all elements are nonzero
torch.count_nonzero(input, dim: ints = None) | count | how many elements are nonzero
torch.amax(input, dim: ints = None, keepdim: bool = False) | extreme | greatest elements
torch.amin(input, dim: ints = None, keepdim: bool = False) | extreme | least elements
torch.argmax(input, dim: int = None, keepdim: bool = False) | arg_extreme | places of the greatest elements
torch.argmin(input, dim: int = None, keepdim: bool = False) | arg_extreme | places of the least elements
torch.max(input, dim: int, keepdim: bool = False) -> values, indices | select_one \
| greatest elements and their places
torch.min(input, dim: int, keepdim: bool = False) -> values, indices | select_one | least elements and their places
torch.median(input, dim: int, keepdim: bool = False) -> values, indices | median \
| (lower) medians and their places
torch.kthvalue(input, k: int, dim: int = -1, keepdim: bool = False) -> values, indices | kthvalue \
| k-th least elements
torch.quantile(input, q: float, dim: int = None, keepdim: bool = False) | quantile \
| quantiles, interpolated linearly
torch.topk(input, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> values, indices | topk \
| the k greatest elements and their places
torch.sort(input, dim: int = -1, descending: bool = False, stable: bool = False) -> values, indices | sort \
| sorted elements and where they were
torch.argsort(input, dim: int = -1, descending: bool = False, stable: bool = False) | argsort \
| the places that would sort
torch.cumsum(input, dim: int, dtype: dtype = None) | cumulative | running sums; integers give int64
torch.cumprod(input, dim: int, dtype: dtype = None) | cumulative | running products; integers give int64
torch.softmax(input, dim: int, dtype: dtype = None) | softmax | exponentials that sum to 1 along ``dim``
torch.log_softmax(input, dim: int, dtype: dtype = None) | softmax | logarithms of the softmax
torch.normalize(input, p: float = 2.0, dim: int = 1, eps: float = 1e-12) | normalize | vectors scaled to norm 1
torch.layer_norm(input, normalized_shape: ints, weight?, bias?, eps: float = 1e-05) | layer_norm \
| mean 0, variance 1, over the last dimensions
torch.rms_norm(input, normalized_shape: ints, weight?, eps: float = None) | layer_norm \
| mean square 1 over the last dimensions
torch.cosine_similarity(x1, x2, dim: int = 1, eps: float = 1e-08) | cosine_similarity | cosines between vectors
torch.kl_div(input, target, reduction: literal['none', 'mean', 'batchmean', 'sum'] = 'mean', log_target: bool = False) \
| kl_div | ``target * (log(target) - input)`` of log-probabilities ``input``
torch.cross_entropy(input, target, weight?, ignore_index: int = -100, \
reduction: literal['none', 'mean', 'sum'] = 'mean', label_smoothing: float = 0.0) | cross_entropy \
| minus the log-probability of the target classes
"""

_PRODUCTS = """
torch.matmul(input, other) | matmul | the matrix product, broadcast over leading dimensions
torch.bmm(input, mat2) | bmm | matrix products of a batch
torch.dot(input, tensor) | dot | the inner product of two vectors
torch.outer(input, vec2) | outer | the outer product of two vectors
torch.linear(input, weight, bias?) | linear | ``input @ weight.T + bias``
torch.einsum(equation: str, operands*) | einsum | sums of products, as the equation says
"""

_INDEXING = """
torch.gather(input, dim: int, index) | gather | elements picked along ``dim``, one per element of ``index``
torch.take_along_dim(input, indices, dim: int) | take_along_dim \
| elements picked along ``dim``, broadcast over the others
torch.index_select(input, dim: int, index) | index_select | whole slices picked along ``dim``
torch.scatter(input, dim: int, index, src#) | scatter | a copy of ``input`` with ``src`` put at ``index``
torch.scatter_add(input, dim: int, index, src) | scatter | a copy of ``input`` with ``src`` added at ``index``
torch.cat(tensors*, dim: int = 0) | cat | values joined along a dimension that they have
torch.stack(tensors*, dim: int = 0) | stack | values joined along a new dimension
torch.reshape(input, shape: ints) | reshape | the same elements in another shape; one size may be -1
torch.flatten(input, start_dim: int = 0, end_dim: int = -1) | flatten | several dimensions as one
torch.unflatten(input, dim: int, sizes: ints) | unflatten | one dimension as several
torch.squeeze(input, dim: ints) | squeeze | without those of the named dimensions whose size is 1
torch.unsqueeze(input, dim: int) | unsqueeze | with a new dimension of size 1
torch.transpose(input, dim0: int, dim1: int) | transpose | two dimensions exchanged
torch.permute(input, dims: ints) | permute | dimensions in another order
torch.movedim(input, source: ints, destination: ints) | movedim | dimensions moved
torch.broadcast_to(input, size: ints) | broadcast_to | repeated along dimensions of size 1
torch.repeat_interleave(input, repeats: int, dim: int) | repeat_interleave | each slice repeated
torch.narrow(input, dim: int, start: int, length: int) | narrow | a range of one dimension
torch.flip(input, dims: ints) | flip | reversed along dimensions
torch.roll(input, shifts: ints, dims: ints) | roll | shifted along dimensions, around the end
torch.diagonal(input, offset: int = 0, dim1: int = 0, dim2: int = 1) | diagonal | diagonals, as the last dimension
torch.tril(input, diagonal: int = 0) | triangle | zero above a diagonal
torch.triu(input, diagonal: int = 0) | triangle | zero below a diagonal
"""

_MAKERS = """
torch.zeros_like(input, dtype: dtype = None) | like | zeros in the shape of ``input``
torch.ones_like(input, dtype: dtype = None) | like | ones in the shape of ``input``
torch.full_like(input, fill_value: float, dtype: dtype = None) | like | one number in the shape of ``input``
torch.zeros(size: ints, dtype: dtype = 'float32') | make | zeros
torch.ones(size: ints, dtype: dtype = 'float32') | make | ones
torch.full(size: ints, fill_value: float, dtype: dtype = 'float32') | make | one number everywhere
torch.eye(n: int, m: int = None, dtype: dtype = 'float32') | eye | an identity matrix
torch.arange(start: float, end: float, step: float = 1, dtype: dtype = None) | arange \
| numbers from start to before end
torch.linspace(start: float, end: float, steps: int, dtype: dtype = 'float32') | linspace \
| evenly spaced numbers, ends included
torch.one_hot(input, num_classes: int) | one_hot | int64 rows with a 1 at each index
torch.randn(size: ints, seed: int, dtype: dtype = 'float32') | noise | normal noise; equal seeds give equal noise
torch.rand(size: ints, seed: int, dtype: dtype = 'float32') | noise \
| noise between 0 and 1; equal seeds give equal noise
"""

_NOT_DIFFERENTIABLE_RULES = frozenset(
    {"comparison", "test", "arg_extreme", "argsort", "count", "reduce_bool", "one_hot"}
)

# torch has no derivative for it; it is zero wherever there is one
_NOT_DIFFERENTIABLE = "torch.floor_divide"


def _parse(table: str) -> dict[str, Signature]:
    signatures = {}
    for line in table.strip().splitlines():
        text, rule, summary = line.split(" | ")
        is_step = rule in _NOT_DIFFERENTIABLE_RULES or text.startswith(_NOT_DIFFERENTIABLE)
        signature = parse_signature(text, rule=rule, summary=summary, differentiable=not is_step)
        signatures[signature.schema.name] = signature
    return signatures


_SIGNATURES = _parse(
    "".join((_MODEL, _TENSOR, _POINTWISE, _REDUCTIONS, _PRODUCTS, _INDEXING, _MAKERS)).replace("\n\n", "\n")
)

BUILTIN_OPS: Mapping[str, OpSchema] = MappingProxyType({name: item.schema for name, item in _SIGNATURES.items()})
"""Every built-in operation by name."""

POSITIONAL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: item.positional for name, item in _SIGNATURES.items()}
)
"""For each of them the names of ports and params in torch's order (``bind`` reads it)."""
