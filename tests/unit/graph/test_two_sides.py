"""Requests to an encoder-decoder model: a source, a target, and sites on both sides."""

from dataclasses import replace

import pytest

from interpd.graph.check import check
from interpd.graph.digest import graph_digest
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref, Steps
from interpd.graph.run import Lengths, Tokens
from interpd.graph.schema import SiteSchema
from interpd.graph.types import Dim, TensorType

BATCH, SRC, POS, D_MODEL = Dim("batch", 1), Dim("src_pos"), Dim("pos"), Dim("d_model", 8)
SOURCE = TensorType("float32", (BATCH, SRC, D_MODEL))
TARGET = TensorType("float32", (BATCH, POS, D_MODEL))
CROSS = TensorType("float32", (BATCH, Dim("head", 2), Dim("query_pos"), SRC))
SITES = (
    SiteSchema("encoder.embed", SOURCE, 0, -1, prefill_only=True),
    SiteSchema("encoder.layers.0.resid_post", SOURCE, 1, 0, prefill_only=True),
    SiteSchema("decoder.embed", TARGET, 2, 0),
    SiteSchema("decoder.layers.0.cross_attn.k", SOURCE, 3, 1, prefill_only=True),
    SiteSchema("decoder.layers.0.cross_attn.pattern", CROSS, 4, 1),
    SiteSchema("decoder.layers.0.resid_post", TARGET, 5, 1),
    SiteSchema("logits", TensorType("float32", (BATCH, POS, Dim("d_vocab", 50))), 6, 2),
)
SENT = (Prompt(token_ids=(1, 2, 3), target_ids=(4,)),)


@pytest.fixture
def two_sided(manifest):
    """The small model with an encoder."""
    sites = {site.name: site for site in SITES}
    return replace(manifest, sites=sites, model=replace(manifest.model, n_encoder_layers=1))


def read(site, **fields):
    positions = fields.pop("positions", None)
    return Node("site.read", params={"site": site} | ({"positions": positions} if positions else {}), **fields)


@pytest.fixture
def of_types(two_sided, ask):
    def types(*nodes, prompts=SENT, generation=None, n_tokens=None):
        outputs = {f"out{i}": i for i in range(len(nodes))}
        report = check(ask(*nodes, outputs=outputs, prompts=prompts, generation=generation), two_sided, n_tokens)
        assert report.violations == ()
        return [str(kind) for _, kind in report.outputs]

    return types


@pytest.fixture
def sentences(two_sided, ask):
    def messages(*nodes, prompts=SENT, generation=None, model=two_sided, n_tokens=None):
        outputs = {f"out{i}": i for i, node in enumerate(nodes) if node.op != "site.write"}
        report = check(ask(*nodes, outputs=outputs, prompts=prompts, generation=generation), model, n_tokens)
        return [f"{violation.path}: {violation.message}" for violation in report.violations]

    return messages


def test_each_side_has_its_own_positions(of_types):
    names = ("encoder.embed", "decoder.embed", "decoder.layers.0.cross_attn.pattern")
    assert of_types(*map(read, names)) == [
        "float32[batch=1 src_pos=3 d_model=8]",
        "float32[batch=1 pos=2 d_model=8]",
        "float32[batch=1 head=2 query_pos=2 src_pos=3]",
    ]


def test_without_a_target_the_decoder_has_the_position_of_its_start_token(of_types):
    assert of_types(read("decoder.embed"), prompts=(Prompt(text="hello"),)) == ["float32[batch=1 pos=1 d_model=8]"]


def test_positions_of_texts_are_open_until_they_are_tokenised(of_types):
    sent = (Prompt(text="hello", target_text="world"),)
    nodes = (read("encoder.embed"), read("decoder.embed"))
    assert of_types(*nodes, prompts=sent) == [
        "float32[batch=1 src_pos=? d_model=8]",
        "float32[batch=1 pos=? d_model=8]",
    ]
    assert of_types(*nodes, prompts=sent, n_tokens=[Lengths(3, 5)]) == [
        "float32[batch=1 src_pos=5 d_model=8]",
        "float32[batch=1 pos=3 d_model=8]",
    ]


def test_chosen_positions_are_checked_against_the_side_of_the_site(of_types, sentences):
    assert of_types(read("encoder.embed", positions=(2,))) == ["float32[batch=1 src_pos=1 d_model=8]"]
    (problem,) = sentences(read("decoder.embed", positions=(2,)))
    assert "pos=2" in problem
    assert sentences(read("encoder.embed", positions=(3,)))


def test_token_ids_are_those_of_the_side_that_is_named(of_types, sentences, manifest):
    sides = [Node("tokens.ids", params={"side": side}) for side in ("source", "target")]
    assert of_types(*sides) == ["int64[batch=1 src_pos=3]", "int64[batch=1 pos=2]"]
    assert "write 'source' or 'target'" in sentences(Node("tokens.ids"))[0]
    (problem,) = sentences(sides[0], prompts=(Prompt(token_ids=(1,)),), model=manifest)
    assert "has one side only: leave it out" in problem


def test_a_target_is_refused_where_there_is_no_second_side(sentences, manifest):
    (problem,) = sentences(Node("tokens.ids"), model=manifest)
    assert problem == (
        "prompts[0]: has target_ids, but model 'tiny' is no encoder-decoder model: its prompts have one side"
    )


def test_a_target_is_one_thing(sentences):
    both = (Prompt(text="a", target_text="b", target_ids=(1,)),)
    assert sentences(read("logits"), prompts=both) == [
        "prompts[0]: wants at most one of target_text and target_ids, got both"
    ]


def test_a_target_of_foreign_ids_is_refused(sentences):
    (problem,) = sentences(read("logits"), prompts=(Prompt(text="a", target_ids=(50,)),))
    assert problem == "prompts[0]: has token id 50, allowed: 0..49"


def test_limits_hold_for_each_side_and_count_both(sentences, two_sided):
    long = (Prompt(token_ids=(1,) * 65, target_ids=(1,) * 64),)
    assert sentences(read("logits"), prompts=long) == [
        "prompts[0]: 65 source tokens, the model takes at most 64 positions",
        "prompts[0]: 65 decoder positions, the model takes at most 64 positions",
    ]
    tight = replace(two_sided, limits=replace(two_sided.limits, n_tokens=4))
    (problem,) = sentences(read("logits"), model=tight)
    assert problem == "prompts: 5 positions in all, at most 4 are allowed"


def test_an_empty_source_is_refused(sentences):
    assert "prompts[0]: has no tokens, at least one is needed" in sentences(
        read("logits"), prompts=(Prompt(text=""),), n_tokens=[Lengths(1, 0)]
    )


def test_the_decoder_cannot_change_the_encoder(sentences):
    write = Node("site.write", (Ref(0),), {"site": "encoder.embed"})
    (problem,) = sentences(read("encoder.layers.0.resid_post"), write, read("logits"))
    assert "a pass runs forward" in problem


def test_a_pass_that_ends_in_the_encoder_counts_the_source_only(two_sided, ask):
    def cost(site):
        request = ask(read(site), outputs={"x": 0}, prompts=(Prompt(token_ids=(1, 2, 3), target_text="yes"),))
        return check(request, two_sided, [Lengths(7, 3)]).estimate

    assert (cost("encoder.layers.0.resid_post").n_tokens, cost("encoder.layers.0.resid_post").n_layers_run) == (3, 1)
    assert (cost("logits").n_tokens, cost("logits").n_layers_run) == (10, 2)


def test_in_a_generation_the_encoder_is_read_at_step_0(of_types):
    assert of_types(
        read("encoder.embed"),
        read("decoder.layers.0.cross_attn.k"),
        read("decoder.layers.0.cross_attn.pattern", steps=Steps(1, 3)),
        generation=Generation(4),
    ) == [
        "float32[batch=1 src_pos=3 d_model=8]",
        "float32[batch=1 src_pos=3 d_model=8]",
        "float32[step=? batch=1 head=2 query_pos=1 src_pos=3]",
    ]


def test_steps_of_a_source_that_is_not_tokenised_yet_may_stack(of_types):
    site = "decoder.layers.0.cross_attn.pattern"
    (kind,) = of_types(read(site, steps=Steps(1, 3)), prompts=(Prompt("a"),), generation=Generation(4))
    assert kind == "float32[step=? batch=1 head=2 query_pos=1 src_pos=?]"


def test_later_steps_of_the_encoder_do_not_exist(sentences):
    for steps in (Steps(1, 2), Steps(0)):
        (problem,) = sentences(read("encoder.embed", steps=steps), generation=Generation(4))
        assert problem == (
            "graph.nodes[0].steps: site 'encoder.embed' exists at step 0 only, because the encoder runs once: "
            "leave the steps out"
        )


def test_what_was_read_in_the_encoder_may_be_written_at_every_step(two_sided, ask):
    write = Node("site.write", (Ref(0),), {"site": "decoder.layers.0.resid_post"})
    nodes = (read("encoder.layers.0.resid_post", positions=(0,)), write)
    request = ask(*nodes, outputs={"x": 0}, prompts=SENT, generation=Generation(4))
    report = check(request, two_sided)
    assert report.violations == ()
    assert [node.steps for node in report.plan.nodes] == [Steps(0, 1), Steps(0, 4)]


def test_a_plugin_that_maps_positions_of_the_source_returns_such(of_types):
    encode = Node("sae.encode", (Ref(0),), {"sae": "sae_8"})
    assert of_types(read("encoder.embed"), encode)[1] == "float32[batch=1 src_pos=3 d_sae=32]"


def test_the_lengths_of_tokens_are_those_of_both_sides():
    target = Tokens((0, 5), ("<s>", "x"), ((0, 0), (0, 1)), "x")
    assert Tokens((1, 2, 3), ("a", "b", "c"), ((0, 1),) * 3, "abc", target).lengths == Lengths(2, 3)
    assert Tokens((1,), ("a",), ((0, 1),), "a").lengths == Lengths(1)


def test_the_target_is_part_of_what_is_asked():
    graph = Graph((), {})
    prompts = (Prompt("a"), Prompt("a", target_text="b"), Prompt("a", target_ids=(1,)), Prompt("a", target_ids=()))
    assert len({graph_digest(graph, [prompt], None) for prompt in prompts}) == 4
