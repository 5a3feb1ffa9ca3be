"""What a result shows of itself."""

import copy
import pickle

import numpy as np
import pytest

import interpd_client as interpd
from interpd.graph.run import Cost, Done, Provenance, Started
from interpd.graph.run import Result as ResultEvent
from interpd.graph.types import TensorData
from interpd_client.html import heat_html
from interpd_client.testing import FakeTransport, fake_manifest, fake_tokens


@pytest.fixture
def result():
    def answer(request):
        return {"loss": np.float32(1.5), "heat": np.array([[[1.0, -1.0], [0.0, np.nan]]]), "top.0": np.arange(3)}

    client = interpd.Client(FakeTransport(fake_manifest(), answer))
    with client.model("fake").trace("a b") as t:
        t.save(loss=t.embed.sum(), heat=t.embed, top=[t.embed])
    return t.result


def test_a_result_describes_itself(result):
    assert repr(result) == (
        "Result of fake (2 tokens, 0 layers, 1 pass, 0 ms, 0 bytes)\n"
        "  loss: float32[] 1.5\n"
        "  heat: float64[1, 2, 2] [[[1, -1], [0, nan]]]\n"
        "  top: 1 of int64[3] [0, 1, 2]"
    )


def test_a_notebook_shows_a_table_with_heat(result):
    html = result._repr_html_()
    assert "<code>loss</code></td><td>float32[] 1.5</td>" in html
    assert html.count('style="background:rgb(') == 3 + 3
    assert html.count('style="background:repeating-linear-gradient') == 1


def test_numbers_that_are_not_finite_are_hatched_and_do_not_set_the_scale():
    html = heat_html(np.array([[np.inf, 2.0, np.nan, -np.inf]]))
    cells = [part.partition('"')[0] for part in html.split("background:")[1:]]
    assert cells[1] == "rgb(255,0,0)"
    assert all(cells[place].startswith("repeating-linear-gradient") for place in (0, 2, 3))
    assert [part.partition('"')[0] for part in html.split('title="')[1:]] == ["inf", "2", "nan", "-inf"]


def heat_of(axes, shape, prompts=(" a b",)):
    """The HTML of one array with these axes, after a run over these prompts."""

    def answer(request):
        run = request.run_id
        yield Started(run, tuple(fake_tokens(prompt) for prompt in request.prompts))
        yield ResultEvent(run, "x", TensorData.from_numpy(np.ones(shape)), axes)
        yield Done(run, Provenance("", "fake", "", (), "", "", ""), Cost(0, 0, 0, 0), (), ("x",), ("look <here>",))

    client = interpd.Client(FakeTransport(fake_manifest(), answer))
    with client.model("fake").trace() as t:
        first, *_ = [t.prompt(prompt) for prompt in prompts]
        t.save(x=first.embed)
    return t.result._repr_html_()


def test_position_axes_carry_the_tokens_of_the_prompt():
    html = heat_of(("batch", "query_pos", "key_pos"), (1, 2, 2))
    assert html.count("> b</th>") == 2
    assert 'title="1 &#x27; a&#x27; &#x27; b&#x27;"' in html


def test_a_vector_is_a_strip():
    assert heat_of(("pos",), (2,)).count("> b</th>") == 1
    assert heat_of(("",), (5,)).count("background:") == 5


@pytest.mark.parametrize(
    ("shape", "prompts"), [((1,), ("a b",)), ((3,), ("a b",)), ((2,), ("a b", "c d")), ((2,), ("a b", "c"))]
)
def test_no_tokens_stand_where_it_is_not_sure_whose_they_are(shape, prompts):
    assert "<th" not in heat_of(("pos",), shape, prompts)


def test_a_notebook_shows_what_is_not_finite_and_warnings():
    html = heat_of(("",), (2,))
    assert "NaN or infinity in: x" in html
    assert "warning: look &lt;here&gt;" in html


def test_heat_is_red_above_zero_and_blue_below():
    html = heat_html(np.array([[2.0, -2.0, 0.0, 1.0]]))
    assert [part.partition('"')[0] for part in html.split("background:")[1:]] == [
        "rgb(255,0,0)",
        "rgb(0,0,255)",
        "rgb(255,255,255)",
        "rgb(255,128,128)",
    ]


def test_names_in_html_are_escaped():
    transport = FakeTransport(fake_manifest(), lambda request: {"<script>": 1})
    client = interpd.Client(transport)
    with client.model("fake").trace("a") as t:
        t.save(**{"<script>": t.embed})
    assert "<script>" not in t.result._repr_html_()


def test_an_unknown_name_is_a_key_error_with_the_nearest(result):
    with pytest.raises(interpd.UnknownResult, match="nothing was saved as 'los'; did you mean 'loss'"):
        result["los"]
    with pytest.raises(KeyError):
        result["los"]


def test_what_was_saved_is_no_attribute(result):
    with pytest.raises(AttributeError, match=r"no attribute 'loss'; what was saved is `result\['loss'\]`"):
        result.loss  # noqa: B018
    assert not hasattr(result, "nothing")
    assert pickle.loads(pickle.dumps(result))["loss"] == result["loss"]


def test_tokens_provenance_and_cost_come_along(result):
    assert [tokens.strings for tokens in result.tokens] == [("a", " b")]
    assert len(result.provenance.graph_digest) == 64
    assert result.cost.n_tokens == 2
    assert result.axes["loss"] == ()
    assert (result.non_finite, result.warnings, result.generated) == ((), (), ())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda result: pickle.loads(pickle.dumps(result))])
def test_a_result_with_records_can_be_pickled_and_copied(model, again):
    with model.trace("a b") as t:
        t.save(top=t.embed.topk(2), great=[t.embed.max(-1)])
    there = again(t.result)
    assert type(there["top"]) is type(t.result["top"])
    assert there["top"].indices.tolist() == t.result["top"].indices.tolist()
    assert there["great"][0]._fields == ("values", "indices")
    assert (there.tokens, there.provenance, repr(there)) == (t.result.tokens, t.result.provenance, repr(t.result))


def test_a_result_says_what_is_not_finite_and_shows_few_numbers_only():
    def answer(request):
        yield Started(request.run_id, tuple(fake_tokens(prompt) for prompt in request.prompts))
        yield ResultEvent(request.run_id, "x", TensorData.from_numpy(np.full(9, np.nan)), ("",))
        yield Done(request.run_id, Provenance("", "fake", "", (), "", "", ""), Cost(0, 0, 0, 0), (), ("x",))

    with interpd.Client(FakeTransport(fake_manifest(), answer)).model("fake").trace("a") as t:
        t.save(x=t.embed)
    assert repr(t.result).splitlines()[1:] == ["  x: float64[9]", "  non-finite: x"]
