"""The protos themselves: rules of naming, comments, compatibility, and stubs that are theirs."""

import importlib.util
import re
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROTOS = sorted((ROOT / "protos" / "interpd" / "v1").glob("*.proto"))
DECLARATION = re.compile(
    r"^ *(message|enum|service|rpc|oneof|(?:repeated |optional )?[\w.]+ \w+ = \d+|[A-Z_0-9]+ = \d+)\b"
)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = load(ROOT / "tests" / "golden" / "proto_descriptor.py")
generate = load(ROOT / "protos" / "generate.py")


def messages():
    return [message for file in golden.files() for message in file.message_types_by_name.values()]


def methods():
    services = [service for file in golden.files() for service in file.services_by_name.values()]
    return [method for service in services for method in service.methods]


def test_the_protocol_is_the_recorded_one():
    assert golden.describe() == golden.GOLDEN.read_text(), "run python tests/golden/proto_descriptor.py and say why"


def test_stubs_were_made_from_these_protos():
    recorded = (ROOT / "interpd" / "wire" / "v1" / generate.HASHES).read_text()
    assert recorded == generate.source_hashes(PROTOS[0].parent), "run python protos/generate.py"


def test_stubs_import_each_other_relatively():
    for path in (ROOT / "interpd" / "wire" / "v1").glob("*.py*"):
        assert "from interpd.v1" not in path.read_text(), path.name


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.name)
def test_every_declaration_has_a_comment_of_its_own(path):
    lines = path.read_text().splitlines()
    bare = [line for before, line in pairwise(lines) if DECLARATION.match(line) and "//" not in before]
    assert bare == []


def test_every_file_is_of_the_package_that_its_folder_names():
    assert {file.package for file in golden.files()} == {"interpd.v1"}


def test_field_names_are_lower_snake_case():
    names = [field.full_name for message in messages() for field in message.fields]
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name.split(".")[-1])] == []


def test_enum_values_carry_their_enum_and_begin_with_unspecified():
    for enum in [enum for file in golden.files() for enum in file.enum_types_by_name.values()]:
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
        assert enum.values_by_number[0].name == f"{prefix}_UNSPECIFIED"
        assert all(value.name.startswith(prefix) for value in enum.values)


def test_services_and_their_messages_have_standard_names():
    for method in methods():
        assert method.containing_service.name.endswith("Service")
        assert method.input_type.name == f"{method.name}Request"
        assert method.output_type.name == f"{method.name}Response"


def test_no_message_serves_two_methods():
    used = [kind.full_name for method in methods() for kind in (method.input_type, method.output_type)]
    assert len(used) == len(set(used))
