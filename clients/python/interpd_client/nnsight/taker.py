"""Takes what a block puts in a place of the model at the moment it does, so that errors are raised at its line."""

from typing import TYPE_CHECKING, Any

from interpd_client.nnsight.errors import CannotRecord

if TYPE_CHECKING:
    from interpd_client.nnsight.passes import Pass


class Taker:
    """nnsight's batcher of a trace, which scopes values to the rows of an invoke, with an eye on what is put.

    Args:
        batcher: nnsight's own.
        interleaver: Knows the blocks that wait.
        owner: The pass that takes writes.
    """

    def __init__(self, batcher: Any, interleaver: Any, owner: "Pass") -> None:
        self._batcher = batcher
        self._interleaver = interleaver
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batcher, name)

    def widen(self, full: Any, group: Any, edited: Any) -> Any:
        """A value with the rows of an invoke replaced, written to the graph."""
        mediator = self._waiting(edited)
        new = self._batcher.widen(full, group, edited)
        self._at_its_line(mediator, lambda: self._owner.take(full, new))
        return new

    def gather_skip(self, running: Any, group: Any, replacement: Any) -> Any:
        """What an invoke gives in the place of a module."""
        self._at_its_line(self._waiting(replacement), self._owner.check_skip)
        return self._batcher.gather_skip(running, group, replacement)

    def _waiting(self, value: Any) -> Any:
        for mediator in self._interleaver.mediators:
            if mediator.pending is not None and mediator.pending.value is value:
                return mediator
        raise RuntimeError("nnsight handed over a value for which no block waits")

    def _at_its_line(self, mediator: Any, act: Any) -> None:
        recorder = self._owner.recorder
        recorder.recording.frame = mediator.worker.gr_frame
        try:
            act()
        except CannotRecord as error:
            # the block is parked at its line: it is raised there
            mediator.worker.throw(CannotRecord(error.what, recorder.recording.place()))
        finally:
            recorder.recording.frame = None
