"""Pages cannot rot: code in them compiles, what it imports exists, links lead somewhere."""

import ast
import importlib.util
import json
import re
import tomllib

import pytest
from docs_pages import ROOT, blocks, pages, text

_LINK = re.compile(r"\[[^\]]+\]\(([^)#]+)(?:#[^)]*)?\)")


def exists(module, name):
    return hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}") is not None


@pytest.mark.parametrize("page", pages())
def test_code_on_a_page_compiles_and_what_it_imports_exists(page):
    for block in blocks(page):
        block.compiled()
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("interpd", "interpd_client"):
                missing = [alias.name for alias in node.names if not exists(node.module, alias.name)]
                assert not missing, f"{page}, line {block.line}: {node.module} has no {missing}"


@pytest.mark.parametrize("page", pages())
def test_data_on_a_page_is_well_formed(page):
    for block in blocks(page, "toml"):
        tomllib.loads(block.code)
    for block in blocks(page, "json"):
        json.loads(block.code)


@pytest.mark.parametrize("page", pages())
def test_links_on_a_page_lead_somewhere(page):
    targets = [target for target in _LINK.findall(text(page)) if "://" not in target]
    assert not [target for target in targets if not ((ROOT / page).parent / target).exists()]
