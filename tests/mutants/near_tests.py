"""Which tests are near a module and are to notice a mistake in it, the quickest first."""

from __future__ import annotations

GATES = (
    "tests/report/test_gates.py",
    "tests/report/test_report.py",
    "tests/report/test_build.py",
    "tests/report/test_measure_lines.py",
)
ESTIMATE = ("tests/drop_estimate/test_regression.py", "tests/drop_estimate/test_noise_ratio.py")
AGREEMENT = (
    "tests/agreement_estimate/test_agreement_regression.py",
    "tests/agreement_estimate/test_estimate_agreement.py",
)
PLACE = (
    "tests/placement/test_roles.py",
    "tests/placement/test_quantizer_kinds.py",
    "tests/placement/test_place.py",
)
GUARDS = ("tests/export/test_guards.py",)
FILES = ("tests/export/test_file_kinds.py",)
EXPORT = ("tests/export/test_contract.py", "tests/export/test_layouts.py")
CANDIDATES = "tests/fakequant/test_search_candidates.py"
SCALES = (
    CANDIDATES,
    "tests/fakequant/test_scale_search.py",
    "tests/fakequant/test_observed_values.py",
)
STUDENT = ("tests/fakequant/test_quantizer.py", CANDIDATES, "tests/fakequant/test_student.py")
CODES = ("tests/core/test_quantization.py", "tests/targets/test_profile.py", CANDIDATES)

NEAR = {
    "report/gate_verdicts": GATES,
    "report/verdict": (*GATES[1:], GATES[0]),
    "report/build": (GATES[2],),
    "report/evidence_warnings": ("tests/report/test_evidence_warnings.py",),
    "evaluation/statistics": ("tests/evaluation/test_statistics.py",),
    "evaluation/bootstrap": ("tests/evaluation/test_bootstrap.py",),
    "evaluation/signal_noise": ("tests/evaluation/test_signal_noise.py",),
    "evaluation/measures/precision_draws": ("tests/evaluation/test_measure_intervals.py",),
    "evaluation/measures/add_intervals": ("tests/evaluation/test_measure_intervals.py",),
    "evaluation/evidence": ("tests/evaluation/test_evidence.py",),
    "evaluation/output_reach": ("tests/evaluation/test_output_reach.py",),
    "evaluation/drop_estimate/noise_ratio": ESTIMATE[::-1],
    "evaluation/drop_estimate/regression": ESTIMATE,
    "evaluation/drop_estimate/saturating_loss": (*ESTIMATE[:1], *AGREEMENT),
    "evaluation/agreement_estimate/agreement_regression": AGREEMENT,
    "evaluation/agreement_estimate/estimate_agreement": AGREEMENT[::-1],
}
PASSES = (
    "explicit_padding", "channel_affine", "fold_affine", "merge_clips", "pool_rounding",
    "matmul_bias", "matmul_to_gemm",
)  # fmt: skip
PASS_TESTS = ("tests/graph/test_pass_guards.py", "tests/graph/test_passes.py")
NEAR_PLANTED = {
    **NEAR,
    **{f"graph/passes/{name}": PASS_TESTS for name in PASSES},
    "graph/passes/unshare_parameters": (*PASS_TESTS, "tests/export/test_foreign_names.py"),
    "config/gates": GATES,
    "placement/place": PLACE,
    "placement/value_ranges": PLACE,
    "placement/roles": (*PLACE, "tests/contracts/test_products.py"),
    "export/graph_editor": ("tests/export/test_foreign_names.py", *EXPORT),
    "export/weights": (*GUARDS, *EXPORT),
    "export/activations": (*GUARDS, *EXPORT, "tests/targets/test_second_target.py"),
    "export/strided_shortcut": ("tests/export/test_shortcut_chains.py", *EXPORT),
    "export/first_conv_padding": (*GUARDS, *EXPORT),
    "export/metadata": (*GUARDS, *EXPORT),
    "export/opset": (*GUARDS, *EXPORT),
    "export/separation": FILES,
    "export/hard_swish": FILES,
    "export/io_contract": (*FILES, *EXPORT),
    "export/export": (*GUARDS, *FILES, *EXPORT),
    "export/untrained": (*FILES, *EXPORT),
    "export/writer": (*FILES, "tests/export/test_writer.py"),
    "fakequant/scale_search": SCALES,
    "fakequant/observed_values": SCALES,
    "fakequant/layer": STUDENT,
    "fakequant/quantizer": STUDENT,
    "core/quantization": CODES,
}
