"""Mistakes in the passes that normalize a graph."""

from __future__ import annotations

from tests.mutants.planted import mutants_of

# fmt: off
# ruff: noqa: E501 - the text that is replaced stands in the code as it is
PASSES = (
    *mutants_of(
        "graph/passes/explicit_padding",
        ("a Pad that crops moves into a layer", " or min(begin + end) < 0:", ":"),
        ("a Pad of channels moves into a layer", "if rank < 3 or any(begin[:2] + end[:2]) or", "if rank < 3 or"),
        ("axes of a Pad are taken in order", "for place, axis in enumerate(listed):", "for place, axis in enumerate(range(len(listed))):"),
        ("a Pad with a number moves into a layer", "if fill is not None and fill.any():", "if False:"),
        ("the layer's own padding is lost", "total = [a + b for a, b in zip(before, pads, strict=True)]", "total = list(pads)"),
        ("padding of an average does not count", 'ir.AttrInt64("count_include_pad", 1)', 'ir.AttrInt64("count_include_pad", 0)'),
        ("padding that does not count becomes some that does", 'if any(before) and not reader.attributes.get_int("count_include_pad", 0):', "if False:"),
        ("the odd cell of SAME stands at the other end", 'begin.append(large if mode == "SAME_LOWER" else small)', 'begin.append(small if mode == "SAME_LOWER" else large)'),
        ("a padded pool covers the image", '        and not any(node.attributes.get_ints("pads") or ())\n', ""),
    ),
    *mutants_of(
        "graph/passes/channel_affine",
        ("a layer that others read is changed", "if edit.get_only_consumer(source) is not node:", "if False:"),
        ("the bias is not scaled", "(a * c + b).astype(np.float32)", "(c + b).astype(np.float32)"),
        ("the weight is scaled on its inputs", "column[axis] = outputs", "column[1 - axis] = -1"),
        ("a Gemm with a factor is a plain one", 'for name in ("alpha", "beta")', 'for name in ("gamma",)'),
    ),
    *mutants_of(
        "graph/passes/fold_affine",
        ("what is subtracted is added", "return source, one, -values", "return source, one, values"),
        ("a division by zero is a product", "(source, 1.0 / values, zero) if values.all() else None", "(source, 1.0 / values, zero)"),
        ("a constant minus x is x minus the constant",
         "if operand is None and has_trait(node.op_type, Trait.COMMUTATIVE):", "if operand is None:"),
        ("a constant that enlarges the output is folded",
         "if len(shape) < 2 or edit.get_shape(node.outputs[0]) != shape:", "if len(shape) < 2:"),
    ),
    *mutants_of(
        "graph/passes/merge_clips",
        ("clamps in a row have the wider bounds", "low, high = max(inner[0], outer[0]), min(inner[1], outer[1])",
         "low, high = min(inner[0], outer[0]), max(inner[1], outer[1])"),
        ("bounds that exclude each other are merged", "    if low > high:\n        return False\n", ""),
        ("a clamp that others read is merged",
         " or edit.get_only_consumer(before.outputs[0]) is not node:", ":"),
        ("a minimum is a maximum", 'if node.op_type == "Max" else [source, None, value]', 'if node.op_type == "Min" else [source, None, value]'),
        ("bounds by channel are one bound", "or bound.size != 1 or", "or"),
    ),
    *mutants_of(
        "graph/passes/pool_rounding",
        ("the last window may begin behind the image", "        if steps * stride >= size + begin:\n            steps -= 1\n", ""),
        ("cells that ceil_mode adds count", "count_include_pad\", 0)\n    node.attributes", "count_include_pad\", 1)\n    node.attributes"),
    ),
    *mutants_of(
        "graph/passes/matmul_bias",
        ("a number for every row is a bias", "if bias.size == columns and bias.shape[-1] != columns:", "if False:"),
        ("any constant is a bias", "bias.size not in {1, columns} or ", ""),
    ),
    *mutants_of(
        "graph/passes/unshare_parameters",
        ("layers share their weight", "and len(value.uses()) > 1:", "and len(value.uses()) > 99:"),
        ("names that begin like those of quantizers stay", "if name.startswith((QUANTIZER_PREFIX, SEPARATOR_PREFIX)):", "if False:"),
    ),
    *mutants_of(
        "graph/passes/matmul_to_gemm",
        ("the factor of a product is lost", "* np.float32(alpha)  # (K, I)", "* np.float32(1)"),
        ("the factor of a bias is that of the product", "bias.reshape(-1) * np.float32(beta)", "bias.reshape(-1) * np.float32(alpha)"),
    ),
)
# fmt: on
