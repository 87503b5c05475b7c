"""The executors of a tabular loop: over a finite model (compiled), over single environments, and over a VectorEnv."""

from rl.tabular.executors.compiled import CompiledExecutor as CompiledExecutor
from rl.tabular.executors.executor import Executor as Executor
from rl.tabular.executors.executor import padded_zeros as padded_zeros
from rl.tabular.executors.single import PythonExecutor as PythonExecutor
from rl.tabular.executors.vector import VectorExecutor as VectorExecutor
