"""Makes tests/models/tiny-cross-encoder: a BERT sequence classifier, small enough to commit.

    python3 -m venv /tmp/tiny && /tmp/tiny/bin/pip install numpy onnx onnxruntime tokenizers
    /tmp/tiny/bin/python tests/models/make_tiny_cross_encoder.py

Its weights are random (seeded), so its scores mean nothing; but its graph, inputs, outputs and tokenizer files are those
of any exported cross-encoder (input_ids, attention_mask, token_type_ids -> logits [batch, 1]). expected.json holds what
ONNX Runtime itself scores in Python; tests/it/rerank.rs compares the product's loader with it.
"""

import json
import string
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

TARGET = Path(__file__).parent / "tiny-cross-encoder"
SEED = 20
HIDDEN, HEADS, LAYERS, INNER, POSITIONS = 48, 4, 2, 96, 128
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "the a an of to in and is are was for on with that it as by at from be this which what who when where how why "
    "does do did can may must not no yes or if then than more most water heat heart blood cell city year people "
    "river mountain ocean light energy plant animal engine train road house school law state country money price "
    "work day time world war king queen book music film game team food bread milk fish boil degree point holiday "
    "leave contract employee office policy customer order invoice payment security key password ##s ##ing ##ed "
    "##er ##ly ##tion ##ment"
).split()
PAIRS = [
    ("At what temperature does water boil?", "Water boils at 100 degrees Celsius at sea level."),
    ("At what temperature does water boil?", "The queen reads a book on a train."),
    ("how many days of leave", "Employees may take 28 days of leave in a year; the office must be told."),
    ("who pays the invoice", "Payment of the invoice is due in 30 days. The customer must pay by transfer."),
    ("who pays the invoice", ""),
    ("水在什么温度沸腾", "水在一百摄氏度沸腾。 Naïve café — “quotes” & 12,5 %"),
    ("Which river is the longest?", "The river passes the city and the mountain on its way to the ocean. " * 20),
    ("What is the policy for passwords and keys in this office? " * 12, "A password must not be told. " * 12),
]


def tokenizer() -> Tokenizer:
    characters = sorted(set(string.ascii_lowercase + string.digits + string.punctuation))
    pieces = SPECIAL + characters + ["##" + c for c in string.ascii_lowercase + string.digits] + WORDS
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    made.add_special_tokens(SPECIAL)
    return made


class Graph:
    """Nodes and weights of a BERT, one method per kind of layer."""

    def __init__(self):
        self.random = np.random.default_rng(SEED)
        self.nodes, self.weights, self.names = [], [], 0

    def constant(self, array, kind=np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype=kind), name))
        return name

    def random_weight(self, *shape, scale) -> str:
        return self.constant(self.random.normal(0.0, scale, shape))

    def add(self, operator, *inputs, **attributes) -> str:
        self.names += 1
        name = f"v{self.names}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def dense(self, value, rows, columns, scale=1.0) -> str:
        product = self.add("MatMul", value, self.random_weight(rows, columns, scale=scale / np.sqrt(rows)))
        return self.add("Add", product, self.random_weight(columns, scale=0.05))

    def norm(self, value) -> str:
        gain, bias = self.constant(np.ones(HIDDEN)), self.constant(np.zeros(HIDDEN))
        return self.add("LayerNormalization", value, gain, bias, axis=-1, epsilon=1e-12)

    def gelu(self, value) -> str:
        error = self.add("Erf", self.add("Div", value, self.constant(np.sqrt(2.0))))
        half = self.add("Mul", value, self.constant(0.5))
        return self.add("Mul", half, self.add("Add", error, self.constant(1.0)))

    def heads(self, value, order) -> str:
        split = self.add("Reshape", value, self.constant([0, 0, HEADS, HIDDEN // HEADS], np.int64))
        return self.add("Transpose", split, perm=order)

    def attention(self, value, mask) -> str:
        query = self.heads(self.dense(value, HIDDEN, HIDDEN, 2.0), [0, 2, 1, 3])
        key = self.heads(self.dense(value, HIDDEN, HIDDEN, 2.0), [0, 2, 3, 1])
        content = self.heads(self.dense(value, HIDDEN, HIDDEN), [0, 2, 1, 3])
        scores = self.add("Div", self.add("MatMul", query, key), self.constant(np.sqrt(HIDDEN / HEADS)))
        weights = self.add("Softmax", self.add("Add", scores, mask), axis=-1)
        context = self.add("Transpose", self.add("MatMul", weights, content), perm=[0, 2, 1, 3])
        joined = self.add("Reshape", context, self.constant([0, 0, HIDDEN], np.int64))
        return self.dense(joined, HIDDEN, HIDDEN)

    def embeddings(self, vocabulary) -> str:
        words = self.add("Gather", self.random_weight(vocabulary, HIDDEN, scale=1.0), "input_ids")
        types = self.add("Gather", self.random_weight(2, HIDDEN, scale=0.7), "token_type_ids")
        length = self.add("Gather", self.add("Shape", "input_ids"), self.constant([1], np.int64))
        table = self.random_weight(POSITIONS, HIDDEN, scale=0.3)
        positions = self.add("Slice", table, self.constant([0], np.int64), length, self.constant([0], np.int64))
        return self.norm(self.add("Add", self.add("Add", words, types), positions))

    def mask(self) -> str:
        wide = self.add("Unsqueeze", "attention_mask", self.constant([1, 2], np.int64))
        absent = self.add("Sub", self.constant(1.0), self.add("Cast", wide, to=TensorProto.FLOAT))
        return self.add("Mul", absent, self.constant(-10000.0))


def model(vocabulary: int) -> onnx.ModelProto:
    graph = Graph()
    value, mask = graph.embeddings(vocabulary), graph.mask()
    for _ in range(LAYERS):
        value = graph.norm(graph.add("Add", value, graph.attention(value, mask)))
        inner = graph.gelu(graph.dense(value, HIDDEN, INNER))
        value = graph.norm(graph.add("Add", value, graph.dense(inner, INNER, HIDDEN)))
    first = graph.add("Gather", value, graph.constant(0, np.int64), axis=1)
    pooled = graph.add("Tanh", graph.dense(first, HIDDEN, HIDDEN))
    graph.dense(pooled, HIDDEN, 1, 4.0)
    graph.nodes[-1].output[0] = "logits"
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])]
    made = helper.make_graph(graph.nodes, "tiny-cross-encoder", inputs, outputs, graph.weights)
    checked = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(checked, full_check=True)
    return checked


def write_configuration(pieces: Tokenizer):
    def write(name, value):
        (TARGET / name).write_text(json.dumps(value, indent=2) + "\n")

    roles = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL))
    write("special_tokens_map.json", roles)
    write("tokenizer_config.json", roles | {"tokenizer_class": "BertTokenizer", "model_max_length": POSITIONS})
    write("config.json", {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": HIDDEN,
        "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "intermediate_size": INNER, "hidden_act": "gelu",
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "vocab_size": pieces.get_vocab_size(),
        "pad_token_id": 0, "id2label": {"0": "LABEL_0"},
    })


def expected(pieces: Tokenizer):
    pieces.enable_truncation(POSITIONS, strategy="longest_first")
    session = onnxruntime.InferenceSession(TARGET / "model.onnx", providers=["CPUExecutionProvider"])
    for question, passage in PAIRS:
        encoding = pieces.encode(question, passage)
        rows = {
            "input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids,
        }
        feed = {name: np.array([row], dtype=np.int64) for name, row in rows.items()}
        logit = float(session.run(["logits"], feed)[0][0, 0])
        yield {"question": question, "passage": passage, "logit": round(logit, 6)}


def main():
    TARGET.mkdir(exist_ok=True)
    pieces = tokenizer()
    pieces.save(str(TARGET / "tokenizer.json"))
    onnx.save(model(pieces.get_vocab_size()), TARGET / "model.onnx")
    write_configuration(pieces)
    scores = json.dumps(list(expected(pieces)), ensure_ascii=False, indent=1)
    (TARGET / "expected.json").write_text(scores + "\n")


main()
