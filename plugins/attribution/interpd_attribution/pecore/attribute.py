"""PECoRe: context-sensitive tokens of an output, and the cues in the contexts that each of them relies on
(Sarti et al. 2024, arXiv:2310.01188)."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from interpd.errors import CallerError
from interpd.graph.ir import Prompt
from interpd_attribution.attribution import Attribution
from interpd_attribution.labels import marked
from interpd_attribution.pecore.arguments import ContextArguments
from interpd_attribution.pecore.asking import Chosen, Sensitivity, cues, sensitivity
from interpd_attribution.pecore.pieces import Part
from interpd_attribution.pecore.ranking import standing_out, threshold
from interpd_attribution.pecore.result import ContextAttribution, ContextualCues
from interpd_attribution.pecore.sequences import Compared, Ids, compared
from interpd_attribution.pecore.speech import Ask
from interpd_client import Model


def attribute_context(
    model: Model,
    arguments: ContextArguments | None = None,
    *,
    ask: Ask | None = None,
    asks_next_tokens: bool = False,
    run: Mapping[str, Any] | None = None,
    watch: Callable[[Attribution], None] | None = None,
    **fields: Any,
) -> ContextAttribution:
    """Which tokens of an output depend on its contexts, and on which of their tokens.

    Sensitive tokens come from comparing the predictions with and without the contexts (a request with a pass over
    each), their cues from an attribution of all of them (a second request).

    Args:
        model: Of a client.
        arguments: Texts and options; or they are given one by one, as ``fields``.
        ask: Who is asked where the output's context ends (``handle_output_context_strategy="manual"``).
        asks_next_tokens: Whether ``ask`` also says what each sensitive token is contrasted with.
        run: Options of the requests: ``timeout_s``, ``adapter``, ``progress``.
        watch: Called with what stands between: the metric at each token of the output without contexts, and the
            attribution of each sensitive token.
        fields: Those of ``ContextArguments``.

    Raises:
        CallerError: What does not fit together, said before anything is computed as far as it can be.
    """
    if arguments is not None and fields:
        raise CallerError(f"{sorted(fields)[0]!r} is given beside arguments; dataclasses.replace changes one of them")
    asked = ContextArguments(**fields) if arguments is None else arguments
    if asks_next_tokens and (ask is None or asked.contextless_output_next_tokens or not asked.is_contrastive):
        raise CallerError(
            "asks_next_tokens needs somebody to ask, a contrastive attributed_fn, and no contextless_output_next_tokens"
        )
    options = dict(run or {})
    both = compared(model, asked, ask, options)
    told = sensitivity(model, both, asked.context_sensitivity_metric, options)
    scores = [told.scores[place] for place in both.places]
    least = threshold(scores, asked.context_sensitivity_std_threshold)
    ranked = standing_out(scores, least, asked.context_sensitivity_topk)
    foils = _foils(model, both, told, ranked, asked=asked, ask=ask if asks_next_tokens else None)
    chosen = [Chosen(both.places[place], foil) for place, foil in zip(ranked, foils, strict=True)]
    found, warnings = cues(model, both, chosen, asked, options)
    if watch is not None:
        for item in (told.attribution, *found):
            watch(item)
    sensitive = []
    for place, one, attribution in zip(ranked, chosen, found, strict=True):
        token = {"cti_idx": place, "cti_token": marked(both.current.tokens[place]), "cti_score": scores[place]}
        sensitive.append(ContextualCues(**token, **_texts(model, both, one), **_of_contexts(attribution, both)))
    return ContextAttribution(
        input_context=asked.input_context_text,
        input_context_tokens=_tokens(both.input_context),
        output_context=both.output_context_text,
        output_context_tokens=_tokens(both.output_context),
        output_current=both.output_current_text,
        output_current_tokens=tuple(map(marked, both.current.tokens)),
        cti_scores=tuple(scores),
        cci_scores=tuple(sensitive),
        info={**_info(model, asked, both, told), "warnings": list(dict.fromkeys((*told.result.warnings, *warnings)))},
    )


def _tokens(part: Part | None) -> tuple[str, ...] | None:
    return None if part is None else tuple(map(marked, part.tokens))


def _of_contexts(attribution: Attribution, both: Compared) -> dict[str, tuple[float, ...] | None]:
    """The scores of the contexts' tokens."""
    found: dict[str, tuple[float, ...] | None] = {}
    for side, part in (("input", both.input_context), ("output", both.output_context)):
        is_source = side == "input" and both.contextual.source is not None
        table = attribution.source_attributions if is_source else attribution.target_attributions
        scores = None if part is None or table is None else [float(table[place, 0]) for place in part.positions]
        if scores is not None and any(map(math.isnan, scores)):
            raise CallerError(
                f"method {attribution.info['attribution_method']!r} gives nothing for the {side} context's tokens; "
                "for a layer method on two sides, attribution_kwargs={'sites': ...} names sites of their side"
            )
        found[f"{side}_context_scores"] = None if scores is None else tuple(scores)
    return found


def _foils(
    model: Model,
    both: Compared,
    told: Sensitivity,
    ranked: Sequence[int],
    *,
    asked: ContextArguments,
    ask: Ask | None,
) -> list[int | None]:
    """What each sensitive token is contrasted with."""
    if not asked.is_contrastive:
        return [None] * len(ranked)
    given: Sequence[str | int] = asked.contextless_output_next_tokens
    if ask is not None:
        tokens = both.current.tokens
        given = [ask.next_token("".join(tokens[:place]), tokens[place]) for place in ranked]
    if not given:
        return [told.likeliest[both.places[place]] for place in ranked]
    if len(given) != len(ranked):
        raise CallerError(
            f"contextless_output_next_tokens: {len(given)} of them for {len(ranked)} sensitive tokens: "
            f"{[both.current.tokens[place] for place in ranked]}"
        )
    return [_first_token(model, both, item) for item in given]


def _first_token(model: Model, both: Compared, item: str | int) -> int:
    if not isinstance(item, str):
        return int(item)
    if not item:
        raise CallerError("contextless_output_next_tokens has an empty text, which is no token")
    if both.contextual.source is None:
        return model.tokenize(Prompt(text=item, add_special_tokens=False)).ids[0]
    source = both.contextual.source
    target = model.tokenize(Prompt(token_ids=source, target_text=item, add_special_tokens=False)).target
    assert target is not None
    return target.ids[1]


def _texts(model: Model, both: Compared, one: Chosen) -> dict[str, Any]:
    """The texts of a sensitive token."""
    position = both.contextual.start + one.place
    contextual = both.text[: both.stops[position]].lstrip(" ")
    if one.foil_id is None:
        return {"contextual_output": contextual}
    said = both.text[both.text_from : max(both.stops[position - 1], both.text_from)] if one.place else ""
    foil = both.contextless.with_token(both.contextless.start + one.place, one.foil_id)
    token = _behind(model, foil.up_to(both.contextless.start + one.place + 1))
    before = both.contextless_text + said
    text = before.rstrip(" ") + token if token.startswith(" ") else before + token
    return {"contextual_output": contextual, "contrast_token": marked(token), "contextless_output": text.lstrip(" ")}


def _behind(model: Model, ids: Ids) -> str:
    """The text of the last token, with the blank before it, where there is one."""
    texts = []
    for stop in (len(ids.target) - 1, len(ids.target)):
        tokens = model.tokenize(ids.up_to(stop).prompt)
        side = tokens.target or tokens
        texts.append(side.text)
    before, after = texts
    return after[len(before) :] if after.startswith(before) and len(after) > len(before) else side.strings[-1]


def _info(model: Model, asked: ContextArguments, both: Compared, told: Sensitivity) -> dict[str, Any]:
    provenance = told.result.provenance
    words = ("model", "model_revision", "engine", "dtype", "device", "adapter")
    return {
        **asked.to_dict(),
        "attributed_fn": asked.target,
        "output_context_text": both.output_context_text,
        "output_current_text": both.output_current_text,
        "model_name_or_path": model.info.source,
        "sequences": {
            name: {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in dataclasses.asdict(ids).items()
            }
            for name, ids in (("contextual", both.contextual), ("contextless", both.contextless))
        },
        "provenance": {name: getattr(provenance, name) for name in words} | {"plugins": dict(provenance.plugins)},
    }
