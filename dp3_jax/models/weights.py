"""Parameter trees as safetensors files hold them: flat, with names like "conv/kernel"."""

from collections.abc import Mapping
from typing import Any


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of a flat dictionary.

    What `flax.traverse_util.unflatten_dict` does; without loading Flax, which commands need not.
    """
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split("/")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = value
    return tree
