"""What `interpd doctor` says of the plugins that the configuration names."""

import argparse

from interpd.cli.doctor import _configured_plugins


def looked_at(tmp_path, plugins):
    path = tmp_path / "interpd.toml"
    path.write_text(f"plugins = {plugins}\n")
    return [
        (finding.what, finding.state, finding.detail)
        for finding in _configured_plugins(argparse.Namespace(config=str(path)))
    ]


def test_a_configured_plugin_that_is_not_installed_is_bad(tmp_path):
    ((what, state, detail),) = looked_at(tmp_path, ["tuned_lense"])
    assert (what, state) == ("plugins", "bad")
    assert "plugin 'tuned_lense' is allowed but not installed" in detail


def test_no_configured_plugin_is_well(tmp_path):
    assert looked_at(tmp_path, []) == [("plugins", "ok", "none configured")]
