"""The client's part: ``model.attribute``."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from interpd.graph.schema import OpSchema
from interpd_attribution import methods
from interpd_attribution.asked import Asked, asked_of
from interpd_attribution.attribution import Attribution
from interpd_attribution.attributions import Attributions
from interpd_attribution.compared import baseline_constants
from interpd_attribution.flights import in_flight
from interpd_attribution.provenance import info_of
from interpd_attribution.requests import Call, call_of
from interpd_attribution.results import attribution_of, outputs_of
from interpd_attribution.sequences import Exact, begun, continued, forced, is_batch, listed, running
from interpd_client import Model, RunHandle

DEFAULT_NEW_TOKENS = 20
"""How many tokens are generated where nobody says what comes, or how much."""


class Attribute:
    """``model.attribute``: which input moved which generated token, by how much.

    out = model.attribute("The cat sat", " on the mat", method="integrated_gradients", n_steps=20)
    out.show()
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def __call__(self, inputs: Any, generated: Any = None, **options: Any) -> Attribution | Attributions:
        """The attribution of one input, or of each of a list of them.

        Args:
            inputs: A text, token ids or chat messages; or a list of them.
            generated: The continuation that is explained, without the prompt: text or token ids, for a list one for
                each. Of an encoder-decoder model the target. ``None``: the model generates it first, and its very
                tokens are explained. With ``generation`` it is what the generation begins with.
            options: The fields of ``asked.Asked`` (``method``, ``target``, ``step_scores``, ``contrast``, ``features``,
                ``baseline``, ``span``, ``under``, ...), options of requests (``timeout_s``, ``progress``, ``adapter``,
                ...), and constants of the method (``n_steps``, ...).

        Raises:
            CallerError: What cannot be, before anything is sent.
        """
        asked = asked_of(options)
        began_s = time.monotonic()
        schema = methods.schema_of(self._model.manifest, asked.method, granular=asked.granular)
        sequences = self._sequences(listed(inputs, generated), asked)
        calls = [self._call(schema, one, asked) for one in sequences]
        pairs = list(zip(sequences, calls, strict=True))
        results = in_flight(self._starts(pairs))
        made = []
        for (exact, call), result in zip(pairs, results, strict=True):
            info = info_of(self._model.info, exact, call, result, time.monotonic() - began_s)
            made.append(attribution_of(exact, call, result.tokens[0], outputs_of(schema, result["out"]), info))
        return Attributions(tuple(made), _shared(made)) if is_batch(inputs) else made[0]

    def methods(self) -> dict[str, str]:
        """The ids of the methods that the model's workers have, and what each is."""
        return methods.ids(self._model.manifest)

    def explain(self, name: str) -> None:
        """Prints what a method is, where it comes from and what it takes."""
        sys.stdout.write(methods.explained(methods.schema_of(self._model.manifest, name)) + "\n")

    def _call(self, schema: OpSchema, exact: Exact, asked: Asked) -> Call:
        extra = baseline_constants(exact, asked.baseline)
        return call_of(schema, exact, asked, extra=extra, segments=None)

    def _sequences(self, pairs: Sequence[tuple[Any, Any]], asked: Asked) -> list[Exact]:
        """The exact token ids of each input, generated where they are not given."""
        given, generates = [], []
        for one, continuation in pairs:
            generates.append(_is_generated(continuation, asked))
            if generates[-1]:
                given.append(begun(self._model, one, continuation, asked))
            else:
                given.append(forced(self._model, one, () if continuation is None else continuation, asked))
        if not any(generates):
            return given
        results = in_flight(self._generations(given, asked))
        return [continued(one, result.token_ids) for one, result in zip(given, results, strict=True)]

    def _generations(self, given: Sequence[Exact], asked: Asked) -> Iterator[Callable[[], RunHandle]]:
        options = {"max_new_tokens": DEFAULT_NEW_TOKENS, **(asked.generation or {}), **running(asked)}
        for one in given:
            g = self._model.generate(one.prompt, **options)
            yield g.submit

    def _starts(self, pairs: Sequence[tuple[Exact, Call]]) -> Iterator[Callable[[], RunHandle]]:
        for exact, call in pairs:
            t = self._model.trace(exact.prompt, **running(call.asked))
            if callable(call.asked.under):
                call.asked.under(t)
            t.save(out=call.recorded(t))
            yield t.submit


def _is_generated(continuation: Any, asked: Asked) -> bool:
    """Whether the model is asked what comes: a value needs no continuation, unless one is asked for."""
    return asked.generation is not None or (continuation is None and not asked.is_value)


def _shared(made: Sequence[Attribution]) -> dict[str, Any]:
    """The info of all: what they have in common, and the texts of each."""
    first, *others = [one.info for one in made]
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    texts = {key: [text for one in made for text in one.info[key]] for key in ("input_texts", "generated_texts")}
    return shared | texts | {"attr_pos_end": max(one.info["attr_pos_end"] for one in made)}
