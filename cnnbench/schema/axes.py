"""What a field of a job is to those who plan, name, order and file jobs: declared at the field, once.

From these declarations follow the keys of a suite (`plan.job_keys`), every name of a job (`naming`), what two jobs differ in,
the order of a ladder, and the columns of files. A new axis is a field of `Job` with an `Axis`, and the engine that obeys it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from pydantic import BaseModel

AxisGroup = Literal["work", "compute", "network", "data", "clock", "ranks", "place", "draw"]
"""What is computed; how its step is computed; what is trained; on what; how it is timed; by how many processes; where; and
which repeat of it."""
AxisScope = Literal["any", "networks", "digits", "products"]
"""The workloads that have it: all; all but the matrix product; those that train on MNIST; the matrix product."""


@dataclass(frozen=True)
class Axis:
    """One field of a job."""

    group: AxisGroup
    scope: AxisScope | None = None
    """Whose jobs in a suite have a key of this name; None for a field that no suite sets."""
    word: str | None = None
    """What a job is called that has another value than the plain one: a format of the job, `{0.pool} pooling`. None where
    short names do not say it."""
    title: str | None = None
    """The same in the title of a table, where that is another than `word`."""
    low: int | None = None
    high: int | None = None
    """The least and the greatest number a suite may give."""
    choices: tuple[str, ...] = ()
    """The words that a suite may give, where they are not the field's own values."""
    takes_several: bool = True
    """Whether a suite may list values, each of which makes a job of its own."""
    since: int = 1
    """The schema that brought it: after 1 its plain value is left out of a job's keys, so that older jobs keep theirs."""


@cache
def axes_of(job_type: type[BaseModel]) -> Mapping[str, Axis]:
    """Return the declarations of a job's fields, by name and in the order of the fields."""
    fields = job_type.model_fields.items()
    return {name: axis for name, field in fields for axis in field.metadata if isinstance(axis, Axis)}


@cache
def list_fields(job_type: type[BaseModel], *groups: AxisGroup) -> tuple[str, ...]:
    """Return the fields of these groups, in their order."""
    return tuple(name for name, axis in axes_of(job_type).items() if axis.group in groups)


@cache
def plain_values(job_type: type[BaseModel], *groups: AxisGroup) -> Mapping[str, Any]:
    """Return the values that the fields of these groups have where nothing was asked for."""
    return {name: job_type.model_fields[name].default for name in list_fields(job_type, *groups)}


@cache
def list_choices(job_type: type[BaseModel], name: str) -> tuple[Any, ...]:
    """Return the values that a field can have, in their order; none where it takes any number or text."""
    annotation = job_type.model_fields[name].annotation
    nested = [get_args(each) or (each,) for each in (get_args(annotation) or (annotation,))]
    return tuple(each for values in nested for each in values if not isinstance(each, type))
