"""Proof, on the loaded model itself, that each canonical site is what it claims to be.

A site is offered only when all of this holds on random tokens:

* it has the declared shape; ``logits`` are the model's own logits bit for bit;
* writing back what was read leaves all logits bit-identical;
* noise written in one row changes that row's logits, and no bit of another row's;
* ``resid_post`` equals ``resid_mid + mlp.out`` bit for bit;
* the rows of an attention pattern sum to 1, and eager attention gives the logits of the model's own.

Every site of every layer is tested. Sites share passes: identity writes all stand in one, and each row of a batch
takes the noise of another site, so that a model of any depth needs about one short pass per 15 sites. Run by plain
torch hooks (``engine/hooks.py``), not by the engine.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from interpd.engine.attention import AttentionSwitch
from interpd.engine.binding import Binding
from interpd.engine.hooks import Edit, run_with_edits
from interpd.engine.probe import forward_inputs, probe_ids

_ROWS, _POSITIONS = 16, 3
_CLOSE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}

Failures = dict[str, str]


@torch.no_grad()
def failing_sites(model: nn.Module, switch: AttentionSwitch, bindings: Mapping[str, Binding]) -> Failures:
    """Why each site that failed is not offered, by name. Leaves the model with its own attention."""
    own = {name: binding for name, binding in bindings.items() if not binding.site.eager_attention}
    eager = {name: binding for name, binding in bindings.items() if binding.site.eager_attention}
    bench = _Bench(model, own)
    failures = bench.run()
    if not eager:
        return failures
    switch.set(True)
    try:
        eager_bench = _Bench(model, eager)
        scale = float(bench.logits.abs().max()) or 1.0
        error = float((eager_bench.logits - bench.logits).abs().max()) / scale
        if error > _CLOSE[bench.logits.dtype]:
            reason = f"eager attention gives other logits than {switch.own!r} (relative error {error:.1e})"
            return {**failures, **dict.fromkeys(eager, reason)}
        return {**failures, **eager_bench.run()}
    finally:
        switch.set(False)


class _Bench:
    """The tests of some sites under the present attention."""

    def __init__(self, model: nn.Module, bindings: Mapping[str, Binding]) -> None:
        self._model = model
        self._bindings = bindings
        self._inputs = forward_inputs(model, probe_ids(model, _ROWS, _POSITIONS))
        self._failures: Failures = {}
        self._carries = {binding.carry[1]: name for name, binding in bindings.items() if binding.carry}
        """The site whose write is carried to a sum, by the site of the sum."""
        self._parts = {*self._carries.values(), *(binding.carry[0] for binding in bindings.values() if binding.carry)}
        self.logits = self._run({})

    def run(self) -> Failures:
        for check in (self._check_reads, self._check_identity, self._check_noise):
            check()
        return self._failures

    def _run(self, edits: Mapping[str, Edit]) -> Tensor:
        return run_with_edits(self._model, self._inputs, self._bindings, edits)

    def _fail(self, site: str, reason: str) -> None:
        self._failures.setdefault(site, reason)

    def _alive(self) -> list[str]:
        return [name for name in self._bindings if name not in self._failures]

    def _check_reads(self) -> None:
        parts: dict[str, Tensor] = {}
        self._run({name: self._reader(name, parts) for name in self._bindings})

    def _reader(self, name: str, parts: dict[str, Tensor]) -> Edit:
        def read(value: Tensor) -> Tensor:
            expected = self._shape(name)
            if tuple(value.shape) != expected:
                self._fail(name, f"shape {list(value.shape)}, declared {list(expected)}")
            elif name.endswith(".pattern"):
                self._check_pattern(name, value)
            elif name == "logits" and not torch.equal(value, self.logits):
                self._fail(name, "the model changes these logits before it returns them")
            self._check_sum(name, value, parts)
            return value

        return read

    def _shape(self, name: str) -> tuple[int, ...]:
        known = {"batch": _ROWS, "pos": _POSITIONS, "query_pos": _POSITIONS, "key_pos": _POSITIONS}
        return tuple(known.get(dim.name, dim.size) for dim in self._bindings[name].site.type.dims)

    def _check_pattern(self, name: str, pattern: Tensor) -> None:
        error = float((pattern.float().sum(-1) - 1).abs().max())
        if error > _CLOSE[pattern.dtype]:
            self._fail(name, f"rows sum to 1 only within {error:.1e}")

    def _check_sum(self, name: str, value: Tensor, parts: dict[str, Tensor]) -> None:
        if name in self._parts:
            parts[name] = value
        if (carrier := self._carries.get(name)) is None:
            return
        branch = self._bindings[carrier].carry[0]
        # popped, so that the streams of one layer at a time are kept
        residual, added = parts.pop(carrier, None), parts.pop(branch, None)
        if residual is None or added is None or not torch.equal(value, residual + added):
            self._fail(carrier, f"{name} is not {carrier} + {branch}")

    def _check_identity(self) -> None:
        alive = self._alive()
        if torch.equal(self._run(dict.fromkeys(alive, torch.clone)), self.logits):
            return
        for name in alive:
            if not torch.equal(self._run({name: torch.clone}), self.logits):
                self._fail(name, "writing back what was read changes the logits")

    def _check_noise(self) -> None:
        alive, n = self._alive(), _ROWS - 1
        for group in (alive[start : start + n] for start in range(0, len(alive), n)):
            logits = self._run(_noise_by_row(group))
            for row, name in enumerate(group, start=1):
                if torch.equal(logits[row], self.logits[row]):
                    self._fail(name, "a write does not change the logits")
            if not torch.equal(logits[0], self.logits[0]):
                self._check_rows(group)

    def _check_rows(self, names: Iterable[str]) -> None:
        for name in names:
            if not torch.equal(self._run(_noise_by_row((name,)))[0], self.logits[0]):
                self._fail(name, "a write in one row changes another row")


def _noise_by_row(names: Iterable[str]) -> dict[str, Edit]:
    return {name: _noise_in(row) for row, name in enumerate(names, start=1)}


def _noise_in(row: int) -> Callable[[Tensor], Tensor]:
    def write(value: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(row)
        noise = torch.randn(value[row].shape, generator=generator).to(value)
        noisy = value.clone()
        noisy[row] += noise * (float(value[row].abs().mean()) or 1.0)
        return noisy

    return write
