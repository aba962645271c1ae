from collections.abc import Callable
from typing import Any

from tensorprog.dsl.network import Network
from tensorprog.programs.deep_linear import deep_linear as deep_linear
from tensorprog.programs.mean_readout import mean_readout as mean_readout
from tensorprog.programs.mlp import mlp as mlp
from tensorprog.programs.residual_mlp import residual_mlp as residual_mlp
from tensorprog.programs.rnn import rnn as rnn
from tensorprog.programs.tied_autoencoder import tied_autoencoder as tied_autoencoder
from tensorprog.programs.tied_mlp import tied_mlp as tied_mlp

GALLERY: dict[str, Callable[..., Network]]

def per_layer(name: str, value: Any, layers: int) -> list[Any]: ...
def check_tied(tied: bool) -> None: ...
