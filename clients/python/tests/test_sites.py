"""Sites as attributes, and names that do not exist."""

import pytest

import interpd_client as interpd
from interpd.graph.schema import AbsentSite
from interpd_client.testing import FakeTransport, fake_manifest


@pytest.fixture
def t(model):
    return model.trace("a b")


def test_layers_count_index_and_iterate(t):
    assert len(t.layers) == 3
    assert repr(t.layers[-1]) == repr(t.layers[2])
    assert [len(dir(layer)) for layer in t.layers] == [4, 4, 4]


def test_a_slice_of_layers_is_a_list_of_them(t):
    assert [repr(layer) for layer in t.layers[1:]] == [repr(t.layers[1]), repr(t.layers[2])]
    with pytest.raises(TypeError, match="write in a loop"):
        t.layers[1:3] = 0.0


def test_a_prompt_points_at_what_its_trace_has(model):
    with pytest.raises(interpd.UnknownName, match=r"'save' belongs to the whole trace.*: `t.save`"):
        model.trace().prompt("a").save(x=1)


def test_completion_lists_sites(t):
    assert {"layers", "embed", "logits", "save"} <= set(dir(t))
    assert dir(t.layers[0]) == ["attn", "mlp", "resid_post", "resid_pre"]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda t: t.layers[0].resid_pots, "'layers.0' has no 'resid_pots'; did you mean 'resid_post'"),
        (lambda t: t.layer, "no site 'layer' in 'fake'; did you mean 'layers'?"),
        (lambda t: t.site("layers.7.resid_post"), r"no site .* in 'fake' \(fake has layers 0 to 2\)"),
        (lambda t: t.module("model.layers.2").outptu, "did you mean 'model.layers.2.output'"),
        (lambda t: t.nothing, "there is embed, layers, ln_final, logits"),
        (lambda t: t.model.layers[0].output, r"'model' is no site but .*: `t.module\('model.<path>'\).output`"),
        (lambda t: setattr(t, "logit", 0.0), "did you mean 'logits'"),
        (lambda t: setattr(t.layers[0], "attn", 0.0), "is no site but a group of sites: layers.0.attn.out"),
    ],
)
def test_unknown_sites_name_the_nearest(t, use, message):
    with pytest.raises(interpd.UnknownName, match=message):
        use(t)


def test_unknown_names_are_attribute_errors_too(t):
    assert not hasattr(t, "nothing")
    assert getattr(t.layers[0], "nothing", None) is None


def test_a_layer_that_does_not_exist_is_an_index_error(t):
    with pytest.raises(IndexError, match=r"no layers\[3\]: fake has 0 to 2"):
        t.layers[3]


def test_a_layer_is_no_site(t):
    with pytest.raises(TypeError, match=r"layers\[0\] is no site; write to one of its sites: attn, mlp, resid"):
        t.layers[0] = 1.0


def test_absent_sites_say_why():
    from dataclasses import replace

    absent = (AbsentSite("layers.0.attn.pattern", "the implementation does not expose it"),)
    model = interpd.Client(FakeTransport(replace(fake_manifest(), absent_sites=absent))).model("fake")
    with pytest.raises(interpd.UnknownName, match="has no site 'layers.0.attn.pattern': the implementation does not"):
        model.trace("a").layers[0].attn.pattern  # noqa: B018


def test_sites_that_take_no_writes_are_refused_at_once():
    from dataclasses import replace

    manifest = fake_manifest()
    sites = {**manifest.sites, "embed": replace(manifest.sites["embed"], writable=False)}
    model = interpd.Client(FakeTransport(replace(manifest, sites=sites))).model("fake")
    with pytest.raises(interpd.InvalidGraph, match="'embed' can be read but not written"):
        model.trace("a").embed = 0.0
