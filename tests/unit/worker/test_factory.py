"""How an engine is made, as far as plugins go."""

from types import ModuleType

import torch

from interpd.config import ModelSpec
from interpd.sdk import hookimpl
from interpd.worker.factory import make_registry
from interpd.worker.options import ReplicaOptions


def test_the_plugin_that_is_being_imported_is_told_and_what_it_sets_in_torch_is_put_back():
    said = []
    module = ModuleType("loud")

    @hookimpl
    def interpd_register_ops():
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        return []

    module.interpd_register_ops = interpd_register_ops
    options = ReplicaOptions(ModelSpec("x"), "", plugins=("loud",))
    registry = make_registry(options, {"loud": module}, said.append)
    assert registry.plugins[1].status == "loaded"
    assert said == ["importing plugin 'interpd'", "importing plugin 'loud'"]
    assert torch.get_default_dtype() == torch.float32
    assert not torch.are_deterministic_algorithms_enabled()
