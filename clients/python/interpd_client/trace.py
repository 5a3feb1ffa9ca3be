"""Traces: what is written inside ``with model.trace(...) as t`` becomes one graph, sent when the block ends."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import ClassVar, Self, Unpack

from interpd.graph.check import CheckReport
from interpd.graph.estimate import methods_of
from interpd.graph.ir import Prompt
from interpd.graph.run import RunRequest, TokenGenerated, Tokens
from interpd.graph.schema import Manifest
from interpd_client.blame import placed_report
from interpd_client.checking import knows_its_artifacts, local_report
from interpd_client.connection import Connection
from interpd_client.explain import explained
from interpd_client.following import Job
from interpd_client.options import RunOptions, checked
from interpd_client.outputs import flatten
from interpd_client.places import user_place
from interpd_client.program_order import warn_of_late_writes
from interpd_client.prompt_trace import PromptTrace
from interpd_client.prompts import PromptLike, TargetLike, as_prompt
from interpd_client.recording import Recording
from interpd_client.result import Result
from interpd_client.runs import RunHandle
from interpd_client.sites import SiteTable
from interpd_client.value import to_ref
from interpd_client.waiting import finished


@dataclass(frozen=True, slots=True)
class TraceContext:
    """What a trace needs of its model."""

    connection: Connection
    manifest: Manifest
    table: SiteTable

    async def tokenize(self, prompt: Prompt) -> Tokens:
        """The tokens of a prompt, asked from the service."""
        return (await self.connection.ask("tokenize", self.manifest.model.name, [prompt]))[0]

    async def fetched_manifest(self) -> Manifest:
        """What the model offers now."""
        return await self.connection.ask("manifest", self.manifest.model.name)

    async def validate(self, request: RunRequest) -> CheckReport:
        """The service's own verdict on a request."""
        report: CheckReport = await self.connection.ask("validate", request)
        if report.estimate is None:
            return report
        # the answer on the wire counts passes only
        return replace(report, estimate=replace(report.estimate, methods=methods_of(request.graph, self.manifest)))


class TraceDraft(PromptTrace):
    """A request under construction, without the sending of it, which is the traces' of each client.

    Args:
        context: Of the model.
        prompt: The first one, if any.
        options: How the request runs.
        tokenize: What a recorded line that needs the tokens of a prompt does.
    """

    _one_prompt: ClassVar[type[PromptTrace]] = PromptTrace
    """The class of a prompt of this trace."""

    def __init__(
        self,
        context: TraceContext,
        prompt: PromptLike | None,
        options: RunOptions,
        tokenize: Callable[[Prompt], Tokens],
    ) -> None:
        adapter = options.get("adapter", "")
        recording = Recording(context.manifest, tokenize, begun_at=user_place(), adapter=adapter)
        super().__init__(recording, context.table, self._only_prompt)
        self._context = context
        self._options = options
        self._saved: dict[str, object] = {}
        self._on_token: Callable[[TokenGenerated], None] | None = None
        if prompt is not None:
            self.prompt(prompt)

    def _begun_as(self, other: "TraceDraft") -> Self:
        """This trace, with what another one of a single prompt has recorded."""
        if len(other._recording.prompts) != 1:
            raise ValueError(f"the trace has {len(other._recording.prompts)} prompts, expected one")
        self._recording.take_over(other._recording)
        return self

    def __repr__(self) -> str:
        recording = self._recording
        counts = f"{len(recording.prompts)} prompts, {len(recording.nodes)} nodes"
        return f"<trace of {recording.manifest.model.name}: {counts}, saves {', '.join(self._saved) or 'nothing'}>"

    def prompt(self, prompt: PromptLike, *, target: TargetLike | None = None) -> PromptTrace:
        """One more prompt of this request; values may flow between prompts in either direction of time.

        ``target``: what the decoder of an encoder-decoder model is given after its start token.
        """
        recording = self._recording
        recording.prompts.append(as_prompt(prompt, self._options, target=target))
        number = len(recording.prompts) - 1
        return self._one_prompt(recording, self._context.table, lambda: number)

    def save(self, *unnamed: object, **values: object) -> None:
        """Returns values under these names: symbolic values, or lists, tuples and dicts of them.

        Raises ``TypeError`` for a value without a name.
        """
        if unnamed:
            raise TypeError("save() gives each value a name: `t.save(h=value)`, then `t.result['h']`")
        for name, value in values.items():
            for flat, one in flatten(name, value):
                ref = to_ref(self._recording, one)
                assert ref is not None
                self._recording.save(flat, ref)
            self._saved[name] = value

    @property
    def request(self) -> RunRequest:
        """The request as it would be sent now."""
        return self._draft().request

    def to_json(self) -> str:
        """The graph as the JSON text that ``interpd check`` and ``interpd run`` read; prompts are not part of it.

        Raises ``InvalidGraph`` for large arrays, which a file names by digest only.
        """
        from interpd.wire.files import graph_to_json  # much that most traces never need

        built = self._recording.build()
        if built.blobs:
            raise self._recording.refuse(
                "LARGE_CONSTANT",
                f"{len(built.blobs)} arrays of the graph are too large to stand in a file: upload them as an artifact, "
                "or make them in the graph",
            )
        return graph_to_json(built.graph)

    def explain(self) -> str:
        """The trace as text: what runs when, types, results, cost, and the line behind each node; nothing runs."""
        job = self._draft()
        return explained(job, placed_report(local_report(self._recording, job.request), job.places))

    async def _report(self, *, remote: bool) -> CheckReport:
        job = self._draft()
        report = await self._context.validate(job.request) if remote else local_report(self._recording, job.request)
        return placed_report(report, job.places)

    async def _checked(self, *, is_detached: bool) -> Job:
        """The job to send; nothing can be recorded any more. Raises ``InvalidGraph``."""
        job = replace(self._draft(), is_detached=is_detached)
        report = local_report(self._recording, job.request)
        if not knows_its_artifacts(report):
            # methods make artifacts and others upload some, after the manifest was fetched
            self._recording.manifest = await self._context.fetched_manifest()
            report = local_report(self._recording, job.request)
        placed_report(report, job.places).raise_if_bad()
        warn_of_late_writes(job.request.graph, self._recording.manifest, job.places)
        self._recording.closed = True
        return job

    @property
    def _outlives_us(self) -> bool:
        """Whether a submitted run goes on when this program has gone."""
        return self._options.get("keep_s", 0.0) > 0

    def _draft(self) -> Job:
        recording, options = self._recording, self._options
        built = recording.build()
        timeout_s = options.get("timeout_s", self._context.connection.timeout_s)
        request = RunRequest(
            run_id=uuid.uuid4().hex,
            model=recording.manifest.model.name,
            prompts=tuple(recording.prompts),
            graph=built.graph,
            generation=recording.generation,
            reproducible=options.get("reproducible", False),
            stream_tokens=self._on_token is not None,
            adapter=options.get("adapter", ""),
            keep_s=options.get("keep_s", 0.0),
            deadline_s=None if timeout_s is None else time.time() + timeout_s,
        )
        return Job(
            request,
            built.places,
            built.blobs,
            dict(self._saved),
            on_token=self._on_token,
            progress=options.get("progress"),
        )

    def _only_prompt(self) -> int:
        n_prompts = len(self._recording.prompts)
        if n_prompts == 1:
            return 0
        if n_prompts == 0:
            message = "the trace has no prompt yet; give one to model.trace(...) or add one: `a = t.prompt('...')`"
        else:
            message = f"the trace has {n_prompts} prompts; say whose value is meant: `a = t.prompt('...')`, `a.layers`"
        raise self._recording.refuse("WHICH_PROMPT", message)


class Trace(TraceDraft):
    """A request under construction. Made by ``Model.trace``.

    With one prompt its sites are those of the prompt; with several, each ``t.prompt(...)`` has its own. The block
    sends nothing; its end sends everything, unless an exception left it or ``submit`` was called.
    """

    def __init__(self, context: TraceContext, prompt: PromptLike | None, options: RunOptions) -> None:
        super().__init__(context, prompt, options, lambda one: finished(context.tokenize(one)))
        self._handle: RunHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._handle is None:
            self.run()
        self._recording.closed = True

    @property
    def result(self) -> Result:
        """What came back. Raises ``RuntimeError`` before the end of the block."""
        if self._handle is None:
            raise RuntimeError("there is no result yet: the request is sent when the `with` block ends")
        return self._handle.result()

    def check(self, *, remote: bool = False) -> CheckReport:
        """What is wrong with the trace so far, its types and its cost; nothing runs.

        ``report.violations`` is empty for a request that would be accepted. The local check knows token counts only
        of prompts whose ``tokens`` were asked for; ``remote=True`` lets the service tokenise and check.
        """
        return finished(self._report(remote=remote))

    def run(self) -> Result:
        """The result; what the end of a ``with`` block does. Raises ``InvalidGraph`` before anything is sent."""
        if self._handle is None:
            self._handle = RunHandle(self._context.connection, finished(self._checked(is_detached=False)))
        return self._handle.result()

    def again(self, prompt: PromptLike, **options: Unpack[RunOptions]) -> "Trace":
        """A new trace of what this one has recorded, over another prompt; it saves nothing yet, and nothing is sent.

        Positions stay as they were written: those that were found by text or counted from the start keep their
        numbers. Raises ``ValueError`` unless this trace has one prompt.
        """
        return Trace(self._context, prompt, checked(options))._begun_as(self)

    def submit(self) -> RunHandle:
        """A hold on the run, once the service has accepted it; the end of the block then sends nothing.

        With ``keep_s`` the run outlives this program: ``client.attach(handle.id)`` finds it again.
        """
        if self._handle is None:
            handle = RunHandle(self._context.connection, finished(self._checked(is_detached=self._outlives_us)))
            handle.wait_accepted()
            self._handle = handle
        return self._handle
