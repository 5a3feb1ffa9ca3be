"""What Inseq 0.7.1 gets wrong, one test for each of the nineteen behaviours that are not to be copied (X-01 to X-19).

Each test says what Inseq does and asks for what is right instead, of the numbers and texts that a user sees; each fails
where Inseq's behaviour is put in the place of ours.
"""

import inspect
import re
import socket
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from attribution_golden import reading, tiny

import interpd_client
from interpd.cli import main
from interpd.errors import CallerError, InterpdError
from interpd_attribution import inseq_shim, worker
from interpd_attribution.attributions import Attributions
from interpd_attribution.commands import attribute as command
from interpd_attribution.contrast import Contrast
from interpd_attribution.worker import passes
from interpd_attribution.worker.gradient import discretized

SIGNED = {"method": "input_x_gradient", "reduce": "sum"}
PROMPT, CONTINUATION, FOIL = [5, 40, 77, 120, 33], [9, 110, 64], [9, 7, 12]
SOURCE, TARGET = [5, 40, 77, 120], [50, 60, 70]
BEGINNINGS = [[5, 40], [77, 120, 33, 9, 110, 64], [31, 32, 33, 34]]
"""Prompts of different lengths."""


PLUGINS = {"attribution": worker}


def served(name):
    """A model that was loaded as models are by default, with attention that does not show its weights."""
    model = tiny.model(name)
    model.set_attn_implementation("sdpa")
    with interpd_client.local((model, tiny.tokenizer(name)), plugins=PLUGINS, name=name) as client:
        yield client.model(name)


@pytest.fixture(scope="module")
def bare():
    """The models as transformers has them; the same weights as those that are served."""
    return {name: tiny.model(name) for name in tiny.NAMES}


@pytest.fixture(scope="module")
def gpt2():
    yield from served("tiny-gpt2")


@pytest.fixture(scope="module")
def llama():
    yield from served("tiny-llama")


@pytest.fixture(scope="module")
def t5():
    yield from served("tiny-t5")


def ids(tokens):
    return [token.id for token in tokens]


def close(found, expected, atol=1e-6):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=atol)


def logits(model, sequence):
    """Of a bare model, ``[pos d_vocab]``."""
    with torch.no_grad():
        return model(torch.tensor([sequence])).logits[0].double()


def test_x01_generated_ids_are_not_spelled_again(gpt2):
    """Inseq decodes what was generated and encodes the text: it attributes other tokens than were generated."""
    options = {"max_new_tokens": 16, "do_sample": True, "temperature": 3.0, "seed": 16}
    made = gpt2.generate(PROMPT, **options).run()
    assert made.token_ids != gpt2.tokenize(made.text).ids
    assert min(made.token_ids) > tiny.EOS_ID
    out = gpt2.attribute(PROMPT, generation=options, **SIGNED)
    assert ids(out.generated) == list(made.token_ids)
    forced = gpt2.attribute(PROMPT, made.token_ids, **SIGNED)
    np.testing.assert_array_equal(out.scores, forced.scores)
    assert (out.info["constrained_decoding"], forced.info["constrained_decoding"]) == (False, True)


@pytest.mark.slow
def test_x02_texts_generated_in_a_batch_are_those_of_each_alone(gpt2, llama, bare):
    """Inseq gives ``generate`` no mask: shorter texts of a batch go on behind padding."""
    for name, model in (("tiny-gpt2", gpt2), ("tiny-llama", llama)):
        out = model.attribute(BEGINNINGS, generation={"max_new_tokens": 3}, method="dummy", step_scores=["logit"])
        for prompt, one in zip(BEGINNINGS, out, strict=True):
            whole = list(prompt)
            for _ in range(3):
                whole.append(int(logits(bare[name], whole)[-1].argmax()))
            assert ids(one.target) == whole
        assert out.info["input_texts"] == [one.info["input_texts"][0] for one in out]


def test_x03_shorter_texts_of_a_batch_keep_their_positions(gpt2, bare):
    """Inseq pads on the left without position ids: the first token of a shorter text is not at position 0."""
    model, asked = bare["tiny-gpt2"], {**SIGNED, "step_scores": ["probability"]}
    out = gpt2.attribute(BEGINNINGS, [CONTINUATION] * 3, **asked)
    for prompt, one in zip(BEGINNINGS, out, strict=True):
        whole, n = [*prompt, *CONTINUATION], len(prompt)
        vectors = model.transformer.wte.weight[whole].detach().requires_grad_()
        p = model(inputs_embeds=vectors[None]).logits[0].softmax(-1)[range(n - 1, len(whole) - 1), CONTINUATION]
        close(one.step_scores["probability"], p.detach())
        (by,) = torch.autograd.grad(p[0], vectors)
        # sums over the width are rounding on GPT-2, whose norms take the mean away: the largest number is the scale
        close(one.scores[:n, 0], (by * vectors)[:n].sum(-1).detach(), atol=1e-6)


def test_x04_tokenizers_that_add_a_beginning_need_no_forced_text(llama):
    """Inseq raises: what was generated has the beginning, and is said not to start with the prompt."""
    out = llama.attribute("the cat sat", generation={"max_new_tokens": 2}, **SIGNED)
    assert ids(out.source) == list(llama.tokenize("the cat sat").ids)
    assert ids(out.source).count(tiny.BOS_ID) == ids(out.target).count(tiny.BOS_ID) == 1
    assert len(out.generated) == 2


def test_x05_value_zeroing_works_on_this_transformers_and_leaves_no_hooks(gpt2, llama, bare):
    """Inseq fails for GPT-2 and LLaMA, and its hooks stay, so that the next method fails too."""
    for name, model in (("tiny-gpt2", gpt2), ("tiny-llama", llama)):
        golden = reading.golden(f"{name}.value-zeroing")
        wanted = golden.case("cosine/raw")
        ids_, n = golden.sequence("target").ids, golden.start
        found = model.attribute(list(ids_[:n]), list(ids_[n:]), method="value_zeroing")
        # one minus a cosine near one has few digits in float32
        close(found.target_attributions[: len(wanted.target_scores)], wanted.target_scores, atol=5e-4)
        before = model.attribute(PROMPT, CONTINUATION, **SIGNED).scores
        with pytest.raises(InterpdError, match="there is no 7"):
            model.attribute(PROMPT, CONTINUATION, method="value_zeroing", decoder_zeroed_units_indices=(7,))
        np.testing.assert_array_equal(model.attribute(PROMPT, CONTINUATION, **SIGNED).scores, before)


def test_x06_lime_masks_vectors_and_weighs_masks_by_features(llama):
    """Inseq writes the number of a token into all dimensions, never masks special tokens as it says, and measures how
    far a mask is in dimensions of vectors."""
    sequence = [tiny.BOS_ID, *PROMPT]
    asked = {"method": "lime", "baseline": "zeros", "n_samples": 40, "target": lambda t: t.embed[0].sum()}
    with llama.trace(sequence) as t:
        t.save(embedded=t.embed)
    parts = np.asarray(t.result["embedded"][0]).sum(-1)
    found = llama.attribute(sequence, alpha=1.0, **asked)
    masks = torch.rand(39, 6, generator=torch.Generator().manual_seed(0)).numpy() < 0.7
    x = np.concatenate([np.ones((1, 6)), masks])
    weights = np.exp(-((1 - np.sqrt(x.mean(1))) ** 2) / (2 * 0.25**2))
    design = np.concatenate([x, np.ones((40, 1))], 1)
    scaled = design.T * weights
    expected = np.linalg.solve(scaled @ design + np.diag([1.0] * 6 + [0.0]), scaled @ (x @ parts))
    close(found.scores[:6, 0], expected[:-1], atol=1e-4)
    close(llama.attribute(sequence, alpha=0.0, **asked).scores[:6, 0], parts, atol=1e-4)


def test_x07_gradient_times_difference_is_not_called_deeplift(gpt2):
    """Inseq calls it DeepLIFT; no rule of DeepLIFT is ever applied."""
    assert not [name for name in gpt2.attribute.methods() if "deep" in name.lower()]
    asked = {"reduce": "sum", "target": "logit"}
    difference = gpt2.attribute(PROMPT, CONTINUATION, method="gradient_x_difference", baseline="zeros", **asked)
    np.testing.assert_array_equal(difference.scores, gpt2.attribute(PROMPT, CONTINUATION, **SIGNED | asked).scores)
    shim = inseq_shim.load_model(gpt2, "deeplift")
    with pytest.warns(UserWarning, match="'gradient_x_difference' here"):
        out = shim.attribute("the cat", "the cat sat")
    assert "gradient_x_difference" in out.info["note"]


def test_x08_cross_entropy_and_perplexity_of_one_sequence(gpt2, bare):
    """Inseq crashes, and of a batch it gives 2 to the power of nats as the perplexity."""
    own = logits(bare["tiny-gpt2"], PROMPT + CONTINUATION).log_softmax(-1)[range(4, 7), CONTINUATION]
    out = gpt2.attribute(PROMPT, CONTINUATION, step_scores=["crossentropy", "perplexity"], target="crossentropy")
    close(out.step_scores["crossentropy"], -own)
    close(out.step_scores["perplexity"], (-own).exp())
    assert np.isfinite(out.scores[:5]).all()


@pytest.mark.parametrize("options", ["top_k=5", "top_p=0.9"])
def test_x09_divergences_over_the_likeliest_tokens_are_numbers(gpt2, bare, options):
    """Inseq says NaN: what is not among them has a probability of zero in one and a logarithm in the other."""
    name = f"kl_divergence({options})"
    elsewhere = Contrast([31, 32, 33, *CONTINUATION], whole=True, force_inputs=True)
    asked = {"target": name, "step_scores": [name], "contrast": elsewhere}
    out = gpt2.attribute(PROMPT, CONTINUATION, **asked)
    assert np.isfinite(out.step_scores[name]).all()
    assert (out.step_scores[name] >= 0).all()
    assert np.isfinite(out.scores[:5]).all()
    assert out.scores[:5].max() > 0


def test_x10_dropout_is_over_when_it_is_scored(gpt2):
    """Inseq leaves the model in training mode: everything after it is random."""
    before = gpt2.attribute(PROMPT, CONTINUATION, **SIGNED).scores
    name = "mc_dropout_prob_avg(n_mcd_steps=3)"
    drawn = gpt2.attribute(PROMPT, CONTINUATION, step_scores=[name], **SIGNED)
    assert np.isfinite(drawn.step_scores[name]).all()
    np.testing.assert_array_equal(drawn.scores, before)
    np.testing.assert_array_equal(gpt2.attribute(PROMPT, CONTINUATION, **SIGNED).scores, before)


def test_x11_sizes_of_nuclei_of_several_texts(gpt2, bare):
    """Inseq crashes for more than one."""
    name = "top_p_size(top_p=0.7)"
    out = gpt2.attribute(BEGINNINGS, [CONTINUATION] * 3, method="dummy", step_scores=[name])
    for prompt, one in zip(BEGINNINGS, out, strict=True):
        p = logits(bare["tiny-gpt2"], [*prompt, *CONTINUATION]).softmax(-1)[len(prompt) - 1 : -1]
        sizes = (p.sort(descending=True).values.cumsum(-1) < 0.7).sum(-1) + 1
        np.testing.assert_array_equal(one.step_scores[name], sizes)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_shap"])
def test_x12_contrasts_go_with_paths_and_with_batches(gpt2, method):
    """Inseq raises for both."""
    asked = {"method": method, "reduce": "sum", "target": "contrast_logits_diff"}
    out = gpt2.attribute([PROMPT, PROMPT[2:]], [CONTINUATION] * 2, contrast=[FOIL] * 2, **asked)
    for prompt, one in zip((PROMPT, PROMPT[2:]), out, strict=True):
        close(one.scores, gpt2.attribute(prompt, CONTINUATION, contrast=FOIL, **asked).scores, atol=1e-5)
        own, other = (
            gpt2.attribute(prompt, CONTINUATION, **asked | {"target": "logit"}).scores[: len(prompt), 1],
            gpt2.attribute(prompt, [9, 7, 64], **asked | {"target": "logit"}).scores[: len(prompt), 1],
        )
        # a difference of logits in one context: its attribution is that of the one less that of the other
        close(one.scores[: len(prompt), 1], own - other, atol=1e-5)
        assert [token.text.count("→") for token in one.generated] == [0, 1, 1]


def test_x13_an_aggregation_changes_no_default_of_later_ones(gpt2):
    """Inseq's defaults are one dictionary for the process: the mean over heads becomes a norm behind gradients."""
    attention = gpt2.attribute(PROMPT, CONTINUATION, method="attention")
    calls = ((), ("scores",), ("subwords",))
    before = [attention.aggregate(*call).scores for call in calls]
    vectors = gpt2.attribute(PROMPT, CONTINUATION, method="input_x_gradient", granular=True)
    for call in (*calls, ("vnorm",)):
        vectors.aggregate(*call)
    for call, one in zip(calls, before, strict=True):
        np.testing.assert_array_equal(attention.aggregate(*call).scores, one)
    close(attention.aggregate(normalize=False).scores, attention.scores.mean((-1, -2)))


def test_x14_occlusion_keeps_signs(gpt2, bare):
    """Inseq gives magnitudes: what speaks for a token and what speaks against it look alike."""
    out = gpt2.attribute(PROMPT, CONTINUATION, method="occlusion", baseline="unk", target="logit")
    model, whole = bare["tiny-gpt2"], PROMPT + CONTINUATION
    expected = []
    for at in range(5):
        changed = [*whole[:at], tiny.UNK_ID, *whole[at + 1 :]]
        expected.append((logits(model, whole) - logits(model, changed))[range(4, 7), CONTINUATION])
    close(out.scores[:5], torch.stack(expected), atol=1e-5)
    assert (out.scores[:5] < 0).any()
    magnitudes = gpt2.attribute(PROMPT, CONTINUATION, method="occlusion", target="logit", absolute=True)
    close(magnitudes.scores[:5], np.abs(out.scores[:5]))


def test_x15_files_with_steps_are_loaded_and_no_file_names_code(gpt2, tmp_path, monkeypatch):
    """Inseq cannot load what it saved with steps, makes classes that a file names, and reads pickles."""
    shim = inseq_shim.load_model(gpt2, "saliency")
    out = shim.attribute("the cat", "the cat sat", output_step_attributions=True)
    out.save(tmp_path / "out.json")
    loaded = Attributions.load(tmp_path / "out.json")
    assert len(loaded[0].step_attributions) == len(loaded[0].generated)
    np.testing.assert_array_equal(loaded[0].scores, out[0].scores)
    assert Attributions.load(reading.DATA / "saved" / "with-steps.json")[0].step_attributions
    (tmp_path / "evil.json").write_text('{"__instance_type__": ["this", "Payload"], "attributes": {}}')
    with pytest.raises(CallerError, match=r"names the class this\.Payload"):
        Attributions.load(tmp_path / "evil.json")
    assert "this" not in sys.modules
    package = Path(inspect.getfile(worker)).parents[1]
    assert not [path for path in package.rglob("*.py") if re.search(r"^\s*(import|from) pickle", path.read_text())]


def test_x16_options_of_the_command_do_what_they_say(gpt2, tmp_path, monkeypatch, capsys):
    """Inseq's ``--aggregate_output`` does nothing, ``rescale`` nothing without selectors; two help texts are wrong."""
    monkeypatch.setattr(command, "opened", lambda args: nullcontext(gpt2))

    def saved(name, *options):
        asked = ["attribute", "-i", "the cat", "-g", " sat", "--hide", "-o", str(tmp_path / name), *options]
        assert main(asked) == 0
        return Attributions.load(tmp_path / name)[0]

    assert saved("a.json", "--granular").dims == ("d_model",)
    assert saved("b.json", "--granular", "--aggregate_output").dims == ()
    assert np.nanmax(np.abs(saved("c.json", "--rescale_attributions").scores)) == 1.0
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["attribute", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "scores are divided by the largest magnitude of their sequence" in said
    assert "texts under way at once (4)" in said


@pytest.mark.slow
def test_x17_methods_that_fail_on_t5_and_sdpa(t5, gpt2, bare):
    """Inseq fails with the default layer, with ReAGent of a source, with sequential paths of both sides, and with
    attention of an SDPA model."""
    n_layers = len(bare["tiny-t5"].encoder.block)
    for method in ("layer_gradient_x_activation", "layer_integrated_gradients", "layer_gradient_x_difference"):
        found = t5.attribute(SOURCE, TARGET, method=method)
        assert found.dims == ("layer",)
        assert found.source_attributions.shape[-1] >= n_layers
        assert np.nanmax(found.source_attributions) > 0
    probes = {"num_probes": 2, "max_probe_steps": 2}
    found = t5.attribute(SOURCE, TARGET, method="reagent", **probes)
    assert found.target_attributions is None
    close(found.source_attributions.sum(0), 1.0)
    sequential = t5.attribute(
        SOURCE, TARGET, method="sequential_integrated_gradients", attribute_target=True, n_steps=3
    )
    assert np.isfinite(sequential.source_attributions).all()
    assert np.isfinite(sequential.target_attributions[1, 1:]).all()
    with torch.no_grad():
        shown = bare["tiny-gpt2"](torch.tensor([PROMPT + CONTINUATION]), output_attentions=True).attentions
    found = gpt2.attribute(PROMPT, CONTINUATION, method="attention")
    # a column is what the position does that predicts the token
    close(np.nan_to_num(found.scores), torch.stack(shown)[:, 0].permute(3, 2, 0, 1)[:, 4:7])


def test_x18_arguments_stay_as_they_were(gpt2, monkeypatch):
    """Inseq writes ``attn_implementation`` into its default ``model_kwargs``, and into ``generation_args``."""
    generation, scores, own = {"max_new_tokens": 2}, ["entropy"], {"abs": False}
    gpt2.attribute(PROMPT, generation=generation, step_scores=scores, **SIGNED)
    kwargs = {"dtype": "float32"}
    shim = inseq_shim.load_model(gpt2, "saliency")
    shim.attribute("the cat", generation_args=generation, step_scores=scores, attribution_args=own)
    with pytest.raises(CallerError):
        inseq_shim.load_model(gpt2, model_kwargs=kwargs)
    assert (generation, scores, own) == ({"max_new_tokens": 2}, ["entropy"], {"abs": False})
    assert kwargs == {"dtype": "float32"}
    for function in (inseq_shim.load_model, type(shim).attribute, type(gpt2.attribute).__call__):
        defaults = [one.default for one in inspect.signature(function).parameters.values()]
        assert not [one for one in defaults if isinstance(one, (dict, list, set))]


def test_x19_reagent_needs_no_download_and_paths_of_words_no_table_of_all(gpt2, monkeypatch):
    """Inseq's ReAGent downloads a tagger and goes through up to 6001 passes for a token; its discretized paths begin
    with the neighbours of all words."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("no network"))
    n_rows, see = [], passes.Model.see
    monkeypatch.setattr(passes.Model, "see", lambda *args, **kwargs: n_rows.append(args[2]) or see(*args, **kwargs))
    gpt2.attribute(PROMPT, CONTINUATION, method="reagent", max_probe_steps=20, num_probes=4, stopping_condition_top_k=1)
    # a row of a step serves all columns and is the same for all probes; a probe has one of its own to see if it is done
    assert sum(n_rows) <= 2 + 20 * (1 + 3 * 4)
    assert "nltk" not in sys.modules
    looked_up, find = [], discretized._neighbours

    def counted(vectors, words, n, known):
        found = find(vectors, words, n, known)
        looked_up.append(len(known))
        return found

    monkeypatch.setattr(discretized, "_neighbours", counted)
    gpt2.attribute(PROMPT, CONTINUATION, method="discretized_integrated_gradients", n_steps=5)
    assert 0 < max(looked_up) <= 3 * len(PROMPT + CONTINUATION)


def test_there_is_one_test_for_each_of_the_nineteen():
    numbers = [int(name[6:8]) for name in globals() if re.match(r"test_x\d\d_", name)]
    assert sorted(numbers) == [*range(1, 20)]
