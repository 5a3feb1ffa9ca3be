"""Sessions, edits and scans."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

PROMPT = "Elena Marsh was born in"


def test_values_flow_between_the_traces_of_a_session(gpt2):
    @gpt2.twice
    def block(model, backend):
        with model.session(backend=backend):
            with model.trace(PROMPT):
                h = model.transformer.h[2].output
            scaled = h * 2
            with model.trace("Pavel Marsh was born on"):
                model.transformer.h[0].output[:, -1] = scaled[:, -1]
                logits = model.lm_head.output.save()
            mean = scaled.mean().save()
        return logits, mean

    # one request of two passes, as the second prompt needs what the end of the first one gave
    assert gpt2.backend.result.cost.n_passes == 2


def test_a_loop_of_traces_in_a_session(twice):
    @twice
    def block(model, backend):
        with model.session(backend=backend):
            found = list().save()
            total = 0
            for number in range(3):
                with model.trace(PROMPT):
                    model.transformer.h[number].output[:] = 0
                    logits = model.lm_head.output[0, -1]
                found.append(logits)
                total = total + logits
            total = total.save()
        return found, total


def test_an_edit_of_a_copy(twice):
    @twice
    def block(model, backend):
        with model.edit() as (tracer, edited):
            edited.transformer.h[1].mlp.output[:] = 0
        with model.trace(PROMPT, backend=backend):
            plain = model.lm_head.output.save()
        with edited.trace(PROMPT, backend=backend):
            h = edited.transformer.h[1].mlp.output.save()
            changed = edited.lm_head.output.save()
        return plain, h, changed


def test_an_edit_in_place(twice):
    @twice
    def block(model, backend):
        with model.edit(inplace=True) as tracer:
            for _ in tracer.iter[:2]:
                model.transformer.h[1].output[:, -1] += 1.0
        try:
            with model.generate(PROMPT, max_new_tokens=3, backend=backend) as tracer:
                ids = tracer.result.save()
        finally:
            model.clear_edits()
        return ids


def test_an_edit_with_a_module_of_the_program(twice):
    @twice
    def block(model, backend):
        torch.manual_seed(1)
        adapter = torch.nn.Sequential(torch.nn.Linear(24, 40), torch.nn.ReLU(), torch.nn.Linear(40, 24))
        with model.edit() as (tracer, edited):
            h = edited.transformer.h[0].output
            edited.transformer.h[0].output = h + adapter(h)
        with edited.trace(PROMPT, backend=backend):
            logits = edited.lm_head.output.save()
        return logits


def test_a_scan_knows_shapes(gpt2):
    model, run = gpt2.model, gpt2.backend.result
    with model.scan(PROMPT, backend=gpt2.backend):
        q = model.transformer.h[0].attn.c_attn.output.save()
        shape = model.transformer.h[1].output.shape.save()
        h = model.transformer.h[1].output.save()
    with model.scan(PROMPT):
        there = model.transformer.h[1].output.shape.save()
    assert shape == there == h.shape
    assert h.is_meta
    assert gpt2.backend.result is run or gpt2.backend.result is None
    assert q.shape == (1, 11, 72)


def test_a_session_that_fails_leaves_nothing_behind(gpt2):
    model = gpt2.model
    with pytest.raises(KeyError, match="mine"):
        with model.session(backend=gpt2.backend):
            with model.trace(PROMPT):
                model.transformer.h[0].output
            raise KeyError("mine")
    with model.trace(PROMPT):
        local = model.transformer.h[0].output.sum().item().save()
    assert isinstance(local, float)


def test_a_trace_of_another_thread_is_not_the_sessions(gpt2):
    from nnsight import NNsight

    model, other = gpt2.model, NNsight(torch.nn.Linear(2, 2))

    def alone():
        with other.trace(torch.ones(1, 2)):
            out = other.output.save()
        return out

    with ThreadPoolExecutor(1) as pool:
        with model.session(backend=gpt2.backend):
            with model.trace(PROMPT):
                model.transformer.h[0].output.save()
            there = pool.submit(alone).result().save()
    torch.testing.assert_close(there, other._module(torch.ones(1, 2)))


def test_a_session_of_one_generation(twice):
    @twice
    def block(model, backend):
        with model.session(backend=backend):
            with model.generate(PROMPT, max_new_tokens=3) as tracer:
                ids = tracer.result.save()
        return ids
