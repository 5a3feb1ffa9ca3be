"""An edit carried over to another model, against torch."""

import numpy as np
import pytest
import torch

from interpd.errors import CallerError
from interpd_backpack.finding.transfer import Predictions, best_beta, transferred


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
