import subprocess
import sys

import interpd.sdk


def test_importing_the_sdk_loads_no_torch():
    code = "import interpd.sdk, interpd.plugin.registry, sys; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_all_is_sorted_and_complete():
    public = sorted(name for name, value in vars(interpd.sdk).items() if name.isidentifier() and name[0] != "_")
    assert interpd.sdk.__all__ == sorted(interpd.sdk.__all__)
    assert public == interpd.sdk.__all__
