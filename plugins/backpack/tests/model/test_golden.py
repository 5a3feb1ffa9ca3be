"""The published code's numbers come out of ours."""

import pytest
import torch
from backpack_tests.model.golden import golden_cases, golden_model

DTYPES = {torch.float64: 1e-8, torch.float32: 1e-4}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_logits_weights_and_senses_are_those_of_the_published_code(shared, number, dtype):
    case = golden_cases(shared)[number]
    model = golden_model(case, dtype)
    ids = torch.tensor(case["input_ids"])
    output = model(ids)
    senses = model.backpack.sense_table(ids[0, 1])

    close = {"rtol": 0, "atol": DTYPES[dtype]}
    torch.testing.assert_close(output.logits, torch.tensor(case["logits"], dtype=dtype), **close)
    last = output.contextualization[0, :, -1]
    torch.testing.assert_close(last, torch.tensor(case["alpha_last_row_b0"], dtype=dtype), **close)
    torch.testing.assert_close(senses, torch.tensor(case["sense_b0_pos1"], dtype=dtype), **close)
