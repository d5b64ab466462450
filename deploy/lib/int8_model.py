#!/usr/bin/env python3
"""Writes the embedding model anew so that ONNX Runtime computes with its 8-bit weights.

    int8_model.py SOURCE TARGET

SOURCE is a BERT encoder whose weights are stored as int8 with a scale (per row of a table, per column of a matrix), and
which makes 32-bit floats of them when it is loaded. TARGET holds the same weights in a graph of the operators that
ONNX Runtime is fastest with: rows of the tables become floats when they are looked up, matrices are multiplied as
integers (DynamicQuantizeLinear, MatMulInteger), and each layer's attention and GELU are one operator
(com.microsoft.MultiHeadAttention, com.microsoft.Gelu). Inputs, output and names of weights stay.

Nothing is quantised anew: what differs is that the activations, too, are rounded to 8 bits, by the range of a whole
batch. Only the standard library is needed, and the same SOURCE gives the same bytes.
"""

import struct
import sys

from protobuf import encode, every, first, parse

# Fields of onnx.proto3: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
MODEL_IR, MODEL_PRODUCER, MODEL_GRAPH, MODEL_OPSET = 1, 2, 7, 8
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 2, 5, 11, 12
NODE_INPUT, NODE_OUTPUT, NODE_OP, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_FLOAT, ATTRIBUTE_TYPE = 1, 3, 2, 20
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
FLOAT, INT32, INT64 = 1, 6, 7

FUSED = "com.microsoft"
HEADS = 12
# BERT's own; the file has it as a 32-bit float.
EPSILON = 1e-12


class Source:
    """The graph that is read: its weights, and which matrix is used where."""

    def __init__(self, data):
        graph = parse(first(parse(data), MODEL_GRAPH))
        self.inputs, self.outputs = every(graph, GRAPH_INPUT), every(graph, GRAPH_OUTPUT)
        self.tensors = {}
        for raw in every(graph, GRAPH_INITIALIZER):
            tensor = parse(raw)
            self.tensors[first(tensor, TENSOR_NAME).decode()] = tensor
        # In the order of the layers: query, key, value, attention's output, both of the feed-forward network.
        products = (parse(raw) for raw in every(graph, GRAPH_NODE))
        names = ((first(node, NODE_OP), every(node, NODE_INPUT)) for node in products)
        self.matrices = [b[1].decode() for op, b in names if op == b"MatMul" and f"{b[1].decode()}_q" in self.tensors]

    def layers(self):
        """How many layers it has."""
        count = sum(name.endswith("attention.self.query.bias") for name in self.tensors)
        if count == 0 or len(self.matrices) != 6 * count:
            sys.exit(f"error: {len(self.matrices)} matrices in {count} layers: not the BERT encoder that is expected")
        return count


class Writer:
    """The graph that is written."""

    def __init__(self, source):
        self.source, self.nodes, self.kept = source, [], {}

    def node(self, op, inputs, outputs, domain="", **attributes):
        """Adds an operator; returns its first output."""
        fields = [(NODE_INPUT, name) for name in inputs] + [(NODE_OUTPUT, name) for name in outputs]
        fields += [(NODE_OP, op)] + [(NODE_ATTRIBUTE, [(ATTRIBUTE_NAME, n)] + v) for n, v in attributes.items()]
        self.nodes.append(fields + ([(NODE_DOMAIN, domain)] if domain else []))
        return outputs[0]

    def weight(self, name, dims=None):
        """Keeps a weight of the source, perhaps by another shape; returns its name."""
        fields = self.source.tensors[name]
        if dims is not None:
            fields = [(TENSOR_DIMS, dim) for dim in dims] + [field for field in fields if field[0] != TENSOR_DIMS]
        self.kept[name] = fields
        return name

    def constant(self, name, value):
        """Adds a list of one 64-bit integer."""
        raw = struct.pack("<q", value)
        self.kept[name] = [(TENSOR_DIMS, 1), (TENSOR_TYPE, INT64), (TENSOR_NAME, name), (TENSOR_RAW, raw)]
        return name

    def rows(self, table, ids, out):
        """Rows of an int8 table, as floats."""
        values = self.node("Gather", [self.weight(f"{table}_q"), ids], [f"{out}_q"], axis=integer(0))
        scales = self.node("Gather", [self.weight(f"{table}_scale"), ids], [f"{out}_scale"], axis=integer(0))
        return self.node("Mul", [self.node("Cast", [values], [f"{out}_f"], to=integer(FLOAT)), scales], [out])

    def quantise(self, name):
        """Rounds activations to 8 bits, once for all who multiply them."""
        self.node("DynamicQuantizeLinear", [name], [f"{name}_u8", f"{name}_scale", f"{name}_zero"])
        return name

    def linear(self, x, matrix, bias, out):
        """x · matrix + bias, for an x that is quantised."""
        columns = every(self.source.tensors[f"{matrix}_scale"], TENSOR_DIMS)[-1]
        scale = self.weight(f"{matrix}_scale", dims=[columns])
        product = self.node("MatMulInteger", [f"{x}_u8", self.weight(f"{matrix}_q"), f"{x}_zero"], [f"{out}_i"])
        scales = self.node("Mul", [f"{x}_scale", scale], [f"{out}_scales"])
        product = self.node("Mul", [self.node("Cast", [product], [f"{out}_f"], to=integer(FLOAT)), scales], [f"{out}_x"])
        return self.node("Add", [product, self.weight(bias)], [out])

    def normalise(self, x, prefix, out):
        """Layer normalisation."""
        inputs = [x, self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")]
        return self.node("LayerNormalization", inputs, [out], axis=integer(-1), epsilon=floating(EPSILON))

    def embeddings(self, prefix):
        """The sum of the word's, the segment's and the position's vector, normalised."""
        words = self.rows(f"{prefix}.word_embeddings.weight", "input_ids", "words")
        types = self.weight(f"{prefix}.token_type_embeddings.weight")
        types = self.node("Gather", [types, "token_type_ids"], ["types"], axis=integer(0))
        length = self.node("Shape", ["input_ids"], ["length"], start=integer(1), end=integer(2))
        one = self.constant("one", 1)
        slice_of = [self.weight(f"{prefix}.position_ids"), self.constant("zero", 0), length, one, one]
        positions = self.rows(f"{prefix}.position_embeddings.weight", self.node("Slice", slice_of, ["ids"]), "positions")
        total = self.node("Add", [self.node("Add", [words, types], ["typed"]), positions], ["embedded"])
        return self.normalise(total, f"{prefix}.LayerNorm", "layer0")

    def layer(self, x, number, prefix, out):
        """One encoder layer: attention and feed-forward network, each with its residual."""
        at = f"l{number}_"
        matrices = self.source.matrices[6 * number : 6 * number + 6]
        self.quantise(x)
        roles = ["query", "key", "value"]
        heads = [
            self.linear(x, matrix, f"{prefix}.attention.self.{role}.bias", at + role)
            for role, matrix in zip(roles, matrices)
        ]
        heads += ["", "mask"]
        attended = self.node("MultiHeadAttention", heads, [at + "heads"], FUSED, num_heads=integer(HEADS))
        self.quantise(attended)
        y = self.linear(attended, matrices[3], f"{prefix}.attention.output.dense.bias", at + "attention")
        y = self.node("Add", [y, x], [at + "residual"])
        x = self.normalise(y, f"{prefix}.attention.output.LayerNorm", at + "middle")
        wide = self.linear(self.quantise(x), matrices[4], f"{prefix}.intermediate.dense.bias", at + "wide")
        wide = self.quantise(self.node("Gelu", [wide], [at + "gelu"], FUSED))
        y = self.linear(wide, matrices[5], f"{prefix}.output.dense.bias", at + "narrow")
        return self.normalise(self.node("Add", [y, x], [at + "sum"]), f"{prefix}.output.LayerNorm", out)

    def model(self, output):
        """The whole model."""
        layers = self.source.layers()
        x = self.embeddings("inner.embeddings")
        self.node("Cast", ["attention_mask"], ["mask"], to=integer(INT32))
        for number in range(layers):
            out = output if number == layers - 1 else f"layer{number + 1}"
            x = self.layer(x, number, f"inner.encoder.layer.{number}", out)
        graph = [(GRAPH_NODE, node) for node in self.nodes] + [(GRAPH_NAME, "encoder")]
        graph += [(GRAPH_INITIALIZER, tensor) for tensor in self.kept.values()]
        graph += [(GRAPH_INPUT, value) for value in self.source.inputs]
        graph += [(GRAPH_OUTPUT, value) for value in self.source.outputs]
        opsets = [(MODEL_OPSET, [(2, 17)]), (MODEL_OPSET, [(1, FUSED), (2, 1)])]
        return encode([(MODEL_IR, 8), (MODEL_PRODUCER, "rag-api"), (MODEL_GRAPH, graph)] + opsets)


def integer(value):
    """An attribute's value."""
    return [(ATTRIBUTE_INT, value), (ATTRIBUTE_TYPE, 2)]


def floating(value):
    """An attribute's value."""
    return [(ATTRIBUTE_FLOAT, value), (ATTRIBUTE_TYPE, 1)]


def main():
    source_path, target_path = sys.argv[1:]
    with open(source_path, "rb") as file:
        source = Source(file.read())
    outputs = [first(parse(value), 1).decode() for value in source.outputs]
    data = Writer(source).model(outputs[0])
    with open(target_path, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    main()
