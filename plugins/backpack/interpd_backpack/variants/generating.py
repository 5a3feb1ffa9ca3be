"""``model.backpack.generate``: N variants of a text as N prompts of one request.

Prompts of equal tokens are one row of the prefill until an edit changes their senses, which lie behind the blocks of
the transformer. From the first new token on each variant is a row of its own. All rows of a prompt draw the same random
numbers, so two variants differ by their edits and not by chance.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from interpd.errors import CallerError
from interpd.graph.run import Generated, TokenGenerated, Tokens
from interpd_backpack.edits.edit import an_edit
from interpd_backpack.variants.continuations import Continuation, Prompted, Variants
from interpd_backpack.words import laid_out, shown_prompt, spelt
from interpd_client import Model, PromptTrace

Write = Callable[[PromptTrace], object]
"""Records writes in one prompt of a trace."""
UNEDITED = "unedited"
"""The name of the variant without an edit."""
SEED_BITS = 32


@runtime_checkable
class Named(Protocol):
    """An edit, as far as its name goes."""

    name: str
    digest: str


Variant = Named | Write | None
"""An edit, a function that records writes, or nothing."""
PutInForce = Callable[[PromptTrace, Any], object]
"""Puts an edit in force in one prompt of a trace."""


@dataclass(frozen=True, slots=True)
class VariantToken:
    """A token of one variant, as it comes."""

    variant: str
    prompt: int
    """The number of the prompt."""
    step: int
    token_id: int
    text: str
    """What it adds; may be empty while a character is incomplete."""


@dataclass(frozen=True)
class _Row:
    prompt: int
    variant: int


def generate(
    model: Model,
    prompts: Any,
    variants: Variant | Sequence[Variant] | Mapping[str, Variant],
    *,
    put_in_force: PutInForce,
    max_new_tokens: int,
    on_token: Callable[[VariantToken], object] | None = None,
    **options: Any,
) -> Variants:
    """Each prompt continued under each variant.

    Args:
        model: A Backpack.
        prompts: A prompt, or a list of texts.
        variants: Edits, functions of a prompt of the trace that record writes, and ``None`` for the model as it is;
            one, a list, or with names of your own a mapping.
        put_in_force: What an edit is recorded with.
        max_new_tokens: For each.
        on_token: Called with each token as it comes.
        options: Of ``model.generate``. With ``do_sample`` and without ``seed`` a seed is drawn, and told in the result.

    Raises:
        CallerError: No variants, or ``seeds``, which are made here.
    """
    if "seeds" in options:
        raise CallerError("seeds are made here, equal ones for the variants of a prompt: give seed")
    given = _several(prompts)
    names, chosen = _named(variants)
    seed = options.pop("seed", None)
    if options.get("do_sample") and seed is None:
        seed = secrets.randbits(SEED_BITS)
    rows = [_Row(prompt, variant) for prompt in range(len(given)) for variant in range(len(chosen))]
    done: dict[_Row, Generated] = {}
    tokens: dict[int, Tokens] = {}
    info: dict[str, Any] = {}
    for part in _parts(rows, model.manifest.limits.n_prompts):
        told = None if on_token is None else _teller(on_token, part, names)
        seeds = () if seed is None else tuple(seed + row.prompt for row in part)
        t = model.generate(max_new_tokens=max_new_tokens, on_token=told, seeds=seeds, **options)
        for row in part:
            _put(t.prompt(given[row.prompt]), chosen[row.variant], put_in_force)
        result = t.run()
        info = info or _said(result, model)
        for row, one, found in zip(part, result.generated, result.tokens, strict=True):
            done[row], tokens[row.prompt] = one, found
    settings = {"max_new_tokens": max_new_tokens, **({} if seed is None else {"seed": seed}), **options}
    digests = tuple(getattr(one, "digest", "") for one in chosen)
    return Variants(
        names, digests, tuple(_prompted(tokens[n]) for n in range(len(given))), _spelt(model, done), settings, info
    )


def _several(prompts: Any) -> list[Any]:
    """A list of texts is several prompts; token ids, and messages of a chat, are one. Raises ``CallerError``."""
    if isinstance(prompts, list | tuple) and not prompts:
        raise CallerError("there is no prompt")
    if isinstance(prompts, list | tuple) and prompts and all(isinstance(one, str) for one in prompts):
        return list(prompts)
    return [prompts]


def _named(variants: Variant | Sequence[Variant] | Mapping[str, Variant]) -> tuple[tuple[str, ...], list[Variant]]:
    if isinstance(variants, Mapping):
        names, chosen = list(variants), list(variants.values())
    else:
        chosen = list(variants) if isinstance(variants, Iterable) else [variants]
        names = [_name(one, number) for number, one in enumerate(chosen)]
    for one in chosen:
        if one is not None and not isinstance(one, Named) and not callable(one):
            an_edit(one, ", a function of a prompt of the trace, or None")
    if not chosen:
        raise CallerError("no variants: give edits, and None for the model as it is")
    if twice := {name for name in names if names.count(name) > 1}:
        raise CallerError(f"several variants are called {min(twice)!r}: name them, {{'name': edit, ...}}")
    return tuple(names), chosen


def _name(variant: Variant, number: int) -> str:
    if variant is None:
        return UNEDITED
    if isinstance(variant, Named):
        return variant.name
    own = getattr(variant, "__name__", "")
    return own if own and own != "<lambda>" else f"variant {number}"


def _put(prompt: PromptTrace, variant: Variant, put_in_force: PutInForce) -> None:
    if isinstance(variant, Named):
        put_in_force(prompt, variant)
    elif variant is not None:
        variant(prompt)


def _parts(rows: Sequence[_Row], most: int) -> Iterator[Sequence[_Row]]:
    return (rows[start : start + most] for start in range(0, len(rows), most))


def _teller(
    on_token: Callable[[VariantToken], object], rows: Sequence[_Row], names: Sequence[str]
) -> Callable[[TokenGenerated], None]:
    def told(event: TokenGenerated) -> None:
        row = rows[event.invoke]
        on_token(VariantToken(names[row.variant], row.prompt, event.step, event.token_id, event.text))

    return told


def _spelt(model: Model, done: Mapping[_Row, Generated]) -> tuple[tuple[Continuation, ...], ...]:
    ids = sorted({id_ for one in done.values() for id_ in one.token_ids})
    strings = dict(zip(ids, spelt(model, ids), strict=True))
    found: dict[int, list[Continuation]] = {}
    for row, one in done.items():
        texts = laid_out(one.text, [strings[id_] for id_ in one.token_ids])
        found.setdefault(row.prompt, []).append(Continuation(one.token_ids, texts, one.text, one.stop_reason))
    return tuple(tuple(found[prompt]) for prompt in sorted(found))


def _prompted(tokens: Tokens) -> Prompted:
    return Prompted("".join(shown_prompt(tokens)), tokens.ids)


def _said(result: Any, model: Model) -> dict[str, Any]:
    made = result.provenance
    return {
        "model": made.model,
        "source": model.info.source,
        "revision": made.model_revision,
        "dtype": made.dtype,
        "engine": made.engine,
        "graph": made.graph_digest,
    }
