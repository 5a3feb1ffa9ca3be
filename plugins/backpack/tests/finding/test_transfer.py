"""An edit carried over to another model, against torch."""

import numpy as np
import pytest
import torch
from backpack_tests.tiny import tiny_backpack, tiny_tokenizer

import interpd_client
from interpd.errors import CallerError
from interpd_backpack import worker
from interpd_backpack.client import Backpack
from interpd_backpack.edits import Scale
from interpd_backpack.finding.transfer import Predictions, best_beta, transferred
from interpd_backpack.finding.transfer import predictions as predicted


@pytest.fixture
def predictions():
    rng = np.random.default_rng(4)
    unedited = rng.normal(size=(6, 9))
    return Predictions(rng.normal(size=(6, 11)), unedited, unedited + rng.normal(size=(6, 9)))


def written_out(predictions, beta):
    large, unedited, edited = (
        torch.from_numpy(one)[:, :9].log_softmax(-1)
        for one in (predictions.large, predictions.unedited, predictions.edited)
    )
    return (large + beta * (edited - unedited)).log_softmax(-1).numpy()


def test_the_change_of_the_backpack_is_added_to_the_other_model(predictions):
    np.testing.assert_allclose(transferred(predictions, 0.7), written_out(predictions, 0.7), rtol=1e-12)


def test_the_first_factor_inside_the_ball_is_taken(predictions):
    targets = [0, 3, 5, 8, 1, 2]

    def ratio(beta):
        totals = [written_out(predictions, one)[range(6), targets].sum() for one in (beta, 0.0)]
        return totals[0] / totals[1]

    radius = ratio(0.4) - 1 + 1e-9
    found = best_beta(predictions, targets, radius=radius)
    inside = [beta for beta in np.arange(10, 0, -1) / 10 if ratio(beta) <= 1 + radius]
    assert found.beta == inside[0]
    assert found.ratio == pytest.approx(ratio(found.beta))
    assert best_beta(predictions, targets, radius=0.0, betas=()).beta == 0.0


def test_models_of_other_rows_are_refused():
    with pytest.raises(CallerError, match="of the same rows"):
        Predictions(np.zeros((2, 3)), np.zeros((3, 3)), np.zeros((3, 3)))
    with pytest.raises(CallerError, match="2 targets"):
        best_beta(Predictions(*[np.zeros((2, 3))] * 3), [0], radius=1e-3)


@pytest.mark.slow
def test_an_edit_of_a_served_model_is_carried_over_to_another(model, bare):
    large = tiny_backpack(torch.float64, seed=1)
    texts = ["The nurse said that she was tired", "the nurse ran"]
    edit = Backpack(model).edit(Scale("nurse", 1, 4.0), Scale("nurse", 2, -2.0))
    with interpd_client.local(large, name="large", plugins={"backpack": worker}) as client:
        other = client.model("large")
        found = Backpack(model).transfer(edit, other, texts, radius=0.05)
        one = predicted((model, other), edit, texts[0])
        with pytest.raises(CallerError, match="a list of texts"):
            Backpack(model).transfer(edit, other, texts[0])

    def nll(beta):
        return -sum(spoken(text, beta) for text in texts)

    def spoken(text, beta):
        ids = bare[1](text, return_tensors="pt").input_ids
        plain, wide = (net(ids).logits[0].log_softmax(-1) for net in (bare[0], large[0]))
        factors = torch.ones(ids.shape[1], 4, dtype=torch.float64)
        factors[ids[0] == bare[1].convert_tokens_to_ids("Ġnurse")] = torch.tensor([1, 4.0, -2.0, 1]).double()
        hook = bare[0].backpack.sense_network.register_forward_hook(
            lambda _, args, out: out * factors.T[None, :, :, None]
        )
        edited = bare[0](ids).logits[0].log_softmax(-1)
        hook.remove()
        logs = (wide + beta * (edited - plain)).log_softmax(-1)
        if text == texts[0] and beta == 0.7:
            np.testing.assert_allclose(transferred(one, 0.7), logs, rtol=1e-9)
        return float(logs[range(len(ids[0]) - 1), ids[0, 1:]].sum())

    ratios = {beta / 10: nll(beta / 10) / nll(0.0) for beta in range(10, 0, -1)}
    inside = [beta for beta, ratio in ratios.items() if ratio <= 1.05]
    assert found.beta == (inside[0] if inside else 0.0)
    assert found.ratio == pytest.approx(ratios.get(found.beta, 1.0))
    assert found.beta > 0


@pytest.mark.slow
def test_models_of_other_tokens_are_refused(model):
    other = tiny_backpack(torch.float64)[0], tiny_tokenizer(with_bos=False)
    edit = Backpack(model).edit(Scale("nurse", 1, 4.0))
    with (
        interpd_client.local(other, name="large", plugins={"backpack": worker}) as client,
        pytest.raises(CallerError, match="between models of one tokenizer"),
    ):
        Backpack(model).transfer(edit, client.model("large"), ["The nurse ran"])
