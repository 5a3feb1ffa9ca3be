"""A model that checks share: kept as long as it is as it was."""

import pytest
import torch

from interpd.testing.lent_model import LentModel
from interpd.testing.tiny_models import tiny_gpt2


def unfreeze(model):
    model.transformer.wte.requires_grad_(True)


def overwrite(model):
    with torch.no_grad():
        model.transformer.wte.weight[0, 0] += 1


def hook(model):
    model.transformer.register_forward_hook(lambda module, args, output: None)


@pytest.mark.slow
def test_checks_get_one_model_until_it_is_changed():
    lender, seen = LentModel({}), []
    for change in (None, None, unfreeze, overwrite, hook, torch.nn.Module.train, None):
        with lender.lent() as model:
            seen.append(model)
            if change is not None:
                change(model.model)
    first, second, third, *others = seen
    assert first is second is third
    assert len({id(one) for one in (first, *others)}) == 5


def test_a_check_that_fails_is_the_last_of_its_model():
    lender = LentModel({})
    with pytest.raises(AssertionError), lender.lent() as failed:
        raise AssertionError
    with lender.lent() as model:
        assert model is not failed


def test_a_model_of_ones_own_is_made_again_once_it_was_changed():
    made = []

    def make():
        made.append(tiny_gpt2(seed=1))
        return made[-1]

    lender = LentModel({}, make)
    for change in (unfreeze, None, None):
        with lender.lent() as model:
            assert model.model is made[-1].model
            if change is not None:
                change(model.model)
    assert len(made) == 2
