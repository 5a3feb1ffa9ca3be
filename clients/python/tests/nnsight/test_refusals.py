"""What a graph cannot say is refused at its line, with the reason and what to do instead."""

import re
from contextlib import contextmanager

import numpy as np
import pytest
import torch

PROMPT = "Elena Marsh was born in"


@contextmanager
def refused(line, reason):
    """The error names the line, shows it, and says why."""
    from interpd_client.nnsight import CannotRecord

    with pytest.raises(CannotRecord) as caught:
        yield
    place, _, text = str(caught.value).partition("\n    ")
    assert re.match(r"test_refusals\.py:\d+: ", place), place
    assert place.endswith(line), place
    assert reason in text, text


def test_a_condition_on_numbers(gpt2):
    model = gpt2.model
    with refused("if h.mean() > 0:", "`torch.where(condition, a, b)`"):
        with model.trace(PROMPT, backend=gpt2.backend):
            h = model.transformer.h[0].output
            if h.mean() > 0:
                h[:] = 0


@pytest.mark.parametrize(
    ("name", "look"),
    [
        (".item()", lambda h: h.sum().item()),
        ("float()", lambda h: float(h.sum())),
        ("int()", lambda h: int(h.sum())),
        (".tolist()", lambda h: h.tolist()),
        (".numpy()", lambda h: h.numpy()),
        ("numpy", lambda h: np.asarray(h)),
        ("a format needs numbers", lambda h: f"{h.sum():.2f}"),
        ("an index of a list", lambda h: [1, 2][h[0, 0].argmax()]),
        ("answers with a plain bool", lambda h: torch.allclose(h, h)),
        ("`in` needs numbers", lambda h: 3 in h),
        (".data_ptr()", lambda h: h.data_ptr()),
        ("copy.deepcopy", lambda h: h.__deepcopy__({})),
        ("`torch.stack([a, b])` joins", lambda h: torch.tensor([h[0, 0, 0], h[0, 0, 1]])),
    ],
)
def test_looking_at_numbers(gpt2, name, look):
    from interpd_client.nnsight import CannotRecord

    with pytest.raises(CannotRecord, match="exist only when the model runs") as caught:
        with gpt2.model.trace(PROMPT, backend=gpt2.backend):
            look(gpt2.model.transformer.h[0].output)
    assert name in str(caught.value)
    assert "test_refusals.py:" in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "call"),
    [
        ("shape of 'nonzero' depends on numbers", lambda h: h.nonzero()),
        ("shape of 'unique' depends on numbers", lambda h: torch.unique(h)),
        ("what a mask selects has a shape", lambda h: h[h > 0]),
        ("torch.where(condition)` has a shape", lambda h: torch.where(h > 0)),
        ("the bound of a slice must be a plain integer", lambda h: h[:, : h.argmax()]),
        ("graphs have no operation for torch's 'linalg_svd'", lambda h: torch.linalg.svd(h[0])),
        ("graphs have no operation for torch's 'fft_fft'", lambda h: torch.fft.fft(h)),
        ("graphs have no operation for torch's 'lgamma'", lambda h: torch.lgamma(h)),
        ("graphs have no operation for torch's 'lgamma_'", lambda h: h.lgamma_()),
        ("'multinomial': it draws random numbers", lambda h: torch.multinomial(h[0].softmax(-1), 1)),
        ("dropout draws random numbers", lambda h: torch.nn.functional.dropout(h)),
        ("of booleans only", lambda h: h.long() & 3),
        ("how many these are depends on numbers", lambda h: h.__setitem__(h > 0, h * 2)),
        ("what was saved has no history", lambda h: h.retain_grad()),
        ("'unsqueeze_' changes the shape", lambda h: h.unsqueeze_(0)),
        ("torch cannot change an expanded tensor", lambda h: h[:, :1].expand(1, 11, 24).mul_(2)),
        ("do not know this form of the function", lambda h: torch.quantile(h, 0.5, -1, interpolation="lower")),
    ],
)
def test_functions_without_an_operation(gpt2, reason, call):
    from interpd_client.nnsight import CannotRecord

    with pytest.raises(CannotRecord, match=r"test_refusals\.py:\d+: ") as caught:
        with gpt2.model.trace(PROMPT, backend=gpt2.backend):
            call(gpt2.model.transformer.h[0].output)
    assert reason in str(caught.value), caught.value


def test_wrong_shapes_raise_what_torch_raises(gpt2):
    with pytest.raises(RuntimeError, match="same reduction dim"):
        with gpt2.model.trace(PROMPT, backend=gpt2.backend):
            gpt2.model.transformer.h[0].output @ torch.ones(5, 5)


def test_operations_inside_a_forward(gpt2):
    model = gpt2.model
    with refused("model.transformer.h[0].mlp.source.self_act_0.output.save()", "`.source`"):
        with model.trace(PROMPT, backend=gpt2.backend):
            model.transformer.h[0].mlp.source.self_act_0.output.save()


def test_a_module_that_the_service_offers_no_site_for(gpt2):
    model = gpt2.model
    with refused("cache.get_seq_length()", "stays on the service"):
        with model.trace(PROMPT, backend=gpt2.backend):
            cache = model.output.past_key_values
            cache.get_seq_length()


@pytest.mark.parametrize(
    "use",
    [
        lambda cache: cache.save(),
        lambda cache: cache + 1,
        lambda cache: cache[0],
        lambda cache: len(cache),
        lambda cache: 1 if cache else 2,
        lambda cache: torch.add(cache, 1),
        lambda cache: cache.shape,
        lambda cache: setattr(cache, "layers", []),
    ],
)
def test_what_stays_on_the_service_is_of_no_use_here(gpt2, use):
    from interpd_client.nnsight import CannotRecord

    with pytest.raises(CannotRecord, match=r"test_refusals.py:\d+: (?s:.*)stays on the service"):
        with gpt2.model.trace(PROMPT, backend=gpt2.backend):
            use(gpt2.model.output.past_key_values)


def test_a_hook_of_the_program(gpt2):
    model = gpt2.model
    handle = model._module.transformer.h[1].mlp.register_forward_hook(lambda module, args, out: out * 2)
    try:
        with refused("with model.trace(PROMPT, backend=gpt2.backend):", "'transformer.h.1.mlp' has a forward hook"):
            with model.trace(PROMPT, backend=gpt2.backend):
                model.lm_head.output.save()
    finally:
        handle.remove()


def test_a_model_with_an_encoder(gpt2):
    from nnsight import NNsight

    from interpd.testing.tiny_models import tiny_model

    model = NNsight(tiny_model("bart").model)
    with refused("with model.trace(torch.ones(1, 3).long(), backend=gpt2.backend):", "an encoder and a decoder"):
        with model.trace(torch.ones(1, 3).long(), backend=gpt2.backend):
            model.lm_head.output.save()


def test_other_ids_for_the_whole_model(gpt2):
    model = gpt2.model
    with refused("model.input = torch.ones(1, 11).long()", "what the model is called with cannot be changed"):
        with model.trace(PROMPT, backend=gpt2.backend):
            model.input = torch.ones(1, 11).long()


def test_an_answer_of_another_shape(gpt2, monkeypatch):
    from interpd_client.result import Result

    model = gpt2.model
    monkeypatch.setattr(Result, "get", lambda self, name, default=None: np.zeros((1, 5, 24), dtype="float32"))
    with refused(
        "with model.trace(PROMPT, backend=gpt2.backend):", "shape [1, 5, 24] where the model here has [1, 11, 24]"
    ):
        with model.trace(PROMPT, backend=gpt2.backend):
            model.transformer.h[0].output.save()


def test_a_refusal_that_the_block_catches(gpt2):
    model = gpt2.model
    with refused("scale = h.sum().item()", "`.item()` asks for numbers"):
        with model.trace(PROMPT, backend=gpt2.backend):
            h = model.transformer.h[0].output
            try:
                scale = h.sum().item()
            except RuntimeError:
                scale = 3.0
            h = (h * scale).save()
    with refused("n = cache.get_seq_length()", "stays on the service"):
        with model.trace(PROMPT, backend=gpt2.backend):
            cache = model.output.past_key_values
            try:
                n = cache.get_seq_length()
            except RuntimeError:
                n = 0
            h = torch.ones(n + 1).save()


def test_changing_a_weight(gpt2):
    model = gpt2.model
    with refused("model.lm_head.weight[3] = 0", "is a weight of the model that others use too"):
        with model.trace(PROMPT, backend=gpt2.backend):
            model.lm_head.weight[3] = 0


def test_a_change_in_place_that_came_too_late(gpt2):
    model = gpt2.model
    with refused("h[:] = 0", "the model has computed something of it by now"):
        with model.trace(PROMPT, backend=gpt2.backend):
            h = model.transformer.h[0].output
            model.transformer.h[1].attn.output[0].save()
            h[:] = 0


def test_another_shape_than_the_model_has(gpt2):
    model = gpt2.model
    with refused("model.transformer.h[0].output = torch.zeros(1, 5, 24)", "is float32[1, 11, 24] here"):
        with model.trace(PROMPT, backend=gpt2.backend):
            model.transformer.h[0].output = torch.zeros(1, 5, 24)


def test_a_tensor_in_the_place_of_a_tuple(gpt2):
    model = gpt2.model
    with refused("model.transformer.h[0].attn.output = x", "is a tuple of 2 items"):
        with model.trace(PROMPT, backend=gpt2.backend):
            x = model.transformer.h[0].attn.input
            model.transformer.h[0].attn.output = x


def test_a_tensor_without_numbers(gpt2):
    model = gpt2.model
    with refused("(model.transformer.h[0].output + empty).save()", "on the meta device and has no numbers"):
        with model.trace(PROMPT, backend=gpt2.backend):
            empty = torch.ones(24, device="meta")
            (model.transformer.h[0].output + empty).save()


def test_padded_positions(gpt2):
    model = gpt2.model
    with refused("model.transformer.h[0].output.mean(1).save()", "differ in length"):
        with model.trace([PROMPT, "The cat"], backend=gpt2.backend):
            model.transformer.h[0].output.mean(1).save()
    with refused("h[:, 0].save()", "differ in length"):
        with model.trace(backend=gpt2.backend) as tracer:
            with tracer.invoke(PROMPT):
                model.transformer.h[0].output.save()
            with tracer.invoke("The cat"):
                h = model.transformer.h[0].output
                h[:, 0].save()


def test_a_product_over_padded_positions(gpt2):
    model = gpt2.model
    with refused("(torch.eye(7) @ h).save()", "differ in length"):
        with model.trace(backend=gpt2.backend) as tracer:
            with tracer.invoke([1, 2, 3, 4, 5, 6, 7]):
                model.transformer.h[0].output.save()
            with tracer.invoke([1, 2, 3, 4]):
                h = model.transformer.h[0].output
                (torch.eye(7) @ h).save()


def test_gradients_of_what_is_no_site(gpt2):
    model = gpt2.model
    with refused("(h * 2).grad", "gradients are taken with respect to what a module takes in or gives back"):
        with model.trace(PROMPT, backend=gpt2.backend):
            h = model.transformer.h[0].output
            loss = model.lm_head.output.sum()
            with loss.backward():
                (h * 2).grad
    with refused("loss.backward()", "parameters, which live on the service"):
        with model.trace(PROMPT, backend=gpt2.backend):
            loss = model.lm_head.output.sum()
            loss.backward()
    with refused("h.grad", "inside `with loss.backward():` only"):
        with model.trace(PROMPT, backend=gpt2.backend):
            h = model.transformer.h[0].output
            h.grad


def test_gradients_of_what_was_used_before_it_was_put(gpt2):
    model = gpt2.model
    with refused("new.grad", "compute them behind the assignment"):
        with model.trace(PROMPT, backend=gpt2.backend):
            new = model.transformer.h[0].output * 2
            early = new.sum()
            model.transformer.h[0].output = new
            loss = model.lm_head.output.sum() + early
            with loss.backward():
                new.grad


def test_gradients_where_torchs_are_off(gpt2):
    model = gpt2.model
    for place in ("loss", "model"):
        with refused("h.grad", "torch's gradients are off"):
            with model.trace(PROMPT, backend=gpt2.backend):
                h = model.transformer.h[0].output
                with torch.no_grad():
                    constant = h * 2
                if place == "model":
                    model.transformer.h[1].mlp.output = constant
                loss = model.lm_head.output.sum() + (0 if place == "model" else (constant * h).sum())
                with loss.backward():
                    h.grad


def test_a_gradient_in_place_of_what_is_added_up(gpt2):
    model = gpt2.model
    with refused("mlp.grad[:, 0] = 0", "set it: `h.grad = h.grad * 2`"):
        with model.trace(PROMPT, backend=gpt2.backend):
            mlp = model.transformer.h[2].mlp.output
            loss = model.lm_head.output.sum()
            with loss.backward():
                mlp.grad[:, 0] = 0


def test_a_gradient_of_rows_beside_others_that_were_changed_in_place(gpt2):
    model = gpt2.model
    with refused("clean.grad", "another invoke changed its rows"):
        with model.trace(backend=gpt2.backend) as tracer:
            barrier = tracer.barrier(2)
            with tracer.invoke([1, 2, 3]):
                clean = model.transformer.h[0].output
                barrier()
            with tracer.invoke([4, 5, 6]):
                barrier()
                model.transformer.h[0].output[:, 1] = clean[:, 1]
                loss = model.lm_head.output[:, -1].max()
                with loss.backward():
                    clean.grad


def test_arguments_of_a_forward(gpt2):
    model = gpt2.model
    with refused("with model.trace(PROMPT, labels=torch.ones(1, 11).long(), backend=gpt2.backend):", "'labels'"):
        with model.trace(PROMPT, labels=torch.ones(1, 11).long(), backend=gpt2.backend):
            model.output.loss.save()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"num_beams": 2}, "num_beams=2; each step chooses one token"),
        ({"num_return_sequences": 3, "do_sample": True}, "num_return_sequences=3; give the prompt several times"),
        ({"repetition_penalty": 1.5}, "repetition_penalty=1.5"),
        ({"max_length": 3}, "leaves no room"),
        ({"nonsense": 3}, "'nonsense' cannot be given"),
    ],
)
def test_kinds_of_generation(gpt2, arguments, reason):
    model = gpt2.model
    with refused("with model.generate(PROMPT, **arguments, backend=gpt2.backend) as tracer:", reason):
        with model.generate(PROMPT, **arguments, backend=gpt2.backend) as tracer:
            tracer.result.save()


def test_the_pipeline_of_transformers(gpt2):
    model = gpt2.model
    with refused("with model.pipe(PROMPT, backend=gpt2.backend) as tracer:", "forwards and generations, not 'pipe'"):
        with model.pipe(PROMPT, backend=gpt2.backend) as tracer:
            tracer.result.save()


def test_skipping_in_a_generation(gpt2):
    model = gpt2.model
    with refused("model.transformer.h[1].skip(model.transformer.h[1].input)", "`.skip` in a generation"):
        with model.generate(PROMPT, max_new_tokens=2, backend=gpt2.backend) as tracer:
            model.transformer.h[1].skip(model.transformer.h[1].input)
            tracer.result.save()


def test_one_layer_alone(gpt2):
    layer = gpt2.model.transformer.h[0]
    with refused("with layer.trace(torch.zeros(1, 2, 24), backend=gpt2.backend):", "whole models"):
        with layer.trace(torch.zeros(1, 2, 24), backend=gpt2.backend):
            layer.output.save()


def test_another_model_than_the_services(gpt2, llama):
    model = llama.model
    with refused("with model.trace(PROMPT, backend=gpt2.backend):", "is not the model 'facts' of the service"):
        with model.trace(PROMPT, backend=gpt2.backend):
            model.lm_head.output.save()


def test_a_tensor_that_was_not_saved(gpt2):
    model, kept = gpt2.model, []
    with model.trace(PROMPT, backend=gpt2.backend):
        kept.append(model.transformer.h[0].output)
        model.lm_head.output.save()
    with refused("kept[0].sum()", "was not saved there: write `.save()`"):
        kept[0].sum()


def test_generations_in_a_session(gpt2):
    model = gpt2.model
    with refused("with model.generate(PROMPT, max_new_tokens=2) as tracer:", "several traces or one generation"):
        with model.session(backend=gpt2.backend):
            with model.trace(PROMPT):
                model.lm_head.output.save()
            with model.generate(PROMPT, max_new_tokens=2) as tracer:
                tracer.result.save()


def test_what_the_service_would_refuse_is_told_before_with_its_line(gpt2):
    import interpd_client as interpd

    model = gpt2.model
    with pytest.raises(interpd.InvalidGraph, match=r"test_refusals.py:\d+: top = h.long\(\).softmax\(-1\)"):
        with model.trace(PROMPT, backend=gpt2.backend):
            h = model.transformer.h[0].output
            top = h.long().softmax(-1)
            top.save()
