"""Prompts with a source and a target, for encoder-decoder models."""

import numpy as np
import pytest

import interpd_client as interpd
from interpd.graph.ir import Prompt
from interpd_client.html import result_html
from interpd_client.testing import FakeTransport, fake_manifest

SOURCE, TARGET = "the old house", "das alte Haus"


@pytest.fixture
def transport():
    return FakeTransport(fake_manifest(n_layers=5, n_encoder_layers=2))


@pytest.fixture
def t(model):
    return model.trace(SOURCE, target=TARGET)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("das Haus", Prompt(SOURCE, target_text="das Haus")),
        ("", Prompt(SOURCE, target_text="")),
        ([3, 4], Prompt(SOURCE, target_ids=(3, 4))),
        (np.array([3, 4]), Prompt(SOURCE, target_ids=(3, 4))),
        ((), Prompt(SOURCE, target_ids=())),
        (None, Prompt(SOURCE)),
    ],
)
def test_a_target_is_text_or_token_ids(model, target, expected):
    assert model.trace(SOURCE, target=target).request.prompts == (expected,)
    assert model.generate(SOURCE, target=target, max_new_tokens=2).request.prompts == (expected,)


def test_sites_without_their_side_name_both(t):
    with pytest.raises(interpd.UnknownName, match=r"did you mean 'decoder.layers' or 'encoder.layers'"):
        t.layers[0]


def test_each_prompt_of_a_trace_has_its_own_target(model):
    with model.trace() as t:
        a, b = t.prompt("one", target="eins"), t.prompt("two")
        t.save(a=a.logits[:, -1], b=b.logits[:, -1])
    assert [prompt.target_text for prompt in t.request.prompts] == ["eins", None]


def test_the_other_ways_to_generate_take_a_target_too(model, transport):
    model.generate_text(SOURCE, target="das", max_new_tokens=1)
    list(model.stream(SOURCE, target="das", max_new_tokens=1))
    assert [request.prompts[0].target_text for request in transport.requests] == ["das", "das"]


def test_tokenising_gives_both_sides(model):
    tokens = model.tokenize(SOURCE, target=TARGET)
    assert (tokens.strings, tokens.target.strings) == (
        ("the", " old", " house"),
        ("<s>", "das", " alte", " Haus"),
    )


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda model: model.trace(target="x"), "a target belongs to a prompt: give both"),
        (lambda model: model.trace(Prompt("a", target_text="b"), target="c"), "has a target already"),
        (lambda model: model.trace("a", target=["b"]), "a target is a text or a list of token ids"),
    ],
)
def test_a_target_that_is_none_is_refused(model, use, message):
    with pytest.raises(TypeError, match=message):
        use(model)


def test_a_decoder_only_model_refuses_a_target_before_anything_is_sent():
    transport = FakeTransport(fake_manifest())
    with interpd.Client(transport) as client, pytest.raises(interpd.InvalidGraph, match="no encoder-decoder model"):
        with client.model("fake").trace("a", target="b") as t:
            t.save(x=t.logits)
    assert transport.requests == []


# Positions


def test_positions_are_those_of_the_side_that_is_named(t):
    assert t.tokens.source("old") == t.tokens("old", side="source") == (1,)
    assert t.tokens.target("alte") == t.tokens("alte", side="target") == (2,)
    assert (len(t.tokens.source), t.tokens.target[-1], t.tokens.target.ids[0]) == (3, 3, 0)
    assert repr(t.tokens) == (
        "<source <tokens 0:'the' 1:' old' 2:' house'>, target <tokens 0:'<s>' 1:'das' 2:' alte' 3:' Haus'>>"
    )


@pytest.mark.parametrize("use", [lambda t: t("old"), lambda t: t[-1], len, lambda t: t.ids, lambda t: t.strings])
def test_positions_of_no_side_are_refused(t, use):
    with pytest.raises(TypeError, match=r"say whose tokens are meant: `t\.tokens\.source"):
        use(t.tokens)


def test_a_model_of_one_side_has_no_source(transport):
    transport.manifests["one"] = fake_manifest("one")
    with interpd.Client(transport) as client, pytest.raises(TypeError, match="its prompts have one side"):
        client.model("one").trace("a b").tokens.source("a")


def test_positions_fit_where_their_side_is_counted(t):
    encoder, decoder = t.encoder.layers[0].resid_post, t.decoder.layers[1].resid_post
    encoder[:, t.tokens.source("old")] = 0.0
    decoder[:, t.tokens.target("alte").last] = 0.0
    logits = t.logits[:, t.tokens.target("das")]
    t.save(x=decoder[:, -1], y=encoder[..., t.tokens.source[:2], :], logits=logits)
    assert t.check().violations == ()


@pytest.mark.parametrize(
    "use",
    [
        lambda t: t.encoder.layers[0].resid_post[:, t.tokens.target("alte")],
        lambda t: t.encoder.layers[0].resid_post[..., t.tokens.target("alte").first, :],
        lambda t: t.encoder.embed[:, t.tokens.target[-1]],
        lambda t: t.encoder.embed[:, t.tokens.target[1:]],
    ],
)
def test_positions_of_the_target_are_refused_in_the_encoder(t, use):
    with pytest.raises(TypeError, match=r"axis 'src_pos', which counts the source: take t\.tokens\.source"):
        use(t)


def test_positions_of_the_source_are_refused_in_the_decoder(t):
    for value in (t.logits, t.decoder.embed, t.decoder.layers[0].resid_pre):
        with pytest.raises(TypeError, match=r"axis 'pos', which counts the target: take t\.tokens\.target"):
            value[:, t.tokens.source("old")]


def test_token_ids_are_a_value_on_each_side(t):
    assert str(t.input_ids.type) == "int64[batch=1 src_pos=?]"
    t.tokens.source("old")
    assert str(t.input_ids.type) == "int64[batch=1 src_pos=3]"
    assert str(t.decoder_input_ids.type) == "int64[batch=1 pos=4]"


# What else shows two sides


def test_a_layer_without_its_side_is_explained(t):
    with pytest.raises(interpd.UnknownName, match=r"fake has encoder\.layers and decoder\.layers"):
        t.site("layers.0.resid_post")


def test_pictures_are_labelled_with_the_tokens_of_their_side(model):
    with model.trace(SOURCE, target=TARGET) as t:
        t.save(enc=t.encoder.embed.sum(-1), dec=t.decoder.embed.sum(-1))
    t.result.axes.update(enc=("batch", "src_pos"), dec=("batch", "pos"))
    html = result_html(t.result)
    assert "house" in html
    assert "Haus" in html


def test_the_lens_takes_the_norm_of_the_decoder(model, transport):
    from dataclasses import replace

    from interpd.graph.schema import AbsentSite, ModuleSchema

    manifest = transport.manifests["fake"]
    modules = {path: ModuleSchema(path, "LayerNorm", 8, 8, "d_model") for path in ("encoder.norm", "decoder.norm")}
    modules["lm_head"] = manifest.modules["lm_head"]
    transport.manifests["fake"] = replace(manifest, modules=modules)
    with interpd.Client(transport) as client:
        t = client.model("fake").trace("a")
        t.lens(t.decoder.layers[0].resid_post)
        assert [node.params.get("module") for node in t._recording.nodes] == [None, "decoder.norm", "lm_head"]
    absent = (AbsentSite("decoder.ln_final", "blocks end in a norm"),)
    transport.manifests["fake"] = replace(manifest, modules=modules, absent_sites=absent)
    with interpd.Client(transport) as client:
        t = client.model("fake").trace("a")
        t.lens(t.decoder.layers[0].resid_post)
        assert [node.params.get("module") for node in t._recording.nodes] == [None, "lm_head"]
