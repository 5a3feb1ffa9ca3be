"""Prompts that are continued together, one token per step.

Rows are padded on the left, with explicit positions and a mask, and share one cache. Step 0 is the prefill; step k
feeds back the k-th new token. A row leaves the batch when its text ends or its request fails, and takes along the
columns that only it needed.

Requests that arrive while others decode begin with a batch of their own, for the prefill. Then the engine makes one
batch of it and of what is under way (``take_in``): the shorter cache is padded on the left, and from the next step on
one forward pass carries both. Steps are counted per member, so each request goes on to see its own positions and its
own steps. A batch that failed, though each of its requests goes well alone, is taken apart for good (``apart``): what
was too big for the device once would be so again.

Prompts of equal tokens are prefilled as one row, unless one of them writes in the blocks; behind the last block, or
where nobody writes behind the whole prefill, each takes a copy of the cache and goes its own way. So variants of one
prompt cost one prefill.

Of an encoder-decoder model the rows are those of the decoder: its start token and the target. The sources are encoded
in the prefill and kept beside the cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import torch
from torch import Tensor

from interpd.engine.batching import PassClass, reason_apart
from interpd.engine.decoder_positions import told
from interpd.engine.kv_cache import RowCache
from interpd.engine.lineup import Lineup, Part
from interpd.engine.model_access import ModelAccess
from interpd.engine.nnsight_driver import visits_of
from interpd.engine.passes import Share, SharedPass, boundaries_for, keep_argument, with_kept_logits
from interpd.engine.rows import Frame, Row
from interpd.engine.runs import Phase, Run
from interpd.engine.sampling import Continuation, Sampler, choose, end_ids
from interpd.engine.text_rules import TextRules, rules_of
from interpd.engine.two_sided_cache import TwoSidedCache
from interpd.graph.ir import Generation
from interpd.graph.order import AFTER
from interpd.graph.run import Event, Generated, Progress, TokenGenerated, Tokens

PROGRESS_S = 0.1
"""Time between two words on how far a batch is; shorter generations say none."""


@dataclass(slots=True)
class Member:
    """One prompt in a generation batch."""

    run: Run
    invoke: int
    tokens: Tokens
    sampler: Sampler
    continuation: Continuation
    rules: TextRules | None = None
    """What the model's own config demands of its text."""

    @property
    def prompt(self) -> tuple[int, ...]:
        """What is continued; of an encoder-decoder model what its decoder is given."""
        return self.tokens.ids if self.tokens.target is None else self.tokens.target.ids

    @property
    def n_src(self) -> int:
        """Positions of its source; 0 without an encoder."""
        return self.tokens.lengths.src_pos or 0

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
        kind: The class of its passes.
        turn: Its place in the line.
    """

    def __init__(self, access: ModelAccess, members: Sequence[Member], *, kind: PassClass, turn: int) -> None:
        self.members = list(members)
        self.turn = turn
        self.kind = kind
        self.apart = False
        """Whether it must stay as it is, because it is part of a batch that failed as a whole."""
        self.shares_rows = len(self.members) > 1
        """Whether equal prompts, if it has any, are prefilled as one row."""
        self._access = access
        two_sided = access.resident.target_side is not None
        self._cache = (TwoSidedCache if two_sided else RowCache)(access.resident.model.config)
        self._next_progress = monotonic() + PROGRESS_S

    @property
    def runs(self) -> list[Run]:
        """The requests in it, each once."""
        return list({member.run.id: member.run for member in self.members}.values())

    @property
    def is_under_way(self) -> bool:
        """Whether its prefill is behind it."""
        return self._cache.n_columns > 0

    def step(self) -> list[Event]:
        """One forward pass and one new token per row. Raises what the model's forward raises; nothing is lost then."""
        before = self._cache.state()
        try:
            shares, logits = self._forward()
        except Exception:
            # whatever the model raised: each request is going to be tried alone
            self._cache.restore(before)
            raise
        self._finish(shares)
        events = self._go_on(logits)
        self._leave()
        return [*events, *self._progress()]

    def _forward(self) -> tuple[list[Share], Tensor]:
        frame = self._frame()
        lineup = self._lineup()
        shares = self._shares(lineup)
        steps = [(share.run.program, step, share.execution.rows) for share in shares for step in share.steps]
        frame = with_kept_logits(self._access, frame, steps, last=True)
        places_seen = [place for share in shares for place in share.run.program.places(share.steps)]
        visits = visits_of([*places_seen, *(() if lineup is None else lineup.places(AFTER))])
        self._access.resident.set_attention(self.kind.eager_attention)
        fed = self.members if lineup is None else [self.members[number] for number in lineup.start.sources]
        inputs, places = self._inputs(frame, fed)
        inputs.update(keep_argument(frame, self._access.index_device))
        with told(self._access.driver.model, places):
            output = self._access.driver.run(inputs, visits, SharedPass(shares, frame, lineup).on_visit)
        logits = output.logits[:, -1]
        if lineup is not None:
            rows = [[stage.rows[number] for number in range(len(self.members))] for stage in lineup.stages]
            self._cache.spread(rows)
            logits = logits[rows[-1]]
        self._cache.filled(frame.n_pos, output)
        return shares, logits

    def _lineup(self) -> Lineup | None:
        """How the rows of a prefill change; ``None``: each prompt has its own."""
        if not self.shares_rows or self.is_under_way or isinstance(self._cache, TwoSidedCache) or self._cache.obstacle:
            return None
        parts = [Part(member.tokens.ids, self._first_write(member)) for member in self.members]
        lineup = Lineup(parts, boundaries_for(self._access, self.runs).last)
        self.shares_rows = len(lineup.start.sources) < len(parts)
        return lineup if self.shares_rows else None

    @staticmethod
    def _first_write(member: Member) -> int:
        program = member.run.program
        writes = [program.steps[index] for index in program.order.invokes[member.invoke].writes]
        return min((step.plan.order for step in writes if step.runs_at(0)), default=AFTER)

    def _frame(self) -> Frame:
        longest = max(1 if member.step else len(member.prompt) for member in self.members)
        return Frame(longest, padded_left=True)

    def _inputs(self, frame: Frame, members: Sequence[Member]) -> tuple[dict[str, object], Tensor | None]:
        """(arguments, positions of decoders that have to be told them in another way)."""
        device = self._access.device
        fed = [member.continuation.ids[-1:] if member.step else member.prompt for member in members]
        padded = [[*([0] * (frame.n_pos - len(ids))), *ids] for ids in fed]
        ids = torch.tensor(padded, dtype=torch.int64, device=device)
        inputs: dict[str, object] = {"past_key_values": self._cache.for_model, "use_cache": True}
        total = self._cache.n_columns + frame.n_pos
        n_padding = [total - member.n_keys for member in members]
        mask = places = None
        if any(n_padding) or (self.is_under_way and self._access.resident.steps_need_positions):
            columns, first = torch.arange(total, device=device), torch.tensor(n_padding, device=device)[:, None]
            places = (columns[-frame.n_pos :] - first).clamp(min=0)
            mask = (columns >= first).long() if any(n_padding) else None
        if isinstance(self._cache, TwoSidedCache):
            inputs.update(self._cache.source_inputs([member.tokens.ids for member in members], device))
            inputs.update(decoder_input_ids=ids, decoder_attention_mask=mask)
            return inputs, None if mask is None else places
        inputs["input_ids"] = ids
        if mask is not None:
            inputs["attention_mask"] = mask
        if places is not None and self._access.takes_positions:
            inputs["position_ids"] = places
        return inputs, None

    def _shares(self, lineup: Lineup | None) -> list[Share]:
        by_run: dict[str, dict[int, Row]] = {}
        so_far: dict[str, dict[int, tuple[int, ...]]] = {}
        first_step: dict[str, int] = {}
        for index, member in enumerate(self.members):
            n_pos = 1 if member.step else len(member.prompt)
            row = Row(index if lineup is None else lineup.start.rows[index], n_pos, member.n_keys, member.n_src)
            by_run.setdefault(member.run.id, {})[member.invoke] = row
            first_step[member.run.id] = member.step
            if member.run.program.uses_prefixes:
                so_far.setdefault(member.run.id, {})[member.invoke] = (*member.prompt, *member.continuation.ids)
        return [self._share(run, by_run[run.id], so_far.get(run.id, {}), first_step[run.id]) for run in self.runs]

    def _share(self, run: Run, own_rows: dict[int, Row], so_far: dict[int, tuple[int, ...]], step: int) -> Share:
        run.values.begin_step(step)
        inside = run.program.steps_inside(run.pass_index)
        steps = tuple(one for one in inside if one.runs_at(step) and (not one.needs_row or one.invoke in own_rows))
        return Share(run, run.execution(steps, own_rows, so_far), steps)

    def _finish(self, shares: Sequence[Share]) -> None:
        n_layers = self._access.resident.info.n_layers
        # sources are encoded in the prefill
        encoded = {(member.run.id, member.invoke): member.n_src for member in self.members if not member.step}
        for share in shares:
            share.execution.finish()
            rows = share.execution.rows
            own = sum(row.n_pos + encoded.get((share.run.id, invoke), 0) for invoke, row in rows.items())
            share.run.used.count_pass(own, n_layers, len(shares))
            share.run.take(share.execution)

    def _go_on(self, logits: Tensor) -> list[Event]:
        """Adds a token to each row, but for those whose requests have just failed."""
        events: list[Event] = []
        tokens = choose([member.sampler for member in self.members], self._ruled(logits))
        for member, token in zip(self.members, tokens, strict=True):
            if not member.is_going_on:
                continue
            step, piece = member.step, member.continuation.add(token)
            if member.continuation.is_streamed:
                events.append(TokenGenerated(member.run.id, member.invoke, step, token, piece))
        return events

    def _ruled(self, logits: Tensor) -> Tensor:
        """The logits as the rules for each text leave them."""
        ruled = [(row, member.rules) for row, member in enumerate(self.members) if member.rules is not None]
        if ruled:
            logits = logits.to(torch.float32, copy=True)
        for row, rules in ruled:
            member = self.members[row]
            logits[row] = rules.apply([*member.prompt, *member.continuation.ids], logits[row])
        return logits

    def _progress(self) -> list[Event]:
        """How far each request is that goes on and does not hear of every token anyway."""
        now = monotonic()
        if now < self._next_progress:
            return []
        self._next_progress = now + PROGRESS_S
        quiet = [member for member in self.members if not member.continuation.is_streamed]
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
        if rows and self.is_under_way:
            self._cache.keep(rows, self._n_needed)

    @property
    def _n_needed(self) -> int:
        """Columns of the cache that are not padding of all rows."""
        return max(member.n_keys for member in self.members) - 1

    def joinable(self, others: Sequence["GenerationBatch"], max_tokens: int) -> list["GenerationBatch"]:
        """Those of ``others`` that can be taken in, with at most ``max_tokens`` positions in the next pass, columns of
        the cache included."""
        chosen: list[GenerationBatch] = []
        n_rows, n_columns = len(self.members), self._n_columns
        for other in others:
            rows, columns = n_rows + len(other.members), max(n_columns, other._n_columns)
            if not self.reason_apart(other) and rows * (columns + 1) <= max_tokens:
                chosen.append(other)
                n_rows, n_columns = rows, columns
        return chosen

    @property
    def _n_columns(self) -> int:
        return self._cache.n_columns + self._cache.n_source_columns

    def reason_apart(self, other: "GenerationBatch") -> str:
        """Why it does not join ``other``, however much room there is; empty: it does."""
        if self.apart or other.apart:
            return "one is part of a batch that failed as a whole"
        if not (self.is_under_way and other.is_under_way):
            return "one is before its prefill"
        return reason_apart(self.kind, other.kind) or self._cache.obstacle

    def take_in(self, others: Sequence["GenerationBatch"]) -> None:
        """Appends the rows of ``others``, which are used up. Changes nothing when it raises."""
        self._cache.take_in([other._cache for other in others])
        self.members += [member for other in others for member in other.members]

    def drop_ended(self) -> None:
        """Takes the rows of cancelled and failed requests out before the next step."""
        self._keep([index for index, member in enumerate(self.members) if member.is_going_on])

    def split(self) -> list["GenerationBatch"]:
        """A batch for each request alone, each standing where this one stood, which is used up."""
        parts = [self._only(run) for run in self.runs]
        self.members, self._cache = [], type(self._cache)(self._access.resident.model.config)
        return parts

    def _only(self, run: Run) -> "GenerationBatch":
        rows = [index for index, member in enumerate(self.members) if member.run is run]
        alone = GenerationBatch(self._access, [self.members[index] for index in rows], kind=self.kind, turn=self.turn)
        if self.is_under_way:
            alone._cache = self._cache.copy_of(rows, alone._n_needed)
        return alone


def members_of(access: ModelAccess, run: Run) -> list[Member]:
    """The rows that a request brings into a generation batch."""
    options, ends = run.program.request.generation, end_ids(access.resident)
    assert options is not None
    run.phase = Phase.GENERATING
    members = []
    for invoke in run.program.invokes_of_pass(run.pass_index):
        tokens = run.program.tokens[invoke]
        prompt = (tokens.target or tokens).ids
        room = _room(access, options, len(prompt))
        streamed = run.program.request.stream_tokens
        continuation = Continuation(access.resident, options, room, ends, prompt, streamed)
        sampler, rules = Sampler(options, invoke, access.device), rules_of(access.resident, options, tokens, room)
        members.append(Member(run, invoke, tokens, sampler, continuation, rules))
    return members


def _room(access: ModelAccess, options: Generation, n_prompt: int) -> int:
    limit = access.resident.info.max_positions
    # the last token is never fed back, so it needs no position
    return min(options.max_new_tokens, limit - n_prompt + 1) if limit else options.max_new_tokens
