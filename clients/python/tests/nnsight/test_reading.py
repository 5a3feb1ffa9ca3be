"""nnsight's own first examples, each run locally and through the service: reading, and computing with what was read."""

import nnsight
import torch
import torch.nn.functional as F

PROMPT = "Elena Marsh was born in"


def test_the_hidden_states_of_a_block(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output.save()
        return h


def test_inputs_and_outputs_of_modules(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            x = model.transformer.h[0].input.save()
            args, kwargs = model.transformer.h[0].attn.inputs
            normed = args[0].save()
            q = model.transformer.h[0].attn.c_attn.output.save()
            attn = model.transformer.h[0].attn.output[0].save()
            pre = model.transformer.h[0].mlp.c_fc.output.save()
        return x, normed, q, attn, pre


def test_a_tuple_is_saved_as_it_is(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            out = model.transformer.h[0].attn.output.save()
        return out


def test_what_the_model_returns(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend) as tracer:
            logits = model.output.logits.save()
            same = tracer.result.logits[:, -1].argmax(-1).save()
        return logits, same


def test_saving_with_the_function(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = nnsight.save(model.transformer.h[2].output)
            size = nnsight.save(h.shape)
        return h, tuple(size)


def test_a_list_of_all_layers(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            layers = [layer.output for layer in model.transformer.h].save()
        return layers


def test_appending_to_a_list_of_the_program(twice):
    @twice
    def block(model, backend):
        found = []
        with model.trace(PROMPT, backend=backend):
            for layer in model.transformer.h:
                found.append(layer.mlp.output.mean().save())
        return found


def test_dicts_and_nested_containers(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            found = dict().save()
            for number, layer in enumerate(model.transformer.h):
                found[f"layer{number}"] = {"attn": layer.attn.output[0][0, -1], "both": (layer.output, number)}
        return found


def test_the_logit_lens(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            tokens = []
            for layer in model.transformer.h:
                logits = model.lm_head(model.transformer.ln_f(layer.output))
                tokens.append(F.softmax(logits, dim=-1).max(dim=-1))
            probabilities = torch.cat([token.values for token in tokens]).save()
            ids = torch.cat([token.indices for token in tokens]).save()
        return probabilities, ids


def test_weights_read_in_the_block(gpt2):
    @gpt2.twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            direction = model.lm_head.weight[11] - model.lm_head.weight[7]
            h = model.transformer.ln_f.output
            score = (h @ direction).save()
            norm = model.transformer.wte.weight[:5].norm(dim=-1).save()
        return score, norm

    assert "param.read" in {node.op for node in gpt2.backend.graph.nodes}


def test_functions_of_the_program_are_called(twice):
    def entropy(logits):
        p = logits.softmax(-1)
        return -(p * (p + 1e-9).log()).sum(-1)

    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = entropy(model.lm_head.output).save()
        return h


def test_sizes_are_plain_integers(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            q = model.transformer.h[0].attn.c_attn.output
            batch, length, width = q.shape
            heads = q.split(width // 3, dim=-1)[0].view(batch, length, 4, -1).transpose(1, 2)
            middle = heads[:, :, length // 2].save()
            count = nnsight.save(q.size(1) + len(q))
        return middle, count


def test_tensors_of_the_program(twice):
    probe, large = torch.linspace(-1, 1, 120).view(24, 5), torch.linspace(-3, 2, 48_000).sin().view(24, 2000)

    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output
            scores = (h @ probe).save()
            wide = torch.matmul(h, large).amax(-1).save()
            scaled = (probe.T @ h[0, -1] * 2.0 - 1).save()
        return scores, wide, scaled


def test_a_tensor_of_the_program_is_filled(twice):
    @twice
    def block(model, backend):
        found = torch.zeros(3, 24)
        part = found[1:]
        with model.trace(PROMPT, backend=backend):
            for number, layer in enumerate(model.transformer.h):
                found[number] = layer.output[0, -1]
            found += 1.0
        return found, part


def test_token_ids_and_encodings_as_prompts(twice, gpt2):
    encoding = gpt2.tokenizer(PROMPT, return_tensors="pt")

    @twice
    def block(model, backend):
        with model.trace([5, 6, 7], backend=backend):
            a = model.transformer.h[0].output.save()
        with model.trace(torch.tensor([[5, 6, 7, 8]]), backend=backend):
            b = model.transformer.h[0].output.save()
        with model.trace(encoding, backend=backend):
            c = model.transformer.h[0].output.save()
        return a, b, c


def test_options_of_the_tokenizer(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, add_special_tokens=False, backend=backend):
            a = model.transformer.h[1].output.save()
        with model.trace(PROMPT, truncation=True, max_length=4, backend=backend):
            b = model.transformer.h[1].output.save()
        return a, b


def test_what_the_model_is_called_with(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            args, kwargs = model.inputs
            names = sorted(kwargs).save()
            ids = kwargs["input_ids"].save()
            same = model.transformer.wte.input.save()
        return names, ids, same


def test_a_model_without_weights(gpt2):
    from nnsight import NNsight
    from transformers import GPT2LMHeadModel

    with torch.device("meta"):
        empty = GPT2LMHeadModel(gpt2.model.config)
    bare = NNsight(empty)
    direction = torch.linspace(-1, 1, 24)

    @gpt2.twice
    def block(model, backend):
        model = model if backend is None else bare
        with model.trace(torch.tensor([[5, 6, 7]]), backend=backend):
            model.transformer.h[1].output[:] += direction.to(next(model._module.parameters()).device)
            logits = model.lm_head.output.save()
        return logits


def test_other_names_for_modules(gpt2):
    from nnsight.modeling.transformers import TransformersModel

    names = {"transformer": "model", "h": "layers", "mlp": "ff"}
    other = TransformersModel(gpt2.model._module, tokenizer=gpt2.tokenizer, task="text-generation", rename=names)

    @gpt2.twice
    def block(_, backend):
        with other.trace(PROMPT, backend=backend):
            ff = other.model.layers[1].ff.output.save()
            other.model.layers[1].output[:, -1] += 1
            logits = other.lm_head.output.save()
        return ff, logits


def test_containers_that_are_saved_inside_others(twice):
    @twice
    def block(model, backend):
        found = {}
        with model.trace(PROMPT, backend=backend):
            first = model.transformer.h[0].output.save()
            found["x"] = {"y": [first, [model.transformer.h[1].output].save()]}
        return found


def test_printing_in_a_block(gpt2, capsys):
    with gpt2.model.trace(PROMPT, backend=gpt2.backend):
        print(gpt2.model.transformer.h[0].output)
        gpt2.model.lm_head.output.save()
    assert capsys.readouterr().out == "<value of the trace: float32[1, 11, 24], without numbers until it has run>\n"


def test_hidden_states_that_the_model_returns(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, output_hidden_states=True, backend=backend):
            states = model.output.hidden_states
            first, last = states[0].save(), states[2].save()
            count = nnsight.save(len(states))
        return first, last, count


def test_a_cache_of_modules(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend) as tracer:
            cache = tracer.cache(modules=[model.transformer.h[0], model.transformer.h[1].mlp], include_inputs=True)
            model.transformer.h[0].output *= 2.0
        h = cache["model.transformer.h.0"]
        return h.output, h.input, cache.model.transformer.h[1].mlp.output


def test_a_cache_of_every_module(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend) as tracer:
            cache = tracer.cache()
        names = [name for name in cache.keys() if not name.endswith(("attn", "model"))]
        return {name: cache[name].output for name in names if isinstance(cache[name].output, torch.Tensor)}


def test_stopping_early(gpt2):
    @gpt2.twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend) as tracer:
            h = model.transformer.h[0].output.save()
            tracer.stop()
        return h

    assert gpt2.backend.result.cost.n_layers_run == 1


def test_names_of_paths(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.get("transformer.h.1.mlp.output").save()
        return h


def test_llama_blocks(llama):
    @llama.twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            q = model.model.layers[0].self_attn.q_proj.output.save()
            cos = model.model.layers[1].inputs[1]["position_embeddings"][0].save()
            out = model.model.layers[1].self_attn.output[0].save()
            mid = model.model.layers[1].post_attention_layernorm.input.save()
            gate = model.model.layers[1].mlp.gate_proj.output.save()
            h = model.model.layers[1].output.save()
            top = model.lm_head.output[0, -1].topk(4).save()
        return q, cos, out, mid, gate, h, tuple(top)
