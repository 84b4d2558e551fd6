"""The wrapper of log and time functions: it bears arguments that they do not know, and keeps torch.compile away."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from lumatile.errors import InvalidTypeError, shown
from lumatile.log.binding import entered
from lumatile.log.current import recording_or_warn
from lumatile.log.stream import Stream

P = ParamSpec("P")
T = TypeVar("T")

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


_UNTRACED: dict[Callable[..., Any], Callable[..., Any]] = {}
"""Function -> what torch.compile calls in its place."""


def lenient(function: Callable[P, T]) -> Callable[P, T]:
    """Let a log or time function, or such a method of a recording, be called with arguments that it does not know.

    In lenient mode they are left out, with a LumatileWarning, and a log call without an argument that it needs leaves
    an error row; in strict mode the call raises InvalidTypeError. Another recording as an argument of a method is
    refused: nothing is logged.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return untraced(function)(*args, **kwargs)
        except TypeError as e:
            if entered(function, e.__traceback__):
                raise
            reason = str(e)
        result: T = _without_unknown(function, args, kwargs, reason)
        return result

    return call


def untraced(function: Callable[P, T]) -> Callable[P, T]:
    """Return `function` so that torch.compile does not trace it: a traced tensor has no content."""
    dynamo = sys.modules.get("torch._dynamo")  # without it nothing is compiled
    if dynamo is None or not hasattr(dynamo, "disable"):
        return function
    if function not in _UNTRACED:
        _UNTRACED[function] = dynamo.disable(function)
    return _UNTRACED[function]


def _without_unknown(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], reason: str) -> Any:
    name, parameters = function.__name__, inspect.signature(function).parameters
    by_position = [each for each, parameter in parameters.items() if parameter.kind in POSITIONAL]
    filled, surplus = by_position[: len(args)], args[len(by_position) :]
    if "self" in parameters:
        recording = args[0]
        others = (kwargs.get("recording"), *surplus)
        if any(isinstance(other, Stream) and other is not recording for other in others):
            return _refuse(
                recording,
                f"{name} of a recording logs to that recording: call it on the other one, or lumatile.{name}; "
                "nothing was logged",
            )
        if kwargs.get("recording") is None or kwargs["recording"] is recording:
            kwargs = {each: value for each, value in kwargs.items() if each != "recording"}
    else:
        recording = recording_or_warn(kwargs.get("recording"))
        if recording is None:
            return None
    missing = [
        each
        for each in by_position[len(args) :]
        if parameters[each].default is inspect.Parameter.empty and each not in kwargs
    ]
    if missing and not name.startswith("log_"):
        return _refuse(recording, f"{name} needs {', '.join(missing)}: nothing was done ({reason})")
    kept = {each: value for each, value in kwargs.items() if each in parameters and each not in filled}
    left_out = [*map(shown, surplus), *(f"{each}=" for each in kwargs if each not in kept)]
    if left_out:
        known = ", ".join(each for each in parameters if each != "self")
        _refuse(recording, f"{name} takes the arguments {known}; left out: {', '.join(left_out)} ({reason})")
    return function(*args[: len(by_position)], **dict.fromkeys(missing) | kept)


def _refuse(recording: Stream, reason: str) -> None:
    """Count a bad call; warn, or in strict mode raise InvalidTypeError."""

    def fail() -> None:
        raise InvalidTypeError(reason)

    recording.attempt(fail)
