"""An attribution under way: its requests, partial results, the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from interpd.graph.run import Event, Started, Tokens
from interpd.graph.run import Result as ResultEvent
from interpd_attribution.attribution import Attribution
from interpd_attribution.attributions import Attributions
from interpd_attribution.convergence import unconverged
from interpd_attribution.flights import Flights, of_input
from interpd_attribution.provenance import info_of
from interpd_attribution.requests import Call
from interpd_attribution.results import Outputs, attribution_of, axes_of, outputs_of
from interpd_attribution.sequences import Exact, running
from interpd_attribution.under import opened, written
from interpd_attribution.views.layers import LAYERS_KEY, layer_names
from interpd_client import Model, RunHandle, Trace

Pair = tuple[Exact, Call]

TOLD = ("standard_errors", "intercepts", "fits", "lds", "drops", "stopped")
"""What methods say of their scores, kept in the result's ``info``; ``None`` where a number is none."""


class Running:
    """What ``model.attribute.submit`` gives: the requests are sent, ``result()`` waits for them."""

    def __init__(self, model: Model, pairs: Sequence[Pair], *, is_batch: bool, began_s: float) -> None:
        self._model = model
        self._pairs = pairs
        self._is_batch = is_batch
        self._began_s = began_s
        self._tokens: dict[int, Tokens] = {}
        self._written: list[list[str]] = []
        """Of each request that was sent, the writes that are in force."""
        self._result: Attribution | Attributions | None = None
        wants_parts = any(call.asked.on_partial is not None for _, call in pairs)
        self._flights = Flights(self._starts(), self._feed if wants_parts else None, count=len(pairs))
        self._flights.fill()

    def result(self) -> Attribution | Attributions:
        """The attributions, once they are there. Ctrl-C ends the requests, and so does any error."""
        if self._result is None:
            made = [self._made(number, result) for number, result in enumerate(self._flights)]
            self._result = Attributions(tuple(made), shared(made)) if self._is_batch else made[0]
        return self._result

    def cancel(self) -> None:
        """Ends the requests; who waits for the result gets ``Interrupted``. From any thread."""
        self._flights.cancel()

    def _starts(self) -> Iterator[Callable[[], RunHandle]]:
        for number, (exact, call) in enumerate(self._pairs):
            with of_input(number, len(self._pairs)):
                t = recorded(self._model, exact, call)
            self._written.append(written(t))
            yield t.submit

    def _made(self, number: int, result: Any) -> Attribution:
        exact, call = self._pairs[number]
        outputs = outputs_of(call.schema, result["out"])
        info = info_of(self._model.manifest, exact, call, result, time.monotonic() - self._began_s)
        if "layer" in outputs.dims and (names := layer_names(self._model.manifest, call.schema, call.constants)):
            info[LAYERS_KEY] = names
        info |= {"under": self._written[number]} if self._written[number] else {}
        info |= {name: _plain(outputs.arrays[name]) for name in TOLD if name in outputs.arrays}
        found = attribution_of(exact, call, result.tokens[0], outputs, info)
        told = unconverged(call.schema, call.constants, outputs.arrays.get("deltas", ()), found.generated)
        return replace(found, info={**found.info, "warnings": [*found.info["warnings"], told]}) if told else found

    def _feed(self, number: int, event: Event) -> None:
        exact, call = self._pairs[number]
        if isinstance(event, Started):
            self._tokens[number] = event.tokens[0]
        elif isinstance(event, ResultEvent) and event.partial and event.name == "scores":
            outputs = Outputs({"scores": event.tensor.to_numpy()}, {"scores": axes_of(call.schema)["scores"]})
            told = call.asked.on_partial
            assert told is not None
            told(attribution_of(exact, call, self._tokens[number], outputs, {"partial": True}), number)


def recorded(model: Model, exact: Exact, call: Call) -> Trace:
    """The request of one sequence, not sent yet: the writes that are in force, and the node, saved as ``out``."""
    t = opened(model, exact, call.asked.under, running(call.asked))
    t.save(out=call.recorded(t))
    return t


def shared(made: Sequence[Attribution]) -> dict[str, Any]:
    """The info of several results: what they have in common, and the texts of each."""
    first, *others = [one.info for one in made]
    common = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    texts = {key: [text for one in made for text in one.info[key]] for key in ("input_texts", "generated_texts")}
    return common | texts | {"attr_pos_end": max(one.info["attr_pos_end"] for one in made)}


def _plain(values: Any) -> list[Any]:
    """An array as JSON takes it, which knows no NaN."""
    array = np.asarray(values)
    found: list[Any] = np.where(np.isnan(array), None, array.astype(object)).tolist()
    return found
