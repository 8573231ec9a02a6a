"""DG-Net (Zheng et al., CVPR 2019): joint discriminative and generative learning."""

from importlib.metadata import version

from reid_dgnet.plugin import Dgnet as Dgnet

__version__ = version("reid-dgnet")
