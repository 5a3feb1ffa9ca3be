"""Attributions under way: what is known so far, cancelling; programs that use them, without a model."""

import numpy as np
import pytest
from attribution_worlds import SEQUENCE

from interpd_attribution.worker.registry import methods
from interpd_client import Cancelled, Client
from interpd_client.testing import FakeTransport, fake_manifest

PROMPT, CONTINUATION = list(SEQUENCE[:5]), list(SEQUENCE[5:])
SAMPLED = {"method": "shapley_value_sampling", "baseline": "zeros", "rows_per_pass": 9, "n_samples": 8}


def test_what_is_known_so_far_is_told_with_the_number_of_the_input(gpt2):
    seen = {0: [], 1: []}
    inputs = ([PROMPT, PROMPT[:3]], [CONTINUATION, [9]])
    out = gpt2.client_model.attribute(*inputs, on_partial=lambda part, number: seen[number].append(part), **SAMPLED)
    for number, parts in seen.items():
        assert len(parts) > 1
        assert all(part.target == out[number].target and part.info == {"partial": True} for part in parts)
        assert not np.array_equal(parts[0].scores, out[number].scores, equal_nan=True)
    plain = gpt2.client_model.attribute(*inputs, **SAMPLED)
    np.testing.assert_array_equal(out[0].scores, plain[0].scores)


def test_a_submitted_attribution_is_waited_for_as_often_as_one_likes(gpt2):
    run = gpt2.client_model.attribute.submit(PROMPT, CONTINUATION)
    assert run.result() is run.result()


def test_a_cancelled_attribution_ends_with_all_of_its_requests(gpt2):
    seen = []

    def stop(part, number):
        seen.append(number)
        run.cancel()

    asked = {**SAMPLED, "n_samples": 100_000, "on_partial": stop}
    run = gpt2.client_model.attribute.submit([PROMPT] * 6, [CONTINUATION] * 6, **asked)
    with pytest.raises(Cancelled):
        run.result()
    assert set(seen) == {0}
    assert gpt2.client_model.attribute(PROMPT, CONTINUATION).scores.shape == (8, 3)


def test_an_error_in_the_callers_function_ends_the_requests(gpt2):
    def fail(part, number):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        gpt2.client_model.attribute(PROMPT, CONTINUATION, on_partial=fail, **{**SAMPLED, "n_samples": 100_000})
    assert gpt2.client_model.attribute(PROMPT, CONTINUATION).scores.shape == (8, 3)


def test_an_estimate_leaves_nothing_behind(gpt2):
    estimate = gpt2.client_model.attribute.estimate(PROMPT, CONTINUATION, **{**SAMPLED, "n_samples": 100_000})
    assert estimate.rows > 100_000
    assert not estimate.is_done


def most(model, text, continuation):
    """A program of a user: the input that matters most for each generated token."""
    out = model.attribute(text, continuation, method="input_x_gradient", reduce="sum", timeout_s=5.0)
    return [out.features[at].text for at in np.nan_to_num(out.scores).argmax(0)]


def test_programs_are_tested_without_a_model():
    scores = np.array([[1, 1], [2, 0], [np.nan, 5], [np.nan, np.nan]], np.float32)
    answer = {"out.scores": scores, "out.step_scores": np.zeros((0, 2)), "out.deltas": np.zeros((0, 2))}
    ops = tuple(method.schema for method in methods())
    transport = FakeTransport(fake_manifest(ops=ops), lambda request: answer)
    with Client(transport) as client:
        assert most(client.model("fake"), "two words", [4, 7]) == ["<6>", "<4>"]
    (request,) = transport.requests
    (node,) = request.graph.nodes
    assert (node.op, node.params["start"], node.params["reduce"]) == ("attribution.input_x_gradient", 2, "sum")
    assert request.prompts[0].token_ids == (3, 6, 4, 7)
