"""The loop that bundled models are trained with."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from interpd.testing.bundled import model_of, tokenizer_of
from interpd.zoo.training import Recipe, begun, save, train

RECIPE = Recipe(
    steps=100,
    rows=4,
    threads=1,
    learning_rate=0.1,
    weight_decay=0.0,
    warm_up=10,
    constant_share=0.5,
    least_share=0.02,
    told_every=50,
)


def test_the_learning_rate_rises_stays_and_falls():
    shares = [RECIPE.share(step, 100) for step in range(100)]
    assert shares[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert shares[10:51] == [1.0] * 41
    assert shares[75] == pytest.approx(0.5)
    assert shares[-1] == pytest.approx(0.02)


def trained(seed):
    """(a line fitted to points on a plane, what is said of the training)."""
    torch.manual_seed(seed)
    model, slope = nn.Linear(3, 1), torch.tensor([[1.0, -2.0, 0.5]])

    def loss_at(_step):
        x = torch.randn(RECIPE.rows, 3)
        return ((model(x) - x @ slope.T) ** 2).mean()

    return model, train(model, RECIPE, loss_at, seed=seed, steps=RECIPE.steps)


def test_it_trains_and_a_seed_gives_the_same_weights_again(capsys):
    (first, told), (again, _), (other, _) = trained(0), trained(0), trained(1)
    assert not first.training
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert (first.weight - torch.tensor([[1.0, -2.0, 0.5]])).abs().max() < 0.05
    assert {**told, "seconds": 0} == {"seed": 0, "steps": 100, "rows": 4, "threads": 1, "seconds": 0}
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[:3]] == ["0/100", "50/100", "99/100"]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("stop", [37, 80])
def test_a_training_that_goes_on_where_it_stopped_is_as_if_it_had_not(stop, capsys):
    points = torch.randn(100, RECIPE.rows, 3, generator=torch.Generator().manual_seed(1))

    def begin_one():
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
        loss_at = lambda step: model(points[step]).square().mean()  # noqa: E731
        return model, partial(train, model, RECIPE, loss_at, seed=0, steps=100, optimizer=optimizer)

    def stopping(done):
        steps.append(done)
        if done == stop:
            raise Interrupted

    steps = []
    (whole, run_whole), (parts, run_part) = begin_one(), begin_one()
    run_whole()
    with pytest.raises(Interrupted):
        run_part(after=stopping)
    run_part(first=stop, after=steps.append)
    assert steps == list(range(1, 101))
    assert torch.equal(parts.weight, whole.weight)


def test_a_process_is_afterwards_as_it_was():
    torch.manual_seed(5)
    threads, wanted = torch.get_num_threads(), torch.Generator().manual_seed(5)
    with begun(RECIPE, 3):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == RECIPE.threads
        assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(3)))
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(2), torch.rand(2, generator=wanted))


def test_what_is_saved_is_of_half_precision_and_stops_at_the_end_token(tmp_path):
    tokenizer, model = tokenizer_of("facts"), copy.deepcopy(model_of("facts"))
    save(model, tokenizer, tmp_path, bos_token_id=tokenizer.bos_token_id)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.dtype == torch.float16
    settings = loaded.generation_config
    assert (settings.eos_token_id, settings.bos_token_id) == (tokenizer.eos_token_id, tokenizer.bos_token_id)
    assert torch.equal(loaded.lm_head.weight, model_of("facts").lm_head.weight.half())
