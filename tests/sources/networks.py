"""Networks whose weights can be told apart."""

import torch


def randomize(network):
    generator = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.1 + 0.01)
    return network
