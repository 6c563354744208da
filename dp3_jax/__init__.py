"""DeepPrivacy3 in JAX/Flax.

import dp3_jax
new = dp3_jax.anonymize(image)  # u8[h, w, 3] RGB or a Pillow image

anonymizer = dp3_jax.Anonymizer(method="generate")  # for many pictures
result = anonymizer(frame)  # result.frame, result.face_results

generate = dp3_jax.load_generator("runs/celeba128")  # a trained GAN: generate(jax.random.key(0), 8)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers and editors
    from dp3_jax.pipelines.anonymize import Anonymizer, anonymize
    from dp3_jax.training.export import load_generator

_HOMES = {
    "Anonymizer": "dp3_jax.pipelines.anonymize",
    "anonymize": "dp3_jax.pipelines.anonymize",
    "load_generator": "dp3_jax.training.export",
}
__all__ = ["Anonymizer", "anonymize", "load_generator"]


def __getattr__(name: str):
    """Loads what is asked for then and not before, so that `import dp3_jax` takes no time (PEP 562)."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "__version__":
        import importlib.metadata

        try:
            return importlib.metadata.version("dp3_jax")
        except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
            return "0+checkout"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
