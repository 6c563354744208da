import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import skimage.filters

from dp3_jax.common import assets
from dp3_jax.models import perceptual
from dp3_jax.vision import inpainting_losses


def test_vgg19_is_that_of_keras():
    keras = pytest.importorskip("keras", reason="needs Keras, which comes with TensorFlow")
    names = ["block1_conv2", "block2_conv1", "block3_conv4"]
    whole = keras.applications.VGG19(include_top=False, weights=None, input_shape=(32, 32, 3))
    theirs = keras.Model(whole.inputs, [whole.get_layer(name).output for name in names])
    weights = {layer.name: layer.get_weights() for layer in whole.layers if "_conv" in layer.name}
    image = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)

    expected = theirs(keras.applications.vgg19.preprocess_input((image + 1) * 127.5))
    variables = perceptual.vgg19_variables(weights)
    found = perceptual.VGG19(layers=names).apply(variables, image)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, np.asarray(b), rtol=1e-3, atol=1e-3 * np.abs(b).max())


def test_vgg19_refuses_layers_it_does_not_have():
    network = perceptual.VGG19(layers=("block9_conv1",))
    with pytest.raises(ValueError, match="block9_conv1"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_mobilenet_distance_grows_with_blur():
    """On a real photo: the more of it is gone, the farther its features are."""
    pytest.importorskip("pooch")
    path = assets.cache_folder() / assets.ASSETS["mobilenet_v2"].filename
    if not path.exists():
        pytest.skip(f"needs {path.name} in the asset cache; an evaluation fetches it")
    photo = skimage.data.astronaut()[:128, 160:288].astype(np.float32) / 127.5 - 1
    blurred = [skimage.filters.gaussian(photo, sigma, channel_axis=-1) for sigma in (0, 1, 2, 4)]
    features = jax.jit(perceptual.mobilenet_features(path))(jnp.asarray(np.stack(blurred)))
    assert [f.shape[1] for f in features] == [64, 32, 16, 8]
    sharp = [f[:1] for f in features]
    content = [
        float(inpainting_losses.feature_distance([f[i : i + 1] for f in features], sharp))
        for i in range(4)
    ]
    assert content[0] == 0 and content == sorted(content) and content[1] > 0.01
