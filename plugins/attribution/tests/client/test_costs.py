"""What an attribution will cost is what it then does cost."""

from types import SimpleNamespace

import pytest
from attribution_worlds import SEQUENCE

from interpd.graph.run import Done, Progress, Started
from interpd_attribution import costs
from interpd_attribution.asked import asked_of
from interpd_attribution.worker.passes import Model
from interpd_attribution.worker.registry import OURS

PROMPT, CONTINUATION = list(SEQUENCE[:5]), list(SEQUENCE[5:])
IN_FULL = ("integrated_gradients", "occlusion", "value_zeroing")
"""Those of the default lane."""

WITHOUT_COUNTS = {
    *("attention", "attention_norms", "attention_rollout", "attention_flow", "alti", "dummy", "reagent"),
    *("direct_logit_attribution", "alti_logit", "alti_logit_layers"),
}
"""Those that pass a few rows and say nothing of them, or count other things."""

EXTRA_ROWS = 4
"""What methods pass once."""


def ids():
    found = [one.methods[0] if hasattr(one, "methods") else one for one in OURS]
    return [one.schema.name.removeprefix("attribution.") for one in found]


@pytest.fixture
def counted(monkeypatch, gpt2):
    """Rows that were passed without and with gradients, lookups of embeddings aside."""
    # there is one engine: once it has come to this, it has done with the estimate before
    gpt2.client_model.attribute(PROMPT, CONTINUATION, method="saliency")
    rows, run = {False: 0, True: 0}, Model.run

    def counting(self, context, n_rows, edits, *, reads=(), grad=False, **rest):
        if not reads or not all(site.endswith("embed") for site in reads):
            rows[grad] += n_rows
        return run(self, context, n_rows, edits, reads=reads, grad=grad, **rest)

    monkeypatch.setattr(Model, "run", counting)
    return rows


def options_of(model, method):
    params = {param.name for param in model.manifest.ops[f"attribution.{method}"].params}
    given = {
        "baseline": [7],
        "n_steps": 6,
        "n_samples": 20,
        "num_probes": 2,
        "max_probe_steps": 3,
        "sites": ("layers.{i}.mlp.out",),
    }
    return {name: value for name, value in given.items() if name in params and (name != "sites" or "layer" in method)}


@pytest.mark.parametrize(
    "method", [one if one in IN_FULL else pytest.param(one, marks=pytest.mark.slow) for one in ids()]
)
def test_rows_are_those_that_are_passed(gpt2, counted, method):
    model = gpt2.client_model
    asked = {"method": method, **options_of(model, method)}
    # in this order: what an estimate ended may be in the middle of a pass
    out, passed = model.attribute(PROMPT, CONTINUATION, **asked), dict(counted)
    told = model.attribute.estimate(PROMPT, CONTINUATION, **asked)
    assert (told.rows is None) == (method in WITHOUT_COUNTS)
    if told.rows is not None:
        assert passed[True] == told.gradient_rows
        assert told.gradients == 3 * told.gradient_rows
        assert passed[False] <= told.rows + EXTRA_ROWS
    assert told.seconds > 0
    assert told.bytes_returned is None or not out.has_scores or told.bytes_returned >= out.scores.nbytes


def test_several_inputs_cost_as_much_as_each_of_them(gpt2):
    estimate = gpt2.client_model.attribute.estimate
    asked = {"method": "smoothgrad", "n_samples": 8}
    both = estimate([PROMPT, PROMPT[:3]], [CONTINUATION, [9]], **asked)
    assert both.gradients == 8 * 3 + 8
    assert both.bytes_returned == 4 * (8 * 3 + 4)
    assert "gradients" in str(both)


def test_what_a_method_does_not_say_is_unknown(gpt2):
    estimate = gpt2.client_model.attribute.estimate
    told = estimate(PROMPT, CONTINUATION, method="dummy", step_scores=["entropy"])
    assert (told.rows, told.gradient_rows, told.gradients, told.is_done) == (None, None, None, True)
    assert "an unknown number of rows;" in str(told)
    both = told + estimate(PROMPT, CONTINUATION)
    assert (both.rows, both.gradients) == (None, None)


def test_time_is_that_between_two_reports(monkeypatch, gpt2):
    times = iter([0.0, 1.0, 9.0, 11.0, 12.0])
    # only there: other threads have the clock, too
    monkeypatch.setattr(costs, "time", SimpleNamespace(monotonic=lambda: next(times)))
    events = [
        Started("r", ()),
        Progress("r", 10, 100, "rows"),
        Progress("r", 20, 100, "rows"),
        Done("r", None, None),
    ]
    model = gpt2.client_model
    ((exact, call),) = model.attribute._pairs(
        PROMPT, CONTINUATION, asked_of({"method": "occlusion", "baseline": "mean"})
    )
    found = costs.estimated(events, model.info, exact, call)
    # 8 seconds until the first report, and 2 for each 10 rows behind it
    assert found.seconds == 8.0 + 90 * 0.2
    assert (found.rows, found.gradients, found.is_done) == (100, 0, False)
