"""Client parts of plugins, from packages that are installed for one test."""

import copy
import itertools
from dataclasses import replace

import pytest

import interpd_client as interpd
from interpd.graph.schema import PluginInfo

NUMBERS = itertools.count()

TIDE = """
class Tide:
    def __init__(self, model):
        self.model = model

    def height(self):
        return len(self.model.name)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def install(code, name="tide"):
        module = f"installed_part_{next(NUMBERS)}"  # a name of its own: imported modules stay
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / "interpd_wave-0.3.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: interpd-wave\nVersion: 0.3\n")
        (info / "entry_points.txt").write_text(f"[interpd.client]\n{name} = {module}:Tide\n")

    return install


def test_a_part_is_made_of_the_model_once(install, model):
    install(TIDE)
    assert model.tide.height() == 4
    assert model.tide is model.tide
    assert model.tide.model is model
    assert {"tide", "trace"} <= set(dir(model))


def test_an_unknown_name_says_what_was_probably_meant(install, model):
    install(TIDE)
    with pytest.raises(interpd.UnknownName, match="model 'fake' has no 'tied'; did you mean 'tide'?"):
        _ = model.tied
    with pytest.raises(interpd.UnknownName, match="did you mean 'trace'"):
        _ = model.trase
    assert not hasattr(model, "nothing_like_it")


def test_a_plugin_of_the_workers_that_is_not_installed_here_is_named(client, transport):
    plugin = PluginInfo("sae", "interpd-sae", "0.2", "loaded")
    transport.manifests["fake"] = replace(transport.manifests["fake"], plugins=(plugin,))
    with pytest.raises(
        interpd.UnknownName, match=r"its workers have that plugin \(t.ops.sae\).*pip install interpd-sae"
    ):
        _ = client.model("fake").sae


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        ("Tide = 3", "is int, expected something to call"),
        ("class Tide:\n    def __init__(self, model): self.hight(model)", "has no attribute 'hight'"),
        ("raise SystemExit", "SystemExit"),
    ],
)
def test_a_broken_part_names_its_distribution(install, model, code, cause):
    install(code)
    # no AttributeError: that would look like a part that is not there
    with pytest.raises(interpd.Broken, match=r"plugin 'tide' \(interpd-wave 0.3\)") as caught:
        _ = model.tide
    assert cause in str(caught.value)


def test_what_a_part_refuses_comes_out_as_it_is(install, model):
    install("from interpd.errors import FeatureUnsupported\ndef Tide(model): raise FeatureUnsupported('no tide here')")
    with pytest.raises(interpd.FeatureUnsupported, match="^no tide here$"):
        _ = model.tide


def test_names_of_the_model_and_of_python_stay_what_they_are(install, model):
    install(TIDE, "name")
    assert model.name == "fake"
    assert not hasattr(model, "_repr_png_")
    assert copy.copy(model).name == "fake"
