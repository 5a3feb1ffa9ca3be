"""Proof, on the loaded model itself, that each canonical site is what it claims to be.

A site is offered only when all of this holds on random tokens:

* it has the declared shape; ``logits`` are the model's own logits bit for bit;
* it is to the other sites of its layer what its name says (``engine/relations.py``);
* writing back what was read leaves all logits bit-identical;
* noise written in one row changes that row's logits, and no bit of another row's;
* the rows of an attention pattern sum to 1, and eager attention gives what the model's own gives, layer by layer.

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
from interpd.engine.probe import SOURCE, probe_inputs
from interpd.engine.relations import CLOSE, Relations
from interpd.plugin.site_table import SiteTable

_ROWS, _POSITIONS, _SOURCE_POSITIONS = 16, 3, 4

Failures = dict[str, str]
Values = dict[str, Tensor]


@torch.no_grad()
def failing_sites(
    model: nn.Module, switch: AttentionSwitch, bindings: Mapping[str, Binding], table: SiteTable
) -> Failures:
    """Why each site that failed is not offered, by name. Leaves the model with its own attention."""
    own = {name: binding for name, binding in bindings.items() if not binding.site.eager_attention}
    eager = {name: binding for name, binding in bindings.items() if binding.site.eager_attention}
    bench = _Bench(model, table, own)
    failures = bench.run()
    if eager:
        inputs, mixtures = (bench.values(suffix) for suffix in (".resid_pre", ".z"))
        switch.set(True)
        try:
            seen = {name: binding for name, binding in own.items() if name not in failures}
            eager_bench = _Bench(model, table, eager, seen)
            wrong = _other_attention(bench, eager_bench, inputs, mixtures)
            reason = f"eager attention gives other {wrong} than {switch.own!r}"
            failures |= dict.fromkeys(eager, reason) if wrong else eager_bench.run()
        finally:
            switch.set(False)
    return failures | _lamed(bindings, failures)


def _other_attention(own: "_Bench", eager: "_Bench", inputs: Values, mixtures: Values) -> str:
    """Where eager attention is not the model's own, and how far; empty where it is.

    Each layer is given what it was given under the model's own attention, so that rounding does not grow from layer to
    layer. Without the sites for that, the logits have to do.
    """
    stems = {name.rpartition(".")[0] for name in eager.names}
    if not inputs or not stems <= {name.rpartition(".")[0] for name in mixtures}:
        inputs, mixtures = {}, {"logits": own.logits}
        found = {"logits": eager.logits}
    else:
        found = eager.values(".z", inputs)
    for name, expected in mixtures.items():
        error = float((found[name] - expected).abs().max()) / (float(expected.abs().max()) or 1.0)
        if not error <= CLOSE[expected.dtype]:
            return f"{name} (relative error {error:.1e})"
    return ""


def _lamed(bindings: Mapping[str, Binding], failures: Failures) -> Failures:
    """The sites whose writes are carried by way of sites that failed or are not there."""
    lamed = {}
    for name, binding in bindings.items():
        missing = [part for part in binding.carry or () if part in failures or part not in bindings]
        if missing and name not in failures:
            lamed[name] = f"a write is carried by {missing[0]}, which is absent"
    return lamed


class _Bench:
    """The tests of some sites under the present attention; ``seen`` are others, tested already, that relate to them."""

    def __init__(
        self,
        model: nn.Module,
        table: SiteTable,
        bindings: Mapping[str, Binding],
        seen: Mapping[str, Binding] | None = None,
    ) -> None:
        self._model = model
        self._table = table
        self._bindings = {**(seen or {}), **bindings}
        self.names = tuple(bindings)
        self._inputs = probe_inputs(model, _ROWS, _POSITIONS, _SOURCE_POSITIONS)
        self._failures: Failures = _lamed(bindings, {})
        self.logits = self._run({})

    def run(self) -> Failures:
        for check in (self._check_reads, self._check_identity, self._check_noise):
            check()
            self._failures |= _lamed(self._bindings, self._failures)
        return self._failures

    def values(self, suffix: str, written: Values | None = None) -> Values:
        """What is at the sound sites whose names end so, while ``written`` is put at others."""
        names = [name for name in self._bindings if name.endswith(suffix) and name not in self._failures]
        found: Values = {}
        edits: dict[str, Edit] = {name: lambda value, name=name: found.setdefault(name, value) for name in names}
        puts = {name: lambda _, value=value: value for name, value in (written or {}).items()}
        self._run({**edits, **puts})
        return found

    def _run(self, edits: Mapping[str, Edit]) -> Tensor:
        return run_with_edits(self._model, self._inputs, self._bindings, edits)

    def _fail(self, site: str, reason: str) -> None:
        self._failures.setdefault(site, reason)

    def _alive(self) -> list[str]:
        return [name for name in self.names if name not in self._failures]

    def _check_reads(self) -> None:
        names = [name for name in self._bindings if name not in self._failures]
        encoder = [name for name in names if self._table.encoder and name.startswith("encoder.")]
        judge = Relations(self._model, self._table, [name for name in names if name not in encoder])
        judges = dict.fromkeys(names, judge)
        if encoder:
            judges |= dict.fromkeys(encoder, Relations(self._model, self._table.encoder, encoder))
        self._run({name: self._reader(name, judges[name]) for name in names})
        for relations in set(judges.values()):
            for name, reason in relations.failures().items():
                self._fail(name, reason)

    def _reader(self, name: str, relations: Relations) -> Edit:
        def read(value: Tensor) -> Tensor:
            expected = self._shape(name)
            fits = tuple(value.shape) == expected
            if not fits:
                self._fail(name, f"shape {list(value.shape)}, declared {list(expected)}")
            elif name.endswith(".pattern"):
                self._check_pattern(name, value)
            elif name == "logits" and not torch.equal(value.to(self.logits.device), self.logits):
                self._fail(name, "the model changes these logits before it returns them")
            relations.see(name, value if fits else None)
            return value

        return read

    def _shape(self, name: str) -> tuple[int, ...]:
        known = {"batch": _ROWS, "pos": _POSITIONS, "query_pos": _POSITIONS, "key_pos": _POSITIONS}
        known[SOURCE] = _SOURCE_POSITIONS
        return tuple(known.get(dim.name, dim.size) for dim in self._bindings[name].site.type.dims)

    def _check_pattern(self, name: str, pattern: Tensor) -> None:
        error = float((pattern.float().sum(-1) - 1).abs().max())
        if error > CLOSE[pattern.dtype]:
            self._fail(name, f"rows sum to 1 only within {error:.1e}")

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
