"""What is put in a place of the model, and rows of a batch: who sees a change and who does not."""

import torch

PROMPT = "Elena Marsh was born in"
BATCH = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])


def test_an_input_that_was_set_is_changed_in_place(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            new = model.transformer.h[1].mlp.input * 2
            model.transformer.h[1].mlp.input = new
            new[:, -1] += 1.0
            into = model.transformer.h[1].mlp.c_fc.input.save()
            logits = model.lm_head.output.save()
        return into, logits


def test_a_place_is_set_back_to_what_it_was(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            old = model.transformer.h[1].mlp.c_proj.output
            model.transformer.h[1].mlp.c_proj.output = old * 0
            model.transformer.h[1].mlp.output = old
            logits = model.lm_head.output.save()
        return logits


def test_what_was_replaced_reaches_the_model_no_longer(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            first = model.transformer.h[1].output * 2
            model.transformer.h[1].output = first
            second = first + 1
            model.transformer.h[1].output = second
            second[:, 0] = 0
            first[:] = 0
            logits = model.lm_head.output.save()
        return logits


def test_the_old_value_goes_on_by_the_other_ways(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            stream = model.transformer.h[1].ln_1.input
            model.transformer.h[1].ln_1.input = stream * 0.5
            stream[:, 1:] *= 2.0
            normed = model.transformer.h[1].ln_1.output.save()
            logits = model.lm_head.output.save()
        return normed, logits


def test_a_change_in_place_behind_another_invokes_swap(llama):
    @llama.twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            barrier = tracer.barrier(2)
            layer = model.model.layers[1]
            with tracer.invoke([1, 2, 3]):
                normed = layer.input_layernorm.output
                barrier()
                barrier()
                normed += 1
                q, k = layer.self_attn.q_proj.output.save(), layer.self_attn.k_proj.output.save()
            with tracer.invoke([4, 5, 6]):
                barrier()
                layer.self_attn.q_proj.input = layer.self_attn.q_proj.input * 3
                barrier()
                logits = model.lm_head.output.save()
        return q, k, logits


def test_rows_of_two_invokes_are_put_at_one_place(llama):
    @llama.twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            barrier = tracer.barrier(2)
            layer = model.model.layers[1]
            with tracer.invoke([1, 2, 3]):
                normed = layer.input_layernorm.output
                layer.self_attn.q_proj.input = normed * 2
                barrier()
                barrier()
                normed += 1
                logits = model.lm_head.output.save()
            with tracer.invoke([4, 5, 6]):
                barrier()
                layer.self_attn.q_proj.input = layer.self_attn.q_proj.input * 3
                barrier()
                other = model.lm_head.output.save()
        return logits, other


def test_the_old_value_of_a_place_that_was_set(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            old = model.transformer.h[1].output.save()
            model.transformer.h[1].output = torch.ones(1, 11, 24)
            logits = model.lm_head.output.save()
        return old, logits


def test_views_of_some_rows(twice):
    @twice
    def block(model, backend):
        with model.trace(BATCH, backend=backend):
            h = model.transformer.h[1].output
            h[1:][:, -1] *= 2
            h[::2][1][0] = 0
            h[1:][1:][..., :3].add_(1)
            h.view(3, 3, 4, 6)[1:, :, 2] -= 1
            seen = [h[:0], h[None], h[:, None][2], h[1:][0], h[1:, 0], h[2]].save()
            logits = model.lm_head.output.save()
        return seen, logits


def test_rows_in_another_order(twice):
    @twice
    def block(model, backend):
        with model.trace(BATCH, backend=backend):
            h = model.transformer.h[1].output
            model.transformer.h[1].output = torch.cat([h[1:], h[:1] * 2])
            longer = torch.cat([h[1:], torch.ones(2, 3, 24), h[0, None] * 2]).save()
            logits = model.lm_head.output.save()
        return longer, logits


def test_a_gradient_with_respect_to_what_was_detached_and_put(twice):
    @twice
    def block(model, backend):
        found = []
        for scale in (0.25, 0.5, 1.0):
            with model.trace(PROMPT, backend=backend):
                h = model.transformer.h[0].output
                leaf = (h * scale if scale < 1.0 else h).detach()
                leaf.requires_grad_(True)
                model.transformer.h[0].output = leaf
                loss = model.lm_head.output[0, -1].max()
                with loss.backward():
                    found.append(leaf.grad.save())
        return found


def test_attention_probabilities_beside_an_output(gpt2):
    gpt2.model._module.set_attn_implementation("eager")
    try:

        @gpt2.twice
        def block(model, backend):
            with model.trace(PROMPT, backend=backend):
                out, pattern = model.transformer.h[1].attn.output
                model.transformer.h[1].attn.output = (out * 2, pattern * 0)
                again = model.transformer.h[1].attn.output[1].save()
                logits = model.lm_head.output.save()
            with model.trace(PROMPT, output_attentions=True, backend=backend):
                patterns = [pattern for pattern in model.output.attentions].save()
            return again, logits, patterns
    finally:
        gpt2.model._module.set_attn_implementation("sdpa")

    @gpt2.twice
    def none(model, backend):
        with model.trace(PROMPT, backend=backend):
            known = [model.transformer.h[1].attn.output[1] is None].save()
        return known


def test_masks_of_the_program(twice):
    places = torch.zeros(1, 11, dtype=torch.bool)
    places[0, [2, 5]] = True

    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output
            h[places] = torch.arange(24.0)
            h[places] *= torch.linspace(-1, 1, 48).view(2, 24)
            h[0, places[0], 3] = 2.0
            h[0][~places[0]] += 1
            h[h[..., 0] > 0] = torch.arange(24.0)
            h[h > 4] = h.mean()
            logits = model.lm_head.output.save()
        return logits


def test_views_of_views_are_changed_with_operators(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output
            h[0][-3:][0] += 2
            h[0, 1:3].t()[3] = 0
            h[:, 1:3][:, 0] -= h[:, 5]
            h.flatten()[5:9] = 1
            h.permute(2, 1, 0)[7] *= 3
            h += h

            logits = model.lm_head.output.save()
        return logits
