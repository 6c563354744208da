"""A reader of OpenVINO's IR version 10: a graph as XML beside one file with its constants.

Only what is needed to take weights out of a graph: layers by name and type, who feeds whom, constants.
The format: https://docs.openvino.ai/2024/documentation/openvino-ir-format.html
"""

from xml.etree import ElementTree

import numpy as np

_DTYPES = {"f32": "<f4", "i32": "<i4", "i64": "<i8"}


class Graph:
    """Layers of one IR; a layer is called by its id, a string."""

    def __init__(self, xml: bytes, constants: bytes):
        """Reads the graph; `constants` is the content of the .bin file.

        Raises:
          ValueError: `xml` is not an IR of version 10.
        """
        try:
            root = ElementTree.fromstring(xml)
        except ElementTree.ParseError as error:
            raise ValueError(f"not XML: {error}") from error
        if root.tag != "net" or root.get("version") != "10":
            raise ValueError("not an OpenVINO IR of version 10")
        self._constants = constants
        self._layers = {layer.get("id"): layer for layer in root.find("layers")}
        self._inputs: dict[str, dict[int, str]] = {layer: {} for layer in self._layers}
        self._users: dict[str, list[str]] = {layer: [] for layer in self._layers}
        for edge in root.find("edges"):
            source, target = edge.get("from-layer"), edge.get("to-layer")
            self._inputs[target][int(edge.get("to-port"))] = source
            self._users[source].append(target)
        self._by_name = {layer.get("name"): i for i, layer in self._layers.items()}

    def named(self, name: str) -> str:
        """The layer of that name; KeyError if there is none."""
        return self._by_name[name]

    def names(self, kind: str) -> list[str]:
        """Names of all layers of type `kind`, in the order of the file, which computes from front to back."""
        return [x.get("name") for x in self._layers.values() if x.get("type") == kind]

    def kind(self, layer: str) -> str:
        """The layer's type, as "MatMul"."""
        return self._layers[layer].get("type")

    def inputs(self, layer: str) -> list[str]:
        """The layers that feed `layer`, in the order of its ports."""
        return [source for _, source in sorted(self._inputs[layer].items())]

    def user(self, layer: str, *kinds: str) -> str:
        """Follows the way down: the only user of type kinds[0], then its only user of type kinds[1], ..."""
        for kind in kinds:
            (layer,) = [user for user in self._users[layer] if self.kind(user) == kind]
        return layer

    def constant(self, layer: str) -> np.ndarray:
        """The value of a Const layer, in its shape."""
        data = self._layers[layer].find("data")
        shape = [int(n) for n in data.get("shape").split(",") if n.strip()]
        start = int(data.get("offset"))
        content = self._constants[start : start + int(data.get("size"))]
        return np.frombuffer(content, _DTYPES[data.get("element_type")]).reshape(shape)

    def constant_input(self, layer: str) -> np.ndarray:
        """The value of the only Const among the inputs of `layer`."""
        (constant,) = [i for i in self.inputs(layer) if self.kind(i) == "Const"]
        return self.constant(constant)
