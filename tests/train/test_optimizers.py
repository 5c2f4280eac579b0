"""What single steps of the optimizers do."""

import torch

from rutile.train import settings as s
from rutile.train.optimizers import make_optimizer


def change_of(p: torch.nn.Parameter, optimizer: s.OptimizerSettings) -> torch.Tensor:
    """What one step at the gradient of a fixed quadratic moves p by."""
    before = p.detach().clone()
    weights = torch.linspace(0.1, 3.0, p.numel(), dtype=p.dtype).reshape(p.shape)

    def closure() -> float:
        p.grad = weights * p.detach()
        return float((weights * p.detach().square()).sum()) / 2

    make_optimizer(optimizer, [p]).step(closure)
    return p.detach() - before


def random_matrix(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(3)))


def test_muon_moves_wide_matrices_equally_far_in_all_directions():
    change = change_of(random_matrix(12, 20), s.Muon(learning_rate=0.1, other_learning_rate=1e-9))
    sizes = torch.linalg.svdvals(change)
    assert len(sizes) == 12
    assert sizes.min() > 0.05
    assert sizes.max() < 0.15


def test_muon_leaves_narrow_matrices_to_adamw():
    p = random_matrix(7, 20)
    signs = torch.sign(p.detach())
    change = change_of(p, s.Muon(learning_rate=100.0, other_learning_rate=0.001))
    torch.testing.assert_close(change, -0.001 * signs, atol=1e-6, rtol=0)


def test_the_width_from_which_muon_moves_a_matrix_can_be_set():
    p = random_matrix(7, 20)
    change = change_of(p, s.Muon(learning_rate=0.1, other_learning_rate=1e-9, narrowest=7))
    assert torch.linalg.svdvals(change).min() > 0.05
