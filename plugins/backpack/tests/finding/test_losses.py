"""Losses, gradients and divergences in closed form against torch's own."""

import pytest
import torch

from interpd_backpack.worker.finding.adam import Moments, cosine, step
from interpd_backpack.worker.finding.cached import Rows, Seen, joined, rows_of
from interpd_backpack.worker.finding.losses import (
    Example,
    divergence_gradient,
    example_gradient,
    example_loss,
    log_probabilities,
    surprisal_gradients,
)

N_TOKENS, SIZE, N_PAIRS = 13, 5, 4
LOSSES = ["say", "avoid", "balance", "prefer"]


def random_rows(n, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = normal(n, N_PAIRS).abs()
    weights[::3] = 0
    targets = torch.randint(N_TOKENS, (n,), generator=generator)
    return Rows(normal(n, SIZE), targets, weights), normal(N_PAIRS, SIZE) / 3, normal(N_TOKENS, SIZE)


def written_out(loss, rows, n_first, delta, unembedding):
    logs = ((rows.mix + rows.weights @ delta) @ unembedding.T).log_softmax(-1)[range(len(rows.targets)), rows.targets]
    first, second = logs[:n_first].mean(), logs[n_first:].mean()
    return {"say": -first, "avoid": first, "balance": (first - second).abs(), "prefer": second - first}[loss]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_of_a_loss_is_that_of_autograd(loss):
    rows, delta, unembedding = random_rows(7)
    example = Example(rows, 7 if loss in ("say", "avoid") else 3)
    delta.requires_grad_()
    wanted = written_out(loss, rows, example.n_first, delta, unembedding)
    (slope,) = torch.autograd.grad(wanted, delta)
    with torch.no_grad():
        value, by_mix = example_gradient(loss, example, delta, unembedding)
    torch.testing.assert_close(value, wanted.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(rows.weights.T @ by_mix, slope, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("size", [1 << 24, 30])
def test_the_divergence_and_its_gradient_are_those_of_torch(size, monkeypatch):
    monkeypatch.setattr("interpd_backpack.worker.finding.losses.LOGITS", size)
    rows, delta, unembedding = random_rows(8, seed=1)
    delta.requires_grad_()
    new = ((rows.mix + rows.weights @ delta) @ unembedding.T).log_softmax(-1)
    old = (rows.mix @ unembedding.T).log_softmax(-1)
    wanted = torch.nn.functional.kl_div(new, old, log_target=True, reduction="sum")
    (slope,) = torch.autograd.grad(wanted, delta)
    with torch.no_grad():
        value, gradient = divergence_gradient(rows, delta, unembedding)
        logs = log_probabilities(rows, delta, unembedding)
    torch.testing.assert_close(value, wanted.detach(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(logs, new.detach()[range(8), rows.targets])


def test_gradients_of_surprisals_are_those_of_autograd():
    rows, _, unembedding = random_rows(6, seed=2)
    mix = rows.mix.clone().requires_grad_()
    total = torch.nn.functional.cross_entropy(mix @ unembedding.T, rows.targets, reduction="sum")
    (wanted,) = torch.autograd.grad(total, mix)
    torch.testing.assert_close(surprisal_gradients(rows, unembedding), wanted, rtol=1e-11, atol=1e-12)


def test_suffixes_are_averaged_for_training_and_summed_for_evaluation():
    rows, _, _ = random_rows(5)
    example = Example(rows, 2)
    assert example.means.tolist() == [[0.5, 0.5, 0, 0, 0], [0, 0, 1 / 3, 1 / 3, 1 / 3]]
    assert example.sums.tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]]
    assert example_loss("prefer", torch.tensor(-1.0), torch.tensor(-4.0)) == -3


def test_adam_is_that_of_torch():
    value = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theirs = torch.nn.Parameter(value.clone())
    optimiser = torch.optim.Adam([theirs], lr=0.05, betas=(0.9, 0.995))
    moments = Moments.zero(value)
    for number in range(6):
        gradient = torch.sin(torch.arange(6, dtype=torch.float64) * (number + 1)).reshape(3, 2)
        theirs.grad = gradient.clone()
        optimiser.step()
        value, moments = step(value, gradient, moments, 0.05)
    torch.testing.assert_close(value, theirs.detach(), rtol=1e-12, atol=1e-14)


def test_the_rate_falls_as_that_of_torch():
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=7)
    for epoch in range(7):
        assert cosine(0.3, epoch, 7) == pytest.approx(schedule.get_last_lr()[0], rel=1e-12)
        optimiser.step()
        schedule.step()
    assert cosine(0.3, 7, 7) == 0


def test_rows_hold_the_weights_of_their_own_tokens_and_none_of_others():
    weights = torch.arange(12.0).reshape(2, 3, 2)
    seen = Seen(torch.zeros(2, SIZE), torch.zeros(2, dtype=torch.int64), torch.tensor([3, 5, 9]), weights)
    found = rows_of(seen, torch.tensor([9, 4, 3, 11]), torch.tensor([1, 0, 0, 1]), 0.5)
    assert found.weights.tolist() == [[2.5, 0, 0, 0], [5.5, 0, 3, 0]]
    assert len(joined([found, found]).mix) == 4
