"""What importing a plugin does to a process: nothing, says ``plugins/README.md``, and a fresh process shows it."""

import os
import subprocess
import sys
from types import ModuleType

import pytest

KEPT = ("HOME", "HF_HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "USER")
"""Variables that the fresh process gets. Any other may be there only because the plugin set it in this one."""

TIMEOUT_S = 120

# The process begins with unusual settings, so that setting the usual ones shows too. What plugins build on is imported
# first: what torch does to a process is no fault of theirs.
_SCRIPT = """
import logging, os, random, signal, sys, threading
sys.path[:] = {path!r}
import numpy, torch
import interpd.sdk, interpd.testing.tiny_models
os.umask(0o026)
torch.set_num_threads(3)

def umask():
    before = os.umask(0)
    os.umask(before)
    return before

STATES = {{
    "the environment": lambda: dict(os.environ),
    "the working directory": os.getcwd,
    "the number of threads": threading.active_count,
    "the umask": umask,
    "signal handlers": lambda: [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    "the root logger": lambda: (logging.root.level, list(logging.root.handlers)),
    "the seed of random": random.getstate,
    "the seed of numpy": lambda: [str(part) for part in numpy.random.get_state()],
    "the seed of torch": lambda: (torch.initial_seed(), torch.get_rng_state().tolist()),
    "torch's number of threads": torch.get_num_threads,
    "torch's default dtype": torch.get_default_dtype,
    "torch's grad mode": torch.is_grad_enabled,
    "torch's matmul precision": torch.get_float32_matmul_precision,
    "torch's deterministic mode": torch.are_deterministic_algorithms_enabled,
    "torch's use of CUDA": torch.cuda.is_initialized,
}}
before = {{name: state() for name, state in STATES.items()}}
import {module}
after = {{name: state() for name, state in STATES.items()}}
changed = [name for name in STATES if before[name] != after[name]]
if "the environment" in changed:
    one, other = before["the environment"], after["the environment"]
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    changed[0] += f" ({{', '.join(keys)}})"
if changed:
    sys.exit("changes " + ", ".join(changed))
"""


def imports_without_effects(module: ModuleType) -> None:
    """Importing it changes nothing that others in its process rely on, and prints nothing."""
    if module.__spec__ is None:
        pytest.skip(f"module {module.__name__!r} was not imported from a file")
    code = _SCRIPT.format(path=sys.path, module=module.__name__)
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=kept
    )
    said = done.stdout.strip()
    if done.returncode != 0:
        raise AssertionError(f"importing {module.__name__!r}: {done.stderr.strip()[-2000:]}")
    if said:
        raise AssertionError(f"importing {module.__name__!r} prints {said[:200]!r}")
