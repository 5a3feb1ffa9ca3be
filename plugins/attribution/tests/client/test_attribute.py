"""``model.attribute``: what it asks the workers, and what it makes of the answer."""

import numpy as np
import pytest
from attribution_worlds import SEQUENCE, TARGET, probability

from interpd_client import CallerError

PROMPT, CONTINUATION = list(SEQUENCE[:5]), list(SEQUENCE[5:])


def lengths(world, start):
    """Saliency of the bare model: ``[position step]``."""
    return np.linalg.norm(world.gradients(probability, start=start), axis=-1).T


def test_a_continuation_is_attributed_to_everything_before_it(gpt2):
    out = gpt2.client_model.attribute(PROMPT, CONTINUATION)
    np.testing.assert_allclose(out.target_attributions, lengths(gpt2, 5), rtol=1e-4, atol=1e-6)
    assert out.source_attributions is None
    assert [token.id for token in out.target] == list(SEQUENCE)
    assert [token.id for token in out.source] == PROMPT
    assert [token.id for token in out.generated] == CONTINUATION


@pytest.mark.parametrize("attribute_target", [False, True])
def test_a_target_is_attributed_to_its_source_and_to_its_prefix_if_wanted(t5, attribute_target):
    out = t5.client_model.attribute(SEQUENCE, TARGET[1:], attribute_target=attribute_target)
    expected = lengths(t5, 1)
    np.testing.assert_allclose(out.source_attributions, expected[: len(SEQUENCE)], rtol=1e-4, atol=1e-6)
    assert (out.target_attributions is not None) == attribute_target
    if attribute_target:
        np.testing.assert_allclose(out.target_attributions, expected[len(SEQUENCE) :], rtol=1e-4, atol=1e-6)
    assert [token.id for token in out.target] == list(t5.target)


def test_a_continuation_that_begins_with_the_prompt_is_refused(gpt2):
    with pytest.raises(CallerError, match="give the continuation alone"):
        gpt2.client_model.attribute("The cat", "The cat sat")
