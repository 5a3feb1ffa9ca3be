"""What a resident model knows about itself."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from interpd.config import ModelSpec
from interpd.engine.families.gpt2 import GPT2
from interpd.engine.resident import Loaded, make_resident
from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd.graph.ir import Prompt
from interpd.plugin.site_table import SiteRow, SiteTable
from interpd.testing.tiny_models import tiny_gpt2, tiny_llama


class Tables:
    """A plugin registry that knows one table."""

    def __init__(self, table):
        self.table = table

    def sites_for_model(self, model_config):
        return self.table if model_config.model_type == "gpt2" else None


def test_info_says_what_the_model_is(residents):
    info = residents("llama").info
    assert (info.name, info.source, info.revision) == ("llama", "tiny/llama", "sha256:tiny")
    assert (info.architecture, info.family, info.n_layers) == ("LlamaForCausalLM", "llama", 3)
    assert info.sizes == {"d_model": 24, "d_vocab": 321, "head": 4, "kv_head": 2, "d_head": 10, "d_mlp": 44}
    assert (info.max_positions, info.dtype, info.device, info.has_chat_template) == (64, "float32", "cpu", True)
    assert info.n_parameters == sum(weight.numel() for weight in residents("llama").model.parameters())
    assert info.tokenizer == type(residents("llama").tokenizer).__name__


def test_canonical_sites_come_first_and_in_forward_order(residents):
    sites = list(residents("gpt2").sites.values())
    n_canonical = sum(site.canonical for site in sites)
    assert all(site.canonical for site in sites[:n_canonical])
    orders = [site.order for site in sites[:n_canonical]]
    assert orders == sorted(orders)


def test_sites_that_the_family_lacks_are_absent_with_a_reason(residents):
    absent = {site.name: site.reason for site in residents("llama").absent_sites}
    assert absent["layers.2.mlp.pre"] == "the MLP is gated: take mlp.gate and mlp.up"
    assert "rotary" in {site.name: site.reason for site in residents("gpt2").absent_sites}["layers.0.attn.q_rot"]


def test_parameters_and_buffers_are_typed_and_readable(residents):
    resident = residents("gpt2")
    assert str(resident.parameters["transformer.wte.weight"]) == "float32[d_vocab=321 d_model=24]"
    assert "model.rotary_emb.inv_freq" in residents("llama").parameters
    # tied: one tensor under two names
    tied = resident.parameter("lm_head.weight")
    assert torch.equal(tied, resident.parameter("transformer.wte.weight"))
    for name, type_ in resident.parameters.items():
        assert resident.parameter(name).shape == tuple(dim.size for dim in type_.dims)


def test_modules_without_the_taps_are_listed(residents):
    modules = residents("gpt2").modules
    assert modules["transformer.h.0.mlp"].kind == "GPT2MLP"
    assert not [path for path in modules if "interpd_taps" in path]


def test_a_model_without_a_table_refuses_eager_attention(residents):
    with pytest.raises(FeatureUnsupported, match="eager attention is not known for GraniteForCausalLM"):
        residents("granite").set_attention(True)


def test_a_table_from_a_plugin_comes_before_the_built_in_one():
    tiny = tiny_gpt2()
    rows = (SiteRow("senses", ("batch", "pos", "d_model"), "transformer.wte"), GPT2.rows[-1])
    table = SiteTable("backpack", ("GPT2LMHeadModel",), "transformer.h.{i}", rows)
    resident = make_resident(Loaded(tiny.model, tiny.tokenizer, ModelSpec("tiny"), ""), Tables(table))
    assert [name for name, site in resident.sites.items() if site.canonical] == ["senses", "logits"]
    assert resident.info.family == "backpack"


def test_a_plugin_that_does_not_know_the_model_leaves_it_to_the_built_in_table():
    tiny = tiny_llama()
    resident = make_resident(Loaded(tiny.model, tiny.tokenizer, ModelSpec("tiny"), ""), Tables(None))
    assert resident.info.family == "llama"


def test_a_row_that_names_no_module_of_the_model_is_absent():
    tiny = tiny_gpt2()
    rows = (SiteRow("senses", ("batch", "pos", "d_model"), "transformer.senses"), GPT2.rows[-1])
    table = SiteTable("backpack", ("GPT2LMHeadModel",), "transformer.h.{i}", rows)
    resident = make_resident(Loaded(tiny.model, tiny.tokenizer, ModelSpec("tiny"), ""), Tables(table))
    assert [site.name for site in resident.absent_sites] == ["senses"]
    assert "called 0 times" in resident.absent_sites[0].reason


def test_half_precision_models_pass_the_same_tests():
    tiny = tiny_llama()
    resident = make_resident(Loaded(tiny.model.bfloat16(), tiny.tokenizer, ModelSpec("tiny"), ""))
    assert {site.reason for site in resident.absent_sites} == {"the MLP is gated: take mlp.gate and mlp.up"}
    assert str(resident.sites["logits"].type) == "bfloat16[batch=1 pos=? d_vocab=321]"


def test_a_prompt_longer_than_the_positions_of_the_model_is_refused(residents):
    with pytest.raises(InvalidRequest, match="has 65 tokens, model 'gpt2' takes at most 64"):
        residents("gpt2").tokenize(Prompt(token_ids=(5,) * 65))


def test_ids_decode_to_their_text(residents):
    resident = residents("gpt2")
    assert resident.decode(resident.tokenize(Prompt(text="Elena Marsh")).ids) == "Elena Marsh"


@pytest.mark.parametrize(("name", "family", "n_sites"), [("stories260K", "llama", 83), ("capp-gpt2", "gpt2", 55)])
def test_trained_models_pass_the_self_test(shared, name, family, n_sites):
    from interpd.worker.loading import load_model

    resident = make_resident(load_model(ModelSpec(str(shared / "models" / name))))
    assert resident.info.family == family
    assert sum(site.canonical for site in resident.sites.values()) == n_sites
    assert not [site for site in resident.absent_sites if site.reason.startswith("self-test")]


def test_the_bundled_model_passes_the_self_test():
    from interpd.worker.loading import load_model
    from interpd.zoo import facts

    resident = make_resident(load_model(ModelSpec(str(Path(facts.__file__).parent))))
    assert resident.info.family == "llama"
    assert resident.info.dtype == "float32"
    assert not [site for site in resident.absent_sites if site.reason.startswith("self-test")]


@pytest.mark.parametrize("eager", [False, True])
def test_a_trained_model_tells_its_story_under_either_attention(shared, eager):
    from interpd.worker.loading import load_model

    resident = make_resident(load_model(ModelSpec(str(shared / "models" / "stories260K"))))
    resident.set_attention(eager)
    begin = SimpleNamespace(input_ids=torch.tensor([resident.tokenize(Prompt(text="")).ids]))
    ids = resident.model.generate(begin.input_ids, max_new_tokens=40, do_sample=False)[0]
    story = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    assert resident.decode(ids[1:].tolist()).strip().startswith(story)
