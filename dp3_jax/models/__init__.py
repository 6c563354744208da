"""Networks. What makes them from a config's `model` section is in `families`, and can be had from here.

It is imported when it is first asked for: networks need JAX, which takes half a second to load, and some
modules of this package measure pictures through OpenCV alone.
"""

from typing import Any

__all__ = [
    "FAMILIES",
    "Family",
    "build_discriminator",
    "build_generator",
    "discriminator_inputs",
    "family_of",
    "generator_inputs",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dp3_jax.models import families

    return getattr(families, name)
