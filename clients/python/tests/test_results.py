"""What a result shows of itself."""

import numpy as np
import pytest

import interpd_client as interpd
from interpd_client.html import heat_html
from interpd_client.testing import FakeTransport, fake_manifest


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
        "  heat: float64[1, 2, 2]\n"
        "  top: 1 of int64[3]"
    )


def test_a_notebook_shows_a_table_with_heat(result):
    html = result._repr_html_()
    assert "<code>loss</code></td><td>float32[] 1.5</td>" in html
    assert html.count("rgb(") == 4


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


def test_tokens_provenance_and_cost_come_along(result):
    assert [tokens.strings for tokens in result.tokens] == [("a", " b")]
    assert len(result.provenance.graph_digest) == 64
    assert result.cost.n_tokens == 2
    assert result.axes["loss"] == ()
    assert (result.non_finite, result.warnings, result.generated) == ((), (), ())
