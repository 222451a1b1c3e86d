"""ONNX graphs as onnx-ir models: what our passes and analyses need beside onnx-ir itself.

- `conversion`: files and protobuf models to onnx-ir and back, with everything that is wrong with a file as one error.
- `values`: questions to a tensor or a node: its constant value, its dimensions, an attribute.
- `walks`: what a tensor depends on, and what depends on it.
- `edits`: adding, renaming and removing without two tensors of one name and without dangling readers.
- `shapes`: ONNX's shape inference.
- `extract`: a part of a graph as a model of its own.

Nothing here scans the graph per edit: each function costs what it touches, or one pass over the graph.
"""
