"""What the scripts of both sides have in common. They run in environments of their own: nothing of ours is imported."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Job = Callable[..., np.ndarray]


def work(jobs: Mapping[str, Callable[..., Job]]) -> None:
    """Does jobs until there are no more.

    A job is prepared before its time is taken: ``jobs[name](**options)`` gives what is measured.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _done(jobs[asked["job"]](**asked["options"]), asked["out"])
        # the other process raises it: whatever fails here has to be seen there
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _done(job: Job, out: str) -> dict[str, Any]:
    # the high-water mark begins anew
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _megabytes("VmRSS"), time.process_time()
    found = job()
    seconds, grown = time.process_time() - began, _megabytes("VmHWM") - before
    save_file({"scores": np.ascontiguousarray(found)}, out)
    return {"cpu_s": seconds, "grown_mb": grown}


def _megabytes(what: str) -> float:
    found = re.search(rf"{what}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
