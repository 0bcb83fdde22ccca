"""The part of TFLite's file format that boardfit writes and reads (schema version 3).

A TFLite file is a FlatBuffers table. The numbers below are field positions and enumeration values
of the public schema (tensorflow/compiler/mlir/lite/schema/schema.fbs); they never change, since
FlatBuffers keeps files readable for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from .layers import Activation, Operator

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
FLOAT32, INT8 = 0, 9  # TensorType
PADDING_SAME, PADDING_VALID = 0, 1
ACTIVATION_CODE: dict[Activation, int] = {"none": 0, "relu": 1, "relu6": 3}


@dataclass(frozen=True)
class OperatorFormat:
    """How an operator is spelled: its code, its options table (0: none) and its version, which
    is another one for int8."""

    code: int
    options: int
    option_fields: int = 0
    version: int = 1
    int8_version: int = 2


OPERATOR_FORMAT: dict[Operator, OperatorFormat] = {
    "add": OperatorFormat(0, 11, 2),
    "average_pool_2d": OperatorFormat(1, 5, 6),
    "concatenation": OperatorFormat(2, 10, 2),
    "conv_2d": OperatorFormat(3, 1, 6, int8_version=3),
    "depthwise_conv_2d": OperatorFormat(4, 2, 7, int8_version=3),
    "fully_connected": OperatorFormat(9, 8, 4, int8_version=4),
    "logistic": OperatorFormat(14, 0),
    "mul": OperatorFormat(18, 21, 1),
    "relu": OperatorFormat(19, 0),
    "relu6": OperatorFormat(21, 0),
    "reshape": OperatorFormat(22, 17, 1, int8_version=1),
    "resize_bilinear": OperatorFormat(
        23, 15, 4, version=3, int8_version=3
    ),  # 3: half-pixel centres
    "softmax": OperatorFormat(25, 9, 1),
    "resize_nearest_neighbor": OperatorFormat(97, 74, 2),
    "pad": OperatorFormat(34, 22),
    "mean": OperatorFormat(40, 27, 1),
    "slice": OperatorFormat(65, 50),
    "hard_swish": OperatorFormat(117, 91, int8_version=1),
}

# All of the schema's operators up to 2.3, for naming those of a model that we did not write.
_NAMES = """
add average_pool_2d concatenation conv_2d depthwise_conv_2d depth_to_space dequantize
embedding_lookup floor fully_connected hashtable_lookup l2_normalization l2_pool_2d
local_response_normalization logistic lsh_projection lstm max_pool_2d mul relu relu_n1_to_1
relu6 reshape resize_bilinear rnn softmax space_to_depth svdf tanh concat_embeddings skip_gram
call custom embedding_lookup_sparse pad unidirectional_sequence_rnn gather batch_to_space_nd
space_to_batch_nd transpose mean sub div squeeze unidirectional_sequence_lstm strided_slice
bidirectional_sequence_rnn exp topk_v2 split log_softmax delegate bidirectional_sequence_lstm
cast prelu maximum arg_max minimum less neg padv2 greater greater_equal less_equal select slice
sin transpose_conv sparse_to_dense tile expand_dims equal not_equal log sum sqrt rsqrt shape pow
arg_min fake_quant reduce_prod reduce_max pack logical_or one_hot logical_and logical_not unpack
reduce_min floor_div reduce_any square zeros_like fill floor_mod range resize_nearest_neighbor
leaky_relu squared_difference mirror_pad abs split_v unique ceil reverse_v2 add_n gather_nd cos
where rank elu reverse_sequence matrix_diag quantize matrix_set_diag round hard_swish if while
non_max_suppression_v4 non_max_suppression_v5 scatter_nd select_v2 densify segment_sum
batch_matmul placeholder_for_greater_op_codes cumsum call_once broadcast_to rfft2d conv_3d imag
real complex_abs hashtable hashtable_find hashtable_import hashtable_size reduce_all
conv_3d_transpose var_handle read_variable assign_variable broadcast_args random_standard_normal
bucketize random_uniform multinomial gelu dynamic_update_slice relu_0_to_1 unsorted_segment_prod
unsorted_segment_max unsorted_segment_sum atan2 unsorted_segment_min sign bitcast bitwise_xor
right_shift
"""
BUILTIN_NAMES = tuple(_NAMES.split())

TENSOR_TYPES = {  # TensorType -> (NumPy's name, bytes an element); what is not here has no input
    0: ("float32", 4),
    1: ("float16", 2),
    2: ("int32", 4),
    3: ("uint8", 1),
    4: ("int64", 8),
    6: ("bool", 1),
    7: ("int16", 2),
    9: ("int8", 1),
    10: ("float64", 8),
}
