"""What the product never does: unpickle, run text, swallow errors without a reason, read the environment in passing."""

import ast

FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "np.load", "numpy.load"}
FORBIDDEN_IMPORTS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}

# and these read pickles, tensors only, of whoever asks for it on his own machine; no daemon does
UNPICKLERS = {
    "plugins/backpack/interpd_backpack/checkpoint/convert.py": "makes safetensors of a published checkpoint, offline",
}

ENVIRONMENT_READERS = {
    "interpd/config.py": "the one reader of configuration",
    "interpd/worker/cluster.py": "tells Ray, which takes such options from the environment only",
    "interpd/worker/actor.py": "tells libraries of a worker process, before they are imported",
    "interpd/engine/nnsight_driver.py": "tells nnsight at its import, and puts back what was there",
    "interpd/engine/surfaces.py": "puts back what a plugin changed while it ran",
    "interpd/testing/imports.py": "compares the environment before and after the import of a plugin",
}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_nothing_is_unpickled_and_no_text_is_run(sources):
    for item in sources:
        if item.path in UNPICKLERS:
            continue
        tree = item.tree
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not calls & FORBIDDEN_CALLS, item.path
        assert not FORBIDDEN_IMPORTS & {name.split(".")[0] for name in imported(tree)}, item.path


def test_what_unpickles_takes_tensors_only_and_runs_in_no_worker(sources):
    found = [item for item in sources if item.path in UNPICKLERS]
    assert len(found) == len(UNPICKLERS)
    for item in found:
        calls = [node for node in ast.walk(item.tree) if isinstance(node, ast.Call)]
        readers = [node for node in calls if ast.unparse(node.func) in FORBIDDEN_CALLS]
        assert [ast.unparse(node.func) for node in readers] == ["torch.load"]
        assert {keyword.arg: ast.unparse(keyword.value) for keyword in readers[0].keywords}["weights_only"] == "True"
        # imported for the error that torch raises
        assert not [node for node in calls if ast.unparse(node.func).split(".")[0] in FORBIDDEN_IMPORTS]
    modules = {path.removesuffix(".py").split("/", 2)[2].replace("/", ".") for path in UNPICKLERS}
    workers = [item for item in sources if "/worker/" in item.path]
    assert not [item.path for item in workers if modules & {*imported(item.tree)}]


def test_code_of_model_repositories_is_never_trusted(sources):
    keywords = [(item.path, node) for item in sources for node in ast.walk(item.tree) if isinstance(node, ast.keyword)]
    trusted = [(path, ast.unparse(node.value)) for path, node in keywords if node.arg == "trust_remote_code"]
    assert all(value == "False" for _, value in trusted), trusted


def is_broad(node):
    return isinstance(node, ast.ExceptHandler) and (
        node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
    )


def silent_handlers(item):
    lines = item.text.splitlines()
    broad = [node.lineno for node in ast.walk(item.tree) if is_broad(node)]
    return [(item.path, at) for at in broad if not any("#" in line for line in lines[at - 2 : at + 1])]


def test_broad_handlers_say_why(sources):
    silent = [found for item in sources for found in silent_handlers(item)]
    assert not silent, "a broad handler stands at a named boundary and says in a comment which and why"


def test_only_the_configuration_reads_the_environment(sources):
    product = [item for item in sources if item.path.startswith(("interpd/", "clients/"))]
    readers = {item.path for item in product if "os.environ" in item.text or "os.getenv" in item.text}
    assert readers <= ENVIRONMENT_READERS.keys()
