"""``model.backpack.evaluate``: all that is asked for, one part after the other; a part that fails costs no other."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from interpd.errors import Broken, CallerError, DeadlineExceeded, InvalidGraph
from interpd_backpack.edits.edit import an_edit
from interpd_backpack.evaluation.asking import Asking, Put, silent
from interpd_backpack.evaluation.bias import measure_bias
from interpd_backpack.evaluation.collateral import measure_collateral
from interpd_backpack.evaluation.examples import measure_examples
from interpd_backpack.evaluation.perplexity import measure_perplexity
from interpd_backpack.evaluation.report import Evaluation
from interpd_backpack.evaluation.sections import Part
from interpd_backpack.evaluation.settings import Suite, read_files, suite_of
from interpd_backpack.evaluation.similarity import measure_similarity
from interpd_backpack.evaluation.topics import measure_topics
from interpd_client import Model

OnProgress = Callable[[str, float, float, str], object]
"""Is told the part, how far it is, of how much, and what it counts."""

PLACE = re.compile(r"^\S+\.py:\d+: .*\n +", re.MULTILINE)
"""The line of a program before what is wrong with it."""

ITS_OWN = (CallerError, Broken, DeadlineExceeded)
"""Errors that may be of one part. Others (nobody answers, the run was cancelled) end the whole."""

MEASURES: Mapping[str, Callable[[Asking, Any], Part]] = MappingProxyType(
    {
        "similarity": measure_similarity,
        "bias": measure_bias,
        "topics": measure_topics,
        "examples": measure_examples,
        "perplexity": measure_perplexity,
        "collateral": measure_collateral,
    }
)


def evaluate(
    model: Model,
    suite: Suite | str | Sequence[str] | None = None,
    *,
    edit: Any = None,
    on_progress: OnProgress | None = None,
    **data: Any,
) -> Evaluation:
    """What a Backpack, or an edit of one, is worth.

    Args:
        model: ``client.model(...)``.
        suite: A ``Suite`` of settings; or names of parts (``similarity``, ``bias``, ``topics``, ``examples``,
            ``perplexity``, ``collateral``), whose data are given by name; ``None``: all whose data are given, and
            where there are none ``bias``, which has some of its own. All files are read before anything runs.
        edit: An edit that the model is compared with, or a function that puts one in force in a trace.
        on_progress: Called with (part, done, total, what) as the work goes on.
        data: Fields of ``Data``: ``pairs``, ``jobs``, ``bags``, ``examples``, ``task``, ``hard_negatives``, ``texts``,
            ``prompts``, ``sense``; and of the settings of the parts that are named, ``n_samples`` for instance.

    Raises:
        CallerError: What cannot be, before anything is computed; of a suite of one part also what that part refuses.
    """
    asked = dict(suite_of(suite, data, has_edit=edit is not None).parts())
    put = _put(model, edit)
    parts: dict[str, Part] = {}
    failures: dict[str, str] = {}
    began_s = time.monotonic()
    for name, settings in asked.items():
        try:
            read_files(settings)
        except CallerError as error:
            if len(asked) == 1:
                raise
            failures[name] = said(error)
    for name, settings in asked.items():
        if name in failures:
            continue
        try:
            parts[name] = MEASURES[name](Asking(model, put, _told(name, on_progress)), settings)
        except ITS_OWN as error:
            if len(asked) == 1:
                raise
            failures[name] = said(error)
    return Evaluation(parts, failures, _provenance(model, edit, asked, time.monotonic() - began_s))


def said(error: Exception) -> str:
    """What is wrong, in one text."""
    if isinstance(error, InvalidGraph):
        # as they are, and not at a line of this package
        return "; ".join(dict.fromkeys(one.message for one in error.violations))
    return PLACE.sub("", str(error))


def _put(model: Model, edit: Any) -> Put | None:
    if edit is None or callable(edit):
        return edit
    an_edit(edit, ", a function that records writes in a trace, or None")
    return lambda t: model.backpack.with_edit(t, edit)


def _told(name: str, on_progress: OnProgress | None) -> Callable[[float, float, str], object]:
    if on_progress is None:
        return silent
    return lambda done, total, what: on_progress(name, done, total, what)


def _provenance(model: Model, edit: Any, asked: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    info = model.info
    found = {"model": info.name, "source": info.source, "revision": info.revision, "dtype": info.dtype}
    found |= {"device": info.device, "n_senses": info.sizes.get("sense")}
    if edit is not None:
        found |= {"edit": getattr(edit, "name", None) or getattr(edit, "__name__", "by hand")}
        found |= {"edit digest": getattr(edit, "digest", "")}
    return found | {
        "settings": {name: repr(settings) for name, settings in asked.items()},
        "seconds": round(seconds, 2),
    }
