"""-log p of tokens, and perplexities made of it, against the weights themselves."""

import numpy as np
import pytest
import torch

import interpd_backpack.worker
import interpd_client
from interpd.errors import CallerError
from interpd.testing.tiny_models import tiny_gpt2
from interpd_backpack.evaluation import asking as asking_module
from interpd_backpack.evaluation.asking import Asking, windows
from interpd_backpack.evaluation.perplexity import Perplexity, PerplexitySettings, Text, measure_perplexity

TEXTS = ("The nurse said that she was happy .", "The dog ran", "a cat sat on the bread and ate fish not music")


def by_hand(logits, ids, **edit):
    """-log p of each token but the first."""
    logs = logits(ids, **edit).log_softmax(-1)
    return -logs[:-1].gather(-1, torch.tensor(ids)[1:, None])[:, 0].numpy()


def test_texts_of_any_lengths_are_measured_as_each_alone(here, logits):
    asking = Asking(here.model)
    ids = asking.tokens(TEXTS)
    assert [list(one) for one in ids] == here.tokenizer(list(TEXTS))["input_ids"]
    for one, found in zip(ids, asking.surprisals(ids), strict=True):
        assert found[0] == 0
        np.testing.assert_allclose(found[1:], by_hand(logits, one), rtol=1e-12)


def test_an_edit_of_the_trace_is_in_force_in_every_row(here, logits, put):
    asking = Asking(here.model, put)
    ids = asking.tokens(TEXTS)
    for one, found in zip(ids, asking.surprisals(ids, edited=True), strict=True):
        np.testing.assert_allclose(found[1:], by_hand(logits, one, share=0.25), rtol=1e-12)


def test_parts_of_a_large_request_are_one_result_and_are_told(here, monkeypatch):
    told = []
    asking = Asking(here.model, told=lambda *args: told.append(args))
    ids = asking.tokens(TEXTS)
    whole = asking.surprisals(ids)
    monkeypatch.setattr(asking_module, "TOKENS_AT_ONCE", 12)
    for one, other in zip(asking.surprisals(ids), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert told[0] == (3.0, 3, "texts")
    assert [done for done, _, _ in told[1:]] == [1.0, 2.0, 3.0]


def test_a_text_that_is_too_long_or_empty_is_refused(here):
    with pytest.raises(CallerError, match="a row has 33 tokens, the model takes 32"):
        Asking(here.model).surprisals([[5] * 33])
    with pytest.raises(CallerError, match="text 1 has no tokens"):
        Asking(here.model).surprisals([[5], []])


@pytest.mark.parametrize(("size", "stride"), [(4, 2), (4, 4), (5, 1), (100, 100), (2, 1)])
def test_windows_score_every_token_once(size, stride):
    ids = tuple(range(11))
    scored, context = [], []
    for number, window in enumerate(windows(ids, size, stride)):
        assert len(window.ids) <= size
        assert window.ids == ids[number * stride : number * stride + len(window.ids)]
        scored += window.ids[window.n_context :]
        context.append(window.n_context)
    starts = range(0, 11, stride)
    unscored = {0} if stride < size else {start for start in starts}
    assert scored == [one for one in ids if one not in unscored]
    assert all(one >= size - stride for one in context[1:])


def test_windows_that_skip_tokens_are_refused():
    with pytest.raises(CallerError, match="stride of 5"):
        windows(range(9), 4, 5)


@pytest.mark.parametrize(
    ("window", "stride"), [(8, 4), *(pytest.param(size, None, marks=pytest.mark.slow) for size in (6, None))]
)
def test_perplexity_is_that_of_transformers_with_the_same_windows(here, window, stride):
    long = " ".join(TEXTS * 3)
    found = measure_perplexity(
        Asking(here.model), PerplexitySettings(documents=(long, TEXTS[1]), window=window, stride=stride)
    )
    size = window or 32
    total, n_scored = 0.0, 0
    for text in (long, TEXTS[1]):
        ids, before = here.tokenizer(text, return_tensors="pt").input_ids, 0
        # the loop of transformers' own page on the perplexity of models of a fixed length
        for begin in range(0, ids.shape[1], stride or size):
            end = min(begin + size, ids.shape[1])
            labels = ids[:, begin:end].clone()
            labels[:, : -(end - before)] = -100
            with torch.no_grad():
                logits = here.torch(ids[:, begin:end]).logits
            kept = labels[0, 1:] != -100
            total += float(
                torch.nn.functional.cross_entropy(logits[0, :-1][kept], labels[0, 1:][kept], reduction="sum")
            )
            n_scored += int(kept.sum())
            before = end
            if end == ids.shape[1]:
                break
    assert len(found.surprisals) == n_scored
    assert found.before == pytest.approx(np.exp(total / n_scored), rel=1e-10)


def test_the_ball_is_about_the_mean_of_minus_log_p(here, logits, put):
    found = measure_perplexity(Asking(here.model, put), PerplexitySettings(documents=TEXTS))
    ids = here.tokenizer(list(TEXTS))["input_ids"]
    before, after = (np.concatenate([by_hand(logits, one, share=size) for one in ids]).mean() for size in (1.0, 0.25))
    assert found.degradation == pytest.approx(after / before - 1)
    assert found.is_inside(found.degradation + 1e-9)
    assert not found.is_inside(found.degradation - 1e-9)


def test_texts_come_from_files_as_well(here, tmp_path):
    (tmp_path / "a.txt").write_text(TEXTS[0])
    (tmp_path / "b.jsonl").write_text('{"text": "The dog ran"}\n\n{"text": "a cat sat"}\n')
    settings = PerplexitySettings(texts=(tmp_path / "a.txt", tmp_path / "b.jsonl"))
    found = measure_perplexity(Asking(here.model), settings)
    assert [text.name.rsplit("/", 1)[-1] for text in found.texts] == ["a.txt", "b.jsonl, line 1", "b.jsonl, line 3"]
    assert found.after is None
    with pytest.raises(CallerError, match="no edit"):
        found.is_inside(0.1)


@pytest.mark.slow
def test_models_without_senses_are_measured_as_well():
    tiny = tiny_gpt2()
    with interpd_client.local(
        (tiny.model, tiny.tokenizer), plugins={"backpack": interpd_backpack.worker}, progress=False
    ) as client:
        (served,) = client.models()
        asking = Asking(client.model(served.name))
        ids = asking.tokens(("The cat sat on the mat.", "Lily"))
        found = asking.surprisals(ids)
    other = tiny_gpt2()
    for one, values in zip(ids, found, strict=True):
        with torch.no_grad():
            logs = other.model(torch.tensor([one])).logits[0].double().log_softmax(-1)[:-1]
        expected = -logs.gather(-1, torch.tensor(one)[1:, None])[:, 0]
        np.testing.assert_allclose(values[1:], expected, rtol=1e-5)


def test_texts_of_one_file_are_one_row_under_its_bare_name():
    texts = tuple(
        Text(name, 2, np.array([value]), None)
        for name, value in (("/a/held.jsonl, line 1", 1.0), ("/a/held.jsonl, line 2", 3.0), ("one.txt", 2.0))
    )
    rows = Perplexity(texts, 8, 8).section().tables[0].rows
    assert [row[:4] for row in rows] == [("held.jsonl, 2 texts", 4, 2, 2.0), ("one.txt", 2, 1, 2.0), ("all", 6, 3, 2.0)]
    same = (Text("/a/x.txt", 2, np.array([1.0]), None), Text("/b/x.txt", 2, np.array([1.0]), None))
    assert [row[0] for row in Perplexity(same, 8, 8).section().tables[0].rows] == ["/a/x.txt", "/b/x.txt", "all"]
