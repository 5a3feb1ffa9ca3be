"""What ``worker/README.md`` says of methods of one's own: its package is installed, and does what it says."""

import dataclasses
import inspect
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from attribution_golden import tiny

import interpd_client
from interpd.plugin.discovery import Candidate
from interpd_attribution import worker
from interpd_attribution.worker import others, registry
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Baseline
from interpd_attribution.worker.scoring import registry as scoring
from interpd_attribution.worker.scoring.step import Step

PAGE = Path(worker.__file__).with_name("README.md")
SECTION = PAGE.read_text(encoding="utf-8").partition("\n## A method of your own\n")[2]
PROMPT, CONTINUATION = [5, 40, 77, 120, 33], [9, 110, 64]


def block(language):
    """The section's block of a language."""
    return re.search(rf"^```{language}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)[1]


@pytest.fixture(scope="module")
def model():
    """A model that is served where the page's package is installed."""
    package = ModuleType("my_package")
    exec(compile(block("python"), "my_package.py", "exec"), package.__dict__)
    groups = tomllib.loads(block("toml"))["project"]["entry-points"]
    assert groups.keys() == {registry.GROUP, scoring.GROUP}

    def installed(group):
        return [
            Candidate(name, "my-package", "1.0", target, lambda target=target: getattr(package, target.split(":")[1]))
            for name, target in groups[group].items()
        ]

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "my_package", package)
        patched.setattr(others, "installed", installed)
        scoring.offered.cache_clear()
        made = (tiny.model("tiny-gpt2"), tiny.tokenizer("tiny-gpt2"))
        with interpd_client.local(made, plugins={"attribution": worker}, name="m") as client:
            yield client.model("m")
    scoring.offered.cache_clear()


@torch.no_grad()
def probabilities(prompt):
    """Of the continuation's tokens."""
    logits = tiny.model("tiny-gpt2")(torch.tensor([[*prompt, *CONTINUATION]])).logits[0, 4:7]
    return logits.softmax(-1)[range(3), CONTINUATION].double().numpy()


def test_the_method_by_gradients(model):
    found = model.attribute(PROMPT, CONTINUATION, method="gradient_power", power=1.0)
    np.testing.assert_allclose(found.scores, model.attribute(PROMPT, CONTINUATION).scores, rtol=1e-5)
    assert found.info["versions"]["my-package"] == "1.0"


def test_the_method_by_changes(model):
    found = model.attribute(PROMPT, CONTINUATION, method="alone", attr_pos_end=6)
    nobody = [tiny.UNK_ID] * 5
    alone = [probabilities([*nobody[:at], PROMPT[at], *nobody[at + 1 :]])[0] for at in range(5)]
    np.testing.assert_allclose(found.scores[:5, 0], np.array(alone) - probabilities(nobody)[0], rtol=1e-4, atol=1e-7)


def test_the_step_function(model, capsys):
    asked = ["log_odds", "probability"]
    found = model.attribute(PROMPT, CONTINUATION, target="log_odds(temperature=2.0)", step_scores=asked)
    told = found.step_scores["probability"]
    np.testing.assert_allclose(found.step_scores["log_odds"], np.log(told / (1 - told)), rtol=1e-4)
    model.attribute.explain("gradient_power")
    model.attribute.explain("log_odds")
    said = capsys.readouterr().out
    assert "raised to a power" in said
    assert "temperature: float = 1.0" in said
    assert said.count("my-package 1.0") == 2


def table(name):
    """The names in the first column of the section's table of a class."""
    rows = SECTION.partition(f"| `{name}` | what |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    return {name for row in rows for name in re.findall(r"`(\w+)", row.split(" | ")[0])}


def test_tables_have_what_the_classes_have():
    own = set(dir(Problem)) | set(re.findall(r"self\.(\w+)", inspect.getsource(Problem.__init__)))
    assert table("Problem")
    assert table("Problem") - {"points"} <= own
    assert table("Baseline") == {field.name for field in dataclasses.fields(Baseline)}
    assert table("Step") == {field.name for field in dataclasses.fields(Step)}
