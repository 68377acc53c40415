"""Keras's graphs, written out: an independent computation that converted weights are held against.

They follow keras.applications' definitions layer by layer, channels last, in float64, and know nothing of timm: a
convolution is a product of patches and kernel, padding and pooling are TensorFlow's rules.
"""

import math

import numpy as np
import torch


class Keras:
    """A Keras session: layers make their weights (NumPy, Keras's shapes) when first called, and keep them."""

    def __init__(self, graph, first):
        self.graph, self.first, self.weights = graph, first, {}
        self.random = np.random.default_rng(len(graph.__name__))

    def __call__(self, images, training):
        """Images (B, H, W, 3) to pooled features (B, C), normalized by batch statistics in training."""
        self.training, self.count = training, {"conv2d": self.first, "batch_normalization": self.first}
        return self.graph(self, images).mean(dim=(1, 2))

    def named(self, name, kind):
        if name is None:
            number = self.count[kind]
            self.count[kind] += 1
            name = f"{kind}_{number}" if number else kind
        return name

    def layer(self, name, **shapes):
        if name not in self.weights:
            self.weights[name] = {kind: self.draw(kind, shape).astype(np.float32) for kind, shape in shapes.items()}
        return [torch.from_numpy(value).double() for value in self.weights[name].values()]

    def draw(self, kind, shape):
        """Weights that keep activations of order one and sums of them well-conditioned in single precision."""
        if kind == "kernel":
            kernel = self.random.normal(0, math.sqrt(2 / math.prod(shape[:3])), shape)
            return kernel - kernel.mean(axis=(0, 1, 2))
        between = {"gamma": (0.5, 1), "beta": (0, 2), "moving_variance": (1, 2)}
        return self.random.uniform(*between.get(kind, (-0.3, 0.3)), shape)

    def conv(self, x, filters, size, strides=1, padding="valid", bias=False, name=None):
        height, width = (size, size) if isinstance(size, int) else size
        shapes = {"kernel": (height, width, x.shape[3], filters)} | ({"bias": (filters,)} if bias else {})
        kernel, *offset = self.layer(self.named(name, "conv2d"), **shapes)
        patches = windows(pad_same(x, height, width) if padding == "same" else x, height, width, strides)
        return torch.tensordot(patches, kernel, dims=([3, 4, 5], [0, 1, 2])) + (offset[0] if bias else 0)

    def bn(self, x, epsilon=1e-3, scale=True, name=None):
        kinds = [*(["gamma"] if scale else []), "beta", "moving_mean", "moving_variance"]
        name = self.named(name, "batch_normalization")
        *gamma, beta, mean, variance = self.layer(name, **{kind: x.shape[3:] for kind in kinds})
        if self.training:
            mean, variance = x.mean(dim=(0, 1, 2)), x.var(dim=(0, 1, 2), correction=0)
        return (x - mean) / torch.sqrt(variance + epsilon) * (gamma[0] if scale else 1) + beta


def windows(x, height, width, strides):
    """(B, H, W, C) to (B, H', W', height, width, C)."""
    return x.unfold(1, height, strides).unfold(2, width, strides).permute(0, 1, 2, 4, 5, 3)


def pad(x, rows, columns, value=0.0):
    (top, bottom), (left, right) = rows, columns
    padded = x.new_full((x.shape[0], x.shape[1] + top + bottom, x.shape[2] + left + right, x.shape[3]), value)
    padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    return padded


def pad_same(x, height, width):
    """TensorFlow's `same` at stride 1: k - 1 zeros in all, the smaller half first."""
    return pad(x, *[((k - 1) // 2, k - 1 - (k - 1) // 2) for k in (height, width)])


def relu(x):
    return x.clamp(min=0)


def max_pool(x):
    return windows(x, 3, 3, 2).amax(dim=(3, 4))


def average_pool_same(x):
    """The mean of the 3 x 3 neighbours that exist."""
    inside = windows(pad_same(torch.ones_like(x), 3, 3), 3, 3, 1).sum(dim=(3, 4))
    return windows(pad_same(x, 3, 3), 3, 3, 1).sum(dim=(3, 4)) / inside


def resnet50(k, x):
    """keras.applications.resnet.ResNet50: version 1, stride in the first convolution of a block."""

    def unit(x, filters, size, strides, padding, name):
        x = k.conv(x, filters, size, strides, padding, bias=True, name=f"{name}_conv")
        return k.bn(x, 1.001e-5, name=f"{name}_bn")

    x = pad(x, (3, 3), (3, 3))
    x = max_pool(pad(relu(unit(x, 64, 7, 2, "valid", "conv1")), (1, 1), (1, 1)))
    for stage, (filters, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=2):
        for block in range(1, blocks + 1):
            name, strides = f"conv{stage}_block{block}", 2 if block == 1 and stage > 2 else 1
            shortcut = unit(x, 4 * filters, 1, strides, "valid", f"{name}_0") if block == 1 else x
            y = relu(unit(x, filters, 1, strides, "valid", f"{name}_1"))
            y = relu(unit(y, filters, 3, 1, "same", f"{name}_2"))
            x = relu(shortcut + unit(y, 4 * filters, 1, 1, "valid", f"{name}_3"))
    return x


def densenet121(k, x):
    """keras.applications.densenet.DenseNet121, with Keras 2's slashes in the first two names."""
    epsilon = 1.001e-5
    x = k.conv(pad(x, (3, 3), (3, 3)), 64, 7, 2, name="conv1/conv")
    x = max_pool(pad(relu(k.bn(x, epsilon, name="conv1/bn")), (1, 1), (1, 1)))
    for stage, blocks in enumerate([6, 12, 24, 16], start=2):
        for block in range(1, blocks + 1):
            name = f"conv{stage}_block{block}"
            y = k.conv(relu(k.bn(x, epsilon, name=f"{name}_0_bn")), 128, 1, name=f"{name}_1_conv")
            y = relu(k.bn(y, epsilon, name=f"{name}_1_bn"))
            x = torch.cat([x, k.conv(y, 32, 3, padding="same", name=f"{name}_2_conv")], dim=3)
        if stage < 5:
            x = relu(k.bn(x, epsilon, name=f"pool{stage}_bn"))
            x = k.conv(x, x.shape[3] // 2, 1, name=f"pool{stage}_conv")
            x = windows(x, 2, 2, 2).mean(dim=(3, 4))
    return relu(k.bn(x, epsilon, name="bn"))


def unit(k, x, filters, size, strides=1, padding="same", name=None):
    """Both Inceptions' conv2d_bn: no bias, normalization without scale, ReLU."""
    x = k.conv(x, filters, size, strides, padding, name=name)
    return relu(k.bn(x, scale=False, name=name and f"{name}_bn"))


def chain(k, x, *steps):
    for step in steps:
        x = unit(k, x, *step)
    return x


def inception_stem(k, x):
    x = chain(k, x, (32, 3, 2, "valid"), (32, 3, 1, "valid"), (64, 3))
    return max_pool(chain(k, max_pool(x), (80, 1, 1, "valid"), (192, 3, 1, "valid")))


def inception_v3(k, x):
    """keras.applications.inception_v3.InceptionV3; mixed0 to mixed10."""
    x = inception_stem(k, x)
    for pooled in (32, 64, 64):
        a, b = chain(k, x, (64, 1)), chain(k, x, (48, 1), (64, 5))
        c = chain(k, x, (64, 1), (96, 3), (96, 3))
        x = torch.cat([a, b, c, chain(k, average_pool_same(x), (pooled, 1))], dim=3)
    a, b = chain(k, x, (384, 3, 2, "valid")), chain(k, x, (64, 1), (96, 3), (96, 3, 2, "valid"))
    x = torch.cat([a, b, max_pool(x)], dim=3)
    for n in (128, 160, 160, 192):
        a, b = chain(k, x, (192, 1)), chain(k, x, (n, 1), (n, (1, 7)), (192, (7, 1)))
        c = chain(k, x, (n, 1), (n, (7, 1)), (n, (1, 7)), (n, (7, 1)), (192, (1, 7)))
        x = torch.cat([a, b, c, chain(k, average_pool_same(x), (192, 1))], dim=3)
    a = chain(k, x, (192, 1), (320, 3, 2, "valid"))
    b = chain(k, x, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, "valid"))
    x = torch.cat([a, b, max_pool(x)], dim=3)
    for _ in range(2):
        a, b = chain(k, x, (320, 1)), chain(k, x, (384, 1))
        b = torch.cat([chain(k, b, (384, (1, 3))), chain(k, b, (384, (3, 1)))], dim=3)
        c = chain(k, x, (448, 1), (384, 3))
        c = torch.cat([chain(k, c, (384, (1, 3))), chain(k, c, (384, (3, 1)))], dim=3)
        x = torch.cat([a, b, c, chain(k, average_pool_same(x), (192, 1))], dim=3)
    return x


def inception_resnet_v2(k, x):
    """keras.applications.inception_resnet_v2.InceptionResNetV2."""

    def residual(x, branches, scale, name, activate=True):
        mixed = torch.cat([chain(k, x, *branch) for branch in branches], dim=3)
        x = x + scale * k.conv(mixed, x.shape[3], 1, padding="same", bias=True, name=f"{name}_conv")
        return relu(x) if activate else x

    x = inception_stem(k, x)
    a, b, c = chain(k, x, (96, 1)), chain(k, x, (48, 1), (64, 5)), chain(k, x, (64, 1), (96, 3), (96, 3))
    x = torch.cat([a, b, c, chain(k, average_pool_same(x), (64, 1))], dim=3)
    for block in range(1, 11):
        x = residual(x, [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)]], 0.17, f"block35_{block}")
    a, b = chain(k, x, (384, 3, 2, "valid")), chain(k, x, (256, 1), (256, 3), (384, 3, 2, "valid"))
    x = torch.cat([a, b, max_pool(x)], dim=3)
    for block in range(1, 21):
        x = residual(x, [[(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))]], 0.1, f"block17_{block}")
    a = chain(k, x, (256, 1), (384, 3, 2, "valid"))
    b, c = chain(k, x, (256, 1), (288, 3, 2, "valid")), chain(k, x, (256, 1), (288, 3), (320, 3, 2, "valid"))
    x = torch.cat([a, b, c, max_pool(x)], dim=3)
    for block in range(1, 11):
        last = block == 10
        branches = [[(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))]]
        x = residual(x, branches, 1.0 if last else 0.2, f"block8_{block}", activate=not last)
    return unit(k, x, 1536, 1, name="conv_7b")
