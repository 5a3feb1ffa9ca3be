"""Generations: steps, writes while tokens come, results, and ends that come early."""

import pytest
import torch

PROMPT = "Elena Marsh was born in"


def test_the_generated_ids(gpt2):
    @gpt2.twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=4, do_sample=False, backend=backend) as tracer:
            ids = tracer.result.save()
            tail = tracer.result[0, -4:].save()
        return ids, tail

    assert gpt2.backend.result.token_ids


def test_hidden_states_of_every_step(twice):
    @twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=4, backend=backend) as tracer:
            found = list().save()
            for step in tracer.iter[:4]:
                found.append(model.transformer.h[1].output[:, -1])
            ids = tracer.result.save()
        return found, ids


def test_shapes_of_the_steps(twice):
    @twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=3, backend=backend) as tracer:
            found = list().save()
            for step in tracer.iter[0:3]:
                found.append((model.transformer.h[0].output, model.lm_head.input, model.lm_head.output))
        return found


def test_steering_every_step(twice):
    @twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=5, backend=backend) as tracer:
            for step in tracer.iter[:5]:
                model.transformer.h[1].output[:, -1] += 4.0
            ids = tracer.result.save()
        return ids


def test_one_step_and_chosen_steps(twice):
    @twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=5, backend=backend) as tracer:
            for step in tracer.iter[[1, 3]]:
                model.transformer.h[0].mlp.output[:] = step * 1.0
            for step in tracer.iter[4]:
                last = model.lm_head.output.save()
            ids = tracer.result.save()
        return last, ids


def test_all_steps_with_a_condition_on_the_step(gpt2):
    @gpt2.twice
    def block(model, backend):
        found = []
        with pytest.warns(UserWarning, match="was never reached"):
            with model.generate(PROMPT, max_new_tokens=4, backend=backend) as tracer:
                for step in tracer.all():
                    if step == 2:
                        model.transformer.h[0].mlp.output *= 0
                    found.append(model.lm_head.output.argmax(-1).save())
        return found


def test_logits_that_are_changed_choose_the_token(twice):
    @twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=3, backend=backend) as tracer:
            for step in tracer.iter[:3]:
                model.lm_head.output[:, :, 7] = 1e4
            ids = tracer.result.save()
        return ids


def test_values_of_one_step_at_the_next(twice):
    @twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=3, backend=backend) as tracer:
            kept = model.transformer.h[1].output[:, -1:]
            for step in tracer.iter[1:3]:
                model.transformer.h[1].output = kept
            ids = tracer.result.save()
        return ids


def test_several_prompts(twice):
    @twice
    def block(model, backend):
        with model.generate(max_new_tokens=3, backend=backend) as tracer:
            with tracer.invoke(PROMPT):
                a = tracer.result.save()
            with tracer.invoke("The cat"):
                for step in tracer.iter[:2]:
                    model.transformer.h[0].output[:, -1] *= 1.5
                b = tracer.result.save()
        return a, b


def test_the_deprecated_output_of_the_generator(twice):
    @twice
    def block(model, backend):
        with pytest.warns(FutureWarning, match="use tracer.result"):
            with model.generate(PROMPT, max_new_tokens=3, backend=backend):
                ids = model.generator.output.save()
        return ids


def test_a_cache_of_all_steps(twice):
    @twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=3, backend=backend) as tracer:
            cache = tracer.cache(modules=["model.transformer.h.1"])
        return cache["model.transformer.h.1"].output, len(cache["model.transformer.h.1"])


def test_the_streamer_sees_every_token(twice):
    @twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=3, backend=backend) as tracer:
            found = list().save()
            for step in tracer.iter[:3]:
                found.append(model.generator.streamer.output)
            ids = tracer.result.save()
        return found, ids


def test_no_more_is_generated_than_the_block_looks_at(gpt2):
    @gpt2.twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=20, backend=backend) as tracer:
            for step in tracer.iter[:2]:
                last = model.transformer.h[0].output[:, -1].save()
        return last

    assert len(gpt2.backend.result.token_ids) == 2


def end_of(bench, n_tokens):
    """The last token of a greedy continuation: as end token, it ends it there."""
    with bench.model.generate(PROMPT, max_new_tokens=n_tokens) as tracer:
        ids = tracer.result.save()
    return int(ids[0, -1])


def test_an_end_token_cuts_a_loop_short(gpt2):
    end = end_of(gpt2, 2)

    @gpt2.twice
    def block(model, backend):
        kept, after = [], None
        with pytest.warns(UserWarning):
            with model.generate(PROMPT, max_new_tokens=6, eos_token_id=end, backend=backend) as tracer:
                found = list().save()
                for step in tracer.iter[:6]:
                    last = model.lm_head.output[0, -1].max().save()
                    found.append(last)
                    kept.append(last)
                after = torch.ones(1).save()
        return found, kept, last, after


def test_an_end_token_and_nothing_cut(gpt2):
    end = end_of(gpt2, 3)

    @gpt2.twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=8, eos_token_id=end, backend=backend) as tracer:
            first = model.lm_head.output.save()
            ids = tracer.result.save()
            new = tracer.result[:, first.shape[0] + 2 :].float().mean().save()
        return first, ids, new


def test_the_shape_of_ids_that_may_end_early(gpt2):
    from interpd_client.nnsight import CannotRecord

    with pytest.raises(CannotRecord, match="known after the run"):
        with gpt2.model.generate(PROMPT, max_new_tokens=3, backend=gpt2.backend) as tracer:
            tracer.result.shape[1]


def test_rows_that_end_before_others(gpt2):
    with gpt2.model.generate([[5, 6, 7], [8, 9, 10]], max_new_tokens=6) as tracer:
        ids = tracer.result.save()
    end = int(ids[1, 5])

    @gpt2.twice
    def block(model, backend):
        with model.generate(
            [[5, 6, 7], [8, 9, 10]], max_new_tokens=6, eos_token_id=end, pad_token_id=3, backend=backend
        ) as tracer:
            out = tracer.result.save()
        return out


def test_a_least_length(gpt2):
    end = end_of(gpt2, 2)

    @gpt2.twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=5, min_new_tokens=4, eos_token_id=end, backend=backend) as tracer:
            found = list().save()
            for step in tracer.iter[:4]:
                found.append(model.lm_head.output)
            ids = tracer.result.save()
        return found, ids


def test_sampling_follows_the_programs_seed(gpt2):
    def draw(seed):
        torch.manual_seed(seed)
        with gpt2.model.generate(PROMPT, max_new_tokens=8, do_sample=True, backend=gpt2.backend) as tracer:
            ids = tracer.result.save()
        return ids.tolist()

    assert draw(1) == draw(1) != draw(2)


def test_llama_generates(llama):
    @llama.twice
    def block(model, backend):
        with model.generate(PROMPT, max_new_tokens=4, backend=backend) as tracer:
            for step in tracer.iter[:4]:
                model.model.layers[1].self_attn.output[0][:, -1] += 0.5
                model.model.layers[2].output[:] = model.model.layers[2].output * 1.1
            ids = tracer.result.save()
        return ids
