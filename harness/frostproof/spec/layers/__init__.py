"""Layer specs: one layer of a network as immutable data.

A spec has its output size only: `Linear(3)` maps to 3 features. Its input size is inferred from
the layer before, so that a sequence of specs fits by construction. Shapes are those of one sample,
without the batch dimension.
"""

from frostproof.spec.layers.activation import GELU, Dropout, PReLU, ReLU, Tanh
from frostproof.spec.layers.attention import SelfAttention, TransformerEncoderLayer
from frostproof.spec.layers.base import Constructor, Layer, ParameterSpec, Shape, Size
from frostproof.spec.layers.composite import AnyLayer, Checkpointed, Residual, Sequential
from frostproof.spec.layers.convolution import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from frostproof.spec.layers.embedding import Embedding, EmbeddingBag
from frostproof.spec.layers.linear import (
    Linear,
    LoRALinear,
    SpectralNormLinear,
    TiedLinear,
    WeightNormLinear,
)
from frostproof.spec.layers.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    LayerNorm,
    RMSNorm,
)
from frostproof.spec.layers.pooling import (
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    Flatten,
    MaxPool1d,
    MaxPool2d,
)
from frostproof.spec.layers.recurrent import GRU, LSTM

__all__ = [
    "GELU",
    "GRU",
    "LSTM",
    "AdaptiveAvgPool2d",
    "AnyLayer",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Checkpointed",
    "Constructor",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "EmbeddingBag",
    "Flatten",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "Layer",
    "LayerNorm",
    "Linear",
    "LoRALinear",
    "MaxPool1d",
    "MaxPool2d",
    "PReLU",
    "ParameterSpec",
    "RMSNorm",
    "ReLU",
    "Residual",
    "SelfAttention",
    "Sequential",
    "Shape",
    "Size",
    "SpectralNormLinear",
    "Tanh",
    "TiedLinear",
    "TransformerEncoderLayer",
    "WeightNormLinear",
]
