"""Several prompts in one trace: invokes, batches, barriers, values that flow between them, padding."""

import torch
import torch.nn.functional as F

PROMPT = "Elena Marsh was born in"


def test_two_invokes(twice):
    @twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            with tracer.invoke([1, 2, 3, 4]):
                a = model.transformer.h[1].output.save()
                model.transformer.h[1].output[:] = 0
                la = model.lm_head.output.save()
            with tracer.invoke([5, 6, 7, 8]):
                b = model.transformer.h[1].output.save()
                lb = model.lm_head.output.save()
        return a, la, b, lb


def test_patching_between_invokes(twice):
    @twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            barrier = tracer.barrier(2)
            with tracer.invoke([1, 2, 3, 4]):
                clean = model.transformer.h[1].output[:, 2]
                barrier()
            with tracer.invoke([5, 6, 7, 8]):
                barrier()
                model.transformer.h[1].output[:, 2] = clean
                logits = model.lm_head.output[:, -1].save()
        return logits


def test_an_empty_invoke_sees_the_whole_batch(twice):
    @twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            with tracer.invoke([1, 2, 3]):
                a = model.transformer.h[1].output.save()
            with tracer.invoke([4, 5, 6]):
                pass_ = model.transformer.h[0].output.mean().save()
            with tracer.invoke():
                whole = model.transformer.h[1].output.save()
                model.transformer.h[2].output[:, -1] *= 2
                logits = model.lm_head.output.save()
        return a, pass_, whole, logits


def test_rows_of_one_invoke(twice):
    @twice
    def block(model, backend):
        with model.trace(torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]]), backend=backend):
            h = model.transformer.h[1].output.save()
            model.transformer.h[1].output[1:, -1] = model.transformer.h[1].output[0, -1]
            best = model.lm_head.output[:, -1].argmax(-1).save()
            second = model.lm_head.output[1].save()
        return h, best, second


def test_prompts_of_different_lengths_counted_from_the_end(twice):
    @twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            with tracer.invoke(PROMPT):
                whole = model.transformer.h[1].mlp.output.save()
                h = model.transformer.h[1].output[:, -1].save()
            with tracer.invoke("The cat"):
                model.transformer.h[0].output[:, -2:] *= 2.0
                lens = model.lm_head(model.transformer.ln_f(model.transformer.h[2].output))[:, -2:].save()
                p = model.lm_head.output.softmax(-1)[0, -1].topk(3).values.save()
                length = model.lm_head.output.shape[1]
                last = model.lm_head.output[0][length - 1].argmax().save()
        return h, whole, p, lens, last


def test_functions_of_every_position_of_a_shorter_prompt(twice):
    matrix, ramp = torch.linspace(-1, 1, 24 * 7).view(24, 7), torch.arange(7.0)
    layer = torch.nn.Linear(24, 5)

    @twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            with tracer.invoke([1, 2, 3, 4, 5, 6, 7]):
                whole = model.transformer.h[1].output.save()
            with tracer.invoke([1, 2, 3, 4]):
                h = model.transformer.h[1].output
                products = [h @ matrix, layer(h), F.linear(h, matrix.T), h @ model.lm_head.weight.T]
                reduced = [h.std(-1, True), h.std(-1), h.norm(2, -1), h.sum(-1, True), h.max(-1, True).values]
                ordered = [h.sort(-1, True).values, h.topk(3, -1, False).values, h.quantile(0.3, -1, True)]
                ended = [value[:, -1] for value in (*products, *reduced, *ordered, h * ramp[:, None])].save()
                copy = h.clone()
                copy.mT[:] = ramp
                last = copy[:, -1].save()
                h.transpose(1, 2)[:] = ramp
                logits = model.lm_head.output[:, -1].save()
        return whole, ended, last, logits


def test_a_batch_of_texts_of_different_lengths(twice):
    @twice
    def block(model, backend):
        with model.trace([PROMPT, "The cat"], backend=backend):
            last = model.transformer.h[1].output[:, -1].save()
            best = model.lm_head.output[:, -1].argmax(-1).save()
        return last, best


def test_the_ids_of_texts_of_different_lengths(twice):
    @twice
    def block(model, backend):
        with model.trace([PROMPT, "The cat"], backend=backend):
            ids = model.transformer.wte.input.save()
        return ids


def test_values_of_a_longer_prompt_in_a_shorter_one(twice):
    @twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            barrier = tracer.barrier(2)
            with tracer.invoke(PROMPT):
                source = model.transformer.h[0].output[:, -1]
                barrier()
            with tracer.invoke("The cat"):
                barrier()
                model.transformer.h[1].output[:, -1] = source
                logits = model.lm_head.output[:, -1].save()
        return logits


def test_skipping_in_every_invoke(twice):
    @twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            with tracer.invoke([1, 2, 3]):
                model.transformer.h[1].skip(model.transformer.h[1].input)
                a = model.lm_head.output.save()
            with tracer.invoke([4, 5, 6]):
                model.transformer.h[1].skip(model.transformer.h[1].input * 2)
                b = model.lm_head.output.save()
        return a, b


def test_a_list_shared_by_invokes(twice):
    @twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            found = list().save()
            for ids in ([1, 2, 3], [4, 5, 6], [7, 8, 9]):
                with tracer.invoke(ids):
                    found.append(model.transformer.h[0].output[0, -1])
        return found


def test_a_whole_value_of_another_invoke(twice):
    @twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            barrier = tracer.barrier(2)
            with tracer.invoke([1, 2, 3]):
                embeddings = model.transformer.wte.output
                barrier()
            with tracer.invoke([9, 9, 9]):
                barrier()
                model.transformer.wte.output = embeddings
                logits = model.lm_head.output.save()
        return logits
