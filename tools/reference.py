"""Write docs/reference.md: the public names, with the signatures and docstrings that the code has.

`python -m tools.reference`. The code is read, not imported, so the page is the same whatever is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"

PACKAGES = {
    "lumatile": "sdk",
    "lumatile_service.batch": "service",
    "lumatile_service.export": "service",
    "lumatile_service.ray_data": "service",
    "lumatile_kernels": "kernels",
}
"""Package -> the folder it is found in; each becomes a chapter with its public names."""

HEAD = """\
# API reference

Written by `make docs` from the docstrings; to change it, change them. [Logging and reading](api.md) and
[datasets](batch.md) explain how the names work together.
"""


def public_objects(package: str) -> list[griffe.Object]:
    """Return the functions, classes and types that `__all__` of the package names."""
    module = _modules()[package]
    found = [module.members[str(name)] for name in module.exports or () if not str(name).startswith("_")]
    return [member.final_target if isinstance(member, griffe.Alias) else member for member in found]


@cache
def _modules() -> griffe.ModulesCollection:
    loader = griffe.GriffeLoader(
        search_paths=[ROOT / folder for folder in dict.fromkeys(PACKAGES.values())],
        allow_inspection=False,
        docstring_parser=griffe.Parser.google,
        docstring_options={"warnings": False},
    )
    for package in dict.fromkeys(package.partition(".")[0] for package in PACKAGES):
        loader.load(package)
    loader.resolve_aliases(external=False)
    return loader.modules_collection


def public_members(owner: griffe.Class) -> list[griffe.Object]:
    """Return the methods, properties and fields of a class that have a docstring, those of its bases included."""
    members = {**owner.inherited_members, **owner.members}
    objects = [member.final_target if isinstance(member, griffe.Alias) else member for member in members.values()]
    return [each for each in objects if not each.name.startswith("_") and each.has_docstring]


def constructor(owner: griffe.Class) -> griffe.Function | None:
    """Return the `__init__` of a class if its arguments are documented: users call only those."""
    made = owner.all_members.get("__init__")
    target = made.final_target if isinstance(made, griffe.Alias) else made
    if not isinstance(target, griffe.Function) or target.docstring is None:
        return None
    kinds = {section.kind for section in target.docstring.parsed}
    return target if griffe.DocstringSectionKind.parameters in kinds else None


def page() -> str:
    """Return the text of the page."""
    lines = [HEAD.rstrip()]
    for package in PACKAGES:
        lines += ["", f"## {package}", ""]
        for each in sorted(public_objects(package), key=lambda each: (each.is_class, each.name)):
            lines += _described(each, "###")
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _described(each: griffe.Object, heading: str) -> Iterator[str]:
    yield f"{heading} {each.name}"
    yield ""
    if isinstance(each, griffe.Function):
        yield from ("```", *_signature(each), "```", "")
    elif isinstance(each, griffe.Class):
        yield from ("```", *_class_signature(each), "```", "")
    yield from _sections(each)
    if isinstance(each, griffe.Class) and (made := constructor(each)) is not None:
        yield from _sections(made)
    if isinstance(each, griffe.Class):
        listed = _names(each, griffe.DocstringSectionKind.attributes)
        fields = [m for m in public_members(each) if isinstance(m, griffe.Attribute) and m.name not in listed]
        yield from _listed("Attributes", [(m.name, _annotation(m), m.docstring.value) for m in fields if m.docstring])
        for member in public_members(each):
            if isinstance(member, griffe.Function):
                yield from _described(member, "####")


def _names(each: griffe.Object, kind: griffe.DocstringSectionKind) -> list[str]:
    sections = each.docstring.parsed if each.docstring is not None else []
    return [item.name for section in sections if section.kind is kind for item in section.value]


def _sections(each: griffe.Object) -> Iterator[str]:
    if each.docstring is None:
        return
    for section in each.docstring.parsed:
        match section:
            case griffe.DocstringSectionText():
                yield from (section.value, "")
            case griffe.DocstringSectionParameters() | griffe.DocstringSectionAttributes():
                title = "Args" if section.kind is griffe.DocstringSectionKind.parameters else "Attributes"
                yield from _listed(title, [(item.name, "", item.description) for item in section.value])
            case griffe.DocstringSectionReturns() | griffe.DocstringSectionYields():
                title = "Returns" if section.kind is griffe.DocstringSectionKind.returns else "Yields"
                yield from (f"{title}: {_one_line(' '.join(item.description for item in section.value))}", "")
            case griffe.DocstringSectionRaises():
                yield from _listed("Raises", [(str(item.annotation), "", item.description) for item in section.value])
            case griffe.DocstringSectionAdmonition():
                yield from (f"{section.title}: {_one_line(section.value.contents)}", "")
            case _:
                raise TypeError(f"{each.path} has a docstring section that this page has no form for: {section.kind}")


def _listed(title: str, items: list[tuple[str, str, str]]) -> Iterator[str]:
    if not items:
        return
    yield from (f"{title}:", "")
    for name, annotation, text in items:
        yield f"- `{name}`{f' (`{annotation}`)' if annotation else ''}: {_one_line(text)}"
    yield ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _annotation(each: griffe.Attribute) -> str:
    return "" if each.annotation is None else str(each.annotation)


def _class_signature(each: griffe.Class) -> list[str]:
    if (made := constructor(each)) is not None:
        return [f"class {line}" if i == 0 else line for i, line in enumerate(_signature(made, each.name))]
    bases = ", ".join(str(base) for base in each.bases)
    return [f"class {each.name}({bases})" if bases else f"class {each.name}"]


def _signature(each: griffe.Function, name: str | None = None) -> list[str]:
    """Return a function's head, on one line where it fits, else a parameter a line."""
    shown = []
    star = False
    for parameter in each.parameters:
        if parameter.name in {"self", "cls"}:
            continue
        kind = parameter.kind
        if kind is griffe.ParameterKind.keyword_only and not star:
            shown.append("*")
        star |= kind in {griffe.ParameterKind.keyword_only, griffe.ParameterKind.var_positional}
        prefix = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(kind, "")
        text = prefix + parameter.name
        if parameter.annotation is not None:
            text += f": {parameter.annotation}"
        if parameter.default is not None and not prefix:
            text += f" = {parameter.default}" if parameter.annotation is not None else f"={parameter.default}"
        shown.append(text)
    result = "" if each.returns is None or name is not None else f" -> {each.returns}"
    name = name or each.name
    line = f"{name}({', '.join(shown)}){result}"
    if len(line) <= 100:
        return [line]
    return [f"{name}(", *(f"    {text}," for text in shown), f"){result}"]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
