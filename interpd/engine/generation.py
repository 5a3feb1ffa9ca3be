"""Prompts that are continued together, one token per step.

Rows are padded on the left, with explicit positions and a mask, and share one cache. Step 0 is the prefill; step k
feeds back the k-th new token. A row leaves the batch when its text ends or its request fails; the batch counts steps
per member, so that members may come to stand at different steps.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from time import monotonic

import torch
from torch import Tensor
from transformers import DynamicCache

from interpd.engine.model_access import ModelAccess
from interpd.engine.nnsight_driver import visits_of
from interpd.engine.passes import Share, SharedPass, keep_argument, with_kept_logits
from interpd.engine.rows import Frame, Row
from interpd.engine.runs import Phase, Run
from interpd.engine.sampling import Continuation, Sampler, end_ids
from interpd.graph.ir import Generation
from interpd.graph.run import Event, Generated, Progress, TokenGenerated

PROGRESS_S = 0.1
"""Time between two words on how far a batch is; shorter generations say none."""


@dataclass(slots=True)
class Member:
    """One prompt in a generation batch."""

    run: Run
    invoke: int
    prompt: tuple[int, ...]
    sampler: Sampler
    continuation: Continuation

    @property
    def step(self) -> int:
        """The step that comes next."""
        return len(self.continuation.ids)

    @property
    def n_keys(self) -> int:
        """Positions of the prompt and of the new tokens fed back, after the next step."""
        return len(self.prompt) + self.step

    @property
    def is_going_on(self) -> bool:
        """Whether it needs another step."""
        return not self.continuation.reason and self.run.phase is Phase.GENERATING


class GenerationBatch:
    """Rows that step together.

    Args:
        access: The model.
        members: In the order of their rows; those of one request are neighbours.
        eager: Whether the passes run eager attention.
        turn: Its place in the line.
    """

    def __init__(self, access: ModelAccess, members: Sequence[Member], *, eager: bool, turn: int) -> None:
        self.members = list(members)
        self.turn = turn
        self.eager = eager
        self._access = access
        self._cache = DynamicCache(config=access.resident.model.config)
        self._n_cached = 0
        self._next_progress = monotonic() + PROGRESS_S

    @property
    def runs(self) -> list[Run]:
        """The requests in it, each once."""
        return list({member.run.id: member.run for member in self.members}.values())

    def step(self) -> list[Event]:
        """One forward pass and one new token per row. Raises what the model's forward raises; nothing is lost then."""
        layers = [copy(layer) for layer in self._cache.layers]
        try:
            shares, logits = self._forward()
        except Exception:
            # the tensors of a cache are replaced, never written to: the copies are the state before
            self._cache.layers = layers
            raise
        self._finish(shares)
        events = [event for index, member in enumerate(self.members) for event in self._choose(member, logits[index])]
        self._leave()
        return [*events, *self._progress()]

    def _forward(self) -> tuple[list[Share], Tensor]:
        frame = self._frame()
        shares = self._shares(frame)
        steps = [(share.run.program, step, share.execution.rows) for share in shares for step in share.steps]
        frame = with_kept_logits(self._access, frame, steps, last=True)
        visits = visits_of(place for share in shares for place in share.run.program.places(share.steps))
        self._access.resident.set_attention(self.eager)
        output = self._access.driver.run(
            {**self._inputs(frame), **keep_argument(frame, self._access.device)},
            visits,
            SharedPass(shares, frame).on_visit,
        )
        self._n_cached += frame.n_pos
        return shares, output.logits[:, -1]

    def _frame(self) -> Frame:
        longest = max(1 if member.step else len(member.prompt) for member in self.members)
        return Frame(longest, padded_left=True)

    def _inputs(self, frame: Frame) -> dict[str, object]:
        device = self._access.device
        fed = [member.continuation.ids[-1:] if member.step else member.prompt for member in self.members]
        padded = [[*([0] * (frame.n_pos - len(ids))), *ids] for ids in fed]
        inputs: dict[str, object] = {
            "input_ids": torch.tensor(padded, dtype=torch.int64, device=device),
            "past_key_values": self._cache,
            "use_cache": True,
        }
        n_keys = torch.tensor([member.n_keys for member in self.members], device=device)[:, None]
        # rows that left may have been the longest: the cache keeps their columns
        total = self._n_cached + frame.n_pos
        if bool((n_keys == total).all()):
            return inputs
        columns = torch.arange(total, device=device)
        mask = columns >= total - n_keys
        places = (columns[-frame.n_pos :] - (total - n_keys)).clamp(min=0)
        inputs["attention_mask"] = mask.long()
        return {**inputs, "position_ids": places} if self._access.takes_positions else inputs

    def _shares(self, frame: Frame) -> list[Share]:
        by_run: dict[str, dict[int, Row]] = {}
        first_step: dict[str, int] = {}
        for index, member in enumerate(self.members):
            n_pos = 1 if member.step else len(member.prompt)
            by_run.setdefault(member.run.id, {})[member.invoke] = Row(index, n_pos, member.n_keys)
            first_step[member.run.id] = member.step
        return [self._share(run, by_run[run.id], first_step[run.id]) for run in self.runs]

    def _share(self, run: Run, own_rows: dict[int, Row], step: int) -> Share:
        run.values.begin_step(step)
        inside = run.program.steps_inside(run.pass_index)
        steps = tuple(one for one in inside if one.runs_at(step) and (not one.touches_site or one.invoke in own_rows))
        return Share(run, run.execution(steps, own_rows), steps)

    def _finish(self, shares: Sequence[Share]) -> None:
        n_layers = self._access.resident.info.n_layers
        for share in shares:
            share.execution.finish()
            own = sum(row.n_pos for row in share.execution.rows.values())
            share.run.used.count_pass(own, n_layers, len(shares))
            share.run.take(share.execution)

    def _choose(self, member: Member, logits: Tensor) -> list[Event]:
        if not member.is_going_on:
            return []
        step = member.step
        token = member.sampler.choose(logits)
        piece = member.continuation.add(token)
        if member.run.program.request.stream_tokens:
            return [TokenGenerated(member.run.id, member.invoke, step, token, piece)]
        return []

    def _progress(self) -> list[Event]:
        """How far each request is that goes on and does not hear of every token anyway."""
        now = monotonic()
        if now < self._next_progress:
            return []
        self._next_progress = now + PROGRESS_S
        quiet = [member for member in self.members if not member.run.program.request.stream_tokens]
        # the rows of a request step together: any of them speaks for it
        last = {member.run.id: member for member in quiet}
        return [Progress(one, m.step, m.continuation.max_tokens, "tokens") for one, m in last.items()]

    def _leave(self) -> None:
        """Takes ended rows out of the batch, and their results into their runs."""
        for member in self.members:
            continuation = member.continuation
            if continuation.reason and member.run.phase is Phase.GENERATING:
                member.run.generated[member.invoke] = Generated(
                    member.invoke, tuple(continuation.ids), continuation.text, continuation.reason
                )
        staying = [index for index, member in enumerate(self.members) if member.is_going_on]
        gone = {member.run.id: member.run for member in self.members if not member.is_going_on}
        self._keep(staying)
        for run in gone.values():
            if run.phase is Phase.GENERATING and all(member.run is not run for member in self.members):
                run.advance()

    def _keep(self, rows: list[int]) -> None:
        if len(rows) == len(self.members):
            return
        self.members = [self.members[index] for index in rows]
        if rows and self._n_cached:
            self._cache.batch_select_indices(torch.tensor(rows, device=self._access.device))

    def drop_ended(self) -> None:
        """Takes the rows of cancelled and failed requests out before the next step."""
        self._keep([index for index, member in enumerate(self.members) if member.is_going_on])

    def split(self) -> list["GenerationBatch"]:
        """A batch for each request alone, each standing where this one stood."""
        return [self._only(run) for run in self.runs]

    def _only(self, run: Run) -> "GenerationBatch":
        rows = [index for index, member in enumerate(self.members) if member.run is run]
        alone = GenerationBatch(self._access, self.members, eager=self.eager, turn=self.turn)
        alone._cache = copy(self._cache)
        alone._cache.layers = [copy(layer) for layer in self._cache.layers]
        alone._n_cached = self._n_cached
        alone._keep(rows)
        return alone


def members_of(access: ModelAccess, run: Run) -> list[Member]:
    """The rows that a request brings into a generation batch."""
    options, ends = run.program.request.generation, end_ids(access.resident)
    assert options is not None
    run.phase = Phase.GENERATING
    members = []
    for invoke in run.program.invokes_of_pass(run.pass_index):
        prompt = run.program.tokens[invoke].ids
        continuation = Continuation(access.resident, options, _room(access, options, len(prompt)), ends, prompt)
        members.append(Member(run, invoke, prompt, Sampler(options, invoke, access.device), continuation))
    return members


def _room(access: ModelAccess, options: Generation, n_prompt: int) -> int:
    limit = access.resident.info.max_positions
    # the last token is never fed back, so it needs no position
    return min(options.max_new_tokens, limit - n_prompt + 1) if limit else options.max_new_tokens
