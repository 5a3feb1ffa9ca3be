"""``interpd/REFERENCE.md`` is what the code says, and says all of it."""

import pytest
from docs_pages import blocks, text
from docs_reference import TARGET, reference

from interpd import errors
from interpd.config import keys, load_config
from interpd.graph.builtin import BUILTIN_OPS


def test_the_reference_is_fresh():
    assert TARGET.read_text(encoding="utf-8") == reference(), "run python tests/docs/reference.py"


def test_every_operation_is_in_the_reference():
    assert not [name for name in BUILTIN_OPS if f"`{name}(" not in text("interpd/REFERENCE.md")]


def test_every_operation_says_what_it_returns():
    assert not [name for name, schema in BUILTIN_OPS.items() if not schema.summary]


def error_classes(cls=errors.InterpdError):
    yield cls
    for sub in cls.__subclasses__():
        if sub.__module__ == errors.__name__:
            yield from error_classes(sub)


@pytest.mark.parametrize("cls", list(error_classes()), ids=lambda cls: cls.__name__)
def test_every_error_is_in_the_reference_and_in_the_tree(cls):
    assert f"`{cls.__name__}`" in text("interpd/REFERENCE.md")
    assert cls.__name__ in errors.__doc__ or cls.__name__ == "InterpdError"
    assert cls.__doc__


def test_every_configuration_key_is_in_the_reference():
    assert not [key.name for key in keys() if f"`{key.name}`" not in text("interpd/REFERENCE.md")]


def test_the_sample_configuration_is_one(tmp_path):
    file = tmp_path / "interpd.toml"
    file.write_text("".join(block.code for block in blocks("interpd/REFERENCE.md", "toml")))
    config = load_config(environ={}, path=file)
    assert [model.name for model in config.models] == ["gpt2", "llama-3.1-8b"]
