"""The fusion network: puts a generated face, the donor, into a photo whose own face it never sees.

It gets the photo with the masked region blanked, and a donor: a rendering of a person who does not exist,
aligned to the same canonical frame and cut out by its silhouette. It draws what lies between the donor and
the photo (hair, ears, jaw, neck) and says how the donor's colours must change to belong here:

    output = alpha * (donor * (1 + gain) + bias) + (1 - alpha) * fill     under the mask
    output = photo                                                        elsewhere

Detail therefore comes from the donor, and fill, alpha, gain and bias, which are smooth where the donor shows,
serve a donor of any resolution. Encoder and decoder are the anonymizer's, whose weights it can begin with
(`from_anonymizer`): that network already continues hair and background.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dp3_jax.models.anonymizer import (
    Attention,
    ContextNetwork,
    activate,
    double,
    smooth,
    space_to_depth,
)
from dp3_jax.models.dcgan import depth_to_space

_HALF = 0.5**0.5
_SMALL = nn.initializers.variance_scaling(0.01, "fan_in", "normal")
_ALPHA_BIAS = 2.0  # logit: at the start the donor shows where it is
_ALPHA_SLOPE = 4.0
_NOWHERE = 1e-4  # share of pixels outside of the donor below which a fill is not continued


class FusionParts(NamedTuple):
    """What the network says; everything but the donor that a composite needs.

    Attributes:
      fill: f32[B, S, S, 3] in about [-1, 1].
      alpha: f32[B, S, S, 1] in [0, 1]; 0 where there is no donor.
      gain, bias: f32[B, S, S, 3], smooth: a grid of S/8 px, enlarged.
    """

    fill: jax.Array
    alpha: jax.Array
    gain: jax.Array
    bias: jax.Array


def composite(parts: FusionParts, donor: jax.Array) -> jax.Array:
    """The picture under the mask, f32[B, S, S, 3]; parts and donor may have been enlarged alike."""
    corrected = donor * (1.0 + parts.gain) + parts.bias
    return parts.alpha * corrected + (1.0 - parts.alpha) * parts.fill


def _inner(mask: jax.Array) -> jax.Array:
    """f32[B, S, S, 1]: 0 at the edge of a mask of 0 and 1, rising to 1 at a depth of S/16 px.

    There the donor shows whatever the network says. Left to a loss, a discriminator teaches the generator
    small spots of noise in the middle of the face, which it has no other means to draw.
    """
    radius = max(1, mask.shape[1] // 32)
    window, strides = (1, 2 * radius + 1, 2 * radius + 1, 1), (1, 1, 1, 1)
    eroded = jax.lax.reduce_window(mask, jnp.inf, jax.lax.min, window, strides, "SAME")
    eroded = jnp.where(jnp.isinf(eroded), 0.0, eroded)
    spread = jax.lax.reduce_window(eroded, 0.0, jax.lax.add, window, strides, "SAME")
    # Multiplied by the mask because a sum of many parts may miss 0 by its rounding.
    return mask * jnp.minimum(spread / (2 * radius + 1) ** 2, 1.0)


def _softened(mask: jax.Array) -> jax.Array:
    """f32[B, S, S, 1]: a mask of 0 and 1, rising from 0 outside its edge to 1 at a depth of 3 px.

    A donor that ends within a pixel shows the stairs of its outline, and what is drawn beside it grows dots.
    """
    return jnp.clip(2.0 * smooth(smooth(mask)) - 1.0, 0.0, 1.0) * mask


def _continued(fill: jax.Array, alpha: jax.Array) -> jax.Array:
    """f32[B, S, S, 3]: the fill, under the donor's edge continued from what lies outside of the donor.

    Only a share of 1 - alpha of it shows there, so that training hardly says what it holds: noise of many
    times the contrast of skin, which a composite shows as dots along the jaw.
    """
    radius = max(1, fill.shape[1] // 64)
    window, strides = (1, 2 * radius + 1, 2 * radius + 1, 1), (1, 1, 1, 1)

    def spread(x: jax.Array) -> jax.Array:
        for _ in range(2):
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, "SAME")
        return x / (2 * radius + 1) ** 4

    outside = jnp.square(1.0 - alpha)
    beside = spread(outside * fill) / (spread(outside) + _NOWHERE)
    return outside * fill + (1.0 - outside) * beside


class FusionGenerator(ContextNetwork):
    """(image with a masked region, mask, donor, its mask) to the image with the donor's face.

    The attributes are those of ContextNetwork. The style that modulates the decoder comes half from the
    context and half from a learned constant: there is no latent, the donor is what varies.
    """

    def _donor_features(self, donor: jax.Array, donor_mask: jax.Array) -> jax.Array:
        """What the donor adds to the encoder's first map."""
        x = space_to_depth(jnp.concatenate([donor, donor_mask], -1)).astype(self.dtype)
        # No bias, and zeros outside the donor: without one the encoder is the anonymizer's.
        return nn.Conv(
            self.widths[0],
            (3, 3),
            use_bias=False,
            dtype=self.dtype,
            kernel_init=_SMALL,
            name="donor",
        )(x)

    @nn.compact
    def parts(
        self, image: jax.Array, mask: jax.Array, donor: jax.Array, donor_mask: jax.Array
    ) -> FusionParts:
        """What the composite is made of; arguments as in `__call__`."""
        masked = mask > 0
        # `where`, not a product: not even an infinity or a NaN under the mask passes.
        context = jnp.where(masked, 0.0, image)
        shown = (donor_mask > 0) & masked
        donor = jnp.where(shown, donor, 0.0)
        added = self._donor_features(donor, shown.astype(jnp.float32))
        levels = self._encode(context, masked.astype(jnp.float32), added)
        x = levels[-1]
        constant = self.param("style", nn.initializers.normal(1.0), (self.style_dim,))
        constant = jnp.broadcast_to(constant, (x.shape[0], self.style_dim))
        style = jnp.concatenate([constant, self._seen(x)], -1)
        x = Attention(dtype=self.dtype, name="attention")(x)
        place = self.param("place", nn.initializers.normal(0.5), (1, *x.shape[1:]))
        maps, rgb = self._decode((x + 0.5 * place.astype(self.dtype)) * _HALF, levels, style)
        alpha = nn.Conv(4, (3, 3), dtype=self.dtype, kernel_init=_SMALL, name="alpha")(maps[0])
        alpha = smooth(depth_to_space(alpha).astype(jnp.float32))
        shown = shown.astype(jnp.float32)
        alpha = jax.nn.sigmoid(_ALPHA_SLOPE * alpha + _ALPHA_BIAS) * _softened(shown)
        alpha = 1.0 - (1.0 - alpha) * (1.0 - _inner(shown))
        tone = nn.Conv(6, (3, 3), dtype=self.dtype, kernel_init=_SMALL, name="tone")
        tone = tone(activate(maps[-1])).astype(jnp.float32)
        while tone.shape[1] < image.shape[1]:
            tone = double(tone)
        fill = _continued(self._picture(maps[0], rgb), alpha)
        return FusionParts(fill, alpha, tone[..., :3], tone[..., 3:])

    def __call__(
        self,
        image: jax.Array,
        mask: jax.Array,
        donor: jax.Array,
        donor_mask: jax.Array,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Puts the donor into the image.

        Args:
          image: f32[B, S, S, 3] in [-1, 1]; what lies under the mask is discarded first of all.
          mask: f32[B, S, S, 1]; every pixel where it is above 0 is synthesised.
          donor: f32[B, S, S, 3] in [-1, 1], in the same canonical frame; what lies outside of its mask or
            outside of `mask` is discarded.
          donor_mask: f32[B, S, S, 1], above 0 on the donor's face.
          train: has no effect; there are no batch statistics and no dropout.

        Returns:
          f32[B, S, S, 3]; bit-identical to `image` outside the mask. Under it meant for [-1, 1], but not
          clipped.
        """
        del train
        shown = (donor_mask > 0) & (mask > 0)
        donor = jnp.where(shown, donor, 0.0)  # so that 0 * infinity does not pass
        drawn = composite(self.parts(image, mask, donor, donor_mask), donor)
        return jnp.where(mask > 0, drawn, image)


def from_anonymizer(
    fresh: Mapping[str, Any], anonymizer: Mapping[str, Any], latents: int = 256
) -> dict[str, Any]:
    """Parameters of a fusion network that begins with a trained anonymizer of the same widths.

    What both have is taken over. The learned constants stand in for what the anonymizer makes of its
    latent: means over `latents` random ones.

    Args:
      fresh: parameters of a FusionGenerator, for what the anonymizer does not have.
      anonymizer: parameters of an AnonymizerGenerator.
      latents: how many.
    """
    params = {name: anonymizer.get(name, value) for name, value in fresh.items()}
    dim = anonymizer["mapping_0"]["kernel"].shape[0]
    z = jax.random.normal(jax.random.key(0), (latents, dim))
    w = z * jax.lax.rsqrt(jnp.square(z).mean(-1, keepdims=True) + 1e-8)
    for index in range(2):
        layer = anonymizer[f"mapping_{index}"]
        w = activate(w @ layer["kernel"] + layer["bias"])
    params["style"] = w.mean(0)
    side = anonymizer["place"].shape[1]
    sketch = anonymizer["sketch"]["bias"].reshape(1, side, side, -1)
    mixed = jnp.concatenate([sketch, anonymizer["place"]], -1)
    layer = anonymizer["sketch_in"]
    params["place"] = mixed @ layer["kernel"][0, 0] + layer["bias"]
    return params


def at_size(fresh: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that were trained on pictures of another size, for a network of the same widths.

    All that depends on the size is the learned map of places, f32[1, S/16, S/16, C] of four widths: it is
    enlarged or reduced bilinearly. Every other layer now sees what has half or twice its former size, which
    training has to mend; what a donor is shown with is right from the first update on.

    Args:
      fresh: parameters of a FusionGenerator, for the shape.
      params: of another one.
    """
    have, need = params["place"].shape, fresh["place"].shape
    if have == need or have[-1] != need[-1]:
        return dict(params)
    place = jax.image.resize(jnp.asarray(params["place"], jnp.float32), need, "linear")
    return {**params, "place": place}
