"""What tells the topic of a text: functions that other packages bring, by the name of their entry point.

    [project.entry-points."interpd_backpack.classifiers"]
    tweet-topics = "my_package.topics:classify"

Such a function takes the texts and gives, for each, a score from 0 to 1 of every topic that it knows:
``[{"sports": 0.93, "music": 0.02}, ...]``. It runs where the evaluation is asked for, not in the daemon.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import numpy as np

from interpd.errors import Broken, CallerError

GROUP = "interpd_backpack.classifiers"

Classify = Callable[[Sequence[str]], Sequence[Mapping[str, float]]]
"""Texts to scores by topic."""


def classifier_names() -> tuple[str, ...]:
    """The classifiers that are installed."""
    return tuple(sorted({one.name for one in entry_points(group=GROUP)}))


def find_classifier(asked: str | Classify) -> Classify:
    """The classifier of that name; a function is taken as it is.

    Raises:
        CallerError: None is installed under that name.
        Broken: It cannot be imported, or is nothing to call.
    """
    if callable(asked):
        return asked
    found = [one for one in entry_points(group=GROUP) if one.name == asked]
    if not found:
        there = ", ".join(classifier_names()) or "none"
        raise CallerError(f"no classifier {asked!r} is installed (entry points of {GROUP}); there are: {there}")
    return _loaded(found[0])


def scores_of(classify: Classify, texts: Sequence[str], label: str) -> np.ndarray:
    """The score of one topic for each text.

    Raises:
        CallerError: The classifier does not know the topic.
        Broken: It does not give a number from 0 to 1 for each text.
    """
    said = _called(classify, texts)
    if len(said) != len(texts):
        raise Broken(f"the classifier gave {len(said)} answers for {len(texts)} texts")
    if missing := [one for one in said if label not in one]:
        raise CallerError(
            f"the classifier knows no topic {label!r}, but {', '.join(map(str, missing[0]))}; say what it calls the "
            "topic: labels={topic: label}"
        )
    scores = np.array([float(one[label]) for one in said])
    if not ((scores >= 0) & (scores <= 1)).all():
        raise Broken(f"the classifier scores {label!r} with {scores.min():g} to {scores.max():g}, expected 0 to 1")
    return scores


def _called(classify: Classify, texts: Sequence[str]) -> list[Any]:
    try:
        return list(classify(list(texts)))
    except Exception as error:  # foreign code may raise anything; it is told whose it was
        raise Broken(f"the classifier failed: {type(error).__name__}: {error}") from error


def _loaded(one: EntryPoint) -> Classify:
    try:
        found = one.load()
    except Exception as error:  # as above
        raise Broken(f"the classifier {one.name!r} ({one.value}): {type(error).__name__}: {error}") from error
    if not callable(found):
        raise Broken(f"the classifier {one.name!r} ({one.value}) is {type(found).__name__}, expected a function")
    return found
