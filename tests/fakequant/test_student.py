"""The student: what it computes, what it hands to export, and that they are the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization import INT8, UINT8, IntegerRange, dequantize, quantize
from dfqonnx.core.quantization_plan import (
    ActivationParameters,
    QuantizationParameters,
    QuantizationPlan,
)
from dfqonnx.errors import InternalError
from dfqonnx.fakequant.student import Student, absorbed_nodes

Tiny = tuple[Program, QuantizationPlan]


@pytest.fixture
def student(tiny: Tiny, images: Tensor) -> Student:
    made = Student(*tiny)
    made.initialize([images])
    return made


class Fixed(nn.Module):
    """A quantizer made of numerics and nothing else."""

    def __init__(self, params: ActivationParameters) -> None:
        super().__init__()
        self.grid = IntegerRange(8, params.lo, params.hi, params.zero_point)
        self.scale = torch.tensor(params.scale)

    def forward(self, x: Tensor) -> Tensor:
        return dequantize(quantize(x, self.scale, self.grid), self.scale, self.grid)  # type: ignore[no-any-return]


def rebuild(
    program: Program, sites: QuantizationPlan, params: QuantizationParameters
) -> ProgramModule:
    """The float program with nothing but `params` put in: what an exported file computes."""
    tensors = dict(program.tensors)
    for site in sites.weights:
        w = params.weights[site.node]
        shape = [1] * w.codes.ndim
        shape[site.axis] = -1
        tensors[site.weight] = torch.from_numpy(w.codes.astype("f4") * w.scale.reshape(shape))
        if site.bias is not None and w.bias is not None:
            scale = np.float32(params.activations[site.input].scale) * w.scale
            tensors[site.bias] = torch.from_numpy(w.bias.astype("f4") * scale)
    fixed = {s.name: Fixed(params.activations[s.name]) for s in sites.activations}
    return ProgramModule(
        dataclasses.replace(program, tensors=tensors),
        after={s.tensor: fixed[s.name] for s in sites.activations if not s.consumers},
        reading={(n, s.tensor): fixed[s.name] for s in sites.activations for n in s.consumers},
    )


def test_the_sites_of_the_tiny_network_are_the_hard_ones(tiny: Tiny) -> None:
    _, sites = tiny
    assert any(s.consumers for s in sites.activations)
    assert any(s.clip_max == 6.0 for s in sites.activations)
    assert any(s.feature for s in sites.activations)
    assert sites.shared
    assert len(sites.weights) == 5


def test_relus_and_clips_before_unsigned_sites_are_absorbed(tiny: Tiny) -> None:
    assert set(absorbed_nodes(*tiny).values()) == {"relu6", "relu1", "relu2", "relu3"}


def test_forward_equals_a_network_rebuilt_from_qparams_bit_for_bit(
    tiny: Tiny, student: Student, images: Tensor
) -> None:
    with torch.no_grad():
        mine, theirs = student(images)[0], rebuild(*tiny, student.qparams())(images)[0]
    assert torch.equal(mine, theirs)


def test_training_computes_what_evaluation_computes(student: Student, images: Tensor) -> None:
    with torch.no_grad():
        quiet = student(images)[0]
    assert torch.equal(student(images)[0].detach(), quiet)


def test_codes_are_the_forward_values(student: Student, images: Tensor) -> None:
    params = student.qparams()
    codes = student.codes(images)
    assert set(codes) == {site.name for site in student.plan.activations}
    with torch.no_grad():
        _, taps = student(images)
    for name in student.features:
        p = params.activations[name]
        real = (torch.from_numpy(codes[name]).float() - p.zero_point) * torch.tensor(p.scale)
        assert torch.equal(real, taps[name])
    for site in student.plan.activations:
        p, found = params.activations[site.name], codes[site.name]
        assert found.dtype == np.uint8
        assert p.lo <= found.min()
        assert found.max() <= p.hi


def test_codes_leave_nothing_behind(student: Student, images: Tensor) -> None:
    before = student.codes(images)
    with torch.no_grad():
        student(2 * images)
    after = student.codes(images)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_weights_and_biases_stand_on_their_integer_grids(student: Student) -> None:
    params = student.qparams()
    for site in student.plan.weights:
        w = params.weights[site.node]
        assert w.codes.dtype == np.int8
        assert w.scale.dtype == np.float32
        assert (w.scale > 0).all()
        assert site.grid.lo <= w.codes.min()
        assert w.codes.max() <= site.grid.hi
        assert w.bias is not None
        assert w.bias.dtype == np.int32
        assert w.bias.shape == w.scale.shape


def test_a_bias_is_at_most_half_a_step_from_its_float_value(tiny: Tiny, student: Student) -> None:
    program, sites = tiny
    params = student.qparams()
    for site in sites.weights:
        w, x = params.weights[site.node], params.activations[site.input]
        assert site.bias is not None
        assert w.bias is not None
        scale = np.float32(x.scale) * w.scale
        off = np.abs(w.bias * scale.astype("f8") - program.tensors[site.bias].numpy())
        assert (off <= 0.5001 * scale).all()  # float32 division may tip an exact tie


def test_bias_gradients_pass_the_rounding(student: Student, images: Tensor) -> None:
    logits, _ = student(images)
    logits.sum().backward()
    last = student.parameter_groups()["biases"][-1]
    assert torch.equal(last.grad, torch.full_like(last, len(images)))


def test_every_kind_of_parameter_gets_a_gradient(student: Student, images: Tensor) -> None:
    logits, taps = student(images)
    (logits.square().sum() + sum(t.square().sum() for t in taps.values())).backward()
    for kind, parameters in student.parameter_groups().items():
        for p in parameters:
            assert p.grad is not None, kind
            assert torch.isfinite(p.grad).all(), kind


def test_the_teacher_is_not_shared_with_the_student(tiny: Tiny, student: Student) -> None:
    own = {p.data_ptr() for p in student.parameters()}
    assert own.isdisjoint(t.data_ptr() for t in tiny[0].tensors.values())
    assert len(own) == sum(len(p) for p in student.parameter_groups().values())


def test_eight_bits_stay_close_to_the_teacher(tiny: Tiny, images: Tensor) -> None:
    program, sites = tiny

    def widen(grid: IntegerRange, *, weight: bool) -> IntegerRange:
        return INT8.grid(8) if weight else UINT8.grid(8, negative=grid.signed)

    wide = dataclasses.replace(
        sites,
        activations=tuple(
            dataclasses.replace(s, grid=widen(s.grid, weight=False)) for s in sites.activations
        ),
        weights=tuple(
            dataclasses.replace(s, grid=widen(s.grid, weight=True)) for s in sites.weights
        ),
    )
    student = Student(program, wide)
    student.initialize([images])
    with torch.no_grad():
        teacher, mine = ProgramModule(program)(images)[0], student(images)[0]
    # eight bits are about 40 dB in every layer; 5 layers in series
    assert float((teacher - mine).norm() / teacher.norm()) < 0.05


def test_a_dead_channel_with_a_large_bias_keeps_its_bias(tiny: Tiny, images: Tensor) -> None:
    program, sites = tiny
    site = sites.weights[0]
    assert site.bias is not None
    tensors = {name: tensor.clone() for name, tensor in program.tensors.items()}
    tensors[site.weight][2] = 1e-12
    tensors[site.bias][2] = 3.0
    student = Student(dataclasses.replace(program, tensors=tensors), sites)
    student.initialize([images])
    params = student.qparams()
    w, x = params.weights[site.node], params.activations[site.input]
    assert w.bias is not None
    # codes stay within 2^24, so the bias is exact to float32
    assert w.bias[2] * float(np.float32(x.scale) * w.scale[2]) == pytest.approx(3.0, rel=1e-6)


def test_a_saved_state_restores_the_same_integers(tiny: Tiny, student: Student) -> None:
    state = student.save_state()
    other = Student(*tiny)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(0.5)
    other.load_state(state)
    mine, theirs = student.qparams(), other.qparams()
    assert mine.activations == theirs.activations
    assert any(a.zero_point not in {0, 8, 128} for a in mine.activations.values())  # calibrated
    for node, w in mine.weights.items():
        assert np.array_equal(w.codes, theirs.weights[node].codes)
        assert np.array_equal(w.scale, theirs.weights[node].scale)


def test_a_state_of_another_student_is_refused_by_name(student: Student) -> None:
    state = student.save_state()
    state.pop("weight:conv0")
    with pytest.raises(InternalError, match="weight:conv0"):
        student.load_state(state)


def test_initializing_twice_gives_the_same_steps(student: Student, images: Tensor) -> None:
    before = student.qparams()
    student.initialize([images])
    assert student.qparams().activations == before.activations


def test_multiply_adds_are_counted_per_image(student: Student) -> None:
    c, side = 8, 12
    half, last = side // 2, side // 2 - 2
    convolutions = side**2 * c * 27 + 2 * half**2 * c * c * 9 + last**2 * c * 9
    assert student.multiply_adds == convolutions + 5 * c


def test_numbers_at_quantizers_are_counted_per_image(student: Student, images: Tensor) -> None:
    expected = sum(codes[0].size for codes in student.codes(images[:2]).values())
    assert student.count_activations(images[:2]) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_student_hands_over_the_same_integers(student: Student, images: Tensor) -> None:
    before = student.qparams()
    student.to("cuda")
    after = student.qparams()
    for node, w in before.weights.items():
        # exp differs in the last place between devices, so a code on a tie may flip
        assert (w.codes != after.weights[node].codes).mean() < 1e-3
    student(images.cuda())[0].sum().backward()
