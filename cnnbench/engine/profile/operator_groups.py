"""Which kind of work an operator is, by its name: torch's operators, autograd's nodes, the native kernels, device kernels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cnnbench.profile_model import Group, StepPhase

NATIVE = "native::"
"""How the native kernels are called in a profile (see `engine.profile.annotations`)."""
_DROPOUT = re.compile(r"dropout")


def _rule(group: Group, pattern: str) -> tuple[Group, re.Pattern[str]]:
    return group, re.compile(pattern, re.IGNORECASE)


_ALLOCATING = r"empty\w*|new_empty\w*|resize\w*|set_|zeros\w*|zero_|ones\w*|full\w*|fill_|new_zeros"
_COPYING = (
    r"to|_to_copy|copy_|clone|contiguous|cat|stack|index\w*|gather|take|pin_memory|_pin_memory|_?unsafe_index\w*|randperm"
    r"|item|_local_scalar_dense"
)
_VIEWING = (
    r"view\w*|_?reshape\w*|_reshape_alias|_unsafe_view|t|numpy_T|transpose\w*|permute|expand\w*|slice|select|narrow"
    r"|as_strided_?|squeeze\w*|unsqueeze\w*|flatten|unflatten|unbind|split\w*|chunk|detach_?|alias|lift_fresh|resolve_\w+"
    r"|result_type|can_cast|is_\w+|_has_\w+|set_data"
)
_COMPUTING = (
    r"_?log_softmax\w*|_softmax\w*|softmax|nll_loss\w*|cross_entropy\w*|threshold\w*|relu\w*|sigmoid\w*|tanh\w*|clamp\w*"
    r"|add\w*|sub\w*|rsub|mul\w*|div\w*|sqrt\w*|rsqrt\w*|neg\w*|exp\w*|log\w*|pow\w*|abs\w*|sum\w*|mean\w*|max\w*|min\w*"
    r"|argmax|l[te]\w*|g[te]\w*|eq\w*|ne\w*|where|lerp\w*|\w*batch_norm\w*|masked_fill\w*|reciprocal\w*|_amp_\w+"
    r"|bitwise_\w+|logical_\w+"
)
_MULTIPLYING = r"mm|addmm|bmm|baddbmm|linear|matmul|_?scaled_mm|mkldnn_linear\w*"
_RULES = (
    # Native kernels are one pass over several layers: each counts where its products are.
    _rule("convolution", r"^native::.*(first|stage|conv|pack)"),
    _rule("matrix product", r"^native::.*(sparse|dense_\w+_tiles|product|gemm|mm)"),
    _rule("optimiser", r"^native::.*(rmsprop|adam|sgd|momentum|update)"),
    _rule("elementwise", r"^native::.*(dense|cross|loss|bias|relu)"),
    _rule("compiled code", r"compiledf|torch-compiled|inductor|triton|^## call"),
    _rule("bookkeeping", r"^(autograd::|torch::autograd|torchdynamo)|(?-i:^[A-Z]\w*Backward\d*$)"),
    _rule("pooling", r"pool"),
    _rule("convolution", r"conv(?!ert)|winograd|wgrad|dgrad|fprop"),
    _rule("random numbers", r"dropout|bernoulli|random|normal_|uniform_|philox|distribution_"),
    _rule("matrix product", rf"^aten::({_MULTIPLYING})$|gemm|gemv|cutlass"),
    _rule("optimiser", r"^aten::_(fused|foreach)|multi_tensor_apply"),
    _rule("allocation", rf"^aten::({_ALLOCATING})$|memset|cudaMalloc"),
    _rule("data and copies", rf"^aten::({_COPYING})$|memcpy|dataloader|reorder"),
    _rule("bookkeeping", rf"^aten::({_VIEWING})$|^detach_?$"),
    _rule("elementwise", rf"^aten::({_COMPUTING})$|elementwise|reduce_kernel|softmax|nll_loss|vectorized"),
)
"""The first that fits."""


def find_group(name: str, phase: StepPhase, parents: Sequence[str] = ()) -> Group:
    """The group of an operator in a phase; what an optimiser's step or the drawing of a batch calls is theirs.

    `parents` are the operators around it: a product of masks within `aten::dropout` is dropout's.
    """
    if phase == "optimiser":
        return "optimiser"
    if phase == "draw":
        return "data and copies"
    found: Group = next((group for group, rule in _RULES if rule.search(name)), "other")
    if found == "elementwise" and any(map(_DROPOUT.search, parents)):
        return "random numbers"
    return found
