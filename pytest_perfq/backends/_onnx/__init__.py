"""From a transformers model to an ONNX file that onnxruntime runs: export, optimize, quantize, each cached by content.

Private to the backend `ort`.
"""
