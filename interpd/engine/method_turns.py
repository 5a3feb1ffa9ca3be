"""The methods under way: whose slice is next, and who shares a pass with whom.

A method that has asked for a pass waits until every other method has had the chance to ask for one as well: until its
own next turn at the latest. Then all passes that may be one are one.
"""

from collections.abc import Callable, Sequence

from interpd.engine.batching import Candidate, bucket
from interpd.engine.method_pass import run_method_pass
from interpd.engine.runs import Phase, Run
from interpd.engine.session import MethodTask
from interpd.errors import InterpdError
from interpd.graph.run import Event


class MethodTurns:
    """Gives methods their turns.

    Args:
        emit: Takes what they have to tell.
        busy: Is told who is busy with what.
        share_passes: Whether passes of several methods are run as one.
        max_tokens: Positions of a shared pass at most, padding included.
    """

    def __init__(
        self,
        emit: Callable[[Event], None],
        busy: Callable[[Sequence[Run], str], None],
        *,
        share_passes: bool,
        max_tokens: int,
    ) -> None:
        self._emit, self._busy = emit, busy
        self._share_passes, self._max_tokens = share_passes, max_tokens
        self._tasks: dict[str, MethodTask] = {}

    def end(self, run: Run, error: InterpdError) -> None:
        """Raises ``error`` in the run's method, if it has one under way."""
        task = self._tasks.pop(run.id, None)
        if task is not None:
            task.end(error)

    def step(self, run: Run, runs: Sequence[Run]) -> None:
        """Gives the method of ``run`` its turn: the pass that it has waited for, and a slice of its work.

        Args:
            run: Whose turn it is.
            runs: All that there are.
        """
        step = run.next_method()
        task = self._tasks.get(run.id)
        if task is None:
            # its work begins with the next turn, so that whoever waits hears at once that it has started
            self._tasks[run.id] = MethodTask(run, step, run.access, self._emit)
            return
        has_waited = task.share is not None
        if has_waited:
            self._run_pass(task)
        try:
            self._busy([run], f"method {step.op}@{step.schema.version}")
            task.resume()
        except InterpdError as error:
            del self._tasks[run.id]
            run.fail(error)
            return
        if task.outputs is not None:
            del self._tasks[run.id]
            run.put_method(task.outputs)
            run.advance()
        elif task.request is not None:
            task.prepare()
            if task.share is not None and not has_waited and not self._may_get_company(task, runs):
                self._run_pass(task)

    def _may_get_company(self, task: MethodTask, runs: Sequence[Run]) -> bool:
        """Whether another method may ask for a pass of the same kind before the next turn of ``task``."""
        if not self._share_passes or task.share is None or task.share.kind.alone:
            return False
        others = [run for run in runs if run.phase is Phase.METHOD and run is not task.run]
        others = [run for run in others if run.adapter_key == task.run.adapter_key]
        return any(run.id not in self._tasks or self._tasks[run.id].share is None for run in others)

    def _run_pass(self, first: MethodTask) -> None:
        """The pass that ``first`` waits for, with those of other methods that may share it."""
        waiting = sorted(
            (task for task in self._tasks.values() if task.share is not None and task is not first),
            key=lambda task: task.run.turn,
        )
        others = [_candidate(task) for task in waiting] if self._share_passes else []
        chosen = bucket(_candidate(first), others, max_tokens=self._max_tokens)
        tasks = [self._tasks[candidate.run_id] for candidate in chosen]
        self._busy([task.run for task in tasks], "pass")
        error = _error_of_pass(tasks)
        for task in tasks:
            failed = task.share is not None and task.share.failed is not None
            if error is None or failed or len(tasks) == 1:
                task.take(error)
                continue
            # what is wrong with the pass is wrong with one of them: each is tried alone, and told
            task.prepare()
            if task.share is not None:
                task.take(_error_of_pass([task]))


def _candidate(task: MethodTask) -> Candidate:
    share = task.share
    assert share is not None
    request = share.request
    return Candidate(task.run.id, share.kind, (request.width.total or 0,) * len(request.rows))


def _error_of_pass(tasks: Sequence[MethodTask]) -> Exception | None:
    """What the pass that these methods wait for raised; ``None``: it has run."""
    try:
        run_method_pass([task.share for task in tasks if task.share is not None])
    except Exception as error:  # a pass that failed: the method is told, and may go on
        return error
    return None
