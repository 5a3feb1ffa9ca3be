"""Where the rows of a pass may change: found on the model, or not offered."""

import pytest
import torch

from interpd.config import ModelSpec
from interpd.engine.boundaries import Boundaries
from interpd.engine.resident import Loaded, make_resident
from interpd.testing.tiny_models import ARCHITECTURES, tiny_model


def boundaries_of(model):
    return make_resident(Loaded(model.requires_grad_(False), None, ModelSpec("tiny"), "r")).boundaries


def test_the_stream_before_the_first_block_and_behind_each(residents):
    places = residents("llama").boundaries.places
    assert [(place.path.rpartition(".")[2], place.port) for place in places] == [
        ("0", "input"),
        ("0", "output"),
        ("1", "output"),
        ("2", "output"),
    ]


def test_masks_follow_whether_they_come_by_name_or_by_position(residents):
    assert [place.item for place in residents("llama").boundaries.companions] == ["attention_mask"] * 3
    assert [place.item for place in residents("gpt2").boundaries.companions] == [2] * 3


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_family_of_decoders_has_boundaries(architecture):
    assert len(boundaries_of(tiny_model(architecture).model).places) == 4


def test_a_model_that_gives_its_blocks_something_per_row_in_a_tuple_has_none():
    model = tiny_model("llama").model
    rotary = model.model.rotary_emb

    def per_row(x, position_ids):
        return tuple(part.expand(len(x), -1, -1).clone() for part in type(rotary).forward(rotary, x, position_ids))

    rotary.forward = per_row
    assert boundaries_of(model) == Boundaries()


def test_a_model_that_keeps_something_beside_the_stream_has_none():
    model = tiny_model("gpt2").model
    kept = {}
    model.transformer.wte.register_forward_hook(lambda _, __, output: kept.update(embed=output))
    model.transformer.ln_f.register_forward_hook(lambda _, __, output: output + kept["embed"][: len(output)])
    with torch.no_grad():
        assert boundaries_of(model) == Boundaries()
