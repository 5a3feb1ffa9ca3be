"""The golden numbers of the published code, and the models that they are of."""

import json

import torch

from interpd_backpack.model import BackpackConfig, BackpackForCausalLM


def golden_cases(shared):
    """The cases: configuration, names of the parameters in their order, tokens, results."""
    return json.loads((shared / "oracles" / "backpack_golden.json").read_text())["cases"]


def golden_state(case):
    """The weights of a case by the rule that the file states, in float64."""
    shapes = {name: weight.shape for name, weight in BackpackForCausalLM(golden_config(case)).state_dict().items()}
    state = {}
    for number, name in enumerate(case["param_order"]):
        j = torch.arange(shapes[name].numel(), dtype=torch.float64)
        values = 0.25 * torch.sin(0.7 * j + 1.3 * number + 0.01 * j * j.sqrt())
        *_, kind, leaf = name.split(".")
        if kind.startswith("ln") and leaf == "weight":
            values = 1 + 0.2 * values
        state[name] = values.reshape(shapes[name])
    return state


def golden_config(case, **changes):
    return BackpackConfig(**{**case["config"], "bos_token_id": 0, "eos_token_id": 0, **changes})


def golden_model(case, dtype=torch.float64, **changes):
    """The Backpack of a case."""
    model = BackpackForCausalLM(golden_config(case, **changes)).to(dtype)
    state = golden_state(case)
    model.load_state_dict({**state, "lm_head.weight": state["backpack.gpt2_model.wte.weight"]})
    return model.eval().requires_grad_(False)
