"""Rollout, flow and ALTI against plain implementations on the bare models' attention."""

import networkx
import numpy as np
import pytest
import torch

from interpd.errors import InterpdError

SOURCE = (5, 40, 77, 120, 33, 9, 210, 64)


def close(found, expected, atol=1e-6):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=atol)


@pytest.fixture
def weights(world):
    """(encoder, decoder, cross) attention of the bare model, ``[layer head query key]``; ``None``: there is none."""
    model = world.model
    model.set_attn_implementation("eager")
    sides = {"decoder_input_ids": torch.tensor([world.target])} if world.has_encoder else {}
    try:
        with torch.no_grad():
            out = model(torch.tensor([SOURCE]), output_attentions=True, **sides)
    finally:
        model.set_attn_implementation("sdpa")
    names = (
        ("encoder_attentions", "decoder_attentions", "cross_attentions")
        if world.has_encoder
        else ("", "attentions", "")
    )
    return tuple(torch.cat(getattr(out, name)).double().numpy() if name else None for name in names)


def mixed(attention, residual=0.5):
    return [residual * np.eye(len(one[0])) + (1 - residual) * one.mean(0) for one in attention]


def rolled(weights):
    """(encoder, decoder) shares of inputs, by hand."""
    of_encoder, of_decoder, cross = weights
    encoder = np.eye(0)
    if of_encoder is not None:
        encoder = np.eye(of_encoder.shape[-1])
        for layer in mixed(of_encoder):
            encoder = layer @ encoder
    n_source, n_target = len(encoder), of_decoder.shape[-1]
    decoder = np.concatenate([np.zeros((n_target, n_source)), np.eye(n_target)], 1)
    for number, layer in enumerate(mixed(of_decoder)):
        decoder = layer @ decoder
        if cross is not None:
            read = np.concatenate([encoder, np.zeros((n_source, n_target))], 1)
            decoder = 0.5 * decoder + 0.5 * cross[number].mean(0) @ read
    return encoder, decoder


def network(weights):
    """The same as a graph of capacities, nodes (stack, depth, position)."""
    of_encoder, of_decoder, cross = weights
    graph, depth = networkx.DiGraph(), 0

    def add(stack, depth, below, shares):
        for whose, where in zip(*np.nonzero(shares), strict=True):
            graph.add_edge((stack, depth, whose), (*below, where), capacity=shares[whose, where])

    top = 0
    for layer in mixed(of_encoder) if of_encoder is not None else ():
        add("encoder", top + 1, ("encoder", top), layer)
        top += 1
    for number, layer in enumerate(mixed(of_decoder)):
        add("decoder", depth + 1, ("decoder", depth), layer)
        depth += 1
        if cross is not None:
            add("decoder", depth + 1, ("decoder", depth), 0.5 * np.eye(len(layer)))
            add("decoder", depth + 1, ("encoder", top), 0.5 * cross[number].mean(0))
            depth += 1
    return graph, top, depth


def test_rollout_is_the_product_of_layers(world, weights):
    encoder, decoder = rolled(weights)
    out = world.trace("attention_rollout")
    close(np.nan_to_num(out.scores), decoder[:-1].T)
    close(np.nansum(out.scores, 0), 1)
    if world.has_encoder:
        close(out.encoder_self, encoder.T)
        beside = world.trace("attention_rollout", inputs="source")
        close(np.nan_to_num(beside.scores[: len(SOURCE)]), decoder[:-1, : len(SOURCE)].T)
        close(np.nan_to_num(beside.decoder_self), decoder[:, len(SOURCE) :].T)


def test_flow_is_the_maximum_flow(world, weights):
    graph, top, depth = network(weights)
    n_source = len(SOURCE) if world.has_encoder else 0
    last = len(world.target) - 1
    out = world.trace("attention_flow", start=last, output_encoder_self_scores=False)
    inputs = [("encoder", 0, at) for at in range(n_source)] + [("decoder", 0, at) for at in range(last)]
    close(out.scores[:-1, 0], [networkx.maximum_flow_value(graph, ("decoder", depth, last - 1), at) for at in inputs])
    if world.has_encoder:
        pair = world.trace("attention_flow", inputs="source", start=last).encoder_self[3, 1]
        close(pair, networkx.maximum_flow_value(graph, ("encoder", top, 1), ("encoder", 0, 3)))


def test_the_residual_share_and_the_heads_are_options(gpt2):
    alone = gpt2.trace("attention_rollout", residual=0.0, heads_reduce="max").scores
    found = np.eye(8)
    for layer in gpt2.trace("attention", start=1).scores:
        columns = np.concatenate([np.nan_to_num(layer).max(0), np.zeros((8, 1))], 1).T
        columns[-1, -1] = 1
        found = columns / columns.sum(1, keepdims=True) @ found
    close(np.nan_to_num(alone), found[:-1].T)


def test_attention_that_the_graph_takes_away_leaves_the_stream(gpt2):
    with gpt2.prompt() as t:
        for layer in t.layers:
            layer.attn.pattern = layer.attn.pattern * 0
        t.save(out=t.op("attribution.attention_rollout"))
    close(np.nan_to_num(t.result["out"].scores), np.eye(8)[:, :-1])


def test_a_stream_that_keeps_all_is_refused(gpt2):
    with pytest.raises(InterpdError, match="residual is 1"):
        gpt2.trace("attention_rollout", residual=1.0)


def test_a_network_that_is_too_large_is_refused(gpt2, monkeypatch):
    monkeypatch.setattr("interpd_attribution.worker.internals.rollout.MOST_WORK", 1000)
    with pytest.raises(InterpdError, match="28 pairs of positions in a network of 108 edges"):
        gpt2.trace("attention_flow")
