"""Counts what style.md asks of the source tree's shape: sizes, imports, names, and calls that are never made."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "penstock"

MODULE_LINES = 400
FUNCTION_LINES = 60
POSITIONAL = 4
PARAMETERS = 8
DOCSTRING_LINES = 6

# May be imported inside the function that is their home: a serving install does not have them.
OPTIONAL_LIBRARIES = frozenset(
    {
        "catboost",
        "joblib",
        "lightgbm",
        "mlflow",
        "onnx",
        "onnxmltools",
        "pandas",
        "polars",
        "pyarrow",
        "scipy",
        "skl2onnx",
    }
    | {"sklearn", "skops", "torch", "xgboost"}
)
FORBIDDEN_MODULES = frozenset({"_pickle", "cloudpickle", "dill", "marshal", "pickle", "shelve"})
FORBIDDEN_CALLS = frozenset(
    {"eval", "exec", "joblib.load", "pandas.read_pickle", "torch.load"}
    | {f"yaml.{name}" for name in ("load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all")}
)
# The only modules that open pickles, and only when `--allow-unsafe` is said.
UNSAFE_MODULES = ("bundle/importers/unpickle.py",)
# Folders whose functions import modules of the package when they run: none.
LATE_IMPORTS: tuple[str, ...] = ("cli/",)
FORBIDDEN_WORDS = frozenset({"base", "handler", "helper", "helpers", "impl", "manager", "service", "util", "utils"})

Sin = tuple[int, str]
Rule = Callable[[str, str, ast.Module], Iterator[Sin]]


def functions_in(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported_names(node: ast.stmt) -> tuple[str, ...]:
    if isinstance(node, ast.Import):
        return tuple(alias.name for alias in node.names)
    return (node.module or "",) if isinstance(node, ast.ImportFrom) else ()


def words_of(name: str) -> list[str]:
    """`HTTPHandler` -> http, handler; `row_utils` -> row, utils."""
    return re.findall(r"[a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])|([A-Z])(?=[A-Z][a-z])", r"\1\3_\2", name).lower())


def dotted_names(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for: `{"y": "yaml", "load": "joblib.load"}`."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def dotted(node: ast.expr, imported: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, imported)}.{node.attr}"
    return imported.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def too_long_modules(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    count = len(text.splitlines())
    if count > MODULE_LINES:
        yield count, f"{count} lines, at most {MODULE_LINES}"


def too_long_functions(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    for function in functions_in(tree):
        count = (function.end_lineno or 0) - function.lineno + 1
        if count > FUNCTION_LINES:
            yield function.lineno, f"`{function.name}` has {count} lines, at most {FUNCTION_LINES}"


def too_many_parameters(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    methods = {id(part) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for part in node.body}
    for function in functions_in(tree):
        positional = [*function.args.posonlyargs, *function.args.args]
        is_static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in function.decorator_list)
        count = len(positional) - (id(function) in methods and not is_static and bool(positional))
        if count > POSITIONAL:
            yield function.lineno, f"`{function.name}` takes {count} positional parameters, at most {POSITIONAL}"
        total = count + len(function.args.kwonlyargs)
        # A command's parameters are the options that its user sees; they cannot come as one value.
        is_command = path.startswith("cli/") and not function.name.startswith("_")
        if total > PARAMETERS and not is_command:
            yield function.lineno, f"`{function.name}` takes {total} parameters, at most {PARAMETERS}"


def relative_imports(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "a relative import; write the whole name"


def imports_of_the_root(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and "penstock" in imported_names(node):
            yield node.lineno, "imports the package root; import from the package that defines the name"


def imports_inside_functions(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    if path.startswith(LATE_IMPORTS):
        return
    for function in functions_in(tree):
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name in imported_names(node):
                    if name.partition(".")[0] not in OPTIONAL_LIBRARIES:
                        yield node.lineno, f"imports `{name}` inside `{function.name}`; move it to the top"


def reads_of_the_environment(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    if path in {"settings/load.py", "testing/server.py"}:  # the second makes the environment of a child process
        return
    imported = dotted_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = dotted(node, imported)
            if name in {"os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv"}:
                yield node.lineno, f"uses `{name}`; only settings/load.py knows the environment"


def code_in_init(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    # The root may hold its table of lazy names (PEP 562), and nothing else may.
    if not path.endswith("__init__.py") or path == "__init__.py":
        return
    for node in tree.body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if not (is_docstring or is_all or isinstance(node, ast.Import | ast.ImportFrom)):
            yield node.lineno, "code in an __init__.py; only docstring, imports and __all__"


def unsafe_calls(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    if path in UNSAFE_MODULES:
        return
    imported = dotted_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in imported_names(node):
                if name.partition(".")[0] in FORBIDDEN_MODULES:
                    yield node.lineno, f"imports `{name}`, which runs what it reads"
        elif isinstance(node, ast.Call):
            name = dotted(node.func, imported)
            if name in FORBIDDEN_CALLS or name.partition(".")[0] in FORBIDDEN_MODULES:
                yield node.lineno, f"calls `{name}`, which runs what it reads"
            if any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords):
                yield node.lineno, f"calls `{name}` with allow_pickle, which runs what it reads"


def empty_names(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    for part in Path(path).with_suffix("").parts:
        if part != "__init__" and FORBIDDEN_WORDS & set(words_of(part)):
            yield 1, f"the name `{part}` says nothing; name it for its noun"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and FORBIDDEN_WORDS & set(words_of(node.name)):
            yield node.lineno, f"the name `{node.name}` says nothing; name it for its noun"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            last = words_of(node.name)[-1:]
            if FORBIDDEN_WORDS - {"base", "service"} & set(last):
                yield node.lineno, f"the name `{node.name}` says nothing; name it for what it does"


def state_and_asserts(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield node.lineno, "`global`: state belongs to an object"
        if isinstance(node, ast.Assert) and not path.startswith("testing/"):
            yield node.lineno, "`assert` is gone under -O; raise an error of errors.py"


def module_docstrings(path: str, text: str, tree: ast.Module) -> Iterator[Sin]:
    docstring = ast.get_docstring(tree)
    if not docstring:
        yield 1, "no docstring; say the module's purpose and its place in the flow"
    # errors.py draws its tree of failures in the docstring (style.md, 12).
    elif len(docstring.splitlines()) > DOCSTRING_LINES and path != "errors.py":
        yield 1, f"a docstring of {len(docstring.splitlines())} lines, at most {DOCSTRING_LINES}"


RULES: tuple[Rule, ...] = (
    too_long_modules,
    too_long_functions,
    too_many_parameters,
    relative_imports,
    imports_of_the_root,
    imports_inside_functions,
    reads_of_the_environment,
    code_in_init,
    unsafe_calls,
    empty_names,
    state_and_asserts,
    module_docstrings,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: Rule) -> None:
    """No module of the package breaks the rule; the message names file and line."""
    sins = []
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE).as_posix()
        text = file.read_text(encoding="utf-8")
        sins += [f"src/penstock/{path}:{line}: {what}" for line, what in rule(path, text, ast.parse(text))]
    assert not sins, "\n" + "\n".join(sins)


@pytest.mark.parametrize(
    ("rule", "path", "text", "lines"),
    [
        (too_long_modules, "a.py", "x = 1\n" * 401, [401]),
        (too_long_functions, "a.py", "\ndef f():\n" + "    x = 1\n" * 60, [2]),
        (too_many_parameters, "a.py", "def f(a, b, c, d, e): ...", [1]),
        (too_many_parameters, "a.py", "class A:\n    def f(self, a, b, c, d, /, e): ...", [2]),
        (too_many_parameters, "a.py", "def f(a, *, b, c, d, e, f, g, h, i): ...", [1]),
        (relative_imports, "a.py", "from . import b", [1]),
        (imports_of_the_root, "a.py", "import penstock\nfrom penstock import Client", [1, 2]),
        (imports_inside_functions, "a.py", "def f():\n    import json\n    from penstock.schema import Field", [2, 3]),
        (reads_of_the_environment, "a.py", "import os\nfrom os import getenv as g\nos.environ['A']\ng('A')", [3, 4]),
        (code_in_init, "b/__init__.py", "'''Doc.'''\nimport os\nX = 1\n__all__ = []", [3]),
        (unsafe_calls, "a.py", "import pickle\nfrom yaml import load\nload('')\neval('1')", [1, 3, 4]),
        (unsafe_calls, "a.py", "import joblib as j, numpy\nj.load(f)\nnumpy.load(f, allow_pickle=True)", [2, 3]),
        (
            empty_names,
            "row_utils.py",
            "class HTTPHandler: ...\nclass ModelManager: ...\ndef row_helper(): ...",
            [1, 1, 2, 3],
        ),
        (state_and_asserts, "a.py", "def f():\n    global x\n    assert x", [2, 3]),
        (module_docstrings, "a.py", "x = 1", [1]),
        (module_docstrings, "a.py", "'''A\nb\nc\nd\ne\nf\ng'''", [1]),
    ],
)
def test_each_rule_finds_its_sin(rule: Rule, path: str, text: str, lines: list[int]) -> None:
    """Each rule points at the lines that break it."""
    assert lines == [line for line, _ in rule(path, text, ast.parse(text))]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "'''Doc.'''\ndef f(a, b, c, d, *, e):\n    import pandas as pd\n    return pd.DataFrame(a)"),
        (
            "a.py",
            "'''Doc.'''\nclass A:\n    def f(self, a, b, c, d): ...\n    @staticmethod\n    def g(a, b, c, d): ...",
        ),
        ("a.py", "'''Doc.'''\nimport os\nimport yaml\nos.fsync(1)\nyaml.safe_load('')\nmodel.load(x)\nre.compile('')"),
        ("cli/a.py", "'''Doc.'''\ndef pack(a, *, b, c, d, e, f, g, h, i): ..."),
        ("settings/load.py", "'''Doc.'''\nimport os\nos.environ"),
        ("b/__init__.py", "'''Doc.'''\nfrom penstock.b.c import D\n__all__ = ['D']"),
        ("__init__.py", "'''Doc.'''\ndef __getattr__(name): ..."),
        ("baseline.py", "'''Doc.'''\nclass Baseline: ...\ndef on_base_url(): ..."),
    ],
)
def test_what_is_allowed_is_no_sin(path: str, text: str) -> None:
    """The rules are silent on what style.md allows."""
    tree = ast.parse(text)
    assert [sin for rule in RULES for sin in rule(path, text, tree)] == []


def test_every_test_says_what_it_shows() -> None:
    """Each test function of the tree has a docstring."""
    sins = [
        f"{file.relative_to(ROOT)}:{function.lineno}: `{function.name}` has no docstring"
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        for function in functions_in(ast.parse(file.read_text(encoding="utf-8")))
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert not sins, "\n" + "\n".join(sins)


def test_test_files_have_names_of_their_own() -> None:
    """No two test modules share a base name, which pytest could not tell apart."""
    count = Counter(file.name for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, times in count.items() if times > 1] == []
