"""Values that cross from prompt to prompt, against activation patching by hand."""

import numpy as np
import torch

from interpd.graph.ir import Ref
from interpd.testing.bench import ask, call, read, write

CLEAN, CORRUPT = "Elena Marsh was born in", "Once upon a time there was"


def blocks(bench):
    return bench.model.transformer.h if bench.model.config.model_type == "gpt2" else bench.model.model.layers


def output_of(bench, layer, prompt):
    return bench.model(bench.ids(prompt), output_hidden_states=True).hidden_states[layer + 1].detach()


def logits_with(bench, layer, prompt, change):
    handle = blocks(bench)[layer].register_forward_hook(lambda module, args, output: change(output))
    logits = bench.model(bench.ids(prompt)).logits.detach()
    handle.remove()
    return logits


def patch_last(source_site, target_site):
    return [
        read(source_site),
        call("tensor.getitem", Ref(0), (0, -1)),
        read(target_site, invoke=1),
        call("tensor.setitem", Ref(2), (0, -1), Ref(1)),
        write(Ref(3), target_site, invoke=1),
        read("logits", invoke=1),
    ]


def last_replaced(value):
    def change(output):
        output = output.clone()
        output[0, -1] = value[0, -1]
        return output

    return change


def test_patching_within_one_pass_equals_patching_by_hand(bench):
    site = "layers.1.resid_post"
    result = bench.run(ask(patch_last(site, site), {"logits": 5}, CLEAN, CORRUPT))
    expected = logits_with(bench, 1, CORRUPT, last_replaced(output_of(bench, 1, CLEAN)))
    assert result.done.cost.n_passes == 1
    assert np.allclose(result["logits"], expected, atol=1e-4)


def test_a_late_value_enters_an_early_site_in_a_second_pass(bench):
    result = bench.run(ask(patch_last("layers.1.resid_post", "layers.0.resid_post"), {"logits": 5}, CLEAN, CORRUPT))
    expected = logits_with(bench, 0, CORRUPT, last_replaced(output_of(bench, 1, CLEAN)))
    assert result.done.cost.n_passes == 2
    assert np.allclose(result["logits"], expected, atol=1e-4)


def test_passes_of_several_requests_stay_in_step(bench):
    late = ask(patch_last("layers.1.resid_post", "layers.0.resid_post"), {"logits": 5}, CLEAN, CORRUPT)
    plain = ask([read("logits")], {"logits": 0}, CORRUPT)
    shared, _, again = bench.run_all(late, plain, ask(late.graph.nodes, {"logits": 5}, CLEAN, CORRUPT))
    assert shared.done.cost.shared_with == (3, 2)
    assert np.allclose(shared["logits"], bench.run(late)["logits"], atol=1e-4)
    assert np.allclose(shared["logits"], again["logits"], atol=1e-4)


def test_two_prompts_exchange_their_values(bench):
    site = "layers.0.resid_post"
    nodes = [
        read(site, positions=(-1,)),
        read(site, invoke=1, positions=(-1,)),
        write(Ref(1), site),
        write(Ref(0), site, invoke=1),
        read("layers.0.resid_post"),
        read("layers.0.resid_post", invoke=1),
    ]
    result = bench.run(ask(nodes, {"a": 0, "b": 1, "new_a": 4, "new_b": 5}, CLEAN, CORRUPT))
    assert np.array_equal(result["new_a"][:, -1:], result["b"])
    assert np.array_equal(result["new_b"][:, -1:], result["a"])


def test_the_models_own_modules_make_a_logit_lens(bench):
    is_gpt2 = bench.model.config.model_type == "gpt2"
    norm = "transformer.ln_f" if is_gpt2 else "model.norm"
    nodes = [
        read("layers.1.resid_post"),
        call("module.call", Ref(0), module=norm),
        call("module.call", Ref(1), module="lm_head"),
        read("logits"),
    ]
    result = bench.run(ask(nodes, {"lens": 2, "logits": 3}, CLEAN))
    hidden = output_of(bench, 1, CLEAN)
    with torch.no_grad():
        expected = bench.model.lm_head(bench.model.get_submodule(norm)(hidden))
    assert np.allclose(result["lens"], expected, atol=1e-5)
    assert np.array_equal(result["logits"], bench.model(bench.ids(CLEAN)).logits.detach())


def test_weights_and_token_ids_are_values(bench):
    nodes = [call("param.read", name="lm_head.weight"), call("tokens.ids", invoke=1)]
    result = bench.run(ask(nodes, {"weight": 0, "ids": 1}, CLEAN, CORRUPT))
    assert np.array_equal(result["weight"], bench.model.lm_head.weight.detach())
    assert np.array_equal(result["ids"], bench.ids(CORRUPT))
    assert result.done.cost.n_passes == 0
