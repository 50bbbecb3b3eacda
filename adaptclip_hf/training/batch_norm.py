"""Batch norm over the batches of all processes, on any device (torch's own synchronises only on GPUs)."""

import torch
import torch.distributed as dist
from torch import nn


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is summed too."""

    @staticmethod
    def forward(ctx, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return SumOverProcesses.forward(ctx, gradient.contiguous())


class SynchronizedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Like `nn.BatchNorm1d` and `2d`, with the mean and variance over the batches of all processes."""

    def _check_input_dim(self, input):
        pass

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C) or (N, C, H, W); the processes may hold batches of different sizes."""
        if not self.training:
            return super().forward(input)
        dims = [0, *range(2, input.ndim)]
        shape = [1, -1] + [1] * (input.ndim - 2)
        values = input.float()
        count = torch.full((1,), float(values.numel() // values.shape[1]), device=values.device)
        total = SumOverProcesses.apply(torch.cat([values.sum(dims), count]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = values - mean.view(shape)
        variance = SumOverProcesses.apply((centred**2).sum(dims)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        normed = centred * torch.rsqrt(variance + self.eps).view(shape)
        return (normed * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)


def synchronize_batch_norm(module: nn.Module):
    """Replaces every batch norm in a module, in place, with the same weights and statistics."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            synchronized = SynchronizedBatchNorm(child.num_features, child.eps, child.momentum)
            synchronized.load_state_dict(child.state_dict())
            synchronized.to(child.weight.device, child.weight.dtype).train(child.training)
            setattr(module, name, synchronized)
        else:
            synchronize_batch_norm(child)


__all__ = ["SynchronizedBatchNorm", "synchronize_batch_norm"]
