"""DeepPrivacy3 in JAX/Flax.

import dp3_jax
new = dp3_jax.anonymize(image)  # u8[h, w, 3] RGB or a Pillow image

anonymizer = dp3_jax.Anonymizer(method="generate")  # for many pictures
result = anonymizer(frame)  # result.frame, result.outcomes
"""

__all__ = ["Anonymizer", "anonymize"]


def __getattr__(name: str):
    """Loads the anonymizer when it is asked for, so that `import dp3_jax` takes no time (PEP 562)."""
    if name in __all__:
        from dp3_jax.anonymization import anonymize as module

        return getattr(module, name)
    if name == "__version__":
        import importlib.metadata

        try:
            return importlib.metadata.version("dp3_jax")
        except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
            return "0+checkout"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
