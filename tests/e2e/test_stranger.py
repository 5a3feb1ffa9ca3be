"""A stranger copies the example plugin, installs it into an environment of their own, and uses it remotely."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "interpd-tuned-lens"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The example's folder as it would look in somebody's own repository."""
    folder = tmp_path_factory.mktemp("stranger") / "interpd-tuned-lens"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    return folder


@pytest.fixture(scope="module")
def python(copy):
    """A new environment that sees what is installed here (torch is large), into which the plugin is installed."""
    venv.create(copy.parent / "venv", with_pip=False)
    python = copy.parent / "venv" / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    here = sysconfig.get_path("purelib")
    packages.joinpath("what_is_installed_here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, "install", *options, copy], check=True, cwd=copy.parent)
    shutil.rmtree(copy / "interpd_tuned_lens")  # from here on only the installed package counts
    return python


@pytest.fixture(scope="module")
def environment():
    """Without what this test session says about itself."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "INTERPD_"))}


def test_its_own_tests_pass_there(copy, python, environment):
    done = subprocess.run(
        [python, "-m", "pytest", "-q"], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


@pytest.fixture(scope="module")
def address(copy, python):
    """A daemon of that environment with a tiny model."""
    from interpd.testing.daemon_process import DaemonProcess
    from interpd.testing.tiny_models import save_tiny

    model = f"{save_tiny(copy.parent / 'tiny')}=gpt2"
    arguments = ("interpd", "serve", "--port", "0", "--model", model, "--plugin", "tuned_lens")
    with DaemonProcess(*arguments, python=str(python)) as daemon:
        yield daemon.address


def test_the_plugin_is_listed_with_its_distribution(address):
    import interpd_client

    with interpd_client.connect(address) as client:
        info = next(info for info in client.model("gpt2").manifest.plugins if info.name == "tuned_lens")
    assert (info.distribution, info.version, info.status) == ("interpd-tuned-lens", "0.1.0", "loaded")
    assert info.ops == ("tuned_lens.apply", "tuned_lens.fit")


READER = """
import json, pathlib, sys
sys.modules["torch"] = None  # a machine that only uses the client
code, facts = pathlib.Path("readme.py").read_text(), {}
exec(compile(code, "README.md", "exec"), facts)
top = facts["t"].result["top"]
print(json.dumps([facts["fitted"].tolist(), facts["guesses"].probabilities.tolist(), list(top.values.shape)]))
"""


def test_the_code_of_its_readme_runs_remotely_and_without_torch(address, python, environment, tmp_path):
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", readme, flags=re.DOTALL)[1]
    # the tiny model has three layers
    code = code.replace("localhost:7700", address).replace("layers[6]", "layers[1]").replace("at_layer=6", "at_layer=1")
    (tmp_path / "readme.py").write_text(code)
    said = subprocess.run(
        [python, "-c", READER], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    losses, probabilities, top = json.loads(said.splitlines()[-1])
    assert len(losses) == 60
    assert all(last < first for first, last in zip(losses[0][:2], losses[-1][:2], strict=True))
    assert len(probabilities) == 3
    assert top == [1, 5]
    assert (tmp_path / "my-lens.safetensors").stat().st_size > 1000


def test_its_command_shows_what_a_lens_sees(address, python, environment, tmp_path):
    import interpd_client

    with interpd_client.connect(address) as client:
        model = client.model("gpt2")
        with model.trace("The cat sat") as t:
            t.save(losses=t.op("tuned_lens.fit", name="seen", n_steps=2))

    def said(*arguments):
        command = [python, "-m", "interpd", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "what each layer would say next" in said("--help")
    rows = json.loads(said("tuned-lens", "The cat", "--lens", "seen", "--address", address, "--json"))
    assert [row["layer"] for row in rows] == [0, 1, 2]
    assert said("tuned-lens", "The cat", "--lens", "seen", "--address", address).startswith("layer")


def test_a_lens_layer_that_does_not_exist_is_refused_with_the_plugins_own_words(address):
    import interpd_client

    from interpd.errors import CallerError

    with interpd_client.connect(address) as client:
        model = client.model("gpt2")
        with model.trace("The cat sat") as t:
            t.save(losses=t.op("tuned_lens.fit", name="short", n_steps=1))
        assert t.result["losses"].shape == (1, 3)
        with (
            pytest.raises(CallerError, match="at_layer is 9, but the lens has layers 0 to 2"),
            model.trace("The cat") as t,
        ):
            t.save(h=t.op("tuned_lens.apply", t.layers[1].resid_post, lens="short", at_layer=9))


def test_the_interpreter_of_this_test_has_no_such_plugin():
    found = subprocess.run(
        [sys.executable, "-c", "import interpd_tuned_lens"], capture_output=True, check=False, cwd="/"
    ).returncode
    assert found != 0
