"""Finetuning of all weights, which sense finetuning is compared with."""

import numpy as np
import pytest
import torch
from backpack_tests.tiny import tiny_backpack

from interpd.errors import CallerError
from interpd_backpack.evaluation.examples import Criterion
from interpd_backpack.training.full_finetuning import full_finetuning, full_finetunings

EXAMPLES = [
    {"prefix": "The nurse said that", "suffix1": " he was", "suffix2": " she"},
    {"prefix": "The doctor said that", "suffix1": " he", "suffix2": " she was"},
    {"prefix": "a teacher said that", "suffix1": " he", "suffix2": " she"},
]
BACKGROUND = ["the cat ate fish and bread .", "music in London was good"]
HELD_OUT = ["a robot sat on the cat", "film and music , not fish"]


def nll(model, tokenizer, texts):
    total = 0.0
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            total += float(torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum"))
    return total


def finetuned(model, tokenizer, **options):
    given = {"background": BACKGROUND, "held_out": HELD_OUT, "n_epochs": 2, "accumulate": 2, "learning_rate": 1e-3}
    return full_finetuning(model, tokenizer, EXAMPLES, Criterion("balance", 1.0), **{**given, **options})


@pytest.mark.slow
@pytest.mark.parametrize("radius", [1e-3, 1e-5])
def test_a_copy_learns_and_stays_inside_the_ball(radius):
    model, tokenizer = tiny_backpack(torch.float64)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    found = finetuned(model, tokenizer, radius=radius)
    ratio = nll(found.model, tokenizer, HELD_OUT) / nll(model, tokenizer, HELD_OUT)
    assert ratio <= 1 + radius
    assert found.ratio == pytest.approx(ratio, rel=1e-12)
    assert found.metrics.ratio == pytest.approx(ratio, rel=1e-12)
    assert found.history.shape == (3, 4)
    assert not np.allclose(found.metrics.log_after, found.metrics.log_before)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


@pytest.mark.slow
def test_one_step_is_that_of_torch_on_the_written_out_loss():
    model, tokenizer = tiny_backpack(torch.float64)
    found = finetuned(model, tokenizer, n_epochs=1, accumulate=3, kl_weight=0.0, radius=1e9, held_out=())
    theirs = tiny_backpack(torch.float64)[0].requires_grad_(True)
    total = 0.0
    for example in EXAMPLES:
        means = []
        for name in ("suffix1", "suffix2"):
            prefix = tokenizer(example["prefix"])["input_ids"]
            ids = torch.tensor([prefix + tokenizer(example[name], add_special_tokens=False)["input_ids"]])
            logs = theirs(ids).logits[0].log_softmax(-1)[range(ids.shape[1] - 1), ids[0, 1:]]
            means.append(logs[len(prefix) - 1 :].mean())
        total = total + (means[0] - means[1]).abs()
    optimiser = torch.optim.Adam(theirs.parameters(), lr=1e-3, betas=(0.9, 0.995))
    total.backward()
    optimiser.step()
    wanted = dict(theirs.named_parameters())
    for name, weight in found.model.named_parameters():
        # where the gradient is rounding alone, Adam's first step has the sign of that rounding
        is_clear = wanted[name].grad.abs() > 1e-9
        torch.testing.assert_close(weight[is_clear], wanted[name][is_clear], rtol=1e-6, atol=1e-8)
    assert found.epoch == 1


def test_options_of_senses_are_refused():
    model, tokenizer = tiny_backpack()
    with pytest.raises(CallerError, match="there is no option 'selector'"):
        finetuned(model, tokenizer, selector="alpha")


@pytest.mark.slow
def test_balls_share_a_training_and_give_what_each_gives_alone():
    model, tokenizer = tiny_backpack(torch.float64)
    given = {"background": BACKGROUND, "held_out": HELD_OUT, "n_epochs": 2, "accumulate": 2, "learning_rate": 1e-3}
    radii = (1e-2, 1e-5)
    together = full_finetunings(model, tokenizer, EXAMPLES, Criterion("balance", 1.0), radii=radii, **given)
    for radius, one in zip(radii, together, strict=True):
        alone = finetuned(model, tokenizer, radius=radius)
        assert (one.epoch, one.share, one.ratio) == (alone.epoch, alone.share, alone.ratio)
        assert one.ratio == pytest.approx(nll(one.model, tokenizer, HELD_OUT) / nll(model, tokenizer, HELD_OUT))
