"""Layers and networks as JSON, so that a table can emit again what it measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..devices.errors import TableFileError
from .layers import Layer, Network, Node


def describe_layer(layer: Layer) -> dict[str, Any]:
    """A layer as a JSON object; `read_layer` is the inverse. No dtype means float32, as in older
    files, so that their networks keep their names."""
    described: dict[str, Any] = {
        "op": layer.op,
        "inputs": [list(shape) for shape in layer.inputs],
        "output": list(layer.output),
        "kernel": layer.kernel,
        "stride": layer.stride,
        "activation": layer.activation,
        "offset": layer.offset,
    }
    return described if layer.dtype == "float32" else {**described, "dtype": layer.dtype}


def read_layer(content: Mapping[str, Any]) -> Layer:
    """The layer that a JSON object describes. Raises `TableFileError` where there is none."""
    try:
        return Layer(
            content["op"],
            tuple(tuple(int(size) for size in shape) for shape in content["inputs"]),
            tuple(int(size) for size in content["output"]),
            int(content["kernel"]),
            int(content["stride"]),
            content["activation"],
            int(content["offset"]),
            content.get("dtype", "float32"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TableFileError(f"a layer in the table cannot be read ({error!r})") from error


def describe_network(network: Network) -> dict[str, Any]:
    """A network's structure (without weights) as a JSON object."""
    return {
        "input": list(network.input_shape),
        "nodes": [
            {**describe_layer(node.layer), "reads": list(node.inputs)} for node in network.nodes
        ],
    }


def read_network(content: Mapping[str, Any]) -> Network:
    """The network that a JSON object describes. Raises `TableFileError` where there is none."""
    try:
        nodes = tuple(
            Node(read_layer(node), tuple(int(tensor) for tensor in node["reads"]))
            for node in content["nodes"]
        )
        return Network(tuple(int(size) for size in content["input"]), nodes)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TableFileError(f"a network in the table cannot be read ({error!r})") from error


def network_key(network: Network) -> str:
    """A name for a network's structure: equal structures have equal names."""
    text = json.dumps(describe_network(network), sort_keys=True)
    return f"network {hashlib.sha256(text.encode()).hexdigest()[:16]}"
