"""``interpd attribute-context``: what comes out is what ``attribute_context`` gives."""

import io
import json
from contextlib import contextmanager

import pytest

from interpd_attribution.commands import attribute_context as command
from interpd_attribution.commands.terminal import Terminal
from interpd_attribution.pecore import ContextAttribution, attribute_context

TEXTS = {"input_context_text": "the cat", "input_current_text": "the nurse was", "output_current_text": "on the mat"}
WORDS = tuple(word for name, text in TEXTS.items() for word in (f"--{name.replace('_', '-')}", text))


@pytest.fixture
def line(line_gpt2, gpt2, monkeypatch):
    """The command line on the decoder-only model."""

    @contextmanager
    def opened(args):
        yield gpt2

    monkeypatch.setattr(command, "opened", opened)
    return lambda *argv: line_gpt2("attribute-context", *argv)


class Keyboard(io.StringIO):
    """Somebody's answers at a terminal."""

    def isatty(self):
        return True


def test_the_result_is_shown_and_written(line, gpt2, tmp_path):
    path, page = tmp_path / "out.json", tmp_path / "out.html"
    code, out, err = line(*WORDS, "-o", path, "--viz-path", page)
    assert (code, err) == (0, "")
    assert "output:  on the" in out
    assert ContextAttribution.load(path) == attribute_context(gpt2, **TEXTS)
    assert page.read_text().startswith("<!doctype html>")
    code, _, err = line(*WORDS, "-o", path)
    assert code != 0
    assert "--overwrite" in err


def test_options_reach_the_method_under_both_spellings(line, gpt2):
    code, out, err = line(
        *(word.replace("input-current-text", "input_current_text") for word in WORDS),
        *("-a", "input_x_gradient", "-fn", "contrast_prob_diff", "--attribution_aggregators", "sum", "--json"),
        *("--context-sensitivity-metric", "pcxmi", "--context-sensitivity-std-threshold", "none"),
        *("--context-sensitivity-topk", "2", "--contextless-output-next-tokens", "cat", "the", "--no-add-output-info"),
    )
    assert (code, err) == (0, "")
    expected = attribute_context(
        gpt2,
        **TEXTS,
        attribution_method="input_x_gradient",
        attributed_fn="contrast_prob_diff",
        attribution_aggregators=["sum"],
        context_sensitivity_metric="pcxmi",
        context_sensitivity_std_threshold=None,
        context_sensitivity_topk=2,
        contextless_output_next_tokens=["cat", "the"],
    )
    assert json.loads(out) == expected.to_dict(with_info=False)


def test_options_of_methods_are_known_under_inseqs_names(line, gpt2):
    given = json.dumps({"logprob": True, "n_steps": 3, "attribution_args": {"method": "riemann_left"}})
    ask = ("-a", "integrated_gradients", "-fn", "contrast_prob_diff", "--attribution_kwargs", given, "--json")
    code, out, err = line(*WORDS, *ask)
    assert (code, err) == (0, "")
    expected = attribute_context(
        gpt2,
        **TEXTS,
        attribution_method="integrated_gradients",
        attributed_fn="contrast_prob_diff(logprob=True)",
        attribution_kwargs={"n_steps": 3, "rule": "riemann_left"},
    )
    assert json.loads(out) == expected.to_dict()


def test_intermediate_results_are_shown(line):
    code, out, _ = line(*WORDS, "--show-intermediate-outputs", "--no-show-viz", "--context-sensitivity-topk", "1")
    assert code == 0
    assert "context sensitivity of kl_divergence" in out
    assert out.count("saliency of probability") == 1
    assert "Context attribution" not in out


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (("--input-context-text", ""), "input_context_text"),
        (("--generation-kwargs", '{"beams": 2}'), "no option 'beams'"),
        (("-a", "saliencies"), "no attribution method"),
        (("--prompt-user-for-contextless-output-next-tokens",), "this is none"),
        (("--normalize-attributions", "--rescale-attributions"), "exclude each other"),
        (("--attribution-kwargs", '{"start": 3}'), "follows from the texts"),
        (("--attribution-kwargs", '{"steps": 3}'), "no option 'steps'"),
    ],
)
def test_what_cannot_be_is_refused(line, wrong, why):
    code, _, err = line(*WORDS, *wrong)
    assert code != 0
    assert why in err
    assert "Traceback" not in err


def test_a_terminal_is_asked_until_the_answer_fits(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Keyboard("n\nb\na b\n"))
    assert Terminal().output_context("a b c", "a") == "a b"
    assert "it does not begin so" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", Keyboard("\n\n she\n"))
    assert Terminal().output_context("a b c", "a") == "a"
    assert Terminal().next_token("so", " he") == " she"


def test_words_are_asked_for_at_a_terminal(line, gpt2, monkeypatch):
    monkeypatch.setattr(command.Terminal, "is_there", staticmethod(lambda: True))
    monkeypatch.setattr("sys.stdin", Keyboard("cat\n"))
    asked = ("-fn", "contrast_prob_diff", "--context-sensitivity-topk", "1", "--json")
    code, out, err = line(*WORDS, *asked, "--prompt-user-for-contextless-output-next-tokens")
    assert code == 0
    assert "goes on with" in err
    told = json.loads(out)["cci_scores"][0]
    assert told["contrast_token"].strip() == gpt2.tokenize("cat").strings[0]


def test_a_terminal_that_closes_is_said(line, monkeypatch):
    monkeypatch.setattr(command.Terminal, "is_there", staticmethod(lambda: True))
    monkeypatch.setattr("sys.stdin", Keyboard(""))
    words = [word for word in WORDS if word not in ("--output-current-text", "on the mat")]
    code, _, err = line(*words, "--output-template", "{context} {current}", "--max-new-tokens", "4")
    assert code != 0
    assert "terminal was closed" in err
