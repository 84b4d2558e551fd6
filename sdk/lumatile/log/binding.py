"""Calls whose arguments a function does not take: how they are told from other errors, and refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from lumatile.errors import InvalidTypeError

P = ParamSpec("P")
T = TypeVar("T")


def entered(function: Callable[..., Any], traceback: TracebackType | None) -> bool:
    """Return whether an error comes from within a function; else its arguments did not fit."""
    while traceback is not None and traceback.tb_frame.f_code is not function.__code__:
        traceback = traceback.tb_next
    return traceback is not None


def names_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function raise InvalidTypeError with the arguments that it takes, where it is called with others."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except TypeError as e:
            if entered(function, e.__traceback__):
                raise
            reason = str(e)
        parameters = inspect.signature(function).parameters
        by_name = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
        first = [name for name in parameters if name not in by_name]
        raise InvalidTypeError(
            f"{function.__name__} takes {', '.join(first) or 'nothing'} and by name {', '.join(by_name) or 'nothing'}: "
            f"{reason} (docs/from-rerun.md has what other APIs call them)"
        )

    return call
