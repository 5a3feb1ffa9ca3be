"""Step functions as scores and as targets: what a target loses without a token is the difference of two scores."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from attribution_golden import tiny

import interpd_client
from interpd.errors import CallerError, OpFailed
from interpd.graph.schema import PluginInfo
from interpd.plugin.discovery import Candidate
from interpd_attribution import methods, worker
from interpd_attribution.contrast import Contrast
from interpd_attribution.step_functions import problems
from interpd_attribution.worker import others
from interpd_attribution.worker import registry as methods_registry
from interpd_attribution.worker.declaration import attribution
from interpd_attribution.worker.gradient.local import gradient, saliency
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.scoring import registry
from interpd_attribution.worker.scoring.registry import step_function, step_functions
from interpd_client import UnknownName

CONTINUATION, FOIL = [9, 110, 64], [9, 7, 12]
WITH_OPTIONS = {
    "top_p_size": "top_p_size(top_p=0.5)",
    "kl_divergence": "kl_divergence(top_k=20)",
    "contrast_prob": "contrast_prob(logprob=True)",
}
ASKED = tuple(WITH_OPTIONS.get(name, name) for name in step_functions() if name != "mc_dropout_prob_avg")
"""All but the one that draws: its own test is in ``worker/test_scoring.py``."""


@pytest.fixture(scope="module")
def model():
    made = (tiny.model("tiny-gpt2"), tiny.tokenizer("tiny-gpt2"))
    with interpd_client.local(made, plugins={"attribution": worker}, name="model") as client:
        yield client.model("model")


@pytest.fixture(scope="module")
def scores(model):
    """Of two prompts, the second without the first one's token at 2: step functions by name."""
    prompts = ([5, 40, 77, 120, 33], [5, 40, tiny.UNK_ID, 120, 33])
    return [
        model.attribute(one, CONTINUATION, method="dummy", step_scores=ASKED, contrast=FOIL).step_scores
        for one in prompts
    ]


@pytest.mark.parametrize("name", ASKED)
def test_a_target_loses_the_difference_of_two_scores(model, scores, name):
    is_contrastive = step_functions()[name.partition("(")[0]].contrastive
    asked = {"contrast": Contrast(FOIL, force_inputs=True)} if is_contrastive else {}
    out = model.attribute([5, 40, 77, 120, 33], CONTINUATION, method="feature_ablation", target=name, **asked)
    with_it, without = (found[name] for found in scores)
    assert np.isfinite(with_it).all()
    np.testing.assert_allclose(out.scores[2], with_it - without, rtol=1e-4, atol=1e-5 * np.abs(with_it).max())


@step_function("margin")
def margin(step):
    """By how much the likeliest token is ahead of the next."""
    first, second = step.logits.topk(2).values.unbind(-1)
    return first - second


@step_function("oblique")
def oblique(step):
    """Of a shape that nothing has."""
    return step.logits @ step.ids


def missing():
    """What an entry point does whose module has no such name."""
    raise AttributeError("module 'her_package' has no attribute 'flatnes'")


def ended():
    """What an entry point does whose module ends the program."""
    raise SystemExit("no licence")


@step_function("counted")
def counted(step):
    """No tensor."""
    return len(step.ids)


def package(name, target, load):
    """An installed entry point."""
    return Candidate(name, f"{name}-of-hers", "1.2", target, load)


METHODS = (
    package("twice", "her_package:twice", lambda: twice),
    package("flatness", "her_package:flatnes", missing),
    package("printed", "her_package:printed", lambda: print),
    package("again", "her_package:again", lambda: saliency),
)
SCORES = (
    package("margin", "her_package:margin", lambda: margin),
    package("oblique", "her_package:oblique", lambda: oblique),
    package("counted", "her_package:counted", lambda: counted),
    package("closed", "her_package:closed", ended),
    package("entropy", "her_package:entropy", lambda: step_function("entropy")(margin.fn)),
)


@attribution("twice")
def twice(problem: Problem, columns: slice, *, factor: float = 2.0) -> torch.Tensor:
    """The gradient, twice."""
    return factor * gradient(problem, columns)


@pytest.fixture(scope="module")
def installed():
    """A model that is served where other packages have methods and step functions, not all of which can be used."""
    groups = {registry.GROUP: SCORES, methods_registry.GROUP: METHODS}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(others, "installed", groups.get)
        registry.offered.cache_clear()
        bare = (tiny.model("tiny-gpt2"), tiny.tokenizer("tiny-gpt2"))
        with interpd_client.local(bare, plugins={"attribution": worker}, name="m") as client:
            yield client.model("m")
    registry.offered.cache_clear()


def test_a_step_function_of_another_package_is_a_score_and_a_target(installed):
    assert "margin" in installed.attribute.step_functions()
    asked = {"method": "feature_ablation", "target": "margin", "step_scores": ["margin"]}
    out = installed.attribute([5, 40, 77, 120, 33], CONTINUATION, **asked)
    with torch.no_grad():
        logits = tiny.model("tiny-gpt2")(torch.tensor([[5, 40, 77, 120, 33, *CONTINUATION]])).logits[0, 4:7]
    top = logits.topk(2).values
    np.testing.assert_allclose(out.step_scores["margin"], top[:, 0] - top[:, 1], rtol=1e-4, atol=1e-5)
    assert np.isfinite(out.scores[:5]).all()


def test_a_broken_entry_point_takes_nothing_else_away(installed):
    assert {"saliency", "twice"} <= set(installed.attribute.methods())
    assert {"entropy", "margin"} <= set(installed.attribute.step_functions())
    found = {told.split("'")[1]: told for told in problems(installed.manifest)}
    assert found.keys() == {"flatness", "printed", "again", "closed", "entropy"}
    assert found["flatness"] == (
        "entry point 'flatness' of interpd_attribution.methods (flatness-of-hers 1.2), her_package:flatnes: "
        "AttributeError: module 'her_package' has no attribute 'flatnes'; repair or uninstall flatness-of-hers"
    )
    assert "mark the function with @attribution" in found["printed"]
    assert "there is a method 'attribution.saliency' already" in found["again"]
    assert "SystemExit: no licence" in found["closed"]
    assert "two step functions are called 'entropy'" in found["entropy"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"method": "flatness"}, "flatness-of-hers 1.2"), ({"target": "closed"}, "closed-of-hers 1.2.*no licence")],
)
def test_who_misses_something_is_told_what_is_not_used(installed, asked, said):
    with pytest.raises(
        (CallerError, UnknownName), match=rf"no .* '(flatness|closed)'.*not used: .*{said}[^;]*; [^;]*$"
    ):
        installed.attribute([5, 40], CONTINUATION, **asked)


def test_who_only_misspelt_something_is_told_that_alone(installed):
    with pytest.raises(UnknownName, match="no attribution method 'saliensy' in 'm'; did you mean 'saliency'"):
        installed.attribute([5, 40], CONTINUATION, method="saliensy")
    with pytest.raises(CallerError, match=r"did you mean 'entropy'\?$"):
        installed.attribute([5, 40], CONTINUATION, target="entropi")


def test_an_error_in_a_step_function_names_it_and_its_line(installed):
    with pytest.raises(
        OpFailed, match=r"step function 'oblique' of oblique-of-hers 1.2 raised RuntimeError: .*"
    ) as told:
        installed.attribute([5, 40], CONTINUATION, target="oblique")
    assert f"(at {__file__}, line {oblique.fn.__code__.co_firstlineno + 3}: return step.logits @" in str(told.value)


def test_what_is_no_tensor_of_scores_is_refused(installed):
    with pytest.raises(CallerError, match=r"step function 'counted' gave 'int', expected \[1, 3\]: row, step"):
        installed.attribute([5, 40], CONTINUATION, method="dummy", step_scores=["counted"])


def test_other_packages_are_named_where_their_work_is_told_of(installed, capsys):
    installed.attribute.explain("twice")
    installed.attribute.explain("margin")
    said = capsys.readouterr().out
    assert "Version 1, of twice-of-hers 1.2, for plugin 'attribution'." in said
    assert "Of margin-of-hers 1.2." in said


def test_results_know_which_other_packages_made_them(installed):
    out = installed.attribute([5, 40], CONTINUATION, method="twice", granular=True, target="margin")
    assert out.info["versions"].items() >= {"twice-of-hers": "1.2", "margin-of-hers": "1.2"}.items()
    plain = installed.attribute([5, 40], CONTINUATION, method="dummy")
    assert not [name for name in plain.info["versions"] if name.endswith("-of-hers")]


def test_without_attribution_the_problem_is_repeated():
    with interpd_client.local((tiny.model("tiny-gpt2"), tiny.tokenizer("tiny-gpt2")), name="bare") as client:
        manifest = client.model("bare").manifest
    problem = "plugin 'attribution' (interpd-attribution 0.1.0), hook 'interpd_register_methods': ValueError"
    broken = PluginInfo("attribution", "interpd-attribution", "0.1.0", "broken", problem)
    with pytest.raises(CallerError, match="one of the daemon's plugins: `interpd serve --plugin attribution`"):
        methods.schema_of(manifest, "saliency")
    with pytest.raises(CallerError, match=re.escape(f"have no attribution: {problem}")):
        methods.schema_of(dataclasses.replace(manifest, plugins=(broken,)), "saliency")
