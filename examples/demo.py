"""The main job, end to end: a daemon, and five things that a researcher does with it from another process.

Started by ``make demo``. Ends everything that it started, also when it is interrupted.
"""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import interpd_client as interpd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interpd.testing.daemon_process import DaemonProcess

MODEL = "facts"
PROMPT = "Elena Marsh was born in"
OTHER = "Hugo Bishop was born in"
console = Console(highlight=False)


@contextmanager
def running_daemon() -> Iterator[str]:
    """The address of a daemon that serves the bundled model as long as the block runs."""
    options = ("--port", "0", "--model", MODEL, "--log-level", "warning", "--worker-batch-wait-ms", "200")
    daemon = DaemonProcess("interpd", "serve", *options)
    try:
        daemon.start()
        yield daemon.address
    finally:
        # an interrupt during the start passes here, too
        daemon.stop()


def heading(number: int, text: str) -> None:
    """Prints the title of one part."""
    console.print(f"\n[bold]{number}. {text}[/bold]")


def read_activations(model: Any) -> None:
    """Part 1: activations, the answer, and how the logit lens sees it grow."""
    heading(1, f"Read: what the model computes at the end of {PROMPT!r}")
    with model.trace(PROMPT) as t:
        ends = [layer.resid_post[:, -1] for layer in t.layers]
        t.save(norms=t.torch.stack([h.norm(dim=-1)[0] for h in ends]))
        t.save(lens=t.torch.stack([t.lens(h)[0].softmax(-1).topk(1)[1][0] for h in ends]))
        t.save(top=t.logits[:, -1].softmax(-1).topk(3))
    words = [word.strip() for word in model.tokenize(t.result["lens"]).strings]
    table = Table("after block", *map(str, range(len(words))), box=None)
    table.add_row("norm of the residual stream", *(f"{norm:.1f}" for norm in t.result["norms"]))
    table.add_row("logit lens says", *map(escape, words))
    console.print(table)
    console.print("the answer is readable from the last token only once the middle blocks have fetched it")
    top = t.result["top"]
    best = model.tokenize(top.indices[0]).strings
    guesses = (f"{word.strip()} {p:.1%}" for word, p in zip(best, top.values[0], strict=True))
    console.print("answer: " + ", ".join(guesses))


def steer(model: Any) -> None:
    """Part 2: one generation as it is, and one with a direction added at the subject."""
    heading(2, "Steer: add the difference between two people at the last token of the name")
    with model.trace() as t:
        us, them = t.prompt(PROMPT), t.prompt(OTHER)
        site = "layers.1.resid_post"
        mine, theirs = us.site(site)[:, us.tokens("Marsh")], them.site(site)[:, them.tokens("Bishop")]
        t.save(direction=theirs - mine)
    direction = t.result["direction"]
    with model.generate(PROMPT, max_new_tokens=16) as plain:
        pass
    with model.generate(PROMPT, max_new_tokens=16) as steered, steered.at(0):
        steered.layers[1].resid_post[:, steered.tokens("Marsh")] += direction
    console.print(f"unsteered: {escape(PROMPT + plain.result.text)}")
    console.print(f"steered:   {escape(PROMPT + steered.result.text)}")


def patch(model: Any) -> None:
    """Part 3: activation patching, layer by layer, at the subject's last token and at the final token."""
    heading(3, f"Patch: put activations of {OTHER!r} into {PROMPT!r}")
    n_layers = model.info.n_layers
    with model.trace() as t:
        clean, other = t.prompt(PROMPT), t.prompt(OTHER)
        answers = t.torch.cat([p.logits[:, -1].argmax(-1) for p in (clean, other)])
        t.save(answers=answers, before=clean.logits[0, -1].softmax(-1)[answers])
        for layer in range(n_layers):
            for name, find in (("subject", ("Marsh", "Bishop")), ("final", (-1, -1))):
                patched = t.prompt(PROMPT)
                source = _position(other, find[1])
                site = f"layers.{layer}.resid_post"
                patched.site(site)[:, _position(patched, find[0])] = other.site(site)[:, source]
                t.save(**{f"{name}_{layer}": patched.logits[0, -1].softmax(-1)[answers]})
    ours, theirs = (word.strip() for word in model.tokenize(t.result["answers"]).strings)
    console.print(f"P(a) is the probability of {ours}, P(b) that of {theirs}, the other prompt's answer")
    table = Table("after block", "subject: P(a)", "P(b)", "final token: P(a)", "P(b)", box=None)
    table.add_row("(unpatched)", *2 * [f"{p:.1%}" for p in t.result["before"]])
    for layer in range(n_layers):
        numbers = [*t.result[f"subject_{layer}"], *t.result[f"final_{layer}"]]
        table.add_row(str(layer), *(f"{p:.1%}" for p in numbers))
    console.print(table)
    moved = next(i for i in range(n_layers) if t.result[f"final_{i}"][1] > 0.5)
    console.print(f"the fact sits at the subject before block {moved}, and at the final token after it")
    n_passes = len(t.result.cost.shared_with)
    console.print(f"one request: {len(t.result.tokens)} prompts in {n_passes} forward pass{'es' * (n_passes > 1)}")


def _position(prompt: Any, where: str | int) -> Any:
    return prompt.tokens(where) if isinstance(where, str) else where


def take_gradient(model: Any) -> None:
    """Part 4: the gradient of a logit difference with respect to the residual stream, times the stream."""
    heading(4, "Gradient: what each token's residual stream after block 1 adds (gradient x activation)")
    with model.trace(PROMPT) as t:
        h = t.layers[1].resid_post
        top = t.logits[0, -1].topk(2)
        target = top[0][0] - top[0][1]
        t.save(scores=(t.grad(target, wrt=h) * h).sum(-1)[0], target=target, two=top[1])
    tokens = t.result.tokens[0].strings
    table = Table(*(escape(token.strip()) for token in tokens), box=None)
    table.add_row(*(f"{score:+.2f}" for score in t.result["scores"]))
    console.print(table)
    best, second = (word.strip() for word in model.tokenize(t.result["two"]).strings)
    console.print(f"of the {float(t.result['target']):.1f} logits by which {best} leads before {second}")


GRAPHS: dict[str, Any] = {
    "read a residual": lambda t: t.layers[2].resid_post[:, -1].norm(),
    "compare attention heads": lambda t: t.layers[3].attn.z[0, -1].norm(dim=-1).amax(),
    "logit lens": lambda t: t.lens(t.layers[4].resid_post[:, -1]).amax(),
    "ablate an MLP": lambda t: _with_write(t, lambda: setattr(t.layers[2].mlp, "out", t.layers[2].mlp.out * 0.0)),
    "ablate a head": lambda t: _with_write(t, lambda: t.layers[3].attn.z.__setitem__((0, slice(None), 0), 0.0)),
    "steer": lambda t: _with_write(t, lambda: t.layers[1].resid_post.__setitem__((0, -1), 0.5)),
    "entropy": lambda t: -(t.logits[0, -1].softmax(-1) * t.logits[0, -1].log_softmax(-1)).sum(),
    "cosine of two layers": lambda t: t.torch.cosine_similarity(
        t.layers[0].resid_post[0, -1], t.layers[5].resid_post[0, -1], dim=0
    ),
}


def _with_write(t: Any, write: Any) -> Any:
    write()
    return t.logits[0, -1].softmax(-1).amax()


def share(address: str) -> None:
    """Part 5: eight different graphs from eight clients at the same moment."""
    heading(5, "Share: eight clients, eight different graphs, at the same moment")
    gate = threading.Barrier(len(GRAPHS))

    def one_client(item: tuple[str, Any]) -> tuple[str, float, int]:
        name, build = item
        with interpd.connect(address, progress=False) as client:
            model = client.model(MODEL)
            gate.wait()
            with model.trace(PROMPT) as t:
                t.save(value=build(t))
            return name, float(t.result["value"]), max(t.result.cost.shared_with)

    with ThreadPoolExecutor(len(GRAPHS)) as clients:
        rows = list(clients.map(one_client, GRAPHS.items()))
    table = Table("graph", "value", "requests in its pass", box=None)
    for name, value, company in rows:
        table.add_row(name, f"{value:.3f}", str(company))
    console.print(table)
    shared = sum(company > 1 for _, _, company in rows)
    console.print(f"{shared} of {len(rows)} requests shared a forward pass with strangers")


def main() -> None:
    """Runs the demonstration."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    console.print("starting Ray and loading the bundled model ...")
    with running_daemon() as address:
        console.print(f"daemon ready at {address} after {time.monotonic() - began:.0f} s")
        with interpd.connect(address, progress=False) as client:
            model = client.model(MODEL)
            for part in (read_activations, steer, patch, take_gradient):
                part(model)
        share(address)
    console.print(
        f"\neverything ended; {time.monotonic() - began:.0f} s in all. Next: .venv/bin/interpd serve --model facts"
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
