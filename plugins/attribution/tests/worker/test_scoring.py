"""Step functions against their formulas, and what Inseq gets wrong in them."""

import math

import numpy as np
import pytest
import torch

from interpd.errors import InvalidRequest, OpFailed
from interpd.sdk import CallerError, DeclarationError
from interpd_attribution.worker.scoring.contrast import Contrast
from interpd_attribution.worker.scoring.expression import score_of
from interpd_attribution.worker.scoring.filtering import nucleus
from interpd_attribution.worker.scoring.registry import by_name, step_function, step_functions
from interpd_attribution.worker.scoring.step import Foil, Step

LOGITS = torch.randn(2, 3, 11, generator=torch.Generator().manual_seed(0)) * 2
OTHER = torch.randn(2, 3, 11, generator=torch.Generator().manual_seed(1)) * 2
IDS, FOIL_IDS = torch.tensor([4, 0, 9]), torch.tensor([1, 2, 9])
P, Q = LOGITS.softmax(-1), OTHER.softmax(-1)
AT, FOIL_AT = P[:, range(3), IDS], Q[:, range(3), FOIL_IDS]
STEP = Step(LOGITS, IDS, (Foil(OTHER, FOIL_IDS),), has_own_context=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logit", LOGITS[:, range(3), IDS]),
        ("probability", AT),
        ("probability(logprob=True)", AT.log()),
        ("entropy", -(P * P.log()).sum(-1)),
        ("crossentropy", -AT.log()),
        ("perplexity", 1 / AT),
        ("perplexity(base=2.0)", 2 ** -AT.log()),
        ("contrast_logits", OTHER[:, range(3), FOIL_IDS]),
        ("contrast_prob", FOIL_AT),
        ("contrast_prob(logprob=True)", FOIL_AT.log()),
        ("contrast_logits_diff", LOGITS[:, range(3), IDS] - OTHER[:, range(3), FOIL_IDS]),
        ("contrast_prob_diff", AT - FOIL_AT),
        ("contrast_prob_diff(logprob=True)", AT.log() - FOIL_AT.log()),
        ("pcxmi", -torch.log2(AT / FOIL_AT)),
        ("in_context_pvi", FOIL_AT.log() - AT.log()),
        ("kl_divergence", (P * (P.log() - Q.log())).sum(-1)),
    ],
)
def test_every_score_is_its_formula(text, expected):
    torch.testing.assert_close(score_of(text)(STEP), expected, rtol=1e-4, atol=1e-6)


def test_there_are_inseqs_fourteen():
    assert len(step_functions()) == 14


@pytest.mark.parametrize("options", ["top_k=3", "top_p=0.6", "top_p=0.9, top_k=2", "top_k=1, min_tokens_to_keep=4"])
def test_divergences_over_few_tokens_are_numbers_with_gradients(options):
    logits = LOGITS.clone().requires_grad_()
    found = score_of(f"kl_divergence({options})")(Step(logits, IDS, STEP.foils, has_own_context=True))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert torch.isfinite(found).all()
    assert torch.isfinite(gradient).all()
    assert (found >= -1e-6).all()


def test_a_divergence_over_the_likeliest_is_between_renormalised_distributions():
    found = score_of("kl_divergence(top_k=3)")(STEP)
    kept = (LOGITS + OTHER).topk(3).indices
    own, other = P.gather(-1, kept), Q.gather(-1, kept)
    own, other = own / own.sum(-1, keepdim=True), other / other.sum(-1, keepdim=True)
    torch.testing.assert_close(found, (own * (own / other).log()).sum(-1), rtol=1e-4, atol=1e-6)


def test_the_nucleus_is_counted_for_every_row():
    sizes = score_of("top_p_size(top_p=0.7)")(STEP)
    ordered = P.sort(descending=True).values.cumsum(-1)
    assert torch.equal(sizes, (ordered < 0.7).sum(-1) + 1.0)
    assert nucleus(LOGITS, 0.0, least=2).sum(-1).eq(2).all()
    assert nucleus(LOGITS, 1.0, least=1).all()


def test_dropout_gives_a_z_score():
    drawn = torch.randn(5, *LOGITS.shape, generator=torch.Generator().manual_seed(2))
    step = Step(LOGITS, IDS, dropped=lambda seeds: drawn[list(seeds)])
    p = drawn.softmax(-1)[:, :, range(3), IDS]
    expected = (AT - p.mean(0)) / p.std(0)
    torch.testing.assert_close(score_of("mc_dropout_prob_avg(n_mcd_steps=5)")(step), expected)


def test_several_foils_give_their_mean():
    both = Step(LOGITS, IDS, (Foil(OTHER, FOIL_IDS), Foil(LOGITS, IDS)), has_own_context=True)
    expected = ((AT - FOIL_AT) + 0) / 2
    torch.testing.assert_close(score_of("contrast_prob_diff")(both), expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("probabilty", "nearest is 'probability'"),
        ("probability(log=True)", "has no option 'log'; it takes logprob"),
        ("probability(logprob=1)", "logprob is 1, expected bool"),
        ("top_p_size", "needs 'top_p'"),
        ("__import__('os')", "is no step function"),
        ("a.b", "is no step function"),
        ("entropy(", "is no step function"),
        ("(" * 300, "is no step function"),
    ],
)
def test_what_is_no_score_is_refused(text, said):
    with pytest.raises(CallerError, match=said.replace("(", r"\(")):
        score_of(text)


def test_two_scores_of_one_name_are_refused():
    mine = step_function("entropy")(lambda step: step.logits[..., 0])
    with pytest.raises(DeclarationError, match="two step functions are called 'entropy'"):
        by_name([*step_functions().values(), mine])


# on a model


def tokens_logits(world, ids):
    with torch.no_grad():
        return world.model(torch.tensor([ids])).logits[0]


def test_step_scores_are_those_of_the_sequence(gpt2):
    ids = (5, 40, 77, 120, 33, 9, 210, 64)
    texts = ("probability", "crossentropy", "perplexity", "top_p_size(top_p=0.5)")
    found = gpt2.trace("saliency", step_scores=texts).step_scores
    p = tokens_logits(gpt2, ids).softmax(-1)[range(7), ids[1:]]
    np.testing.assert_allclose(found[:3], torch.stack([p, -p.log(), 1 / p]), rtol=1e-4)
    assert found.shape == (4, 7)


FOIL = (5, 40, 77, 120, 33, 9, 3, 19)


def test_a_foil_is_scored_in_the_targets_context_as_a_target_and_in_its_own_as_a_score(gpt2):
    constants = {"contrast_ids": FOIL, "start": 6}
    found = gpt2.trace("saliency", **constants, step_scores=("contrast_prob",)).step_scores[0]
    own = tokens_logits(gpt2, FOIL).softmax(-1)[[5, 6], FOIL[6:]]
    np.testing.assert_allclose(found, own, rtol=1e-4)
    signed = {"absolute": False, "reduce": "sum", **constants}
    forced = gpt2.trace("saliency", target="contrast_prob_diff", contrast_force_inputs=True, **signed).scores
    plain = gpt2.trace("saliency", target="probability", **signed).scores
    # the foil's own context is a constant: nothing of it is attributed
    np.testing.assert_allclose(forced, plain, atol=1e-6)


def difference(foil_at):
    def score(logits, token):
        p = logits.softmax(-1)
        return p[token] - p[foil_at[token]]

    return score


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients"])
def test_contrast_works_with_gradients_along_paths(world, method):
    foil = (*world.target[:-2], 3, 19)
    score = difference(dict(zip(world.target, foil, strict=True)))
    start = len(foil) - 2
    source = {"baseline": "ids", "baseline_ids": (7,), "n_steps": 4} if method == "integrated_gradients" else {}
    constants = {"contrast_ids": foil, "start": start, "target": "contrast_prob_diff", "reduce": "sum"}
    found = world.trace(method, **constants, **source).scores
    ends = world.embedded()
    if method == "input_x_gradient":
        vectors = world.gradients(score, start=start)
        expected = (vectors * torch.cat(ends).numpy()).sum(-1).T
    else:
        pairs = zip(world.embeddings, ends, strict=True)
        starts = [module(torch.full((len(end),), 7)).detach() for module, end in pairs]
        if world.has_encoder:
            starts[-1][0] = ends[-1][0]
        nodes, weights = np.polynomial.legendre.leggauss(4)
        lines = [
            tuple(begin + float(1 + node) / 2 * (end - begin) for begin, end in zip(starts, ends, strict=True))
            for node in nodes
        ]
        slopes = sum(w / 2 * world.gradients(score, line, start) for w, line in zip(weights, lines, strict=True))
        expected = (slopes * (torch.cat(ends) - torch.cat(starts)).numpy()).sum(-1).T
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_spans_of_different_lengths_are_contrasted_through_what_they_share(gpt2):
    """log p(continuation) - log p(other continuation), both of one prompt whose vectors are the same leaves."""
    prompt, own, other = (5, 40, 77, 120), (33, 9), (3, 19, 200)
    with gpt2.prompt((*prompt, *own)) as t:
        t.save(
            out=t.op(
                "attribution.input_x_gradient",
                target="contrast_prob_diff(logprob=True)",
                reduce="sum",
                span=True,
                start=len(prompt),
                contrast_ids=(*prompt, *other),
                contrast_start=len(prompt),
                contrast_shared=len(prompt),
                contrast_force_inputs=True,
            )
        )
    module = gpt2.embeddings[0]
    shared, *rests = (module(torch.tensor(ids)).detach().requires_grad_() for ids in (prompt, own, other))

    def log_probability(rest, ids):
        logits = gpt2.logits(torch.cat([shared, rest])).log_softmax(-1)
        return logits[range(len(prompt) - 1, len(prompt) + len(ids) - 1), ids].sum()

    scalar = log_probability(rests[0], own) - log_probability(rests[1], other)
    by_prompt, by_own = torch.autograd.grad(scalar, [shared, rests[0]])
    expected = torch.cat([(by_prompt * shared).sum(-1), (by_own * rests[0]).sum(-1)]).detach().numpy()
    found = t.result["out"].scores[:, 0]
    np.testing.assert_allclose(found[:-1], expected[:-1], rtol=1e-4, atol=1e-5)
    assert np.isnan(found[-1])
    assert expected[-1] == 0


def test_dropout_is_a_score_and_a_target_and_leaves_the_model_as_it_was(gpt2):
    text = "mc_dropout_prob_avg(n_mcd_steps=4, seed=7)"
    found = gpt2.trace("input_x_gradient", target=text, step_scores=(text, "probability"), reduce="sum")
    again = gpt2.trace("input_x_gradient", target=text, step_scores=(text, "probability"), reduce="sum")
    assert np.isfinite(found.step_scores).all()
    assert np.array_equal(found.step_scores, again.step_scores)
    assert not gpt2.model.training
    # passes with dropout are constants: what is left is the probability's gradient over their deviation
    plain = gpt2.trace("input_x_gradient", reduce="sum").scores
    ratios = plain / found.scores
    np.testing.assert_allclose(ratios[0], np.nanmean(ratios, axis=0), rtol=1e-2)


def test_another_source_is_a_context_of_its_own(t5):
    source = (9, 8, 7)
    found = t5.trace("saliency", contrast_source_ids=source, step_scores=("pcxmi", "kl_divergence")).step_scores
    decoder = torch.tensor([t5.target])
    with torch.no_grad():
        own, other = (
            t5.model(input_ids=torch.tensor([ids]), decoder_input_ids=decoder).logits[0, :-1].log_softmax(-1)
            for ids in ((5, 40, 77, 120, 33, 9, 210, 64), source)
        )
    at = (range(5), t5.target[1:])
    np.testing.assert_allclose(found[0], (other - own)[at] / math.log(2), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], (own.exp() * (own - other)).sum(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("constants", "said"),
    [
        ({"target": "contrast_prob"}, "give contrast_ids"),
        ({"target": "kl_divergence", "contrast_ids": FOIL}, "contrast_force_inputs=True"),
        ({"contrast_ids": (5, 3)}, "expected positions from 1 to 1"),
        ({"contrast_ids": FOIL, "contrast_lengths": (3, 4)}, "are not those of 8 contrast_ids"),
        ({"contrast_ids": FOIL, "contrast_shared": 8}, "does not begin with as many tokens"),
        ({"contrast_ids": FOIL, "contrast_start": 6}, "needs span=True"),
        ({"contrast_ids": (5, 100000)}, "outside the vocabulary"),
        ({"contrast_source_ids": (5,)}, "no encoder"),
        ({"contrast_force_inputs": True}, "there is no foil"),
        ({"target": "top_p_size(top_p=0.5)"}, "has no gradient"),
        ({"start": 0}, "position 0 is predicted by nothing"),
        ({"start": 8}, "expected a start from 1 to 7"),
        ({"stop": 9}, "up to 8"),
        ({"features": (0, 1)}, "2 group numbers for 8"),
        ({"spans": (0, 2, 0, 0, 0, 0, 0)}, "1 is missing"),
        ({"inputs": "source"}, "no encoder"),
    ],
)
def test_what_cannot_be_attributed_is_refused_with_what_to_do(gpt2, constants, said):
    with pytest.raises((CallerError, OpFailed, InvalidRequest), match=said):
        gpt2.trace("saliency", **constants)


def test_no_foil_needs_more_than_its_fields():
    assert Contrast() == Contrast(contrast_ids=())
