"""Foils: what might have come instead, and in which contexts it is scored."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.sequence import Sequence


@dataclass(frozen=True, kw_only=True)
class Foils:
    """What the target is contrasted with. A foil is a whole target sequence, of which the aligned tokens count.

    Args:
        contrast_ids: Token ids of the foil: a whole sequence, context and alternative; for an encoder-decoder model
            what the decoder is given, start token first. Several foils stand one behind the other. Empty, with a
            source of their own: the target itself.
        contrast_lengths: Tokens of each foil; empty: there is one.
        contrast_source_ids: Another source for the foils of an encoder-decoder model; empty: the same.
        contrast_positions: For each foil and each attributed token the foil's token that stands for it, as its
            position; empty: counted from the ends, the foil's last token for the last attributed one.
        contrast_start: Where the foil's alternative begins, when it is contrasted as a whole and may have another
            number of tokens; 0: token by token. Needs a single column.
    """

    contrast_ids: tuple[int, ...] = ()
    contrast_lengths: tuple[int, ...] = ()
    contrast_source_ids: tuple[int, ...] = ()
    contrast_positions: tuple[int, ...] = ()
    contrast_start: int = 0


@dataclass(frozen=True, kw_only=True)
class Contrast(Foils):
    """What the target is contrasted with, where it is computed anew from other inputs.

    Args:
        contrast_force_inputs: Score the foil in its own context in the attributed target too, not only in step
            scores; otherwise the foil's tokens are scored in the target's context.
        contrast_shared: How many of the foil's first tokens are the same features as those of the target: gradients
            and changes reach them. 0: the foil's context stays as it is.
    """

    contrast_force_inputs: bool = False
    contrast_shared: int = 0


@dataclass(frozen=True)
class Context:
    """Token ids whose predictions are scored."""

    source_ids: Tensor | None
    """``[pos]``, or ``[row pos]`` where rows have tokens of their own; ``None`` for a decoder-only model."""
    target_ids: Tensor
    """``[pos]``, or ``[row pos]``."""
    predicting: tuple[int, ...]
    """Positions of the target whose logits count."""
    shares_source: bool = True
    """Whether its source is that of the attributed sequence."""
    n_shared: int = 0
    """How many first positions of the target are those of the attributed sequence."""

    @property
    def is_fixed(self) -> bool:
        """Whether nothing of the attributed sequence is in it, so that it is scored once for all rows."""
        return not self.n_shared and (self.source_ids is None or not self.shares_source)


@dataclass(frozen=True)
class FoilTokens:
    """The tokens of one foil that count."""

    context: Context
    """Its own."""
    ids: Tensor
    """``[token]``."""
    share: Tensor | None
    """As in ``Foil.share``."""


def own_context(sequence: Sequence) -> Context:
    """The context of the attributed tokens."""
    source = None if sequence.source is None else sequence.source.ids
    target = sequence.target.ids
    return Context(source, target, sequence.predicting, n_shared=len(target))


def foils_of(asked: Contrast, sequence: Sequence, n_columns: int, n_vocab: int) -> tuple[FoilTokens, ...]:
    """The foils that were asked for; none: nothing is contrasted. Raises ``CallerError``."""
    if asked.contrast_source_ids and sequence.source is None:
        raise CallerError("contrast_source_ids: the model has no encoder; put another context into contrast_ids")
    if not asked.contrast_ids and not asked.contrast_source_ids:
        given = [name for name in ("contrast_lengths", "contrast_positions", "contrast_start") if getattr(asked, name)]
        if given or asked.contrast_force_inputs or asked.contrast_shared:
            raise CallerError(f"{(given or ['contrast_force_inputs'])[0]} without contrast_ids: there is no foil")
        return ()
    foils = _sequences(asked, sequence)
    for ids in (*foils, asked.contrast_source_ids):
        wrong = [id_ for id_ in ids if not 0 <= id_ < n_vocab]
        if wrong:
            raise CallerError(f"contrast_ids: {wrong[0]} is outside the vocabulary of {n_vocab}")
    n_given, n_wanted = len(asked.contrast_positions), len(foils) * sequence.n_steps
    if n_given not in (0, n_wanted):
        raise CallerError(
            f"contrast_positions: {n_given} of them, expected {n_wanted}: {sequence.n_steps} for each foil"
        )
    if asked.contrast_start and (n_columns != 1 or n_given):
        raise CallerError("contrast_start contrasts wholes: it needs span=True, and no contrast_positions")
    return tuple(_foil(asked, sequence, ids, number) for number, ids in enumerate(foils))


def _sequences(asked: Contrast, sequence: Sequence) -> list[tuple[int, ...]]:
    ids = asked.contrast_ids or tuple(sequence.target.ids.tolist())
    lengths = asked.contrast_lengths or (len(ids),)
    if sum(lengths) != len(ids) or min(lengths) < 2:
        raise CallerError(
            f"contrast_lengths {list(lengths)} are not those of {len(ids)} contrast_ids: each foil is a whole sequence "
            "of at least a first token and one that it predicts"
        )
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _foil(asked: Contrast, sequence: Sequence, ids: tuple[int, ...], number: int) -> FoilTokens:
    device, n_steps = sequence.target.ids.device, sequence.n_steps
    target = torch.tensor(ids, device=device)
    positions = _positions(asked, sequence, len(ids), number)
    # another source alone: what the decoder is given is that of the attributed sequence
    shared = asked.contrast_shared if asked.contrast_ids else len(ids)
    if not 0 <= shared <= len(ids) or not torch.equal(target[:shared], sequence.target.ids[:shared]):
        raise CallerError(f"contrast_shared is {shared}, but the foil does not begin with as many tokens of the target")
    source = None if sequence.source is None else sequence.source.ids
    own_source = bool(asked.contrast_source_ids)
    if own_source:
        source = torch.tensor(asked.contrast_source_ids, device=device)
    context = Context(source, target, tuple(position - 1 for position in positions), not own_source, shared)
    share = torch.full((n_steps, len(positions)), 1 / n_steps, device=device) if asked.contrast_start else None
    return FoilTokens(context, target[list(positions)], share)


def _positions(asked: Contrast, sequence: Sequence, length: int, number: int) -> tuple[int, ...]:
    """The foil's tokens that count, as positions."""
    n_steps = sequence.n_steps
    if asked.contrast_start:
        positions = tuple(range(asked.contrast_start, length))
    elif asked.contrast_positions:
        positions = asked.contrast_positions[number * n_steps : (number + 1) * n_steps]
    else:
        behind = sequence.stop - length
        positions = tuple(position - behind for position in range(sequence.start, sequence.stop))
    if not positions or not all(1 <= position < length for position in positions):
        said = f"they are {list(positions)}" if positions else "there are none"
        raise CallerError(
            f"the tokens of foil {number} that stand for the attributed ones: {said}; expected positions from 1 to "
            f"{length - 1} of its {length} tokens: give contrast_positions"
        )
    return positions
