"""Gradients: read, edited, of several places, in batches."""

import torch
import torch.nn.functional as F

PROMPT = "Elena Marsh was born in"


def test_gradients_of_hidden_states(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h0 = model.transformer.h[0].output
            h1 = model.transformer.h[1].output
            loss = model.lm_head.output[:, -1].max()
            with loss.backward():
                g1 = h1.grad.save()
                g0 = h0.grad.save()
        return g0, g1


def test_gradients_of_the_loss_of_a_task(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            attn = model.transformer.h[1].attn.output[0]
            mlp = model.transformer.h[1].mlp.output
            logits = model.output.logits
            loss = F.cross_entropy(logits[0, :-1], torch.arange(logits.shape[1] - 1))
            with loss.backward():
                attribution = (mlp.grad * mlp).sum(-1).save()
                ga = attn.grad.norm().save()
            value = loss.save()
        return attribution, ga, value


def test_a_gradient_that_is_set(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h0 = model.transformer.h[0].output
            h1 = model.transformer.h[1].output
            loss = model.lm_head.output.sum()
            with loss.backward():
                before = h1.grad.clone().save()
                h1.grad = h1.grad * 2
                g0 = h0.grad.save()
        return before, g0


def test_gradients_that_are_edited_twice(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h0 = model.transformer.h[0].output
            h1 = model.transformer.h[1].output
            h2 = model.transformer.h[2].output
            loss = model.lm_head.output.pow(2).mean()
            with loss.backward():
                h2.grad[:, 0] = 0
                h1.grad *= 0.5
                g0 = h0.grad.save()
        return g0


def test_gradients_after_a_write(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output
            h = h * 2 + 1
            model.transformer.h[1].output = h
            loss = model.lm_head.output.mean() + h.pow(2).mean()
            with loss.backward():
                g = h.grad.save()
        return g


def test_gradients_of_the_middle_of_a_block(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            mid = model.transformer.h[1].ln_2.input
            into = model.transformer.h[2].ln_1.input
            loss = model.lm_head.output[0, -1].pow(2).mean()
            with loss.backward():
                g2 = into.grad.save()
                g1 = mid.grad.save()
        return g1, g2


def test_gradients_of_logits_and_of_layers_without_bias(llama):
    @llama.twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            logits = model.lm_head.output
            loss = model.output.logits[0, -1].logsumexp(-1)
            with loss.backward():
                g = logits.grad.save()
        with model.trace(PROMPT, backend=backend):
            logits = model.lm_head.output
            model.lm_head.output = logits * 2
            loss = model.output.logits[0, -1].logsumexp(-1)
            with loss.backward():
                doubled = logits.grad.save()
        return g, doubled


def test_a_gradient_of_a_summand_that_is_set(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output
            mlp = model.transformer.h[2].mlp.output
            loss = model.lm_head.output[0, -1].logsumexp(-1)
            with loss.backward():
                mlp.grad = mlp.grad * 0.5
                g = h.grad.save()
        return g


def test_constants_without_gradients(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output
            with torch.no_grad():
                direction = h / h.norm(dim=-1, keepdim=True)
            loss = (model.lm_head.output[0, -1].max() + h.sum()) * direction.detach().mean()
            with loss.backward():
                g = (h.grad * direction).sum(-1).save()
        return g


def test_gradients_of_two_losses(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            h = model.transformer.h[1].output
            logits = model.lm_head.output
            with logits[0, -1, 3].backward(retain_graph=True):
                a = h.grad.save()
            with logits[0, -1].backward(torch.linspace(0, 1, 321)):
                b = h.grad.save()
        return a, b


def test_gradients_in_invokes(twice):
    @twice
    def block(model, backend):
        with model.trace(backend=backend) as tracer:
            with tracer.invoke([1, 2, 3]):
                h = model.transformer.h[0].output
                loss = model.lm_head.output[:, -1].sum()
                with loss.backward(retain_graph=True):
                    a = h.grad.save()
            with tracer.invoke([4, 5, 6]):
                h2 = model.transformer.h[0].output
                loss2 = model.lm_head.output[:, -1].pow(2).sum()
                with loss2.backward():
                    b = h2.grad.save()
        return a, b


def test_gradients_of_a_batch(twice):
    @twice
    def block(model, backend):
        with model.trace(torch.tensor([[1, 2, 3], [4, 5, 6]]), backend=backend):
            h = model.transformer.h[0].output
            loss = model.lm_head.output[:, -1].pow(2).sum()
            with loss.backward():
                g = h.grad.save()
        return g


def test_the_function_of_autograd(twice):
    @twice
    def block(model, backend):
        with model.trace(PROMPT, backend=backend):
            a, b = model.transformer.h[0].output, model.transformer.h[1].output
            loss = model.lm_head.output.logsumexp(-1).sum()
            ga, gb = torch.autograd.grad(loss, [a, b])
            ga, gb = ga.save(), gb.save()
        return ga, gb
