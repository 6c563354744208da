"""From the two OpenVINO graphs of the package random_face to the parameters of `prior`.

The graphs are MobileStyleGAN (Belousov, 2021, arXiv:2104.04767) as exported by its author. Nothing of the
package is imported: it is read as data.
"""

from collections.abc import Mapping

import numpy as np

from dp3_jax.common.openvino_ir import Graph

LAYERS = 7  # inverse Haar transform and two convolutions each: 8, 16, ..., 512 px
SLOPE = np.float32(0.2)  # of LeakyReLU, everywhere
_FOLDER = "random_face/data"
MEMBERS = {  # path in the wheel -> sha256
    f"{_FOLDER}/MappingNetwork.xml": "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b",
    f"{_FOLDER}/MappingNetwork.bin": "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305",
    f"{_FOLDER}/SynthesisNetwork.xml": "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd",
    f"{_FOLDER}/SynthesisNetwork.bin": "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645",
}
Tensors = dict[str, np.ndarray]


def convert(members: Mapping[str, bytes]) -> Tensors:
    """Parameters f32 by dotted name from the contents of MEMBERS (see `prior` for what each is for)."""
    graphs = {}
    for name in ("Mapping", "Synthesis"):
        parts = (members[f"{_FOLDER}/{name}Network.{end}"] for end in ("xml", "bin"))
        graphs[name] = Graph(*parts)
    tensors = _mapping(graphs["Mapping"]) | _synthesis(graphs["Synthesis"])
    return {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}


def _mapping(graph: Graph) -> Tensors:
    """Each layer's kernel and bias. The gain behind the activation is positive: it moves in front of it."""
    tensors = {}
    for i, name in enumerate(graph.names("MatMul")):
        product = graph.named(name)
        added = graph.user(product, "Add")
        active = graph.user(added, "PReLU")
        if graph.constant_input(active) != SLOPE:
            raise ValueError("another slope than LeakyReLU(.2)")
        gain = graph.constant_input(graph.user(active, "Multiply")).item()
        (shape,) = [x for x in graph.inputs(added) if graph.kind(x) == "Reshape"]
        bias = graph.constant(graph.inputs(shape)[0])
        tensors[f"mapping.{i}.kernel"] = graph.constant_input(product).T * np.float32(gain)
        tensors[f"mapping.{i}.bias"] = bias * np.float32(gain)
    return tensors


def _synthesis(graph: Graph) -> Tensors:
    first = graph.named("m.conv1.bias")
    biased = graph.user(first, "Add")
    (noisy,) = [x for x in graph.inputs(biased) if graph.kind(x) == "Add"]
    (convolved,) = [x for x in graph.inputs(noisy) if graph.kind(x) == "Convolution"]
    tensors = {
        "input": graph.constant(graph.named("m.input.input"))[0].transpose(1, 2, 0),
        "entry.kernel": graph.constant_input(convolved).transpose(2, 3, 1, 0),
        "entry.noise": graph.constant_input(noisy)[0, 0],
        "entry.bias": graph.constant(first).ravel(),
        **_style(graph, "m.conv1.conv", "entry.style"),
    }
    for i in range(LAYERS):
        tensors |= _style(graph, f"m.layers.{i}.up", f"layers.{i}.up")
        for part in ("conv1", "conv2"):
            tensors |= _separable(graph, f"m.layers.{i}.{part}", f"layers.{i}.{part}")
    head = "m.layers.6.to_img"
    kernel = graph.constant(graph.named(f"{head}.conv.weight"))[:, :, 0, 0].T
    bias = graph.constant(graph.named(f"{head}.bias")).ravel()
    tensors |= {"head.kernel": kernel, "head.bias": bias}
    return tensors | _style(graph, f"{head}.conv", "head.style")


def _style(graph: Graph, name: str, ours: str) -> Tensors:
    """Of the style s(w) = (w A + b) c, where c is a constant in the graph, or 1 if it has none."""
    weight = graph.named(f"{name}.modulation.weight")
    bias = graph.constant(graph.named(f"{name}.modulation.bias")).ravel()
    scaled = graph.user(weight, "MatMul", "Add", "Reshape", "Multiply")
    constants = [x for x in graph.inputs(scaled) if graph.kind(x) == "Const"]
    scale = np.float32(graph.constant(constants[0]).item() if constants else 1)
    return {f"{ours}.kernel": graph.constant(weight).T * scale, f"{ours}.bias": bias * scale}


def _separable(graph: Graph, name: str, ours: str) -> Tensors:
    """Of a modulated depthwise and 1x1 convolution, into whose kernel the demodulation is folded already."""
    depthwise = graph.named(f"{name}.conv.weight_dw")
    filtered = graph.user(depthwise, "GroupConvolution")
    mixed = graph.user(filtered, "Convolution")
    noisy = graph.user(mixed, "Add")
    return {
        f"{ours}.depthwise": graph.constant(depthwise)[:, 0, 0].transpose(1, 2, 0),
        f"{ours}.kernel": graph.constant_input(mixed)[:, :, 0, 0].T,
        f"{ours}.noise": graph.constant_input(noisy)[0, 0],
        f"{ours}.bias": graph.constant(graph.named(f"{name}.bias")).ravel(),
        **_style(graph, f"{name}.conv", f"{ours}.style"),
    }
