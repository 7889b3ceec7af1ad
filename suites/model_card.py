"""What the two DistilBERT model cards measured, shared by the suites that repeat it.

Dynamic and static INT8 of Add, and of Add and MatMul, each with and without five groups of excluded nodes; 100 calibration
examples, minmax, one scale per tensor; onnxruntime with opset 11, graph optimization level 1 and no fusing by the
transformers optimizer; batch 1, 4, 8 x length 32, 64, 128.
"""

from pytest_perfq import Dynamic, Static

GROUPS = ["layernorm", "gelu", "residual", "gather", "softmax"]
QUANTIZATIONS = [
    make(*operators, exclude=exclude)
    for make in (Dynamic, Static)
    for operators in (["Add", "MatMul"], ["Add"])
    for exclude in (GROUPS, [])
]
ORT = "ort[opset=11,level=1,optimizer=false]"
AXES = {
    "backend": ["eager", ORT],
    "quantization": [None, *QUANTIZATIONS],
    "exclude": [{"backend": "eager", "quantization": "int8-*"}],
    "batch_size": [1, 4, 8],
    "seq_len": [32, 64, 128],
}
