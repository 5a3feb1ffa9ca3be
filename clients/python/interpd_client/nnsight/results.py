"""Sends what was recorded, and exchanges the tensors that were saved for those that come back, object for object."""

import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from nnsight.intervention.cache import Entry
from nnsight.tracing.tracer import _saves
from nnsight.tracing.util import Scope
from torch import Tensor

from interpd.graph.ir import Ref
from interpd.graph.run import RunRequest
from interpd_client.blame import placed_report
from interpd_client.checking import local_report
from interpd_client.following import Job
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.late import Late
from interpd_client.nnsight.recorder import Recorder
from interpd_client.nnsight.tensor import Recorded, part_of
from interpd_client.result import Result
from interpd_client.runs import RunHandle

MOST_ITEMS = 10_000
"""Longer containers of the user are not searched for others that were saved inside the block."""


class LoggedScope(Scope):
    """A namespace that remembers what each name stood for before, for blocks that a generation may cut short."""

    def __init__(self, own: dict[str, Any], shared: dict[str, Any], glbls: dict[str, Any]) -> None:
        self.log: list[tuple[str, Any]] = []
        super().__init__(own, shared, glbls)

    def __setitem__(self, key: str, value: Any) -> None:
        self.log.append((key, value))
        super().__setitem__(key, value)

    def cut(self, length: int) -> None:
        """Makes the names stand for what they stood for after so many assignments."""
        last = dict(self.log[:length])
        for name, _ in self.log[length:]:
            if name in last:
                dict.__setitem__(self, name, last[name])
            else:
                self.pop(name, None)
                self.written.discard(name)


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a worker was when a step of a generation first served it."""

    n_made: int
    """Tensors of the recording by then."""
    n_bound: int
    """Assignments to names by then."""


@dataclass
class Block:
    """What a block leaves behind when it has run."""

    scopes: list[Scope] = field(default_factory=list)
    caches: list[Any] = field(default_factory=list)
    frames: list[Mapping[str, Any]] = field(default_factory=list)
    """The names around the block."""
    cuts: dict[int, tuple[Any, dict[int, Cut]]] = field(default_factory=dict)
    """By identity of a mediator: the mediator's worker, and where it was at each step that served it."""
    workers: dict[int, LoggedScope] = field(default_factory=dict)
    """The scope of each worker of a generation."""
    rows: tuple[int, ...] = ()
    """The invokes of a generation."""

    def note(self, recorder: Recorder, mediator: Any, step: int) -> None:
        """A step of a generation is about to serve a worker."""
        _, cuts = self.cuts.setdefault(id(mediator), (mediator.worker, {}))
        log = getattr(mediator.lcls, "log", ())
        cuts.setdefault(step, Cut(len(recorder.made), len(log)))
        if isinstance(mediator.lcls, LoggedScope):
            self.workers[id(mediator)] = mediator.lcls


class Finished:
    """The tensors of a run that has ended."""

    def __init__(self, recorder: Recorder, result: Result | None, names: Mapping[int, str]) -> None:
        self._recorder = recorder
        self._result = result
        self._names = names
        self._known: dict[int, Tensor] = {}

    def tensor(self, value: Recorded) -> Tensor:
        """The real tensor. Raises ``CannotRecord`` for one that did not come to be."""
        if id(value) not in self._known:
            self._known[id(value)] = self._late(value) if isinstance(value._memory, Late) else self._sent(value)
        return self._known[id(value)]

    def _late(self, value: Recorded) -> Tensor:
        assert isinstance(value._memory, Late), "asked for such only"
        return value._memory.compute(self.tensor)

    def _sent(self, value: Recorded) -> Tensor:
        array = None if self._result is None else self._result.get(self._names[id(value)])
        if array is None:
            raise CannotRecord(
                "one prompt of the batch ended before this step of the generation, where nnsight would go on with "
                "padding tokens; generate the prompts apart, or with `eos_token_id=None`",
                value._place,
            )
        if array.shape != tuple(value.shape):
            raise CannotRecord(
                f"the service gave a tensor of shape {list(array.shape)} where the model here has {list(value.shape)}, "
                "so they are not the same model",
                value._place,
            )
        # bfloat16 comes as float32, which holds it exactly
        return torch.from_numpy(array.copy()).to(value.dtype)

    @property
    def result(self) -> Result | None:
        """What came back."""
        return self._result


def settle(recorder: Recorder, block: Block, sender: "Sender | None") -> None:
    """Ends the recording: everything saved becomes a real tensor, or one without data where nothing is sent."""
    if recorder.refused is not None:
        # the block caught it and went on another way than it would with numbers
        raise recorder.refused
    wanted = list(_wanted(recorder, block))
    names = _named(recorder, [value for value in wanted if not isinstance(value._memory, Late)], block)
    if sender is None:
        recorder.is_closed = True
        real = {
            id(value): torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
            for value in wanted
        }
        _exchange(recorder, wanted, real)
        return
    is_late = any(isinstance(value._memory, Late) for value in wanted)
    if not is_late:
        _shorten(recorder, block)
    result = sender.run(recorder) if names or is_late else None
    recorder.result = result
    finished = Finished(recorder, result, names)
    n_steps = _steps_made(block, result)
    if n_steps is not None:
        wanted = _cut_short(recorder, block, wanted, n_steps)
    real = {id(value): finished.tensor(value) for value in wanted}
    recorder.is_closed = True
    _exchange(recorder, wanted, real)


def _shorten(recorder: Recorder, block: Block) -> None:
    """Generates no further than the block looks."""
    generation = recorder.recording.generation
    steps = [step for _, cuts in block.cuts.values() for step in cuts]
    n_cached = max((len(entries) for cache in block.caches for entries in cache.entries.values()), default=0)
    if generation is not None:
        n_steps = max(*steps, n_cached - 1, 0, 0) + 1
        recorder.recording.generation = replace(generation, max_new_tokens=min(n_steps, generation.max_new_tokens))


def _wanted(recorder: Recorder, block: Block) -> Iterator[Recorded]:
    """The tensors that are to come back: saved, in saved containers or caches, changed ones of the user."""
    saves, found = _saves(), {}
    for value in recorder.made:
        if id(value) in saves:
            found[id(value)] = value
    left = saves - found.keys()
    for scope in (*block.scopes, *block.frames):
        for container in _saved_containers(list(dict(scope).values()), left):
            found.update((id(one), one) for one in _inside(container))
    for cache in block.caches:
        found.update((id(one), one) for entries in cache.entries.values() for one in _inside(entries))
    found.update((id(standing), standing) for _, standing in recorder.adopted.values())
    waiting = list(found.values())
    while waiting:
        value = waiting.pop()
        needs = value._memory.needs if isinstance(value._memory, Late) else []
        for need in needs:
            if id(need) not in found:
                found[id(need)] = need
                waiting.append(need)
    return iter([value for value in recorder.made if id(value) in found])


def _saved_containers(value: Any, left: set[int], depth: int = 4) -> Iterator[Any]:
    """Whatever is in ``left``, the identities of saved objects, inside lists, tuples and mappings."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    if not left or depth == 0 or len(items) > MOST_ITEMS:
        return
    for item in list(items):
        if id(item) in left:
            left.discard(id(item))
            yield item
        else:
            yield from _saved_containers(item, left, depth - 1)


def _inside(value: Any, depth: int = 8) -> Iterator[Recorded]:
    """Every recorded tensor in containers and in the attributes of plain objects."""
    if isinstance(value, Recorded):
        yield value
    elif depth and isinstance(value, Mapping):
        for item in list(value.values()):
            yield from _inside(item, depth - 1)
    elif depth and isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _inside(item, depth - 1)
    elif depth and isinstance(value, Entry):
        yield from _inside((value.output, value.inputs), depth - 1)
    elif depth and hasattr(value, "__dict__") and not isinstance(value, (type, Tensor, torch.nn.Module)):
        yield from _inside(dict(vars(value)), depth - 1)


def _named(recorder: Recorder, values: Iterable[Recorded], block: Block) -> dict[int, str]:
    """Declares the outputs of the graph; the name of each tensor's."""
    spoken = {id(value): name for scope in block.scopes for name, value in dict(scope).items()}
    by_ref: dict[Ref, str] = {}
    names: dict[int, str] = {}
    for value in values:
        try:
            ref = part_of(value).whole()
        except CannotRecord as error:
            raise CannotRecord(error.what, value._place) from None
        if ref not in by_ref:
            by_ref[ref] = _free(spoken.get(id(value), "value"), recorder.recording.outputs)
            recorder.recording.save(by_ref[ref], ref)
        names[id(value)] = by_ref[ref]
    return names


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}.{number}", number + 1
    return free


def _exchange(recorder: Recorder, wanted: list[Recorded], real: Mapping[int, Tensor]) -> None:
    for tensor, standing in recorder.adopted.values():
        if not real[id(standing)].is_meta:
            with torch.no_grad():
                tensor.copy_(real[id(standing)])
    for value in wanted:
        tensor = real[id(value)]
        if isinstance(value._memory, Late):
            # views of one another cannot be exchanged
            tensor = tensor.detach().clone()
        with torch._C.DisableTorchFunction():
            torch.utils.swap_tensors(value, tensor)
    recorder.made.clear()


def _steps_made(block: Block, result: Result | None) -> int | None:
    """Forward passes that the generation took; ``None`` where there was none."""
    if result is None or not block.rows:
        return None
    return max((len(item.token_ids) for item in result.generated if item.invoke in block.rows), default=None)


def _cut_short(recorder: Recorder, block: Block, wanted: list[Recorded], n_steps: int) -> list[Recorded]:
    """Takes back what blocks did from the first step on that the generation did not come to."""
    gone: set[int] = set()
    for key, (worker, cuts) in block.cuts.items():
        beyond = [cut for step, cut in cuts.items() if step >= n_steps]
        if beyond:
            gone |= {id(value) for value in recorder.made[beyond[0].n_made :] if value._worker is worker}
            if key in block.workers:
                block.workers[key].cut(beyond[0].n_bound)
            _warn_of_cut(n_steps)
    for entries in (entries for cache in block.caches for entries in cache.entries.values()):
        # one entry for each step
        gone |= {id(value) for entry in entries[n_steps:] for value in _inside(entry)}
        del entries[n_steps:]
    if not gone:
        return wanted
    for value in (item for scope in (*block.scopes, *block.frames) for item in list(dict(scope).values())):
        if isinstance(value, (list, dict)):
            _drop(value, gone)
    return [value for value in wanted if id(value) not in gone]


def _warn_of_cut(n_steps: int) -> None:
    warnings.warn(
        f"the generation ended after {n_steps} tokens, before a step that the block asks for, so the block was cut "
        "short there, as nnsight does: what it saved before is kept, and the statements after the loop count as not "
        "run; `min_new_tokens=` holds a generation to a loop's count",
        stacklevel=2,
    )


def _drop(value: Any, gone: set[int]) -> None:
    """Takes tensors that never were out of lists and mappings."""
    if isinstance(value, list):
        value[:] = [item for item in value if id(item) not in gone]
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict):
        for key in [key for key, item in value.items() if id(item) in gone]:
            del value[key]
    for item in items:
        if isinstance(item, (list, dict)):
            _drop(item, gone)


@dataclass(frozen=True)
class Sender:
    """How a recording is run.

    Args:
        connection: To the service.
        timeout_s: Seconds until the run is given up.
        reproducible: Run alone at a fixed shape.
    """

    connection: Any
    timeout_s: float | None
    reproducible: bool
    progress: bool | None

    def run(self, recorder: Recorder) -> Result:
        """What came back. Raises ``InvalidGraph`` before anything is sent."""
        recording = recorder.recording
        built = recording.build(with_idle_writes=False)
        request = RunRequest(
            run_id=uuid.uuid4().hex,
            model=recording.manifest.model.name,
            prompts=tuple(recording.prompts),
            graph=built.graph,
            generation=recording.generation,
            reproducible=self.reproducible,
            deadline_s=None if self.timeout_s is None else time.time() + self.timeout_s,
        )
        placed_report(local_report(recording, request), built.places).raise_if_bad()
        recording.closed = True
        recorder.graph = built.graph
        job = Job(request, built.places, built.blobs, progress=self.progress)
        return RunHandle(self.connection, job).result()
