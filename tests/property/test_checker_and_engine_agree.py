"""What the checker refuses never runs, and what it accepts runs and gives what it foretold.

Fifty thousand requests: random valid ones and mutants of them, most of which cannot run.
"""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from mutants import Mutator
from random_requests import requests

from interpd.errors import CallerError, InternalError, InterpdError
from interpd.graph.check import check
from interpd.graph.run import Done
from interpd.graph.run import Result as ResultEvent
from interpd.testing.bench import Bench

N_CASES = 50_000
N_TOGETHER = 40
KINDS = ({}, {"gradients": True}, {"generates": True})


def verdict(bench, manifest, request):
    """(the error class that the checker stands for or ``None``, its report)."""
    try:
        lengths = [len(tokens.ids) for tokens in bench.engine.tokenize(request.prompts)]
        report = check(request, manifest, lengths)
        report.raise_if_bad()
    except InterpdError as error:
        return type(error), None
    return None, report


def check_case(request, refused, report, outcome, seen):
    """Raises where checker and engine say different things of one request."""
    last = outcome.events[-1]
    if refused is not None:
        seen["refused"] += 1
        assert len(outcome.events) == 1, (request, outcome.events)
        assert type(outcome.error) is refused, (request, outcome.error)
        return
    if not isinstance(last, Done):
        # what only the numbers can tell: an index that is computed, a matrix that has no inverse
        seen[f"ended: {outcome.error.message[:60]}"] += 1
        assert isinstance(outcome.error, CallerError), (request, outcome.error)
        assert not isinstance(outcome.error, InternalError)
        seen["value"] += 1
        return
    seen["done"] += 1
    results = {event.name: event.tensor for event in outcome.events if isinstance(event, ResultEvent)}
    for name, foretold in report.outputs:
        if name not in results and request.generation is not None:
            # the text ended before the step at which it would have been read
            assert any(repr(name) in warning for warning in last.warnings), (request, name, last.warnings)
            continue
        found = results[name]
        assert found.dtype == foretold.dtype, (request, name, found.dtype, foretold)
        assert len(found.shape) == len(foretold.dims), (request, name, found.shape, foretold)
        for size, dim in zip(found.shape, foretold.dims, strict=True):
            assert dim.size in (None, size) or dim.name == "step", (request, name, found.shape, foretold)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_what_is_refused_never_runs_and_what_is_accepted_gives_what_was_foretold(architecture):
    bench = Bench.tiny(architecture)
    manifest, rng, seen = bench.engine.describe(), Random(7), Counter()
    mutator, number = Mutator(rng, manifest), 0
    while number < N_CASES // 2:
        valid = requests(rng.randrange(1 << 40), N_TOGETHER // 8, manifest, **KINDS[number // N_TOGETHER % 3])
        cases = [one for request in valid for one in (request, *(mutator.mutant(request) for _ in range(7)))]
        cases = [replace(case, run_id=f"case-{number + place}") for place, case in enumerate(cases)]
        verdicts = [verdict(bench, manifest, case) for case in cases]
        outcomes = bench.run_all(*cases)
        for case, (refused, report), outcome in zip(cases, verdicts, outcomes, strict=True):
            check_case(case, refused, report, outcome, seen)
        number += len(cases)
    print(seen.most_common(12))
    assert seen["refused"] > 0.2 * number
    assert seen["done"] > 0.2 * number
    assert seen["value"] < 0.05 * number
