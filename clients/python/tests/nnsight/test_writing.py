"""Writes: assignments, changes in place, views and what shares their memory."""

import pytest
import torch

PROMPT = "Elena Marsh was born in"


def test_zeroing_an_output(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            model.transformer.h[0].mlp.output[:] = 0
            logits = model.lm_head.output.save()
        return logits


def test_setting_an_output(twice):
    steering = torch.linspace(-1, 1, 24)

    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output
            model.transformer.h[1].output = h + 2.0 * steering
            after = model.transformer.h[1].output.save()
            logits = model.lm_head.output.save()
        return after, logits


def test_adding_to_a_position(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            model.transformer.h[1].output[:, -1] += 3.0
            logits = model.lm_head.output.save()
        return logits


def test_augmented_assignment_of_an_output(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            model.transformer.h[1].mlp.output *= 0.5
            logits = model.lm_head.output.save()
        return logits


def test_an_item_of_a_tuple(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            model.transformer.h[1].attn.output[0][:, 2:4, :] = 0
            logits = model.lm_head.output.save()
        return logits


def test_a_whole_tuple(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            out = model.transformer.h[1].attn.output
            model.transformer.h[1].attn.output = (out[0] * 2, out[1])
            logits = model.lm_head.output.save()
        return logits


def test_setting_an_input(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            model.transformer.h[1].mlp.input = model.transformer.h[1].mlp.input * 3
            model.transformer.h[2].ln_1.input = torch.zeros(1, 11, 24)
            logits = model.lm_head.output.save()
        return logits


def test_setting_all_inputs(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            args, kwargs = model.transformer.h[1].inputs
            model.transformer.h[1].inputs = ((args[0] + 1, *args[1:]), kwargs)
            logits = model.lm_head.output.save()
        return logits


def test_changing_an_input_in_place_reaches_the_residual_stream(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            model.transformer.h[1].ln_1.input[:, -1] = 0
            logits = model.lm_head.output.save()
        return logits


def test_setting_an_input_reaches_only_the_norm(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            x = model.transformer.h[1].ln_2.input
            model.transformer.h[1].ln_2.input = x * 0
            logits = model.lm_head.output.save()
        return logits


def test_changing_the_middle_of_a_block_in_place(gpt2):
    @gpt2.twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            model.transformer.h[1].ln_2.input[:, 1:] *= 0.25
            logits = model.lm_head.output.save()
        return logits

    assert "layers.1.resid_mid" in {node.params.get("site") for node in gpt2.backend.graph.nodes}


def test_a_view_that_is_changed_changes_the_model(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output
            last = h[:, -1]
            last += 1.0
            last.mul_(2.0)
            seen = h.clone().save()
            logits = model.lm_head.output.save()
        return seen, logits


def test_an_earlier_name_shows_later_changes(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output.save()
            before = h.clone().save()
            model.transformer.h[1].output[:, 0] = 7.0
            also = model.transformer.h[1].output.save()
        return h, before, also


def test_views_of_views(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            q = model.transformer.h[1].attn.c_attn.output
            heads = q.view(1, q.shape[1], 3, 4, 6).transpose(2, 3)
            heads[:, :, 1, 0] = 0
            head = heads.select(2, 2).movedim(-1, 1).squeeze(0)[..., 1]
            head.copy_(head.flip(0))
            logits = model.lm_head.output.save()
        return logits


def test_the_pattern_of_a_head_is_zeroed(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            z = model.transformer.h[1].attn.c_proj.input
            z.reshape(1, -1, 4, 6)[:, :, 2, :] = 0
            logits = model.lm_head.output.save()
        return logits


def test_pieces_of_a_split_are_views(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            with torch.no_grad():
                q, k, v = model.transformer.h[1].attn.c_attn.output.split(24, dim=-1)
                v[:] = 0
                k.chunk(2, -1)[1].add_(1.0)
            logits = model.lm_head.output.save()
        return logits


def test_a_detached_tensor_is_the_same_memory(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            model.transformer.h[1].output.detach()[0].fill_(0.5)
            model.transformer.h[2].mlp.output.data[:, -1] = 0
            logits = model.lm_head.output.save()
        return logits


def test_a_clone_is_not(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output.clone()
            h[:] = 0
            logits = model.lm_head.output.save()
        return logits


def test_a_change_after_the_module_was_passed_stays_in_the_block(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[0].output
            later = model.transformer.h[2].output.save()
            h[:] = 0
            h = h.save()
            logits = model.lm_head.output.save()
        return h, later, logits


def test_what_an_output_was_set_to_can_still_be_changed(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            new = model.transformer.h[1].output * 2
            model.transformer.h[1].output = new
            new[:, 0] = 0
            same = model.transformer.h[2].input.save()
            logits = model.lm_head.output.save()
        return same, logits


def test_indices_lists_and_masks(twice):
    mask = torch.zeros(1, 11, 24, dtype=torch.bool)
    mask[0, 3:5, ::2] = True

    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[0].output
            h[:, [1, 3]] = h[:, [3, 1]]
            h[mask] = 0.0
            h[0, torch.tensor([0, 2])] += 1
            h[h > 2] = 2
            model.transformer.h[1].output[..., 5] = model.transformer.h[1].output[..., torch.tensor([6])].squeeze(-1)
            picked = h[:, torch.tensor([[0, 1], [2, 3]])].save()
            logits = model.lm_head.output.save()
        return picked, logits


def test_skipping_a_module(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            model.transformer.h[1].skip(model.transformer.h[1].input)
            seen = model.transformer.h[1].output.save()
            logits = model.lm_head.output.save()
        return seen, logits


def test_a_module_inside_a_skipped_one_is_not_reached(gpt2):
    from nnsight.intervention.interleaver import OutOfOrderError

    for backend in (None, gpt2.backend):
        with pytest.raises(OutOfOrderError, match=r"h\.1\.mlp\.output"):
            with gpt2.model.trace(PROMPT, backend=backend):
                gpt2.model.transformer.h[1].skip(gpt2.model.transformer.h[1].input)
                gpt2.model.transformer.h[1].mlp.output.save()


def test_the_order_of_modules_is_the_models(gpt2):
    from nnsight.intervention.interleaver import OutOfOrderError

    for backend in (None, gpt2.backend):
        with pytest.raises(OutOfOrderError, match=r"h\.0\.output") as caught:
            with gpt2.model.trace(PROMPT, backend=backend):
                gpt2.model.transformer.h[1].output.save()
                gpt2.model.transformer.h[0].output.save()
        assert caught.traceback[-1].path.name == "test_writing.py" or backend is None


def test_ablation_in_a_loop(twice):
    @twice
    def block(model, backend):
        found = []
        for number in range(3):
            with model.trace(PROMPT, backend=backend):
                out = model.transformer.h[number].mlp.output
                out[:] = out.mean(dim=1, keepdim=True)
                found.append(model.lm_head.output[:, -1].save())
        return found


def test_random_numbers_are_the_programs(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.wte.output
            h += torch.randn_like(h) * 0.1
            h[:, 0].normal_()
            logits = model.lm_head.output.save()
        return logits


def test_llama_writes(llama):
    @llama.twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            model.model.layers[0].self_attn.v_proj.output[:, 2:] = 0
            model.model.layers[0].post_attention_layernorm.input[:, -1] *= 2
            model.model.layers[1].input[:] += 0.1
            model.model.layers[1].self_attn.output[0][:] *= 2
            logits = model.lm_head.output.save()
        return logits
