"""Sharded checkpoints: what is loaded, and every damage that is refused by the name of its file."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from interpd.config import ModelSpec
from interpd.errors import FeatureUnsupported, InvalidRequest, ModelNotFound
from interpd.testing.tiny_models import tiny_llama
from interpd.worker.loading import load_model
from interpd.worker.shards import INDEX, stored_dtype, weight_files

NAME = "model.norm.weight"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "sharded"
    tiny = tiny_llama(folder)
    (folder / "model.safetensors").unlink()
    tiny.model.save_pretrained(folder, max_shard_size="30KB")
    return folder, tiny.model


@pytest.fixture
def folder(sharded, tmp_path):
    return shutil.copytree(sharded[0], tmp_path / "model")


def first(folder):
    return sorted(folder.glob("model-*.safetensors"))[0]


def rewrite_index(folder, change):
    content = json.loads((folder / INDEX).read_text())
    change(content)
    (folder / INDEX).write_text(json.dumps(content))


def refuse(folder, error, message):
    with pytest.raises(error, match=message):
        load_model(ModelSpec(str(folder)))


def test_a_sharded_checkpoint_is_loaded_whole(sharded):
    folder, model = sharded
    assert len(weight_files(folder)) > 3
    loaded = load_model(ModelSpec(str(folder))).model
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)


def test_the_revision_covers_every_shard_and_the_index(folder):
    before = load_model(ModelSpec(str(folder))).revision
    last = sorted(folder.glob("model-*.safetensors"))[-1]
    weights = {name: tensor + 1 for name, tensor in load_file(last).items()}
    save_file(weights, last, metadata={"format": "pt"})
    assert load_model(ModelSpec(str(folder))).revision != before


def test_a_missing_shard_is_named(folder):
    gone = first(folder)
    gone.unlink()
    refuse(folder, ModelNotFound, rf"lacks 1 of \d+ weight files: {gone.name}")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"more",
        lambda data: b"",
        lambda data: (1 << 60).to_bytes(8, "little") + data[8:],
        lambda data: data[:8] + b"[" * 64 + data[72:],
        lambda data: data.replace(b'"data_offsets":[0,', b'"data_offsets":[8,', 1),
        lambda data: data.replace(b'"F32"', b'"F64"', 1),
    ],
    ids=["cut", "half", "longer", "empty", "huge header", "no JSON", "a gap", "wrong size"],
)
def test_a_damaged_shard_is_named(folder, damage):
    path = first(folder)
    path.write_bytes(damage(path.read_bytes()))
    refuse(folder, InvalidRequest, f"weight file {path.name!r} in .* is damaged or cut")


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "x.bin", 7])
def test_an_index_names_only_files_beside_itself(folder, name):
    outside = folder.parent / "elsewhere.safetensors"
    shutil.copy(first(folder), outside)
    rewrite_index(folder, lambda content: content["weight_map"].update({NAME: name}))
    refuse(folder, InvalidRequest, f"puts tensor {NAME!r} into .* expected a safetensors file beside it")


def test_a_tensor_that_is_not_where_the_index_says_is_named(folder):
    rewrite_index(folder, lambda content: content["weight_map"].update({"model.more.weight": first(folder).name}))
    refuse(folder, InvalidRequest, f"{first(folder).name!r} .* lacks tensor 'model.more.weight'")


def test_a_tensor_in_two_shards_is_refused(folder):
    one, other = sorted(folder.glob("model-*.safetensors"))[:2]
    weights = load_file(one)
    name, tensor = next(iter(weights.items()))
    save_file({**load_file(other), name: tensor + 1}, other, metadata={"format": "pt"})
    refuse(folder, InvalidRequest, f"tensor {name!r} is in two weight files .*{one.name!r} and {other.name!r}")


def test_an_index_with_a_tensor_twice_is_refused(folder):
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace(f'"{NAME}":', f'"{NAME}": "x.safetensors", "{NAME}":'))
    refuse(folder, InvalidRequest, f"key {NAME!r} is there twice")


@pytest.mark.parametrize("content", ["[" * 100_000, "{}", '{"metadata": {}, "weight_map": {}}', '{"weight_map": 3}'])
def test_an_index_that_is_none_is_refused(folder, content):
    (folder / INDEX).write_text(content)
    refuse(folder, InvalidRequest, "is no index of weights|cannot be read")


def test_shards_may_be_links_as_in_the_cache_of_the_hub(folder):
    path = first(folder)
    blob = folder.parent / "blob"
    path.rename(blob)
    os.symlink(blob, path)
    assert load_model(ModelSpec(str(folder))).revision.startswith("sha256:")


def test_quantised_weights_are_refused(folder):
    path = first(folder)
    weights = load_file(path)
    name = next(iter(weights))
    save_file({**weights, name: weights[name].to(torch.float8_e4m3fn)}, path, metadata={"format": "pt"})
    refuse(folder, FeatureUnsupported, f"{path.name!r} .* holds {name!r} as F8_E4M3: quantised")


def test_the_stored_dtype_is_that_of_the_first_floating_tensor(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2, dtype=torch.int64), "b": torch.zeros(2, dtype=torch.bfloat16)}, path)
    assert stored_dtype([path]) == "bfloat16"


PEAK = """
import resource, sys
from interpd.config import ModelSpec
from interpd.worker.loading import load_model

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

before = peak()
model = load_model(ModelSpec(sys.argv[1], device="cpu", dtype=sys.argv[2])).model
size = sum(parameter.nbytes for parameter in model.parameters())
print((peak() - before) / size)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_takes_the_memory_of_the_model_once(tmp_path, dtype):
    config = LlamaConfig(
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=6,
        num_attention_heads=8,
        vocab_size=8000,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size="20MB")
    command = [sys.executable, "-c", PEAK, str(tmp_path), dtype]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    # and once more for what the page cache holds of one file
    assert float(ran.stdout) < 1.6
