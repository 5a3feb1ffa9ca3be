"""Whatever clients, workers and time do, in any order: one terminal event per run, and nothing leaks."""

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from interpd.config import SchedulerConfig
from interpd.errors import InterpdError
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import TERMINAL, RunRequest
from interpd.scheduler.runs import RunState
from interpd.scheduler.scheduler import Scheduler
from interpd.testing.fake_workers import FakeWorkers, ManualClock

NODES = {
    "echo": Node("fake.echo", params={"value": 1.0}),
    "sleep": Node("fake.sleep", params={"seconds": 3.0}),
    "fail": Node("fake.fail", params={"message": "no"}),
    "crash": Node("fake.crash"),
}
MODELS = ("m0", "m1")
MAX_IN_FLIGHT = 2


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.workers = FakeWorkers(MODELS, n_replicas=2, clock=self.clock)
        config = SchedulerConfig(max_in_flight=MAX_IN_FLIGHT, max_queued=6, max_queued_per_owner=4)
        self.scheduler = Scheduler(self.workers, config, clock=self.clock, wall=self.clock)
        self.holds = []
        self.runs = []

    @rule(
        kind=st.sampled_from(list(NODES)),
        model=st.sampled_from(MODELS),
        owner=st.sampled_from("ab"),
        keep_s=st.sampled_from([0.0, 2.0]),
        lasts_s=st.sampled_from([None, 1.0, 5.0]),
    )
    def submit(self, kind, model, owner, keep_s, lasts_s):
        request = RunRequest(
            run_id=f"r{len(self.runs)}",
            model=model,
            prompts=(Prompt(text="hello"),),
            graph=Graph((NODES[kind],), {"value": Ref(0)}),
            owner=owner,
            keep_s=keep_s,
            deadline_s=None if lasts_s is None else self.clock() + lasts_s,
        )
        try:
            hold = self.scheduler.submit(request)
        except InterpdError:
            return
        self.holds.append(hold)
        self.runs.append(hold._run)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def cancel(self, data):
        data.draw(st.sampled_from(self.holds)).cancel()

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def reader_goes(self, data):
        data.draw(st.sampled_from(self.holds)).release()

    @rule(n=st.integers(1, 5))
    def engines_step(self, n):
        for _ in range(n):
            self.workers.step()

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)
        self.scheduler.tick()

    @rule(model=st.sampled_from(MODELS), data=st.data())
    def worker_dies(self, model, data):
        links = self.workers.links(model)
        if links:
            self.workers.lose(data.draw(st.sampled_from(links)))

    @rule(model=st.sampled_from(MODELS))
    def worker_comes_back(self, model):
        if len(self.workers.links(model)) < 2:
            self.workers.restart(model)

    @invariant()
    def each_run_has_at_most_one_terminal_event_and_it_is_the_last(self):
        for run in self.runs:
            terminals = [e for e in run.log._events if isinstance(e, TERMINAL)]
            assert len(terminals) <= 1
            assert bool(terminals) == (run.state is RunState.ENDED) == (run.log.ended is not None)
            assert not terminals or run.log._events[-1] is terminals[0]

    @invariant()
    def no_replica_holds_more_than_its_limit(self):
        assert all(len(held) <= MAX_IN_FLIGHT for held in self.scheduler._held.values())

    @invariant()
    def a_run_waits_only_where_there_is_no_room(self):
        for model in MODELS:
            queue, n_held = self.scheduler._queues.get(model), self.scheduler._n_held()
            if queue:
                limit = 1 if queue.first().alone else MAX_IN_FLIGHT
                assert all(n_held.get(link.name, 0) >= limit for link in self.workers.links(model))

    @invariant()
    def who_must_be_alone_is(self):
        for held in self.scheduler._held.values():
            assert len(held) == 1 or not any(run.alone for run in self.runs if run.run_id in held)

    @invariant()
    def the_counters_add_up(self):
        statistics = self.scheduler.statistics()
        n_open = Counter(run.state for run in self.runs)
        assert statistics.n_accepted == len(self.runs)
        assert sum(statistics.n_ended.values()) == n_open[RunState.ENDED]
        assert sum(m.n_queued for m in statistics.models) == n_open[RunState.QUEUED]
        assert sum(m.n_running for m in statistics.models) == n_open[RunState.RUNNING]

    def teardown(self):
        """Left alone with living workers, everything ends and nothing is held."""
        for model in MODELS:
            if not self.workers.links(model):
                self.workers.restart(model)
        for _ in range(60):
            self.engines_step(5)
            self.time_passes(1.0)
            for model in MODELS:
                if not self.workers.links(model):
                    self.workers.restart(model)
        for hold in self.holds:
            hold.release()
        self.time_passes(10.0)
        assert all(run.state is RunState.ENDED for run in self.runs)
        assert not any(self.scheduler._held.values())
        assert not list(self.scheduler._book.kept_runs())


SchedulerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_scheduler_machine = SchedulerMachine.TestCase
