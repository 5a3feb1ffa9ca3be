"""The door to the bundled models: ours, and those of packages that are installed for one test."""

import itertools

import pytest

from interpd import zoo
from interpd.config import ModelSpec
from interpd.errors import Broken, InvalidRequest, ModelNotFound

NUMBERS = itertools.count()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package that offers a model, with these files beside its ``__init__.py``."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, *files):
        package = f"installed_zoo_{next(NUMBERS)}"  # a name of its own: imported modules stay
        (tmp_path / package / "sea").mkdir(parents=True)
        for file in ("__init__.py", "sea/__init__.py", *(f"sea/{one}" for one in files)):
            (tmp_path / package / file).touch()
        info = tmp_path / "interpd_wave-0.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: interpd-wave\nVersion: 0.3\n")
        (info / "entry_points.txt").write_text(f"[interpd.zoo]\n{name} = {package}.sea\n")
        return tmp_path / package / "sea"

    return install


def test_path_is_the_folder_of_the_model():
    assert (zoo.path("facts") / "model.safetensors").is_file()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no bundled model is called 'fact'; bundled models: (\w+, )*facts"):
        zoo.path("fact")


def test_plugins_offer_models_beside_ours(install):
    folder = install("sea", "config.json")
    assert {"facts", "sea"} <= set(zoo.names())
    assert zoo.path("sea") == folder


def test_a_package_without_a_model_is_broken(install):
    install("sea")
    with pytest.raises(Broken, match=r"interpd-wave 0.3.*no config.json lies beside its __init__.py"):
        zoo.path("sea")


def test_our_names_cannot_be_taken(install):
    install("facts", "config.json")
    assert zoo.names().count("facts") == 1
    assert zoo.path("facts").parent.name == "zoo"


def test_a_misspelt_source_is_told_of_the_models_of_plugins(install):
    from interpd.worker.loading import load_model

    install("sea", "config.json")
    for source, error in (("se", InvalidRequest), ("./se", ModelNotFound)):
        with pytest.raises(error, match=r"bundled (name here|model) \((\w+, )*facts, .*sea.*\)"):
            load_model(ModelSpec(source))
