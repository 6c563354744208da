"""DeepPrivacy3 in JAX/Flax."""
