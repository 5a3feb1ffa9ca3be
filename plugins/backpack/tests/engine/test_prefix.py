"""Edits that depend on the text so far: as it is written, what a pass over the whole text gives."""

import numpy as np

PROMPTS = ("The nurse said that she", "The dog ate")
N = 5


def fade(t):
    """The factors of a topic, 1.5 everywhere, as they have faded by now."""
    ids = t.prefix_ids
    senses = t.call("backpack.sense_table", ids)
    rows = t.call("backpack.gpt2_model.wte", ids)
    factors = 1.5 + 0.0 * senses.sum(-1)
    t.sense_weights = t.ops.backpack.anneal(t.sense_weights, senses, rows, factors, strongest=1.5)


def test_what_fades_with_the_text_fades_alike_while_it_is_written(model):
    with model.generate(max_new_tokens=N, ignore_eos=True) as g:
        for at, text in enumerate(PROMPTS):
            prompt = g.prompt(text)
            fade(prompt)
            g.save(**{f"x{at}": prompt.logits[:, -1]})
    for at, text in enumerate(PROMPTS):
        ids = (*model.tokenize(text).ids, *g.result.generated[at].token_ids)
        with model.trace() as t:
            plain, faded = t.prompt(ids), t.prompt(ids)
            fade(faded)
            t.save(plain=plain.logits, faded=faded.logits)
        whole, untouched = (t.result[name][0, -N - 1 : -1] for name in ("faded", "plain"))
        assert np.abs(untouched - whole).max() > 1e-2 * np.abs(whole).max()
        assert np.abs(g.result[f"x{at}"].reshape(whole.shape) - whole).max() <= 1e-10 * np.abs(whole).max()
