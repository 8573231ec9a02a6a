"""Fill networks and inputs with fixed numbers that need no random generator."""

import torch
from torch import Tensor, nn


def numbers(shape, offset=0) -> Tensor:
    """Return pseudo-random float64 numbers in [-1, 1], a hash of the flat index plus an offset."""
    j = torch.arange(offset, offset + torch.Size(shape).numel(), dtype=torch.int64)
    hashed = (7919 * j + (104729 * j % 1000003) * j + 12345) % 1000003
    return (2 * hashed.double() / 1000003 - 1).reshape(shape)


def fill(module: nn.Module) -> nn.Module:
    """Fill weights with hashes scaled by the fan-in, biases with cosines, norms with 1 and 0."""
    module.double().eval()
    norms = (nn.modules.batchnorm._BatchNorm,)
    for layer in module.modules():
        for key, value in layer.named_parameters(recurse=False):
            with torch.no_grad():
                if value.dim() >= 2:
                    fan_in = value[0].numel()
                    value.copy_(numbers(value.shape) * (6 / fan_in) ** 0.5)
                elif isinstance(layer, norms) or type(layer).__name__ == "SampleNorm":
                    value.fill_(1.0 if key == "weight" else 0.0)
                else:
                    value.copy_(0.01 * torch.cos(torch.arange(len(value)).double()))
    return module


def figures(value: Tensor) -> list[float]:
    """Return mean magnitude, maximum, first, middle and last number."""
    flat = value.detach().flatten()
    return [
        flat.abs().mean().item(),
        flat.max().item(),
        flat[0].item(),
        flat[len(flat) // 2].item(),
        flat[-1].item(),
    ]
