"""The training loop against one that is written with autograd and torch's Adam; gradients through the real model."""

import pytest
import torch
from torch.nn import functional

from interpd_backpack.finding.settings import Settings
from interpd_backpack.worker.finding.ball import Ball
from interpd_backpack.worker.finding.cached import Rows, Seen, joined, rows_of
from interpd_backpack.worker.finding.losses import Example, divergence_gradient, example_gradient
from interpd_backpack.worker.finding.training import Training

N_TOKENS, SIZE, N_PAIRS = 11, 4, 3


@pytest.fixture
def world():
    """(examples, texts, unembedding)."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def rows(n):
        targets = torch.randint(N_TOKENS, (n,), generator=generator)
        return Rows(normal(n, SIZE), targets, normal(n, N_PAIRS).abs())

    return [Example(rows(3), 2) for _ in range(7)], [rows(4) for _ in range(2)], normal(N_TOKENS, SIZE)


def trained(world, settings):
    examples, texts, unembedding = world
    ball = Ball(joined(texts), unembedding, lambda: None)
    training = Training(settings, examples, texts, ball, unembedding=unembedding, breathe=lambda: None)
    state = training.begin()
    while state.n_epochs < settings.n_epochs:
        state = training.epoch(state)
    return training, state


def with_autograd(world, settings, *, as_published=False):
    """What the loop ends with; ``as_published`` forgets the gradients of all but each fifth example."""
    examples, texts, unembedding = world
    delta = torch.zeros(N_PAIRS, SIZE, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([delta], lr=settings.learning_rate, betas=(0.9, 0.995))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=settings.n_epochs)
    for epoch in range(settings.n_epochs):
        generator = torch.Generator().manual_seed((settings.seed << 32) + epoch)
        order = torch.randperm(len(examples), generator=generator).tolist()
        drawn = torch.randint(len(texts), (len(order),), generator=generator).tolist()
        optimiser.zero_grad()
        for place, (number, text) in enumerate(zip(order, drawn, strict=True), start=1):
            if as_published:
                optimiser.zero_grad()
            example, background = examples[number], texts[text]
            logs = ((example.rows.mix + example.rows.weights @ delta) @ unembedding.T).log_softmax(-1)
            reached = logs[range(3), example.rows.targets]
            loss = reached[2:].mean() - reached[:2].mean()
            new = ((background.mix + background.weights @ delta) @ unembedding.T).log_softmax(-1)
            old = (background.mix @ unembedding.T).log_softmax(-1)
            (loss + settings.kl_weight * functional.kl_div(new, old, log_target=True, reduction="sum")).backward()
            if place % settings.accumulate == 0 or (place == len(order) and not as_published):
                optimiser.step()
                optimiser.zero_grad()
        schedule.step()
    return delta.detach()


@pytest.mark.parametrize("accumulate", [1, 5])
def test_the_gradients_of_all_examples_count_and_not_of_each_fifth_alone(world, accumulate):
    settings = Settings("prefer", n_epochs=3, accumulate=accumulate, learning_rate=0.05, kl_weight=0.4, seed=2)
    _, state = trained(world, settings)
    torch.testing.assert_close(state.delta, with_autograd(world, settings), rtol=1e-8, atol=1e-10)
    assert state.moments.n_steps == 3 * {1: 7, 5: 2}[accumulate]
    if accumulate == 5:
        published = with_autograd(world, settings, as_published=True)
        assert (state.delta - published).abs().max() > 0.01


def test_the_greatest_share_inside_the_ball_is_found_and_no_greater_one_is_inside(world):
    settings = Settings("prefer", n_epochs=2, learning_rate=0.5, kl_weight=0.0, radius=1e-3)
    training, state = trained(world, settings)
    assert state.history[-1][2] > 1 + settings.radius
    outcome = training.outcome(state)
    assert (outcome.epoch, outcome.ratio <= 1 + settings.radius) == (2, True)
    texts, unembedding = joined(world[1]), world[2]

    def ratio(share):
        totals = [
            functional.cross_entropy((texts.mix + texts.weights @ delta) @ unembedding.T, texts.targets)
            for delta in (share * state.delta, torch.zeros_like(state.delta))
        ]
        return float(totals[0] / totals[1])

    assert ratio(outcome.share) <= 1 + settings.radius < ratio(outcome.share + 2**-15)
    assert outcome.ratio == pytest.approx(ratio(outcome.share), rel=1e-12)


def test_the_last_epoch_inside_is_taken_when_no_line_is_searched(world):
    settings = Settings("prefer", n_epochs=3, learning_rate=0.5, kl_weight=0.0, radius=1e-3, line_search=False)
    training, state = trained(world, settings)
    outcome = training.outcome(state)
    inside = [number for number, row in enumerate(state.history) if row[2] <= 1 + settings.radius]
    assert (outcome.epoch, outcome.share) == (inside[-1], 1.0)


def test_gradients_are_those_that_go_through_the_real_model(bare):
    """Weights and mixes are taken from the bare model's modules; the closed form then needs it no more."""
    model, tokenizer = bare
    kept = {}
    handles = [
        model.backpack.sense_weight_net.register_forward_hook(lambda _m, _a, out: kept.update(weights=out[0])),
        model.lm_head.register_forward_pre_hook(lambda _m, arguments: kept.update(mix=arguments[0][0])),
    ]
    ids = torch.tensor(tokenizer("The nurse said that the nurse was happy")["input_ids"])
    pairs = [(int(ids[2]), 1), (int(ids[4]), 3), (int(ids[2]), 2)]
    model(ids[None])
    for handle in handles:
        handle.remove()
    tokens = ids.unique()
    weights = torch.stack([kept["weights"][..., ids == token].sum(-1) for token in tokens], -1)  # sense query token
    seen = Seen(kept["mix"][4:-1], ids[5:], tokens, weights[:, 4:-1].permute(1, 2, 0))
    rows = rows_of(seen, torch.tensor([one for one, _ in pairs]), torch.tensor([sense for _, sense in pairs]), 1.0)
    delta = torch.randn(3, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def added(_module, _arguments, output):
        moved = [
            functional.one_hot(torch.tensor(sense), 4)[:, None, None] * (ids == token)[:, None] * delta[number]
            for number, (token, sense) in enumerate(pairs)
        ]
        return output + sum(moved)

    handle = model.backpack.sense_network.register_forward_hook(added)
    new = model(ids[None]).logits[0, 4:-1].log_softmax(-1)
    handle.remove()
    old = model(ids[None]).logits[0, 4:-1].log_softmax(-1)
    loss, divergence = (
        -new[range(len(new)), ids[5:]].mean(),
        functional.kl_div(new, old, log_target=True, reduction="sum"),
    )
    wanted = [torch.autograd.grad(value, delta, retain_graph=True)[0] for value in (loss, divergence)]
    with torch.no_grad():
        value, by_mix = example_gradient("say", Example(rows, len(new)), delta, model.lm_head.weight)
        found = [rows.weights.T @ by_mix, divergence_gradient(rows, delta, model.lm_head.weight)[1]]
    torch.testing.assert_close(value, loss.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)
