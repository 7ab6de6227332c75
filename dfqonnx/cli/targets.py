"""`dfqonnx targets`: the runtimes that a file can be made for."""

from __future__ import annotations

from dfqonnx.cli import options as o
from dfqonnx.cli.show import print_json, print_table, print_text
from dfqonnx.targets.profile import TARGETS, TargetProfile

EVIDENCE = {
    "run": "run there",
    "emulated": "run in its emulator",
    "rules": "public rules only",
}


def targets(as_json: o.AsJson = False) -> int:
    """List the runtimes that a file can be made for."""
    profiles = [TARGETS[name] for name in TARGETS]
    if as_json:
        print_json([_describe(profile) for profile in profiles])
        return 0
    print_table(
        ["target", "what", "best widths", "proof"],
        [
            (each.name, each.about, ", ".join(each.best_widths), EVIDENCE[each.evidence])
            for each in profiles
        ],
        texts=4,
    )
    print_text("Choose one with: dfqonnx run --target NAME")
    return 0


def _describe(profile: TargetProfile) -> dict[str, object]:
    limits = {"weights": profile.least_weights, "activations": profile.least_activations}
    return {
        "name": profile.name,
        "about": profile.about,
        "best_widths": list(profile.best_widths),
        "evidence": profile.evidence,
        "activations_of_16_bits": profile.wide_activations is not None,
        "least_bits": {
            what: {"bits": limit.bits, "reason": limit.reason}
            for what, limit in limits.items()
            if limit is not None
        },
    }
