"""What an edit moves on control prompts against both distributions in full."""

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd_backpack.evaluation import collateral as module
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.collateral import CollateralSettings, measure_collateral

PROMPTS = ("The nurse said", "The dog ran .", "Paris is in")


@pytest.mark.parametrize("at_once", [1 << 24, pytest.param(1, marks=pytest.mark.slow)])
def test_divergences_flips_and_moves_are_those_of_the_full_distributions(here, logits, put, monkeypatch, at_once):
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", at_once)
    found = measure_collateral(Asking(here.model, put), CollateralSettings(prompts=PROMPTS, n_moved=3))
    moved, flips = 0.0, []
    for number, prompt in enumerate(PROMPTS):
        ids = here.tokenizer(prompt)["input_ids"]
        before, after = (logits(ids, share=size).log_softmax(-1) for size in (1.0, 0.25))
        np.testing.assert_allclose(
            found.divergences[number], (before.exp() * (before - after)).sum(-1), rtol=1e-9, atol=1e-12
        )
        moved = moved + (after.exp() - before.exp()).sum(0).numpy()
        tops = zip(before.argmax(-1).tolist(), after.argmax(-1).tolist(), strict=True)
        flips += [(number, at, *pair) for at, pair in enumerate(tops) if pair[0] != pair[1]]
    n_tokens = len(here.tokenizer)
    mean = moved[:n_tokens] / found.n_predictions
    assert [one for one, _ in found.risen] == np.argsort(-mean)[:3].tolist()
    assert [one for one, _ in found.fallen] == np.argsort(mean)[:3].tolist()
    assert [by for _, by in found.risen + found.fallen] == pytest.approx(np.r_[-np.sort(-mean)[:3], np.sort(mean)[:3]])
    assert [(one.prompt, one.position, one.before, one.after) for one in found.flips] == flips
    assert flips, "the edit is to change something"
    assert found.flipped == len(flips) / found.n_predictions
    first = found.flips[0]
    assert found.spelling[first.after] == here.tokenizer.decode([first.after])


def test_an_edit_that_changes_nothing_has_no_collateral(here):
    def put(t):
        t.senses[:, 1] = t.senses[:, 1] * 1.0

    found = measure_collateral(Asking(here.model, put), CollateralSettings(prompts=PROMPTS))
    assert found.flipped == 0
    # whatever rounding leaves where other rows share the pass
    assert max(found.worst, *(abs(by) for _, by in found.risen + found.fallen), 0.0) < 1e-12


def test_collateral_without_an_edit_is_refused(here):
    with pytest.raises(CallerError, match="collateral is that of an edit"):
        measure_collateral(Asking(here.model), CollateralSettings())


def test_control_prompts_longer_than_the_model_takes_are_cut_and_counted(here, put):
    long = "The nurse said that she was happy . " * 5 + "The nurse said that she was happy ."
    found = measure_collateral(Asking(here.model, put), CollateralSettings(prompts=(PROMPTS[0], long)))
    assert [len(values) for values in found.divergences] == [4, 32]
    assert [len(strings) for strings in found.strings] == [4, 32]
    assert "1 of 2 control prompts are longer than the 32 tokens" in " ".join(found.section().notes)
