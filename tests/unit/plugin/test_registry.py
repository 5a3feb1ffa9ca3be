import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
from jaxtyping import Float
from numpy import ndarray as Tensor

from interpd.config import ModelSpec
from interpd.errors import InternalError
from interpd.graph.run import Event
from interpd.graph.schema import PluginInfo
from interpd.plugin.artifact import artifact
from interpd.plugin.discovery import Candidate, candidate_of, discover
from interpd.plugin.hookspecs import hookimpl
from interpd.plugin.method import MethodContext, method
from interpd.plugin.model import LoadedModel
from interpd.plugin.op import op
from interpd.plugin.registry import load_registry
from interpd.plugin.site_table import SiteTable


@artifact("sae")
@dataclass(frozen=True)
class Sae:
    """Weights."""

    w: Float[Tensor, "d_model d_sae"]


@dataclass(frozen=True)
class Parts:
    low: Float[Tensor, " pos"]
    high: Float[Tensor, " pos"]


@op("sae.encode")
def encode(x: Float[Tensor, "pos d_model"], *, sae: Sae) -> Float[Tensor, "pos d_sae"]:
    """Features."""
    return x


@op("sae.split")
def split(x: Float[Tensor, " pos"]) -> Parts:
    """Two parts."""
    return Parts(x, -x)


@op("sae.extra")
def extra(x: Float[Tensor, " pos"]) -> Float[Tensor, " pos"]:
    """The same."""
    return x


@method("sae.train")
def train(ctx: MethodContext) -> Float[Tensor, " step"]:
    """Losses."""


def plugin(**hooks):
    """A module whose hooks return the values (or call the functions) given."""
    module = ModuleType("interpd_sae")
    for name, value in hooks.items():
        implementation = value if callable(value) else (lambda value=value: value)
        implementation.__name__ = name
        setattr(module, name, hookimpl(implementation))
    return module


def loaded(module, name="sae", **options):
    return load_registry(
        [name], candidates=[Candidate(name, "interpd-sae", "0.2", "interpd_sae", lambda: module)], **options
    )


def problem(module):
    (info,) = loaded(module).plugins
    assert info.status == "broken"
    return info.problem


WHOLE = {
    "interpd_register_ops": [encode, split],
    "interpd_register_methods": [train],
    "interpd_register_artifacts": [Sae],
}


def test_hook_interpd_register_ops():
    registry = loaded(plugin(**WHOLE))
    assert list(registry.ops) == ["sae.encode", "sae.split"]
    assert registry.ops["sae.encode"].schema.plugin == "sae"
    assert registry.plugins == (
        PluginInfo("sae", "interpd-sae", "0.2", "loaded", ops=("sae.encode", "sae.split", "sae.train")),
    )


def test_hook_interpd_register_methods():
    registered = loaded(plugin(interpd_register_methods=[train])).methods["sae.train"]
    assert (registered.schema.is_method, registered.schema.plugin) == (True, "sae")


def test_hook_interpd_register_artifacts():
    registered = loaded(plugin(**WHOLE)).artifact_kinds["sae"]
    assert (registered.cls, registered.schema.plugin) == (Sae, "sae")


def test_hook_interpd_model_for_spec():
    model = LoadedModel("model", "tokenizer", "abc")
    registry = loaded(plugin(interpd_model_for_spec=lambda spec: model if spec.source == "backpack" else None))
    assert registry.model_for_spec(ModelSpec("backpack")) is model
    assert registry.model_for_spec(ModelSpec("gpt2")) is None


def test_hook_interpd_sites_for_model():
    sites = SiteTable("backpack", (), "", ())
    registry = loaded(
        plugin(interpd_sites_for_model=lambda model_config: sites if model_config == "backpack" else None)
    )
    assert registry.sites_for_model("backpack") is sites
    assert registry.sites_for_model("gpt2") is None


def test_hook_interpd_on_event():
    seen = []
    registry = loaded(plugin(interpd_on_event=lambda event: seen.append(event)))
    registry.tell(Event("r1"))
    assert seen == [Event("r1")]


def test_an_observer_that_fails_is_counted_and_reaches_nobody():
    registry = loaded(plugin(interpd_on_event=lambda event: 1 / 0))
    registry.tell(Event("r1"))
    registry.tell(Event("r2"))
    assert registry.observer_failures == {"sae": 2}


def test_a_dataclass_of_results_becomes_the_tuple_that_the_engine_indexes():
    assert loaded(plugin(**WHOLE)).ops["sae.split"].fn(3) == (3, -3)


def test_hooks_may_take_a_subset_of_their_arguments():
    seen = []
    loaded(plugin(interpd_on_event=lambda: seen.append("called"))).tell(Event("r1"))
    assert seen == ["called"]


def test_a_registry_is_frozen():
    registry = loaded(plugin(**WHOLE))
    with pytest.raises(TypeError):
        registry.ops["x.y"] = registry.ops["sae.encode"]
    with pytest.raises(AttributeError):
        registry.ops = {}


def test_loading_twice_gives_the_same():
    module = plugin(**WHOLE)
    assert dict(loaded(module).ops).keys() == dict(loaded(module).ops).keys()
    assert loaded(module).plugins == loaded(module).plugins


def test_what_is_installed_but_not_allowed_is_listed_and_not_imported():
    candidate = Candidate("sae", "interpd-sae", "0.2", "interpd_sae", lambda: pytest.fail("imported"))
    registry = load_registry([], candidates=[candidate])
    assert registry.ops == {}
    assert [(info.name, info.status) for info in registry.plugins] == [("sae", "not_allowed")]


def test_what_is_allowed_but_not_installed_is_listed_with_the_nearest():
    registry = load_registry(["sea"], candidates=[candidate_of(plugin(**WHOLE), "sae")])
    assert [(info.name, info.status) for info in registry.plugins] == [("sae", "not_allowed"), ("sea", "broken")]
    assert registry.plugins[1].problem == "plugin 'sea' is allowed but not installed; nearest is 'sae'"


def raises(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize("error", [ImportError("no torch"), SystemExit(3), BaseException("odd")], ids=repr)
def test_a_module_that_cannot_be_imported_is_broken_and_the_others_load(error):
    bad = Candidate("bad", "interpd-bad", "1.0", "interpd_bad", raises(error))
    registry = load_registry(["bad", "sae"], candidates=[bad, candidate_of(plugin(**WHOLE), "sae")])
    assert [info.status for info in registry.plugins] == ["broken", "loaded"]
    head = f"plugin 'bad' (interpd-bad 1.0), import of 'interpd_bad': {type(error).__name__}: {error} ("
    assert registry.plugins[0].problem.startswith(head)


def test_the_keyboard_still_interrupts():
    with pytest.raises(KeyboardInterrupt):
        load_registry(["bad"], candidates=[Candidate("bad", "d", "1", "m", raises(KeyboardInterrupt()))])


def test_a_declaration_error_at_import_keeps_its_words():
    def load():
        @op("sae.encode")
        def broken(x) -> Float[Tensor, " pos"]:
            """No annotation."""

    registry = load_registry(["sae"], candidates=[Candidate("sae", "interpd-sae", "0.2", "interpd_sae", load)])
    assert registry.plugins[0].problem.startswith(
        "plugin 'sae' (interpd-sae 0.2), import of 'interpd_sae': op 'sae.encode': parameter 'x' has no annotation; "
        'write x: Float[Tensor, "batch pos d_model"]\n  in def broken(x) -> Float['
    )


def test_axes_that_jaxtyping_refuses_are_shown_with_the_plugins_line():
    def load():
        def commas(x: Float[Tensor, "batch, pos"]) -> None:  # noqa: F821
            """Axes with a comma."""

    registry = load_registry(["sae"], candidates=[Candidate("sae", "interpd-sae", "0.2", "interpd_sae", load)])
    assert "Axes should be separated with spaces" in registry.plugins[0].problem
    assert "test_registry.py, line " in registry.plugins[0].problem
    assert ': def commas(x: Float[Tensor, "batch, pos"]) -> None:' in registry.plugins[0].problem


@op("torch.softmax")
def squatter(x: Float[Tensor, " pos"]) -> Float[Tensor, " pos"]:
    """Not the real one."""


@pytest.mark.parametrize(
    ("hooks", "expected"),
    [
        ({}, "plugin 'sae' (interpd-sae 0.2): interpd_sae implements no hook; mark its functions with @hookimpl"),
        (
            {"interpd_register_op": []},
            ", hook 'interpd_register_op': there is no such hook; nearest is 'interpd_register_ops'",
        ),
        ({"interpd_register_ops": raises(ValueError("no"))}, ", hook 'interpd_register_ops': ValueError: no ("),
        ({"interpd_register_ops": raises(SystemExit(1))}, ", hook 'interpd_register_ops': SystemExit: 1 ("),
        ({"interpd_register_ops": 7}, ", hook 'interpd_register_ops': TypeError: 'int' object is not iterable"),
        ({"interpd_register_ops": lambda: None}, ", hook 'interpd_register_ops': returns None; return a list"),
        (
            {"interpd_register_ops": lambda: split},
            ", hook 'interpd_register_ops': returns 'split' itself, expected a list; write return [split]",
        ),
        ({"interpd_register_ops": [len]}, "built-in function len> is not a function marked @op('...')"),
        ({"interpd_register_ops": [train]}, "'sae.train' is not marked @op; return it from interpd_register_methods"),
        (
            {"interpd_register_methods": [split]},
            "'sae.split' is not marked @method; return it from interpd_register_ops",
        ),
        ({"interpd_register_artifacts": [int]}, "<class 'int'> is not a class marked @artifact('...')"),
        ({"interpd_register_ops": [split, split]}, ", hook 'interpd_register_ops': 'sae.split' is returned twice"),
        (
            {"interpd_register_ops": [encode]},
            "parameter 'sae' takes an artifact of kind 'sae', which no plugin registers",
        ),
        ({"interpd_register_ops": [squatter]}, "'torch.softmax': the family 'torch' is built in; write 'sae.<verb>'"),
        ({"interpd_register_ops": lambda extra: []}, "extra"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[-40:],
)
def test_a_plugin_whose_hooks_are_wrong_is_broken_with_the_cause(hooks, expected):
    assert expected in problem(plugin(**hooks))


def test_of_two_plugins_with_one_op_the_second_is_broken():
    first, second = candidate_of(plugin(**WHOLE), "sae"), candidate_of(plugin(interpd_register_ops=[split]), "other")
    registry = load_registry(["sae", "other"], candidates=[first, second])
    assert [info.status for info in registry.plugins] == ["loaded", "broken"]
    assert "op 'sae.split' is already offered by plugin 'sae'" in registry.plugins[1].problem


def test_plugins_are_taken_in_the_order_of_the_configuration():
    first, second = candidate_of(plugin(**WHOLE), "sae"), candidate_of(plugin(interpd_register_ops=[split]), "other")
    registry = load_registry(["other", "sae"], candidates=[first, second])
    assert [info.status for info in registry.plugins] == ["broken", "loaded"]
    assert registry.ops["sae.split"].schema.plugin == "other"
    assert "by plugin 'other', which the configuration names first" in registry.plugins[0].problem


def test_a_family_belongs_to_the_plugin_that_is_taken_first():
    first, second = candidate_of(plugin(**WHOLE), "sae"), candidate_of(plugin(interpd_register_ops=[extra]), "other")
    broken = load_registry(["sae", "other"], candidates=[first, second]).plugins[1]
    assert "'sae.extra': the family 'sae' is that of plugin 'sae'" in broken.problem
    assert load_registry(["other"], candidates=[first, second]).plugins[1].status == "loaded"


def test_of_two_plugins_with_one_name_the_second_is_broken():
    first, second = candidate_of(plugin(**WHOLE), "sae"), candidate_of(plugin(interpd_register_ops=[]), "sae")
    registry = load_registry(["sae"], candidates=[first, second])
    assert [info.status for info in registry.plugins] == ["loaded", "broken"]
    assert registry.ops.keys() == {"sae.encode", "sae.split"}


def test_a_broken_plugin_leaves_no_hook_behind():
    seen = []
    module = plugin(interpd_register_ops=[squatter], interpd_on_event=lambda event: seen.append(event))
    loaded(module).tell(Event("r1"))
    assert seen == []


def test_no_plugin_may_take_the_name_of_the_built_in_one():
    (info,) = loaded(plugin(**WHOLE), name="interpd").plugins
    assert "the name 'interpd' is taken by the built-in operations" in info.problem


def test_a_broken_built_in_plugin_is_a_bug_of_interpd():
    with pytest.raises(InternalError, match="ImportError: gone"):
        load_registry(
            [], candidates=[Candidate("interpd", "interpd", "0", "interpd.ops.plugin", raises(ImportError("gone")))]
        )


def test_hook_calls_are_traced():
    lines = []
    registry = loaded(plugin(**WHOLE, interpd_on_event=lambda event: None), trace=lines.append)
    registry.tell(Event("r1"))
    assert "interpd_register_artifacts()" in lines
    assert "interpd_on_event(event=Event(run_id='r1'))" in lines


def test_installed_plugins_are_found_by_their_entry_points(tmp_path, monkeypatch):
    (tmp_path / "interpd_found.py").write_text(
        "from interpd.sdk import hookimpl\n@hookimpl\ndef interpd_register_ops():\n    return []\n"
    )
    info = tmp_path / "interpd_found-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: interpd-found\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[interpd.plugins]\nfound = interpd_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = [candidate for candidate in discover() if candidate.name == "found"]
    registry = load_registry(["found"], candidates=found)
    monkeypatch.delitem(sys.modules, "interpd_found")
    assert registry.plugins == (PluginInfo("found", "interpd-found", "1.2", "loaded"),)
