import subprocess
import sys


def test_the_fixture_is_there_for_whoever_installs_the_package(tiny_model):
    assert tiny_model.model.config.n_layer == 3
    assert tiny_model.tokenizer("The cat")["input_ids"]


def test_finding_the_fixtures_loads_nothing_heavy():
    code = "import interpd.testing.pytest_plugin, sys; sys.exit(bool({'torch', 'jaxtyping'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
