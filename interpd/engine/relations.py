"""What sites must be to one another, whatever the model computes: sums, products, the activation, the softmax.

A table that names a module that exists, but not the one it means (keys for values, a gate for up, heads in another
order), passes every test of a single site. It does not pass these, which are judged layer by layer while a pass goes
by, so that the values of one layer at a time are kept:

* a site is the sum that its row declares, and each block takes in what the one before it gave out;
* ``pattern`` is the softmax of ``scores`` where it is not masked, ``z`` is ``pattern`` times ``v`` of the shared heads;
* at the first position, which rotary embedding turns by no angle, ``q_rot`` and ``k_rot`` are ``q`` and ``k``, times
  one factor per dimension; without rotary embedding ``scores`` (or the logarithm of ``pattern``) are in proportion to
  the products of ``q`` and ``k``;
* ``mlp.post`` is the activated ``mlp.pre``, or the activated ``mlp.gate`` times ``mlp.up``;
* a site, of a layer or of the whole model, is what its row says that it is made of others by.

A relation that fails speaks against those of its sites that no other relation confirms.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from interpd.plugin.site_table import SiteRow, SiteTable

# norms, rotary embeddings and the softmax of most families compute in single precision also in a float64 model
CLOSE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""How far values that are equal in exact arithmetic may lie apart, by dtype of the model."""

_LAYER = re.compile(r"(.*layers)\.(\d+)\.")
# once rounded, a smaller probability says little about the score behind it
_LEAST_PROBABILITY = 1e-3
_TINY = torch.finfo(torch.float64).tiny

Values = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Verdict:
    holds: bool
    members: tuple[str, ...]
    suspects: tuple[str, ...]
    """Those of ``members`` that may be to blame."""
    reason: str


class Relations:
    """The judge of one pass.

    Args:
        model: The model, whose norms and activations are called.
        table: What it declares.
        names: The sites that ``see`` will be told of.
    """

    def __init__(self, model: nn.Module, table: SiteTable, names: Iterable[str]) -> None:
        self._model = model
        self._table = table
        self._awaited: dict[str, int] = {}
        for name in names:
            if found := _LAYER.match(name):
                self._awaited[found.group()] = self._awaited.get(found.group(), 0) + 1
        self._seen: dict[str, dict[str, Tensor | None]] = {}
        self._made = [row for row in table.rows if row.made_by is not None]
        self._outside = {name for row in self._made for name in (row.name, *row.made_of) if not _LAYER.match(name)}
        self._whole: Values = {}
        """What is needed of those that belong to no layer."""
        self._ends: dict[str, tuple[str, Tensor]] = {}
        """The last ``resid_post``, by stack of layers."""
        self._verdicts: list[_Verdict] = []

    def see(self, name: str, value: Tensor | None) -> None:
        """Takes what is at a site (``None``: not what it should be); judges a layer when it has seen all of it."""
        found = _LAYER.match(name)
        if found is None:
            self._see_outside(name, value)
            return
        layer = found.group()
        seen = self._seen.setdefault(layer, {})
        seen[name] = value
        if len(seen) == self._awaited[layer]:
            del self._seen[layer]
            good = {name: one for name, one in seen.items() if one is not None}
            if good:
                # a model that lies on several devices hands the stream over between two blocks
                device = next(reversed(good.values())).device
                good = {name: one.to(device) for name, one in good.items()}
            self._verdicts += self._judge(layer, found[1], int(found[2]), good)

    def _see_outside(self, name: str, value: Tensor | None) -> None:
        if value is None or name not in self._outside:
            return
        self._whole[name] = value
        for row in self._made:
            if name in (row.name, *row.made_of) and _has(self._whole, row.name, *row.made_of):
                self._verdicts.append(_made(row, row.name, row.made_of, self._whole))

    def failures(self) -> dict[str, str]:
        """Why each site to blame is to blame."""
        confirmed = {name for verdict in self._verdicts if verdict.holds for name in verdict.members}
        failures: dict[str, str] = {}
        for verdict in self._verdicts:
            if not verdict.holds:
                blamed = [name for name in verdict.suspects if name not in confirmed] or verdict.suspects
                failures |= {name: verdict.reason for name in blamed if name not in failures}
        return failures

    def _judge(self, layer: str, stack: str, index: int, values: Values) -> Iterator[_Verdict]:
        yield from self._chain(layer, stack, values)
        for row in self._table.rows:
            if row.sum_of and _has(values, row.name.format(i=index), *(part.format(i=index) for part in row.sum_of)):
                yield self._sum(row, index, values)
        for row in self._made:
            name, parts = row.name.format(i=index), tuple(part.format(i=index) for part in row.made_of)
            if "{i}" in row.name and _has(values, name, *parts):
                yield _made(row, name, parts, values)
        if self._table.activation:
            yield from _activated(f"{layer}mlp", self._forward(self._table.activation.format(i=index)), values)
        for stem in sorted({name.rpartition(".")[0] for name in values if name.endswith((".q", ".z", ".scores"))}):
            biased = self._table.position_bias and stem.endswith(".attn")
            yield from _attention(stem, values, in_proportion=not (self._table.rotary or biased))

    def _chain(self, layer: str, stack: str, values: Values) -> Iterator[_Verdict]:
        start, end = f"{layer}resid_pre", f"{layer}resid_post"
        before = self._ends.pop(stack, None)
        if before is not None and start in values:
            name, value = before
            yield _exact(value.to(values[start].device), values[start], (name, start), f"{start} is not {name}")
        if end in values:
            self._ends[stack] = (end, values[end])

    def _sum(self, row: SiteRow, index: int, values: Values) -> _Verdict:
        name, parts = row.name.format(i=index), [part.format(i=index) for part in row.sum_of]
        text = f"{name} is not {' + '.join(parts)}"
        total = reduce(add, (values[part] for part in parts))
        if row.sum_through:
            through = row.sum_through.format(i=index)
            return _close(
                lambda: self._forward(through)(total), values[name], (name, *parts), f"{text} through {through!r}"
            )
        if len(parts) == 2:
            # a write that is carried to the sum is exact only if the sum is; of three, the model chooses the order
            return _exact(total, values[name], (name, *parts), text)
        return _close(lambda: total, values[name], (name, *parts), text)

    def _forward(self, path: str) -> Callable[[Tensor], Tensor]:
        """A module as a function of the table's sites, past the hooks that the pass which goes by has on it."""

        def forward(x: Tensor) -> Tensor:
            try:
                module = self._model.get_submodule(path)
            except AttributeError as error:
                raise RuntimeError(f"the model has no module {path!r}") from error
            return module.forward(x)

        return forward


def _has(values: Values, *names: str) -> bool:
    return values.keys() >= set(names)


def _exact(expected: Tensor, value: Tensor, members: tuple[str, ...], text: str) -> _Verdict:
    return _Verdict(torch.equal(expected, value), members, members, text)


def _close(
    expected: Callable[[], Tensor], value: Tensor, members: tuple[str, ...], text: str, blame: tuple[str, ...] = ()
) -> _Verdict:
    try:
        error = float((expected().double() - value.double()).abs().max()) / (float(value.abs().max()) or 1.0)
    except RuntimeError as cause:
        # shapes that do not fit, or no such module: the table means other sites than these names stand for
        return _Verdict(False, members, blame or members, f"{text}: {str(cause).splitlines()[0]}")
    return _Verdict(error <= CLOSE[value.dtype], members, blame or members, f"{text} (relative error {error:.1e})")


def _made(row: SiteRow, name: str, parts: tuple[str, ...], values: Values) -> _Verdict:
    assert row.made_by is not None
    made_by, device = row.made_by, values[name].device
    text = f"{name} is not what is made of {' and '.join(parts)}"
    return _close(lambda: made_by(*(values[part].to(device) for part in parts)), values[name], (name, *parts), text)


def _activated(stem: str, activation: Callable[[Tensor], Tensor], values: Values) -> Iterator[_Verdict]:
    pre, gate, up, post = (f"{stem}.{name}" for name in ("pre", "gate", "up", "post"))
    if _has(values, pre, post):
        text = f"{post} is not the activated {pre}"
        yield _close(lambda: activation(values[pre]), values[post], (pre, post), text)
    if _has(values, gate, up, post):
        text = f"{post} is not the activated {gate} times {up}"
        yield _close(lambda: activation(values[gate]) * values[up], values[post], (gate, up, post), text)


def _attention(stem: str, values: Values, *, in_proportion: bool) -> Iterator[_Verdict]:
    names = ("q", "k", "v", "q_rot", "k_rot", "scores", "pattern", "z")
    q, k, v, q_rot, k_rot, scores, pattern, z = (f"{stem}.{name}" for name in names)
    if _has(values, scores, pattern):
        text = f"{pattern} is not the softmax of {scores} where it is not masked"
        yield _close(lambda: _softmax(values[scores], values[pattern]), values[pattern], (scores, pattern), text)
    if _has(values, pattern, v, z):
        text = f"{z} is not {pattern} times {v}"
        yield _close(lambda: _mixed(values[pattern], values[v]), values[z], (pattern, v, z), text, blame=(v, z))
    for before, after in ((q, q_rot), (k, k_rot)):
        if _has(values, before, after):
            yield _same_start(values, before, after)
    seen = scores if scores in values else pattern
    if in_proportion and _has(values, q, k, seen):
        yield _in_proportion(values, (q, k), seen)


def _softmax(scores: Tensor, pattern: Tensor) -> Tensor:
    return torch.softmax(scores.double().masked_fill(pattern == 0, -torch.inf), dim=-1)


def _shared(heads: Tensor, n_heads: int) -> Tensor:
    # [batch pos kv_head d_head] -> each of them beside the others that the same query heads share
    return heads.double().repeat_interleave(max(1, n_heads // heads.shape[2]), dim=2)


def _mixed(pattern: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhqk,bkhd->bqhd", pattern.double(), _shared(v, pattern.shape[1]))


def _same_start(values: Values, before: str, after: str) -> _Verdict:
    def scaled() -> Tensor:
        a, b = values[before][:, 0].double(), values[after][:, 0].double()
        return a * ((a * b).sum((0, 1)) / (a * a).sum((0, 1)).clamp_min(_TINY))

    text = f"{after} at the first position is not {before}"
    return _close(scaled, values[after][:, 0], (before, after), text, blame=(before,))


def _in_proportion(values: Values, names: tuple[str, str], seen: str) -> _Verdict:
    q, k, found = *(values[name] for name in names), values[seen]
    is_pattern = seen.endswith(".pattern")
    known = found > _LEAST_PROBABILITY if is_pattern else torch.ones_like(found, dtype=torch.bool)
    target = _centred(found.double().clamp_min(_LEAST_PROBABILITY).log(), known) if is_pattern else found.double()

    def scaled() -> Tensor:
        products = torch.einsum("bqhd,bkhd->bhqk", q.double(), _shared(k, q.shape[2]))
        # the softmax keeps differences of scores: they are judged relative to their mean over what a query sees
        products = _centred(products, known) if is_pattern else products
        return products * ((products * target).sum() / (products * products).sum().clamp_min(_TINY))

    text = f"{seen} is not in proportion to the products of {' and '.join(names)}"
    return _close(scaled, target.to(found.dtype), (*names, seen), text, blame=names)


def _centred(x: Tensor, known: Tensor) -> Tensor:
    mean = (x * known).sum(-1, keepdim=True) / known.sum(-1, keepdim=True).clamp_min(1)
    return (x - mean) * known
