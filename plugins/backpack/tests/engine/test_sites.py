"""The sites of a Backpack are all there, and are what they are called."""

import numpy as np
import pytest
import torch

from interpd.graph.ir import Ref
from interpd.testing.bench import ask, call, read, write

PROMPT, SHORT = "The nurse said that she is tired", "The dog ate"


def test_nothing_is_missing_but_what_a_gpt2_has_not(bench):
    absent = {site.name.rpartition(".")[2]: site.reason for site in bench.engine.describe().absent_sites}
    assert absent.keys() == {"q_rot", "k_rot", "gate", "up"}


def test_the_sense_side_has_sites_and_an_axis(bench):
    manifest = bench.engine.describe()
    shapes = {name: [dim.name for dim in manifest.sites[name].type.dims] for name in manifest.sites}
    assert shapes["senses"] == ["batch", "sense", "pos", "d_model"]
    assert shapes["sense_weights"] == ["batch", "sense", "query_pos", "key_pos"]
    assert shapes["sense_mix"] == ["batch", "pos", "d_model"]
    assert manifest.model.sizes["sense"] == 4
    assert all(manifest.sites[name].shares_pass for name in ("senses", "sense_weights", "sense_mix", "logits"))
    assert (manifest.modules["backpack.sense_table"].appends) == (("sense", 4), ("d_model", 24))


def test_rows_may_change_between_its_blocks(bench):
    boundaries = bench.engine._access.resident.boundaries
    assert len(boundaries.places) == 4
    assert {place.item for place in boundaries.behind} == {1, 2, 3}


def test_what_a_trace_reads_is_what_the_modules_give(bench):
    names = ("senses", "sense_weights", "sense_mix", "logits", "layers.1.attn.pattern")
    result = bench.run(ask([read(name) for name in names], dict(zip(names, range(5), strict=True)), PROMPT, SHORT))
    with torch.no_grad():
        out = bench.model(bench.ids(PROMPT))
    assert np.abs(result["sense_weights"] - out.contextualization.numpy()).max() < 1e-12
    assert np.abs(result["logits"] - out.logits.numpy()).max() < 1e-10
    mixed = np.einsum("blij,bljd->bid", result["sense_weights"], result["senses"])
    assert np.abs(result["sense_mix"] - mixed).max() < 1e-10


def test_senses_of_ids_are_those_of_the_text(bench):
    nodes = [call("tokens.ids"), call("module.call", Ref(0), module="backpack.sense_table"), read("senses")]
    result = bench.run(ask(nodes, {"table": 1, "senses": 2}, PROMPT))
    assert np.abs(result["table"].transpose(0, 2, 1, 3) - result["senses"]).max() < 1e-12


@pytest.mark.parametrize("site", ["senses", "sense_weights"])
def test_a_write_takes_effect_and_reaches_nothing_else(bench, site):
    """Scaling the senses, or their weights, scales the logits, and leaves the other as it was."""
    other = {"senses": "sense_weights", "sense_weights": "senses"}[site]
    nodes = [read(site), call("torch.mul", Ref(0), 3.0), write(Ref(1), site), read("logits"), read(other)]
    plain = bench.run(ask([read("logits"), read(other)], {"logits": 0, "other": 1}, PROMPT))
    result = bench.run(ask(nodes, {"logits": 3, "other": 4}, PROMPT))
    assert np.abs(result["logits"] - 3 * plain["logits"]).max() < 1e-9
    assert np.array_equal(result["other"], plain["other"])


def test_a_write_at_the_embeddings_reaches_both_sides(bench):
    """The senses of what was written are those of the network, not those of the token that stood there."""
    nodes = [
        read("embed"),
        call("torch.roll", Ref(0), shifts=1, dims=1),
        write(Ref(1), "embed"),
        read("senses"),
        read("sense_weights"),
    ]
    result = bench.run(ask(nodes, {"rolled": 1, "senses": 3, "weights": 4}, PROMPT))
    plain = bench.run(ask([read("senses"), read("sense_weights")], {"senses": 0, "weights": 1}, PROMPT))
    assert np.abs(result["senses"] - np.roll(plain["senses"], 1, axis=2)).max() < 1e-10
    assert np.abs(result["weights"] - plain["weights"]).max() > 1e-3
