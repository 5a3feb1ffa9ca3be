"""Existing nnsight code on interpd: the same blocks with nnsight's own model here, and with the model of a service.

``python examples/nnsight_code.py`` serves the bundled model in this process, and with ``HOST:PORT`` behind it asks a
daemon that serves it (``interpd serve --model facts``). Needs ``interpd-client[nnsight]``.
"""

import sys
from typing import Any

import interpd_client as interpd
import nnsight
import torch
from interpd_client.nnsight import Backend
from nnsight.modeling.transformers import TransformersModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from interpd import zoo

PROMPT = "Elena Marsh was born in"
OTHER = "Hugo Bishop was born in"


def logit_lens(model: Any, backend: Any) -> torch.Tensor:
    """The token that each block would say, read through the model's own head."""
    with model.trace(PROMPT, backend=backend):
        ends = [model.lm_head(model.model.norm(layer.output[:, -1])) for layer in model.model.layers]
        tokens = torch.stack(ends).argmax(-1)[:, 0].save()
    return tokens


def patching(model: Any, backend: Any) -> torch.Tensor:
    """What the model says of one person with the other's name behind block 1."""
    with model.trace(backend=backend) as tracer:
        barrier = tracer.barrier(2)
        with tracer.invoke(OTHER):
            names = model.model.layers[1].output[:, 1:-3].clone()
            barrier()
        with tracer.invoke(PROMPT):
            barrier()
            model.model.layers[1].output[:, 1:-3] = names
            best = model.lm_head.output[:, -1].argmax(-1).save()
    return best


def steering(model: Any, backend: Any) -> torch.Tensor:
    """A continuation in which the MLP of block 3 counts half at every step."""
    with model.generate(PROMPT, max_new_tokens=8, backend=backend) as tracer:
        for _ in tracer.iter[:8]:
            model.model.layers[3].mlp.output *= 0.5
        ids = tracer.result.save()
    return ids


def attribution(model: Any, backend: Any) -> torch.Tensor:
    """How much each position of the prompt matters to the answer."""
    with model.trace(PROMPT, backend=backend):
        h = model.model.layers[0].output
        answer = model.lm_head.output[0, -1].max()
        with answer.backward():
            shares = (h.grad * h).sum(-1)[0].save()
    return shares.detach()


def exchange(model: Any, backend: Any) -> torch.Tensor:
    """The answer with another person's state at the last token: one request of three traces."""
    with model.session(backend=backend):
        with model.trace(PROMPT):
            own = model.model.layers[4].output[:, -1]
        with model.trace(OTHER):
            others = model.model.layers[4].output[:, -1]
        with model.trace(PROMPT):
            model.model.layers[4].output[:, -1] += others - own
            best = model.lm_head.output[:, -1].argmax(-1).save()
    return best


def model_here(dtype: str) -> Any:
    """The bundled model in nnsight, as any model of transformers."""
    folder = zoo.path("facts")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return TransformersModel(model, tokenizer=AutoTokenizer.from_pretrained(folder), task="text-generation")


def main() -> None:
    """Runs every block twice and shows that the results are the same."""
    address = sys.argv[1] if len(sys.argv) > 1 else None
    with interpd.connect(address) if address else interpd.local("facts") as client:
        model, remote = model_here(client.model("facts").info.dtype), Backend(client, "facts")
        for block in (logit_lens, patching, steering, attribution, exchange):
            there, here = block(model, remote), block(model, None)
            torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)
            shown = there.tolist() if there.is_floating_point() else model.tokenizer.decode(there.flatten())
            print(f"{block.__name__}: {shown}")
    print(f"nnsight {nnsight.__version__} gave the same here")


if __name__ == "__main__":
    main()
