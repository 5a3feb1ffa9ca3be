"""What expressions record, node by node."""

from dataclasses import replace

import numpy as np
import pytest

import interpd_client as interpd
from interpd.graph.ir import Dots, Node, Ref, Slice
from interpd.graph.types import TensorData

SITE = {"site": "layers.1.resid_post"}
ALL = Slice()


def test_an_indexed_update_reads_changes_and_writes_back(model, sent):
    direction = np.ones(8, dtype=np.float32)
    with model.trace("a b") as t:
        t.layers[1].resid_post[:, -1] += 4.0 * direction
        t.save(after=t.layers[2].resid_post)
    assert sent()[:5] == [
        Node("site.read", (), SITE),
        Node("tensor.getitem", (Ref(0), (ALL, -1))),
        Node("torch.add", (Ref(1), TensorData.from_numpy(4.0 * direction))),
        Node("tensor.setitem", (Ref(0), (ALL, -1), Ref(2))),
        Node("site.write", (Ref(3),), SITE),
    ]


def test_a_read_keeps_what_it_saw(model, sent):
    with model.trace("a b") as t:
        h = t.layers[1].resid_post
        t.layers[1].resid_post = h * 0.0
        t.save(before=h, after=t.layers[1].resid_post)
    assert [node.op for node in sent()] == ["site.read", "torch.mul", "site.write", "site.read"]
    assert [node.label for node in sent()] == ["before", "", "", "after"]


@pytest.mark.parametrize("mask", [[False, True, True], np.array([False, True, True])])
def test_a_constant_mask_is_the_positions_that_it_selects(model, mask):
    t = model.trace("a b c")
    h = t.embed
    assert h[:, mask].shape == (1, 2, 8)
    assert t._recording.nodes[-1].inputs == (Ref(0), (ALL, (1, 2)))
    h[0, mask] = 0.0
    assert t._recording.nodes[-2].inputs[1] == (0, (1, 2))
    t.save(logits=t.logits)
    assert t.check().violations == ()


def test_a_mask_of_several_dimensions_takes_as_many_of_the_value(model):
    t = model.trace([1, 2])
    mask = np.zeros((2, 8), dtype=bool)
    mask[0, 3] = mask[1, 5] = True
    assert t.embed[:, mask].shape == (1, 2)
    assert t._recording.nodes[-1].inputs[1] == (ALL, (0, 1), (3, 5))
    x = t.embed[0] * 1.0
    x[mask] = 0.0
    assert t._recording.nodes[-1].inputs[1] == TensorData.from_numpy(mask)


def test_a_mask_must_cover_what_it_lies_on(model):
    with pytest.raises(TypeError, match=r"a mask of shape \[2\] lies on dimensions of sizes \[3\]; wanted the same"):
        model.trace("a b c").embed[:, [True, False]]


def test_a_whole_write_takes_the_value_itself(model, sent):
    with model.trace("a b") as t:
        t.layers[1].resid_post = 0.0
        t.save(logits=t.logits)
    assert sent()[0] == Node("site.write", (TensorData.from_numpy(np.float32(0.0)),), SITE)


def test_an_update_of_a_whole_site_needs_no_index(model, sent):
    with model.trace("a b") as t:
        t.layers[1].resid_post *= 2.0
        t.save(logits=t.logits)
    assert [node.op for node in sent()][:3] == ["site.read", "torch.mul", "site.write"]


def test_two_updates_through_one_name_both_count(model, sent):
    with model.trace("a b") as t:
        h = t.layers[1].resid_post
        h[:, 0] = 0.0
        h[:, 1] = 1.0
        t.save(logits=t.logits)
    writes = [node for node in sent() if node.op == "site.write"]
    setitems = [node for node in sent() if node.op == "tensor.setitem"]
    assert len(writes) == 2
    assert setitems[1].inputs[0] == Ref(1)


def test_updating_a_value_from_before_a_write_is_refused(model):
    with pytest.raises(interpd.InvalidGraph, match=r"STALE_READ"), model.trace("a b") as t:
        h = t.layers[1].resid_post
        t.layers[1].resid_post = 0.0
        h[:, -1] = 1.0


def test_logits_at_one_position_are_selected_by_the_service(model, sent):
    with model.trace("a b") as t:
        t.save(last=t.logits[:, -1])
    assert sent() == [
        Node("site.read", (), {"site": "logits", "positions": (-1,)}),
        Node("tensor.getitem", (Ref(0), (ALL, 0)), label="last"),
    ]


def test_logits_at_listed_positions_keep_their_axis(model, sent):
    with model.trace("a b") as t:
        t.save(two=t.logits[:, [0, 1], :5])
    assert sent()[0].params["positions"] == (0, 1)
    assert sent()[1].inputs[1] == (ALL, ALL, Slice(None, 5))


@pytest.mark.parametrize(
    "index",
    [(slice(None), slice(-2, None)), (slice(None), np.array([0, 1])), (0, [0, 1]), (None, slice(None), slice(None))],
    ids=["slice", "array", "joined with an integer", "new axis"],
)
def test_other_indices_of_logits_are_left_to_getitem(model, sent, index):
    with model.trace("a b") as t:
        t.save(some=t.logits[index])
    assert "positions" not in sent()[0].params


def test_logits_read_before_a_write_are_not_read_again(model, sent):
    with model.trace("a b") as t:
        logits = t.logits
        t.logits = 0.0
        t.save(before=logits[:, -1], after=t.logits)
    assert [node.op for node in sent()] == ["site.read", "site.write", "tensor.getitem", "site.read"]


def test_indices_of_every_kind(model, sent):
    with model.trace("a b") as t:
        h = t.layers[1].resid_post
        t.save(x=h[..., None, 0, 1:8:2], some=h[:, [1, 0]], by=h[:, h.argmax(1)], row=h[[0]], grid=h[0, [[0, 1]]])
    indices = [node.inputs[1] for node in sent() if node.op == "tensor.getitem"]
    assert indices == [
        (Dots(), None, 0, Slice(1, 8, 2)),
        (ALL, (1, 0)),
        (ALL, Ref(3)),
        ((0,),),
        (0, TensorData.from_numpy(np.array([[0, 1]]))),
    ]


def test_a_mask_chooses_what_an_assignment_changes(model, sent):
    with model.trace("a b") as t:
        h = t.layers[1].resid_post
        h[h < 0] = 0.0
        t.save(h=h, logits=t.logits)
    assert [node.op for node in sent()] == ["site.read", "torch.lt", "tensor.setitem", "site.write", "site.read"]


def test_raw_module_paths_are_sites(model, sent):
    with model.trace("a b") as t:
        out = t.module("model.layers.2").output
        t.module("model.layers.2").output = out + 1
        t.save(same=t.site("model.layers.2.output"))
    raw = "model.layers.2.output"
    assert [node.params.get("site") for node in sent()] == [raw, None, raw, raw]


def test_values_cross_between_prompts(model, sent):
    with model.trace() as t:
        a, b = t.prompt("x y"), t.prompt("z")
        b.layers[1].resid_post[:, -1] = a.layers[1].resid_post[:, -1]
        t.save(p=b.logits[:, -1])
    assert [(node.op, node.invoke) for node in sent() if node.op.startswith("site.")] == [
        ("site.read", 0),
        ("site.read", 1),
        ("site.write", 1),
        ("site.read", 1),
    ]


def test_the_trace_itself_has_no_sites_when_it_has_several_prompts(model):
    with pytest.raises(interpd.InvalidGraph, match="2 prompts; say whose value"), model.trace() as t:
        t.prompt("x")
        t.prompt("y")
        t.save(logits=t.logits)


def test_gradients_modules_weights_and_tokens(model, sent):
    with model.trace("a b") as t:
        h = t.layers[0].resid_post
        target = t.logits[0, -1, 3]
        t.save(g=h.grad_of(target), w=t.param("lm_head.weight"), ids=t.input_ids, lens=t.lens(h))
    kept = {node.label: node for node in sent() if node.label}
    assert kept["g"] == Node("site.grad", (Ref(2), Ref(0)), label="g")
    assert kept["w"].params == {"name": "lm_head.weight"}
    assert kept["ids"].op == "tokens.ids"
    assert [node.params for node in sent() if node.op == "module.call"] == [
        {"module": "model.norm"},
        {"module": "lm_head"},
    ]


def test_a_model_that_mixes_something_in_behind_its_norm_has_no_lens(transport):
    manifest = transport.manifests["fake"]
    order = manifest.sites["logits"].order
    sites = {**manifest.sites, "logits": replace(manifest.sites["logits"], order=order + 1)}
    sites["mix"] = replace(sites["ln_final"], name="mix", order=order)
    transport.manifests["fake"] = replace(manifest, sites=sites)
    with interpd.Client(transport) as client:
        t = client.model("fake").trace("a")
        with pytest.raises(
            interpd.UnknownName, match="has no lens: between its final norm and its logits there is 'mix'"
        ):
            t.lens(t.layers[0].resid_post)


def test_a_gradient_with_respect_to_a_site_mentioned_again_is_that_of_the_first_mention(model, sent):
    with model.trace("a") as t:
        target = (t.layers[0].resid_post ** 2).sum()
        t.save(g=t.grad(target, t.layers[0].resid_post))
    assert [node.op for node in sent()] == ["site.read", "torch.pow", "torch.sum", "site.grad"]


def test_a_gradient_does_not_reach_back_beyond_a_write(model):
    with pytest.raises(interpd.InvalidGraph, match="does not depend on"), model.trace("a") as t:
        target = t.layers[0].resid_post.sum()
        t.layers[0].resid_post = 0.0
        t.save(g=t.grad(target, t.layers[0].resid_post))


def test_a_gradient_with_respect_to_a_computed_value_is_refused(model):
    with pytest.raises(interpd.InvalidGraph, match="index the gradient afterwards"), model.trace("a") as t:
        h = t.layers[0].resid_post
        t.grad(t.logits.sum(), wrt=h[:, -1])


def test_unused_pure_nodes_are_left_out_and_writes_never(model, sent):
    with model.trace("a b") as t:
        t.layers[0].resid_post.softmax(-1)
        t.layers[1].resid_post = 1.0
        t.save(x=t.logits)
    assert [node.op for node in sent()] == ["site.write", "site.read"]


def test_a_write_that_nothing_sees_is_refused_at_its_line(model):
    with pytest.raises(interpd.InvalidGraph, match=r"test_graph_building.py:\d+: t.layers.*\n.*no effect"):
        with model.trace("a b") as t:
            t.layers[1].resid_post = 1.0
            t.save(x=t.embed)


def test_large_arrays_travel_once_and_by_digest(model, transport):
    large = np.zeros((200, 200), dtype=np.float32)
    for _ in range(2):
        with model.trace("a b") as t:
            t.save(x=t.torch.matmul(large, large))
    blobs = [node.inputs for request in transport.requests for node in request.graph.nodes]
    assert blobs[0] == blobs[1]
    assert list(transport.blobs) == [blobs[0][0].digest]
