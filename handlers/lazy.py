"""Attributes that are made at their first use, by one thread."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar, overload

T = TypeVar("T")


class locked_cached_property(cached_property[T]):
    """A `cached_property` under a lock: `cached_property` alone lets two threads create the value twice."""

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> locked_cached_property[T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None) -> locked_cached_property[T] | T:
        if instance is None:
            return self
        with instance.lock:
            value: T = super().__get__(instance, owner)
            return value
