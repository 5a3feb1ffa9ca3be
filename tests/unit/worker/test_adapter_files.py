"""The files of adapters: what is copied, and what is refused before anything reads it."""

import pytest
from safetensors.torch import save_file
from torch import ones

from interpd.errors import FeatureUnsupported, InvalidRequest, ModelNotFound
from interpd.specs import AdapterSpec
from interpd.worker.adapter_files import CONFIG_FILE, WEIGHTS_FILE, kept_adapter


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / CONFIG_FILE).write_text("{}")
    save_file({"x": ones(2)}, folder / WEIGHTS_FILE)
    (folder / "training_args.bin").write_bytes(b"never read")
    return folder


def keep(folder, tmp_path, revision=None):
    return kept_adapter(AdapterSpec("mine", str(folder), revision), tmp_path / "kept")


def test_the_two_files_are_copied_and_equal_adapters_are_one_folder(folder, tmp_path):
    kept, digest = keep(folder, tmp_path)
    assert sorted(path.name for path in kept.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    assert (kept / WEIGHTS_FILE).read_bytes() == (folder / WEIGHTS_FILE).read_bytes()
    assert keep(folder, tmp_path) == (kept, digest)
    (folder / CONFIG_FILE).write_text("{ }")
    other, changed = keep(folder, tmp_path)
    assert (other != kept, changed != digest) == (True, True)
    assert (kept / CONFIG_FILE).read_text() == "{}"


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder, tmp_path):
    (folder / WEIGHTS_FILE).rename(folder / "adapter_model.bin")
    with pytest.raises(FeatureUnsupported, match=r"only 'adapter_model\.bin'.*save_pretrained"):
        keep(folder, tmp_path)


@pytest.mark.parametrize("missing", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(folder, tmp_path, missing):
    (folder / missing).unlink()
    with pytest.raises(ModelNotFound, match=f"adapter 'mine': .*{missing}"):
        keep(folder, tmp_path)


def test_a_source_that_is_nothing_is_not_found(folder, tmp_path):
    with pytest.raises(ModelNotFound, match="neither a folder of the daemon's machine nor an id of the hub"):
        keep(tmp_path / "nowhere", tmp_path)
    with pytest.raises(InvalidRequest, match="is a file, expected the folder"):
        keep(folder / CONFIG_FILE, tmp_path)


def test_a_folder_has_no_revision_and_a_hub_id_needs_one(folder, tmp_path):
    with pytest.raises(InvalidRequest, match="a local folder has no revision 'main'"):
        keep(folder, tmp_path, "main")
    with pytest.raises(InvalidRequest, match="needs a pinned revision: write owner/name@COMMIT"):
        keep("owner/name", tmp_path)
