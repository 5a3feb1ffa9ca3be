"""Attention as a linear map: what each head adds to the stream from each position, with norms at their actual scale.

A head adds ``pattern[query, key] * (v[key] @ weight[head])``. A norm behind a branch or behind a sum divides by a scale
that depends on its whole input; at the scale that it has in the prompt's pass it is linear too, up to its bias.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError, Session
from interpd_attribution.worker.internals.stacks import Stack, module_at, watch
from interpd_attribution.worker.problem import Problem

# a norm's output has the digits of the model's dtype
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}

_LARGE = 64.0
"""Of numbers beside which the epsilon of a norm is nothing."""


class FrozenNorm:
    """A layer norm or RMS norm: ``scale(x) * weight * centred(x) + bias``, found out by calling it.

    Raises ``CallerError`` where the module is neither.
    """

    def __init__(self, session: Session, module: str, d_model: int) -> None:
        self._session, self.module = session, module
        # as many above zero as below, none at it: the mean is zero
        n_above = d_model - d_model // 2
        pattern = torch.ones(d_model, dtype=torch.float64)
        pattern[n_above:] = -n_above / max(d_model - n_above, 1)
        probes = torch.stack([torch.zeros(d_model, dtype=torch.float64), torch.ones(d_model).double(), pattern])
        zero, ones, found = self._call((_LARGE * probes).to(session.device))
        self.bias = zero
        """``[d_model]``."""
        pattern = pattern.to(session.device)
        self.weight = (found - zero) * pattern.square().mean().sqrt() / pattern
        """``[d_model]``."""
        self.is_centred = bool((ones - zero).norm() < 1e-2 * (found - zero).norm())

    def centred(self, x: Tensor) -> Tensor:
        """Without its mean, where the norm takes that away."""
        return x - x.mean(-1, keepdim=True) if self.is_centred else x

    def scale(self, x: Tensor) -> Tensor:
        """By what inputs are multiplied, ``[...]`` of ``[... d_model]``, in float64."""
        wanted, whole = self._call(x) - self.bias, self.weight * self.centred(x.double())
        scale = (wanted * whole).sum(-1) / whole.square().sum(-1).clamp(min=1e-30)
        rest = (wanted - scale[..., None] * whole).norm() / wanted.norm().clamp(min=1e-30)
        if rest > TOLERANCE[self._session.dtype]:
            raise CallerError(
                f"module {self.module!r} is neither a layer norm nor an RMS norm: it cannot be taken apart"
            )
        return scale

    def push(self, vectors: Tensor) -> Tensor:
        """What becomes of vectors at scale one, without the bias."""
        return self.weight.to(vectors) * self.centred(vectors)

    def pull(self, directions: Tensor) -> Tensor:
        """Directions behind the norm as directions before it, at scale one."""
        return self.centred(self.weight.to(directions) * directions)

    def _call(self, x: Tensor) -> Tensor:
        return self._session.call(self.module, x.to(self._session.dtype)).detach().double()


@dataclass(frozen=True)
class Mixing:
    """One attention of one layer: from values to what it adds to the stream."""

    session: Session
    stack: Stack
    layer: int
    stem: str
    """``attn`` or ``cross_attn``."""
    projection: str
    """The module of the output projection."""
    weight: Tensor
    """``[head d_head d_model]``: the output projection, and the weights of a norm behind it."""
    bias: Tensor
    """``[d_model]``: that of the projection, through a norm behind it at scale one."""
    branch_norm: FrozenNorm | None
    """The norm between projection and stream."""
    sum_norm: FrozenNorm | None
    """The norm behind the sum of stream and branch."""

    def scale(self, z: Tensor) -> Tensor:
        """By what ``weight`` is multiplied at each position, ``[pos]``, of ``z [pos head d_head]``."""
        if self.branch_norm is None:
            return torch.ones(len(z), dtype=torch.float64, device=z.device)
        return self.branch_norm.scale(self.session.call(self.projection, z.flatten(1)).detach())

    def constant(self, scale: Tensor) -> Tensor:
        """What is added whatever the values are, ``[pos d_model]``, float64."""
        added = scale[:, None] * self.bias
        return added if self.branch_norm is None else added + self.branch_norm.bias

    def transformed(self, values: Tensor) -> Tensor:
        """What each head makes of each position's value, ``[head key d_model]`` of ``[key kv_head d_head]``."""
        return torch.einsum("khe,hed->hkd", self.of_heads(values).to(self.weight), self.weight)

    def of_heads(self, values: Tensor) -> Tensor:
        """``[key kv_head ...]`` as ``[key head ...]``: heads share keys and values in order."""
        return values.repeat_interleave(len(self.weight) // values.shape[1], 1)


def mixing(session: Session, stack: Stack, layer: int, stem: str) -> Mixing:
    """An attention taken apart. Raises ``CallerError`` where it is not linear in its values."""
    z, out = (stack.site(layer, f"{stem}.{name}") for name in ("z", "out"))
    projection = module_at(session, z, "input")
    if projection is None:
        raise CallerError(f"{z!r} is the input of no module: what its heads add cannot be told apart")
    added = module_at(session, out, "output")
    n_heads, d_head = (int(session.sites[z].type.dims[place].size or 0) for place in (2, 3))
    d_model = int(session.sites[out].type.dims[2].size or 0)
    branch = None if added in (None, projection) else FrozenNorm(session, str(added), d_model)
    weight, bias = linear(session, projection, n_heads * d_head)
    if branch is not None:
        weight, bias = branch.push(weight), branch.push(bias)
    following = "resid_cross" if stem == "attn" and stack.side == "decoder." else "resid_mid"
    behind = stack.site(layer, following)
    norm = module_at(session, behind, "output") if behind in session.sites else None
    return Mixing(
        session,
        stack,
        layer,
        stem,
        projection,
        weight.unflatten(0, (n_heads, d_head)),
        bias,
        branch,
        None if norm is None else FrozenNorm(session, norm, d_model),
    )


def linear(session: Session, module: str, d_in: int) -> tuple[Tensor, Tensor]:
    """(weight ``[in out]``, bias ``[out]``) of a linear module, whatever its weights are kept as; float64.

    Raises ``CallerError`` where it is not linear.
    """
    # in the middle of a pass nothing is recorded for gradients
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.zeros(1, d_in, dtype=session.dtype, device=session.device, requires_grad=True)
        out = session.call(module, x)
        rows = torch.eye(out.shape[-1], dtype=out.dtype, device=out.device)
        expanded = x.expand(len(rows), -1)
        (found,) = torch.autograd.grad(session.call(module, expanded), expanded, rows)
        probe = torch.linspace(-1, 1, d_in, dtype=session.dtype, device=session.device)[None]
        given = session.call(module, probe).detach().double()
    weight, bias = found.T.double(), out[0].detach().double()
    if (given - probe.double() @ weight - bias).norm() > TOLERANCE[session.dtype] * given.norm():
        raise CallerError(f"module {module!r} is not linear: what heads add cannot be told apart")
    return weight, bias


Visit = Callable[[int, Mapping[str, Tensor]], None]


def by_layer(
    problem: Problem,
    stack: Stack,
    names: Sequence[str],
    visit: Visit,
    *,
    pick: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    layers: Sequence[int] | None = None,
    apart: bool = False,
) -> None:
    """One pass, in which ``visit`` is told of each layer's values as soon as the last of them is there.

    Args:
        problem: Of the call.
        stack: Whose layers.
        names: Of their sites: ``attn.v``.
        visit: Gets the layer and its values by name, without the dimension of rows.
        pick: What to keep of a site's value until the layer is visited.
        layers: Which; none: all.
        apart: A pass for each layer, which is visited behind it, so that long work may give others their turn.
    """
    chosen = range(stack.n_layers) if layers is None else layers
    order = {name: problem.session.sites[stack.site(0, name)].order for name in names}
    last = max(names, key=order.__getitem__)
    kept: dict[str, Tensor] = {}
    if apart:
        for layer in chosen:
            by_layer(problem, stack, names, lambda _, values: kept.update(values), pick=pick, layers=[layer])
            visit(layer, kept)
        return

    def listen(layer: int, name: str) -> Callable[[Tensor], None]:
        def take(value: Tensor) -> None:
            kept[name] = (pick or {}).get(name, lambda whole: whole)(value[0])
            if name == last:
                visit(layer, dict(kept))
                kept.clear()

        return take

    listeners = {stack.site(layer, name): [listen(layer, name)] for layer in chosen for name in names}
    watch(problem, listeners, stack.site(max(chosen), "resid_post"))
