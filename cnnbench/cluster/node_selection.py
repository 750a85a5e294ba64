"""Which of a partition's nodes a fleet takes: one of each kind, so many, or every one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cnnbench.cluster.slurm import Node
from cnnbench.errors import UsageError

_PLAIN = re.compile(r"[\w.+:/-]+(?:[&|,][\w.+:/-]+)*")


def select_nodes(
    found: Sequence[Node], *, constraint: str | None, gres: str | None, count: int | None, each: bool
) -> tuple[Node, ...]:
    """The nodes by name: all that fit (`each`, those that are down too), the `count` most idle, or one of each kind.

    Raises UsageError where none fits, or fewer than asked for, with what there is.
    """
    fitting = [node for node in found if _has_features(node, constraint) and _has_gres(node, gres)]
    if not fitting:
        raise UsageError(f"no node fits{_describe_request(constraint, gres)}; there are:\n{_describe_kinds(found)}")
    if each:
        return tuple(fitting)
    usable = sorted((node for node in fitting if node.why_not is None), key=lambda node: node.rank)
    if not usable:
        first = fitting[0]
        raise UsageError(f"none of the {len(fitting)} nodes that fit takes jobs now: {first.name} is {first.why_not}")
    if count is not None:
        if len(usable) < count:
            raise UsageError(f"--nodes {count}: only {len(usable)} of {len(fitting)} nodes that fit take jobs now")
        return tuple(sorted(usable[:count], key=lambda node: node.name))
    kinds: dict[str, Node] = {}
    for node in usable:
        kinds.setdefault(node.kind, node)
    return tuple(sorted(kinds.values(), key=lambda node: node.name))


def _has_features(node: Node, constraint: str | None) -> bool:
    """Slurm's constraint, as far as it asks for features of one node: `a&b`, `a|b`; & binds first.

    Raises UsageError for more (counts, brackets): those ask for several nodes at once, and here each job has one.
    """
    if constraint is None:
        return True
    if not _PLAIN.fullmatch(constraint):
        raise UsageError(f"--constraint {constraint!r}: a job here has one node; only features with & and | will do")
    return any(all(feature in node.features for feature in re.split("[&,]", every)) for every in constraint.split("|"))


def _has_gres(node: Node, gres: str | None) -> bool:
    """Whether the node has what is asked for, such as `gpu`, `gpu:2`, `gpu:a100` or `gpu:a100:2`; several by comma."""
    return gres is None or all(_has_one(node, wanted.split(":")) for wanted in gres.split(",") if wanted)


def _has_one(node: Node, wanted: Sequence[str]) -> bool:
    count = int(wanted[-1]) if wanted[-1].isdigit() else 1
    names = list(wanted[:-1] if wanted[-1].isdigit() else wanted)
    there = 0
    for own in node.gres:
        parts = own.split(":")
        many = int(parts[-1]) if parts[-1].isdigit() else 1
        if parts[: len(names)] == names:
            there += many
    return there >= count


def _describe_request(constraint: str | None, gres: str | None) -> str:
    parts = [f"--constraint {constraint}"] if constraint else []
    return f" {' '.join([*parts, *([f'--gres {gres}'] if gres else [])])}"


def _describe_kinds(found: Sequence[Node]) -> str:
    kinds: dict[str, int] = {}
    for node in found:
        kinds[node.kind] = kinds.get(node.kind, 0) + 1
    return "\n".join(f"  {many} x {kind}" for kind, many in sorted(kinds.items()))
