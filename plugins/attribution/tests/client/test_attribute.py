"""``model.attribute``: what it asks the workers, and what it makes of the answer."""

import numpy as np
import pytest
from attribution_worlds import SEQUENCE, TARGET, probability

from interpd_client import CallerError, UnknownName

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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_step": 3}, "method 'saliency' has no option 'n_step'; it takes absolute, target, rows_per_pass, reduce$"),
        ({"attr_pos_strat": 3}, "did you mean 'attr_pos_start'?"),
        ({"attributed_fn": "logit"}, "it is 'target' here"),
        ({"method": "integrated_gradients", "internal_batch_size": 3}, "it is 'rows_per_pass' here"),
        ({"logprob": True}, r"behind their names: target='probability\(logprob=...\)'"),
        ({"top_p": 0.5}, r"target='kl_divergence\(top_p=...\)'"),
        ({"granular": True, "reduce": "sum"}, "method 'saliency' has no option 'reduce'; granular keeps the vectors"),
        ({"method": "attention", "target": "logit"}, "method 'attention' has no option 'target'; leave it out"),
        ({"method": "foo"}, "no attribution method 'foo' in .*; there are .*integrated_gradients, .*saliency"),
        ({"method": "deeplift"}, "no attribution method 'deeplift' .* what Captum's .* mean 'gradient_x_difference'"),
    ],
    ids=str,
)
def test_an_option_that_there_is_not_is_answered_with_what_to_write(gpt2, options, said):
    with pytest.raises((CallerError, UnknownName), match=said):
        gpt2.client_model.attribute(PROMPT, CONTINUATION, **options)


def test_a_method_is_explained_in_the_words_of_calls(gpt2, capsys):
    gpt2.client_model.attribute.explain("lime")
    said = capsys.readouterr().out
    options = [line.strip().partition(":")[0] for line in said.splitlines() if line.startswith("  ") and line[2] != " "]
    assert {"n_samples", "baseline", "target"} <= set(options)
    assert not {"start", "stop", "contrast_ids", "contrast_lengths", "features", "inputs"} & set(options)
    assert "Masks, the one that masks nothing included." in said
    shared = said.rpartition("As for all methods: ")[2].rstrip(".\n").split(", ")
    assert {"attr_pos_start", "contrast", "under", "features"} <= set(shared)
    assert "granular" not in shared
