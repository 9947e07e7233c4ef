"""Hints and values in the words of a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from torch import Tensor, nn


def shown(value: Any) -> str:
    """A value in a message: short, and a class as a class."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself: call it"
    text = " ".join(repr(value).split())
    if len(text) <= 60:
        return text
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"{type(value).__name__}{shape}, {text[:40]} …"


_NOUNS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "True or False"),
    str: ("a string", "strings"),
    Tensor: ("a tensor", "tensors"),
    NoneType: ("None", "None"),
    Callable: ("a function", "functions"),
    Any: ("anything", "anything"),
    nn.Module: ("a torch.nn.Module", "modules"),
}


def words(hint: Any, number: int = 0) -> str:
    """What is expected: one of them (0) or several (1)."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if isinstance(hint, TypeVar):
        return " or ".join(words(kind, number) for kind in hint.__constraints__ or (hint.__bound__ or Any,))
    if kind is Annotated:
        known = ", ".join(repr(name) for rule in parts[1:] for name in rule.known)
        noun = f"{('one', 'some')[number]} of {known}" if known else words(parts[0], number)
        return " ".join([noun, *(rule.words for rule in parts[1:] if rule.words)])
    if kind in (Union, UnionType):
        return " or ".join([words(part, number) for part in parts]).replace(f" of {words(parts[0], 1)}", " of them")
    if kind in (Sequence, tuple, list):
        return f"{('a sequence', 'sequences')[number]} of {_members(parts)}"
    if kind in (Mapping, dict):
        return f"{('a mapping', 'mappings')[number]} of {words(parts[0], 1)} to {words(parts[1], 1)}"
    return _noun(kind)[number]


def _members(parts: Sequence[Any]) -> str:
    """What a sequence consists of, and how many of it where its length is fixed."""
    if len(parts) == 1 or parts[1] is ...:
        return words(parts[0], 1)
    if all(part == parts[0] for part in parts):
        return f"{len(parts)} {words(parts[0], 1)}"
    return f"length {len(parts)}: {', '.join(words(part) for part in parts)}"


def _noun(kind: Any) -> tuple[str, str]:
    if kind in _NOUNS:
        return _NOUNS[kind]
    name, example = kind.__name__, getattr(kind, "example", None)
    article = "an" if name[0] in "AEIOU" else "a"
    return f"{article} {name}{f' such as {example}' if example else ''}", f"{name}s"
