"""Refines the fusion network and what is known of detection by what people said in `dp3 review`.

    python launch.py --config=configs/refine128.py --config.feedback=OUTPUT.review/feedback.jsonl

Ratings become a scorer of pictures; the network is trained a little towards it on half of the places, and the
other half says whether that helped: if not, nothing is written. The result, refined.safetensors in the run's
folder, is used with `dp3 anonymize --weights FILE`. report.json says all of it.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """The config; it has no variants."""
    if variant:
        raise ValueError(f"configs/refine128.py has no variant {variant!r}")
    config = ConfigDict()
    config.seed = 0
    config.feedback = ""  # the file that dp3 review wrote
    config.refine = ConfigDict()
    config.refine.initial = "shipped"  # or a file with a fusion network
    config.refine.updates = 60
    config.refine.batch_size = 8  # rated faces per update
    config.refine.learning_rate = 1e-4  # Adam
    config.refine.stay = 20.0  # factor of the mean squared change of pictures, which holds it back
    config.refine.min_ratings = 20  # fewer tell nothing
    return config
