"""Which senses are chosen, against the definitions written out."""

import pytest
import torch

from interpd_backpack.worker.finding.cached import Seen
from interpd_backpack.worker.finding.selecting import Evidence, Scores, chosen, mean_scores, scores

SIGNS = torch.tensor([1.0, 1.0, -1.0])


@pytest.fixture
def evidence():
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand(3, 4, 2, generator=generator, dtype=torch.float64)
    mix = torch.zeros(3, 5, dtype=torch.float64)
    seen = Seen(mix, torch.zeros(3, dtype=torch.int64), torch.tensor([1, 4, 6, 7]), weights)
    return Evidence(seen, SIGNS.double(), torch.randn(3, 5, generator=generator, dtype=torch.float64))


def senses(tokens):
    return torch.sin(tokens.double()[:, None, None] + torch.arange(10.0).reshape(2, 5))


def test_each_selector_is_its_definition(evidence):
    found = {
        name: scores(name, evidence, senses).values
        for name in ("alpha", "alpha-contrast", "gradient", "epsilon", "fisher")
    }
    weights, gradients = evidence.seen.weights, evidence.gradients
    for token in range(4):
        for sense in range(2):
            own = weights[:, token, sense]
            slope = sum(own[row] * gradients[row] for row in range(3))
            vector = senses(evidence.seen.tokens)[token, sense]
            assert found["alpha"][token, sense] == pytest.approx(float(own.sum()))
            assert found["alpha-contrast"][token, sense] == pytest.approx(float(own[0] + own[1] - own[2]))
            assert found["gradient"][token, sense] == pytest.approx(float(slope.norm()))
            assert found["epsilon"][token, sense] == pytest.approx(abs(float(slope @ vector)))
            assert found["fisher"][token, sense] == pytest.approx(float(slope @ slope))


def test_the_mean_is_over_all_sequences_also_those_without_the_token():
    parts = [
        Scores(torch.tensor([2, 5]), torch.tensor([[1.0, 2], [3, 4]])),
        Scores(torch.tensor([5, 8]), torch.tensor([[10.0, 20], [5, 5]])),
    ]
    assert mean_scores(parts, torch.tensor([2, 5]), 2).tolist() == [[0.5, 1], [6.5, 12]]
    assert mean_scores([], torch.tensor([2, 5]), 2).tolist() == [[0, 0], [0, 0]]


def pairs(found):
    return list(zip(found[0].tolist(), found[1].tolist(), strict=True))


def test_the_best_of_each_example_are_chosen_less_the_background_and_without_those_of_weight_zero():
    examples = [
        Scores(torch.tensor([2, 5]), torch.tensor([[5.0, 4], [3, 0]])),
        Scores(torch.tensor([5, 8]), torch.tensor([[1.0, 0], [0, 0]])),
    ]
    background = torch.tensor([[3.0, 0], [0, 0], [0, 0]])
    tokens = torch.tensor([2, 5, 8])
    found = chosen(examples, background, tokens, background_weight=1.0, n_per_example=2)
    assert pairs(found) == [(2, 1), (5, 0)]
    assert found[2].tolist() == [4, 3]
    without = chosen(examples, background, tokens, background_weight=0.0, n_per_example=1)
    assert pairs(without) == [(2, 0), (5, 0)]


def test_equal_scores_are_taken_in_the_order_of_tokens_and_senses():
    examples = [Scores(torch.tensor([2, 5]), torch.ones(2, 3))]
    found = chosen(examples, torch.zeros(2, 3), torch.tensor([2, 5]), background_weight=1.0, n_per_example=4)
    assert pairs(found) == [(2, 0), (2, 1), (2, 2), (5, 0)]
