"""The door to the bundled models."""

import pytest

from interpd import zoo


def test_path_is_the_folder_of_the_model():
    assert (zoo.path("facts") / "model.safetensors").is_file()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no bundled model is called 'fact'; bundled models: facts"):
        zoo.path("fact")
