"""Packages that are installed for one test."""

import itertools

import pytest

NUMBERS = itertools.count()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package with one entry point, ``declare`` of a module with the code that is given."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, code, *, distribution="interpd-wave", group="interpd.commands"):
        module = f"installed_command_{next(NUMBERS)}"  # a name of its own: imported modules stay
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{distribution.replace('-', '_')}-0.3.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.3\n")
        with (info / "entry_points.txt").open("a") as file:
            file.write(f"[{group}]\n{name} = {module}:declare\n")

    return install
