"""Requests in company beside the same requests alone.

In company: any kinds at once, in prompts that differ or are alike, arriving while others run, with neighbours that
fail, break the pass, spread NaN, come too late or are cancelled. Alone: on an engine that shares no pass and changes no
rows.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

import torch
from hooked_model import relative_error
from random_requests import POISON, RandomRequest, disturber

from interpd.engine.boundaries import Boundaries
from interpd.engine.nnsight_engine import MAX_BATCH_TOKENS
from interpd.errors import InternalError
from interpd.graph.run import Cancelled, Done, Failed, Result
from interpd.graph.schema import AdapterInfo
from interpd.testing.bench import Bench
from interpd.testing.tiny_adapters import save_adapter
from interpd.testing.tiny_models import tiny_model

KINDS = ({}, {}, {"gradients": True}, {"generates": True}, {"generates": True})
ENDS = {
    "fails": ("CallerError",),
    "breaks": ("CallerError",),
    "late": ("DeadlineExceeded",),
    "nan": ("Done",),
    "poison": ("Done",),
    "cancelled": ("Cancelled", "Done"),
}
STRANGERS = ("fails", "breaks", "nan", "poison", "poison", "late", "cancelled")
SIZES = (MAX_BATCH_TOKENS, MAX_BATCH_TOKENS, 60, 25)
"""Of passes, at most: in the smallest, not even all prompts of one request fit beside those of another."""
MOST_STEPS = 2000

SINGLE = 2e-5
"""Tolerance where norms, softmax or rotary embeddings compute in single precision whatever the model's dtype."""
DOUBLE = 1e-9
EXACT = ("gpt2", "opt", "opt_post_norm", "bart", "marian", "pegasus", "mbart", "blenderbot")


@dataclass
class Company:
    """Two engines on the same model, one that shares passes and one that does not."""

    architecture: str
    shared: Bench
    private: Bench
    tolerance: float
    adapters: tuple[str, ...] = ()
    seen: Counter = field(default_factory=Counter)
    worst: float = 0.0

    @classmethod
    def of(cls, architecture, dtype=torch.float64, **options):
        shared = Bench.tiny(architecture, dtype=dtype, **options)
        for module in shared.model.modules():
            if type(module).__name__.endswith("Norm"):
                module.register_forward_pre_hook(break_on_poison)
        private = Bench.tiny(architecture, dtype=dtype, share_passes=False)
        access = private.engine._access
        access.resident = replace(access.resident, boundaries=Boundaries())
        exact = architecture in EXACT and dtype == torch.float64
        return cls(architecture, shared, private, DOUBLE if exact else SINGLE)

    @classmethod
    def with_adapters(cls, architecture, folder):
        """With two adapters, which half of the requests ask for."""
        company = cls.of(architecture)
        for seed, name in enumerate(("a", "b")):
            path = save_adapter(folder / name, tiny_model(architecture).model.to(torch.float64), seed=seed)
            company.put_adapter(AdapterInfo(name, str(path), f"sha256:{name}"), path)
        return company

    @property
    def manifest(self):
        return self.shared.engine.describe()

    def put_adapter(self, info, folder):
        for bench in (self.shared, self.private):
            bench.engine.put_adapter(info, str(folder))
        self.adapters += (info.name,)

    # Requests

    def requests(self, seed, n):
        """``n`` valid requests of all kinds, some of them twice."""
        rng, found = Random(seed), []
        alike = rng.random() < 0.5
        while len(found) < n:
            kind = dict(rng.choice(KINDS))
            options = {"stream_tokens": rng.random() < 0.2, "reproducible": rng.random() < 0.05}
            if self.adapters and rng.random() < 0.5:
                options["adapter"] = rng.choice(self.adapters)
            draw = RandomRequest(rng.randrange(1 << 40), self.manifest, alike=alike, every_raw=True, **kind)
            request = draw.request(**options)
            if request is not None:
                found.append(request)
                if rng.random() < 0.1:
                    found.append(replace(request, run_id=f"{request.run_id}-again"))
        return found[:n]

    # Running them

    def together(self, asked, rng):
        """Outcomes by run id, those of strangers too, and who was cancelled."""
        strangers = [disturber(rng, self.manifest, STRANGERS) for _ in range(rng.choice((0, 1, 2, 4)))]
        arriving = [*asked, *strangers]
        rng.shuffle(arriving)
        all_at_once, often = rng.random() < 0.3, rng.choice((0.2, 0.5, 0.8))
        doomed = {request.run_id for request in strangers if request.run_id.startswith("cancelled")}
        doomed |= {request.run_id for request in asked if rng.random() < 0.08}
        engine, outcomes, living, n_steps = self.shared.engine, {}, [], 0
        engine._max_batch_tokens = rng.choice(SIZES)
        while arriving or engine.has_work:
            while arriving and (all_at_once or not outcomes or rng.random() < often):
                request = arriving.pop()
                outcomes |= self.shared.start(request)
                living += [request.run_id] if request.run_id in doomed else []
            self.shared.step(outcomes)
            if living and rng.random() < 0.25:
                engine.cancel(living.pop(rng.randrange(len(living))))
            n_steps += 1
            assert n_steps < MOST_STEPS, "the engine goes on for ever"
        assert not engine._runs
        assert not engine._methods._tasks
        for request in strangers:
            end = outcomes[request.run_id].events[-1]
            assert how_it_ended(end) in ENDS[request.run_id.partition("-")[0]], (request, end)
        return outcomes, doomed

    def compare(self, seed, n=6):
        """Raises where ``n`` random requests get something else together than alone."""
        asked, rng = self.requests(seed, n), Random(seed)
        outcomes, doomed = self.together(asked, rng)
        for request in asked:
            outcome = outcomes[request.run_id]
            if request.run_id in doomed and isinstance(outcome.events[-1], Cancelled):
                self.seen["cancelled"] += 1
                continue
            self.agrees(request, outcome, self.private.run(request))
            self.seen["max shared"] = max(self.seen["max shared"], *self._shared_with(outcome))

    def _shared_with(self, outcome):
        last = outcome.events[-1]
        return (0, *last.cost.shared_with) if isinstance(last, Done) else (0, 0)

    # What has to be equal

    def agrees(self, request, found, alone):
        """Raises where an outcome is not that of the request alone."""
        ends = [how_it_ended(outcome.events[-1]) for outcome in (found, alone)]
        assert ends[0] == ends[1], (request, found.events[-1], alone.events[-1])
        assert sum(isinstance(event, (Done, Failed, Cancelled)) for event in found.events) == 1, request
        self.seen[ends[0]] += 1
        if ends[0] != "Done":
            assert not isinstance(found.error, InternalError), (request, found.error)
            assert found.error.message == alone.error.message, request
            return
        assert found.done.generated == alone.done.generated, request
        assert found.done.warnings == alone.done.warnings, request
        names = [{event.name for event in one.events if isinstance(event, Result)} for one in (found, alone)]
        assert names[0] == names[1], request
        for name in names[0]:
            error = relative_error(found[name], alone[name])
            self.worst = max(self.worst, error)
            assert error <= self.tolerance, (name, error, request)
        self._costs_the_same(request, found.done.cost, alone.done.cost)

    def _costs_the_same(self, request, found, alone):
        assert found.n_passes == alone.n_passes == len(found.shared_with), request
        assert found.bytes_returned == alone.bytes_returned, request
        assert set(alone.shared_with) <= {1}
        assert not request.reproducible or set(found.shared_with) <= {1}
        if self.shared.engine._access.resident.boundaries.places:
            assert found.n_tokens == alone.n_tokens, (request, found, alone)
            # with gradients, a pass goes as deep as the deepest of those that share it
            assert found.n_layers_run >= alone.n_layers_run, (request, found, alone)

    def weights(self):
        """A digest of every parameter and buffer of the engine that shares."""
        digest = hashlib.sha256()
        for _, tensor in sorted(self.shared.model.state_dict().items()):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def break_on_poison(module, args):
    """Makes the pass fail for all that share it, as no request by itself can."""
    if args and bool(((args[0].abs() > POISON / 1e8) & args[0].isfinite()).any()):
        raise RuntimeError("the device is broken")


def how_it_ended(end):
    """The class of the last event, or of the error that it brings."""
    return type(end.error).__name__ if isinstance(end, Failed) else type(end).__name__
