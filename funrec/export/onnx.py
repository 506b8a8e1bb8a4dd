"""An ONNX file: look-ups as operators of ONNX, in front of the model that tf2onnx converts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tf2onnx
from onnx import TensorProto, compose, helper, numpy_helper

from funrec.data.arrays import ModelInputs
from funrec.export.heads import Heads
from funrec.export.inputs import NULL_ID, NULL_TEXT, PADDING_ROW, Input, cuts_below, describe_inputs, lookups
from funrec.export.savedmodel import core
from funrec.schema import InputLayout

OPSET, OPSET_ML = 17, 3
DTYPES = {"id": TensorProto.INT64, "text": TensorProto.STRING, "row": TensorProto.INT64, "number": TensorProto.DOUBLE}


def write(heads: Heads, inputs: ModelInputs, path: Path) -> None:
    """Write the model to `path`."""
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it cannot convert is raised as well
    function, specs = core(heads)
    network, _ = tf2onnx.convert.from_function(
        function, input_signature=specs, opset=OPSET, custom_op_handlers=HANDLERS
    )
    names = [spec.name for spec in specs]
    features = Features(heads.model.layout, inputs).build(names)
    network.ir_version = features.ir_version
    del network.opset_import[:]
    network.opset_import.extend(features.opset_import)
    merged = compose.merge_models(features, network, io_map=[(name, name) for name in names])
    onnx.save(merged, str(path))


def _in_double(context: Any, node: Any, name: str, args: Any) -> None:
    """Write `log(1 + x)` or `exp(x) - 1`, which ONNX has no operator for, in double precision."""
    result, dtype, shape = node.output[0], context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    context.remove_node(node.name)
    one = context.make_const(f"{node.name}_one", np.array(1.0)).output[0]

    def add(operator: str, *values: str, **options: Any) -> str:
        return str(context.make_node(operator, list(values), **options).output[0])

    x = add("Cast", node.input[0], attr={"to": TensorProto.DOUBLE})
    y = add("Log", add("Add", x, one)) if node.type == "Log1p" else add("Sub", add("Exp", x), one)
    context.make_node("Cast", [y], attr={"to": dtype}, outputs=[result], dtypes=[dtype], shapes=[shape])


def _one_less_erf(context: Any, node: Any, name: str, args: Any) -> None:
    """Write `erfc(x) = 1 - erf(x)`, which GELU has."""
    result, dtype, shape = node.output[0], context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    context.remove_node(node.name)
    one = context.make_const(f"{node.name}_one", np.array(1.0, np.float32)).output[0]
    erf = context.make_node("Erf", [node.input[0]]).output[0]
    context.make_node("Sub", [one, erf], outputs=[result], dtypes=[dtype], shapes=[shape])


#: What tf2onnx does not convert itself.
HANDLERS: dict[str, tuple[Any, list[Any]]] = {
    "Log1p": (_in_double, []),
    "Expm1": (_in_double, []),
    "Erfc": (_one_less_erf, []),
}


class Features:
    """The graph from raw values to the arrays that a model reads."""

    def __init__(self, layout: InputLayout, inputs: ModelInputs) -> None:
        self._layout, self._inputs = layout, inputs
        self._described = {one.name: one for one in describe_inputs(inputs)}
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def build(self, outputs: Sequence[str]) -> Any:
        """Return the graph as a model whose outputs have these names, in the order of `core`."""
        layout = self._layout
        made = {}
        if layout.id_features:
            made["funrec_ids"] = self._beside([self._rows(self._described[name]) for name in layout.id_features])
        if layout.numeric_features:
            made["funrec_numeric"] = self._beside([self._number(name) for name in layout.numeric_features])
        for place, feature in enumerate(layout.sequence_features):
            made[f"funrec_sequence_{place}"] = self._rows(self._described[feature.name])
        for name in outputs:
            self._nodes.append(helper.make_node("Identity", [made[name]], [name]))
        kinds = {name: TensorProto.FLOAT if name == "funrec_numeric" else TensorProto.INT32 for name in outputs}
        graph = helper.make_graph(
            self._nodes,
            "features",
            [
                helper.make_tensor_value_info(one.name, DTYPES[one.kind], ["rows", *one.shape[1:]])
                for one in self._described.values()
            ],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
            self._constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def _add(self, operator: str, *values: str, **attributes: Any) -> str:
        name = f"features_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, values, [name], **attributes))
        return name

    def _constant(self, value: Any) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _beside(self, columns: Sequence[str]) -> str:
        axis = self._constant(np.array([1], np.int64))
        return self._add("Concat", *(self._add("Unsqueeze", column, axis) for column in columns), axis=1)

    def _rows(self, one: Input) -> str:
        encoder = self._inputs.encoders[one.name]
        if one.kind == "number":
            numbers = self._filled(one.name)
            axis = self._constant(np.array([1], np.int64))
            cuts = self._constant(cuts_below(encoder)[None])
            above = self._add("Greater", self._add("Unsqueeze", numbers, axis), cuts)
            count = self._add("ReduceSum", self._add("Cast", above, to=TensorProto.INT32), axis, keepdims=0)
            buckets = self._add("Add", count, self._constant(np.int32(1)))
            return self._add("Where", self._add("IsNaN", numbers), self._constant(np.int32(0)), buckets)
        if one.kind == "row":
            return self._add("Cast", one.name, to=TensorProto.INT32)
        keys, rows = lookups(self._inputs.vocabularies[str(encoder.owner)], one.kind)
        padding: Any = NULL_ID if one.kind == "id" else NULL_TEXT
        if one.length is not None:  # nulls of a list are left out, so that none is looked up
            rows = np.append(rows[keys != padding], PADDING_ROW)
            keys = np.append(keys[keys != padding], np.array([padding], keys.dtype))
        table = {f"keys_{'int64s' if one.kind == 'id' else 'strings'}": keys.tolist(), "values_int64s": rows.tolist()}
        found = self._add("LabelEncoder", one.name, domain="ai.onnx.ml", default_int64=0, **table)
        return self._add("Cast", found, to=TensorProto.INT32)

    def _number(self, name: str) -> str:
        encoder = self._inputs.encoders[name]
        centred = self._add("Sub", self._filled(name), self._constant(np.float64(encoder.mean)))
        numbers = self._add("Div", centred, self._constant(np.float64(encoder.scale)))
        known = self._add("Where", self._add("IsNaN", numbers), self._constant(np.float64(0)), numbers)
        return self._add("Cast", known, to=TensorProto.FLOAT)

    def _filled(self, name: str) -> str:
        fill = getattr(self._inputs.encoders[name].feature, "fill", None)
        if fill is None:
            return name
        return self._add("Where", self._add("IsNaN", name), self._constant(np.float64(fill)), name)
