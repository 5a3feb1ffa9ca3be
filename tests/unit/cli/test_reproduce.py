"""``interpd reproduce``, with reproductions of packages that are installed for one test."""

import re
import sys

import pytest

from interpd.cli import Reproduction
from interpd.cli.ask import PackageMissing
from interpd.cli.main import main

GROUP = "interpd.reproductions"

TIDES = '''
def declare(asked):
    """the tides, by the moon

    And more.
    """
    if asked.is_quick:
        raise ValueError("too quick")
    (asked.out / "report.md").write_text(f"{asked.address} {asked.timeout_s}")
'''

WAVES = """
def declare(asked, *, model="small", data=None):
    (asked.out / "report.md").write_text(f"{model} {data}")
"""


def test_it_lists_what_plugins_offer_and_what_is_broken(install, capsys):
    install("tides", TIDES, group=GROUP)
    install("waves", "import no_such_module", group=GROUP, distribution="interpd-ripple")
    assert main(["reproduce"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"tides +interpd-wave 0.3 +the tides, by the moon *\n", said)
    assert "repair or uninstall interpd-ripple" in said


def test_one_gets_its_folder_and_the_daemon_that_is_named(install, tmp_path, monkeypatch):
    install("tides", TIDES, group=GROUP)
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "tides"]) == 0
    assert (tmp_path / "reproduction-tides/report.md").read_text() == " None"
    assert main(["reproduce", "tides", "--out", "a/b", "--address", "there:1", "--timeout", "3"]) == 0
    assert (tmp_path / "a/b/report.md").read_text() == "there:1 3.0"


def test_one_that_can_is_of_another_model_and_of_data(install, tmp_path):
    install("waves", WAVES, group=GROUP)
    out = ["--out", str(tmp_path)]
    assert main(["reproduce", "waves", *out]) == 0
    assert (tmp_path / "report.md").read_text() == "small None"
    assert main(["reproduce", "waves", "--model", "sea", "--data", str(tmp_path), *out]) == 0
    assert (tmp_path / "report.md").read_text() == f"sea {tmp_path}"


def test_what_one_does_not_take_is_refused(install, tmp_path, capsys):
    install("tides", TIDES, group=GROUP)
    install("waves", WAVES, group=GROUP, distribution="interpd-ripple")
    assert main(["reproduce", "tides", "--model", "sea", "--out", str(tmp_path)]) == 3
    assert "the reproduction 'tides' takes no --model" in capsys.readouterr().err
    assert main(["reproduce", "waves", "--data", str(tmp_path / "no"), "--out", str(tmp_path)]) == 3
    assert "there is no folder" in capsys.readouterr().err


def test_a_name_that_is_not_there_is_refused_with_the_nearest(install, capsys):
    install("tides", TIDES, group=GROUP)
    assert main(["reproduce", "tide"]) == 3
    assert re.search(r"no reproduction is called 'tide'; there are: .*did you mean 'tides'\?", capsys.readouterr().err)


def test_what_it_raises_names_its_distribution(install, tmp_path, capsys):
    install("tides", TIDES, group=GROUP)
    assert main(["reproduce", "tides", "--quick", "--out", str(tmp_path)]) == 1
    assert "ValueError: too quick" in (said := capsys.readouterr().err)
    assert "interpd-wave 0.3" in said


def test_models_run_in_this_process_or_are_those_of_a_daemon(monkeypatch, tmp_path):
    import interpd_client
    from interpd_client.testing import FakeTransport, fake_manifest

    asked = []

    def client(*given, **options):
        asked.append((given, options))
        return interpd_client.Client(FakeTransport(fake_manifest("sea")))

    monkeypatch.setattr(interpd_client, "local", client)
    monkeypatch.setattr(interpd_client, "connect", client)
    with Reproduction(tmp_path).client("sea", plugins=("wave",)) as here:
        assert here.model("sea").info.name == "sea"
    with Reproduction(tmp_path, address="there:1", timeout_s=3.0).client("sea", plugins=("wave",)):
        pass
    assert asked[0] == (("sea",), {"plugins": ("wave",)})
    assert asked[1] == (("there:1",), {"timeout_s": 3.0, "progress": None})


def test_without_what_models_need_a_daemon_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "interpd_client", None)
    with (
        pytest.raises(PackageMissing, match="or name a daemon that serves sea with --address"),
        Reproduction(tmp_path).client("sea"),
    ):
        pass
