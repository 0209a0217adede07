"""The package as such: lazy imports, names, documentation, layers."""

import ast
import dataclasses
import doctest
import importlib
import importlib.util
import inspect
import pathlib
import re

import pytest
from cases import run_python
from optional import needs

import fastcov as fc

PACKAGE = pathlib.Path(fc.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")
)


def module(name):
    return importlib.import_module(name.removesuffix(".__init__"))


def exists(name):
    """Whether a public name is there; a module that it needs may not be."""
    return name not in fc._MODULES or importlib.util.find_spec(f"fastcov.{name}") is not None


def test_import_loads_nothing_heavy():
    heavy = "numba", "scipy", "numpy", "threadpoolctl", "psutil", "click", "matplotlib"
    script = f"import sys, fastcov; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(script).strip() == "[]"


def test_listing_the_names_loads_nothing_heavy():
    script = "import sys, fastcov; dir(fastcov); fastcov.__all__; print('numpy' in sys.modules)"
    assert run_python(script).strip() == "False"


def test_a_fit_loads_no_door():
    outside = "matplotlib", "jinja2", "click", "sklearn", "torch"
    doors = *outside, *(f"fastcov.{m}" for m in (*fc._MODULES, *fc._DOORS, "cli", "report"))
    script = (
        "import sys, fastcov; fastcov.fit([[1.0, 2.0], [3.0, 5.0]], [[1.0, 0.0], [0.0, 1.0]], ridge=1);"
        f"print([m for m in {doors} if m in sys.modules])"
    )
    assert run_python(script).strip() == "[]"


@pytest.mark.parametrize("name", fc.__all__)
def test_every_public_name_resolves_and_is_documented(name):
    if not exists(name):
        pytest.skip(f"there is no fastcov.{name} yet")
    value = getattr(fc, name)
    assert name in dir(fc)
    if name != "__version__":
        assert inspect.getdoc(value)
        assert (value.__doc__ or "").strip()


def test_public_names_are_unique_and_do_not_hide_each_other():
    assert len(fc.__all__) == len(set(fc.__all__))
    assert not set(fc._NAMES) & {*fc._MODULES, *fc._DOORS}


def test_names_for_type_checkers_are_those_at_run_time():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.asname for node in block.body for alias in node.names}
    assert typed == {*fc._NAMES, *fc._MODULES, *fc._DOORS}


def test_star_import_gives_the_public_names():
    if not all(map(exists, fc.__all__)):
        pytest.skip("a public module is missing")
    scope = {}
    exec("from fastcov import *", scope)
    assert set(fc.__all__) <= set(scope)


@pytest.mark.slow
@pytest.mark.parametrize("name", fc._DOORS)
def test_a_door_needs_its_library_only_where_it_is_opened(name):
    script = f"""
import sys
sys.modules[{name!r}] = None  # as if it were not installed
import pydoc, fastcov
from fastcov import *
assert {name!r} not in globals() and {name!r} not in dir(fastcov)
pydoc.render_doc(fastcov)
try:
    fastcov.{name}
except ImportError as error:
    print(error)
"""
    assert 'pip install "fastcov-gains[' + name + ']"' in run_python(script)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fastcov' has no attribute 'no_such_name'"):
        _ = fc.no_such_name
    assert not hasattr(fc, "_no_such_name")


def test_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", fc.__version__)


def test_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("name", fc.__all__)
def test_public_docstrings_name_every_parameter(name):
    value = getattr(fc, name) if name in fc._NAMES else None
    if value is None or name.endswith("Warning"):
        pytest.skip("takes no arguments from users")
    if dataclasses.is_dataclass(value):  # a result: its fields are attributes
        attributes = value.__doc__[value.__doc__.index("Attributes") :]
        for field in dataclasses.fields(value):
            if not field.name.startswith("_"):
                assert re.search(rf"^ *([\w, ]+, )?{field.name}\b", attributes, re.MULTILINE), field.name
        return
    for parameter in inspect.signature(value).parameters:
        assert re.search(rf"^ *([\w, ]+, )?{parameter}\b.*", value.__doc__, re.MULTILINE), parameter
        assert re.search(rf"\b{parameter}\b", value.__doc__[value.__doc__.index("Parameters") :]), parameter


@pytest.mark.parametrize("name", [n for n in MODULES if n.rpartition(".")[2] != "__main__"])
def test_examples_in_docstrings_are_true(name):
    needed = {"plot": "matplotlib", **{door: door for door in fc._DOORS}}.get(name.split(".")[1])
    if needed:
        needs(needed)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    found = [test for test in finder.find(module(name)) if test.examples]
    for test in found:
        if "fc.datasets" in test.docstring and not exists("datasets"):
            continue
        report = []
        runner.run(test, out=report.append)
        assert not runner.failures, "".join(report)
    assert runner.tries >= sum(1 for test in found if "fc.datasets" not in test.docstring)


def test_examples_are_given_where_they_help():
    assert {name for name in fc._NAMES if ">>>" in (getattr(fc, name).__doc__ or "")} >= {
        "fit", "loss", "loss_and_gradient", "AtomOperator", "GramOperator", "threads"
    }  # fmt: skip


def test_the_oracle_imports_nothing_from_the_package():
    source = (pathlib.Path(__file__).parent / "naive.py").read_text(encoding="utf-8")
    imports = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["import numpy as np"]
