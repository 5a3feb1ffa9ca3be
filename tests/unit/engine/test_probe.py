"""The probe: what it says of modules that behave, and of modules that do not."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from interpd.engine.probe import acts_on_last_dim, forward_inputs, probe_ids, probe_model


class Blocks(nn.Module):
    """A language model of 8 tokens whose middle is what a test wants to look at."""

    def __init__(self, middle):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=8)
        self.embed = nn.Embedding(8, 6)
        self.middle = middle
        self.head = nn.Linear(6, 8)
        self.unused = nn.Linear(6, 6)

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids, attention_mask, use_cache):
        return SimpleNamespace(logits=self.head(self.middle(self.embed(input_ids))))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x):
        return self.inner(self.inner(x))


class Tupled(nn.Module):
    def forward(self, x, *, scale=None):
        return x, (x.sum(),), x.mean(-1)


def place(probe, path, port="output"):
    found = probe.first(path, port)
    assert found is not None
    return found


def test_sizes_that_follow_batch_and_length_are_told_from_constants():
    probe = probe_model(Blocks(nn.Identity()))
    assert place(probe, "embed").sizes == ("batch", "pos", 6)
    assert place(probe, "embed", "input").sizes == ("batch", "pos")
    assert place(probe, "embed", "input").dtype == torch.int64


def test_visits_are_numbered_in_the_order_of_the_forward_pass():
    probe = probe_model(Blocks(nn.Identity()))
    paths = [("", "input"), ("embed", "input"), ("embed", "output"), ("middle", "input"), ("middle", "output")]
    assert probe.visits[:5] == tuple(paths)
    assert place(probe, "middle").order == 4


def test_rows_that_see_one_another_are_no_rows():
    probe = probe_model(Blocks(Function(lambda x: x - x.mean(0, keepdim=True))))
    assert place(probe, "embed").has_rows
    assert place(probe, "middle").sizes == ("batch", "pos", 6)
    assert not place(probe, "middle").has_rows


def test_batch_and_positions_folded_into_one_dimension_are_no_rows():
    folded = Function(lambda x: nn.functional.relu(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
    folded.inner = Function(torch.relu)
    folded.function = lambda x: folded.inner(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    probe = probe_model(Blocks(folded))
    assert place(probe, "middle.inner").sizes == (None, 6)
    assert not place(probe, "middle.inner").has_rows
    assert place(probe, "middle.inner").folded
    assert not place(probe, "middle").folded


def test_folded_rows_that_see_one_another_are_not_told_apart():
    folded = Function(lambda x: folded.inner((x - x.mean(0, keepdim=True)).flatten(0, 1)).unflatten(0, x.shape[:2]))
    folded.inner = Function(torch.relu)
    assert not place(probe_model(Blocks(folded)), "middle.inner").folded


def test_a_module_called_twice_or_never_has_no_place():
    probe = probe_model(Blocks(Twice()))
    assert probe.n_calls["middle.inner"] == 2
    assert probe.first("middle.inner", "output") is None
    assert "unused" not in probe.n_calls
    assert probe.first("unused", "output") is None


def test_items_of_a_tuple_output_are_places_of_one_visit():
    model = Blocks(nn.Identity())
    model.middle = Tupled()
    model.head = Function(lambda items: items[0])
    probe = probe_model(model)
    assert place(probe, "middle").item == 0
    assert probe.places["middle", "output", 2].sizes == ("batch", "pos")
    assert probe.places["middle", "output", 2].order == place(probe, "middle").order
    assert ("middle", "output", 1) not in probe.places


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox"])
def test_modules_that_can_be_called_on_any_value_are_found(residents, architecture):
    modules = residents(architecture).modules
    assert (modules["lm_head"].d_in, modules["lm_head"].d_out, modules["lm_head"].d_out_name) == (24, 321, "d_vocab")
    norms = [schema for schema in modules.values() if schema.kind.endswith("Norm")]
    assert {(norm.d_in, norm.d_out, norm.d_out_name) for norm in norms} == {(24, 24, "d_model")}
    blocks = [schema for schema in modules.values() if schema.kind.endswith(("Block", "DecoderLayer", "Attention"))]
    assert {block.d_in for block in blocks} == {None}


def test_a_module_that_looks_at_other_positions_cannot_be_called_on_any_value():
    like = torch.zeros(1)
    assert acts_on_last_dim(nn.Linear(6, 4), 6, like)
    assert not acts_on_last_dim(Function(lambda x: x - x.mean(-2, keepdim=True)), 6, like)
    assert not acts_on_last_dim(Function(lambda x: x.permute(1, 0, 2)), 6, like)


def test_probing_twice_asks_the_same_of_the_model():
    model = Blocks(nn.Identity())
    assert torch.equal(probe_ids(model, 2, 5), probe_ids(model, 2, 5))
    assert "position_ids" not in forward_inputs(model, probe_ids(model, 2, 5), explicit_positions=True)


def test_no_hook_is_left_behind():
    model = Blocks(nn.Identity())
    probe_model(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
