"""What models and explanations show of themselves."""

from interpd.scheduler.interface import ModelStatus
from interpd_client.listings import ModelList


def test_models_show_as_a_table(client):
    models = ModelList((*client.models(), ModelStatus("bad", "failed", "no <weights>")))
    assert repr(models).splitlines() == [
        "model  state   replicas  what",
        "fake   ready   1 of 1    FakeForCausalLM, 3 layers, float32 on cpu",
        "bad    failed  0 of 1    no <weights>",
    ]
    assert "<td>no &lt;weights&gt;</td>" in models._repr_html_()
    assert repr(ModelList()) == "no models"


def test_a_model_shows_its_facts(model):
    html = model._repr_html_()
    assert "<td>architecture</td><td>FakeForCausalLM, 3 layers</td>" in html
    assert "<td>15, and 1 raw module paths</td>" in html


def test_an_explanation_shows_its_lines(model):
    t = model.trace([1, 2])
    t.save(h=t.embed)
    text = t.explain()
    assert repr(text) == str(text)
    assert text._repr_html_().startswith("<pre>in pass 0:\n  %0 (h) = site.read(site=&#x27;embed&#x27;)")
