from collections.abc import Callable
from typing import Any

from tensorprog.dsl.network import Network
from tensorprog.programs.batchnorm_mlp import batchnorm_mlp as batchnorm_mlp
from tensorprog.programs.bidirectional_rnn import bidirectional_rnn as bidirectional_rnn
from tensorprog.programs.cnn import cnn as cnn
from tensorprog.programs.deep_linear import deep_linear as deep_linear
from tensorprog.programs.deq import deq as deq
from tensorprog.programs.gcn import gcn as gcn
from tensorprog.programs.gin import gin as gin
from tensorprog.programs.glu_mlp import glu_mlp as glu_mlp
from tensorprog.programs.gru import gru as gru
from tensorprog.programs.hopfield import hopfield as hopfield
from tensorprog.programs.layer_norm_mlp import layer_norm_mlp as layer_norm_mlp
from tensorprog.programs.linear_attention import linear_attention as linear_attention
from tensorprog.programs.locally_connected import locally_connected as locally_connected
from tensorprog.programs.lstm import lstm as lstm
from tensorprog.programs.mean_readout import mean_readout as mean_readout
from tensorprog.programs.mixer import mixer as mixer
from tensorprog.programs.mixture_of_experts import mixture_of_experts as mixture_of_experts
from tensorprog.programs.mlp import mlp as mlp
from tensorprog.programs.myrtle import myrtle as myrtle
from tensorprog.programs.residual_mlp import residual_mlp as residual_mlp
from tensorprog.programs.resnet import resnet as resnet
from tensorprog.programs.rnn import rnn as rnn
from tensorprog.programs.squeeze_excite import squeeze_excite as squeeze_excite
from tensorprog.programs.tied_autoencoder import tied_autoencoder as tied_autoencoder
from tensorprog.programs.tied_mlp import tied_mlp as tied_mlp
from tensorprog.programs.transformer import transformer as transformer
from tensorprog.programs.two_branch import two_branch as two_branch
from tensorprog.programs.wide_resnet import wide_resnet as wide_resnet

GALLERY: dict[str, Callable[..., Network]]

def per_layer(name: str, value: Any, layers: int) -> list[Any]: ...
def check_tied(tied: bool) -> None: ...
def chosen(name: str, value: str, *known: str) -> str: ...
