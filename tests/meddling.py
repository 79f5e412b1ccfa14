"""What a method can do to its process: each moves numbers, or ends jobs, of what runs there next.

By name: Python statements, and what :class:`benchmark.engines.guard.Guard` must say of them.
"""

from dataclasses import replace

from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.job import Job
from protocols.discovery import load

PLUGIN = '''"""{name}: a method that meddles with its process."""
import gc, os, random, signal, sys, threading, time, warnings
import numpy as np
import torch
from torch.nn.functional import normalize
import protocols.metrics
from protocols.method import Method, Term

def meddle():
{body}

class Meddler(Method):
    """A test method."""
    def make_terms(self, spec):
        return [Term(self.loss)]
    def loss(self, embeddings, labels):
        z = normalize(embeddings)
        loss = (z @ z.T - (labels[:, None] == labels).float()).square().mean()
        meddle()
        return loss
'''
MEDDLERS = {
    "default_type": ("torch.set_default_dtype(torch.float64)", "torch's default type"),
    "default_device": ("torch.set_default_device('meta')", "torch's default device"),
    "no_gradients": ("torch.set_grad_enabled(False)", "torch's gradient mode"),
    "inference": (
        "global inference\ninference = torch.inference_mode()\ninference.__enter__()",
        "torch's gradient mode",
    ),
    "anomalies": ("torch.autograd.set_detect_anomaly(True)", "torch's gradient mode"),
    "saved_tensors": (
        "torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x * 1.5).__enter__()",
        "torch's gradient mode",
    ),
    "autocast": ("torch.autocast('cpu', torch.bfloat16).__enter__()", "torch's autocast"),
    "no_mkldnn": ("torch._C._set_mkldnn_enabled(False)", "torch's libraries"),
    "cudnn_choice": ("torch.backends.cudnn.benchmark = True", "torch's libraries"),
    "precision": ("torch.set_float32_matmul_precision('medium')", "torch's precision"),
    "denormals": ("torch.set_flush_denormal(True)", "torch's precision"),
    "threads_of_torch": ("torch.set_num_threads(3)", "torch's threads"),
    "not_deterministic": ("torch.use_deterministic_algorithms(False)", "torch's determinism"),
    "function_mode": (
        "from torch.overrides import TorchFunctionMode\n"
        "class Mode(TorchFunctionMode):\n"
        "    def __torch_function__(self, function, types, args=(), kwargs=None):\n"
        "        return function(*args, **(kwargs or {}))\n"
        "Mode().__enter__()",
        "torch's modes",
    ),
    "kernel": (
        "global library\n"
        "library = torch.library.Library('aten', 'IMPL')\n"
        "library.impl('relu', lambda x: x.clamp(min=0) * 0.5, 'CPU')",
        "torch's modes",
    ),
    "torch_seed": ("torch.manual_seed(0)", "torch's generator"),
    "numpy_seed": ("np.random.seed(0)", "numpy's generator"),
    "python_seed": ("random.seed(0)", "Python's generator"),
    "numpy_errors": ("np.seterr(all='raise')", "numpy's errors"),
    "normalize": (
        "torch.nn.functional.normalize = lambda x, *args, **kwargs: x",
        "torch.nn.functional.normalize",
    ),
    "defaults": (
        "torch.nn.functional.relu.__code__ = (lambda input, inplace=False: input).__code__",
        "torch.nn.functional.relu",
    ),
    "adam": (
        "torch.optim.Adam.step = lambda self, closure=None: None",
        "torch.optim.adam.Adam.step",
    ),
    "base_class": (
        "Method.forward = lambda self, features: {'embedding': self.head(features.vector) * 0}",
        "protocols.method.Method.forward",
    ),
    "hidden_builtin": (
        "protocols.metrics.sorted = lambda *args, **kwargs: list(args[0])",
        "protocols.metrics.sorted",
    ),
    "table": (
        "import protocols.discovery\nprotocols.discovery.KINDS['method'] = 'nowhere'",
        "protocols.discovery.KINDS",
    ),
    "module_hook": (
        "torch.nn.modules.module.register_module_forward_hook(\n"
        "    lambda module, given, out: out * 1.01 if torch.is_tensor(out) else None)",
        "torch.nn.modules.module._global_forward_hooks",
    ),
    "optimizer_hook": (
        "from torch.optim.optimizer import register_optimizer_step_pre_hook\n"
        "register_optimizer_step_pre_hook(lambda *args: None)",
        "torch.optim.optimizer._global_optimizer_pre_hooks",
    ),
    "thread": (
        "def draw():\n"
        "    while True:\n"
        "        torch.rand(1); random.random(); time.sleep(0.001)\n"
        "threading.Thread(target=draw, daemon=True).start()",
        "threads",
    ),
    "recursion": ("sys.setrecursionlimit(220)", "Python's limits"),
    "warnings": ("warnings.simplefilter('error')", "warnings that are errors"),
    "tracing": ("sys.setprofile(lambda *args: None)", "Python's tracing"),
    "collection": ("gc.disable()", "Python's garbage collection"),
    "alarm": (
        "signal.signal(signal.SIGALRM, lambda *args: 1 / 0)\n"
        "signal.setitimer(signal.ITIMER_REAL, 600.0)",
        "signal handlers",
    ),
    "environment": ("os.environ['OMP_NUM_THREADS'] = '7'", "environment variables"),
    "folder": ("os.chdir('/')", "working folder"),
    "clock": ("time.perf_counter = lambda: 0.0", "time.perf_counter"),
}
# The ordinary suite runs beside shipped methods what was seen to move them most.
WORST = ("default_type", "normalize", "adam", "kernel", "thread")


def source(*names):
    """Return a plugin that does what ``names`` do, in their order, at every step."""
    lines = [line for name in names for line in MEDDLERS[name][0].splitlines()]
    return PLUGIN.format(name=names[0], body="\n".join(f"    {line}" for line in lines))


def toy(folder):
    """Return the toy images, decoded into ``folder``."""
    found = splits.DataSource("toy", load("dataset", "toy").digest(), None, folder)
    splits.prepare(found, load("protocol", "toy"))
    return found


def job(data, method, plugins=()):
    """Return a training of ``method`` on :func:`toy` images."""
    cell = CellKey("id", "toy", "tiny", "adam", method, method)
    protocol, recipe = load("protocol", "toy"), load("recipe", "adam")
    where = (cell, protocol, recipe, "search", 0, 0, {}, data, "cpu")
    return Job(*where, plugins=tuple(plugins))


def truth(outcome):
    """Return an outcome's record without what a clock or machine says."""
    return replace(outcome.record, measured={})
