"""Where the parts of a model go, for GPUs of sizes that are made up."""

import logging

import pytest
import torch

from interpd.config import load_config
from interpd.errors import DeviceOutOfMemory, InvalidRequest, LimitExceeded
from interpd.specs import ModelSpec, checked_model
from interpd.testing.several_devices import several_devices
from interpd.testing.tiny_models import tiny_gpt2, tiny_llama, tiny_model
from interpd.wire.manifests import model_spec_from_proto, model_spec_to_proto
from interpd.worker.device_map import dispatched, placement, spread
from interpd.worker.gpus import with_gpus


@pytest.fixture(scope="module", autouse=True)
def quiet():
    # accelerate says of each made-up GPU that it is not there
    logging.getLogger("accelerate").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def model():
    return tiny_llama().model


@pytest.fixture(scope="module")
def n_bytes(model):
    return sum(parameter.nbytes for parameter in model.parameters())


@pytest.mark.parametrize("policy", ["auto", "balanced"])
def test_a_policy_puts_whole_blocks_on_all_gpus(model, n_bytes, policy):
    placed = placement(model, policy, {0: n_bytes, 1: n_bytes}, "m")
    assert set(placed.values()) == {0, 1}
    assert {path for path in placed if ".layers." in path} == {f"model.layers.{i}" for i in range(3)}


def test_sequential_fills_the_first_gpu_first(model, n_bytes):
    placed = placement(model, "sequential", {0: 2 * n_bytes, 1: n_bytes}, "m")
    assert set(placed.values()) == {0}


def test_what_does_not_fit_is_refused_with_the_numbers(model, n_bytes):
    room = {0: n_bytes // 4, 1: n_bytes // 4}
    with pytest.raises(DeviceOutOfMemory, match=r"model 'm' has .* GiB of weights; .* do not fit on .* on GPU 1"):
        placement(model, "auto", room, "m")
    with pytest.raises(DeviceOutOfMemory, match="GPU 0 lacks"):
        placement(model, (("model", 0), ("lm_head", 1)), room, "m")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ((("model", 0),), "leaves parts of it out: .*lm_head"),
        ((("", 0), ("model.layers.1.mlp", 1)), r"splits block 'model\.layers\.1' over GPUs \[0, 1\]"),
        ((("", 0), ("model.layer.1", 1)), r"names 'model\.layer\.1', which is no module"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(model, n_bytes, table, message):
    with pytest.raises(InvalidRequest, match=f"the device_map of model 'm' {message}"):
        placement(model, table, {0: n_bytes, 1: n_bytes}, "m")


def test_what_is_one_tensor_goes_together():
    tied = tiny_gpt2().model
    table = (("transformer", 0), ("lm_head", 1))
    with pytest.raises(InvalidRequest, match="they are one tensor, so they go together"):
        placement(tied, table, {0: 1 << 30, 1: 1 << 30}, "m")
    assert placement(tied, "auto", {0: 100_000, 1: 100_000}, "m")["lm_head"] == 0


@pytest.mark.parametrize("architecture", ["bart", "pegasus"])
def test_a_bias_of_the_model_itself_goes_with_its_head(architecture):
    model = tiny_model(architecture).model
    n_bytes = sum(parameter.nbytes for parameter in model.parameters())
    placed = placement(model, "auto", {0: n_bytes * 2 // 3, 1: n_bytes * 2 // 3}, "m")
    assert set(placed.values()) == {0, 1}
    # blocks are whole also where transformers does not say what a block is
    assert not any(path.count(".") > 3 for path in placed)
    with several_devices():
        dispatched(model, {path: f"cpu:{number}" for path, number in placed.items()})
        assert model.final_logits_bias.device == model.lm_head.weight.device == torch.device("cpu", placed["lm_head"])


def test_a_table_is_taken_as_it_is(model, n_bytes):
    table = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.layers": 1, "model.norm": 1, "lm_head": 0}
    assert placement(model, tuple(table.items()), {0: n_bytes, 1: n_bytes}, "m") == table


def test_gpus_that_this_process_does_not_see_are_refused(model):
    with pytest.raises(InvalidRequest, match="spread over 64 GPUs, this worker sees"):
        spread(model, "auto", 64, "m")


@pytest.mark.parametrize(
    ("fields", "device_map", "num_gpus"),
    [
        ({}, "", 0.0),
        ({"num_gpus": 1.0}, "", 1.0),
        ({"num_gpus": 0.5}, "", 0.5),
        ({"num_gpus": 2.0}, "auto", 2.0),
        ({"num_gpus": 4.0, "device_map": "balanced_low_0"}, "balanced_low_0", 4.0),
        ({"device_map": (("model", 0), ("lm_head", 1))}, (("model", 0), ("lm_head", 1)), 2.0),
    ],
)
def test_what_is_asked_for_is_made_explicit(fields, device_map, num_gpus):
    spec = checked_model(ModelSpec("m", **fields))
    assert (spec.device_map, spec.num_gpus) == (device_map, num_gpus)
    assert checked_model(spec) == spec == model_spec_from_proto(model_spec_to_proto(spec))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_gpus": 1.5}, "must be a whole number"),
        ({"num_gpus": 2.0, "device": "cuda:1"}, "is one device, num_gpus 2 asks for several"),
        ({"num_gpus": 2.0, "device": "cpu"}, "is one device"),
        ({"device_map": "auto"}, "set num_gpus"),
        ({"device_map": "disk", "num_gpus": 2.0}, "'disk' is none of auto, balanced"),
        ({"device_map": (("model", 3),), "num_gpus": 2.0}, "names GPU 3, num_gpus is 2"),
        ({"device_map": (("model", -1),)}, "numbers of GPUs, from 0"),
        ({"device_map": ()}, "numbers of GPUs, from 0"),
    ],
)
def test_what_contradicts_itself_is_refused(fields, message):
    with pytest.raises(InvalidRequest, match=message):
        checked_model(ModelSpec("m", **fields))


def test_several_gpus_are_asked_of_the_node_together():
    spec = checked_model(ModelSpec("m", name="m", num_gpus=2.0, replicas=2))
    assert with_gpus(spec, 4.0, 4.0) == spec
    with pytest.raises(LimitExceeded, match="asks for 4 GPUs, 3 are free"):
        with_gpus(spec, 3.0, 4.0)


def test_the_file_takes_a_policy_or_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "interpd.toml").write_text(
        '[[models]]\nsource = "a"\nnum_gpus = 2\ndevice_map = "balanced"\n'
        '[[models]]\nsource = "b"\n[models.device_map]\n"model" = 0\n"lm_head" = 1\n'
    )
    first, second = load_config(environ={}).models
    assert (first.device_map, second.device_map) == ("balanced", (("model", 0), ("lm_head", 1)))
    assert second.num_gpus == 2.0
    (tmp_path / "interpd.toml").write_text('[[models]]\nsource = "b"\ndevice_map = {model = "cpu"}\n')
    with pytest.raises(InvalidRequest, match=r"models\[0\]: device_map\.model: expected int, got 'cpu'"):
        load_config(environ={})
