"""Batched is solo: whatever is asked, in prompts of whatever lengths, of whatever family, beside whomever.

A failing seed is reproduced by ``Company.of(architecture).compare(seed)``.
"""

import pytest
from company import Company

from interpd.testing.tiny_models import ARCHITECTURES, ENCODER_DECODERS

N_GROUPS = 6


def compare(company, seeds):
    """Groups of requests, together and alone; the weights stay what they were."""
    before = company.weights()
    for seed in seeds:
        company.compare(seed)
    assert company.weights() == before
    return company.seen


@pytest.mark.slow
def test_requests_get_in_company_what_they_get_alone():
    assert compare(Company.of("gpt2"), range(4))["max shared"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *ENCODER_DECODERS])
def test_requests_to_any_family_get_in_company_what_they_get_alone(architecture):
    seen = compare(Company.of(architecture), range(N_GROUPS))
    assert seen["Done"] > 4 * N_GROUPS
    assert seen["max shared"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_requests_with_adapters_get_in_company_what_they_get_alone(architecture, tmp_path):
    assert compare(Company.with_adapters(architecture, tmp_path), range(N_GROUPS))["max shared"] > 2
