"""The share of pictures of text among procedural images, chosen by BatchNormalization."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.data.text_images import OF_LARGE, OF_WIDE, text_images
from dfqonnx.errors import UsageError
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.synthesis.budget import measure_cost, plan_synthesis
from dfqonnx.synthesis.divergence import measure_image_moments
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves
from dfqonnx.synthesis.sources.procedural import (
    choose_text_share,
    mix_moments,
    yield_procedural,
)
from dfqonnx.synthesis.synthesis_context import SynthesisContext
from tests.synthesis.tiny import program, tiny

SIZE = (16, 16, 3)


def context_of(
    model: NormalizedModel,
    statistics: dict[str, ChannelStatistics] | None = None,
    shape: tuple[int, ...] = (3, 16, 16),
    config: SynthesisConfig | None = None,
) -> SynthesisContext:
    teacher, config = program(model), config or SynthesisConfig(images=256)
    return SynthesisContext(
        teacher=teacher,
        statistics=model.statistics if statistics is None else statistics,
        inputs=InputFormat(PRESETS["cifar10"], shape),
        config=config,
        plan=plan_synthesis(config, measure_cost(teacher, (3, 16, 16)), shape),
        generator=torch.Generator().manual_seed(0),
        run=RunContext(),
    )


def remembered(model: NormalizedModel, images: torch.Tensor) -> dict[str, ChannelStatistics]:
    """What BatchNormalization would remember of a training on `images`."""
    context = context_of(model)
    batches = [context.inputs.to_tensor(images)]
    found, _ = measure_image_moments(
        context.teacher, model.statistics, batches, context=context.run
    )
    return {
        name: ChannelStatistics(mean.float().numpy(), variance.float().numpy())
        for name, (mean, variance) in found.items()
    }


@pytest.mark.parametrize("text", [0.0, 0.5, 1.0])
def test_the_share_is_that_of_the_data_that_the_network_was_trained_on(
    tmp_path: Path, text: float
) -> None:
    model = tiny(tmp_path)
    leaves = sample_dead_leaves(1024, SIZE, torch.Generator().manual_seed(5))
    written = np.stack(list(text_images(1024, SIZE, np.random.default_rng(5))))
    count = round(1024 * text)
    images = torch.cat([torch.from_numpy(written[:count]), leaves[: 1024 - count]])
    share = choose_text_share(context_of(model, remembered(model, images)))
    assert abs(share - text) <= 0.25  # one step of the shares that are tried


def test_without_statistics_the_shape_decides(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    for shape, share in [((3, 16, 16), 0.0), ((3, 48, 320), OF_WIDE), ((3, 224, 224), OF_LARGE)]:
        assert choose_text_share(context_of(model, {}, shape)) == share


def test_a_given_share_is_taken_and_images_are_mixed_evenly(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    config = SynthesisConfig(images=40, text_fraction=0.25)
    context = context_of(model, config=config)
    assert choose_text_share(context) == 0.25
    images = torch.cat(list(yield_procedural(context)))
    assert images.shape == (40, *SIZE)
    written = np.stack(list(text_images(10, SIZE, np.random.default_rng(0))))
    np.testing.assert_array_equal(images[3::4].numpy(), written)
    leaves = sample_dead_leaves(30, SIZE, torch.Generator().manual_seed(0))
    rest = torch.tensor([k for k in range(40) if k % 4 != 3])
    assert torch.equal(images[rest], leaves)
    with pytest.raises(UsageError, match=r"synthesis.text_fraction 1.5: must be in 0..1"):
        replace(config, text_fraction=1.5)


def test_no_text_leaves_dead_leaves_as_they_are(tmp_path: Path) -> None:
    context = context_of(tiny(tmp_path), config=SynthesisConfig(images=24, text_fraction=0.0))
    expected = sample_dead_leaves(24, SIZE, torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat(list(yield_procedural(context))), expected)


def test_moments_of_a_mixture_are_those_of_the_joined_set() -> None:
    generator = torch.Generator().manual_seed(0)
    first = 2 * torch.randn(300, 4, generator=generator, dtype=torch.float64)
    second = torch.randn(100, 4, generator=generator, dtype=torch.float64) + 3
    parts = [{"v": (x.mean(0), x.var(0, unbiased=False))} for x in (first, second)]
    mean, variance = mix_moments(*parts, share=0.25)["v"]
    joined = torch.cat([first, second])
    torch.testing.assert_close(mean, joined.mean(0), rtol=1e-12, atol=1e-12)  # float64 sums
    torch.testing.assert_close(variance, joined.var(0, unbiased=False), rtol=1e-12, atol=1e-12)
