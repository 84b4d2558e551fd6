"""docs/reference.md is what the docstrings say, and the docstrings say something about each parameter."""

import importlib

import pytest

pytest.importorskip("griffe", reason="griffe reads the docstrings; it is not installed")

import griffe
from tools import reference

FUNCTIONS = [
    pytest.param(each, id=each.path)
    for package in reference.PACKAGES
    for each in reference.public_objects(package)
    if isinstance(each, griffe.Function)
]

METHODS = [
    pytest.param(member, id=member.path)
    for package in reference.PACKAGES
    for each in reference.public_objects(package)
    if isinstance(each, griffe.Class)
    for member in reference.public_members(each)
    if isinstance(member, griffe.Function)
]


def documented(function):
    """The names in the Args section of a function, and those of its parameters."""
    sections = {section.kind: section for section in function.docstring.parsed}
    arguments = sections.get(griffe.DocstringSectionKind.parameters)
    names = [parameter.name for parameter in function.parameters if parameter.name not in {"self", "cls"}]
    return None if arguments is None else [item.name.lstrip("*") for item in arguments.value], names


def test_the_page_is_what_make_docs_writes():
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run make docs"


@pytest.mark.parametrize("package", reference.PACKAGES)
def test_each_public_name_is_there_with_a_docstring(package):
    module = importlib.import_module(package)
    found = {each.name: each for each in reference.public_objects(package)}
    assert set(getattr(module, "__all__", found)) - {"__version__"} <= found.keys()
    assert [name for name, each in found.items() if not each.has_docstring] == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_documents_each_parameter(function):
    described, names = documented(function)
    assert (described or []) == names


@pytest.mark.parametrize("method", METHODS)
def test_a_method_documents_all_its_parameters_or_refers_to_a_function_that_does(method):
    described, names = documented(method)
    assert described in (None, names)
