"""A plugin that does everything wrong, one operation or method for each way.

Not collected, not installed: ``conftest.py`` puts it beside a ``dist-info`` folder on the path of a daemon.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
import time

import torch
from jaxtyping import Float
from torch import Tensor

from interpd.sdk import MethodContext, hookimpl, method, op

Resid = Float[Tensor, "batch pos d_model"]


@op("bad.raises", version=1)
def raises(h: Resid) -> Resid:
    """Nothing: it raises."""
    raise ZeroDivisionError("nobody divides by me")


@op("bad.spins", version=1)
def spins(h: Resid) -> Resid:
    """Nothing: it never returns, and holds the interpreter in C."""
    ctypes.PyDLL(None).usleep(600_000_000)
    return h


@op("bad.loops", version=1)
def loops(h: Resid) -> Resid:
    """Nothing: it never returns, and is busy."""
    while True:
        pass


@op("bad.dawdles", version=1)
def dawdles(h: Resid) -> Resid:
    """What it was given, a while later."""
    time.sleep(0.2)
    return h * 1.0


@op("bad.lies_about_dtype", version=1)
def lies_about_dtype(h: Resid) -> Resid:
    """Whole numbers, where floating ones were declared."""
    return h.long()


@op("bad.gives_nothing", version=1)
def gives_nothing(h: Resid) -> Resid:
    """None."""
    return None  # type: ignore[return-value]


@op("bad.lies_about_shape", version=1)
def lies_about_shape(h: Resid) -> Resid:
    """Less than it declared."""
    return h[:, :, :1]


@op("bad.lies_about_kind", version=1)
def lies_about_kind(h: Resid) -> Resid:
    """No tensor at all."""
    return "a text"  # type: ignore[return-value]


@op("bad.mutates", version=1)
def mutates(h: Resid) -> Resid:
    """Its input, after writing into it."""
    return h.zero_()


@op("bad.exits", version=1)
def exits(h: Resid) -> Resid:
    """Nothing: it asks the interpreter to end."""
    sys.exit(3)


@op("bad.kills", version=1)
def kills(h: Resid) -> Resid:
    """Nothing: it ends the process."""
    os._exit(3)


@op("bad.crashes", version=1)
def crashes(h: Resid) -> Resid:
    """Nothing: it reads at address zero."""
    ctypes.string_at(0)
    return h


@op("bad.litters", version=1)
def litters(h: Resid) -> Resid:
    """What it was given, after changing what torch shares with everybody."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(True)
    torch.manual_seed(0)
    torch.set_num_threads(7)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("medium")
    return h.mul(1.0)


@op("bad.patches", version=1)
def patches(h: Resid) -> Resid:
    """What it was given, after putting other functions in the place of torch's."""
    torch.softmax = torch.nn.functional.layer_norm = lambda *args, **kwargs: h  # type: ignore[assignment]
    torch.Tensor.mul = lambda self, other: self  # type: ignore[assignment]
    os.environ["PATH"] = "/nowhere"
    return h * 1.0


@op("bad.signals", version=1)
def signals(h: Resid) -> Resid:
    """Nothing: no thread but the first may do what it wants."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return h


@op("bad.forks", version=1)
def forks(h: Resid) -> Resid:
    """What it was given, in two processes."""
    os.fork()
    return h * 1.0


HELD: list[object] = []


@op("bad.leaks_memory", version=1)
def leaks_memory(h: Resid) -> Resid:
    """Its input, and a gigabyte that nobody frees."""
    HELD.append(torch.ones(1 << 28))
    return h * 1.0


@op("bad.leaks_files", version=1)
def leaks_files(h: Resid) -> Resid:
    """Its input, and every file that the process may open, but a few."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 1024), most))
    HELD.extend(open(os.devnull) for _ in range(980 - len(os.listdir("/proc/self/fd"))))  # noqa: SIM115
    return h * 1.0


@op("bad.leaks_threads", version=1)
def leaks_threads(h: Resid) -> Resid:
    """Its input, and threads that never end."""
    for _ in range(2_100):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return h * 1.0


@op("bad.nan", version=1)
def nan(h: Resid) -> Resid:
    """Not a number, anywhere."""
    return h * float("nan")


@method("bad.method_raises", version=1)
def method_raises(ctx: MethodContext) -> Float[Tensor, " step"]:
    """Nothing: it raises after a pass."""
    ctx.session.forward(ctx.input_ids, reads=["logits"])
    raise ZeroDivisionError("nobody divides by me")


@method("bad.method_exits", version=1)
def method_exits(ctx: MethodContext) -> Float[Tensor, " step"]:
    """Nothing: it asks the interpreter to end."""
    sys.exit(3)


@method("bad.method_hangs", version=1)
def method_hangs(ctx: MethodContext) -> Float[Tensor, " step"]:
    """Nothing: it never gives up its turn."""
    time.sleep(600)
    return torch.zeros(1)


@method("bad.method_goes_on", version=1)
def method_goes_on(ctx: MethodContext) -> Float[Tensor, " step"]:
    """Nothing: pass after pass, for ever."""
    n = 0
    while True:
        ctx.session.forward(ctx.input_ids, reads=["logits"])
        n += 1
        ctx.progress(n, 0)


@method("bad.method_lies", version=1)
def method_lies(ctx: MethodContext) -> Float[Tensor, " step"]:
    """One dimension more than it declared."""
    return torch.zeros(2, 2)


@hookimpl
def interpd_register_ops() -> list[object]:
    """Every bad operation."""
    return [
        raises,
        spins,
        loops,
        dawdles,
        lies_about_dtype,
        gives_nothing,
        lies_about_shape,
        lies_about_kind,
        mutates,
        exits,
        kills,
        crashes,
        litters,
        patches,
        signals,
        forks,
        leaks_threads,
        leaks_memory,
        leaks_files,
        nan,
    ]


@hookimpl
def interpd_register_methods() -> list[object]:
    """Every bad method."""
    return [method_raises, method_exits, method_hangs, method_goes_on, method_lies]
