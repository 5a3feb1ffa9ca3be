"""The client's part: ``model.attribute``."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial, reduce
from operator import add
from typing import Any

from interpd.errors import CallerError
from interpd_attribution import methods
from interpd_attribution.asked import Asked, asked_of
from interpd_attribution.attribution import Attribution
from interpd_attribution.attributions import Attributions
from interpd_attribution.costs import Estimate, estimated
from interpd_attribution.flights import Flights, of_input
from interpd_attribution.requests import Call, call_of
from interpd_attribution.running import Pair, Running, recorded
from interpd_attribution.sequences import Exact, begun, continued, forced, is_batch, listed, recorded_in, running
from interpd_attribution.spelling import Speller
from interpd_attribution.step_functions import StepFunction, check_names, origins, step_functions
from interpd_attribution.under import record
from interpd_client import Model, PromptTrace, RunHandle
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)

DEFAULT_NEW_TOKENS = 20
"""How many tokens are generated where nobody says what comes, or how much."""

OF_REQUESTS = ("under", "generation", "on_partial")
"""Options that have no meaning for a node of a trace."""


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
        return self.submit(inputs, generated, **options).result()

    def submit(self, inputs: Any, generated: Any = None, **options: Any) -> Running:
        """A hold on the attribution, once its first requests are accepted; what is to be generated has been by then.

        Arguments are those of ``model.attribute(...)``.
        """
        began_s = time.monotonic()
        pairs = self._pairs(inputs, generated, asked_of(options))
        return Running(self._model, pairs, is_batch=is_batch(inputs), began_s=began_s)

    def estimate(self, inputs: Any, generated: Any = None, **options: Any) -> Estimate:
        """What the attribution will cost: rows, gradients, seconds, bytes.

        The method is begun and, when it has said how much there is to do and done a hundredth or two of it, ended.
        Arguments are those of ``model.attribute(...)``; what is to be generated is.
        """
        found = []
        for exact, call in self._pairs(inputs, generated, asked_of({**options, "progress": False})):
            with closing(recorded(self._model, exact, call).submit().events()) as events:
                found.append(estimated(events, self._model.info, exact, call))
        return reduce(add, found)

    def node(self, t: PromptTrace, **options: Any) -> Any:
        """The outputs of the method as values of a trace that the caller writes: ``.scores``, ``.step_scores``, ...

        The prompt of ``t`` is the whole sequence, and every token but the first is attributed unless ``attr_pos_start``
        says otherwise; what the trace writes is in force. ``target`` may be a value of the trace.

        Args:
            t: A trace of one prompt, or one of the prompts of a trace.
            options: As for ``model.attribute(...)``, but for those of requests.
        """
        asked = asked_of(options)
        given = [*asked.run, *(name for name in OF_REQUESTS if getattr(asked, name) is not None)]
        if given:
            raise CallerError(f"{given[0]!r} is said by whoever runs the trace: leave it out of a node")
        return self._call_in(t, asked).recorded(t)

    def methods(self) -> dict[str, str]:
        """The ids of the methods that the model's workers have, and what each is."""
        return methods.ids(self._model.manifest)

    def step_functions(self) -> dict[str, StepFunction]:
        """What ``target`` and ``step_scores`` may name, other packages' included: options, and what each is."""
        return step_functions(self._model.manifest)

    def explain(self, name: str) -> None:
        """Prints what a method or step function is, where it comes from and what it takes."""
        known = self.step_functions()
        manifest = self._model.manifest
        if name in known:
            said = str(known[name])
        else:
            schema = methods.schema_of(manifest, name)
            said = methods.explained(schema, origins(manifest).get(schema.name.removeprefix(methods.FAMILY), ""))
        sys.stdout.write(said + "\n")

    def _pairs(self, inputs: Any, generated: Any, asked: Asked) -> list[Pair]:
        if asked.is_value and asked.step_scores:
            raise CallerError(
                "step_scores are of attributed tokens, but a value is attributed: ask for them by themselves"
            )
        schema = methods.schema_of(self._model.manifest, asked.method, granular=asked.granular)
        known = self._known(asked)
        sequences = self.sequences(listed(inputs, generated), asked)
        found = []
        for number, one in enumerate(sequences):
            with of_input(number, len(sequences)):
                found.append((one, call_of(schema, known, Speller(self._model, one), asked)))
        return found

    def _known(self, asked: Asked) -> dict[str, StepFunction]:
        """The step functions, those that are asked for among them."""
        known = self.step_functions()
        written = asked.step_scores if asked.is_value else (str(asked.target), *asked.step_scores)
        check_names(known, written, partial(methods.unused_as_hint, self._model.manifest))
        return known

    def _call_in(self, t: PromptTrace, asked: Asked) -> Call:
        schema = methods.schema_of(self._model.manifest, asked.method, granular=asked.granular)
        return call_of(schema, self._known(asked), Speller(self._model, recorded_in(self._model, t)), asked)

    def sequences(self, pairs: Sequence[tuple[Any, Any]], asked: Asked) -> list[Exact]:
        """The exact token ids of each (input, continuation), generated where they are not given."""
        given, generates = [], []
        for number, (one, continuation) in enumerate(pairs):
            generates.append(_is_generated(continuation, asked))
            with of_input(number, len(pairs)):
                if generates[-1]:
                    given.append(begun(self._model, one, continuation, asked))
                else:
                    given.append(forced(self._model, one, () if continuation is None else continuation, asked))
        if not any(generates):
            return given
        results = Flights(self._generations(given, asked), count=len(given))
        return [continued(one, result.token_ids) for one, result in zip(given, results, strict=True)]

    def _generations(self, given: Sequence[Exact], asked: Asked) -> Iterator[Callable[[], RunHandle]]:
        options = {"max_new_tokens": DEFAULT_NEW_TOKENS, **(asked.generation or {}), **running(asked)}
        for one in given:
            g = self._model.generate(one.prompt, **options)
            record(asked.under, g, one)
            yield g.submit


def _is_generated(continuation: Any, asked: Asked) -> bool:
    """Whether the model is asked what comes: a value needs no continuation, unless one is asked for."""
    return asked.generation is not None or (continuation is None and not asked.is_value)
