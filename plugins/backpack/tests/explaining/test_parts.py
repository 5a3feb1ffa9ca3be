"""Parts of a model whose senses are beside something else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import interpd_client
from interpd.errors import CallerError
from interpd.testing.tiny_models import tiny_model
from interpd_backpack import worker
from interpd_backpack.model import retrofit
from interpd_backpack.worker.explaining.parts import BEFORE_HEAD, MIX, Directions, Row, check


@pytest.fixture(scope="module")
def model():
    """A GPT-2 with senses, its gate open."""
    found = retrofit(tiny_model("gpt2").model.double(), num_senses=5)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in found.backpack.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return found


@pytest.fixture(scope="module")
def found(model):
    """What a pass would read, and the states that the senses are added to."""
    values = {}
    side = model.backpack
    modules = {"senses": side.sense_network, "sense_weights": side.sense_weight_net, MIX: side.mixing}
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: values.update({name: output}))
        for name, module in modules.items()
    ]
    handles.append(model.lm_head.register_forward_hook(lambda _, args, __: values.update({BEFORE_HEAD: args[0]})))
    ids = torch.tensor([[5, 60, 7, 80, 9]])
    with torch.no_grad():
        values["logits"] = model(ids, use_cache=False).logits
        values["states"] = model.backbone(ids).last_hidden_state
    for handle in handles:
        handle.remove()
    return values


def parts(model, found, quantity="logit", against=-1):
    lexicon = SimpleNamespace(
        unembedding=model.lm_head.weight.detach(),
        logits=model.lm_head,
        device=torch.device("cpu"),
        gate=model.backpack.gate.detach(),
    )
    (direction,) = Directions(lexicon)(quantity, [11], [against], found["logits"][0, [3]])
    return Row(found, 0, 5).parts(3, direction)


@pytest.mark.parametrize(("quantity", "against"), [("logit", -1), ("difference", 12), ("log_probability", -1)])
def test_the_base_stream_is_one_part_more(model, found, quantity, against):
    one = parts(model, found, quantity, against)
    weight = model.lm_head.weight.detach()
    p = found["logits"][0, 3].softmax(-1)
    toward = weight[11] - {"logit": 0, "difference": weight[12], "log_probability": p @ weight}[quantity]
    np.testing.assert_allclose(one.base, toward @ found["states"][0, 3], rtol=0, atol=1e-10)
    gate = model.backpack.gate.detach()
    expected = gate * torch.einsum("lj,ljd,d->lj", found["sense_weights"][0, :, 3], found["senses"][0], toward)
    np.testing.assert_allclose(one.contributions, expected, rtol=0, atol=1e-10)
    assert abs(one.residual) < 1e-10
    check(one, SimpleNamespace(dtype=torch.float64, written=()))


@pytest.mark.slow
def test_a_served_model_says_what_its_base_stream_adds(model, found):
    tokenizer = tiny_model("gpt2").tokenizer
    with interpd_client.local((model, tokenizer), name="tiny", plugins={"backpack": worker}) as client:
        one = client.model("tiny").backpack.contributions([5, 60, 7, 80, 9], 11, position=3)
    base = model.lm_head.weight.detach()[11] @ found["states"][0, 3]
    np.testing.assert_allclose(one.base, base, rtol=0, atol=1e-10)
    np.testing.assert_allclose(one.contributions.sum() + one.base, found["logits"][0, 3, 11], rtol=0, atol=1e-10)
    assert "elsewhere" in one.to_html()


def test_what_does_not_add_up_is_refused(model, found):
    capped = {**found, "logits": 5 * (found["logits"] / 5).tanh()}
    session = SimpleNamespace(dtype=torch.float64, written=("senses",))
    with pytest.raises(CallerError, match="something behind the senses changes the logits"):
        check(parts(model, capped), session)
